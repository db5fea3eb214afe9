package collect

import (
	"encoding/base64"
	"encoding/json"
	"strings"

	"github.com/nats-io/jwt/v2"
	"github.com/nats-io/nkeys"

	"github.com/natsentry/natsentry/agent/posture"
)

// maxUserJWT bounds a user's JWT. It comes in one line of protocol, of which
// servers accept 4 KiB unless they are told otherwise.
const maxUserJWT = 64 << 10

// userClaim reads what a user's JWT allows; nil when it is none. The signature is
// not verified: the server did that when the client came, and what it answers is
// taken for its word in any case.
func userClaim(token string) *posture.UserClaim {
	if len(token) > maxUserJWT {
		return nil
	}
	chunks := strings.Split(token, ".")
	if len(chunks) != 3 {
		return nil
	}
	data, err := base64.RawURLEncoding.DecodeString(chunks[1])
	if err != nil {
		return nil
	}
	var u jwt.UserClaims
	if json.Unmarshal(data, &u) != nil {
		return nil
	}
	if u.Version < 2 {
		old, err := jwt.DecodeUserClaims(token) // of version 1, laid out differently
		if err != nil {
			return nil
		}
		u = *old
	} else if u.Type != jwt.UserClaim {
		return nil
	}
	account := u.IssuerAccount
	if account == "" {
		account = u.Issuer
	}
	if !nkeys.IsValidPublicUserKey(u.Subject) || !nkeys.IsValidPublicAccountKey(account) || !nkeys.IsValidPublicAccountKey(u.Issuer) {
		return nil
	}
	return &posture.UserClaim{
		Key: u.Subject, Name: printable(u.Name), Account: account, Issuer: u.Issuer,
		Issued: unixTime(u.IssuedAt), Expires: unixTime(u.Expires), Bearer: u.BearerToken,
		Scoped:   u.IssuerAccount != "" && u.HasEmptyPermissions(),
		OpenPub:  openPublish(&u.Permissions),
		OpenSub:  openSubscribe(&u.Permissions),
		Defaults: emptyPermissions(&u.Permissions),
		Bound:    len(u.Src) > 0 || len(u.Times) > 0 || len(u.AllowedConnectionTypes) > 0,
	}
}
