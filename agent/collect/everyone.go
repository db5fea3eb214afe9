package collect

import (
	"context"
	"fmt"
	"time"

	"github.com/natsentry/natsentry/agent/posture"
)

// What it may cost to ask a server who is inside, in all accounts. A server goes
// through all of its connections for each answer, however few it may show, so one
// large answer is the cheapest; and it verifies the JWT of every connection.
// BenchmarkEveryone measures what is estimated here.
const (
	// costPlain and costJWT are the server's CPU for one connection: more than was
	// measured on a machine that was busy with other things.
	costPlain = 15 * time.Microsecond
	costJWT   = 150 * time.Microsecond
	// EveryoneShare is how much of one core a server spends on it, in the long
	// run: one part of so many. A server with many connections is asked less often.
	EveryoneShare = 200
	// EveryoneMost is the CPU that one answer may take. Until it is done the
	// server answers nothing else on $SYS but STATSZ. A server that would take
	// longer is not asked.
	EveryoneMost = 2 * time.Second
	// everyoneLimit bounds the sessions of one server, and everyoneKept those of
	// the whole fleet: up to 500 bytes each.
	everyoneLimit = 20_000
	everyoneKept  = 200_000
	// everyoneSlack is how many times as long as estimated an answer may take, beside
	// the time that any answer may.
	everyoneSlack = 5
)

// EveryoneCost estimates the CPU that a server takes to tell who is inside.
func EveryoneCost(s *posture.Server) time.Duration {
	each := costPlain
	if s.AuthMode != posture.AuthNone && s.AuthMode != posture.AuthStatic {
		each = costJWT
	}
	return time.Duration(s.Connections) * each
}

// EveryoneTooMuch says why a server is not asked who is inside; "" when it may be.
func EveryoneTooMuch(s *posture.Server) string {
	if cost := EveryoneCost(s); cost > EveryoneMost {
		return fmt.Sprintf("not asked: its %d connections would cost it about %s of CPU, and %s is the most that one answer may", s.Connections, cost.Round(100*time.Millisecond), EveryoneMost)
	}
	return ""
}

// EveryoneGap is the gap that a server leaves which does not tell who is inside.
func EveryoneGap(s *posture.Server, reason string) posture.Gap {
	return posture.Gap{Server: s.Name, ID: s.ID, Endpoint: "CONNZ of all accounts", Reason: reason}
}

// Everyone asks one server of a snapshot, once, for its sessions in all accounts.
// Without an answer that can be used it returns a gap. Ask one server at a time:
// answers have megabytes.
func (c *Collector) Everyone(ctx context.Context, snap *posture.Snapshot, s *posture.Server) (posture.Sessions, *posture.Gap, error) {
	gap := func(reason string) (posture.Sessions, *posture.Gap, error) {
		g := EveryoneGap(s, reason)
		return posture.Sessions{}, &g, nil
	}
	if reason := EveryoneTooMuch(s); reason != "" {
		return gap(reason)
	}
	limit := everyoneLimit
	for _, other := range snap.Servers {
		if other.ID != s.ID {
			limit = min(limit, everyoneKept-len(other.Everyone.List))
		}
	}
	if limit <= 0 {
		return gap(fmt.Sprintf("not asked: the %d sessions that are kept at a time are those of other servers", everyoneKept))
	}
	timeout := c.cfg.Timeout + everyoneSlack*EveryoneCost(s)
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	g := c.newGather(posture.EveryoneConnz, []string{s.ID}, 1)
	g.once = true
	g.payloads[posture.EveryoneConnz] = fmt.Sprintf(`{"auth":true,"limit":%d}`, limit)
	at, own := c.cfg.Now(), c.ownCID(s.ID)
	err := g.run(ctx, true)
	c.discard(g) // the answer is large, and nothing is compared with it later
	c.watch.spend(g.cost)
	if err != nil {
		return posture.Sessions{}, nil, err
	}
	z := body[connz](g, posture.EveryoneConnz, s.ID)
	switch {
	case z == nil && len(g.gaps) > 0:
		return gap(g.gaps[0].Reason)
	case z == nil && g.nobody[posture.EveryoneConnz][s.ID]:
		return gap("no server of that id listens any more")
	case z == nil:
		return gap(fmt.Sprintf("no answer in %s", timeout.Round(time.Millisecond)))
	}
	return everyone(z, s, at, limit, own), nil, nil
}

// ownCID is the id of our own connection, if it is one of that server's; else 0.
func (c *Collector) ownCID(server string) uint64 {
	if c.nc.ConnectedServerId() != server {
		return 0
	}
	cid, err := c.nc.GetClientID()
	if err != nil {
		return 0
	}
	return cid
}

// everyone reads the sessions of one server.
func everyone(z *connz, s *posture.Server, at time.Time, limit int, own uint64) posture.Sessions {
	out := posture.Sessions{At: at, Total: max(z.Total, len(z.Conns))}
	shown := z.Conns[:min(len(z.Conns), limit)]
	out.List = make([]posture.Session, 0, len(shown))
	seen := make(map[uint64]bool, len(shown))
	users := map[userOf]*posture.UserClaim{}
	texts := map[string]string{}
	once := func(s *string) { // most sessions have these in common
		if known, ok := texts[*s]; ok {
			*s = known
			return
		}
		texts[*s] = *s
	}
	for i := range shown {
		info := &shown[i]
		if seen[info.Cid] {
			continue // a server lists nobody twice
		}
		seen[info.Cid] = true
		c := session(info, s.Version)
		if info.Kind == "Leafnode" {
			c.Door = posture.Leafnode
		}
		if c.Claim = info.JWT.claim; c.Claim != nil {
			key := userOf{c.Claim.Key, c.Claim.Issued}
			if users[key] == nil {
				once(&c.Claim.Account)
				once(&c.Claim.Issuer)
				users[key] = c.Claim
			}
			c.Claim = users[key] // the same for all sessions of a user
		}
		c.Encrypted = posture.TriOf(info.TLSVersion != "")
		c.Ours = own != 0 && c.CID == own || c.Touch(at)
		posture.Identify(s, &c, signs(info, s, z.Now))
		for _, text := range []*string{&c.Lang, &c.Version, &c.Account, &c.User} {
			once(text)
		}
		out.List = append(out.List, c)
	}
	return out
}

// userOf names a JWT of a user.
type userOf struct {
	key    string
	issued time.Time
}
