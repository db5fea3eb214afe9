package oracle

import (
	"bufio"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"strings"
	"syscall"
	"time"

	"github.com/coder/websocket"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nuid"
)

const (
	clientTimeout = 20 * time.Second
	// silence is how long a door may take to greet before it is taken to wait
	// for TLS. A server that waits for both greets after 50 ms by default.
	silence = 2 * time.Second
)

func clientWays(ctx context.Context, address string) []way {
	_, greeted := greeting(ctx, address)
	url := "nats://" + address
	plain := func(*nats.Options) {}
	secure := func(o *nats.Options) { o.Secure, o.TLSConfig = true, careless() }
	first := func(o *nats.Options) { o.Secure, o.TLSConfig, o.TLSHandshakeFirst = true, careless(), true }
	if !greeted {
		return []way{
			{"nats.go with TLS first", func(context.Context) result { return client(url, first) }},
			{"raw, with TLS first", func(ctx context.Context) result { return raw(ctx, address, true) }},
		}
	}
	return []way{
		{"nats.go", func(context.Context) result { return client(url, plain) }},
		{"nats.go with TLS", func(context.Context) result { return client(url, secure) }},
		{"raw, without CONNECT", func(ctx context.Context) result { return raw(ctx, address, false) }},
	}
}

func websocketWays(address string) []way {
	bare := func(scheme string) func(context.Context) result {
		return func(ctx context.Context) result { return rawOverWebsocket(ctx, scheme+address) }
	}
	return []way{
		{"raw over ws, without CONNECT", bare("ws://")},
		{"raw over wss, without CONNECT", bare("wss://")},
		{"nats.go over ws", func(context.Context) result { return client("ws://"+address, func(*nats.Options) {}) }},
		{"nats.go over wss", func(context.Context) result {
			return client("wss://"+address, func(o *nats.Options) { o.TLSConfig = careless() })
		}},
	}
}

// info is what a door says of itself before anything else.
type info struct {
	TLSRequired bool `json:"tls_required"`
}

// greeting reads what a door says in plaintext by itself, if it does.
func greeting(ctx context.Context, address string) (in info, greeted bool) {
	conn, err := dial(ctx, address)
	if err != nil {
		return in, false
	}
	defer conn.Close()
	_ = conn.SetReadDeadline(time.Now().Add(silence)) // a failure shows in the read
	in, err = readInfo(bufio.NewReader(conn))
	return in, err == nil
}

func readInfo(r *bufio.Reader) (in info, err error) {
	line, err := r.ReadString('\n')
	if err != nil {
		return in, err
	}
	text, ok := strings.CutPrefix(line, "INFO ")
	if !ok {
		return in, fmt.Errorf("greeted with %.40q", line)
	}
	return in, json.Unmarshal([]byte(text), &in)
}

// client connects with the library that everybody uses, and moves a message.
func client(url string, change func(*nats.Options)) result {
	o := nats.GetDefaultOptions()
	o.Url, o.Name, o.Timeout = url, "stranger", clientTimeout
	o.AllowReconnect, o.IgnoreDiscoveredServers = false, true
	o.AsyncErrorCB = func(*nats.Conn, *nats.Subscription, error) {} // permissions may stop the message
	o.CustomDialer = hearer{}
	change(&o)
	nc, err := connect(&o)
	switch {
	case err == nil:
	case errors.Is(err, nats.ErrAuthorization), strings.Contains(strings.ToLower(err.Error()), "authorization violation"):
		return refused(err.Error())
	case aboutCertificates(err.Error()), strings.Contains(err.Error(), "closed by remote after TLS handshake"):
		return refused(err.Error())
	case errors.Is(err, nats.ErrSecureConnWanted):
		return nothing("the server offers no TLS")
	default:
		return nothing("%v", err)
	}
	defer nc.Close()
	subject := nuid.Next()
	sub, err := nc.SubscribeSync(subject)
	if err != nil {
		return nothing("subscribe: %v", err)
	}
	if err := nc.Publish(subject, nil); err != nil {
		return nothing("publish: %v", err)
	}
	if err := nc.FlushTimeout(clientTimeout); err != nil {
		return nothing("flush: %v", err)
	}
	if _, err := sub.NextMsg(100 * time.Millisecond); err != nil {
		return in("connected; its permissions stop messages")
	}
	return in("a message came back")
}

// patience is how long a server may stay full: whoever left last may still be
// counted.
const patience = 2 * time.Second

// connect tries again for a while where the server is full.
func connect(o *nats.Options) (*nats.Conn, error) {
	for began := time.Now(); ; {
		nc, err := o.Connect()
		full := err != nil && strings.Contains(err.Error(), nats.MAX_CONNECTIONS_ERR) // the library wraps none while it connects
		if !full && !errors.Is(err, syscall.ECONNRESET) || time.Since(began) > patience {
			return nc, err
		}
		time.Sleep(50 * time.Millisecond)
	}
}

// hearer dials connections on which a failed write is no error: who refuses
// hangs up while the library still writes, and the word of refusal waits to be
// read.
type hearer struct{}

// Dial implements nats.CustomDialer.
func (hearer) Dial(network, address string) (net.Conn, error) {
	conn, err := net.DialTimeout(network, address, clientTimeout)
	return hearing{conn}, err
}

type hearing struct{ net.Conn }

func (c hearing) Write(b []byte) (int, error) {
	_, _ = c.Conn.Write(b) // the next read tells
	return len(b), nil
}

// raw subscribes and publishes without ever introducing itself.
func raw(ctx context.Context, address string, tlsFirst bool) result {
	conn, err := dial(ctx, address)
	if err != nil {
		return nothing("%v", err)
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(clientTimeout)) // a failure shows in the reads
	if tlsFirst {
		conn = tls.Client(conn, careless())
	}
	r := bufio.NewReader(conn)
	info, err := readInfo(r)
	if err != nil {
		return broken(err)
	}
	if info.TLSRequired && !tlsFirst {
		conn = tls.Client(conn, careless())
		r = bufio.NewReader(conn)
	}
	return echo(conn, r)
}

// rawOverWebsocket does so over a websocket.
func rawOverWebsocket(ctx context.Context, url string) result {
	ctx, cancel := context.WithTimeout(ctx, clientTimeout)
	defer cancel()
	transport := &http.Transport{TLSClientConfig: careless(), DisableKeepAlives: true}
	defer transport.CloseIdleConnections()
	ws, _, err := websocket.Dial(ctx, url, &websocket.DialOptions{HTTPClient: &http.Client{Transport: transport}}) //nolint:bodyclose // of a websocket, the library closes it
	if err != nil {
		return broken(err)
	}
	defer func() { _ = ws.CloseNow() }()
	conn := websocket.NetConn(ctx, ws, websocket.MessageBinary)
	r := bufio.NewReader(conn)
	if _, err := readInfo(r); err != nil {
		return broken(err)
	}
	return echo(conn, r)
}

// echo subscribes and publishes over a connection that was greeted.
func echo(conn net.Conn, r *bufio.Reader) result {
	subject := nuid.Next()
	if _, err := fmt.Fprintf(conn, "SUB %s 1\r\nPUB %s 0\r\n\r\nPING\r\n", subject, subject); err != nil {
		return broken(err)
	}
	for {
		line, err := r.ReadString('\n')
		switch {
		case err != nil:
			return broken(err)
		case strings.HasPrefix(line, "MSG "+subject):
			return in("a message came back")
		case strings.HasPrefix(line, "-ERR 'Permissions Violation"):
			return in("only its permissions stop messages")
		case strings.HasPrefix(line, "-ERR 'Authorization Violation'"):
			return refused(strings.TrimSpace(line))
		case strings.HasPrefix(line, "-ERR"), strings.HasPrefix(line, "PONG"):
			return nothing("%s", strings.TrimSpace(line))
		}
	}
}

func broken(err error) result {
	if aboutCertificates(err.Error()) {
		return refused(err.Error())
	}
	return nothing("%v", err)
}

func dial(ctx context.Context, address string) (net.Conn, error) {
	return (&net.Dialer{Timeout: clientTimeout}).DialContext(ctx, "tcp", address)
}

func monitorWays(address, base string) []way {
	return []way{
		{"GET http", func(ctx context.Context) result { return monitor(ctx, "http://"+address+base+"/varz") }},
		{"GET https", func(ctx context.Context) result { return monitor(ctx, "https://"+address+base+"/varz") }},
	}
}

func monitor(ctx context.Context, url string) result {
	ctx, cancel := context.WithTimeout(ctx, clientTimeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return nothing("%v", err)
	}
	transport := &http.Transport{TLSClientConfig: careless(), DisableKeepAlives: true}
	defer transport.CloseIdleConnections()
	resp, err := (&http.Client{Transport: transport}).Do(req)
	if err != nil {
		return broken(err)
	}
	defer resp.Body.Close()
	var varz struct {
		ID string `json:"server_id"`
	}
	err = json.NewDecoder(resp.Body).Decode(&varz)
	switch {
	case resp.StatusCode == http.StatusUnauthorized || resp.StatusCode == http.StatusForbidden:
		return refused(resp.Status)
	case err != nil || varz.ID == "":
		return nothing("%s, and no VARZ", resp.Status)
	}
	return in(resp.Status)
}
