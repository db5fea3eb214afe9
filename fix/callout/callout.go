// Package callout is an auth callout service: it answers nats-server's question who a client is.
//
// It lets in whom its configuration lists, by name and password. Where you know
// your clients from elsewhere, replace admit.
package callout

import (
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/jwt/v2"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nkeys"
	"golang.org/x/crypto/bcrypt"
)

// Config is what the service needs. All of it is secret.
type Config struct {
	User     string            `json:"user"` // as which it logs in
	Password string            `json:"password"`
	Issuer   string            `json:"issuer"`  // seed of the key that signs its answers
	XKey     string            `json:"xkey"`    // seed of the key that requests are encrypted for
	Account  string            `json:"account"` // in which clients land
	Users    map[string]string `json:"users"`   // bcrypt hashes by name
}

// String does not tell a secret.
func (Config) String() string { return "callout" }

// GoString does not tell a secret.
func (Config) GoString() string { return "callout" }

// subject is where servers ask.
const subject = "$SYS.REQ.USER.AUTH"

// lasts is how long a client stays before it must log in again.
const lasts = 12 * time.Hour

// Serve answers over a connection, which must be that of the service's user,
// until it is closed. failed is told of requests that cannot be answered.
func Serve(nc *nats.Conn, c Config, failed func(error)) error {
	issuer, err := nkeys.FromSeed([]byte(c.Issuer))
	if err != nil {
		return fmt.Errorf("issuer: %w", err)
	}
	xkey, err := nkeys.FromCurveSeed([]byte(c.XKey))
	if err != nil {
		return fmt.Errorf("xkey: %w", err)
	}
	_, err = nc.QueueSubscribe(subject, "callout", func(m *nats.Msg) {
		answer, err := c.answer(m, issuer, xkey)
		if err == nil {
			err = m.Respond(answer)
		}
		if err != nil {
			failed(err)
		}
	})
	if err != nil {
		return err
	}
	return nc.Flush()
}

// answer decides about one client.
func (c Config) answer(m *nats.Msg, issuer, xkey nkeys.KeyPair) ([]byte, error) {
	server := m.Header.Get("Nats-Server-Xkey")
	if server == "" {
		return nil, errors.New("the request is not encrypted: a server without the xkey, or no server at all")
	}
	token, err := xkey.Open(m.Data, server)
	if err != nil {
		return nil, fmt.Errorf("decrypt: %w", err)
	}
	request, err := jwt.DecodeAuthorizationRequestClaims(string(token))
	if err != nil {
		return nil, fmt.Errorf("decode: %w", err)
	}
	response := jwt.NewAuthorizationResponseClaims(request.UserNkey)
	response.Audience = request.Server.ID
	if name, ok := c.admit(request.ConnectOptions); ok {
		user := jwt.NewUserClaims(request.UserNkey)
		user.Name = name
		user.Audience = c.Account
		user.Expires = time.Now().Add(lasts).Unix()
		// Clients share the account of this service: none may answer for it.
		user.Sub.Deny.Add(subject)
		user.Pub.Deny.Add(subject)
		if response.Jwt, err = user.Encode(issuer); err != nil {
			return nil, fmt.Errorf("sign: %w", err)
		}
	} else {
		response.Error = "not known, or with another password"
	}
	signed, err := response.Encode(issuer)
	if err != nil {
		return nil, fmt.Errorf("sign: %w", err)
	}
	return xkey.Seal([]byte(signed), server)
}

// admit tells who a client is, and whether he may come in.
func (c Config) admit(o jwt.ConnectOptions) (name string, ok bool) {
	hash := c.Users[o.Username]
	if hash == "" || o.Password == "" {
		return "", false
	}
	return o.Username, bcrypt.CompareHashAndPassword([]byte(hash), []byte(o.Password)) == nil
}
