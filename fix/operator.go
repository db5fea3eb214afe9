package fix

import (
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/jwt/v2"
	"github.com/nats-io/nkeys"
)

// errOperatorLeaf: both together would be a mistake that no server reports.
var errOperatorLeaf = errors.New("in operator mode leafnodes log in with credentials files: leave this mode out")

// addOperator makes an operator, its two accounts and a user in each.
//
// The identity keys sign only what nothing else can sign: the operator his own
// JWT. Signing keys do the rest, so that one that leaks can be replaced.
//
// The server that it is for has no accounts block any more: the text says to
// take it out.
func addOperator(b *builder) error {
	identity, err := newKey(nkeys.CreateOperator)
	if err != nil {
		return err
	}
	signing, err := newKey(nkeys.CreateOperator)
	if err != nil {
		return err
	}
	b.keep("operator.seed", identity.seed+"\n")
	b.keep("operator-signing.seed", signing.seed+"\n")

	system, err := b.account("SYS", signing)
	if err != nil {
		return err
	}
	app, err := b.account("APP", signing)
	if err != nil {
		return err
	}
	claims := jwt.NewOperatorClaims(identity.public)
	claims.Name = "operator"
	claims.SigningKeys.Add(signing.public)
	claims.StrictSigningKeyUsage = true
	claims.SystemAccount = system.public
	operator, err := claims.Encode(identity)
	if err != nil {
		return err
	}
	for _, u := range []struct {
		name string
		of   account
	}{{appUser, app}, {systemUser, system}} {
		if err := b.user(u.name, u.of); err != nil {
			return err
		}
	}
	b.put(Operator, func(at Place) string {
		return fmt.Sprintf(`operator: %s
system_account: %s

# The servers keep accounts here, tell each other of changes, and delete none.
resolver {
  type: full
  dir: %q
  allow_delete: false
  interval: "2m"
}
resolver_preload {
  # SYS
  %s: %s
  # APP
  %s: %s
}
`, operator, system.public, at.Resolver, system.public, system.token, app.public, app.token)
	})
	return nil
}

// account is an account, with the key that signs its users.
type account struct {
	name, public, token string
	signing             key
}

func (b *builder) account(name string, operator key) (account, error) {
	identity, err := newKey(nkeys.CreateAccount)
	if err != nil {
		return account{}, err
	}
	signing, err := newKey(nkeys.CreateAccount)
	if err != nil {
		return account{}, err
	}
	b.keep(name+".seed", identity.seed+"\n")
	b.keep(name+"-signing.seed", signing.seed+"\n")
	claims := jwt.NewAccountClaims(identity.public)
	claims.Name = name
	claims.SigningKeys.Add(signing.public)
	// Nobody needs bearers, and what a server admits by default is a limit that
	// keeps this account from taking all of it from others.
	claims.Limits.DisallowBearer = true
	claims.Limits.Conn = accountConnections
	// Users without permissions of their own are restricted to nothing: each user
	// is given what it needs.
	claims.DefaultPermissions.Pub.Deny.Add(">")
	claims.DefaultPermissions.Sub.Deny.Add(">")
	if name != "SYS" {
		// As much JetStream as the server has: an account has none by default,
		// and the system account cannot have any.
		claims.Limits.JetStreamLimits = jwt.JetStreamLimits{
			MemoryStorage: jwt.NoLimit, DiskStorage: jwt.NoLimit, Streams: jwt.NoLimit, Consumer: jwt.NoLimit, MaxAckPending: jwt.NoLimit,
		}
	}
	token, err := claims.Encode(operator)
	return account{name, identity.public, token, signing}, err
}

// accountConnections is how many connections a server admits by default.
const accountConnections = 64 << 10

// granted is what the user of an account may do, and how it may connect. The user of
// the system account asks servers, and answers for natsentry; it may not stop servers,
// nor delete accounts. Deleting and purging streams is for those who operate them.
var granted = map[string]struct{ publish, deny, subscribe, connections []string }{
	"SYS": {
		publish:     []string{"$SYS.REQ.>", "$SRV.>", "audit.>", "_INBOX.>", "_INBOX_AUDIT.>"},
		deny:        []string{"$SYS.REQ.CLAIMS.DELETE", "$SYS.REQ.SERVER.*.LDM", "$SYS.REQ.SERVER.*.KICK"},
		subscribe:   []string{"$SYS.>", "$SRV.>", "audit.>", "_INBOX.>", "_INBOX_AUDIT.>"},
		connections: []string{jwt.ConnectionTypeStandard, jwt.ConnectionTypeWebsocket},
	},
	"APP": {
		publish:     []string{">"},
		deny:        []string{"$JS.API.STREAM.DELETE.*", "$JS.API.STREAM.PURGE.*"},
		subscribe:   []string{">"},
		connections: []string{jwt.ConnectionTypeStandard, jwt.ConnectionTypeWebsocket, jwt.ConnectionTypeMqtt, jwt.ConnectionTypeMqttWS, jwt.ConnectionTypeLeafnode, jwt.ConnectionTypeLeafnodeWS},
	},
}

// user signs a user, and keeps its credentials file.
func (b *builder) user(name string, of account) error {
	pair, err := newKey(nkeys.CreateUser)
	if err != nil {
		return err
	}
	claims := jwt.NewUserClaims(pair.public)
	claims.Name = name
	claims.IssuerAccount = of.public
	may := granted[of.name]
	claims.Pub.Allow.Add(may.publish...)
	claims.Pub.Deny.Add(may.deny...)
	claims.Sub.Allow.Add(may.subscribe...)
	claims.AllowedConnectionTypes.Add(may.connections...)
	if b.plan.Lasts > 0 {
		claims.Expires = b.plan.Now.Add(b.plan.Lasts).Unix()
	}
	token, err := claims.Encode(of.signing)
	if err != nil {
		return err
	}
	creds, err := jwt.FormatUserConfig(token, []byte(pair.seed))
	if err != nil {
		return err
	}
	b.Logins = append(b.Logins, Login{
		Name: name, Account: of.public, Label: of.name, By: ByCredentials, File: b.keep(name+".creds", string(creds)), Public: pair.public, seed: pair.seed, token: token,
	})
	return nil
}

// Expire is when credentials files and new certificates end; zero is never.
func (b *Bundle) Expire() time.Time {
	switch {
	case b.tls != nil && b.tls.new:
		return b.plan.Now.Add(b.plan.certificateLife())
	case b.Has(Operator) && b.plan.Lasts > 0:
		return b.plan.Now.Add(b.plan.Lasts)
	default:
		return time.Time{}
	}
}
