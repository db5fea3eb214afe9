package probe

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"os"
	"strings"
	"time"

	"github.com/natsentry/natsentry/agent/posture"
)

// Name is what every touch calls itself, so that operators and the agent can
// tell it from other strangers.
const Name = posture.ProbeName

// Target is one door to touch.
type Target struct {
	Door     posture.DoorKind
	Address  string // host:port to dial
	ServerID string // who must answer for the verdict to count; "" accepts anybody
	// Other reports whether the touch may go on when another server than the one
	// asked for answers, as behind a load balancer. The outcome is then that of the
	// server that Touch.ServerID names. It may be nil.
	Other func(id string) bool
	Path  string      // websocket: "/" or "/leafnode"; monitoring: the base path
	TLS   posture.Tri // websocket and monitoring: whether to speak TLS; the others find out
}

// Prober touches doors. Its zero value is ready to use.
type Prober struct {
	Timeout time.Duration // of a whole touch; default 4 s, and up to three times that where round trips are long
	MQTT    bool          // touch MQTT doors too, which leaves streams behind where they are open
	Silence time.Duration // a door that said nothing for so long waits for TLS; default 300 ms
	Now     func() time.Time
	Dialer  net.Dialer
}

// maxRead bounds what one touch reads: INFO of a large cluster lists every
// member's address.
const maxRead = 1 << 20

// Touch touches one door. It never fails: what went wrong is the reason of an
// unknown access.
func (p *Prober) Touch(ctx context.Context, t Target) posture.Touch {
	now := p.Now
	if now == nil {
		now = time.Now
	}
	b := p.newBudget()
	ctx, cancel := b.within(ctx)
	defer cancel()

	out := posture.Touch{Door: t.Door, Path: t.Path, Address: t.Address, At: now()}
	var err error
	switch t.Door {
	case posture.Client, posture.Leafnode, posture.Route, posture.Gateway:
		err = p.touchTCP(ctx, b, t, &out)
	case posture.Websocket:
		err = p.touchWebsocket(ctx, b, t, &out)
	case posture.Monitor:
		err = p.touchMonitor(ctx, b, t, &out)
	case posture.MQTT:
		err = p.touchMQTT(ctx, b, t, &out)
	default:
		err = fmt.Errorf("a %s door is never touched", t.Door)
	}
	out.Dialed = dialFailure(err) == nil
	if err != nil {
		out.Access, out.Reason, out.TimedOut = posture.Unknown, reason(ctx, err), timedOut(ctx, err)
	}
	out.Took = now().Sub(out.At)
	return out
}

func (p *Prober) silence() time.Duration {
	if p.Silence > 0 {
		return p.Silence
	}
	return 300 * time.Millisecond
}

// reason puts an error into words that fit a report.
func reason(ctx context.Context, err error) string {
	dial := dialFailure(err)
	var op *net.OpError
	switch {
	case dial != nil:
		return posture.Unreachable + cause(dial)
	case timedOut(ctx, err):
		return "no clear answer in time"
	case errors.As(err, &op):
		// Without our own port, which is another one each time.
		return strings.ReplaceAll(err.Error(), op.Error(), op.Op+": "+cause(op))
	default:
		return err.Error()
	}
}

func timedOut(ctx context.Context, err error) bool {
	return ctx.Err() != nil || errors.Is(err, os.ErrDeadlineExceeded)
}

// dialFailure is the error of a connection that did not come about, and nil
// for any other error.
func dialFailure(err error) *net.OpError {
	var dial *net.OpError
	if errors.As(err, &dial) && dial.Op == "dial" {
		return dial
	}
	return nil
}

// cause is why an operation of the network failed, without the name of the
// system call.
func cause(op *net.OpError) string {
	var call *os.SyscallError
	if errors.As(op.Err, &call) {
		return call.Err.Error()
	}
	return op.Err.Error()
}

// expected reports whether a touch may go on with the server that answers.
func (t *Target) expected(id string) bool {
	return t.ServerID == "" || id == t.ServerID || t.Other != nil && t.Other(id)
}

// tlsConfig speaks to any certificate: a touch judges whether strangers get
// in, and sends nothing that would need protection. asked notes that the
// server wants a client certificate; it gets none.
func tlsConfig(address string, asked *bool) *tls.Config {
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		host = address
	}
	return &tls.Config{
		ServerName:         host,
		InsecureSkipVerify: true, // see above
		GetClientCertificate: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
			*asked = true
			return &tls.Certificate{}, nil
		},
	}
}

// refusedForCertificate tells whether a TLS error is the server's refusal of
// a peer that showed no certificate: a clear word, unlike other TLS failures.
func refusedForCertificate(err error, asked bool) bool {
	var alert tls.AlertError
	if !asked || err == nil {
		return false
	}
	if errors.As(err, &alert) {
		const badCertificate, handshakeFailure, certificateRequired = 42, 40, 116
		return alert == badCertificate || alert == handshakeFailure || alert == certificateRequired
	}
	// Alerts that the peer sent come as a net.OpError around an unexported
	// type; only their text tells them apart.
	text := err.Error()
	return strings.Contains(text, "remote error: tls: certificate required") || strings.Contains(text, "remote error: tls: bad certificate") ||
		strings.Contains(text, "remote error: tls: handshake failure")
}

const certificateRefused = "TLS refused a peer without a client certificate"
