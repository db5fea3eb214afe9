package collect

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"github.com/natsentry/natsentry/agent/posture"
)

// account asks which claim of one account the servers go by, and which ones are
// stored.
func (l *trustLook) account(ctx context.Context, id string) *posture.Account {
	out := &posture.Account{ID: id, At: l.c.cfg.Now()}
	stores := l.lookups()
	var lookup *asking
	if stores > 0 {
		var err error
		if lookup, err = l.c.askStores(fmt.Sprintf(lookupRequest, id), stores); err == nil {
			defer l.c.endAsking(lookup)
		}
	}
	l.readInForce(ctx, out)
	if lookup != nil {
		l.readStored(ctx, out, lookup, stores)
	}
	for _, f := range out.InForce {
		if out.Name == "" {
			out.Name = f.Claim.Name
		}
	}
	for _, s := range out.Stored {
		if out.Name == "" {
			out.Name = s.Name
		}
	}
	if len(out.InForce) > 0 || len(out.Stored) > 0 {
		out.Seen = out.At
	}
	if before := l.before.Account(id); before != nil {
		out.Name = cmp.Or(out.Name, before.Name)
		if out.Seen.IsZero() {
			out.Seen = before.Seen
		}
	}
	out.System = l.system(id)
	slices.Sort(out.Missing)
	return out
}

// readInForce asks the servers that have loaded an account.
func (l *trustLook) readInForce(ctx context.Context, out *posture.Account) {
	var ids []string
	for _, id := range l.loaded[out.ID] {
		if l.quiet(id) {
			out.Missing = append(out.Missing, l.servers[id].Name)
		} else {
			ids = append(ids, id)
		}
	}
	l.missing(out)
	if len(ids) == 0 {
		return
	}
	g := l.c.newGather(posture.Accountz, ids, len(ids))
	payload, err := json.Marshal(map[string]string{"account": out.ID})
	if err != nil {
		return // cannot happen: a string
	}
	g.payloads[posture.Accountz] = string(payload)
	if err := l.run(ctx, g); err != nil {
		for _, id := range ids {
			out.Missing = append(out.Missing, l.servers[id].Name)
		}
		return
	}
	l.spend(g.cost)
	for _, id := range ids {
		s := l.servers[id]
		a := body[accountz](g, posture.Accountz, id)
		if a == nil || a.Account == nil || a.Account.Name != out.ID {
			out.Missing = append(out.Missing, s.Name)
			reason := "no answer about account " + out.ID
			switch _, answered := g.who[id]; {
			case g.forged[posture.Accountz][id]:
				reason = "two answers that contradict each other about account " + out.ID
			case answered || explained(g.gaps, id, "ACCOUNTZ"):
				reason = "no usable answer about account " + out.ID
			default:
				l.hush(id)
			}
			l.gap(posture.Gap{Server: s.Name, ID: id, Endpoint: "ACCOUNTZ", Reason: reason})
			continue
		}
		if a.Account.JWT == "" {
			continue // it has heard of the account from its peers, and will load it for the first client
		}
		out.InForce = append(out.InForce, posture.InForce{Server: s.Name, ServerID: id, Claim: l.claim(a.Account.JWT, out.ID), Expired: a.Account.Expired})
	}
	slices.SortFunc(out.InForce, func(a, b posture.InForce) int { return strings.Compare(a.Server+a.ServerID, b.Server+b.ServerID) })
}

// missing notes the servers that may go by a claim of the account and do not say
// so: those that did when they were last asked, and are not heard now, and those
// that do not tell which accounts they have loaded.
func (l *trustLook) missing(out *posture.Account) {
	for id := range l.untold {
		out.Missing = append(out.Missing, l.servers[id].Name)
	}
	before := l.before.Account(out.ID)
	if before == nil {
		return
	}
	for _, s := range l.unheard {
		had := slices.ContainsFunc(before.InForce, func(f posture.InForce) bool { return f.ServerID == s.ID }) || slices.Contains(before.Missing, s.Name)
		if had {
			out.Missing = append(out.Missing, s.Name)
		}
	}
}

// claim decodes a claim once, however many servers have it.
func (l *trustLook) claim(t rawClaim, account string) *posture.Claim {
	l.mu.Lock()
	known := l.claims[t.mark()]
	l.mu.Unlock()
	if known != nil && known.Account == account {
		return known
	}
	c := readClaim(t, account)
	l.mu.Lock()
	defer l.mu.Unlock()
	l.claims[c.Mark] = c
	return c
}
