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

	config *posture.Config
	unset  map[*syntax.Node]int  // nodes without a value, and how they were last filled in
	number map[*syntax.Node]int  // of those, in the tree
	used   map[*syntax.Node]bool // nodes to which variables refer
	left   map[*syntax.Node]bool

	operators []*jwt.OperatorClaims // nil for one whose file cannot be read
	preloads  map[string]string
	sentinel  string
	size      int // lines of what nats-server is given

	guestNames map[string]bool        // users that a no_auth_user names
	anyGuest   bool                   // one is named by a variable without a value
	harmless   map[posture.Unset]bool // variables without a value on which no door hangs
}

// effective is what nats-server makes of a configuration, without side effects.
type effective struct {
	opts    *server.Options
	refused []posture.Remark
}

// mostAttempts bounds how often nats-server is asked until what is filled in for
// variables without a value is of the right kind.
const mostAttempts = 40

// mostRefused bounds the complaints of nats-server that are told.
const mostRefused = 100

// effective asks nats-server's own option handling, and then its NewServer,
// which makes up some options, such as the hidden user. What has side effects
// or needs other files is replaced before.
func (r *reading) effective() effective {
	for range mostAttempts {
		e, again := r.attempt()
		if !again {
			return e
		}
	}
	return effective{refused: []posture.Remark{{Place: r.config.Whole(), Text: "no values of its variables were found with which nats-server would start"}}}
}

// attempt is one of several, since what is filled in for variables without a
// value may be of the wrong kind, and unknown keys that only name variables
// are taken out when nats-server complains about them.
func (r *reading) attempt() (e effective, again bool) {
	enc := &encoder{instead: r.instead}
	enc.block(r.tree.Root)
	if enc.bad != nil {
		return effective{refused: []posture.Remark{{Place: placeOf(enc.bad.Pos), Text: "a key of which nobody knows what it is"}}}, false
	}
	r.size = len(enc.lines)
	r.addOperator(enc)
	o, err := process(enc.buf.String(), r.flags)
	if err == nil {
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
		case !unknown && node != nil && r.another(node):
			again = true
		case node == nil && r.anotherNamed(text):
			again = true
		case len(e.refused) < mostRefused:
			e.refused = append(e.refused, posture.Remark{Place: r.placeOf(node, text), Text: advise(scrub(text, r.secrets))})
		}
	}
	if again {
		return effective{}, true
	}
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
	return o, startable(o)
}

// startable is what nats-server finds only when it starts (server.go, Start).
func startable(o *server.Options) error {
	switch {
	case o.HTTPPort != 0 && o.HTTPSPort != 0:
		return errors.New("can't specify both HTTP and HTTPs ports")
	case o.HTTPSPort != 0 && o.TLSConfig == nil:
		return errors.New("TLS cert and key required for HTTPS")
	}
	return nil
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

// Values for a variable without one, tried in this order.
const (
	asText = iota
	asNumber
	asYes
	asNothing // its key is left out
)

// unsetPrefix begins the text that stands in for a variable without a value.
const unsetPrefix = "natsentry-unset-"

func unsetText(i int) string { return unsetPrefix + strconv.Itoa(i) }

// another tries another value for a node without one.
func (r *reading) another(n *syntax.Node) bool {
	state, ok := r.unset[n]
	if !ok || state == asNothing {
		return false
	}
	r.unset[n]++
	return true
}

// anotherNamed does so for the node whose value an error names.
func (r *reading) anotherNamed(text string) bool {
	m := unsetNumber.FindStringSubmatch(text)
	if m == nil {
		return false
	}
	i, err := strconv.Atoi(m[1])
	if err != nil || i >= len(r.tree.Unset) || r.unset[r.tree.Unset[i]] == asNothing {
		return false
	}
	r.unset[r.tree.Unset[i]] = asNothing
	return true
}

var unsetNumber = regexp.MustCompile(unsetPrefix + `(\d+)`)

// instead is what nats-server is given for a node.
func (r *reading) instead(n *syntax.Node) (any, bool) {
	if r.left[n] {
		return nil, false
	}
	if n.Unset {
		switch r.unset[n] {
		case asText:
			return unsetText(r.number[n]), true
		case asNumber:
			return int64(1), true
		case asYes:
			return true, true
		default:
			return nil, false
		}
	}
	return n.Value, true
}

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
	r.left, r.unset = map[*syntax.Node]bool{}, map[*syntax.Node]int{}
	r.number, r.used = map[*syntax.Node]int{}, map[*syntax.Node]bool{}
	for i, n := range r.tree.Unset {
		r.unset[n], r.number[n] = asText, i
	}
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
