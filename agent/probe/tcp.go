package probe

import (
	"bufio"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"time"

	"github.com/natsentry/natsentry/agent/posture"
	"github.com/natsentry/natsentry/agent/release"
)

// line is a connection that is read line by line and counts its bytes.
type line struct {
	net.Conn
	r   *bufio.Reader
	out *posture.Touch
}

func newLine(conn net.Conn, out *posture.Touch) *line {
	return &line{Conn: conn, out: out, r: bufio.NewReaderSize(io.LimitReader(conn, maxRead), 4096)}
}

func (l *line) readLine() (string, error) {
	s, err := l.r.ReadString('\n')
	l.out.Read += len(s)
	if err != nil {
		return "", err
	}
	return strings.TrimRight(s, "\r\n"), nil
}

func (l *line) write(s string) error {
	n, err := io.WriteString(l.Conn, s)
	l.out.Sent += n
	return err
}

// info is what a door says of itself before anything else.
type info struct {
	ID           string `json:"server_id"`
	Name         string `json:"server_name"`
	Version      string `json:"version"`
	CID          uint64 `json:"client_id"`
	ClientIP     string `json:"client_ip"`
	AuthRequired bool   `json:"auth_required"`
	TLSRequired  bool   `json:"tls_required"`
	TLSAvailable bool   `json:"tls_available"`
}

func (p *Prober) touchTCP(ctx context.Context, b *budget, t Target, out *posture.Touch) error {
	err := p.touchIntroduced(ctx, b, t, out)
	return orUnintroduced(t, out, err, func() error {
		return p.open(ctx, b, t, out, func(l *line, _ *info) error { return ping(l, out) })
	})
}

// orUnintroduced tries a port for clients again that rejects one that introduces
// itself, where one that does not may be admitted: by an auth callout without
// users, and by a no_auth_user on older releases. INFO of the client port then
// says that nobody is asked; that of a websocket does not show a no_auth_user.
func orUnintroduced(t Target, out *posture.Touch, err error, again func() error) error {
	if err != nil || out.Access != posture.Closed {
		return err
	}
	switch {
	case t.Door == posture.Client && out.AuthRequired == posture.No:
	case t.Door == posture.Websocket && t.Path != posture.LeafnodePath && (out.AuthRequired == posture.No || !release.ChecksGuest.Holds(out.Version)):
	default:
		return nil
	}
	closed := *out
	if err := again(); err != nil || out.Access != posture.Open {
		closed.Sent, closed.Read = out.Sent, out.Read
		*out = closed
	}
	return nil
}

// ping sends a PING and no CONNECT, which a client port takes from a client
// that is admitted.
func ping(l *line, out *posture.Touch) error {
	if err := l.write("PING\r\n"); err != nil {
		return err
	}
	for {
		word, err := l.readLine()
		switch {
		case err != nil:
			return err
		case word == "PONG":
			out.Access, out.Answer, out.Unintroduced = posture.Open, "PONG, without a CONNECT", true
			return nil
		case strings.HasPrefix(word, "-ERR"):
			return errors.New(word)
		}
	}
}

func (p *Prober) touchIntroduced(ctx context.Context, b *budget, t Target, out *posture.Touch) error {
	return p.open(ctx, b, t, out, func(l *line, in *info) error { return handshake(l, t, in, out) })
}

// open connects, encrypts where the listener wants it, reads the greeting and
// hands over.
func (p *Prober) open(ctx context.Context, b *budget, t Target, out *posture.Touch, speak func(*line, *info) error) error {
	err := p.openAfter(ctx, b, b.silence(p.silence()), t, out, speak)
	if greetsInPlaintext(err) {
		// The greeting came late, and met our TLS on the way: that connection is
		// spoilt, and the next one waits for the greeting as long as it may.
		// It is a long way, or handshake_first with a fallback delay.
		out.Encrypted, out.TLSFailed = false, false
		err = p.openAfter(ctx, b, time.Until(b.deadline()), t, out, speak)
	}
	return err
}

// greetsInPlaintext reports whether a TLS handshake failed because the other
// side greets as a NATS server does, in plaintext.
func greetsInPlaintext(err error) bool {
	var plain tls.RecordHeaderError
	return errors.As(err, &plain) && string(plain.RecordHeader[:]) == "INFO "
}

func (p *Prober) openAfter(ctx context.Context, b *budget, silence time.Duration, t Target, out *posture.Touch, speak func(*line, *info) error) error {
	conn, err := p.dial(ctx, b, t.Address)
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close() }() // nothing was promised over it

	l := newLine(conn, out)
	spoke, err := speaks(l, b, silence)
	if err != nil {
		return err
	}
	if !spoke {
		// A door that waits for TLS: handshake_first, or a route or gateway.
		if l, err = encrypt(ctx, conn, t, out); err != nil {
			return refusal(err, out)
		}
	}
	in, err := readInfo(l, t, out)
	if err != nil {
		return refusal(err, out)
	}
	if in.TLSRequired && !out.Encrypted {
		if l, err = encrypt(ctx, conn, t, out); err != nil {
			return refusal(err, out)
		}
	}
	return refusal(speak(l, in), out)
}

// refusal turns a TLS error into a verdict where it is one.
func refusal(err error, out *posture.Touch) error {
	if refusedForCertificate(err, out.CertAsked) {
		out.Access, out.Answer = posture.Closed, certificateRefused
		return nil
	}
	out.TLSFailed = err != nil && out.Encrypted && dialFailure(err) == nil
	return err
}

// speaks reports whether the listener says something by itself.
func speaks(l *line, b *budget, silence time.Duration) (bool, error) {
	wait := time.Now().Add(silence)
	if deadline := b.deadline(); wait.After(deadline) {
		wait = deadline
	}
	if err := l.SetReadDeadline(wait); err != nil {
		return false, err
	}
	_, err := l.r.Peek(1)
	if errors.Is(err, os.ErrDeadlineExceeded) {
		return false, l.SetReadDeadline(b.deadline())
	}
	if err != nil {
		return false, fmt.Errorf("the connection was closed without a word: %w", err)
	}
	return true, l.SetReadDeadline(b.deadline())
}

func encrypt(ctx context.Context, conn net.Conn, t Target, out *posture.Touch) (*line, error) {
	secure := tls.Client(conn, tlsConfig(t.Address, &out.CertAsked))
	out.Encrypted = true
	if err := secure.HandshakeContext(ctx); err != nil {
		return nil, fmt.Errorf("TLS handshake: %w", err)
	}
	return newLine(secure, out), nil
}

// readInfo reads the greeting and holds it against the server that should be
// behind this door.
func readInfo(l *line, t Target, out *posture.Touch) (*info, error) {
	greeting, err := l.readLine()
	if err != nil {
		return nil, fmt.Errorf("no greeting: %w", err)
	}
	text, ok := strings.CutPrefix(greeting, "INFO ")
	if !ok {
		return nil, fmt.Errorf("it greets with %.60q and not as a NATS server", greeting)
	}
	var in info
	if err := json.Unmarshal([]byte(text), &in); err != nil {
		return nil, errors.New("its INFO is unreadable")
	}
	out.ServerID, out.ServerName, out.Version, out.CID = in.ID, in.Name, in.Version, in.CID
	out.AuthRequired, out.TLSRequired, out.TLSOffered = posture.TriOf(in.AuthRequired), posture.TriOf(in.TLSRequired), posture.TriOf(in.TLSAvailable)
	if on, known := release.ProxyProtocol.In(in.Version); t.Door == posture.Client && known {
		out.Claimed = posture.TriOf(on && in.ClientIP == "")
	}
	if !t.expected(in.ID) {
		return nil, fmt.Errorf("another server answers at %s: %.60q, id %.60q (a load balancer in between?)", t.Address, in.Name, in.ID)
	}
	return &in, nil
}

// connect is what a touch introduces itself with. It has a lang, always, and
// no field that could be taken for a credential.
type connect struct {
	Lang         string `json:"lang"`
	Version      string `json:"version"`
	CID          uint64 `json:"client_id"`
	Name         string `json:"name"`
	Verbose      bool   `json:"verbose"`
	Pedantic     bool   `json:"pedantic"`
	TLSRequired  bool   `json:"tls_required"`
	Protocol     int    `json:"protocol"`
	Headers      bool   `json:"headers"`
	NoResponders bool   `json:"no_responders"`
	Echo         bool   `json:"echo"`
}

// letIn are the words with which a port of another protocol turns away a peer
// that has passed its authentication.
var letIn = map[posture.DoorKind]string{
	posture.Leafnode: "-ERR 'attempted to connect to leaf node port'",
	posture.Route:    "-ERR 'attempted to connect to route port'",
	posture.Gateway:  "-ERR 'attempted to connect to gateway port'",
}

// shutOut are the words with which a server refuses a stranger.
var shutOut = []string{
	"-ERR 'Authorization Violation'",
	"-ERR 'authorization violation'",
}

// handshake introduces itself and reads what the server makes of it.
func handshake(l *line, t Target, in *info, out *posture.Touch) error {
	hello, err := json.Marshal(connect{Lang: "natsentry", Version: "1", Name: Name, Protocol: 1, Headers: true, NoResponders: true, TLSRequired: out.Encrypted})
	if err != nil {
		return err
	}
	if err := l.write("CONNECT " + string(hello) + "\r\nPING\r\n"); err != nil {
		return err
	}
	door := t.Door
	if door == posture.Websocket {
		door = posture.Client
		if t.Path == posture.LeafnodePath {
			door = posture.Leafnode
		}
	}
	for {
		word, err := l.readLine()
		switch {
		case errors.Is(err, io.EOF):
			return errors.New("the connection was closed without a verdict")
		case err != nil:
			return err
		case word == "PONG" && door == posture.Client:
			out.Access, out.Answer = posture.Open, word
			land(l, in, out)
			return nil
		case word == letIn[door] && word != "":
			out.Access, out.Answer = posture.Open, word
			return nil
		case strings.HasPrefix(word, "-ERR"):
			for _, refused := range shutOut {
				if word == refused {
					out.Access, out.Answer = posture.Closed, word
					return nil
				}
			}
			return fmt.Errorf("it answers %.80q, which decides nothing", word)
		default: // +OK, INFO, PING: not the answer
		}
	}
}
