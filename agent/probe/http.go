package probe

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"

	"github.com/coder/websocket"

	"github.com/natsentry/natsentry/agent/posture"
)

// client makes one request over one connection, follows nothing, keeps
// nothing and uses no proxy: the door itself is what is touched.
func (p *Prober) client(b *budget, t Target, out *posture.Touch) *http.Client {
	transport := &http.Transport{
		DialContext:       func(ctx context.Context, _, address string) (net.Conn, error) { return p.dial(ctx, b, address) },
		DisableKeepAlives: true, DisableCompression: true,
		TLSClientConfig: tlsConfig(t.Address, &out.CertAsked), MaxResponseHeaderBytes: 64 << 10,
	}
	return &http.Client{
		Transport:     transport,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}

func scheme(t Target, plain, secure string) string {
	if t.TLS == posture.Yes {
		return secure
	}
	return plain
}

// touchWebsocket opens the paths / and /leafnode and no others: /mqtt has
// crashed servers.
func (p *Prober) touchWebsocket(ctx context.Context, b *budget, t Target, out *posture.Touch) error {
	if t.Path != "" && t.Path != "/" && t.Path != "/leafnode" {
		return fmt.Errorf("the websocket path %.40q is never touched", t.Path)
	}
	err := p.overWebsocket(ctx, b, t, out, func(l *line, in *info) error { return handshake(l, t, in, out) })
	return orUnintroduced(t, out, err, func() error {
		return p.overWebsocket(ctx, b, t, out, func(l *line, _ *info) error { return ping(l, out) })
	})
}

// overWebsocket opens a websocket, reads the greeting and hands over.
func (p *Prober) overWebsocket(ctx context.Context, b *budget, t Target, out *posture.Touch, speak func(*line, *info) error) error {
	client := p.client(b, t, out)
	defer client.CloseIdleConnections()
	out.Encrypted = t.TLS == posture.Yes
	ws, _, err := websocket.Dial(ctx, scheme(t, "ws://", "wss://")+t.Address+t.Path, &websocket.DialOptions{ //nolint:bodyclose // of a websocket, the library closes it
		HTTPClient: client, CompressionMode: websocket.CompressionDisabled,
	})
	if err != nil {
		return refusal(fmt.Errorf("websocket: %w", err), out)
	}
	defer func() { _ = ws.CloseNow() }()
	ws.SetReadLimit(maxRead)
	l := newLine(websocket.NetConn(ctx, ws, websocket.MessageBinary), out)
	in, err := readInfo(l, t, out)
	if err != nil {
		return err
	}
	return speak(l, in)
}

// touchMonitor asks for VARZ, of which only the server's id is read. Every
// verdict needs that id: monitoring itself never asks for credentials, so an
// answer without the id comes from something else, a proxy for example, and
// says nothing about the server's own listener.
func (p *Prober) touchMonitor(ctx context.Context, b *budget, t Target, out *posture.Touch) error {
	client := p.client(b, t, out)
	defer client.CloseIdleConnections()
	out.Encrypted = t.TLS == posture.Yes
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, scheme(t, "http://", "https://")+t.Address+t.Path+"/varz", nil)
	if err != nil {
		return err
	}
	req.Header.Set("User-Agent", Name)
	resp, err := client.Do(req)
	if err != nil {
		if refusedForCertificate(err, out.CertAsked) {
			out.Nameless = true
			return errors.New(certificateRefused + ", as monitoring of a NATS server never does (a proxy in between?)")
		}
		return refusal(err, out)
	}
	defer func() { _ = resp.Body.Close() }()
	data, err := io.ReadAll(io.LimitReader(resp.Body, maxRead))
	out.Read += len(data)
	if err != nil {
		out.Nameless = true
		return fmt.Errorf("GET /varz: %s, and the answer ends early: %w", resp.Status, err)
	}
	var in info
	if err := json.Unmarshal(data, &in); err != nil || in.ID == "" || resp.StatusCode != http.StatusOK {
		out.Nameless = true
		return fmt.Errorf("GET /varz: %s, without the id of a NATS server (a proxy in between?)", resp.Status)
	}
	out.ServerID, out.ServerName, out.Version = in.ID, in.Name, in.Version
	if !t.expected(in.ID) {
		return fmt.Errorf("another server answers at %s: %.60q, id %.60q (a proxy in between?)", t.Address, in.Name, in.ID)
	}
	out.Access, out.Answer = posture.Open, "GET /varz: "+resp.Status
	return nil
}
