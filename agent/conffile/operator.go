package conffile

import (
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/nats-io/jwt/v2"
	"github.com/nats-io/nkeys"

	"github.com/natsentry/natsentry/agent/conffile/syntax"
	"github.com/natsentry/natsentry/agent/posture"
)

// readOperators reads what nats-server is not given of operator mode.
func (r *reading) readOperators() {
	root := r.tree.Root
	if e := get(root, "operator"); e != nil {
		for _, name := range stringsOf(e.Node) {
			r.operators = append(r.operators, r.readOperator(e, name))
		}
		switch list, ok := e.Node.Value.([]*syntax.Node); {
		case ok && len(r.operators) < len(list), !ok && len(r.operators) == 0:
			r.refuse(e, "operator must be a text, or a list of texts: JWTs or the names of their files")
		}
	}
	r.config.Operators = !slices.Contains(r.operators, nil)
	r.checkSystemAccount()
	r.readSentinel()
	r.preloads = map[string]string{}
	if e := get(root, "resolver_preload"); e != nil && !e.Node.Unset {
		m, ok := e.Node.Value.(*syntax.Map)
		if !ok {
			r.refuse(e, "preload should be a map of account_public_key:account_jwt")
			return
		}
		for _, p := range m.Entries {
			text, _ := p.Node.Value.(string)
			if p.Replaced != nil || p.Node.Unset {
				continue
			}
			claims, err := jwt.DecodeAccountClaims(text)
			if err != nil {
				r.refuse(p, "invalid account JWT")
				continue
			}
			r.preloads[p.Key] = text
			r.config.Preloads = append(r.config.Preloads, posture.Preload{Key: p.Key, Place: placeOf(p.Pos), Claim: preloaded(claims)})
		}
	}
}

// preloaded is what of an account's JWT decides whether servers take it.
func preloaded(c *jwt.AccountClaims) *posture.Claim {
	at := func(seconds int64) time.Time {
		if seconds == 0 {
			return time.Time{}
		}
		return time.Unix(seconds, 0).UTC()
	}
	out := &posture.Claim{Account: c.Subject, Name: c.Name, Issuer: c.Issuer, Issued: at(c.IssuedAt), NotBefore: at(c.NotBefore), Expires: at(c.Expires)}
	switch l := &c.Limits; {
	case l.NatsLimits == jwt.NatsLimits{} && l.AccountLimits == jwt.AccountLimits{}:
		out.Limits = posture.LimitsUnset
	case l.Conn == 0:
		out.Limits = posture.NoClients
	}
	return out
}

// checkSystemAccount: a configuration and its operators name the same one.
func (r *reading) checkSystemAccount() {
	e := get(r.tree.Root, "system_account")
	if e == nil || e.Node.Unset {
		return
	}
	name, named := str(r.tree.Root, "system_account"), false
	if name == "" {
		return // nats-server takes that of the operator
	}
	for _, o := range r.operators {
		if o == nil || o.SystemAccount == name {
			return
		}
		named = named || o.SystemAccount != ""
	}
	if named {
		r.refuse(e, "system_account in config and operator JWT must be identical")
	}
}

// readSentinel reads the JWT that is given to whoever brings none.
func (r *reading) readSentinel() {
	e := get(r.tree.Root, "default_sentinel")
	if e == nil {
		return
	}
	r.sentinel = str(r.tree.Root, "default_sentinel")
	if e.Node.Unset || r.sentinel == "" {
		return
	}
	user, err := jwt.DecodeUserClaims(r.sentinel)
	switch {
	case err != nil:
		r.refuse(e, "default sentinel JWT not valid")
	case !user.BearerToken && (user.IssuerAccount == "" || !user.HasEmptyPermissions()):
		r.refuse(e, "default sentinel must be a bearer token")
	}
}

// readOperator reads an operator's JWT, inline or from its file. It is nil where
// the file is not here: it may be where the server will run.
func (r *reading) readOperator(e *syntax.Entry, name string) *jwt.OperatorClaims {
	text := []byte(name)
	if !isJWT(name) {
		if r.src.Read == nil {
			return nil
		}
		var err error
		if text, err = r.src.Read(name); err != nil {
			return nil
		}
	}
	token, err := jwt.ParseDecoratedJWT(text)
	if err != nil {
		r.refuse(e, "error parsing operator JWT")
		return nil
	}
	claims, err := jwt.DecodeOperatorClaims(token)
	if err != nil {
		r.refuse(e, "error parsing operator JWT")
		return nil
	}
	return claims
}

// stringsOf are the strings of a node that holds one or several.
func stringsOf(n *syntax.Node) []string {
	switch v := n.Value.(type) {
	case string:
		return []string{v}
	case []*syntax.Node:
		var out []string
		for _, item := range v {
			if s, ok := item.Value.(string); ok {
				out = append(out, s)
			}
		}
		return out
	}
	return nil
}

// stand is an operator with a system account that stands in for any other: who
// gets in does not hang on its keys.
type stand struct{ operator, account, claims string }

var standIn = sync.OnceValues(func() (stand, error) {
	op, err := nkeys.CreateOperator()
	if err != nil {
		return stand{}, err
	}
	acc, err := nkeys.CreateAccount()
	if err != nil {
		return stand{}, err
	}
	opKey, err := op.PublicKey()
	if err != nil {
		return stand{}, err
	}
	accKey, err := acc.PublicKey()
	if err != nil {
		return stand{}, err
	}
	oc := jwt.NewOperatorClaims(opKey)
	oc.SystemAccount = accKey
	operator, err := oc.Encode(op)
	if err != nil {
		return stand{}, err
	}
	claims, err := jwt.NewAccountClaims(accKey).Encode(op)
	return stand{operator, accKey, claims}, err
})

// addOperator puts the stand-in where there is an operator, and has nats-server
// find its system account.
func (r *reading) addOperator(enc *encoder) {
	operator, resolver := get(r.tree.Root, "operator"), get(r.tree.Root, "resolver")
	if operator == nil || len(r.operators) == 0 {
		if resolver != nil {
			enc.buf.WriteString("resolver: MEMORY\n")
			enc.lines = append(enc.lines, resolver.Node)
		}
		if r.sentinel != "" {
			enc.buf.WriteString("default_sentinel: x\n") // nats-server refuses it without an operator
			enc.lines = append(enc.lines, get(r.tree.Root, "default_sentinel").Node)
		}
		return
	}
	s, err := standIn()
	if err != nil {
		return
	}
	add := func(text string, n *syntax.Node) {
		enc.buf.WriteString(text + "\n")
		enc.lines = append(enc.lines, n)
	}
	add(fmt.Sprintf("operator: %q", s.operator), operator.Node)
	add(fmt.Sprintf("system_account: %q", s.account), operator.Node)
	if resolver != nil || r.resolvesElsewhere() {
		add("resolver: MEMORY", operator.Node)
		add(fmt.Sprintf("resolver_preload { %s: %q }", s.account, s.claims), operator.Node)
	}
}

// resolvesElsewhere: an operator's JWT may name the server of its accounts.
func (r *reading) resolvesElsewhere() bool {
	for _, o := range r.operators {
		if o == nil || o.AccountServerURL != "" {
			return true
		}
	}
	return false
}
