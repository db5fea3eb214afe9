package oracle

import (
	"bufio"
	"context"
	"crypto/tls"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nuid"
)

const (
	// settle is how long a peer must stay before it counts as joined.
	settle = 150 * time.Millisecond
	// joinLimit is how long a peer tries.
	joinLimit = 4 * time.Second
	poll      = 5 * time.Millisecond
)

// peerWays are real servers that try to join, with TLS where the door asks for
// it or says nothing by itself.
func peerWays(ctx context.Context, t *Target, door, address string) []way {
	at := func(scheme string) []*url.URL { return []*url.URL{{Scheme: scheme, Host: address}} }
	peerWay := func(name string, change func(*server.Options)) way {
		return way{name, func(ctx context.Context) result { return join(ctx, t.Witness, door, change) }}
	}
	switch door {
	case Leafnode:
		info, greeted := greeting(ctx, address)
		leaf := server.RemoteLeafOpts{URLs: at("nats-leaf"), TLS: info.TLSRequired || !greeted, TLSHandshakeFirst: !greeted}
		leaf.TLSConfig = carelessIf(leaf.TLS)
		ways := []way{peerWay("leafnode"+withTLS(leaf.TLS), func(o *server.Options) { o.LeafNode.Remotes = []*server.RemoteLeafOpts{&leaf} })}
		if leaf.TLS {
			ways = append(ways, alertWay(address, greeted))
		}
		return ways
	case LeafWebsocket:
		leaf := func(scheme string, secure bool) func(*server.Options) {
			return func(o *server.Options) {
				o.LeafNode.Remotes = []*server.RemoteLeafOpts{{URLs: at(scheme), TLS: secure, TLSConfig: carelessIf(secure)}}
			}
		}
		return []way{peerWay("leafnode over ws", leaf("ws", false)), peerWay("leafnode over wss", leaf("wss", true))}
	case Route:
		_, greeted := greeting(ctx, address)
		ways := []way{peerWay("route"+withTLS(!greeted), func(o *server.Options) {
			o.Cluster = server.ClusterOpts{
				Name: t.Cluster, Host: "127.0.0.1", Port: -1, TLSConfig: carelessIf(!greeted), TLSTimeout: 2, AuthTimeout: 2,
			}
			o.Routes = at("nats-route")
		})}
		if !greeted {
			ways = append(ways, alertWay(address, greeted))
		}
		return ways
	default:
		_, greeted := greeting(ctx, address)
		var ways []way
		for _, as := range append([]string{"stranger-" + nuid.Next()}, t.Known...) {
			ways = append(ways, peerWay("gateway "+as+withTLS(!greeted), func(o *server.Options) {
				o.Gateway = server.GatewayOpts{
					Name: as, Host: "127.0.0.1", Port: -1, TLSConfig: carelessIf(!greeted), TLSTimeout: 2, AuthTimeout: 2,
					Gateways: []*server.RemoteGatewayOpts{{Name: t.Gateway, URLs: at("nats"), TLSConfig: carelessIf(!greeted), TLSTimeout: 2}},
				}
			}))
		}
		if !greeted {
			ways = append(ways, alertWay(address, greeted))
		}
		return ways
	}
}

// alertWay reads the TLS alert with which a door answers a peer without a
// certificate.
func alertWay(address string, greeted bool) way {
	return way{"TLS by hand", func(ctx context.Context) result {
		conn, err := dial(ctx, address)
		if err != nil {
			return nothing("%v", err)
		}
		defer conn.Close()
		_ = conn.SetDeadline(time.Now().Add(clientTimeout)) // a failure shows in the reads
		if greeted {
			if _, err := readInfo(bufio.NewReader(conn)); err != nil {
				return nothing("%v", err)
			}
		}
		secure := tls.Client(conn, careless())
		if _, err := secure.Read(make([]byte, 1)); err != nil {
			return broken(err)
		}
		return nothing("the handshake succeeds")
	}}
}

func withTLS(secure bool) string {
	if secure {
		return " with TLS"
	}
	return ""
}

// join starts a server that tries to join, and waits until the target shows it
// and it stays, or until it complains.
func join(ctx context.Context, w Witness, door string, change func(*server.Options)) result {
	o := &server.Options{
		ServerName: "stranger-" + nuid.Next(), Host: "127.0.0.1", Port: -1, NoSigs: true, NoLog: true,
	}
	o.LeafNode.ReconnectInterval = 100 * time.Millisecond
	change(o)
	peer, err := server.NewServer(o)
	if err != nil {
		return nothing("%v", err)
	}
	log := &peerLog{}
	peer.SetLoggerV2(log, true, false, false)
	go peer.Start()
	defer func() {
		peer.Shutdown()
		peer.WaitForShutdown()
	}()

	name := o.ServerName
	if door == Gateway {
		name = peer.ID()
	}
	there := func() (bool, error) {
		names, err := w.Joined(ctx, door)
		return slices.Contains(names, name), err
	}
	ctx, cancel := context.WithTimeout(ctx, joinLimit)
	defer cancel()
	for {
		joined, err := there()
		switch {
		case err != nil:
			return nothing("%v", err)
		case joined:
			time.Sleep(settle)
			if joined, err = there(); err == nil && joined {
				return in("it joined, by the server's own word")
			}
		}
		if why := log.refusal(); why != "" {
			return refused(why)
		}
		if why := log.mismatch(); why != "" {
			return nothing("%s", why)
		}
		select {
		case <-ctx.Done():
			return nothing("it neither joined nor was refused: %s", log.text())
		case <-time.After(poll):
		}
	}
}

// peerLog keeps what a peer logs.
type peerLog struct {
	mu    sync.Mutex
	lines []string
}

func (l *peerLog) add(format string, v ...any) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.lines = append(l.lines, fmt.Sprintf(format, v...))
}

func (l *peerLog) text() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return strings.Join(l.lines, " | ")
}

// refusal is the line that says that the target turned the peer away.
func (l *peerLog) refusal() string {
	return l.find(func(line string) bool {
		return strings.Contains(strings.ToLower(line), "authorization violation") || aboutCertificates(line)
	})
}

// mismatch is the line that says that the connection broke without a word. A
// peer does not log the TLS alert that it reads.
func (l *peerLog) mismatch() string {
	return l.find(func(line string) bool {
		return strings.Contains(line, "Error soliciting websocket connection") ||
			strings.Contains(line, "connection closed: Read Error") || strings.Contains(line, "connection closed: TLS Handshake Failure")
	})
}

func (l *peerLog) find(is func(string) bool) string {
	l.mu.Lock()
	defer l.mu.Unlock()
	if i := slices.IndexFunc(l.lines, is); i >= 0 {
		return l.lines[i]
	}
	return ""
}

func (l *peerLog) Noticef(format string, v ...any) { l.add(format, v...) }
func (l *peerLog) Warnf(format string, v ...any)   { l.add(format, v...) }
func (l *peerLog) Errorf(format string, v ...any)  { l.add(format, v...) }
func (l *peerLog) Fatalf(format string, v ...any)  { l.add(format, v...) }
func (l *peerLog) Debugf(format string, v ...any)  { l.add(format, v...) }
func (l *peerLog) Tracef(string, ...any)           {}
