package main

import (
	"bufio"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/jedib0t/go-pretty/v6/table"

	"github.com/natsentry/natsentry/agent/finding"
	"github.com/natsentry/natsentry/agent/posture"
	"github.com/natsentry/natsentry/fix"
	"github.com/natsentry/natsentry/fix/proof"
)

// fixText tells what was proven, what was written, and what is left to do. No
// secret is in it: it names files.
type fixText struct {
	style
	b      *fix.Bundle
	s      *fixSubject
	dir    string
	files  []file
	place  fix.Place
	result *proof.Result
}

func (t fixText) failed(w *bufio.Writer) error {
	fmt.Fprintf(w, "%s\n\n", t.in(red, "This does not hold:"))
	t.table(w, t.result.Failed())
	return nil
}

func (t fixText) done(w *bufio.Writer) error {
	t.subject(w)
	how := "reloaded"
	if !t.b.Reload() {
		how = "restarted"
	}
	fmt.Fprintf(w, "%s with nats-server %s on loopback, which was open and was %s with this:\n\n", t.in(green, "Proven"), clean(t.result.Version), how)
	t.table(w, t.result.Rows)
	if t.s.server != nil && t.s.server.Version != t.result.Version {
		fmt.Fprintf(w, "%s runs %s, which was not tried.\n", clean(t.s.server.Name), clean(t.s.server.Version))
	}
	fmt.Fprintf(w, "\n%s into %s, for their owner only:\n", t.in(bold, "Written"), cleanLines(t.dir))
	for _, f := range t.files {
		fmt.Fprintf(w, "  %s\n", f.name)
	}
	fmt.Fprintln(w)
	t.steps(w)
	t.others(w)
	return nil
}

func (t fixText) subject(w *bufio.Writer) {
	for _, f := range t.s.findings {
		if len(fix.For(f.Check, f.Cause).Modes) > 0 || len(t.s.findings) == 1 {
			fmt.Fprintf(w, "%s  %s\n", t.in(bold, clean(f.Check)), clean(f.Summary))
		}
	}
	if len(t.s.findings) > 0 {
		fmt.Fprintln(w)
	}
}

func (t fixText) table(w *bufio.Writer, rows []proof.Row) {
	tw := table.NewWriter()
	tw.SetStyle(tableStyle())
	tw.SuppressTrailingSpaces()
	tw.AppendRow(table.Row{"DOOR", "WHO", "BEFORE", "NOW", "ANSWER"})
	word := map[posture.Access]string{posture.Open: "in", posture.Closed: "refused", posture.Unknown: "?"}
	for _, r := range rows {
		before := "-"
		if r.Stranger {
			before = word[r.Before]
		}
		colour := green
		if !r.Holds() {
			colour = red
		}
		tw.AppendRow(table.Row{r.Door.String(), clean(r.Who), before, t.in(colour, word[r.Access]), clean(t.b.Scrub(r.How))})
	}
	fmt.Fprintf(w, "%s\n", tw.Render())
}

// steps says what is left to do.
func (t fixText) steps(w *bufio.Writer) {
	n := 0
	step := func(format string, args ...any) {
		n++
		fmt.Fprintf(w, "%d. ", n)
		for i, line := range wrap(fmt.Sprintf(format, args...), textWidth-3) {
			if i > 0 {
				fmt.Fprint(w, "   ")
			}
			fmt.Fprintln(w, line)
		}
		fmt.Fprintln(w)
	}
	code := func(lines ...string) {
		for _, l := range lines {
			fmt.Fprintf(w, "     %s\n", l)
		}
		fmt.Fprintln(w)
	}
	if ends := t.b.Expire(); !ends.IsZero() {
		fmt.Fprintf(w, "New credentials end on %s.\n\n", ends.UTC().Format(time.DateOnly))
	}
	if logins := t.logins(); len(logins) > 0 {
		step("Hand out what is secret, each to whom it belongs, and delete it here. With it, they log in like this:")
		code(logins...)
	}
	if t.b.Has(fix.Operator) {
		step("Keep the seeds of the operator and of the accounts where no server is: who has them makes accounts and users. The signing ones are for that, the others for the day when a signing one leaks.")
	}
	if t.b.Authority() != nil {
		step("Keep secrets/ca-key.pem where no server is: it makes certificates with which to come in.")
	}
	if t.b.Service != nil {
		step("Build the auth callout service, and start it where it reaches the server. It lets in whom callout.json lists; its function admit is the place for anything else:")
		code("cd "+quoted(filepath.Join(t.dir, "callout"))+" && go mod init callout && go mod tidy && go build", "./callout nats://SERVER:4222 ../secrets/callout.json")
	}
	t.install(step, code)
	for _, note := range t.peersHave() {
		step("%s", note)
	}
	effects := strings.Join(t.b.Effects(), " ")
	switch {
	case t.noConfig():
		step("Start it again so, one server after the other. %s", effects)
	case t.b.Reload():
		step("Reload, one server after the other: nats-server --signal reload, or systemctl reload. %s", effects)
	default:
		step("Restart, one server after the other; a reload does not apply this. %s", effects)
	}
	if t.b.Has(fix.Leafnode) {
		step("On servers that join as leafnodes, include secrets/leafnode-remote.conf in the block leafnodes, and restart them.")
		if t.place.Leafnode == "" {
			code("put the address of this server in the place of HUB")
		}
	}
	step("See that it is closed, with natsentry audit, or from where a stranger would come:")
	code(t.look())
}

// noConfig reports whether the server was started with flags alone: then there is
// nothing to include a file in, and nothing to reload.
func (t fixText) noConfig() bool { return t.b.NoConfig() }

// install says where the files go.
func (t fixText) install(step func(string, ...any), code func(...string)) {
	includes := t.include()
	same := ""
	if slices.ContainsFunc(t.b.Modes, fix.OfClients) {
		same = " Clients move within a cluster, so all its servers must know the same users: give all of them the same files."
	}
	const private = " Nobody but the server should be able to read it."
	switch {
	case t.noConfig() && len(includes) == 1 && !t.b.Has(fix.TLSMap):
		step("Copy %s to the server, and start it with -c %s beside the flags that it has."+private+same, t.toCopy()[0], t.toCopy()[0])
	case t.noConfig():
		step("Copy %s to the server, and write a configuration file beside them that includes them. Start the server with -c and that file beside the flags that it has."+private+same, strings.Join(t.toCopy(), ", "))
		code(includes...)
		if t.b.Has(fix.Route) {
			step("Take --cluster, --cluster_listen and --routes from the command line into the block cluster, as listen and routes: a cluster URL on the command line without a user takes the user and password of the block away.")
		}
	default:
		where := "Copy %s beside the configuration file of the server, and include it there: "
		switch blocks, last := t.b.Places(); {
		case blocks && last:
			where += "in its block, or as the last line outside of any block."
		case blocks:
			where += "as the last line of its block."
		default:
			where += "as the last line, outside of any block."
		}
		where += " Two keys of one name do not add up, the last one counts."
		step(where+private+same, strings.Join(t.toCopy(), ", "))
		code(includes...)
		t.toDelete(step, code)
	}
}

// toDelete names what the new files replace.
func (t fixText) toDelete(step func(string, ...any), code func(...string)) {
	if t.s.original == nil {
		if keys := t.b.Replaces(t.place); len(keys) > 0 {
			step("Delete what the new files replace, if the configuration has it: %s. With --config FILE, natsentry fix names the lines, and carries over what must stay.", strings.Join(keys, ", "))
		}
		return
	}
	if lines := t.s.original.toDelete(t.b, t.place); len(lines) > 0 {
		step("Delete what the new files replace, each to its end:")
		code(lines...)
	}
}

// look is a command that tries the doors that were closed.
func (t fixText) look() string {
	var addresses []string
	for _, door := range t.b.Closes() {
		if door == posture.MQTT { // which natsentry probe leaves alone
			continue
		}
		a := ""
		switch {
		case t.s.server != nil:
			a = address(t.s.server, door)
		case t.s.original != nil:
			a = t.s.original.address(door)
		}
		if a != "" {
			addresses = append(addresses, quoted(a))
		}
	}
	switch {
	case len(addresses) > 0:
		return "natsentry probe " + strings.Join(addresses, " ")
	case t.s.server != nil:
		return "natsentry audit --probe-mqtt"
	default:
		for _, door := range t.b.Closes() {
			if port := usualPorts[door]; port != "" {
				addresses = append(addresses, "SERVER:"+port)
			}
		}
		if len(addresses) == 0 {
			return "natsentry audit --probe-mqtt"
		}
		return "natsentry probe " + strings.Join(addresses, " ")
	}
}

// usualPorts are those of a server whose own are not known. Websocket ports have
// no usual one.
var usualPorts = map[posture.DoorKind]string{posture.Client: "4222", posture.Leafnode: "7422", posture.Route: "6222", posture.Gateway: "7222"}

// peersHave warns where other servers ask for something already: then a new
// secret would keep this one apart from them.
func (t fixText) peersHave() []string {
	if t.s.server == nil {
		return nil
	}
	var notes []string
	note := func(kind posture.DoorKind, say string) {
		var names []string
		for i := range t.s.report.Servers {
			srv := &t.s.report.Servers[i]
			d := doorOf(srv, kind)
			// A super-cluster has one password, a cluster one of its own.
			near := kind == posture.Gateway || srv.Cluster == t.s.server.Cluster && srv.Cluster != ""
			if srv.ID != t.s.server.ID && near && d != nil && d.Access == posture.Closed {
				names = append(names, short(srv.Name))
			}
		}
		if len(names) > 0 {
			more := ""
			if len(names) > shownSubjects {
				names, more = names[:shownSubjects], " and others"
			}
			notes = append(notes, strings.Join(names, ", ")+more+say)
		}
	}
	if slices.ContainsFunc(t.b.Modes, fix.OfClients) {
		note(posture.Client, " of the same cluster ask for credentials already. Clients move between these servers: if they should, give this one the users that the others have, in the place of the new ones.")
	}
	if t.b.Has(fix.Route) {
		note(posture.Route, " of the same cluster ask for a password already. This server needs theirs: put it into cluster.conf in the place of the new one, or give the new one to all of them.")
	}
	if t.b.Has(fix.Gateway) {
		note(posture.Gateway, " ask for a password at their gateways already. This server needs theirs: put it into gateway.conf in the place of the new one, or give the new one to all of them.")
	}
	return notes
}

// include says where the files go.
func (t fixText) include() []string {
	var lines []string
	last := ""
	for _, i := range t.b.Includes() {
		if i.User != nil {
			rest := "  # ... what is there"
			if i.User.Empty {
				rest += ", without the empty password"
			}
			lines = append(lines, "{", fmt.Sprintf("  user: %q   # %s", i.User.Name, i.User.Place), rest, fmt.Sprintf("  include %q", i.File), "}")
			continue
		}
		if i.Block == "" {
			last = fmt.Sprintf("include %q", i.File)
			continue
		}
		lines = append(lines, i.Block+" {", "  # ... what is there", fmt.Sprintf("  include %q", i.File), "}")
	}
	if last != "" {
		lines = append(lines, last)
	}
	return lines
}

// logins are commands that log in, by the secret files.
func (t fixText) logins() []string {
	var out []string
	add := func(format string, args ...any) {
		out = append(out, fmt.Sprintf("nats --server nats://SERVER:4222 "+format+" rtt", args...))
	}
	for _, l := range t.b.Logins {
		at := quoted(filepath.Join(t.dir, filepath.FromSlash(l.File)))
		switch {
		case l.File == "": // the user's own certificate
		case l.By == fix.ByPassword:
			add("--user %s --password \"$(cat %s)\"", l.Name, at)
		case l.By == fix.ByNKey:
			add("--nkey %s", at)
		case l.By == fix.ByCredentials:
			add("--creds %s", at)
		case l.By == fix.ByCertificate:
			add("--tlscert %s --tlskey %s --tlsca %s", at, quoted(filepath.Join(t.dir, "secrets", l.Name+"-key.pem")), quoted(filepath.Join(t.dir, "tls", "ca.pem")))
		}
	}
	return out
}

// others tells of doors of the server that stay open.
func (t fixText) others(w *bufio.Writer) {
	if t.s.server == nil {
		return
	}
	var open []string
	closes := t.b.Closes()
	for i := range t.s.report.Findings {
		f := &t.s.report.Findings[i]
		if f.Scope.ServerID != t.s.server.ID || f.Action == finding.Resolved || slices.Contains(t.s.findings, f) || slices.Contains(closes, f.Scope.Door) {
			continue
		}
		if d := doorOf(t.s.server, f.Scope.Door); d != nil && d.Access == posture.Open && !slices.Contains(open, f.Scope.Door.String()) {
			open = append(open, f.Scope.Door.String())
		}
	}
	if len(open) > 0 {
		fmt.Fprintf(w, "This leaves doors of %s open: %s.\n", clean(t.s.server.Name), strings.Join(open, ", "))
	}
}

// toCopy are the files for the server.
func (t fixText) toCopy() []string {
	var out []string
	for _, i := range t.b.Includes() {
		out = append(out, i.File)
	}
	if t.b.Has(fix.TLSMap) && t.b.Authority() != nil {
		out = append(out, "and the folder tls to "+clean(t.place.TLS))
	}
	return out
}
