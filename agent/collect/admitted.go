package collect

import (
	"context"
	"fmt"

	"github.com/natsentry/natsentry/agent/posture"
)

// Admitted asks a server as whom it admitted a connection of ours, which may be
// closed by now: a user whom permissions stop cannot ask that itself. It
// returns nil when there is no answer.
func (c *Collector) Admitted(ctx context.Context, t *posture.Touch) *posture.Landing {
	if t.CID == 0 {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, c.cfg.Timeout)
	defer cancel()
	g := c.newGather(posture.Connz, []string{t.ServerID}, 1)
	g.payloads[posture.Connz] = fmt.Sprintf(`{"auth":true,"cid":%d,"state":%d}`, t.CID, anyState)
	err := g.run(ctx, true)
	c.discard(g) // it lists one session: nothing is compared with that later
	c.watch.spend(g.cost)
	z := body[connz](g, posture.Connz, t.ServerID)
	if err != nil || z == nil || len(z.Conns) != 1 || z.Conns[0].Cid != t.CID {
		return nil
	}
	s := session(&z.Conns[0], t.Version)
	return &posture.Landing{Account: s.Account, User: s.User}
}

// anyState makes CONNZ list connections whether they are open or closed.
const anyState = 2
