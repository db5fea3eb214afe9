package manifest

import (
	"fmt"
	"path"
	"slices"
	"strings"

	"github.com/natsentry/natsentry/agent/conffile"
)

// command is how a container starts nats-server.
type command struct {
	args   []string // of nats-server; flags whose values are not known are left out
	config string   // path, "" for none
	image  bool     // the file is the one of the image
	doubt  string   // what is not known of it; "" if nothing is
	flag   string   // and of which flag; "" for any
}

// commandOf reads the command of a container. ok is false where it starts no
// server.
func (s *Set) commandOf(env *environment, container *node) (c command, ok bool) {
	image, _ := isServer(container.str("image"))
	var words []*node
	words = append(words, container.items("command")...)
	if len(words) > 0 {
		if base := path.Base(words[0].str()); base != "nats-server" {
			// A shell or the like. That nobody can tell is told for images of
			// nats-server only.
			return command{doubt: "a program before nats-server starts it, and nobody knows how"}, image
		}
		words = words[1:]
	} else if !image {
		return command{}, false
	}
	given := container.items("args")
	if len(words) == 0 && len(container.items("command")) == 0 && len(given) > 0 && path.Base(given[0].str()) == "nats-server" {
		given = given[1:]
	} else if len(container.items("command")) == 0 && len(given) > 0 && !strings.HasPrefix(given[0].str(), "-") {
		return command{}, false // another program of the image
	}
	words = append(words, given...)
	if len(words) == 0 && len(container.items("command")) == 0 {
		return command{image: true, config: "/etc/nats/nats-server.conf"}, true
	}
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
		c.args, c.doubt, c.flag = nil, "nats-server does not take its flags", ""
		return c, true
	}
	c.config = inv.Config
	return c, inv.Serves
}
