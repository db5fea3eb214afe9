package conffile

import (
	"regexp"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/nats-io/jwt/v2"
	"github.com/nats-io/nats-server/v2/server"

	"github.com/natsentry/natsentry/agent/conffile/syntax"
	"github.com/natsentry/natsentry/agent/posture"
	"github.com/natsentry/natsentry/agent/release"
)

var (
	variableName = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]*$`)
	commentLine  = regexp.MustCompile(`^\s*(?:#|//)[#/\s]*(.*)$`)
	// A block, or an operator's JWT or file, and no sentence about one.
	blockStart = regexp.MustCompile(`(?i)^["']?(authorization|accounts|operator)["']?\s*(?:[:=]?\s*\{|[:=]?\s*(?:"?eyJ|\S*/\S+|\S+\.jwt\b))`)
)

func isSecretKey(key string) bool { return slices.Contains(secretKeys, key) }

// noteComments looks for blocks of authentication that are commented out. The
// parser does not see them.
func (r *reading) noteComments() {
	for _, file := range r.tree.Files {
		for i, line := range strings.Split(file.Text, "\n") {
			m := commentLine.FindStringSubmatchIndex(line)
			if m == nil {
				continue
			}
			comment := line[m[2]:m[3]]
			if b := blockStart.FindStringSubmatch(comment); b != nil {
				r.config.Commented = append(r.config.Commented, posture.Remark{
					Place: r.src.place(file.Name, i+1, m[2]+1), Text: strings.ToLower(b[1]),
				})
			}
		}
	}
}

var (
	memoryResolver = regexp.MustCompile(`(?i)(MEM|MEMORY)\s*`) // as nats-server looks for it
	urlResolver    = regexp.MustCompile(`(?i)(?:URL){1}(?:\({1}\s*"?([^\s"]*)"?\s*\){1})?\s*`)
)

// noteResolver notes where accounts are found.
func (r *reading) noteResolver() {
	e := get(r.tree.Root, "resolver")
	if e == nil || e.Node.Unset {
		return
	}
	res := &posture.Resolver{Place: placeOf(e.Pos)}
	switch v := e.Node.Value.(type) {
	case string:
		switch {
		case memoryResolver.MatchString(v):
			res.Kind = "memory"
		case urlResolver.MatchString(v):
			res.Kind = "url"
		}
	case *syntax.Map:
		kind := get(v, "type")
		switch strings.ToLower(str(v, "type")) {
		case "mem", "memory":
			res.Kind = "memory"
		case "full", "cache":
			res.Kind = strings.ToLower(str(v, "type"))
			if dir := get(v, "dir"); dir == nil || str(v, "dir") == "" && !dir.Node.Unset {
				r.refuse(e, "dir has no value and needs to point to a directory")
			}
		}
		if kind != nil && kind.Node.Unset {
			res.Kind = "unset"
		}
		if del := get(v, "allow_delete"); del != nil {
			res.AllowDelete, res.DeletePlace = yes(v, "allow_delete"), placeOf(del.Pos)
		}
	}
	if res.Kind == "" {
		r.refuse(e, "error parsing account resolver")
	}
	r.config.Resolver = res
}

// logins notes who may log in.
func (r *reading) logins(o *server.Options) {
	root := r.tree.Root
	certified, limited := certified(o, r.src.Version == "" || release.CertificateUsers.Holds(r.src.Version)), restricted(o)
	r.single(root, "authorization", true)
	r.listed(block(root, "authorization"), "authorization", "", certified, limited)
	if accounts := block(root, "accounts"); accounts != nil {
		for _, e := range accounts.Entries {
			if m, ok := e.Node.Value.(*syntax.Map); ok && e.Replaced == nil {
				r.listed(m, "accounts."+e.Key, e.Key, certified, limited)
			}
		}
	}
	for _, name := range []string{"websocket", "mqtt"} {
		r.single(block(root, name), name, true)
	}
	for _, name := range []string{"leafnodes", "cluster", "gateway"} {
		r.single(block(root, name), name, false)
	}
	r.listed(block(root, "leafnodes", "authorization"), "leafnodes", "", certified, nil)
	slices.SortStableFunc(r.config.Logins, func(a, b posture.ConfigLogin) int { return comparePlaces(a.Place, b.Place, a.User, b.User) })
}

// single notes the one user, or the token, of a block's authorization.
func (r *reading) single(in *syntax.Map, where string, client bool) {
	auth := block(in, "authorization")
	if auth == nil {
		return
	}
	// A server logs in with these to the peers that others tell it of, and to
	// gateways whose URL has no user.
	presented := where == "cluster" || where == "gateway"
	if e := get(auth, "token"); e != nil && (e.Node.Unset || str(auth, "token") != "") {
		l := posture.ConfigLogin{Place: placeOf(e.Pos), Where: where, Client: client}
		prove(&l, e.Node)
		r.config.Logins = append(r.config.Logins, l)
	}
	user := get(auth, "user")
	if user == nil || str(auth, "user") == "" && !user.Node.Unset {
		return
	}
	l := posture.ConfigLogin{
		Place: placeOf(user.Pos), Where: where, User: str(auth, "user"), Client: client, Secret: posture.SecretNone, Restricted: true, Unnamed: user.Node.Unset, Presented: presented,
	}
	r.config.Logins = append(r.config.Logins, proven(l, auth))
}

// listed notes the users of a list.
func (r *reading) listed(in *syntax.Map, where, account string, certified, limited map[string]bool) {
	e := get(in, "users")
	if in == nil || e == nil {
		return
	}
	list, _ := e.Node.Value.([]*syntax.Node)
	for _, n := range list {
		m, ok := n.Value.(*syntax.Map)
		if !ok {
			continue
		}
		l := posture.ConfigLogin{Place: placeOf(n.Pos), Where: where, Account: account, Client: where != "leafnodes", Secret: posture.SecretNone}
		if l.Account == "" {
			l.Account = str(m, "account")
		}
		if key := str(m, "nkey"); key != "" {
			l.User, l.Secret, l.Restricted = key, posture.SecretKey, limited[key]
			r.config.Logins = append(r.config.Logins, l)
			continue
		}
		user := get(m, "user")
		l.User = str(m, "user")
		l.Unnamed = user != nil && user.Node.Unset
		name := l.User
		switch {
		case l.Unnamed:
			name = standInText(r.of[user.Node].index)
		case name == "":
			continue
		}
		l.Guest, l.Restricted = r.isGuest(l.User), limited[name]
		l = proven(l, m)
		if l.Secret == posture.SecretNone && certified[l.User] {
			l.Secret = posture.SecretCert
		}
		r.config.Logins = append(r.config.Logins, l)
	}
}

// proven is a login with what proves it, and the place of that.
func proven(l posture.ConfigLogin, m *syntax.Map) posture.ConfigLogin {
	if e := get(m, "password"); e != nil {
		if s, ok := e.Node.Value.(string); e.Node.Unset || ok && s != "" {
			l.Place = placeOf(e.Pos)
			prove(&l, e.Node)
		} else {
			l.Empty = true
		}
	}
	return l
}

// prove tells how good a secret is, and nothing else of it.
func prove(l *posture.ConfigLogin, n *syntax.Node) {
	s, _ := n.Value.(string)
	l.Outside = n.Env
	switch {
	case n.Unset:
		l.Secret = posture.SecretUnset
	case bcryptHash.MatchString(s):
		l.Secret = posture.SecretHashed
	case isPlaceholder(s):
		l.Secret = posture.SecretPlaceholder
	default:
		l.Secret, l.Length = posture.SecretPlain, utf8.RuneCountInString(s)
		l.Guessable = isGuessable(s, l.User)
	}
}

// examples are secrets out of documentation and lists of common passwords.
var examples = map[string]bool{
	"password": true, "passw0rd": true, "changeme": true, "changeit": true, "secret": true, "s3cr3t": true, "t0ps3cr3t": true, "topsecret": true,
	"nats": true, "natspass": true, "nats_pass": true, "nats-password": true, "admin": true, "administrator": true, "root": true, "test": true, "demo": true, "default": true,
	"guest": true, "user": true, "letmein": true, "welcome": true, "qwerty": true, "123456": true, "12345678": true, "123456789": true, "1234567890": true,
	"local": true, "s3cret!": true, "sys": true, "system": true, "pwd": true, "pass": true, "foo": true, "bar": true, "mytoken": true, "token": true,
	"example": true, "supersecret": true, "password123": true, "natsnatsnats": true, "adminadmin": true, "passwordpassword": true,
}

func isGuessable(secret, user string) bool {
	s := strings.ToLower(secret)
	return examples[s] || examples[strings.TrimRight(s, "0123456789!")] || user != "" && strings.EqualFold(secret, user)
}

// restricted are the users and nkeys whose permissions, or those that they get by
// default, restrict them. No two users of a configuration share a name.
func restricted(o *server.Options) map[string]bool {
	out := map[string]bool{}
	for _, u := range o.Users {
		out[u.Username] = permissions(u.Permissions).Restricted()
	}
	for _, u := range o.Nkeys {
		out[u.Nkey] = permissions(u.Permissions).Restricted()
	}
	return out
}

// certified are the users without password that are names of certificates:
// nats-server refuses them without one, where any listener that they may use maps
// certificates to users (opts.go, canTLSMap). Before release.CertificateUsers it does
// so on that listener only: their name is enough on another one.
func certified(o *server.Options, everywhere bool) map[string]bool {
	out := map[string]bool{}
	listeners := []struct {
		on, maps   bool
		connection string
	}{
		{true, o.TLSMap, jwt.ConnectionTypeStandard},
		{o.Websocket.Port != 0, o.Websocket.TLSMap, jwt.ConnectionTypeWebsocket},
		{o.MQTT.Port != 0, o.MQTT.TLSMap, jwt.ConnectionTypeMqtt},
		{o.LeafNode.Port != 0, o.LeafNode.TLSMap, jwt.ConnectionTypeLeafnode},
	}
	for _, u := range o.Users {
		may := func(t string) bool {
			_, ok := u.AllowedConnectionTypes[t]
			return ok || len(u.AllowedConnectionTypes) == 0
		}
		mapped, unmapped := false, false
		for _, l := range listeners {
			if l.on && may(l.connection) {
				mapped, unmapped = mapped || l.maps, unmapped || !l.maps
			}
		}
		out[u.Username] = mapped && (everywhere || !unmapped)
	}
	return out
}
