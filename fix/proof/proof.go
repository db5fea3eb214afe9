package proof

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/natsentry/natsentry/agent/posture"
	"github.com/natsentry/natsentry/agent/probe"
	"github.com/natsentry/natsentry/fix"
	"github.com/natsentry/natsentry/integration/fleet"
)

// patience is how long one attempt may take. Where it is needed, something is
// wrong, or the machine is very busy.
const patience = 20 * time.Second

// Row is one attempt on one door.
type Row struct {
	Door     posture.DoorKind
	Who      string
	Stranger bool
	Before   posture.Access // of a stranger: before the configuration was applied
	Want     posture.Access
	Access   posture.Access // Open: he was let in; Closed: he was refused
	How      string         // what the server said, or what went wrong
}

// Holds tells whether it came out as it must. That a stranger is refused proves
// something only where he was let in before.
func (r Row) Holds() bool {
	return r.Access == r.Want && (!r.Stranger || r.Before == posture.Open)
}

// Result is what all attempts came to.
type Result struct {
	Version string // of the nats-server
	Rows    []Row
}

// Failed are the attempts that did not come out as they must.
func (r *Result) Failed() []Row {
	return slices.DeleteFunc(slices.Clone(r.Rows), Row.Holds)
}

// Run proves a bundle, on those of its doors that are named; on all of them when
// none is. An error means that it could not be tried: the server refused the
// configuration, say.
func Run(ctx context.Context, b *fix.Bundle, doors ...posture.DoorKind) (*Result, error) {
	dir, err := os.MkdirTemp("", "natsentry-fix-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	p := &prover{b: b, dir: dir, fleet: nil}
	p.doors = b.Closes()
	if len(doors) > 0 {
		p.doors = slices.DeleteFunc(p.doors, func(d posture.DoorKind) bool { return !slices.Contains(doors, d) })
	}
	if len(p.doors) == 0 {
		return nil, errors.New("it closes none of the doors that this server has")
	}
	out, err := p.run(ctx)
	if p.fleet != nil {
		err = errors.Join(err, p.fleet.Close())
	}
	return out, err
}

type prover struct {
	b       *fix.Bundle
	dir     string
	doors   []posture.DoorKind
	fleet   *fleet.Fleet
	out     Result
	service []*nats.Conn
}

// standIn is a server in place of the user's. MQTT has one of its own: it needs
// JetStream, and that does not work in a cluster of one. So has the gateway:
// beside leafnodes it needs a system account with a name.
type standIn struct {
	name  string
	doors []posture.DoorKind
}

func (p *prover) standIns() []standIn {
	all := []standIn{{name: "proof"}, {name: "proof-mqtt"}, {name: "proof-gateway"}}
	for _, d := range p.doors {
		i := map[posture.DoorKind]int{posture.MQTT: 1, posture.Gateway: 2}[d]
		all[i].doors = append(all[i].doors, d)
	}
	return slices.DeleteFunc(all, func(s standIn) bool { return len(s.doors) == 0 })
}

func (s standIn) has(d posture.DoorKind) bool { return slices.Contains(s.doors, d) }

// place is where the bundle lies for a server of the proof.
func (p *prover) place(name string) fix.Place {
	return fix.Place{TLS: filepath.ToSlash(filepath.Join(p.dir, "tls")), Resolver: filepath.ToSlash(filepath.Join(p.dir, "jwt-"+name))}
}

// clusterName is that of the stand-in, and of its gateway.
const clusterName = "proof"

// config is the configuration of a stand-in: as it was found, and then with the
// includes.
func (p *prover) config(s standIn, fixed bool) string {
	var w strings.Builder
	found := p.b.Found(p.place(s.name))
	in := map[string]string{}
	last := ""
	for _, i := range p.b.Includes() {
		include := ""
		if fixed {
			include = fmt.Sprintf("include %q\n", i.File)
		}
		switch {
		case i.User != nil:
			found = strings.ReplaceAll(found, i.Mark, include)
		case i.Block == "":
			last = include
		default:
			in[i.Block] = i.Found + include
		}
	}
	w.WriteString(found)
	block := func(door posture.DoorKind, name, lines string) {
		if s.has(door) {
			fmt.Fprintf(&w, "%s {\n  listen: \"{{addr %q}}\"\n%s%s}\n", name, door, lines, in[name])
		}
	}
	block(posture.Websocket, "websocket", "no_tls: true\n")
	block(posture.MQTT, "mqtt", "")
	block(posture.Leafnode, "leafnodes", "")
	block(posture.Route, "cluster", "name: "+clusterName+"\n")
	block(posture.Gateway, "gateway", "name: "+clusterName+"\n")
	if s.has(posture.MQTT) {
		w.WriteString("jetstream { store_dir: \"{{dir}}/jetstream\" }\n")
	}
	return w.String() + last
}

// files are what is written beside the configuration of a server.
func (p *prover) files(at fix.Place) map[string]string {
	files := map[string]string{}
	for _, f := range p.b.Files(at) {
		files[path.Base(f.Name)] = f.Text
	}
	return files
}

func (p *prover) run(ctx context.Context) (*Result, error) {
	if err := p.writeTLS(); err != nil {
		return nil, err
	}
	all := p.standIns()
	specs := make([]fleet.Spec, len(all))
	for i, s := range all {
		specs[i] = fleet.Spec{Name: s.name, Config: p.config(s, false), Files: p.files(p.place(s.name))}
	}
	var err error
	if p.fleet, err = fleet.Start(ctx, specs...); err != nil {
		return nil, fmt.Errorf("start a server as it was found: %w", err)
	}
	varz, err := p.fleet.Server(all[0].name).Embedded().Varz(nil)
	if err != nil {
		return nil, err
	}
	p.out.Version = varz.Version
	before := map[string][]posture.Touch{}
	for _, s := range all {
		before[s.name] = p.touch(ctx, s)
	}
	defer func() {
		for _, nc := range p.service {
			nc.Close()
		}
	}()
	if err := p.change(ctx, all); err != nil {
		return nil, err
	}
	if err := p.await(ctx); err != nil {
		return nil, err
	}
	for _, s := range all {
		p.strangers(ctx, s, before[s.name])
		if err := p.lint(s); err != nil {
			return nil, err
		}
	}
	for _, s := range all {
		if err := p.members(ctx, s); err != nil {
			return nil, err
		}
	}
	p.logins(ctx, all[0])
	return &p.out, ctx.Err()
}

// change applies the bundle to all stand-ins. An auth callout service is started
// first, as the bundle advises, unless the server knows users already: then it
// refuses the service before.
func (p *prover) change(ctx context.Context, all []standIn) error {
	if !p.b.Asks() {
		if err := p.serve(all); err != nil {
			return err
		}
	}
	for _, s := range all {
		if err := p.apply(ctx, s); err != nil {
			return err
		}
	}
	if p.b.Asks() {
		return p.serve(all)
	}
	return nil
}

// writeTLS lays certificates where the configuration says that they are.
func (p *prover) writeTLS() error {
	at := p.place("")
	for _, f := range p.b.Files(at) {
		if path.Dir(f.Name) != "tls" {
			continue
		}
		if err := os.MkdirAll(at.TLS, 0o700); err != nil {
			return err
		}
		if err := os.WriteFile(filepath.Join(at.TLS, path.Base(f.Name)), []byte(f.Text), 0o600); err != nil {
			return err
		}
	}
	return nil
}

// apply does what the bundle says: it has the server reload its configuration,
// or restarts it.
func (p *prover) apply(ctx context.Context, s standIn) error {
	srv := p.fleet.Server(s.name)
	if p.b.Reload() {
		if err := srv.Reload(ctx, p.config(s, true)); err != nil {
			return fmt.Errorf("reload with the new configuration: %w", err)
		}
		return nil
	}
	if err := srv.Rewrite(p.config(s, true)); err != nil {
		return err
	}
	if err := srv.Stop(ctx); err != nil {
		return err
	}
	if err := srv.Restart(ctx); err != nil {
		return fmt.Errorf("restart with the new configuration: %w", err)
	}
	return nil
}

// touch comes to all doors as a stranger.
func (p *prover) touch(ctx context.Context, s standIn) []posture.Touch {
	srv := p.fleet.Server(s.name)
	prober := probe.Prober{Timeout: patience, MQTT: true}
	var out []posture.Touch
	for _, d := range s.doors {
		out = append(out, prober.Touch(ctx, probe.Target{Door: d, Address: srv.Addr(d.String()), ServerID: srv.ID()}))
	}
	if s.has(posture.Websocket) && s.has(posture.Leafnode) {
		out = append(out, prober.Touch(ctx, probe.Target{
			Door: posture.Websocket, Path: posture.LeafnodePath, Address: srv.Addr(posture.Websocket.String()), ServerID: srv.ID(),
		}))
	}
	return out
}

func (p *prover) strangers(ctx context.Context, s standIn, before []posture.Touch) {
	for i, t := range p.touch(ctx, s) {
		r := Row{Door: t.Door, Who: "a stranger", Stranger: true, Before: before[i].Access, Want: posture.Closed, Access: t.Access, How: t.Answer + t.Reason}
		if t.Path != "" {
			r.Door, r.Who = posture.Leafnode, "a stranger, over websocket"
		}
		if r.Before != posture.Open {
			r.How = "he was not let in before: " + before[i].Answer + before[i].Reason
		}
		p.out.Rows = append(p.out.Rows, r)
	}
}

// until waits for a condition.
func until(ctx context.Context, done func() bool) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for !done() {
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-tick.C:
		}
	}
	return nil
}
