package collect

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/natsentry/natsentry/agent/posture"
)

// Look is what was heard of some servers that were asked again.
type Look struct {
	Servers []*posture.Server // as they are now; those that did not answer are not among them
	Moved   map[string]bool   // by id: its VARZ is not what it was
	Silent  []string          // ids of those that did not answer
}

// Look asks servers of a snapshot once more, by their ids: for their VARZ, and
// where the configuration has been loaded anew since for what depends on it.
func (c *Collector) Look(ctx context.Context, prev *posture.Snapshot, ids []string) (*Look, error) {
	known := make(map[string]*posture.Server, len(ids))
	for _, s := range prev.Servers {
		if s.ID != "" && slices.Contains(ids, s.ID) {
			known[s.ID] = s
		}
	}
	ids = slices.DeleteFunc(slices.Clone(ids), func(id string) bool { return known[id] == nil })
	g := c.newGather(posture.Varz, ids, len(ids))
	if err := g.run(ctx, true); err != nil {
		return nil, err
	}
	out := &Look{Moved: map[string]bool{}}
	c.watch.spend(g.cost)
	var reloaded []string
	for _, id := range ids {
		v := body[varz](g, posture.Varz, id)
		if v == nil {
			out.Silent = append(out.Silent, id)
			continue
		}
		before := known[id]
		out.Moved[id] = c.watch.moved(id, v) || !before.Heard.Has(posture.Varz)
		c.watch.looked(id, v)
		srv := c.again(before, v, g.at[id])
		if !before.ConfigLoaded.Equal(srv.ConfigLoaded) || before.AuthRequired != srv.AuthRequired {
			reloaded = append(reloaded, id)
		}
		out.Servers = append(out.Servers, srv)
	}
	if len(reloaded) > 0 {
		if err := c.lookFurther(ctx, out, reloaded); err != nil {
			return nil, err
		}
	}
	for _, s := range out.Servers {
		posture.Judge(s)
		posture.Compare(s, known[s.ID], s.Looked)
	}
	return out, nil
}

// again is a server as its new VARZ shows it, with what else is known of it.
func (c *Collector) again(before *posture.Server, v *varz, at time.Time) *posture.Server {
	s := *before
	s.Heard |= posture.Varz
	s.State, s.Looked, s.Complete, s.Loading = posture.Answering, at, false, false
	s.NoConfigFile, s.ConfigMark, s.Operators = posture.Unseen, 0, nil
	c.describe(&s, v)
	if !before.ConfigLoaded.Equal(s.ConfigLoaded) {
		s.Heard &^= posture.Accountz
		s.Accounts = nil
	}
	s.Sessions.List = slices.Clone(before.Sessions.List) // they are classified anew
	return &s
}

// lookFurther asks for accounts and sessions under the new configuration.
func (c *Collector) lookFurther(ctx context.Context, l *Look, ids []string) error {
	g := c.newGather(posture.Accountz|posture.Connz, ids, len(ids))
	g.payloads[posture.Connz] = c.sessionsPayload()
	if err := g.run(ctx, true); err != nil {
		return err
	}
	c.watch.spend(g.cost)
	for _, s := range l.Servers {
		if !slices.Contains(ids, s.ID) {
			continue
		}
		if a := body[accountz](g, posture.Accountz, s.ID); a != nil {
			s.Heard |= posture.Accountz
			s.Accounts = accountNames(a)
		}
		if z := body[connz](g, posture.Connz, s.ID); z != nil {
			s.Heard |= posture.Connz
			s.Sessions = c.sessions(z, s.Version, s.Looked)
		}
	}
	return nil
}

func (c *Collector) sessionsPayload() string {
	return fmt.Sprintf(`{"auth":true,"acc":%q,"limit":%d}`, posture.GlobalAccount, c.cfg.SessionLimit)
}

// moved tells whether an answer is another one than the last.
func (w *watch) moved(id string, v *varz) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	s := w.servers[id]
	return s == nil || !s.varz.sameAs(v)
}
