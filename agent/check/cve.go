package check

import (
	"cmp"
	"slices"
	"sync"
	"time"

	"github.com/natsentry/natsentry/agent/advisory"
	"github.com/natsentry/natsentry/agent/posture"
)

// judgeAdvisories judges every server by every advisory that its version has or
// may have: a version that has none costs nothing. A result without an advisory
// is of all those together, and is there where none of them fails.
//
// Of a server that cannot be judged, each advisory that its last known version has
// is unknown. What is left out has ended: the version is another one.
func (c *Check) judgeAdvisories(out []Result, snap *posture.Snapshot, policy Policy) []Result {
	table := advisory.Known()
	old := table.Age(snap.Taken) > AdvisoryLife
	known := map[build][]match{}
	results := 0
	for _, s := range snap.Servers {
		if unversioned(s) {
			continue
		}
		b := build{s.Version, s.BuiltWith}
		if _, ok := known[b]; !ok {
			known[b] = matchesOf(table, b)
		}
		results += len(known[b]) + 1
	}
	out = slices.Grow(out, results)
	for _, s := range snap.Servers {
		if unversioned(s) {
			continue
		}
		matches := known[build{s.Version, s.BuiltWith}]
		cannot, can := c.cannotTell(s)
		if s.Config != nil && unread(s) {
			cannot, can = whyUnread(s), false
		}
		if can && !advisory.Readable(s.Version) {
			cannot, can = unknown("%.40q is no version that can be compared", s.Version), false
		}
		failed, undecided := false, false
		for _, m := range matches {
			v := cannot
			if can {
				v = c.Advisory(policy, snap, s, m.advisory, m.answer)
			}
			failed, undecided = failed || v.Outcome == Fail, undecided || v.Outcome == Unknown
			scope := serverScope(s)
			scope.Advisory = m.advisory.ID
			out = append(out, Result{Check: c, Scope: scope, Looked: s.Looked, Verdict: v})
		}
		if failed {
			continue
		}
		v := cannot
		switch {
		case !can:
		case undecided:
			v = unknown("whether %s has all that was fixed is not known", s.Version)
		case old:
			v = unknown("none of the %d advisories known on %s, which is more than %s ago", len(table.Advisories), table.AsOf, days(AdvisoryLife))
		default:
			v = pass("none of the %d advisories known on %s", len(table.Advisories), table.AsOf)
		}
		out = append(out, Result{Check: c, Scope: serverScope(s), Looked: s.Looked, Verdict: v})
	}
	return out
}

// unversioned is a configuration of which nobody has said what will run with it:
// there is nothing to judge.
func unversioned(s *posture.Server) bool { return s.Config != nil && s.Version == "" }

// build is what advisories go by.
type build struct{ version, builtWith string }

type match struct {
	advisory *advisory.Advisory
	answer   advisory.Answer
}

// matchesOf lists the advisories that a build has, or may have.
func matchesOf(table *advisory.Table, b build) []match {
	var out []match
	for i := range table.Advisories {
		a := &table.Advisories[i]
		if answer := a.Match(b.version, b.builtWith); answer != advisory.NotAffected {
			out = append(out, match{a, answer})
		}
	}
	return out
}

// AdvisoryLife is how old the table of advisories may be for its silence to mean
// something.
const AdvisoryLife = 90 * 24 * time.Hour

const causeAuthBypass posture.Cause = "authentication-bypass"

var cve001 = &Check{
	Sight: Both,
	ID:    "CVE_001", Severity: Info,
	Title: "known vulnerability of the server's version",
	Doc: "The version that runs has a published vulnerability; one finding for each server and advisory. " +
		"An authentication bypass is critical where what it takes is seen on that server, and a warning where that cannot be seen; everything else is info. " +
		"There is no finding where what it takes is seen to be off. " +
		"A suffix (2.12.8-fips) may mean a candidate or a vendor's build: where only that decides, the answer is unknown. " +
		"A configuration is judged where it is known what will run with it, by --server-version or the image of a container; what it does not turn on is off. " +
		"docs/advisories.md lists the advisories and their day. More than 90 days after it, a server without a finding is unknown and does not pass: update natsentry.",
	Needs:    posture.Varz,
	Advisory: vulnerable,
	Remedy: Remedy{
		Text: "Upgrade to a release that the finding names, or a later one, one server at a time with lame-duck mode, so that clients move before each restart. " +
			"Until then, turn off what the vulnerability takes, if you can; the advisory may name another way.",
	},
	Refs: []string{"https://advisories.nats.io", "https://docs.nats.io/running-a-nats-service/nats_admin/upgrading_cluster"},
}

// vulnerable judges a server whose version is affected by an advisory, or may be.
func vulnerable(_ Policy, _ *posture.Snapshot, s *posture.Server, a *advisory.Advisory, answer advisory.Answer) Verdict {
	certain := a.Unseen == ""
	evidence := make([]posture.Evidence, 0, 2+len(a.Needs))
	evidence = append(evidence, version(s, a), told()[a.ID].evidence)
	for _, need := range a.Needs {
		seen := needs[need](s)
		if seen == posture.No {
			return Verdict{Outcome: NotApplicable, Summary: "it takes " + string(need)}
		}
		certain = certain && seen == posture.Yes
		evidence = append(evidence, taken(s, need, seen))
	}
	runs := s.Version
	if len(a.BuiltWith) > 0 {
		runs = "a build with " + cmp.Or(s.BuiltWith, "an unknown version of Go")
	}
	if answer == advisory.Unknown {
		return unknown("whether %s has %s cannot be told by its name", runs, a.ID)
	}
	is := " runs "
	if s.Config != nil {
		is = " is to run with nats-server "
		evidence = placed(s, evidence)
	}
	v := Verdict{Outcome: Fail, Summary: s.Name + is + runs + ", which has " + told()[a.ID].summary, Evidence: evidence}
	switch {
	case !a.Bypass:
	case certain:
		v.Cause, v.Severity = causeAuthBypass, Critical
	default:
		v.Cause, v.Severity = causeAuthBypass, Warning
	}
	return v
}

func version(s *posture.Server, a *advisory.Advisory) posture.Evidence {
	if s.Config != nil {
		return posture.Evidence{Basis: posture.Declared, Source: "version", Value: s.Version}
	}
	if len(a.BuiltWith) > 0 {
		return reported("VARZ go", s.BuiltWith)
	}
	return reported("VARZ version", s.Version)
}

// taken is evidence of something that an advisory takes.
func taken(s *posture.Server, need advisory.Need, seen posture.Tri) posture.Evidence {
	takes, value := "it takes "+string(need), "seen"
	if seen == posture.Unseen {
		value = "not visible here"
	}
	if s.Config == nil {
		return reported(takes, value)
	}
	for _, key := range needKeys[need] {
		if at, ok := s.Config.Keys[key]; ok {
			return at.Says(posture.Unknown, takes+": "+value)
		}
	}
	return posture.Evidence{Basis: posture.Declared, Source: takes, Value: value}
}

// placed adds the configuration as a whole where no line of it is told: a finding
// without a place could be neither shown beside a file nor accepted in it.
func placed(s *posture.Server, evidence []posture.Evidence) []posture.Evidence {
	if slices.ContainsFunc(evidence, func(e posture.Evidence) bool { return e.Place != nil }) {
		return evidence
	}
	return append(evidence, s.Config.Whole().Says(posture.Unknown, "no line of it decides"))
}

// needKeys are where a configuration has what an advisory takes, the first that is
// there.
var needKeys = map[advisory.Need][]string{
	advisory.NeedsWebsocket:      {"websocket"},
	advisory.NeedsMQTT:           {"mqtt"},
	advisory.NeedsLeafnode:       {"leafnodes"},
	advisory.NeedsRouteOrLeaf:    {"cluster", "leafnodes"},
	advisory.NeedsMonitor:        {"https_port", "https", "http_port", "http"},
	advisory.NeedsJetStream:      {"jetstream"},
	advisory.NeedsOperator:       {"operator", "trusted_keys"},
	advisory.NeedsClientTLS:      {"tls"},
	advisory.NeedsClientCerts:    {"tls.verify", "tls.verify_and_map", "tls"},
	advisory.NeedsMappedCerts:    {"tls.verify_and_map", "websocket.tls.verify_and_map", "mqtt.tls.verify_and_map", "leafnodes.tls.verify_and_map", "tls"},
	advisory.NeedsNoAuthUser:     {"no_auth_user", "accounts"},
	advisory.NeedsRefusedDefault: {"no_auth_user", "websocket.no_auth_user"},
	advisory.NeedsSystemOnly:     {"accounts"},
}

// Aliases are other names of what a result is about: of its check elsewhere, or of
// the advisory that its scope names.
func (r *Result) Aliases() []string {
	if r.Scope.Advisory != "" {
		if a := advisory.Known().Lookup(r.Scope.Advisory); a != nil {
			return a.Aliases
		}
	}
	return r.Check.Aliases
}

// told is what is said of each advisory, by id, on whichever server it is.
var told = sync.OnceValue(func() map[string]telling {
	table := advisory.Known()
	out := make(map[string]telling, len(table.Advisories))
	for i := range table.Advisories {
		a := &table.Advisories[i]
		value := a.URLs[0]
		if a.Date != "" {
			value += ", of " + a.Date
		}
		value += ", as known on " + table.AsOf
		if a.Unseen != "" {
			value += "; it takes " + a.Unseen + ", which no server shows"
		}
		out[a.ID] = telling{
			summary:  a.Names() + ": " + a.Title + "; " + a.FixedIn(),
			evidence: posture.Evidence{Basis: posture.Inferred, Source: "advisory " + a.ID, Value: value},
		}
	}
	return out
})

type telling struct {
	summary  string
	evidence posture.Evidence
}

// needs are how a server shows what an advisory takes.
var needs = map[advisory.Need]func(*posture.Server) posture.Tri{
	advisory.NeedsWebsocket: listens(posture.Websocket),
	advisory.NeedsMQTT:      listens(posture.MQTT),
	advisory.NeedsNoMQTT: func(s *posture.Server) posture.Tri {
		return not(listens(posture.MQTT)(s))
	},
	advisory.NeedsLeafnode:    listens(posture.Leafnode),
	advisory.NeedsRouteOrLeaf: listens(posture.Route, posture.Leafnode),
	advisory.NeedsMonitor:     listens(posture.Monitor),
	advisory.NeedsJetStream:   func(s *posture.Server) posture.Tri { return s.JetStream },
	advisory.NeedsOperator: func(s *posture.Server) posture.Tri {
		if s.AuthMode == posture.AuthUnknown {
			return posture.Unseen
		}
		return posture.TriOf(s.AuthMode == posture.AuthOperator)
	},
	advisory.NeedsClientTLS: func(s *posture.Server) posture.Tri {
		return ofClientPort(s, func(d *posture.Door) posture.Tri { return d.TLS.On })
	},
	advisory.NeedsClientCerts: func(s *posture.Server) posture.Tri {
		return ofClientPort(s, func(d *posture.Door) posture.Tri { return d.TLS.Verify })
	},
	advisory.NeedsMappedCerts:    (*posture.Server).MapsCertificates,
	advisory.NeedsNoAuthUser:     (*posture.Server).HasNoAuthUser,
	advisory.NeedsRefusedDefault: (*posture.Server).RefusesNoAuthUser,
	advisory.NeedsSystemOnly:     (*posture.Server).OnlySystemAccount,
}

// listens tells whether a server has one of the doors.
func listens(kinds ...posture.DoorKind) func(*posture.Server) posture.Tri {
	return func(s *posture.Server) posture.Tri {
		answer := posture.No
		for _, kind := range kinds {
			switch d := s.Door(kind); {
			case d == nil || d.On == posture.Unseen:
				answer = posture.Unseen
			case d.On == posture.Yes:
				return posture.Yes
			}
		}
		return answer
	}
}

func not(t posture.Tri) posture.Tri {
	switch t {
	case posture.Yes:
		return posture.No
	case posture.No:
		return posture.Yes
	default:
		return posture.Unseen
	}
}

// ofClientPort asks the client port.
func ofClientPort(s *posture.Server, fact func(*posture.Door) posture.Tri) posture.Tri {
	d := s.Door(posture.Client)
	if d == nil {
		return posture.Unseen
	}
	return fact(d)
}
