package proof

import (
	"cmp"
	"context"
	"crypto/rand"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nkeys"

	"github.com/natsentry/natsentry/agent/posture"
	"github.com/natsentry/natsentry/fix"
	"github.com/natsentry/natsentry/fix/callout"
	"github.com/natsentry/natsentry/integration/fleet"
)

// proofName is what connections of the proof call themselves.
const proofName = "natsentry-proof"

// attempt is one way to come in as somebody.
type attempt struct {
	who  string
	want posture.Access
	opt  nats.Option
}

// attempts are the ways to come in as somebody: with his secret, with another
// one, and with none.
func (p *prover) attempts(l fix.Login, door posture.DoorKind) ([]attempt, error) {
	right, wrong := posture.Open, posture.Closed
	switch l.By {
	case fix.ByPassword:
		return []attempt{
			{"with the password", right, nats.UserInfo(l.Name, l.Password())},
			{"with another password", wrong, nats.UserInfo(l.Name, rand.Text())},
			{"without a password", wrong, nats.UserInfo(l.Name, "")},
		}, nil
	case fix.ByNKey, fix.ByCredentials:
		other, err := nkeys.CreateUser()
		if err != nil {
			return nil, err
		}
		own, err := nkeys.FromSeed([]byte(l.Seed()))
		if err != nil {
			return nil, err
		}
		none := func([]byte) ([]byte, error) { return nil, nil }
		as := func(sign nats.SignatureHandler) nats.Option {
			if l.By == fix.ByNKey {
				return nats.Nkey(l.Public, sign)
			}
			return nats.UserJWT(func() (string, error) { return l.JWT(), nil }, sign)
		}
		return []attempt{{"with the seed", right, as(own.Sign)}, {"with another seed", wrong, as(other.Sign)}, {"without a signature", wrong, as(none)}}, nil
	default:
		if door != posture.Client {
			// It maps no certificates: some servers took the name alone there.
			return []attempt{{"by name alone", wrong, nats.UserInfo(l.Subject, "")}}, nil
		}
		return p.byCertificate(l)
	}
}

func (p *prover) byCertificate(l fix.Login) ([]attempt, error) {
	cert, key := l.Certificate()
	out := []attempt{}
	add := func(who string, want posture.Access, cert, key string) error {
		pair, err := tls.X509KeyPair([]byte(cert), []byte(key))
		if err != nil {
			return fmt.Errorf("%s, %s: %w", l.Name, who, err)
		}
		out = append(out, attempt{who, want, nats.Secure(&tls.Config{
			InsecureSkipVerify: true, // it is this process's own server
			MinVersion:         tls.VersionTLS12,
			// Also where the server names another CA.
			GetClientCertificate: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return &pair, nil },
		})})
		return nil
	}
	if err := add("with the certificate", posture.Open, cert, key); err != nil {
		return nil, err
	}
	foreign, err := fix.NewAuthority(time.Now(), time.Hour)
	if err != nil {
		return nil, err
	}
	for _, other := range []struct {
		who  string
		by   *fix.Authority
		name string
	}{{"with a certificate of another CA", foreign, l.Name}, {"with the CA's certificate of a stranger", p.b.Authority(), "stranger"}} {
		if other.by == nil {
			continue // the key of the user's own CA is not here
		}
		id, err := other.by.Issue(other.name)
		if err != nil {
			return nil, err
		}
		cert, key := id.PEM()
		if err := add(other.who, posture.Closed, cert, key); err != nil {
			return nil, err
		}
	}
	none := nats.Secure(&tls.Config{InsecureSkipVerify: true, MinVersion: tls.VersionTLS12}) // as above
	return append(out, attempt{"without a certificate, by name", posture.Closed, func(o *nats.Options) error {
		o.User = l.Subject
		return none(o)
	}}), nil
}

// logins lets those come in who may, and those who only say so.
func (p *prover) logins(ctx context.Context, s standIn) {
	srv := p.fleet.Server(s.name)
	urls := map[posture.DoorKind]string{posture.Client: "nats://" + srv.Addr(posture.Client.String())}
	order := []posture.DoorKind{posture.Client}
	if s.has(posture.Websocket) {
		urls[posture.Websocket] = "ws://" + srv.Addr(posture.Websocket.String())
		order = append(order, posture.Websocket)
	}
	for _, l := range p.b.Logins {
		for _, door := range order {
			attempts, err := p.attempts(l, door)
			if err != nil {
				p.out.Rows = append(p.out.Rows, Row{Door: door, Who: l.Name, Want: posture.Open, How: err.Error()})
				continue
			}
			for _, a := range attempts {
				r := Row{Door: door, Who: l.Name + " " + a.who, Want: a.want}
				r.Access, r.How = insist(ctx, srv, urls[door], a.opt, l)
				p.out.Rows = append(p.out.Rows, r)
			}
		}
	}
}

// insist tries again where the connection broke before the server's word could
// be read.
func insist(ctx context.Context, srv *fleet.Server, url string, opt nats.Option, l fix.Login) (access posture.Access, how string) {
	for range 5 {
		if access, how = login(srv, url, opt, l); access != posture.Unknown || ctx.Err() != nil {
			break
		}
	}
	return access, how
}

// login connects, and tells where that led.
func login(srv *fleet.Server, url string, opt nats.Option, l fix.Login) (posture.Access, string) {
	nc, err := nats.Connect(url, nats.Name(proofName), nats.NoReconnect(), nats.IgnoreDiscoveredServers(), nats.Timeout(patience), nats.SetCustomDialer(hearer{}), quiet, opt)
	switch {
	case err == nil:
		defer nc.Close()
	case refused(err):
		return posture.Closed, err.Error()
	default:
		return posture.Unknown, err.Error()
	}
	account, err := accountOf(srv, nc)
	switch {
	case err != nil:
		return posture.Unknown, "let in, and then: " + err.Error()
	case account != l.Account:
		return posture.Unknown, fmt.Sprintf("let in, and landed in %.60q, not in %s", account, l.Account)
	}
	return posture.Open, "let in, into " + cmp.Or(l.Label, l.Account)
}

// accountOf is the account of a connection. The server is asked, and not the
// connection: its user's permissions may forbid the question.
func accountOf(srv *fleet.Server, nc *nats.Conn) (string, error) {
	cid, err := nc.GetClientID()
	if err != nil {
		return "", err
	}
	account, err := srv.AccountOf(cid)
	// Servers leave the global account out.
	return cmp.Or(account, posture.GlobalAccount), err
}

// hearer dials connections on which a failed write is no error: a server that
// refuses closes the connection while the client still writes, and its word
// waits to be read.
type hearer struct{}

// Dial implements nats.CustomDialer.
func (hearer) Dial(network, address string) (net.Conn, error) {
	conn, err := net.DialTimeout(network, address, patience)
	return hearing{conn}, err
}

type hearing struct{ net.Conn }

func (c hearing) Write(b []byte) (int, error) {
	_, _ = c.Conn.Write(b) // the next read tells
	return len(b), nil
}

// quiet keeps the library from printing.
func quiet(o *nats.Options) error {
	o.AsyncErrorCB = func(*nats.Conn, *nats.Subscription, error) {}
	return nil
}

// refused tells a clear no from a mishap.
func refused(err error) bool {
	if errors.Is(err, nats.ErrAuthorization) {
		return true
	}
	text := strings.ToLower(err.Error())
	for _, word := range []string{"authorization violation", "tls: certificate required", "tls: bad certificate", "tls: unknown certificate authority"} {
		if strings.Contains(text, word) {
			return true
		}
	}
	return false
}

// serve runs the auth callout service, if there is one.
func (p *prover) serve(all []standIn) error {
	if p.b.Service == nil {
		return nil
	}
	c := p.b.Service.Config
	for _, s := range all {
		nc, err := nats.Connect("nats://"+p.fleet.Server(s.name).Addr(posture.Client.String()), nats.Name(proofName), quiet,
			nats.UserInfo(c.User, c.Password), nats.MaxReconnects(-1), nats.ReconnectWait(20*time.Millisecond), nats.ReconnectJitter(0, 0))
		if err != nil {
			return fmt.Errorf("start the auth callout service: %w", err)
		}
		p.service = append(p.service, nc)
		if err := callout.Serve(nc, c, func(error) {}); err != nil {
			return fmt.Errorf("start the auth callout service: %w", err)
		}
	}
	return nil
}

// await waits until the auth callout service is back.
func (p *prover) await(ctx context.Context) error {
	for _, nc := range p.service {
		if err := until(ctx, func() bool { return nc.IsConnected() && nc.FlushTimeout(time.Second) == nil }); err != nil {
			return fmt.Errorf("the auth callout service does not come in: %w", err)
		}
	}
	return nil
}
