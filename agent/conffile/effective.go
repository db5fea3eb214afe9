package conffile

import (
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/nats-io/jwt/v2"
	"github.com/nats-io/nats-server/v2/server"

	"github.com/natsentry/natsentry/agent/conffile/syntax"
	"github.com/natsentry/natsentry/agent/posture"
)

// reading is a configuration on its way to what nats-server makes of it.
type reading struct {
	src     Source
	tree    *syntax.Tree
	flags   *flags
	secrets []string

	config    *posture.Config
	variables []*unsetVariable // those without a value
	of        map[*syntax.Node]*unsetVariable
	used      map[*syntax.Node]bool // nodes to which variables refer
	left      map[*syntax.Node]bool

	operators []*jwt.OperatorClaims // nil for one whose file cannot be read
	preloads  map[string]string
	sentinel  string
	size      int // lines of what nats-server is given

	guestNames map[string]bool        // users that a no_auth_user names
	anyGuest   bool                   // one is named by a variable without a value
	deciding   map[posture.Unset]bool // variables without a value on which the verdict on a door depends
	harmless   map[posture.Unset]bool // variables without a value on which no door hangs
}

// effective is what nats-server makes of a configuration, without side effects.
type effective struct {
	opts      *server.Options // nil where it does not start
	refused   []posture.Remark
	undecided bool // no value of its variables was found with which it starts
}

// mostAttempts bounds how often nats-server is asked about one configuration, and
// mostAsked how many lines it is given in all of that.
const (
	mostAttempts = 128
	mostAsked    = 400000
)

// attempts is how often nats-server may be asked about a configuration of this size.
func (r *reading) attempts() int { return max(2, min(mostAttempts, mostAsked/max(r.size, 1))) }

// mostRefused bounds the complaints of nats-server that are told.
const mostRefused = 100

// effective asks nats-server's own option handling, and then its NewServer,
// which makes up some options, such as the hidden user. What has side effects
// or needs other files is replaced before. Variables without a value keep the
// meanings with which it started.
func (r *reading) effective() effective {
	e := r.attempt(true)
	if e.opts != nil || len(r.variables) == 0 {
		return e
	}
	// What is refused whatever the variables stand for, is refused.
	certain := r.certain(e.refused)
	if slices.ContainsFunc(certain, func(a posture.Remark) bool { return strings.HasPrefix(a.Text, "unknown field ") }) {
		return effective{refused: certain} // no value makes a key known
	}
	// First those that it complains about.
	inOrder := slices.Clone(r.variables)
	blamed := func(v *unsetVariable) int {
		if slices.ContainsFunc(e.refused, func(a posture.Remark) bool {
			return slices.ContainsFunc(v.uses, func(u posture.Unset) bool { return u.Place == a.Place })
		}) {
			return 0
		}
		return 1
	}
	slices.SortStableFunc(inOrder, func(a, b *unsetVariable) int { return blamed(a) - blamed(b) })
	left := r.attempts()
	for _, v := range inOrder {
		was := v.at
		for i := range v.meanings {
			if v.at = i; i == was || left == 0 {
				continue
			}
			left--
			e := r.attempt(false)
			if e.opts != nil {
				return e
			}
			certain = slices.DeleteFunc(certain, func(a posture.Remark) bool { return !slices.Contains(e.refused, a) })
		}
		if v.at = was; left == 0 || len(certain) == 0 {
			break
		}
	}
	if len(certain) == 0 {
		return effective{undecided: true}
	}
	return effective{refused: certain}
}

// certain leaves out complaints about what stands for a variable.
func (r *reading) certain(refused []posture.Remark) []posture.Remark {
	return slices.DeleteFunc(slices.Clone(refused), func(a posture.Remark) bool {
		return r.withoutStandIns(a.Text) != a.Text || slices.ContainsFunc(r.config.Unset, func(u posture.Unset) bool {
			return u.Place == a.Place && !strings.HasPrefix(a.Text, "unknown field ")
		})
	})
}

// attempt asks nats-server once about what the variables stand for. Unknown keys
// that only give a variable its value are taken out when it complains about them.
// With search, variables that it complains about get another meaning.
func (r *reading) attempt(search bool) effective {
	var e effective
	for range r.attempts() {
		var again bool
		if e, again = r.ask(search); !again {
			break
		}
	}
	return e
}

func (r *reading) ask(search bool) (e effective, again bool) {
	enc := &encoder{instead: r.instead}
	enc.block(r.tree.Root)
	if enc.bad != nil {
		return effective{refused: []posture.Remark{{Place: placeOf(enc.bad.Pos), Text: "a key of which nobody knows what it is"}}}, false
	}
	r.size = len(enc.lines)
	r.addOperator(enc)
	o, err := process(enc.buf.String(), r.flags)
	if err == nil {
		if e.refused = r.unstartable(o); len(e.refused) > 0 {
			return e, false
		}
		return effective{opts: o}, false
	}
	for _, err := range each(err) {
		node, text := r.locate(enc, err)
		unknown := strings.HasPrefix(text, "unknown field ")
		switch {
		case unknown && r.used[node] && !r.left[node]:
			// A key that only gives a variable its value.
			r.left[node] = true
			again = true
		case search && !unknown && node != nil && node.Unset && r.of[node].another():
			again = true
		case search && r.named(text).another():
			again = true
		case len(e.refused) < mostRefused:
			if node == nil {
				node = r.blamed(text)
			}
			e.refused = append(e.refused, posture.Remark{Place: r.placeOf(node, text), Text: advise(scrub(r.plainly(node, text), r.secrets))})
		}
	}
	if again {
		return effective{}, true
	}
	e.refused = withoutEchoes(e.refused)
	slices.SortFunc(e.refused, func(a, b posture.Remark) int { return comparePlaces(a.Place, b.Place, a.Text, b.Text) })
	return e, false
}

func scrub(text string, secrets []string) string {
	for _, s := range secrets {
		text = strings.ReplaceAll(text, s, masked)
	}
	return text
}

// advise says what to do about a complaint that does not tell it.
func advise(text string) string {
	key, unknown := strings.CutPrefix(text, "unknown field ")
	switch {
	case unknown && strings.HasPrefix(key, `"\ufeff`):
		return text + ": " + syntax.MarkAdvice
	case strings.HasPrefix(text, `could not fetch <"/accounts/">`):
		return "an operator whose JWT names no account server needs a resolver: name one under resolver"
	case unknown && strings.HasPrefix(key, `".`):
		return text + ": it looks like a template; lint what it renders"
	}
	return text
}

func comparePlaces(a, b posture.Place, ta, tb string) int {
	if c := strings.Compare(a.File, b.File); c != 0 {
		return c
	}
	if a.Line != b.Line {
		return a.Line - b.Line
	}
	if a.Column != b.Column {
		return a.Column - b.Column
	}
	return strings.Compare(ta, tb)
}

// process lets nats-server handle options. It panics on nothing.
func process(text string, f *flags) (o *server.Options, err error) {
	defer func() {
		if bug := recover(); bug != nil {
			o, err = nil, errors.New("nats-server crashes on it")
		}
	}()
	o = &server.Options{NoLog: true, NoSigs: true}
	f.before(o)
	if err := o.ProcessConfigString(text); err != nil {
		var several interface{ Errors() []error }
		if !errors.As(err, &several) {
			return nil, err
		}
		if all := several.Errors(); len(all) > 0 { // the others are warnings
			return nil, errors.Join(all...)
		}
	}
	if err := f.apply(o); err != nil {
		return nil, err
	}
	s, err := server.NewServer(o)
	if err != nil {
		return nil, err
	}
	s.Shutdown()
	return o, nil
}

func each(err error) []error {
	var several interface{ Unwrap() []error }
	if errors.As(err, &several) {
		return several.Unwrap()
	}
	return []error{err}
}

// atLine is how nats-server tells where an error is.
var atLine = regexp.MustCompile(`(?s)^:(\d+):-?\d+: (.*)$`)

// locate leads an error back to the tree.
func (r *reading) locate(enc *encoder, err error) (*syntax.Node, string) {
	text := err.Error()
	if m := atLine.FindStringSubmatch(text); m != nil {
		line, _ := strconv.Atoi(m[1])
		return enc.at(line), m[2]
	}
	return nil, text
}

// placeOf is the place of an error: that of its node, or of the key that it
// speaks of.
func (r *reading) placeOf(n *syntax.Node, text string) posture.Place {
	if n != nil {
		return placeOf(n.Pos)
	}
	words := strings.ToLower(strings.NewReplacer(" ", "_", "-", "_", "`", "").Replace(text))
	var best *syntax.Entry
	for _, e := range r.tree.Root.Entries {
		key := canonical(e.Key)
		if e.Replaced == nil && len(key) > 3 && (strings.Contains(words, key) || strings.Contains(words, strings.TrimSuffix(key, "s"))) &&
			(best == nil || len(key) > len(canonical(best.Key))) {
			best = e
		}
	}
	if best != nil {
		return placeOf(best.Pos)
	}
	return r.src.place(r.src.path(), 1, 1)
}

// unsetPrefix begins the text that stands in for a variable without a value.
const unsetPrefix = "natsentry-unset-"

var unsetNumber = regexp.MustCompile(unsetPrefix + `(\d+)`)

// files are keys of TLS blocks whose files, stores and answers are not needed
// to tell who gets in.
var files = []string{"cert_file", "key_file", "ca_file", "certs", "cert_store", "cert_match", "cert_match_by", "ca_certs_match", "cert_match_skip_invalid", "ocsp_peer"}

// away are top-level keys without effect on doors, and with an effect on the
// machine.
var away = []string{
	"logfile", "log_file", "syslog", "remote_syslog", "pidfile", "pid_file", "ports_file_dir", "ocsp", "ocsp_cache", "resolver_tls",
	"operator", "resolver", "resolver_preload", "default_sentinel", "resolver_pinned_accounts",
}

// reduce marks what nats-server is not given, and reads what it would have
// read of it.
func (r *reading) reduce() {
	r.left, r.used = map[*syntax.Node]bool{}, map[*syntax.Node]bool{}
	walk(r.tree.Root, nil, func(path []string, in *syntax.Map, e *syntax.Entry) {
		key := last(path)
		if e.Used {
			r.used[e.Node] = true
		}
		switch {
		case len(path) == 1 && slices.Contains(away, key):
			r.left[e.Node] = true
		case len(path) > 1 && path[len(path)-2] == "tls" && slices.Contains(files, key):
			r.left[e.Node] = true
			if _, ok := e.Node.Value.(string); ok && (key == "cert_file" && get(in, "key_file") == nil || key == "key_file" && get(in, "cert_file") == nil) {
				r.refuse(e, "'cert_file' and 'key_file' go together in a TLS configuration")
			}
		case key == "credentials" || key == "creds":
			// nats-server looks for the folder of the user in it.
			if _, ok := e.Node.Value.(string); ok && len(path) > 2 {
				r.left[e.Node] = true
			}
		case key == "store_dir":
			r.left[e.Node] = true
		case len(path) == 2 && path[0] == "accounts" && e.Used:
			r.left[e.Node] = true // no account, but a variable
		}
	})
	root := r.tree.Root
	if e := get(root, "system_account"); e != nil && (get(root, "operator") != nil || get(root, "trusted_keys") != nil) {
		r.left[e.Node] = true // it would be looked up
	}
	r.readOperators()
}

func (r *reading) refuse(e *syntax.Entry, format string, v ...any) {
	r.config.Refused = append(r.config.Refused, posture.Remark{Place: placeOf(e.Pos), Text: fmt.Sprintf(format, v...)})
}
