package conffile

import (
	"net/netip"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/nats-io/jwt/v2"

	"github.com/natsentry/natsentry/agent/conffile/syntax"
	"github.com/natsentry/natsentry/agent/posture"
	"github.com/natsentry/natsentry/agent/release"
)

// sentinelLogin judges the JWT that a server in operator mode gives to clients that
// bring none. It follows processClientOrLeafAuthentication of nats-server's
// auth.go, in its order: what is checked first decides.
type sentinelLogin struct {
	*judge
	user    *jwt.UserClaims
	limits  jwt.UserPermissionLimits // those in force: the user's own, or those of its signing key
	account *jwt.AccountClaims
	at      posture.Place
}

const (
	reasonSentinel       = "a default sentinel is given to anonymous clients, and its account is not in the configuration"
	reasonSentinelUnset  = "a default sentinel is given to anonymous clients, and its value is not here"
	reasonOperatorAbsent = "a default sentinel is given to anonymous clients, and the JWT of the operator is not here"
	reasonStored         = "a default sentinel is given to anonymous clients; the preloaded JWT of its account rejects it, and the resolver may store a newer one"
	reasonProxy          = "a default sentinel is given to anonymous clients, and whether this release holds its signing key to proxy_required is not known"
	reasonTemplate       = "a default sentinel is given to anonymous clients, with a template of denied subjects that may be invalid"
)

// bySentinel judges a listener of a server in operator mode.
func (j *judge) bySentinel(l *listener, connection string) answer {
	if j.sentinel == "" && !j.unsetAt("default_sentinel") {
		return answer{access: posture.Closed, place: j.at("operator", "trusted_keys"), text: "a JWT is asked for"}
	}
	s := &sentinelLogin{judge: j, at: j.at("default_sentinel")}
	var err error
	if s.user, err = jwt.DecodeUserClaims(j.sentinel); err != nil {
		return s.doubt(reasonSentinelUnset)
	}
	s.limits = s.user.UserPermissionLimits
	if why := s.invalid(); why != "" {
		return s.rejected(why)
	}
	if a, ok := s.lookUp(); !ok {
		return a
	}
	rejected, ok := s.byAccount(l, connection)
	if s.account.Authorization.IsEnabled() && !slices.Contains(s.account.Authorization.AuthUsers, s.user.Subject) {
		return s.doubt(reasonCallout) // it is asked after a rejection as well
	}
	if !ok {
		return rejected
	}
	return s.admitted(l)
}

func (s *sentinelLogin) rejected(why string) answer {
	return answer{access: posture.Closed, place: s.at, text: "the default sentinel " + why}
}

func (s *sentinelLogin) doubt(reason string) answer {
	return answer{access: posture.Unknown, reason: reason, place: s.at, text: "anonymous clients are given a JWT"}
}

// refusedByAccount: a JWT of an account that is preloaded is the one in force
// only where nothing else can be stored.
func (s *sentinelLogin) refusedByAccount(why string) answer {
	if s.onlyPreloads() {
		return s.rejected(why)
	}
	a := s.doubt(reasonStored)
	a.text = "the default sentinel " + why
	return a
}

// invalid is why a server does not look for its account; "" when it does.
func (s *sentinelLogin) invalid() string {
	vr := jwt.CreateValidationResults()
	s.user.Validate(vr)
	now := time.Now().Unix()
	switch {
	case s.user.ProxyRequired:
		return "comes through a trusted proxy only"
	case s.user.Expires != 0 && s.user.Expires < now:
		return "has expired"
	case s.user.NotBefore > now:
		return "is not valid yet"
	case vr.IsBlocking(true):
		return "is not valid"
	}
	return ""
}

// lookUp finds the claims of its account.
func (s *sentinelLogin) lookUp() (answer, bool) {
	issuer := s.user.IssuerAccount
	if issuer == "" {
		issuer = s.user.Issuer
	}
	if !s.pinned(issuer) {
		return s.rejected("is of an account that resolver_pinned_accounts does not list"), false
	}
	preload, ok := s.preloads[issuer]
	switch {
	case !ok && s.onlyPreloads() && !s.unsetPreload():
		return s.rejected("is of an account that is not preloaded"), false
	case !ok:
		return s.doubt(reasonSentinel), false
	}
	account, err := jwt.DecodeAccountClaims(preload)
	if err != nil {
		return s.doubt(reasonSentinel), false
	}
	if s.account = account; account.Subject != issuer {
		return s.refusedByAccount("is of an account in whose place another one is preloaded"), false
	}
	if !s.trusted(account.Issuer) {
		if slices.Contains(s.operators, nil) {
			return s.doubt(reasonOperatorAbsent), false
		}
		return s.refusedByAccount("is of an account that no operator of this configuration has signed"), false
	}
	vr := jwt.CreateValidationResults()
	if account.Validate(vr); vr.IsBlocking(true) {
		return s.refusedByAccount("is of an account whose JWT has expired, or is not valid yet, or not at all"), false
	}
	return answer{}, true
}

// byAccount judges it by the claims of its account. ok means that it logs in.
func (s *sentinelLogin) byAccount(l *listener, connection string) (a answer, ok bool) {
	scope, known := s.account.SigningKeys[s.user.Issuer]
	if !known && (s.user.Issuer != s.account.Subject || s.strict(s.account)) {
		return s.refusedByAccount("is signed by a key that its account does not list"), false
	}
	proxied, decided := false, true // it must come through a proxy, and whether the release that will run holds it to that is known
	if scope != nil {
		user, ok := scope.(*jwt.UserScope)
		if !ok || user.ValidateScopedSigner(s.user) != nil {
			return s.refusedByAccount("has permissions of its own, and a signing key that prescribes them"), false
		}
		s.limits = user.Template
		if s.limits.ProxyRequired {
			proxied, decided = s.release(release.ScopedProxyRequired)
		}
		switch {
		case proxied && decided:
			return s.refusedByAccount("comes through a trusted proxy only"), false
		case !s.fits(&s.limits.Permissions):
			return s.doubt(reasonTemplate), false
		}
	}
	switch {
	case !s.limits.BearerToken:
		return s.refusedByAccount("is no bearer: it takes a signature"), false
	case s.account.Limits.DisallowBearer:
		return s.refusedByAccount("is a bearer, and its account allows none"), false
	case !comesBy(s.limits.AllowedConnectionTypes, connection):
		if scope == nil {
			return s.rejected("may not come this way"), false
		}
		return s.refusedByAccount("may not come this way"), false
	case s.account.Revocations.IsRevoked(s.user.Subject, time.Unix(s.user.IssuedAt, 0)):
		return s.refusedByAccount("is revoked"), false
	case len(s.limits.Src) > 0 && len(s.from()) == 0:
		return s.refusedByAccount("may come from no address"), false
	case l.kind != posture.Leafnode && s.account.Limits.Conn == 0:
		return s.refusedByAccount("is of an account that may have no connections"), false
	case l.kind == posture.Leafnode && s.account.Limits.LeafNodeConn == 0:
		return s.refusedByAccount("is of an account that may have no leafnodes"), false
	case !decided:
		return s.doubt(reasonProxy), false
	}
	return answer{}, true
}

// admitted: anonymous clients get in. Limits of address and of time do not ask
// for credentials either; they are named.
func (s *sentinelLogin) admitted(l *listener) answer {
	a := answer{access: posture.Open, cause: posture.CauseSentinel, place: s.at, text: "anonymous clients are given a bearer JWT"}
	if len(s.limits.Src) > 0 {
		from := make([]string, 0, len(s.limits.Src))
		for _, p := range s.from() {
			from = append(from, p.String())
		}
		a.text += ", from " + strings.Join(from, ", ")
	}
	if len(s.limits.Times) > 0 {
		times := make([]string, 0, len(s.limits.Times))
		for _, t := range s.limits.Times {
			times = append(times, t.Start+"-"+t.End)
		}
		a.text += ", at " + strings.Join(times, ", ")
	}
	perms := &s.limits.Permissions
	if emptyPermissions(perms) {
		perms = &s.account.DefaultPermissions
	}
	a.landing = &posture.Landing{Account: s.account.Subject, User: s.user.Subject, Restricted: claimed(perms).Restricted()}
	if l.kind == posture.Leafnode {
		a.cause = posture.CauseLeafNoAuth
	}
	return a
}

// emptyPermissions reports whether a user gets the default ones of its account.
func emptyPermissions(p *jwt.Permissions) bool {
	return p.Pub.Empty() && p.Sub.Empty() && p.Resp == nil
}

// templateSlot is a placeholder of a scoped signing key's subjects that every
// user fills with something: its name, its key and those of its account.
var templateSlot = regexp.MustCompile(`\{\{\s*(?:name|subject|account-name|account-subject)\(\)\s*\}\}|\{\{\s*(?:account-)?tag\([^)]*\)\s*\}\}`)

// fits reports whether the subjects of a template are valid for every user. A
// denied subject that is not one makes nats-server reject the user; an allowed
// one is left out.
func (s *sentinelLogin) fits(p *jwt.Permissions) bool {
	for _, list := range []jwt.StringList{p.Pub.Deny, p.Sub.Deny} {
		if slices.ContainsFunc(list, func(subject string) bool { return strings.Contains(subject, "{{") }) {
			return false
		}
	}
	for _, list := range []jwt.StringList{p.Pub.Allow, p.Sub.Allow} {
		if slices.ContainsFunc(list, func(subject string) bool { return strings.Contains(templateSlot.ReplaceAllString(subject, ""), "{{") }) {
			return false
		}
	}
	return true
}

// from lists the addresses that it may come from.
func (s *sentinelLogin) from() []netip.Prefix {
	var out []netip.Prefix
	for _, cidr := range s.limits.Src {
		p, err := netip.ParsePrefix(cidr)
		if err != nil {
			break // nats-server reads no further
		}
		out = append(out, p.Masked())
	}
	return out
}

// comesBy reports whether allowed connection types have one among them; none
// are all. A server takes no user whose types it all does not know.
func comesBy(allowed jwt.StringList, connection string) bool {
	return len(allowed) == 0 || slices.ContainsFunc(allowed, func(t string) bool { return strings.EqualFold(t, connection) })
}

// trusted reports whether an account is signed by an operator of the configuration.
func (r *reading) trusted(issuer string) bool {
	return slices.ContainsFunc(r.operators, func(o *jwt.OperatorClaims) bool {
		return o != nil && (o.Subject == issuer && !o.StrictSigningKeyUsage || slices.Contains(o.SigningKeys, issuer))
	})
}

// strict reports whether users of an account must be signed by a signing key.
func (r *reading) strict(account *jwt.AccountClaims) bool {
	return slices.ContainsFunc(r.operators, func(o *jwt.OperatorClaims) bool {
		return o != nil && o.StrictSigningKeyUsage && slices.Contains(o.SigningKeys, account.Issuer)
	})
}

// onlyPreloads reports whether accounts are preloaded or not known at all.
func (r *reading) onlyPreloads() bool {
	e := get(r.tree.Root, "resolver")
	if e == nil {
		return false
	}
	switch v := e.Node.Value.(type) {
	case string:
		return !e.Node.Unset && strings.Contains(strings.ToLower(v), "mem") // as nats-server looks for it
	case *syntax.Map:
		kind := strings.ToLower(str(v, "type"))
		return kind == "mem" || kind == "memory"
	}
	return false
}

// pinned reports whether an account is not shut out by resolver_pinned_accounts.
// The system account never is.
func (r *reading) pinned(account string) bool {
	e := get(r.tree.Root, "resolver_pinned_accounts")
	if e == nil || e.Node.Unset {
		return true
	}
	if list, ok := e.Node.Value.([]*syntax.Node); ok && slices.ContainsFunc(list, func(n *syntax.Node) bool { return n.Unset }) {
		return true
	}
	system := str(r.tree.Root, "system_account")
	if system == "" && len(r.operators) == 1 && r.operators[0] != nil {
		system = r.operators[0].SystemAccount
	}
	return account == system || slices.Contains(stringsOf(e.Node), account)
}

// unsetPreload reports whether preloads are missing that are there where the
// server runs.
func (r *reading) unsetPreload() bool {
	e := get(r.tree.Root, "resolver_preload")
	if e == nil {
		return false
	}
	m, ok := e.Node.Value.(*syntax.Map)
	return e.Node.Unset || !ok || slices.ContainsFunc(m.Entries, func(p *syntax.Entry) bool { return p.Node.Unset })
}
