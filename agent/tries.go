package agent

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/natsentry/natsentry/agent/posture"
)

// Rounds of one touch over the addresses that have answered and decided
// nothing: what stood in the way may have been passing, as where time was up.
// Where another server answers, as behind a load balancer, the next connection may
// lead to the right one.
const (
	mostRounds     = 2
	balancedRounds = 8
)

// attempt is one try at one address.
type attempt struct {
	posture.Touch
	other string // the server that answered instead
}

// own reports whether it was made where the server itself says that it listens.
// There a verdict counts though the listener has not said whose it is: TLS may
// refuse before, and MQTT never says it. Where clients are told to connect may be
// something else, so such a verdict on the client port is the last resort.
func (a *attempt) own() bool { return a.From == "" }

// try goes through the addresses of a door.
func (t *toucher) try(ctx context.Context, turn uint64, d due) posture.Touch {
	began := t.now()
	if len(d.addresses) == 0 {
		return posture.Touch{Door: d.key.door, Path: d.key.path, At: began, Reason: d.nowhere}
	}
	var failed []attempt
	addresses := t.lastFirst(d)
	for round := 0; round < balancedRounds && len(addresses) > 0; round++ {
		var again []posture.Address
		for _, a := range addresses {
			if ctx.Err() != nil {
				break
			}
			if round > 0 {
				if found := t.settled(d, began); found != nil {
					return *found
				}
			}
			out := t.tryAt(ctx, turn, d, a)
			if out.Access != posture.Unknown && (out.ServerID != "" || out.own() && d.key.door != posture.Client) {
				out.Failed = tries(failed)
				return out.Touch
			}
			failed = append(failed, out)
			if out.other != "" || worthAgain(&out.Touch) && round+1 < mostRounds {
				again = append(again, a)
			}
		}
		addresses = again
	}
	return conclude(failed)
}

// tryAt touches a door once at an address. What another server of the fleet
// has answered there is kept as that server's, and says nothing of this one.
func (t *toucher) tryAt(ctx context.Context, turn uint64, d due, a posture.Address) attempt {
	target := d.target
	target.Address = a.HostPort
	target.Other = func(id string) bool {
		key := touched{id, d.key.door, d.key.path}
		if !t.knows(key) {
			return false
		}
		t.before(id)
		return true
	}
	t.before(d.key.server)
	out := attempt{Touch: t.prober.Touch(ctx, target)}
	if d.key.door == posture.Websocket && target.TLS == posture.Unseen && out.Dialed && out.ServerID == "" {
		target.TLS = posture.Yes // nothing says whether it speaks TLS
		t.before(d.key.server)
		out.Touch = t.prober.Touch(ctx, target)
	}
	out.From = a.From
	if l := out.Landing; l != nil && l.Account == "" {
		if was := t.whoWas(ctx, &out.Touch); was != nil {
			out.Landing = &posture.Landing{Account: was.Account, User: was.User, Restricted: l.Restricted}
		}
	}
	if out.ServerID == "" || out.ServerID == d.key.server {
		return out
	}
	if ctx.Err() == nil {
		t.credit(turn, out.Touch)
	}
	other := fmt.Sprintf("%.60q", out.ServerName)
	if !t.knows(touched{out.ServerID, out.Door, out.Path}) {
		other += fmt.Sprintf(", id %.60q, which is not known here", out.ServerID)
	}
	return attempt{other: other, Touch: posture.Touch{
		Door: out.Door, Path: out.Path, Address: out.Address, From: a.From, At: out.At, Took: out.Took, Sent: out.Sent, Read: out.Read, Dialed: true,
	}}
}

// conclude makes one touch of tries none of which was answered under the
// right id and decided something.
func conclude(failed []attempt) posture.Touch {
	if len(failed) == 0 {
		return posture.Touch{} // we were told to stop
	}
	// What the server itself says tells most.
	at := max(0, slices.IndexFunc(failed, func(a attempt) bool { return a.ServerID != "" }))
	if unnamed := slices.IndexFunc(failed, func(a attempt) bool { return a.Access != posture.Unknown && a.own() }); unnamed >= 0 && failed[at].ServerID == "" {
		out := failed[unnamed].Touch
		out.Failed = tries(slices.DeleteFunc(failed, func(a attempt) bool { return a.Address == out.Address }))
		return out
	}
	out := failed[at].Touch
	out.Failed = tries(failed)
	if out.Access != posture.Unknown || failed[at].other != "" {
		i := slices.IndexFunc(out.Failed, func(t posture.Try) bool { return t.Address == out.Address })
		out.Access, out.Answer, out.Reason = posture.Unknown, "", out.Failed[i].Reason
	}
	return out
}

// tries lists what was tried in vain, each address once.
func tries(failed []attempt) []posture.Try {
	var out []posture.Try
	others := map[string][]string{}
	for i := range failed {
		a := &failed[i]
		if a.other != "" && !slices.Contains(others[a.Address], a.other) {
			others[a.Address] = append(others[a.Address], a.other)
		}
		reason := a.Reason
		if a.Access != posture.Unknown {
			reason = a.Answer + ", without saying which server it is"
		}
		try := posture.Try{Address: a.Address, From: a.From, Dialed: a.Dialed, Reason: reason}
		if i := slices.IndexFunc(out, func(t posture.Try) bool { return t.Address == a.Address }); i < 0 {
			out = append(out, try)
		} else if a.other == "" {
			out[i] = try // what came last
		}
	}
	for i := range out {
		if names := others[out[i].Address]; len(names) > 0 {
			slices.Sort(names)
			out[i].Reason = "another server answers: " + strings.Join(names, "; ") + " (a load balancer in between?)"
		}
	}
	return out
}

// lastFirst puts the address that decided last in front, and those behind that
// could not be reached: time may not be enough for all.
func (t *toucher) lastFirst(d due) []posture.Address {
	t.mu.Lock()
	r, ok := t.records[d.key]
	t.mu.Unlock()
	out := slices.Clone(d.addresses)
	if !ok {
		return out
	}
	if r.touch.Access == posture.Unknown {
		behind := func(a posture.Address) int {
			if slices.ContainsFunc(r.touch.Failed, func(t posture.Try) bool { return t.Address == a.HostPort && !t.Dialed }) {
				return 1
			}
			return 0
		}
		slices.SortStableFunc(out, func(a, b posture.Address) int { return behind(a) - behind(b) })
		return out
	}
	if i := slices.IndexFunc(out, func(a posture.Address) bool { return a.HostPort == r.touch.Address }); i > 0 {
		last := out[i]
		out = slices.Insert(slices.Delete(out, i, i+1), 0, last)
	}
	return out
}

// settled is what has been found at a door since, by a touch that was meant
// for another server; nil when nothing has.
func (t *toucher) settled(d due, began time.Time) *posture.Touch {
	t.mu.Lock()
	defer t.mu.Unlock()
	if r, ok := t.records[d.key]; ok && r.settles(d, began) {
		return &r.touch
	}
	return nil
}

// knows reports whether a door is one of the fleet's.
func (t *toucher) knows(key touched) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	_, ok := t.current[key]
	return ok
}

// credit keeps what a server has answered to a touch that was meant for
// another one.
func (t *toucher) credit(turn uint64, out posture.Touch) {
	key := touched{out.ServerID, out.Door, out.Path}
	if out.Access == posture.Unknown {
		return // its own touch may tell more
	}
	t.mu.Lock()
	of, ok := t.current[key]
	if !ok || turn != t.turn || of.since.After(out.At) {
		t.mu.Unlock()
		return // it was not yet under this configuration
	}
	r := record{of: of.occasion, touch: out, due: out.At.Add(t.jittered(key))}
	if last, ok := t.records[key]; ok && last.of == r.of {
		r.tried, r.touch.Failed = last.tried, last.touch.Failed
	}
	t.records[key] = r
	t.mu.Unlock()
	t.tell(key.server)
}

// worthAgain reports whether a touch should be repeated at once: the listener has
// said something that decides nothing, which may be passing. A listener that says
// nothing at all is not asked twice, nor one that has used up its time: nobody
// may be there who decides about logins.
func worthAgain(out *posture.Touch) bool {
	return out.Access == posture.Unknown && out.Read > 0 && !out.TimedOut
}
