package collect

import (
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/natsentry/natsentry/agent/posture"
)

// roster remembers which servers there are, over the sweeps.
type roster struct {
	mu      sync.Mutex
	members map[string]*member // by id, or by "name:" and the name where no id is known
	dead    map[string]death   // by id: ended without a shutdown event, and replaced by a server of the same name
}

// death is what is known of the end of a server that nobody has announced.
type death struct {
	seen     time.Time // it was still there
	replaced time.Time // another one was there in its place
}

// deadCounted is how long nats-server counts a server that has ended without a
// shutdown event: it forgets those that it has not heard for 150 s, and looks for
// them every 90 s (server.go, setSystemAccount: orphMax and chkOrph).
const deadCounted = 4 * time.Minute

type member struct {
	id, name, cluster string
	knownBy           string
	seen              time.Time // last answered, or was named by a peer
	first, last       time.Time // the sweeps in which it first and last answered
	state             posture.State
	gateways          bool // it, or the peer that knows it, has gateways
	missed            bool // it did not answer the last gather, and has given no sign of life since
}

func newRoster() *roster {
	return &roster{members: map[string]*member{}, dead: map[string]death{}}
}

// active is how many servers one of them counts, without those that are known to be
// dead. It does not count a server that was gone before it started itself.
func (r *roster) active(st *statsz, now time.Time) int {
	r.mu.Lock()
	defer r.mu.Unlock()
	n := st.ActiveServers
	for id, d := range r.dead {
		switch {
		case now.Sub(d.replaced).Abs() >= deadCounted:
			delete(r.dead, id)
		case st.Start.Before(d.seen):
			n--
		}
	}
	return n
}

// ids are the servers that should answer the next gather, and those that did
// not answer the last one and have given no sign of life since.
func (r *roster) ids() (should, missed []string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, m := range r.members {
		switch {
		case m.id == "" || m.state == posture.ShutDown || m.state == posture.LameDuck:
		case m.missed:
			missed = append(missed, m.id)
		default:
			should = append(should, m.id)
		}
	}
	slices.Sort(should)
	return should, missed
}

// alive notes a sign of life of a server.
func (r *roster) alive(id string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if m := r.members[id]; m != nil {
		m.missed = false
	}
}

// answered notes a server that spoke. A server of the same name and cluster
// that is not alive, and was so before this one first spoke, was its predecessor
// and is struck off. Two that once spoke in the same sweep are not one server
// that was restarted: leafnodes may carry the name of another server.
func (r *roster) answered(who identity, cluster string, now time.Time, alive func(id string) bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	m := r.members[who.id]
	if m == nil {
		m = &member{id: who.id}
		r.members[who.id] = m
	}
	if m.first.IsZero() {
		m.first = now
	}
	delete(r.dead, who.id)
	for key, old := range r.members {
		sameName := old.name == who.name && (old.cluster == cluster || old.cluster == "")
		if old != m && sameName && !alive(old.id) && old.last.Before(m.first) {
			delete(r.members, key)
			// Of those that announced their end nats-server has heard as well.
			if old.id != "" && (old.state == posture.Answering || old.state == posture.Silent) && len(r.dead) < maxServers {
				r.dead[old.id] = death{old.seen, now}
			}
		}
	}
	if m.state != posture.LameDuck { // a lame duck's last answers may still be under way
		m.state = posture.Answering
	}
	m.missed = false
	m.name, m.cluster, m.seen, m.last, m.knownBy = who.name, cluster, now, now, "an earlier sweep"
}

// named notes a server that a peer knows. One that is already known keeps
// what is known of it.
func (r *roster) named(p peer, now time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	key := p.id
	if key == "" {
		for _, m := range r.members {
			if m.name == p.name {
				return
			}
		}
		key = "name:" + p.name
	}
	if m := r.members[key]; m != nil {
		if m.state != posture.Answering {
			m.seen, m.knownBy, m.gateways = now, p.by, p.gateways
		}
		return
	}
	if len(r.members) >= maxServers {
		return
	}
	r.members[key] = &member{id: p.id, name: p.name, cluster: p.cluster, knownBy: p.by, gateways: p.gateways, seen: now}
}

// Recall tells the collector of a server that an earlier run of the agent knew,
// so that its silence is noticed.
func (c *Collector) Recall(id, name, cluster string) {
	if plausibleID(id) && name != "" {
		c.roster.named(peer{id: id, name: name, cluster: cluster, by: "an earlier run"}, c.cfg.Now())
	}
}

// event notes a goodbye.
func (r *roster) event(id string, state posture.State) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if m := r.members[id]; m != nil {
		m.state = state
	}
}

// leaving reports whether a server has announced lame-duck mode.
func (r *roster) leaving(id string) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	m := r.members[id]
	return m != nil && m.state == posture.LameDuck
}

// silent lists the servers that are known and did not answer, and strikes
// off those of which nothing was heard for too long.
func (r *roster) silent(answered func(id string) bool, now time.Time, forget time.Duration) []member {
	r.mu.Lock()
	defer r.mu.Unlock()
	var out []member
	for key, m := range r.members {
		if answered(m.id) && m.state != posture.LameDuck {
			continue
		}
		if now.Sub(m.seen) > forget {
			delete(r.members, key)
			continue
		}
		if m.state == posture.Answering {
			m.state = posture.Silent
		}
		m.missed = true
		out = append(out, *m)
	}
	slices.SortFunc(out, func(a, b member) int { return strings.Compare(a.name+a.id, b.name+b.id) })
	return out
}

// peer is a server as another one knows it.
type peer struct {
	id, name, cluster string
	by                string
	gateways          bool // it is in the mesh that gateways make
}

// peersOf lists the ids of the servers that an answer names.
func peersOf(body any) []string {
	var ids []string
	for _, p := range peers(body, identity{}, "", "", false) {
		if p.id != "" {
			ids = append(ids, p.id)
		}
	}
	return ids
}

// peers lists the servers that an answer of one server names. A leafnode
// counts only when it joins the system account: others neither answer nor
// are counted by anybody.
func peers(body any, who identity, cluster, systemAccount string, gateways bool) []peer {
	var out []peer
	if _, ok := body.(*gatewayz); ok {
		gateways = true
	}
	add := func(id, name, cluster, source string) {
		if len(id) > maxID || strings.ContainsAny(id, " .*>\t\r\n") || id == "" && name == "" {
			return
		}
		if name = printable(name); name == "" {
			name = id
		}
		out = append(out, peer{id: id, name: name, cluster: printable(cluster), by: source + " of " + who.name, gateways: gateways})
	}
	switch b := body.(type) {
	case *routez:
		for _, r := range b.Routes {
			add(r.RemoteID, r.RemoteName, cluster, "ROUTEZ")
		}
	case *gatewayz:
		for name, gw := range b.Outbound {
			if gw != nil && gw.Connection != nil {
				add(gw.Connection.Name, "", name, "GATEWAYZ")
			}
		}
		for name, inbound := range b.Inbound {
			for _, gw := range inbound {
				if gw != nil && gw.Connection != nil {
					add(gw.Connection.Name, "", name, "GATEWAYZ")
				}
			}
		}
	case *leafz:
		for _, l := range b.Leafs {
			if systemAccount != "" && l.Account == systemAccount {
				add("", l.Name, "", "LEAFZ")
			}
		}
	}
	return out
}
