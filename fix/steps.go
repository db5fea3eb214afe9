package fix

import (
	"fmt"
	"strings"

	"github.com/natsentry/natsentry/agent/posture"
	"github.com/natsentry/natsentry/agent/release"
)

// textWidth is how wide comments are.
const textWidth = 78

// heading is what stands above each file: what it closes, where it goes, and
// what that does.
func (b *Bundle) heading(p part) string {
	var w strings.Builder
	names := make([]string, len(p.kind.doors))
	for i, d := range p.kind.doors {
		names[i] = d.String()
		if d == posture.Leafnode && p.kind.file == authFile {
			names[i] += fmt.Sprintf(" (since nats-server %s; before, it takes the mode leafnode)", release.GuardsLeafnodes.Since[0])
		}
	}
	comment(&w, fmt.Sprintf("Written by natsentry fix --mode %s. Closes to strangers, where the server has them: %s.", p.kind.mode, strings.Join(names, ", ")))
	fmt.Fprint(&w, "#\n")
	switch {
	case p.kind.block != "":
		comment(&w, fmt.Sprintf("Lay it beside the server's configuration file, and include it there, as the last line of the block %s:", p.kind.block))
		fmt.Fprintf(&w, "#\n#     %s {\n#       ...\n#       include %q\n#     }\n#\n", p.kind.block, p.kind.file)
	case b.plan.NoConfig:
		comment(&w, "The server runs without a configuration file. This can be it: nats-server -c "+p.kind.file+"; or include it in another one, as its last line:")
		fmt.Fprintf(&w, "#\n#     include %q\n#\n", p.kind.file)
	default:
		comment(&w, "Lay it beside the server's configuration file, and include it there, as its last line, outside of any block:")
		fmt.Fprintf(&w, "#\n#     include %q\n#\n", p.kind.file)
	}
	comment(&w, "Of two keys with the same name the last one counts: what stands here replaces what stood above it, so delete that. The path of an include is relative to the file that has it.")
	fmt.Fprint(&w, "#\n")
	comment(&w, "Then "+b.Apply()+".")
	effect := b.effect(p)
	if !b.Reload() {
		effect = restarted + " " + effect
	}
	comment(&w, effect)
	fmt.Fprint(&w, "\n")
	return w.String()
}

// entryHeading is what stands above a file that goes into the entry of a user.
func (b *Bundle) entryHeading(e entryFile) string {
	var w strings.Builder
	comment(&w, fmt.Sprintf("Written by natsentry fix. User %q of %s has no password: its name alone is enough to log in. Include this file in its entry, as the last line there:", e.user.Name, e.user.Place))
	rest := ""
	if e.user.Empty {
		rest = ", without the empty password"
	}
	fmt.Fprintf(&w, "#\n#     {\n#       user: %q\n#       ...%s\n#       include %q\n#     }\n\n", e.user.Name, rest, e.name)
	return w.String()
}

// Apply says how the server takes it.
func (b *Bundle) Apply() string {
	if b.plan.NoConfig {
		return "start the server again with -c: one that was started without a configuration file has none to reload"
	}
	if b.Reload() {
		return "reload the server: nats-server --signal reload"
	}
	return "restart the server: a reload does not apply this"
}

// comment writes running text as lines of a comment.
func comment(w *strings.Builder, running string) {
	line := "#"
	for word := range strings.FieldsSeq(running) {
		if len(line)+1+len(word) > textWidth && line != "#" {
			fmt.Fprintln(w, line)
			line = "#"
		}
		line += " " + word
	}
	fmt.Fprintln(w, line)
}
