package main

import (
	"bufio"
	"bytes"
	"cmp"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"slices"
	"strings"
	"time"
	"unicode"

	"github.com/natsentry/natsentry/agent/check"
	"github.com/natsentry/natsentry/agent/finding"
	"github.com/natsentry/natsentry/agent/posture"
)

// A renderer writes a report in one format. All of them are given the same
// structure and none of them knows where it came from: every string in it is
// taken for hostile.
type renderer interface {
	report(w *bufio.Writer, r *finding.Report) error
}

func (p *program) renderer(format string, verbose bool) renderer {
	switch format {
	case "json":
		return jsonRenderer{}
	case "markdown":
		return markdownRenderer{verbose: verbose}
	default:
		return textRenderer{style: style{p.colourful(p.stdout)}, verbose: verbose}
	}
}

func (p *program) printReport(r *finding.Report, format string, verbose bool) error {
	return p.print(func(w *bufio.Writer) error { return p.renderer(format, verbose).report(w, r) })
}

// jsonRenderer writes the report as it is.
type jsonRenderer struct{}

func (jsonRenderer) report(w *bufio.Writer, r *finding.Report) error { return writeJSON(w, r, "  ") }

// writeJSON writes a value as JSON in which only printable characters stand
// for themselves.
func writeJSON(w io.Writer, v any, indent string) error {
	var buf bytes.Buffer
	enc := json.NewEncoder(&buf)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", indent)
	if err := enc.Encode(v); err != nil {
		return fmt.Errorf("write JSON: %w", err)
	}
	_, err := io.WriteString(w, escapeUnprintable(buf.String()))
	return err
}

// escapeUnprintable replaces what encoding/json leaves as it is and a
// terminal obeys: DEL, the C1 controls, bidirectional overrides. They can
// only be inside of strings.
func escapeUnprintable(doc string) string {
	var b strings.Builder
	for _, r := range doc {
		switch {
		case r == '\n' || unicode.IsPrint(r):
			b.WriteRune(r)
		case r > 0xffff:
			r -= 0x10000
			fmt.Fprintf(&b, `\u%04x\u%04x`, 0xd800+r>>10, 0xdc00+r&0x3ff)
		default:
			fmt.Fprintf(&b, `\u%04x`, r)
		}
	}
	return b.String()
}

// shownDoors are the columns of the matrix. The profile door is not among
// them: no server tells of it over $SYS.
var shownDoors = []posture.DoorKind{
	posture.Client, posture.Websocket, posture.MQTT, posture.Leafnode, posture.Route, posture.Gateway, posture.Monitor,
}

const profileHint = "The profiling port (prof_port) is not shown: no server tells of it over $SYS."

// mark is how the access of a door looks: a sign and a word, so that no
// colour is needed to tell them apart.
type mark struct {
	sign, word, colour, meaning string
}

func (m mark) String() string { return strings.TrimSpace(m.sign + " " + m.word) }

var (
	markOpen    = mark{"✗", "OPEN", red, "lets strangers in"}
	markClosed  = mark{"✓", "closed", green, "refuses strangers"}
	markClaimed = mark{"~", "closed?", yellow, "on the server's word only"}
	markUnknown = mark{"?", "unknown", yellow, "cannot be told"}
	markUntold  = mark{"-", "", faint, ""} // nothing was said about such a door, nor asked
	markOff     = mark{"·", "off", faint, "no listener"}
	marks       = []mark{markOpen, markClosed, markClaimed, markUnknown, markOff}
)

func markOf(s *finding.ReportServer, kind posture.DoorKind) mark {
	d := doorOf(s, kind)
	switch {
	case d == nil && len(s.Doors) > 0:
		return markUntold
	case d == nil:
		return markUnknown
	case d.Access == posture.Open:
		return markOpen
	case wordOnly(*d):
		return markClaimed
	case d.Access == posture.Closed:
		return markClosed
	case d.Access == posture.Off:
		return markOff
	default:
		return markUnknown
	}
}

func doorOf(s *finding.ReportServer, kind posture.DoorKind) *finding.ReportDoor {
	for i := range s.Doors {
		if s.Doors[i].Door == kind {
			return &s.Doors[i]
		}
	}
	return nil
}

// matrix is the table of servers and doors. Doors that are off everywhere
// have no column.
type matrix struct {
	doors   []posture.DoorKind
	absent  []posture.DoorKind
	servers []matrixRow
}

type matrixRow struct {
	cluster, server, version, auth string
	silent                         bool
	marks                          []mark
}

func newMatrix(r *finding.Report, shown []posture.DoorKind) matrix {
	var m matrix
	if slices.ContainsFunc(r.Servers, func(s finding.ReportServer) bool { return doorOf(&s, posture.NoDoor) != nil }) {
		shown = append(slices.Clone(shown), posture.NoDoor)
	}
	for _, kind := range shown {
		used := len(r.Servers) == 0
		for i := range r.Servers {
			// A server that did not answer tells nothing of its doors.
			m := markOf(&r.Servers[i], kind)
			used = used || r.Servers[i].State == posture.Answering && m != markOff || m == markOpen || m == markClosed
		}
		if used {
			m.doors = append(m.doors, kind)
		} else {
			m.absent = append(m.absent, kind)
		}
	}
	names := map[string]int{}
	for i := range r.Servers {
		names[r.Servers[i].Name]++
	}
	for i := range r.Servers {
		s := &r.Servers[i]
		row := matrixRow{cluster: short(s.Cluster), server: short(s.Name), version: short(s.Version), auth: s.AuthMode.String()}
		if names[s.Name] > 1 && s.ID != "" {
			row.server += " (" + clean(s.ID[:min(len(s.ID), 6)]) + "…)"
		}
		if s.State != posture.Answering {
			row.silent, row.auth = true, s.State.String()
		}
		for _, kind := range m.doors {
			row.marks = append(row.marks, markOf(s, kind))
		}
		m.servers = append(m.servers, row)
	}
	return m
}

// column is the name of a kind of listener. One whose kind is hidden is just a
// listener.
func column(kind posture.DoorKind) string { return cmp.Or(kind.String(), "listener") }

func (m matrix) absentNames() string {
	names := make([]string, len(m.absent))
	for i, k := range m.absent {
		names[i] = k.String()
	}
	return strings.Join(names, ", ")
}

// group is a set of findings that have one remedy: same check, same cause,
// same severity. Those that are waived have one waiver, too.
type group struct {
	first    *finding.Finding
	title    string
	findings []*finding.Finding
}

// groups keeps the order of the findings, worst first. collapsed are those
// that one line each is enough for, waived those that somebody has accepted:
// they are nobody's work today, and come last.
func groups(r *finding.Report, verbose bool) (shown, collapsed, waived []group) {
	type key struct {
		check, cause, text, config string
		severity                   check.Severity
		waiver                     string
	}
	index := map[key]int{}
	var all []group
	for i := range r.Findings {
		f := &r.Findings[i]
		k := key{check: f.Check, severity: f.Severity}
		if f.Severity > check.Info || verbose {
			k.cause, k.text, k.config = string(f.Cause), f.Remediation.Text, f.Remediation.Config
		}
		if f.Waived != nil {
			k.waiver = waivedBy(f.Waived)
		}
		n, ok := index[k]
		if !ok {
			n = len(all)
			index[k] = n
			g := group{first: f, title: "unknown to this version"}
			if c := check.Lookup(f.Check); c != nil {
				g.title = c.Title
			}
			all = append(all, g)
		}
		all[n].findings = append(all[n].findings, f)
	}
	for _, g := range all {
		switch {
		case g.first.Waived != nil:
			waived = append(waived, g)
		case g.first.Severity <= check.Info && !verbose:
			collapsed = append(collapsed, g)
		default:
			shown = append(shown, g)
		}
	}
	return shown, collapsed, waived
}

// waivedBy tells who accepted a finding, until when and why.
func waivedBy(w *finding.Waiver) string {
	if w.Expires.IsZero() { // a comment of the configuration, or a baseline
		return fmt.Sprintf("accepted by %s: %s", clean(w.Owner), clean(w.Reason))
	}
	return fmt.Sprintf("waived by %s until %s: %s", clean(w.Owner), lastMoment(w.Expires), clean(w.Reason))
}

// lastMoment is the last day of a waiver that ends at midnight, and otherwise
// the moment of its end.
func lastMoment(expires time.Time) string {
	expires = expires.UTC()
	if expires.Equal(expires.Truncate(24 * time.Hour)) {
		return expires.Add(-1).Format(time.DateOnly)
	}
	return expires.Format("2006-01-02 15:04:05 UTC")
}

// toldFlaps is from how many openings on a finding is said to open again and
// again. It is the ledger's own idea of that, by default.
const toldFlaps = 3

// unrest tells of a finding that opens again and again; "" of others.
func unrest(f *finding.Finding) string {
	if f.Flaps < toldFlaps || f.Hold != nil { // a held one says so itself
		return ""
	}
	return fmt.Sprintf("opened %d times in the last minutes", f.Flaps)
}

// remarks are what is to be known of a finding beside its summary, in
// parentheses; "" when there is nothing.
func remarks(f *finding.Finding) string {
	var parts []string
	if f.Action == finding.Stale {
		parts = append(parts, "stale: it cannot be told any more")
	}
	if u := unrest(f); u != "" {
		parts = append(parts, u)
	}
	if len(parts) == 0 {
		return ""
	}
	return " (" + strings.Join(parts, "; ") + ")"
}

// subject names what a finding is about.
func subject(f *finding.Finding) string {
	s := f.Scope
	var name string
	switch s.Kind {
	case check.KindServer:
		name = clean(s.Server)
		if s.Cluster != "" {
			name = clean(s.Cluster) + "/" + name
		}
	case check.KindCluster:
		name = "cluster " + orDash(s.Cluster)
	case check.KindAccount, check.KindOperator:
		name = string(s.Kind) + " " + clean(cmp.Or(s.Name, s.Account))
	default:
		name = "the whole fleet"
	}
	if s.Door != posture.NoDoor {
		name += " " + s.Door.String()
	}
	if s.Advisory != "" {
		name += " " + clean(s.Advisory)
	}
	return name
}

// takesEffect says what applies a remedy; "" when it changes no configuration.
func takesEffect(r finding.Remediation) string {
	switch {
	case r.Reload:
		return "reload"
	case r.Config != "":
		return "restart"
	default:
		return ""
	}
}

// headline tells what a report is of.
func headline(r *finding.Report) string {
	return fmt.Sprintf("system %s, sweep %d at %s, took %s: %d of %s heard",
		clean(r.System), r.Epoch, r.Taken.UTC().Format("2006-01-02 15:04:05 UTC"), clean(r.Took),
		r.Coverage.Heard, plural(r.Coverage.Expected, "server", "servers"))
}

func totals(r *finding.Report) (doors, findings string) {
	d, f := r.Totals.Doors, r.Totals.Findings
	doors = fmt.Sprintf("%d open, %d closed", d.Open, d.Closed)
	if d.Reported > 0 {
		doors += fmt.Sprintf(" (%d of them on the server's word only)", d.Reported)
	}
	doors += fmt.Sprintf(", %d unknown", d.Unknown)
	if n := profiles(r); n > 0 {
		doors += fmt.Sprintf(" (%d of them profiling ports)", n)
	}
	doors += fmt.Sprintf(", %d off", d.Off)
	findings = fmt.Sprintf("%d critical, %d warning, %d info", f.Critical, f.Warning, f.Info)
	if f.Waived > 0 {
		findings += fmt.Sprintf(", %d waived", f.Waived)
	}
	return doors, findings
}

// profiles counts the profiling ports among the unknown doors, which the
// matrix does not show.
func profiles(r *finding.Report) int {
	n := 0
	for i := range r.Servers {
		if d := doorOf(&r.Servers[i], posture.Profile); d != nil && d.Access == posture.Unknown {
			n++
		}
	}
	return n
}

// byBound parts what was not asked for, because a bound was reached, from what
// was not answered.
func byBound(all []posture.Gap) (bounds, gaps []posture.Gap) {
	for _, g := range all {
		if g.Bound {
			bounds = append(bounds, g)
		} else {
			gaps = append(gaps, g)
		}
	}
	return bounds, gaps
}

func gapLine(g posture.Gap) string {
	line := orDash(g.Server)
	if g.Endpoint != "" {
		line += ", " + clean(g.Endpoint)
	}
	return line + ": " + clean(g.Reason)
}

// auditRemedy says how a server with its own system account comes to be audited.
const auditRemedy = "To audit them, join their system account to this one by a leafnode connection, or give the addresses of their listeners in the policy file (--policy):"

// addressExample is what the policy file needs. The port is not known: LEAFZ
// tells where a leafnode comes from, and no listener.
func addressExample(u *posture.Unaudited) string {
	host := "HOST"
	if len(u.Hosts) > 0 {
		host = strings.TrimSuffix(net.JoinHostPort(clean(u.Hosts[0]), ""), ":")
	}
	return fmt.Sprintf("addresses: {%q: [\"nats://%s:PORT\"]}", clean(u.Name), host)
}

// notAuditedLine says of a server why it is not audited and who knows it.
func notAuditedLine(u *posture.Unaudited) string {
	line := clean(u.Name)
	if u.Role != "" {
		line += fmt.Sprintf(" (%s", clean(u.Role))
		if len(u.Hosts) > 0 {
			line += " at " + clean(strings.Join(u.Hosts, ", "))
		}
		if len(u.Accounts) > 0 {
			line += ", account " + clean(strings.Join(u.Accounts, ", "))
		}
		line += ")"
	}
	line += ": not audited: " + clean(u.Reason)
	if len(u.KnownBy) > 0 {
		line += "; known by LEAFZ of " + clean(strings.Join(u.KnownBy, ", "))
	}
	for _, e := range u.Tried {
		line += "; " + evidenceText(e)
	}
	return line
}

func orDash(s string) string {
	if s == "" {
		return "-"
	}
	return clean(s)
}

func plural(n int, one, many string) string {
	if n == 1 {
		return "1 " + one
	}
	return fmt.Sprintf("%d %s", n, many)
}
