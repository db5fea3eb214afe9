package agent

import (
	"context"
	"slices"
	"time"

	"github.com/natsentry/natsentry/agent/posture"
)

// onNews does what events call for.
func (l *loop) onNews(ctx context.Context, n news) {
	if !l.Leading() || l.snap == nil {
		return
	}
	here := byID(l.snap)
	for id, polled := range n.reloads {
		seen, ok := l.loaded[id]
		just := ok && l.now().Sub(seen).Abs() < churnPause // the events of a reload that is known
		switch s := here[id]; {
		case s == nil:
		case polled || !just:
			l.pursue(id, toReload, reloadSteps, loadedSince(s), false)
		default:
			l.pursue(id, toEcho, echoSteps, loadedSince(s), false) // or of another one, right after it
		}
	}
	for id, at := range n.asked {
		if s := here[id]; s != nil {
			l.onReloadAsked(s, at)
		}
	}
	for id := range n.churn {
		if s := here[id]; s != nil {
			l.onChurn(s)
		}
	}
	for id, sessions := range n.visits {
		if s := here[id]; s != nil {
			l.onConnected(s, sessions)
		}
	}
	for id := range n.lively {
		if s := here[id]; s == nil || !known(s) {
			l.onAppeared(id)
		}
	}
	if n.gone {
		l.soon.atMost(sweepDelay)
	}
	if n.claims {
		l.onClaimed(n)
		l.claims.atMost(max(0, claimsPause-time.Since(l.claimed)))
	}
	if n.failed {
		l.judgeNow(ctx)
	}
}

// known reports whether a server answers, and a sweep or a look got what it asks of
// every server.
func known(s *posture.Server) bool {
	return s.State == posture.Answering && s.Heard.Has(posture.Statsz|posture.Varz)
}

// loadedSince ends a pursuit: there is nothing to wait for any more.
func loadedSince(before *posture.Server) func(*posture.Server) bool {
	loaded := before.ConfigLoaded
	return func(s *posture.Server) bool { return !s.ConfigLoaded.Equal(loaded) }
}

// onReloadAsked follows a request to reload to its end: the server loads its
// configuration, or has not after the policy's grace.
func (l *loop) onReloadAsked(s *posture.Server, at time.Time) {
	if seen, ok := l.loaded[s.ID]; ok && at.Sub(seen).Abs() < l.policy.ReloadGrace {
		return // the request comes later than what it caused
	}
	l.reloads[s.ID] = posture.Reload{At: at, Loaded: s.ConfigLoaded}
	steps := append(slices.Clone(reloadSteps), l.policy.ReloadGrace+100*time.Millisecond)
	l.pursue(s.ID, toReload, steps, loadedSince(s), false)
}

// onChurn looks at a server that dropped a client, as it does in a reload.
// Clients that leave by themselves look the same: so only now and then.
func (l *loop) onChurn(s *posture.Server) {
	if l.now().Sub(s.Looked).Abs() >= churnPause && l.churned.spend(time.Now()) {
		l.pursue(s.ID, toChurn, churnSteps, loadedSince(s), false)
	}
}

// onConnected takes clients that came into the global account. On a server
// that asks nobody they are anonymous; on another one they may show that it
// has stopped asking.
func (l *loop) onConnected(s *posture.Server, sessions []posture.Session) {
	suspect := false
	for i := range sessions {
		switch c := &sessions[i]; {
		case s.AuthRequired == posture.No || posture.IsHiddenUser(c.User, c.Account):
			if len(l.visits[s.ID]) < maxVisits {
				l.visits[s.ID] = append(l.visits[s.ID], *c)
			}
		default:
			suspect = true
		}
	}
	if suspect {
		l.onChurn(s)
	}
	if len(l.visits) > 0 {
		l.visit.atMost(max(visitPause, 4*l.slow)) // judging must not become all that is done
	}
}

// onVisits adds clients that came to the sessions of their servers.
func (l *loop) onVisits(ctx context.Context) {
	next := *l.snap
	next.Servers = slices.Clone(l.snap.Servers)
	for i, s := range next.Servers {
		visits := l.visits[s.ID]
		if len(visits) == 0 || !s.Heard.Has(posture.Varz) {
			continue
		}
		s = s.Clone()
		for _, v := range visits {
			known := slices.ContainsFunc(s.Sessions.List, func(o posture.Session) bool { return o.CID == v.CID })
			if known || len(s.Sessions.List) >= maxSessions {
				continue
			}
			s.Sessions.List = append(s.Sessions.List, v)
		}
		s.Sessions.Total = max(s.Sessions.Total, len(s.Sessions.List))
		posture.Judge(s)
		next.Servers[i] = s
	}
	next.Taken = l.now()
	l.snap = &next
	clear(l.visits)
	l.judgeNow(ctx)
}

// maxSessions bounds what events add to the sessions of one server.
const maxSessions = 1024

// sighting is a server that is heard and not known.
type sighting struct {
	at     time.Time // first
	sweeps int       // that have looked for it
}

// onAppeared sweeps for a server that is heard and not known. One that several
// sweeps do not find is somebody's invention.
func (l *loop) onAppeared(id string) {
	if s := l.unfound[id]; s != nil && (s.sweeps >= sightings || time.Since(s.at) < sweepDelay) || len(l.unfound) >= maxServers {
		return
	}
	if l.unfound[id] == nil {
		l.unfound[id] = &sighting{at: time.Now()}
	}
	l.sweepFor()
}

// lookForUnfound sweeps again for those that the last sweep did not find: a
// server is heard by us before its peers count it.
func (l *loop) lookForUnfound() {
	again := false
	for _, s := range l.unfound {
		if s.sweeps++; s.sweeps < sightings {
			again = true
		}
	}
	if again {
		l.soon.atMost(sweepDelay)
	}
}

// sweepFor sweeps at once, unless those who make servers up have used that up.
func (l *loop) sweepFor() {
	if l.sighted.spend(time.Now()) {
		l.soon.atMost(0)
	} else {
		l.soon.atMost(time.Second)
	}
}

// onClaims touches the doors of servers in operator mode anew: a JWT that was
// pushed may have opened or closed them.
func (l *loop) onClaims() {
	l.claimed = time.Now()
	for _, s := range l.snap.Servers {
		if s.AuthMode == posture.AuthOperator && s.State == posture.Answering {
			l.pursue(s.ID, toClaims, claimsSteps, nil, true)
		}
	}
}
