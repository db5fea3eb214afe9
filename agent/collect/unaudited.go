package collect

import (
	"cmp"
	"maps"
	"slices"

	"github.com/natsentry/natsentry/agent/posture"
)

// unaudited lists the servers that LEAFZ names and that do not answer. LEAFZ
// tells a name and no id, and names may be alike. So connections are counted: each
// end of one lists it, where both ends answer.
func (s *sweep) unaudited(snap *posture.Snapshot) []posture.Unaudited {
	answering := map[string][]string{} // ids by name
	for id, who := range s.main.who {
		answering[who.name] = append(answering[who.name], id)
	}
	silent := map[string]bool{} // those are expected to answer, and their silence is a gap
	for _, srv := range snap.Servers {
		if srv.State != posture.Answering {
			silent[srv.Name] = true
		}
	}
	byName := map[string]*posture.Unaudited{}
	for _, reporter := range slices.Sorted(maps.Keys(s.c.leafs)) {
		own := s.main.who[reporter].name
		system := ""
		if v := body[varz](s.main, posture.Varz, reporter); v != nil {
			system = v.SystemAccount
		}
		counts := map[string]int{}
		for i := range s.c.leafs[reporter] {
			counts[nameOf(&s.c.leafs[reporter][i])]++
		}
		for i := range s.c.leafs[reporter] {
			l := &s.c.leafs[reporter][i]
			name := nameOf(l)
			// One that joins the system account is expected to answer.
			if name == "" || silent[name] || l.Account == system || counts[name] <= s.otherEnds(answering[name], own) {
				continue
			}
			u := byName[name]
			if u == nil {
				if len(byName) >= maxServers {
					continue
				}
				u = &posture.Unaudited{Name: name, Role: "leafnode", Reason: posture.OwnSystemAccount, Accounts: []string{}, Hosts: []string{}, KnownBy: []string{}, Tried: []posture.Evidence{}}
				byName[name] = u
			}
			if l.IsSpoke {
				u.Role = "hub"
			}
			addOnce(&u.Accounts, printable(l.Account))
			addOnce(&u.Hosts, printable(l.IP))
			addOnce(&u.KnownBy, own)
		}
	}
	out := make([]posture.Unaudited, 0, len(byName))
	for _, u := range byName {
		slices.Sort(u.Accounts)
		slices.Sort(u.Hosts)
		out = append(out, *u)
	}
	slices.SortFunc(out, func(a, b posture.Unaudited) int { return cmp.Compare(a.Name, b.Name) })
	return out
}

// otherEnds counts the connections to a server of one name that servers of
// another name list.
func (s *sweep) otherEnds(ids []string, name string) int {
	n := 0
	for _, id := range ids {
		leafs, asked := s.c.leafs[id]
		if !asked {
			return maxServers // it answers, and has not said to whom it is connected
		}
		for i := range leafs {
			if nameOf(&leafs[i]) == name {
				n++
			}
		}
	}
	return n
}

func nameOf(l *leafInfo) string { return cmp.Or(printable(l.Name), printable(l.IP)) }

// addOnce keeps some of many: they are for people to read.
func addOnce(list *[]string, s string) {
	if s != "" && len(*list) < posture.MaxAddresses && !slices.Contains(*list, s) {
		*list = append(*list, s)
	}
}
