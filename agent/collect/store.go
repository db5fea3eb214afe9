package collect

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nuid"

	"github.com/natsentry/natsentry/agent/posture"
)

// The requests to the stores of account claims. A FULL resolver answers both, a
// CACHE resolver only the list, MEMORY and URL resolvers neither (nats-server
// accounts.go, DirAccResolver.Start and CacheDirAccResolver.Start). A lookup is
// answered with the bare JWT, or with nothing where there is none: by whom, it
// does not say.
const (
	claimsInbox   = "CLAIMS" // a token of the reply subject, where endpoints have their name
	listRequest   = "$SYS.REQ.CLAIMS.LIST"
	lookupRequest = "$SYS.REQ.ACCOUNT.%s.CLAIMS.LOOKUP"
)

// readLists takes what the stores say that they hold.
func (l *trustLook) readLists(ctx context.Context, a *asking) {
	answered := map[string]bool{}
	a.collect(ctx, storeRounds*l.c.askAgain, func(m *nats.Msg) bool {
		who, list, err := decode[[]string](m.Data, m.Header.Get("Content-Encoding"))
		if err != nil {
			l.gap(posture.Gap{Server: who.name, ID: who.id, Endpoint: "CLAIMS LIST", Reason: err.Error()})
			return false
		}
		if l.servers[who.id] == nil || answered[who.id] {
			return false // a store of nobody that we know, or once more
		}
		answered[who.id] = true
		for _, account := range *list {
			switch {
			case l.listed[account] || !accountKey(account):
			case len(l.listed) >= maxAccounts:
				l.gap(tooManyAccounts)
			default:
				l.listed[account] = true
			}
		}
		return true
	})
	l.spend(a.cost)
	l.stores = len(answered)
	if l.stores == 0 && !a.nobody {
		// Where no resolver keeps a store, the client's own server says at once
		// that nobody listens.
		l.gap(posture.Gap{Endpoint: "CLAIMS LIST", Reason: "no answer: the user may not ask, or no store is well"})
	}
}

// readStored takes the claims that the stores hold of an account.
func (l *trustLook) readStored(ctx context.Context, out *posture.Account, a *asking, stores int) {
	answered := 0
	a.collect(ctx, storeRounds*l.c.askAgain, func(m *nats.Msg) bool {
		answered++
		if len(m.Data) == 0 {
			return true
		}
		claim := l.claim(rawClaim(m.Data), out.ID)
		same := slices.ContainsFunc(out.Stored, func(c *posture.Claim) bool { return c.Mark == claim.Mark })
		if !same && len(out.Stored) < maxStored {
			out.Stored = append(out.Stored, claim)
		}
		return true
	})
	l.spend(a.cost)
	out.Asked = answered > 0
	slices.SortFunc(out.Stored, func(a, b *posture.Claim) int { return a.Issued.Compare(b.Issued) })
	l.answeredLookup(answered, stores)
}

// answeredLookup notes how many stores answered. CACHE resolvers list what they
// hold and do not answer lookups: after some lookups nobody waits for them.
func (l *trustLook) answeredLookup(n, of int) {
	const enough = 3
	l.mu.Lock()
	most := max(l.most, n)
	l.most = most
	if n >= of {
		l.short = 0
	} else if l.short++; l.short >= enough {
		l.stores, l.short = min(l.stores, most), 0
	}
	l.mu.Unlock()
	if n < most {
		l.gap(posture.Gap{Endpoint: "CLAIMS LOOKUP", Reason: fmt.Sprintf("of %d stores that answered before, some did not answer in time", most)})
	}
}

func (l *trustLook) lookups() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.stores
}

// asking is one question to the stores: how many will answer is not known.
type asking struct {
	nonce   string
	expect  int
	answers chan *nats.Msg
	nobody  bool
	cost    posture.Cost
	sent    time.Time
}

// maxWaiting bounds the answers of stores that wait to be read.
const maxWaiting = 1024

func (c *Collector) askStores(subject string, expect int) (*asking, error) {
	a := &asking{nonce: nuid.Next(), expect: expect, answers: make(chan *nats.Msg, min(max(2*expect, 16), maxWaiting)), sent: time.Now()}
	c.mu.Lock()
	c.askings[a.nonce] = a
	c.mu.Unlock()
	if err := c.nc.PublishRequest(subject, c.inbox+"."+claimsInbox+"."+a.nonce, nil); err != nil {
		c.endAsking(a)
		return nil, fmt.Errorf("%w: %w", ErrDisconnected, err)
	}
	a.cost.Requests++
	return a, nil
}

func (c *Collector) endAsking(a *asking) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.askings, a.nonce)
}

// storeAnswered hands an answer to whoever asked. More than fit are lost.
func (c *Collector) storeAnswered(m *nats.Msg) {
	c.mu.Lock()
	a := c.askings[strings.TrimPrefix(m.Subject, c.inbox+"."+claimsInbox+".")]
	c.mu.Unlock()
	if a == nil {
		return // late
	}
	select {
	case a.answers <- m:
	default:
	}
}

// collect gives each answer to take, until as many as are expected were good,
// nobody listens, or so much time has passed since it was asked.
func (a *asking) collect(ctx context.Context, wait time.Duration, take func(*nats.Msg) bool) {
	timer := time.NewTimer(time.Until(a.sent.Add(wait)))
	defer timer.Stop()
	for good := 0; good < a.expect; {
		select {
		case m := <-a.answers:
			if len(m.Data) == 0 && m.Header.Get("Status") == noResponders {
				a.nobody = true
				return
			}
			a.cost.Replies++
			a.cost.Bytes += int64(len(m.Data))
			if len(m.Data) <= maxWire && take(m) {
				good++
			}
		case <-timer.C:
			return
		case <-ctx.Done():
			return
		}
	}
}
