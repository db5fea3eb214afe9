package check

import (
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/natsentry/natsentry/agent/posture"
)

// Grouping says which servers are judged together.
type Grouping uint8

// The groupings.
const (
	ByNothing Grouping = iota
	ByCluster          // the members of one cluster
	BySystem           // all servers
	ByMesh             // the servers that routes and gateways join: one super-cluster, or a cluster without gateways
)

// Group is a set of servers that a check compares.
type Group struct {
	Scope   Scope
	Members []*posture.Server // those whose answers came
	Missing []*posture.Server // those known, but without the answers the check needs
}

// Evaluate judges a snapshot by every check of the catalogue and returns one
// result per check and subject, in the order of the catalogue. It has no side
// effects and depends on nothing but its arguments.
func Evaluate(snap *posture.Snapshot, policy Policy) []Result {
	subjects := 0
	for _, c := range Catalogue() {
		subjects += max(len(c.Doors), 1)
	}
	out := make([]Result, 0, subjects*len(snap.Servers))
	in := sync.OnceValue(func() []*Inside { return insides(snap) })
	for _, c := range Catalogue() {
		begun := len(out)
		if out = c.judge(out, snap, policy, in); c.Claims {
			doubtAddresses(out[begun:], snap)
		}
	}
	return out
}

// doubtAddresses says of findings that rest on addresses of clients where those are
// what clients claim.
func doubtAddresses(results []Result, snap *posture.Snapshot) {
	claimed := map[string]string{}
	for _, s := range snap.Servers {
		if d := s.Door(posture.Client); d != nil && d.Claimed == posture.Yes {
			claimed[s.ID] = s.Name
		}
	}
	if len(claimed) == 0 {
		return
	}
	for i := range results {
		r := &results[i]
		name, one := claimed[r.Scope.ServerID]
		if r.Outcome != Fail || !one && r.Scope.ServerID != "" {
			continue
		}
		if !one {
			name = slices.Min(slices.Collect(maps.Values(claimed)))
		}
		r.Evidence = append(slices.Clip(r.Evidence), posture.Evidence{
			Basis: posture.Reported, Source: "proxy_protocol", Value: "on at " + name + ": addresses are what clients claim",
		})
	}
}

func (c *Check) judge(out []Result, snap *posture.Snapshot, policy Policy, in func() []*Inside) []Result {
	if !c.Sight.sees(snap.Config) {
		return out
	}
	if snap.Config && c.Config != nil {
		for _, s := range snap.Servers {
			out = append(out, Result{Check: c, Scope: serverScope(s), Looked: s.Looked, names: namesOf(s, nil), Verdict: c.Config(policy, snap, s)})
		}
		return out
	}
	if c.Group != nil {
		nameless := unnamed(snap)
		for _, g := range groups(snap, c.By) {
			g.split(c)
			out = append(out, Result{Check: c, Scope: g.Scope, Looked: g.looked(), Verdict: c.judgeGroup(policy, snap, g, nameless)})
		}
		return out
	}
	switch {
	case c.Operator != nil:
		return c.judgeOperators(out, snap, policy)
	case c.Account != nil:
		return c.judgeAccounts(out, snap, policy)
	case c.Inside != nil:
		return c.judgeInside(out, snap, policy, in())
	case c.Advisory != nil:
		return c.judgeAdvisories(out, snap, policy)
	}
	for _, s := range snap.Servers {
		if c.Server != nil {
			v, ok := c.cannotTell(s)
			if ok {
				v = c.Server(policy, snap, s)
			}
			out = append(out, Result{Check: c, Scope: serverScope(s), Looked: s.Looked, names: namesOf(s, nil), Verdict: v})
			continue
		}
		for _, kind := range c.Doors {
			out = append(out, c.judgeDoor(policy, snap, s, kind))
		}
	}
	return out
}

func (c *Check) judgeDoor(policy Policy, snap *posture.Snapshot, s *posture.Server, kind posture.DoorKind) Result {
	scope := serverScope(s)
	scope.Door = kind
	v, ok := c.cannotTell(s)
	door := s.Door(kind)
	if !ok && door != nil && door.Basis == posture.Proven && c.Proves {
		ok = true // a touch needs no answer of the server beside it
	}
	if ok {
		switch {
		case door == nil || door.On == posture.Unseen:
			v = unknown("whether the server has this listener was not seen")
		case door.On == posture.No:
			v = Verdict{Outcome: NotApplicable, Summary: "the server has no such listener"}
		default:
			v = c.Door(policy, snap, s, door)
			if !v.Firm {
				v.Severity, v.Lowered = lowered(policy, door, v.Severity, c.Severity)
			}
		}
	}
	return Result{Check: c, Scope: scope, Looked: s.Looked, Pending: door != nil && door.Pending, names: namesOf(s, door), Verdict: v}
}

// cannotTell is the one place where a missing answer or an old server makes
// an outcome Unknown. ok means that the check may judge.
func (c *Check) cannotTell(s *posture.Server) (v Verdict, ok bool) {
	if s.Config != nil {
		return Verdict{}, true // nothing was to be asked
	}
	if !s.Heard.Has(c.Needs) {
		missing := (c.Needs &^ s.Heard).InputNames()
		return unknown("no answer to %s", strings.Join(missing, ", ")), false
	}
	if !c.Since.Holds(s.Version) {
		return unknown("version %s does not show it", s.Version), false
	}
	return Verdict{}, true
}

func (c *Check) judgeGroup(policy Policy, snap *posture.Snapshot, g Group, nameless int) Verdict {
	v := c.Group(policy, snap, g)
	if v.Outcome == Pass && len(g.Missing) > 0 {
		return unknown("those that answered agree; no answer from %s", names(g.Missing))
	}
	if v.Outcome == Pass && nameless > 0 && c.Needs != 0 {
		return unknown("those that answered agree; %s not known by name may belong to them", count(nameless, "server"))
	}
	return v
}

// unnamed counts the servers that should have answered and of which nothing
// but their number is known.
func unnamed(snap *posture.Snapshot) int {
	n := snap.Expected
	for _, s := range snap.Servers {
		if s.State == posture.Answering || s.State == posture.Silent {
			n--
		}
	}
	return n
}

// lowered lowers the severity for a listener that only its own machine reaches,
// and reports whether it did.
func lowered(policy Policy, door *posture.Door, given, standard Severity) (Severity, bool) {
	if given == NoSeverity {
		given = standard
	}
	if given == Critical && door.Loopback() && !policy.LoopbackExposed {
		return Warning, true
	}
	return given, false
}

func serverScope(s *posture.Server) Scope {
	return Scope{Kind: KindServer, Cluster: s.Cluster, Server: s.Name, ServerID: s.ID}
}

// looked is when a member was last looked at. A group is not what it was as
// soon as one member is not.
func (g *Group) looked() time.Time {
	var latest time.Time
	for _, s := range g.Members {
		if s.Looked.After(latest) {
			latest = s.Looked
		}
	}
	return latest
}

func (g *Group) split(c *Check) {
	members := g.Members
	g.Members, g.Missing = nil, nil
	for _, s := range members {
		if _, ok := c.cannotTell(s); ok {
			g.Members = append(g.Members, s)
		} else {
			g.Missing = append(g.Missing, s)
		}
	}
}

// groups puts servers into groups, those that have ended left out.
func groups(snap *posture.Snapshot, by Grouping) []Group {
	servers := slices.DeleteFunc(slices.Clone(snap.Servers), (*posture.Server).Ended)
	if by == BySystem {
		own := slices.DeleteFunc(servers, func(s *posture.Server) bool { return s.State == posture.Foreign })
		return []Group{{Scope: Scope{Kind: KindSystem}, Members: own}}
	}
	byScope := map[Scope][]*posture.Server{}
	for _, s := range servers {
		switch {
		case by == ByMesh && s.SuperCluster:
			scope := Scope{Kind: KindSystem}
			byScope[scope] = append(byScope[scope], s)
		case s.Cluster != "":
			scope := Scope{Kind: KindCluster, Cluster: s.Cluster}
			byScope[scope] = append(byScope[scope], s)
		}
	}
	out := make([]Group, 0, len(byScope))
	for scope, members := range byScope {
		out = append(out, Group{Scope: scope, Members: members})
	}
	slices.SortFunc(out, func(a, b Group) int { return strings.Compare(a.Scope.Cluster, b.Scope.Cluster) })
	return out
}

// SubjectsKnown tells whether all subjects of a check are known in a snapshot:
// only then one that is not there is no more. Which accounts there are may not
// have been asked yet, and a server that does not answer may trust an operator, or
// have somebody inside, of whom nobody else tells.
func (c *Check) SubjectsKnown(snap *posture.Snapshot) bool {
	toldBy := func(needs posture.Input) bool {
		return !slices.ContainsFunc(snap.Servers, func(s *posture.Server) bool {
			return (s.State == posture.Silent || s.State == posture.Answering) && !s.Heard.Has(needs)
		})
	}
	switch {
	case c.Account != nil:
		return snap.Trust != nil
	case c.Operator != nil:
		return toldBy(posture.Varz)
	case c.Inside != nil:
		return toldBy(everyoneInputs | posture.Accountz)
	default:
		return true
	}
}
