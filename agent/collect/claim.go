package collect

import (
	"encoding/base64"
	"encoding/json"
	"hash/maphash"
	"slices"
	"strings"
	"time"

	"github.com/nats-io/jwt/v2"
	"github.com/nats-io/nkeys"

	"github.com/natsentry/natsentry/agent/posture"
)

// Bounds on what one claim may be.
const (
	maxClaim      = jwt.MaxTokenSize
	maxValidated  = 256 // exports and imports; validating compares each with each
	maxInvalid    = 3   // reasons that are told
	farthestClaim = 253402300799
)

// rawClaim is a JWT. It is decoded and dropped; whoever prints it by mistake
// prints nothing of it.
type rawClaim string

func (rawClaim) String() string   { return posture.Redacted }
func (rawClaim) GoString() string { return posture.Redacted }

// claimSeed makes the marks of claims useless outside of this process.
var claimSeed = maphash.MakeSeed()

func (t rawClaim) mark() uint64 { return maphash.String(claimSeed, string(t)) }

// readClaim reads what a server or a store gave as the claim of an account.
// What cannot be read is a claim without an issuer that says why.
func readClaim(t rawClaim, account string) *posture.Claim {
	out := &posture.Claim{Mark: t.mark()}
	switch {
	case t == "":
		out.Invalid = "there is none"
		return out
	case len(t) > maxClaim:
		out.Invalid = "it is too large"
		return out
	}
	claims, err := jwt.DecodeAccountClaims(string(t))
	switch {
	case err != nil:
		// The error may quote what does not parse, which is nobody's business.
		out.Invalid = "it is no account JWT that its issuer has signed"
		return out
	case claims.Subject != account:
		out.Invalid = "it is that of another account"
		return out
	}
	out.Account, out.Name, out.Issuer = account, printable(claims.Name), printable(claims.Issuer)
	out.Issued, out.Expires = claimTime(claims.IssuedAt), claimTime(claims.Expires)
	out.NotBefore = claimTime(claims.NotBefore)
	switch l := &claims.Limits; {
	case l.NatsLimits == jwt.NatsLimits{} && l.AccountLimits == jwt.AccountLimits{}:
		out.Limits = posture.LimitsUnset
	case l.Conn == 0:
		out.Limits = posture.NoClients
	}
	out.BearerUsers = !claims.Limits.DisallowBearer
	out.OpenDefaults = openPermissions(&claims.DefaultPermissions)
	out.Limited = limited(&claims.Limits)
	out.SigningKeys = signingKeys(claims)
	out.Exports, out.Imports = exports(claims.Exports), imports(claims.Imports)
	out.Callout = callout(&claims.Authorization)
	out.Revoked = revocations(claims.Revocations)
	out.Invalid = invalid(claims)
	return out
}

// invalid is why servers refuse a claim, whoever has signed it; "" when they do
// not. Whether it has expired is left to the checks, which have a clock.
func invalid(claims *jwt.AccountClaims) string {
	if len(claims.Exports)+len(claims.Imports) > maxValidated {
		return "" // not looked at
	}
	// jwt/v2 2.8.3 does not survive a null export under a limit of exports.
	if slices.Contains(claims.Exports, nil) || slices.Contains(claims.Imports, nil) {
		return "an export or import of it is null"
	}
	results := jwt.CreateValidationResults()
	claims.Validate(results)
	var reasons []string
	for _, issue := range results.Issues {
		if issue.Blocking && len(reasons) < maxInvalid {
			reasons = append(reasons, printable(issue.Description))
		}
	}
	return strings.Join(reasons, "; ")
}

func signingKeys(claims *jwt.AccountClaims) []posture.SigningKey {
	var out []posture.SigningKey
	for key, scope := range claims.SigningKeys {
		k := posture.SigningKey{Key: printable(key)}
		if user, ok := scope.(*jwt.UserScope); ok && user != nil {
			k.Scoped = true
			k.Bearer, k.Bound = user.Template.BearerToken, bound(&user.Template)
			k.Sources = boundToAddresses(user.Template.Src)
			k.Open = openPermissions(&user.Template.Permissions)
			if emptyPermissions(&user.Template.Permissions) {
				// Such users get the account's defaults (nats-server
				// accounts.go, buildInternalNkeyUser).
				k.Open = openPermissions(&claims.DefaultPermissions)
			}
		}
		out = append(out, k)
	}
	slices.SortFunc(out, func(a, b posture.SigningKey) int { return strings.Compare(a.Key, b.Key) })
	return out
}

func emptyPermissions(p *jwt.Permissions) bool {
	return p.Pub.Empty() && p.Sub.Empty() && p.Resp == nil
}

// openPermissions reports whether permissions leave everything open, to publish
// and to subscribe.
func openPermissions(p *jwt.Permissions) bool {
	publish, subscribe := open(p)
	return publish && subscribe
}

func open(p *jwt.Permissions) (publish, subscribe bool) {
	subjects := func(l *jwt.Permission) posture.Subjects { return posture.Subjects{Allow: l.Allow, Deny: l.Deny} }
	return (&posture.Permissions{Publish: subjects(&p.Pub), Subscribe: subjects(&p.Sub), Responses: p.Resp != nil}).Open()
}

// limited: whether an account may use JetStream is no limit of what it may do
// to the servers otherwise, and is none until it is allowed.
func limited(l *jwt.OperatorLimits) bool {
	n, a := l.NatsLimits, l.AccountLimits
	return slices.ContainsFunc([]int64{n.Subs, n.Data, n.Payload, a.Conn, a.LeafNodeConn}, func(limit int64) bool { return limit != jwt.NoLimit })
}

func exports(list jwt.Exports) []posture.Export {
	var out []posture.Export
	for _, e := range list {
		if e == nil {
			continue
		}
		// An account's own key at a fixed place leaves each importer what
		// bears its name.
		out = append(out, posture.Export{
			Subject: printable(string(e.Subject)), Service: e.IsService(), Public: !e.TokenReq && e.AccountTokenPosition == 0,
			Private: e.TokenReq && e.AccountTokenPosition == 0, Revoked: revocations(e.Revocations),
		})
	}
	return out
}

func imports(list jwt.Imports) []posture.Import {
	var out []posture.Import
	for _, i := range list {
		if i == nil {
			continue
		}
		in := posture.Import{Subject: printable(string(i.Subject)), Account: printable(i.Account), Service: i.IsService()}
		if i.Token != "" {
			in.Activation = &posture.Activation{Unread: true}
			if a, err := jwt.DecodeActivationClaims(i.Token); err == nil {
				in.Expires = claimTime(a.Expires)
				in.Activation = &posture.Activation{Issued: claimTime(a.IssuedAt)}
				if a.IssuerAccount != "" {
					in.Activation.Signer = printable(a.Issuer)
				}
			}
		}
		out = append(out, in)
	}
	return out
}

func revocations(list jwt.RevocationList) []posture.Revocation {
	var out []posture.Revocation
	for key, before := range list {
		out = append(out, posture.Revocation{User: printable(key), Before: claimTime(before)})
	}
	slices.SortFunc(out, func(a, b posture.Revocation) int { return strings.Compare(a.User, b.User) })
	return out
}

func callout(a *jwt.ExternalAuthorization) *posture.Callout {
	if !a.IsEnabled() {
		return nil
	}
	out := &posture.Callout{Encrypted: a.XKey != ""}
	for _, user := range a.AuthUsers {
		out.AuthUsers = append(out.AuthUsers, printable(user))
	}
	for _, account := range a.AllowedAccounts {
		out.Accounts = append(out.Accounts, printable(account))
	}
	return out
}

// claimTime is a claim's time; zero stays zero, and the end of time is one that
// can be written down.
func claimTime(seconds int64) time.Time {
	return unixTime(max(-farthestClaim, min(seconds, farthestClaim)))
}

// accountKey tells whether this is the public key of an account: it stands in
// subjects.
func accountKey(id string) bool { return len(id) <= maxID && nkeys.IsValidPublicAccountKey(id) }

// claimSubject is the account whose claim somebody pushes; "" when it is none
// that can be told. Nothing else of it is looked at, and nothing is verified: it
// only says where to look.
func claimSubject(subject string, payload []byte) string {
	const pushes = 5 // tokens of $SYS.ACCOUNT.*.CLAIMS.UPDATE; with REQ, one more
	account := ""
	switch n := strings.Count(subject, ".") + 1; {
	case n == pushes:
		account = token(subject, 2)
	case n > pushes:
		account = token(subject, 3)
	default:
		account = bodySubject(payload)
	}
	if !accountKey(account) {
		return ""
	}
	return account
}

func bodySubject(payload []byte) string {
	if len(payload) > maxClaim {
		return ""
	}
	_, rest, _ := strings.Cut(string(payload), ".")
	body, _, _ := strings.Cut(rest, ".")
	data, err := base64.RawURLEncoding.DecodeString(strings.TrimRight(body, "="))
	if err != nil {
		return ""
	}
	var claims struct {
		Subject string `json:"sub"`
	}
	if json.Unmarshal(data, &claims) != nil {
		return ""
	}
	return claims.Subject
}
