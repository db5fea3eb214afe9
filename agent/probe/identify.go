package probe

import (
	"context"
	"encoding/json"
	"errors"
	"strings"
	"time"

	"github.com/natsentry/natsentry/agent/posture"
)

// banner is what tells the doors of a server apart in their INFO.
type banner struct {
	ID           string   `json:"server_id"`
	ClientID     uint64   `json:"client_id"`
	ClientIP     string   `json:"client_ip"`
	LNOC         bool     `json:"lnoc"`
	Gateway      string   `json:"gateway"`
	LeafNodeURLs []string `json:"leafnode_urls"`
}

func (b *banner) kind() posture.DoorKind {
	switch {
	case b.Gateway != "":
		return posture.Gateway
	case b.LNOC:
		return posture.Route
	case b.ClientIP != "":
		return posture.Client
	case len(b.LeafNodeURLs) > 0:
		return posture.Leafnode
	case b.ClientID != 0:
		return posture.Client
	default:
		return posture.NoDoor
	}
}

// Identify finds out by its banner what kind of door an address is, and
// touches it. A websocket is touched on its path /leafnode too, where there
// is one. It takes a few connections, all of them harmless: a listener that
// says nothing by itself is asked for TLS, for a websocket and for monitoring,
// in this order. The result is never empty. A touch of NoDoor speaks of an
// address whose kind stayed hidden: it is closed where TLS refuses whoever
// brings no certificate, and otherwise unknown for a reason.
func (p *Prober) Identify(ctx context.Context, address string) []posture.Touch {
	b := p.newBudget()
	kind, err := p.greeting(ctx, b, address, b.silence(p.silence()))
	if !errors.Is(err, errSilent) {
		return p.identified(ctx, address, kind, err)
	}
	kind, secureErr := p.secureGreeting(ctx, b, address)
	speaksTLS := posture.No
	switch {
	case secureErr == nil:
		return p.identified(ctx, address, kind, nil)
	case secureErr.Error() == certificateRefused:
		return []posture.Touch{{Address: address, At: b.began, Access: posture.Closed, Answer: certificateRefused, CertAsked: true, Encrypted: true}}
	case greetsInPlaintext(secureErr): // it only took its time
		b = p.newBudget()
		kind, err = p.greeting(ctx, b, address, time.Until(b.deadline()))
		return p.identified(ctx, address, kind, err)
	case errors.Is(secureErr, errSilent):
		speaksTLS = posture.Yes
	}
	if found := p.identifyHTTP(ctx, address, speaksTLS); found != nil {
		return found
	}
	return []posture.Touch{{Address: address, Reason: "it accepts connections and says nothing that a NATS server would say; an MQTT listener looks like this and is never touched"}}
}

// identified touches a listener whose greeting shows what it is.
func (p *Prober) identified(ctx context.Context, address string, kind posture.DoorKind, err error) []posture.Touch {
	switch {
	case err != nil:
		return []posture.Touch{{Address: address, Reason: reason(ctx, err)}}
	case kind == posture.NoDoor:
		return []posture.Touch{{Address: address, Reason: "it greets, and not as a door of a NATS server"}}
	default:
		return []posture.Touch{p.Touch(ctx, Target{Door: kind, Address: address})}
	}
}

// errSilent says that a listener does not speak first.
var errSilent = errors.New("it says nothing by itself")

// greeting connects and reads who greets within so long.
func (p *Prober) greeting(ctx context.Context, b *budget, address string, silence time.Duration) (posture.DoorKind, error) {
	conn, err := p.dial(ctx, b, address)
	if err != nil {
		return posture.NoDoor, err
	}
	defer func() { _ = conn.Close() }()
	return greets(newLine(conn, new(posture.Touch)), b, silence)
}

// secureGreeting is the same over TLS.
func (p *Prober) secureGreeting(ctx context.Context, b *budget, address string) (kind posture.DoorKind, err error) {
	conn, err := p.dial(ctx, b, address)
	if err != nil {
		return posture.NoDoor, err
	}
	defer func() { _ = conn.Close() }()
	var out posture.Touch
	l, err := encrypt(ctx, conn, Target{Address: address}, &out)
	if err == nil {
		kind, err = greets(l, b, b.silence(p.silence()))
	}
	if refusedForCertificate(err, out.CertAsked) {
		err = errors.New(certificateRefused)
	}
	return kind, err
}

func greets(l *line, b *budget, silence time.Duration) (posture.DoorKind, error) {
	spoke, err := speaks(l, b, silence)
	if err != nil {
		return posture.NoDoor, err
	}
	if !spoke {
		return posture.NoDoor, errSilent
	}
	line, err := l.readLine()
	if err != nil {
		return posture.NoDoor, err
	}
	var said banner
	if text, ok := strings.CutPrefix(line, "INFO "); !ok || json.Unmarshal([]byte(text), &said) != nil {
		return posture.NoDoor, nil
	}
	return said.kind(), nil
}

// identifyHTTP tries a listener that waits as a websocket and as monitoring.
// It returns nil when it is neither.
func (p *Prober) identifyHTTP(ctx context.Context, address string, secure posture.Tri) []posture.Touch {
	ws := p.Touch(ctx, Target{Door: posture.Websocket, Address: address, TLS: secure})
	if ws.ServerID != "" {
		found := []posture.Touch{ws}
		if leaf := p.Touch(ctx, Target{Door: posture.Websocket, Address: address, Path: posture.LeafnodePath, TLS: secure}); leaf.ServerID != "" {
			found = append(found, leaf)
		}
		return found
	}
	switch monitor := p.Touch(ctx, Target{Door: posture.Monitor, Address: address, TLS: secure}); {
	case monitor.ServerID != "":
		return []posture.Touch{monitor}
	case monitor.Nameless && !monitor.CertAsked:
		return []posture.Touch{{Address: address, Reason: "it speaks HTTP: " + monitor.Reason}}
	}
	return nil
}

const defaultTimeout = 4 * time.Second
