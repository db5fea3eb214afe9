package check

import (
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/natsentry/natsentry/agent/advisory"
	"github.com/natsentry/natsentry/agent/posture"
	"github.com/natsentry/natsentry/agent/release"
)

// Severity says how much a failing check matters.
type Severity uint8

// The severities, mildest first.
const (
	NoSeverity Severity = iota
	Info
	Warning
	Critical
)

var severityNames = [...]string{NoSeverity: "none", Info: "info", Warning: "warning", Critical: "critical"}

func (s Severity) String() string { return severityNames[min(int(s), len(severityNames)-1)] }

// MarshalText writes the word that reports use.
func (s Severity) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// UnmarshalText reads the word that reports use.
func (s *Severity) UnmarshalText(text []byte) error {
	for i, n := range severityNames {
		if n == string(text) {
			*s = Severity(i) //nolint:gosec // four entries
			return nil
		}
	}
	return fmt.Errorf("check: %q is no severity", text)
}

// Outcome is what a check says of one subject.
type Outcome uint8

// The outcomes. Unknown is the zero value.
const (
	Unknown Outcome = iota
	Fail
	Pass
	NotApplicable
)

var outcomeNames = [...]string{Unknown: "unknown", Fail: "fail", Pass: "pass", NotApplicable: "not applicable"}

func (o Outcome) String() string { return outcomeNames[min(int(o), len(outcomeNames)-1)] }

// Kind says what a scope is about.
type Kind string

// The kinds of a scope.
const (
	KindSystem   Kind = "system"
	KindCluster  Kind = "cluster"
	KindServer   Kind = "server"
	KindOperator Kind = "operator"
	KindAccount  Kind = "account"
)

// Scope names the subject that a check judged.
type Scope struct {
	Kind     Kind             `json:"kind"`
	Cluster  string           `json:"cluster"`
	Server   string           `json:"server"`
	ServerID string           `json:"server_id"`
	Door     posture.DoorKind `json:"door"`
	Account  string           `json:"account"`  // public key of the account, or of the operator
	Name     string           `json:"name"`     // that its claims give it
	Advisory string           `json:"advisory"` // id of the vulnerability; "" of checks that know none
}

// Verdict is what a check found on one subject.
type Verdict struct {
	Outcome  Outcome
	Severity Severity // of a Fail; NoSeverity means the check's own
	Firm     bool     // the severity holds for a listener on loopback too
	Lowered  bool     // the severity is lower because the listener is on loopback
	Cause    posture.Cause
	Summary  string // one sentence; of an Unknown, why
	Evidence []posture.Evidence
	Common   bool     // a default that harms nobody by itself: it fails, and is reported once for all accounts
	Ask      []string // of an Unknown: ids of servers that, asked again who is inside, may settle it
}

// Result is a verdict with its check and its subject.
type Result struct {
	Check   *Check
	Scope   Scope
	Looked  time.Time  // when the subject was last looked at
	Pending bool       // a touch is due: what is unknown may be known soon
	names   fleetNames // of this fleet, for the remedy
	Verdict
}

// Remedy is what to do about it, with the names of this fleet.
func (r *Result) Remedy() Remedy { return r.names.in(r.Check.RemedyFor(r.Cause)) }

// Remedy is what to do about a cause.
type Remedy struct {
	Text   string // what to do and what it does to connected clients
	Config string // the configuration to add or change; "" when there is none
	Reload bool   // a reload applies it; otherwise the server must be restarted
}

// fleetNames are what a remedy of one subject names; "" where it is not known.
type fleetNames struct {
	system string // the system account
	user   string // whom anonymous clients are taken for
	port   string // of the listener
}

// Names as the catalogue has them, where it speaks of no fleet in particular.
const (
	anySystem  = "$SYS"
	anyUser    = "no_auth_user: ..."
	anyMonitor = "127.0.0.1:8222"
)

var plainName = regexp.MustCompile(`^[0-9A-Za-z$_][0-9A-Za-z$_.@+=-]*$`)

// in puts the names into a remedy. A name that a configuration must quote is
// quoted.
func (n fleetNames) in(r Remedy) Remedy {
	var pairs []string
	add := func(general, name, before string) {
		if name == "" {
			return
		}
		if !plainName.MatchString(name) {
			name = strconv.Quote(name)
		}
		pairs = append(pairs, general, before+name)
	}
	add(anySystem, n.system, "")
	add(anyUser, n.user, "no_auth_user: ")
	add(anyMonitor, n.port, "127.0.0.1:")
	replace := strings.NewReplacer(pairs...)
	r.Text, r.Config = replace.Replace(r.Text), replace.Replace(r.Config)
	return r
}

// namesOf are those of a server and, where there is one, of its listener.
func namesOf(s *posture.Server, d *posture.Door) fleetNames {
	var n fleetNames
	if s.AuthMode != posture.AuthOperator {
		n.system = s.SystemAccount
	}
	if d == nil {
		return n
	}
	if address := d.Address(); address != "" {
		n.port = address[strings.LastIndexByte(address, ':')+1:]
	}
	switch {
	case d.NoAuthUser != "":
		n.user = d.NoAuthUser
	case d.Landing != nil:
		n.user = d.Landing.User
	}
	return n
}

// Sight says of what a check can judge.
type Sight uint8

// The values of Sight.
const (
	Live Sight = iota // servers that run
	Lint              // their configurations
	Both
)

var sightNames = [...]string{Live: "live", Lint: "lint", Both: "both"}

func (s Sight) String() string { return sightNames[min(int(s), len(sightNames)-1)] }

// MarshalText writes the word that documents use.
func (s Sight) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// sees tells whether a check can judge what is known from configurations, or
// what is known from servers that run.
func (s Sight) sees(config bool) bool { return s == Both || (s == Lint) == config }

// Check is one entry of the catalogue. Exactly one of Door, Server, Group,
// Operator, Account, Inside and Advisory is set.
type Check struct {
	ID       string
	Aliases  []string // ids of the same check elsewhere (nats audit)
	Severity Severity
	Title    string // what is wrong, in a few words
	Doc      string // why it matters, and how it is judged
	Sight    Sight
	Needs    posture.Input
	Since    release.Since // servers older than this cannot tell

	Doors  []posture.DoorKind // the doors that Door judges
	Proves bool               // a touch alone decides it
	Claims bool               // it rests on addresses of clients, which they may claim where proxy_protocol is on
	Door   func(Policy, *posture.Snapshot, *posture.Server, *posture.Door) Verdict
	Server func(Policy, *posture.Snapshot, *posture.Server) Verdict
	Group  func(Policy, *posture.Snapshot, Group) Verdict
	By     Grouping // how servers are put into the groups that Group judges

	Operator func(Policy, *posture.Snapshot, Operator) Verdict
	Account  func(Policy, *posture.Snapshot, Account) Verdict
	Inside   func(Policy, *posture.Snapshot, *Inside) Verdict
	Advisory func(Policy, *posture.Snapshot, *posture.Server, *advisory.Advisory, advisory.Answer) Verdict

	// Together says, after a number of accounts, what those have in common of
	// which a verdict is Common.
	Together string

	// Config judges a configuration, where running servers are judged in another
	// way than by Server.
	Config func(Policy, *posture.Snapshot, *posture.Server) Verdict

	Remedy   Remedy                   // when the cause has none of its own
	Remedies map[posture.Cause]Remedy // by cause
	Refs     []string
}

// RemedyFor is what to do about a cause of this check.
func (c *Check) RemedyFor(cause posture.Cause) Remedy {
	if r, ok := c.Remedies[cause]; ok {
		return r
	}
	return c.Remedy
}

// Policy is what the user decides about judging.
type Policy struct {
	// LoopbackExposed takes listeners on loopback for reachable: something
	// forwards to them (a sidecar, a tunnel, a proxy).
	LoopbackExposed bool
	// CertWarning and CertCritical are how long before a certificate's end
	// TLS_001 speaks up.
	CertWarning, CertCritical time.Duration
	// ChangeShown is how long FLEET_006 shows a configuration change.
	ChangeShown time.Duration
	// ReloadGrace is how long a server may take to reload before FLEET_008
	// says that it refused.
	ReloadGrace time.Duration
	// FailureBurst is how many authentication failures within a minute make
	// SESS_002 speak up.
	FailureBurst int
	// Waivers are the findings that somebody has accepted.
	Waivers []Waiver
	// Expected are those who belong into the system account. Without any,
	// SESS_003 does not judge.
	Expected []Expected
	// Addresses are those, as host:port, of servers that do not answer in this
	// system account, by the names of the servers. They are touched.
	Addresses map[string][]string
}

// IsZero tells whether nothing at all was decided.
func (p *Policy) IsZero() bool {
	return !p.LoopbackExposed && p.CertWarning == 0 && p.CertCritical == 0 && p.ChangeShown == 0 &&
		p.ReloadGrace == 0 && p.FailureBurst == 0 && len(p.Waivers) == 0 && len(p.Expected) == 0 && len(p.Addresses) == 0
}

// DefaultPolicy is the policy of the catalogue.
func DefaultPolicy() Policy {
	return Policy{
		CertWarning:  30 * 24 * time.Hour,
		CertCritical: 7 * 24 * time.Hour,
		ChangeShown:  10 * time.Minute,
		ReloadGrace:  2 * time.Second,
		FailureBurst: 10,
	}
}

// Lookup finds a check by its id or one of its aliases.
func Lookup(id string) *Check {
	for _, c := range Catalogue() {
		if c.ID == id {
			return c
		}
		for _, a := range c.Aliases {
			if a == id {
				return c
			}
		}
	}
	return nil
}

func pass(format string, args ...any) Verdict {
	return Verdict{Outcome: Pass, Summary: fmt.Sprintf(format, args...)}
}

func fail(cause posture.Cause, format string, args ...any) Verdict {
	return Verdict{Outcome: Fail, Cause: cause, Summary: fmt.Sprintf(format, args...)}
}

func unknown(format string, args ...any) Verdict {
	return Verdict{Outcome: Unknown, Summary: fmt.Sprintf(format, args...)}
}

func (v Verdict) with(s Severity, evidence ...posture.Evidence) Verdict {
	if s != NoSeverity {
		v.Severity = s
	}
	v.Evidence = append(v.Evidence, evidence...)
	return v
}

func reported(source, value string) posture.Evidence {
	return posture.Evidence{Basis: posture.Reported, Source: source, Value: value}
}
