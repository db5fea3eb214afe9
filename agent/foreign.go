package agent

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/natsentry/natsentry/agent/posture"
)

// Servers with their own system account answer nobody here. The operator may
// give addresses of them; what is found there is reported by the INFO that
// comes back.

// visited is what was found at an address that the operator gives.
type visited struct {
	touches []posture.Touch // the latest that brought a server's id; nil when none has
	failed  *posture.Touch  // the latest touch, when it did not
	due     time.Time
}

// addressJob names an address among the servers that are being touched.
const addressJob = "address "

// planAddresses lists the addresses of the policy that are due.
func (t *toucher) planAddresses(addresses map[string][]string, now time.Time) []job {
	t.mu.Lock()
	defer t.mu.Unlock()
	given := map[string]bool{}
	var jobs []job
	for _, name := range slices.Sorted(maps.Keys(addresses)) {
		for _, hostPort := range addresses[name] {
			key := addressJob + hostPort
			if given[hostPort] || t.busy[key] {
				continue
			}
			given[hostPort] = true
			if v, ok := t.visited[hostPort]; !ok || !now.Before(v.due) {
				t.busy[key] = true
				jobs = append(jobs, job{turn: t.turn, server: key, address: hostPort})
			}
		}
	}
	return jobs
}

// visit finds out what listens at an address of the policy. A server of this
// fleet has its touches credited.
func (t *toucher) visit(ctx context.Context, turn uint64, hostPort string) {
	found := t.prober.Identify(ctx, hostPort)
	if ctx.Err() != nil {
		return
	}
	for _, touch := range found {
		if touch.ServerID != "" {
			t.credit(turn, touch)
		}
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if turn != t.turn {
		return
	}
	v := visited{touches: slices.DeleteFunc(slices.Clone(found), func(touch posture.Touch) bool { return touch.ServerID == "" })}
	wait := t.cfg.Every
	if len(v.touches) == 0 {
		v.touches, v.failed = t.visited[hostPort].touches, &found[0]
		wait = min(wait, time.Minute)
	}
	v.due = t.now().Add(wait)
	t.visited[hostPort] = v
}

// attachForeign puts the servers into a snapshot that is not yet published that
// were found at addresses of the policy and are not among those that are known.
func (t *toucher) attachForeign(snap *posture.Snapshot, addresses map[string][]string) {
	servers := slices.DeleteFunc(slices.Clone(snap.Servers), func(s *posture.Server) bool { return s.State == posture.Foreign })
	known := make(map[string]bool, len(servers))
	for _, s := range servers {
		known[s.ID] = true
	}
	foreign := map[string]*posture.Server{}
	tried := map[string][]posture.Evidence{} // by the name under which the policy gives the address
	t.mu.Lock()
	for _, name := range slices.Sorted(maps.Keys(addresses)) {
		for _, hostPort := range addresses[name] {
			v, ok := t.visited[hostPort]
			if !ok {
				continue
			}
			ours := false
			for i := range v.touches {
				touch := &v.touches[i]
				if ours = ours || known[touch.ServerID]; known[touch.ServerID] {
					continue
				}
				meet(foreign, touch, v.failed)
				if touch.ServerName != name && touch.ServerID != name {
					tried[name] = append(tried[name], posture.Evidence{Source: "touch of " + hostPort, Value: fmt.Sprintf("another server answers: %.60q, id %.60q", touch.ServerName, touch.ServerID)})
				}
			}
			if v.failed != nil && !ours {
				try := posture.Try{Address: hostPort, From: "the policy", Dialed: v.failed.Dialed, Reason: v.failed.Reason}
				tried[name] = append(tried[name], try.Evidence())
			}
		}
	}
	t.mu.Unlock()
	audited := map[string]bool{}
	for _, s := range foreign {
		audited[s.Name], audited[s.ID] = true, true
		s.Looked = snap.Taken
		posture.Judge(s)
		servers = append(servers, s)
	}
	posture.SortServers(servers)
	snap.Servers = servers
	snap.Unaudited = unaudited(snap.Unaudited, audited, tried)
}

// meet adds what a touch found to the server that answered it. failed is a later
// one that brought nothing: then the listener is known still, and its access is not.
func meet(foreign map[string]*posture.Server, touch, failed *posture.Touch) {
	s := foreign[touch.ServerID]
	if s == nil {
		s = &posture.Server{ID: touch.ServerID, Name: cmp.Or(touch.ServerName, touch.ServerID), Version: touch.Version, State: posture.Foreign, KnownBy: "the policy"}
		foreign[touch.ServerID] = s
	}
	kinds := []posture.DoorKind{touch.Door}
	if touch.Path == posture.LeafnodePath {
		kinds = append(kinds, posture.Leafnode)
	}
	for _, kind := range kinds {
		if s.Door(kind) == nil {
			s.Doors = append(s.Doors, posture.Door{Kind: kind, On: posture.Yes})
		}
	}
	slices.SortFunc(s.Doors, func(a, b posture.Door) int { return int(a.Kind) - int(b.Kind) })
	if failed != nil {
		touch = &posture.Touch{Door: touch.Door, Path: touch.Path, Address: touch.Address, At: failed.At, Dialed: failed.Dialed, Reason: failed.Reason}
	}
	s.Touches = append(s.Touches, *touch)
}

// unaudited is the list without those that were found, and with what was
// tried.
func unaudited(list []posture.Unaudited, audited map[string]bool, tried map[string][]posture.Evidence) []posture.Unaudited {
	out := make([]posture.Unaudited, 0, len(list))
	listed := map[string]bool{}
	for i := range list {
		u := list[i]
		if u.Role == "" || audited[u.Name] {
			continue // the policy alone named it, and may not do so any more
		}
		u.Tried = append([]posture.Evidence{}, tried[u.Name]...)
		listed[u.Name] = true
		out = append(out, u)
	}
	for _, name := range slices.Sorted(maps.Keys(tried)) {
		if !listed[name] && !audited[name] {
			out = append(out, posture.Unaudited{
				Name: name, Reason: "not found at the addresses of the policy",
				Accounts: []string{}, Hosts: []string{}, KnownBy: []string{}, Tried: tried[name],
			})
		}
	}
	return out
}
