package main

import (
	"cmp"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"regexp"
	"slices"

	"github.com/spf13/cobra"

	"github.com/natsentry/natsentry/agent/check"
	"github.com/natsentry/natsentry/agent/finding"
	"github.com/natsentry/natsentry/agent/posture"
	"github.com/natsentry/natsentry/agent/release"
	"github.com/natsentry/natsentry/fix"
)

// fixSubject is what is to be fixed, as far as it is known: findings and their
// server. The zero value is nothing in particular.
type fixSubject struct {
	report   *finding.Report
	server   *finding.ReportServer
	findings []*finding.Finding
	system   string    // the server's system account, where that is known
	accounts bool      // it has others beside that and the global one
	original *original // its configuration; nil where none was named
}

// read reads the configuration of the server: what it says counts.
func (s *fixSubject) read(path string) error {
	o, err := readOriginal(path)
	if err != nil {
		return err
	}
	s.original = o
	if srv := o.file.Server; srv.AuthMode != posture.AuthOperator {
		s.system = srv.SystemAccount
		_, s.accounts = srv.Config.Keys["accounts"]
	}
	return nil
}

// lookUp finds the subject in a report, or in a sweep.
func (p *program) lookUp(cmd *cobra.Command, f *fixFlags, sweep *sweepFlags, args []string) (*fixSubject, error) {
	if f.from != "" {
		report, err := p.readReport(f.from)
		if err != nil {
			return nil, fmt.Errorf("--from: %w", err)
		}
		return find(report, args)
	}
	state, err := p.sweepOnce(cmd, sweep.config)
	if err != nil {
		return nil, err
	}
	s, err := find(state.Report(), args)
	if err != nil {
		return nil, err
	}
	if srv := state.Snapshot.Server(s.server.ID); srv != nil && srv.AuthMode != posture.AuthOperator {
		s.system = srv.SystemAccount
		s.accounts = slices.ContainsFunc(srv.Accounts, func(name string) bool { return name != srv.SystemAccount && name != posture.GlobalAccount })
	}
	return s, nil
}

// maxReport bounds what is read of a report.
const maxReport = 256 << 20

func (p *program) readReport(name string) (*finding.Report, error) {
	in := p.stdin
	if name != "-" {
		file, err := os.Open(name)
		if err != nil {
			return nil, err
		}
		defer func() { _ = file.Close() }() // it was only read
		in = file
	}
	text, err := io.ReadAll(io.LimitReader(in, maxReport))
	if err != nil {
		return nil, err
	}
	report := new(finding.Report)
	if err := json.Unmarshal(text, report); err != nil {
		return nil, fmt.Errorf("%s is no report of natsentry audit --format json: %w", name, err)
	}
	if report.Type != finding.ReportType {
		return nil, fmt.Errorf("%s is no report of natsentry audit --format json: its type is %.40q", name, report.Type)
	}
	return report, nil
}

// find finds findings and their server in a report: by fingerprint, by check and
// server, or by server alone.
func find(r *finding.Report, args []string) (*fixSubject, error) {
	s := &fixSubject{report: r}
	name, id := args[len(args)-1], ""
	if len(args) == 2 {
		c := check.Lookup(args[0])
		if c == nil {
			return nil, fmt.Errorf("there is no check %q: `natsentry checks` lists them", args[0])
		}
		id = c.ID
	} else {
		for i := range r.Findings {
			if f := &r.Findings[i]; f.Fingerprint == name || f.ID == name {
				s.findings, name = []*finding.Finding{f}, f.Scope.ServerID
				break
			}
		}
		if c := check.Lookup(name); c != nil && s.findings == nil {
			return nil, fmt.Errorf("%s of which server? natsentry fix %s SERVER", c.ID, c.ID)
		}
	}
	for i := range r.Servers {
		if srv := &r.Servers[i]; srv.ID == name || srv.Name == name {
			if s.server != nil {
				return nil, fmt.Errorf("two servers are called %s: name it by its id, %s or %s", name, s.server.ID, srv.ID)
			}
			s.server = srv
		}
	}
	switch {
	case s.server == nil && s.findings != nil:
		return nil, fmt.Errorf("%s is about no single server: %s", s.findings[0].Check, s.findings[0].Summary)
	case s.server == nil:
		return nil, fmt.Errorf("neither a server nor a finding is called %q", name)
	case s.findings != nil:
		return s, nil
	}
	for i := range r.Findings {
		// What somebody has accepted is closed only if it is named.
		if f := &r.Findings[i]; f.Scope.ServerID == s.server.ID && (id == "" && f.Waived == nil || f.Check == id) && f.Action != finding.Resolved {
			s.findings = append(s.findings, f)
		}
	}
	if id != "" && s.findings == nil {
		return nil, fmt.Errorf("%s has no finding of %s", s.server.Name, id)
	}
	return s, nil
}

// cure is what closes the findings, in the modes that were asked for if any.
func (s *fixSubject) cure(asked []fix.Mode) (fix.Cure, error) {
	var cures []fix.Cure
	for _, f := range s.findings {
		cure := fix.For(f.Check, f.Cause)
		if f.Scope.Door == posture.Client {
			cures = slices.Insert(cures, 0, cure) // other doors follow this one
		} else {
			cures = append(cures, cure)
		}
	}
	cure := fix.Join(asked, cures...)
	if s.server != nil && slices.ContainsFunc(cure.Modes, fix.OfClients) && !slices.Contains(cure.Modes, fix.Operator) && !slices.Contains(cure.Modes, fix.Leafnode) &&
		slices.Contains(s.doors(), posture.Leafnode) && !release.GuardsLeafnodes.Holds(s.server.Version) {
		cure.Modes = append(cure.Modes, fix.Leafnode)
	}
	switch {
	case s.server != nil && s.server.AuthMode == posture.AuthOperator && slices.ContainsFunc(cure.Modes, fix.OfClients):
		return cure, fmt.Errorf("%s is in operator mode: no user of a configuration file comes in there. `natsentry checks DOOR_001` tells what lets strangers in", s.server.Name)
	case len(cure.Modes) > 0:
		return cure, nil
	case len(s.findings) == 1:
		f := s.findings[0]
		return cure, fmt.Errorf("no configuration that could be included closes %s (%s):\n%s\nIf you know better, name a --mode", f.Check, cmp.Or(string(f.Cause), "no cause"), f.Remediation.Text)
	default:
		return cure, fmt.Errorf("%s has no finding that a configuration closes; --mode asks for one all the same", s.server.Name)
	}
}

// doors are the doors that the server has; none where it is not known.
func (s *fixSubject) doors() []posture.DoorKind {
	var out []posture.DoorKind
	if s.server != nil {
		for _, d := range s.server.Doors {
			if d.Access != posture.Off && d.Address != "" {
				out = append(out, d.Door)
			}
		}
	}
	return out
}

// addresses are those of one kind of door in a cluster; none where one of them
// is not known, because half a list would take the other half away.
func (s *fixSubject) addresses(kind posture.DoorKind, cluster string) []string {
	var out []string
	for i := range s.report.Servers {
		srv := &s.report.Servers[i]
		if srv.Cluster != cluster {
			continue
		}
		a := address(srv, kind)
		if a == "" {
			return nil
		}
		out = append(out, a)
	}
	return out
}

// plainHost is a host that can stand in a URL and in a configuration file.
var plainHost = regexp.MustCompile(`^[0-9A-Za-z:._-]+$`)

// address is where others reach a door; "" where the report does not tell.
func address(s *finding.ReportServer, kind posture.DoorKind) string {
	d := doorOf(s, kind)
	if d == nil {
		return ""
	}
	host, port, err := net.SplitHostPort(d.Address)
	if err != nil || !plainHost.MatchString(host) || !plainHost.MatchString(port) {
		return ""
	}
	if ip, err := netip.ParseAddr(host); err == nil && ip.IsUnspecified() {
		return ""
	}
	return net.JoinHostPort(host, port)
}

// host is under which the server is known to clients.
func (s *fixSubject) host() []string {
	if s.server == nil {
		return nil
	}
	host, _, err := net.SplitHostPort(address(s.server, posture.Client))
	if err != nil {
		return nil
	}
	return []string{host}
}
