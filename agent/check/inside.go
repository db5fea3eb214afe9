package check

import (
	"cmp"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/natsentry/natsentry/agent/posture"
)

// Inside is who is inside one account, on all servers that told.
type Inside struct {
	Account  string           // id, or its name where it has no other
	Claims   *posture.Account // nil when nobody has looked at its claims
	Operator bool             // of servers in operator mode
	System   bool
	Users    []*crowd // the largest first
	Nobody   []Member // sessions that belong to no user
	Unseen   []string // names of the servers that did not tell, or not all
}

// Member is a session and its server.
type Member struct {
	*posture.Session
	Server *posture.Server
}

// name is what an account is called, for people.
func (in *Inside) name() string {
	switch {
	case in.Claims != nil:
		return title(in.Claims.Name, in.Account)
	case in.Operator:
		return title("", in.Account)
	default:
		return in.Account
	}
}

// everyoneInputs are the answers without which nobody knows who is inside a server.
const everyoneInputs = posture.Varz | posture.EveryoneConnz

// insides sorts everybody by account. Accounts without a session are there too,
// so that what was found in them can end.
func insides(snap *posture.Snapshot) []*Inside {
	type gathered struct {
		Inside
		byUser map[string]*crowd
	}
	byID := map[string]*gathered{}
	of := func(account string) *gathered {
		in := byID[account]
		if in == nil {
			in = &gathered{Inside: Inside{Account: account}, byUser: map[string]*crowd{}}
			byID[account] = in
		}
		return in
	}
	var unseen []string
	for _, s := range snap.Servers {
		told := s.Heard.Has(everyoneInputs)
		if s.State != posture.ShutDown && (!told || len(s.Everyone.List) < s.Everyone.Total) {
			unseen = append(unseen, s.Name)
		}
		operator := s.AuthMode == posture.AuthOperator
		for _, account := range s.Accounts {
			in := of(account)
			in.Operator = in.Operator || operator
			in.System = in.System || account == s.SystemAccount
		}
		if !told {
			continue
		}
		var in *gathered
		for i := range s.Everyone.List {
			c := &s.Everyone.List[i]
			if in == nil || in.Account != c.Account {
				in = of(c.Account)
				in.Operator = in.Operator || operator
				in.System = in.System || c.Account == s.SystemAccount
			}
			user, ok := c.Owner()
			what := ""
			switch {
			case ok:
			case c.Login == posture.LoginBearer:
				// Those who call themselves alike are told of as one.
				what = "a bearer, shown as " + c.User
				user = what
			default:
				in.Nobody = append(in.Nobody, Member{c, s})
				continue
			}
			if in.byUser[user] == nil {
				in.byUser[user] = &crowd{what: what}
			}
			in.byUser[user].members = append(in.byUser[user].members, Member{c, s})
		}
	}
	if snap.Trust != nil {
		for _, a := range snap.Trust.Accounts {
			in := of(a.ID)
			in.Claims, in.Operator, in.System = a, true, in.System || a.System
		}
	}
	out := make([]*Inside, 0, len(byID))
	for _, in := range byID {
		in.Users, in.Unseen = largestFirst(in.byUser), unseen
		out = append(out, &in.Inside)
	}
	slices.SortFunc(out, func(a, b *Inside) int { return strings.Compare(a.Account, b.Account) })
	return out
}

// ours tells whether a user is natsentry's own, whichever of its agents.
func (c *crowd) ours() bool {
	return slices.ContainsFunc(c.members, func(m Member) bool { return m.Ours })
}

// pick takes of each user the sessions that match.
func (in *Inside) pick(match func(*Member) bool) []*crowd {
	var out []*crowd
	for _, c := range in.Users {
		matching := 0
		for i := range c.members {
			if match(&c.members[i]) {
				matching++
			}
		}
		switch matching {
		case 0:
		case len(c.members):
			out = append(out, c)
		default:
			out = append(out, &crowd{what: c.what, members: slices.DeleteFunc(slices.Clone(c.members), func(m Member) bool { return !match(&m) })})
		}
	}
	return out
}

func (c *Check) judgeInside(out []Result, snap *posture.Snapshot, policy Policy, insides []*Inside) []Result {
	nameless, from := unnamed(snap), len(out)
	var looked time.Time
	for _, s := range snap.Servers {
		if s.Everyone.At.After(looked) {
			looked = s.Everyone.At
		}
	}
	for _, in := range insides {
		scope := Scope{Kind: KindAccount, Account: in.Account}
		if in.Claims != nil {
			scope.Name = in.Claims.Name
		}
		v := c.Inside(policy, snap, in)
		switch {
		case v.Outcome != Pass:
		case len(in.Unseen) > 0:
			v = unknown("it passes as far as it was seen; who is inside was not told, or not in full, by %s", list(in.Unseen))
		case nameless > 0:
			v = unknown("it passes as far as it was seen; %s not known by name may have others inside", count(nameless, "server"))
		}
		out = append(out, Result{Check: c, Scope: scope, Looked: looked, Pending: len(v.Ask) > 0, Verdict: v})
	}
	return c.together(out, from)
}

// unclear counts the sessions that a check cannot judge.
func (in *Inside) unclear(is func(*Member) bool) int {
	n := 0
	for i := range in.Nobody {
		if is(&in.Nobody[i]) {
			n++
		}
	}
	for _, c := range in.Users {
		for i := range c.members {
			if is(&c.members[i]) {
				n++
			}
		}
	}
	return n
}

// pick sorts the sessions of one server that are something, as what says; "" for
// those that are not.
func pick(s *posture.Server, what func(*Member) string) []*crowd {
	byWhat := map[string]*crowd{}
	for i := range s.Everyone.List {
		m := Member{&s.Everyone.List[i], s}
		w := what(&m)
		if w == "" {
			continue
		}
		if byWhat[w] == nil {
			byWhat[w] = &crowd{what: w}
		}
		byWhat[w].members = append(byWhat[w].members, m)
	}
	return largestFirst(byWhat)
}

// crowd is the sessions of one user, or those of several that are told of as one.
type crowd struct {
	what    string // they are, where they are no user
	members []Member
}

// largestFirst sorts users by their sessions.
func largestFirst(byUser map[string]*crowd) []*crowd {
	users := slices.Sorted(maps.Keys(byUser))
	out := make([]*crowd, len(users))
	for i, u := range users {
		out[i] = byUser[u]
	}
	slices.SortStableFunc(out, func(a, b *crowd) int { return cmp.Compare(len(b.members), len(a.members)) })
	return out
}

// addresses are the hosts that a user's sessions come from.
func (c *crowd) addresses() map[netip.Addr]bool {
	out := map[netip.Addr]bool{}
	for i := range c.members {
		if host := c.members[i].host(); host.IsValid() {
			out[host] = true
		}
	}
	return out
}

// languages are those of the libraries that a user's sessions say they have.
func (c *crowd) languages() []string {
	out := map[string]bool{}
	for i := range c.members {
		if l := c.members[i].Lang; l != "" {
			out[l] = true
		}
	}
	return slices.Sorted(maps.Keys(out))
}

// host is the address that a session comes from; not valid within a process.
func (m *Member) host() netip.Addr {
	addr, err := netip.ParseAddrPort(m.Address)
	if err != nil {
		return netip.Addr{}
	}
	return addr.Addr().Unmap()
}

// name is what a crowd is called.
func (c *crowd) name() string {
	m := &c.members[0]
	switch {
	case c.what != "":
		return c.what
	case m.Claim != nil && m.Claim.Name != "":
		return fmt.Sprintf("%q %s", m.Claim.Name, m.User)
	default:
		return m.User
	}
}

// guest tells whether what looks like a password may be none: it is the user
// that the server takes strangers for.
func (m *Member) guest() bool {
	return m.Login == posture.LoginPassword && slices.ContainsFunc(m.Server.Doors, func(d posture.Door) bool {
		return d.NoAuthUser == m.User || d.Landing != nil && d.Landing.User == m.User
	})
}

// evidence tells of one user's sessions.
func (c *crowd) evidence(more string) posture.Evidence {
	first := c.members[0]
	servers := map[string]bool{}
	for i := range c.members {
		servers[c.members[i].Server.Name] = true
	}
	parts := []string{fmt.Sprintf("%s: %s on %s", c.name(), count(len(c.members), "session"), list(slices.Sorted(maps.Keys(servers))))}
	switch addresses := c.addresses(); len(addresses) {
	case 0:
	case 1:
		parts = append(parts, "from "+first.host().String())
	default:
		parts = append(parts, fmt.Sprintf("from %d addresses, such as %s", len(addresses), first.host()))
	}
	if languages := c.languages(); len(languages) > 0 {
		parts = append(parts, "library "+list(languages))
	}
	if more != "" {
		parts = append(parts, more)
	}
	return posture.Evidence{Basis: posture.Observed, Source: fmt.Sprintf("CONNZ of %s, cid %d", first.Server.Name, first.CID), Value: strings.Join(parts, ", ")}
}

// show adds what there is to tell of users, the first of many.
func show(v Verdict, crowds []*crowd, more func(*crowd) string) Verdict {
	for _, c := range crowds[:min(len(crowds), shownSessions)] {
		v.Evidence = append(v.Evidence, c.evidence(more(c)))
	}
	if n := len(crowds) - shownSessions; n > 0 {
		v.Evidence = append(v.Evidence, posture.Evidence{Basis: posture.Observed, Source: "CONNZ", Value: fmt.Sprintf("and %d more", n)})
	}
	return v
}

func nothingMore(*crowd) string { return "" }

// secretly tells whether a member's login may be one that the server does not
// show: its JWT is left out, or a callout has let it in.
func (m *Member) secretly() bool {
	return m.Claim == nil && m.Door != posture.Leafnode && m.Door != posture.NoDoor && (m.Login == posture.LoginUnknown || m.Login == posture.LoginBearer)
}
