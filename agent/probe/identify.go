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
// says nothing by itself is asked for a websocket, for monitoring and for
// TLS, in this order. The result is never empty; a door that could not be
// told is a touch of NoDoor with a reason.
func (p *Prober) Identify(ctx context.Context, address string) []posture.Touch {
	kind, silent, err := p.greeting(ctx, address, false)
	switch {
	case err != nil:
		return []posture.Touch{{Address: address, Reason: reason(ctx, err)}}
	case kind != posture.NoDoor:
		return []posture.Touch{p.Touch(ctx, Target{Door: kind, Address: address})}
	case !silent:
		return []posture.Touch{{Address: address, Reason: "it greets, and not as a door of a NATS server"}}
	}
	if found := p.identifyHTTP(ctx, address, posture.No); found != nil {
		return found
	}
	kind, silent, err = p.greeting(ctx, address, true)
	switch {
	case err == nil && kind != posture.NoDoor:
		return []posture.Touch{p.Touch(ctx, Target{Door: kind, Address: address})}
	case err == nil && silent:
		if found := p.identifyHTTP(ctx, address, posture.Yes); found != nil {
			return found
		}
	case err != nil && strings.Contains(err.Error(), certificateRefused):
		return []posture.Touch{{Address: address, CertAsked: true, Encrypted: true, Reason: certificateRefused + " before it said what kind of door it is"}}
	}
	return []posture.Touch{{Address: address, Reason: "it accepts connections and says nothing that a NATS server would say; an MQTT listener looks like this and is never touched"}}
}

// greeting opens a connection, over TLS if so asked, and reads who greets.
func (p *Prober) greeting(ctx context.Context, address string, secure bool) (kind posture.DoorKind, silent bool, err error) {
	timeout := p.Timeout
	if timeout <= 0 {
		timeout = defaultTimeout
	}
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	conn, err := p.Dialer.DialContext(ctx, "tcp", address)
	if err != nil {
		return posture.NoDoor, false, err
	}
	defer func() { _ = conn.Close() }()
	deadline, _ := ctx.Deadline()
	if err := conn.SetDeadline(deadline); err != nil {
		return posture.NoDoor, false, err
	}
	var out posture.Touch
	l := newLine(conn, &out)
	if secure {
		if l, err = encrypt(ctx, conn, Target{Address: address}, &out); err != nil {
			return posture.NoDoor, false, certificateError(err, &out)
		}
	}
	spoke, err := speaks(l, p.silence(), deadline)
	if err != nil || !spoke {
		return posture.NoDoor, err == nil, certificateError(err, &out)
	}
	line, err := l.readLine()
	if err != nil {
		return posture.NoDoor, false, err
	}
	var b banner
	if text, ok := strings.CutPrefix(line, "INFO "); !ok || json.Unmarshal([]byte(text), &b) != nil {
		return posture.NoDoor, false, nil
	}
	return b.kind(), false, nil
}

// certificateError puts the refusal of a peer without certificate in words.
func certificateError(err error, out *posture.Touch) error {
	if refusedForCertificate(err, out.CertAsked) {
		return errors.New(certificateRefused)
	}
	return err
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
