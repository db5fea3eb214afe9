package agent

import (
	"maps"
	"slices"
	"time"

	"github.com/natsentry/natsentry/agent/collect"
	"github.com/natsentry/natsentry/agent/posture"
)

// merge puts a sweep's result together with what looks have brought while it
// was under way: of each server what was heard last.
func (l *loop) merge(swept *posture.Snapshot) *posture.Snapshot {
	if l.snap == nil || l.snap == l.base {
		l.noteLoads(swept.Servers)
		return swept
	}
	if l.base != nil && swept.Trust == l.base.Trust {
		swept.Trust = l.snap.Trust // it has only carried them over
	} else {
		swept.Trust = later(swept.Trust, l.snap.Trust)
	}
	current := byID(l.snap)
	for i, s := range swept.Servers {
		cur := current[s.ID]
		if cur == nil || s.ID == "" {
			continue
		}
		if cur.Looked.After(s.Looked) && cur.Heard.Has(posture.Varz) {
			later := cur.Clone()
			later.Heard |= s.Heard
			later.Hosts, later.Known = s.Hosts, s.Known
			if s.Sessions.At.After(cur.Sessions.At) {
				later.Sessions = s.Sessions
			}
			swept.Servers[i] = later
		}
		keepEveryone(swept.Servers[i], cur)
		keepVisits(swept.Servers[i], cur)
	}
	l.noteLoads(swept.Servers)
	return swept
}

// keepEveryone carries over what a server told later of who is inside.
func keepEveryone(s, cur *posture.Server) {
	if cur.Everyone.At.After(s.Everyone.At) {
		s.Everyone = cur.Everyone
		s.Heard |= posture.EveryoneConnz
	}
}

// keepVisits carries over clients that came after a server was asked for its
// sessions.
func keepVisits(s, cur *posture.Server) {
	for i := range cur.Sessions.List {
		c := &cur.Sessions.List[i]
		if c.Since.After(s.Sessions.At) && !slices.ContainsFunc(s.Sessions.List, func(o posture.Session) bool { return o.CID == c.CID }) {
			s.Sessions.List = append(s.Sessions.List, *c)
			s.Sessions.Total = max(s.Sessions.Total, len(s.Sessions.List))
		}
	}
}

func byID(snap *posture.Snapshot) map[string]*posture.Server {
	out := make(map[string]*posture.Server, len(snap.Servers))
	for _, s := range snap.Servers {
		out[s.ID] = s
	}
	return out
}

// noteLoads remembers when servers were seen to have loaded a configuration.
func (l *loop) noteLoads(servers []*posture.Server) {
	if l.snap == nil {
		return
	}
	before := byID(l.snap)
	for _, s := range servers {
		if b := before[s.ID]; b != nil && s.Heard.Has(posture.Varz) && !s.ConfigLoaded.Equal(b.ConfigLoaded) {
			l.loaded[s.ID] = l.now()
		}
	}
}

// mergeLook takes a look's servers into the snapshot and returns those that
// are to be judged: they moved, or something waits for this look.
func (l *loop) mergeLook(look *collect.Look, touch map[string]bool) []*posture.Server {
	l.noteLoads(look.Servers)
	next := *l.snap
	next.Servers = slices.Clone(l.snap.Servers)
	index := make(map[string]int, len(next.Servers))
	for i, s := range next.Servers {
		index[s.ID] = i
	}
	passing := map[string]bool{}
	scopes, _ := l.ledger.Passing(l.now())
	for _, scope := range scopes {
		if s := l.subject(scope); s != nil {
			passing[s.ID] = true
		}
	}
	var changed []*posture.Server
	for _, s := range look.Servers {
		i, ok := index[s.ID]
		if !ok || next.Servers[i].Looked.After(s.Looked) {
			continue
		}
		if !look.Moved[s.ID] {
			s.Sessions = next.Servers[i].Sessions // clients may have come meanwhile
			s.Sessions.List = slices.Clone(s.Sessions.List)
		} else {
			keepVisits(s, next.Servers[i])
		}
		keepEveryone(s, next.Servers[i])
		next.Servers[i] = s
		if r, asked := l.reloads[s.ID]; look.Moved[s.ID] || touch[s.ID] || passing[s.ID] || asked && r.Loaded.Equal(s.ConfigLoaded) {
			changed = append(changed, s)
		}
		for why := range toConfirm {
			key := chase{s.ID, why}
			if p := l.pursuits[key]; p != nil && p.until != nil && p.until(s) {
				delete(l.pursuits, key)
			}
		}
	}
	posture.SortServers(next.Servers)
	next.Taken = l.now()
	l.snap = &next
	return changed
}

// finish makes the snapshot that is published next: every server with what
// touches and events have brought. Servers about which nothing is new are
// shared with the last one.
func (l *loop) finish() *posture.Snapshot {
	var ended map[string]bool
	if l.toucher != nil {
		ended = l.toucher.takeEnded()
	}
	next := *l.snap
	next.Servers = slices.Clone(l.snap.Servers)
	next.Hears = l.collector.Hears()
	published := map[*posture.Server]bool{}
	if s := l.State(); s != nil {
		for _, srv := range s.Snapshot.Servers {
			published[srv] = true
		}
	}
	for i, s := range next.Servers {
		_, touched := ended[s.ID]
		reload, failures := l.reloadOf(s), l.intake.failuresOf(s.ID)
		fresh := !published[s]
		if !fresh && !touched && !l.outdated(s) && sameReload(s.Reload, reload) && sameFailures(s.Failures, failures) {
			continue
		}
		s = s.Clone() // looks and sweeps under way read it
		s.Reload, s.Failures = reload, failures
		l.attach(s)
		if l.toucher == nil {
			posture.Judge(s)
		}
		next.Servers[i] = s
	}
	if l.toucher != nil {
		l.toucher.attachForeign(&next, l.policy.Addresses)
	}
	return &next
}

// outdated tells whether a published server was judged without touches that
// have ended since.
func (l *loop) outdated(s *posture.Server) bool {
	for i := range s.Doors {
		if s.Doors[i].Pending {
			return true
		}
	}
	return false
}

func (l *loop) reloadOf(s *posture.Server) *posture.Reload {
	if r, ok := l.reloads[s.ID]; ok {
		return &r
	}
	return nil
}

func sameReload(a, b *posture.Reload) bool {
	return a == nil && b == nil || a != nil && b != nil && *a == *b
}

func sameFailures(a, b posture.Failures) bool {
	return a.Count == b.Count && a.Probes == b.Probes && a.Latest.Equal(b.Latest)
}

// noteUnfound forgets what belongs to servers that are no more.
func (l *loop) noteUnfound() {
	here := byID(l.snap)
	gone := func(id string) bool { return here[id] == nil }
	maps.DeleteFunc(l.reloads, func(id string, _ posture.Reload) bool { return gone(id) })
	maps.DeleteFunc(l.loaded, func(id string, _ time.Time) bool { return gone(id) })
	l.inside.forget(here)
	found := func(id string) bool {
		return here[id] != nil && (here[id].State != posture.Answering || known(here[id]))
	}
	maps.DeleteFunc(l.unfound, func(id string, s *sighting) bool { return found(id) || time.Since(s.at) > unfoundFor })
	l.lookForUnfound()
}
