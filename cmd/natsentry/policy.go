package main

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"net/url"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/lexer"
	"github.com/goccy/go-yaml/parser"
	"github.com/goccy/go-yaml/token"

	"github.com/natsentry/natsentry/agent/check"
)

// Bounds of a policy file. Reading one must take no more time and memory than
// its size calls for, whoever wrote it: `natsentry run` reads it while it
// keeps watch.
const (
	largestPolicy = 256 << 10
	longestText   = 1000 // bytes of one value: it is told with every finding that it covers
	mostKeys      = 16   // of one mapping
	mostNames     = 1000 // of servers whose addresses are given
	mostAddresses = 16   // of one of them
	deepestFlow   = 3    // brackets inside of brackets
)

// What a policy file may hold, for errors.
const (
	acceptedPolicy  = "accepted are the keys waivers and expected, each with a list, and addresses, with lists by the names of servers"
	acceptedAddress = "accepted is a list of addresses of the server's listeners with their ports, like nats://10.0.1.2:4222"
	acceptedWaiver  = "a waiver has check, reason, owner and expires, and may have cluster, server, door and advisory"
	acceptedUser    = "somebody expected has user, and may have address"
	acceptedDay     = "accepted is its last day, like 2027-01-31, or a moment, like 2027-01-31T12:00:00Z"
)

var errEmptyPolicy = errors.New("it is empty: `waivers: []` is a policy without waivers")

// loadPolicy reads a policy file into a policy. Whatever it does not know is
// an error: a misspelt key must not make a waiver wider than it was meant.
func loadPolicy(path string, into *check.Policy) error {
	text, err := readPolicy(path)
	if err != nil {
		return fmt.Errorf("policy: %w", err)
	}
	read, err := parsePolicy(text)
	if err != nil {
		return fmt.Errorf("policy %s: %w", path, err)
	}
	into.Waivers, into.Expected, into.Addresses = read.Waivers, read.Expected, read.Addresses
	return nil
}

func readPolicy(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }()                      // it was only read
	return io.ReadAll(io.LimitReader(f, largestPolicy+1)) // one more tells that there is more
}

// parsePolicy reads the lists of a policy, and nothing else of it.
func parsePolicy(text []byte) (lists check.Policy, err error) {
	body, err := plainYAML(text)
	if err != nil {
		return lists, err
	}
	pairs, ok := pairsOf(body)
	if !ok {
		return lists, fmt.Errorf("line %d: %s", line(body), acceptedPolicy)
	}
	for _, p := range pairs {
		switch p.key {
		case "waivers":
			lists.Waivers, err = listOf(p, "waiver", waiverOf)
		case "expected":
			lists.Expected, err = listOf(p, "expected", expectedOf)
		case "addresses":
			lists.Addresses, err = addressesOf(p)
		default:
			err = fmt.Errorf("line %d: unknown key %.40q: %s", p.line, p.key, acceptedPolicy)
		}
		if err != nil {
			return lists, err
		}
	}
	return lists, nil
}

func listOf[T any](p pair, what string, read func(ast.Node) (T, error)) ([]T, error) {
	list, ok := p.value.(*ast.SequenceNode)
	switch {
	case p.value.Type() == ast.NullType:
		return nil, errEmptyPolicy
	case !ok:
		return nil, fmt.Errorf("line %d: %s is no list: %s", p.line, p.key, acceptedPolicy)
	}
	out := []T{}
	for i, item := range list.Values {
		v, err := read(item)
		if err != nil {
			return nil, fmt.Errorf("line %d, %s %d: %w", line(item), what, i+1, err)
		}
		out = append(out, v)
	}
	return out, nil
}

// waiverOf reads one waiver.
func waiverOf(item ast.Node) (w check.Waiver, err error) {
	expires := ""
	err = readTexts(item, acceptedWaiver, map[string]*string{
		"check": &w.Check, "cluster": &w.Cluster, "server": &w.Server, "door": &w.Door, "advisory": &w.Advisory,
		"reason": &w.Reason, "owner": &w.Owner, "expires": &expires,
	})
	if err != nil {
		return w, err
	}
	if w.Expires, err = lastDay(expires); err != nil {
		return w, err
	}
	if err := w.Validate(); err != nil {
		return w, fmt.Errorf("%w: %s", err, acceptedWaiver)
	}
	return w, nil
}

// expectedOf reads one who is expected in the system account.
func expectedOf(item ast.Node) (e check.Expected, err error) {
	address := ""
	if err := readTexts(item, acceptedUser, map[string]*string{"user": &e.User, "address": &address}); err != nil {
		return e, err
	}
	if address != "" {
		if e.Address, err = network(address); err != nil {
			return e, err
		}
	}
	if err := e.Validate(); err != nil {
		return e, fmt.Errorf("%w: %s", err, acceptedUser)
	}
	return e, nil
}

// addressesOf reads where servers that do not answer listen.
func addressesOf(p pair) (map[string][]string, error) {
	servers, ok := pairsOf(p.value)
	if !ok {
		return nil, fmt.Errorf("line %d: %s is no mapping: %s", p.line, p.key, acceptedPolicy)
	}
	out := make(map[string][]string, len(servers))
	for _, s := range servers {
		list, ok := s.value.(*ast.SequenceNode)
		switch {
		case strings.TrimSpace(s.key) == "" || len(s.key) > longestText:
			return nil, fmt.Errorf("line %d: the name of a server is empty or too long", s.line)
		case !ok || len(list.Values) == 0:
			return nil, fmt.Errorf("line %d: %.60q has no addresses: %s", s.line, s.key, acceptedAddress)
		case len(list.Values) > mostAddresses:
			return nil, fmt.Errorf("line %d: %.60q has too many addresses: up to %d are accepted", s.line, s.key, mostAddresses)
		}
		for _, item := range list.Values {
			text, ok := hostAndPort(item)
			if !ok {
				return nil, fmt.Errorf("line %d: an address of %.60q is no text: %s", line(item), s.key, acceptedAddress)
			}
			hostPort, err := listenerAddress(text)
			if err != nil {
				return nil, fmt.Errorf("line %d: an address of %.60q %w: %s", line(item), s.key, err, acceptedAddress)
			}
			if !slices.Contains(out[s.key], hostPort) {
				out[s.key] = append(out[s.key], hostPort)
			}
		}
	}
	return out, nil
}

// hostAndPort is the text of an address. Inside of braces the parser takes the
// colon before a port for that of a key.
func hostAndPort(item ast.Node) (string, bool) {
	pairs, ok := pairsOf(item)
	if !ok || len(pairs) != 1 {
		return scalar(item)
	}
	port, ok := scalar(pairs[0].value)
	return pairs[0].key + ":" + port, ok
}

// listenerAddress is host:port of a URL, or of itself. What kind of listener it
// is shows when it is touched. No part of the text is in an error: there may be a
// password in it.
func listenerAddress(text string) (string, error) {
	if !strings.Contains(text, "://") {
		text = "nats://" + text
	}
	u, err := url.Parse(text)
	switch {
	case err != nil:
		return "", errors.New("is not a URL")
	case u.User != nil:
		return "", errors.New("has credentials, which a touch never sends")
	case !slices.Contains([]string{"nats", "tls", "ws", "wss", "http", "https", "nats-leaf"}, u.Scheme):
		return "", errors.New("has an unknown scheme")
	case u.Hostname() == "" || u.Port() == "" || u.Path != "" && u.Path != "/" || u.RawQuery != "" || u.Fragment != "":
		return "", errors.New("is not a valid HOST:PORT")
	}
	if port, err := strconv.ParseUint(u.Port(), 10, 16); err != nil || port == 0 {
		return "", errors.New("has no valid port")
	}
	return net.JoinHostPort(u.Hostname(), u.Port()), nil
}

// network is an address, or many of them.
func network(text string) (netip.Prefix, error) {
	if addr, err := netip.ParseAddr(text); err == nil && addr.Zone() == "" {
		return netip.PrefixFrom(addr.Unmap(), addr.Unmap().BitLen()), nil
	}
	p, err := netip.ParsePrefix(text)
	if err != nil || p != p.Masked() {
		return netip.Prefix{}, fmt.Errorf("address %.60q is none: accepted is an IP address, like 10.1.2.3, or a network, like 10.1.0.0/16", text)
	}
	return p, nil
}

// readTexts reads a mapping with the given keys.
func readTexts(item ast.Node, accepted string, fields map[string]*string) error {
	pairs, ok := pairsOf(item)
	if !ok {
		return errors.New("it is no mapping: " + accepted)
	}
	for _, p := range pairs {
		field := fields[p.key]
		if field == nil {
			return fmt.Errorf("unknown key %.40q: %s", p.key, accepted)
		}
		text, ok := scalar(p.value)
		switch {
		case !ok:
			return fmt.Errorf("%s is no text", p.key)
		case strings.TrimSpace(text) == "":
			// Left out it may mean all of them. Empty it is a mistake.
			return fmt.Errorf("%s is empty: give it a value, or leave it out: %s", p.key, accepted)
		case len(text) > longestText:
			return fmt.Errorf("%s is too long: up to %d bytes are accepted", p.key, longestText)
		}
		*field = text
	}
	return nil
}

// lastDay is the end of a day, in UTC, or the moment that is given.
func lastDay(text string) (time.Time, error) {
	if text == "" {
		return time.Time{}, nil
	}
	end, err := time.Parse(time.DateOnly, text)
	if err == nil {
		end = end.AddDate(0, 0, 1)
	} else if end, err = time.Parse(time.RFC3339, text); err != nil {
		return time.Time{}, fmt.Errorf("expires %.40q is no day: %s", text, acceptedDay)
	}
	if end = end.UTC(); end.Year() < 1 || end.Year() > 9999 {
		// No finding that it covers could be written as JSON.
		return time.Time{}, fmt.Errorf("expires %.40q is too far away: the years up to 9999 are accepted, and 9999-12-30 is the last day", text)
	}
	return end, nil
}

// plainYAML parses a document of the plain kind that a policy file is: no
// anchors and aliases, no tags, nothing deep. These are refused before the
// parser sees them, because what it then does is more than the file's size
// calls for.
func plainYAML(text []byte) (ast.Node, error) {
	if len(text) > largestPolicy {
		return nil, fmt.Errorf("it is larger than the %d KiB that are accepted", largestPolicy>>10)
	}
	tokens := lexer.Tokenize(string(text))
	if err := plain(tokens); err != nil {
		return nil, err
	}
	file, err := parser.Parse(tokens, 0)
	if err != nil {
		return nil, syntax(err)
	}
	var body ast.Node
	for _, doc := range file.Docs {
		switch {
		case doc.Body == nil || doc.Body.Type() == ast.NullType:
		case body != nil:
			return nil, fmt.Errorf("line %d: a second document begins: one is accepted", line(doc.Body))
		default:
			body = doc.Body
		}
	}
	if body == nil {
		return nil, errEmptyPolicy
	}
	return body, nil
}

// plain refuses what no policy needs.
func plain(tokens token.Tokens) error {
	var (
		last  token.Type
		block widths
		flow  []int // keys in each bracket that is open
		most  = mostKeys
	)
	for _, tk := range tokens {
		fault := ""
		switch tk.Type {
		case token.CommentType:
			continue
		case token.AnchorType, token.AliasType, token.MergeKeyType, token.TagType, token.DirectiveType, token.MappingKeyType:
			fault = "anchors, aliases, tags, directives and keys with ? are not accepted"
		case token.SequenceEntryType:
			block.until(tk.Position.Column)
			if last == token.SequenceEntryType {
				fault = "a list of lists is not accepted"
			}
		case token.MappingStartType, token.SequenceStartType:
			if flow = append(flow, 0); len(flow) > deepestFlow {
				fault = "brackets are nested too deeply"
			}
		case token.MappingEndType, token.SequenceEndType:
			flow = flow[:max(0, len(flow)-1)]
		case token.MappingValueType:
			n, limit := 0, most
			if open := len(flow); open > 0 {
				flow[open-1]++
				n = flow[open-1]
			} else if tk.Prev != nil {
				n = block.key(tk.Prev.Position.Column)
				if len(block) == 1 { // a key of the policy itself
					limit, most = mostKeys, mostKeys
					if tk.Prev.Value == "addresses" {
						most = mostNames
					}
				}
			}
			if n > limit {
				fault = "too many keys"
			}
		default: // values; the parser knows where they may stand
		}
		if fault != "" {
			return fmt.Errorf("line %d: %s: %s; %s", tk.Position.Line, fault, acceptedPolicy, acceptedWaiver)
		}
		last = tk.Type
	}
	return nil
}

// widths counts the keys of the mappings that are open, by the column where
// they stand.
type widths []struct{ column, keys int }

// until closes the mappings that stand to the right of a column.
func (w *widths) until(column int) {
	for len(*w) > 0 && (*w)[len(*w)-1].column > column {
		*w = (*w)[:len(*w)-1]
	}
}

// key counts a key, and returns how many its mapping has.
func (w *widths) key(column int) int {
	w.until(column)
	if n := len(*w); n == 0 || (*w)[n-1].column < column {
		*w = append(*w, struct{ column, keys int }{column, 0})
	}
	top := &(*w)[len(*w)-1]
	top.keys++
	return top.keys
}

// syntax is what the parser says, without the source that it would show.
func syntax(err error) error {
	var told yaml.Error
	if !errors.As(err, &told) {
		return errors.New("it is not YAML")
	}
	number := 1
	if tk := told.GetToken(); tk != nil && tk.Position != nil {
		number = tk.Position.Line
	}
	return fmt.Errorf("line %d: it is not YAML: %.200s", number, clean(strings.ReplaceAll(told.GetMessage(), "\t", `\t`)))
}

// pair is a key of a mapping with its value.
type pair struct {
	key   string
	line  int
	value ast.Node
}

// pairsOf reads a mapping; ok is false when it is none.
func pairsOf(n ast.Node) (pairs []pair, ok bool) {
	m, ok := n.(ast.MapNode)
	if !ok {
		return nil, false
	}
	for it := m.MapRange(); it.Next(); {
		key, _ := scalar(it.Key())
		pairs = append(pairs, pair{key, line(it.Key()), it.Value()})
	}
	return pairs, true
}

// scalar is the text of a single value, as it stands in the file. That of null
// is empty.
func scalar(n ast.Node) (text string, ok bool) {
	switch n := n.(type) {
	case *ast.StringNode:
		return n.Value, true
	case *ast.LiteralNode:
		return strings.TrimSuffix(n.Value.Value, "\n"), true
	case *ast.NullNode:
		return "", true
	case *ast.BoolNode, *ast.IntegerNode, *ast.FloatNode, *ast.InfinityNode, *ast.NanNode:
		return n.GetToken().Value, true
	default:
		return "", false
	}
}

func line(n ast.Node) int {
	if tk := n.GetToken(); tk != nil && tk.Position != nil {
		return cmp.Or(tk.Position.Line, 1)
	}
	return 1
}
