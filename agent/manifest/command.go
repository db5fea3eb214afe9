package manifest

import (
	"fmt"
	"path"
	"regexp"
	"slices"
	"strings"

	"github.com/natsentry/natsentry/agent/conffile"
)

// command is how a container starts nats-server.
type command struct {
	args   []string // of nats-server; flags whose values are not known are left out
	config string   // path, "" for none
	image  bool     // the file is the one that the image names
	away   string   // why nothing is known of the configuration; "" where something is
	doubt  string   // what else is not known; "" if nothing is
	flag   string   // and of which flag; "" for any
}

// startsServer finds nats-server among the words of a shell command.
var startsServer = regexp.MustCompile(`(?:^|[\s/"'` + "`" + `;&|(])nats-server(?:$|[\s"'` + "`" + `;&|)])`)

const behindProgram = "a program before nats-server starts it, and how is not in the manifests"

// commandOf reads the command of a container. ok is false where it starts no
// server.
func (s *Set) commandOf(env *environment, container *node) (c command, ok bool) {
	img := imageOf(container.str("image"))
	program, words := container.items("command"), container.items("args")
	switch {
	case len(program) > 0: // it replaces the entrypoint of the image, and its arguments
		words = slices.Concat(program[1:], words)
		switch base := path.Base(inContainer(program[0].str())); {
		case base == "nats-server" || base == "nats-server.exe":
		case base == "docker-entrypoint.sh" && img.start == byScript:
			if words, ok = scriptArgs(words); !ok {
				return command{}, false
			}
		default:
			// It may start a server. Of images without nats-server nobody supposes that.
			return command{away: behindProgram}, img.server
		}
	case !img.server:
		return command{}, false
	case len(words) == 0:
		return command{image: true, config: img.config, away: img.why}, true
	case img.start == byItself:
	default:
		given := words
		if words, ok = scriptArgs(words); !ok {
			shell := slices.ContainsFunc(given, func(n *node) bool { return startsServer.MatchString(n.str()) })
			return command{away: behindProgram}, shell
		}
	}
	c.read(env, words)
	if len(program) == 0 && img.start == unknownStart && c.config == "" && c.away == "" {
		c.away = img.why // with a -c in its arguments, the entrypoint is taken to hand them on
	}
	inv, err := conffile.Invoke(c.args)
	return c, err != nil || inv.Serves
}

// scriptArgs are the arguments of nats-server out of those of the entrypoint of
// the Alpine images. ok is false where they run another program.
func scriptArgs(words []*node) (args []*node, ok bool) {
	switch {
	case len(words) == 0 || strings.HasPrefix(words[0].str(), "-"):
		return words, true
	case path.Base(words[0].str()) == "nats-server":
		return words[1:], true
	default:
		return nil, false
	}
}

// read reads the arguments of nats-server.
func (c *command) read(env *environment, words []*node) {
	for i := 0; i < len(words); i++ {
		word, unknown := env.expand(words[i].str())
		if len(unknown) == 0 {
			c.args = append(c.args, word)
			continue
		}
		name, _, joined := strings.Cut(strings.TrimLeft(word, "-"), "=")
		if !strings.HasPrefix(word, "-") || !joined {
			last := len(c.args) - 1
			if last < 0 || !strings.HasPrefix(c.args[last], "-") || strings.Contains(c.args[last], "=") || strings.HasPrefix(word, "-") {
				c.doubt, c.flag = "its flags are not in the manifests: "+env.why(unknown[0]), ""
				continue
			}
			name = strings.TrimLeft(c.args[last], "-")
			c.args = c.args[:last]
		}
		if name == "pass" && slices.ContainsFunc(words, func(n *node) bool { return strings.HasPrefix(strings.TrimLeft(n.str(), "-"), "user") }) {
			continue // who is asked for the name of a user is kept out without one
		}
		if !conffile.Indifferent(name) {
			if c.flag = name; c.doubt != "" {
				c.flag = ""
			}
			c.doubt = fmt.Sprintf("the value of its flag --%.30s is not in the manifests: %s", name, env.why(unknown[0]))
		}
	}
	inv, err := conffile.Invoke(c.args)
	if err != nil {
		c.args, c.doubt, c.away = nil, "", "nats-server does not take its flags"
		return
	}
	c.config = inv.Config
	if c.doubt != "" && (c.flag == "c" || c.flag == "config" || c.flag == "" && c.config == "") {
		c.away = c.doubt // any file
	}
}
