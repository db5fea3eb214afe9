package oracle

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"strings"
	"time"
)

// The doors that a stranger can try.
const (
	Client        = "client"
	Websocket     = "websocket"
	LeafWebsocket = "leafnode over websocket"
	MQTT          = "mqtt"
	MQTTWebsocket = "mqtt over websocket"
	Leafnode      = "leafnode"
	Route         = "route"
	Gateway       = "gateway"
	Monitor       = "monitor"
)

// Doors lists the doors, in the order of reports.
func Doors() []string {
	return []string{Client, Websocket, LeafWebsocket, MQTT, MQTTWebsocket, Leafnode, Route, Gateway, Monitor}
}

// Target is a server, and what everybody may know of it.
type Target struct {
	Addresses map[string]string // host:port by door; a door without one is not there
	BasePath  string            // of the monitoring
	Cluster   string            // the name that it tells in every INFO
	Gateway   string            // likewise
	Known     []string          // names of gateways that its own cluster knows
	Witness   Witness           // who has really joined
}

// Outcome is how an attempt ended.
type Outcome struct {
	In  bool
	How string // what decided, in few words
}

// ErrUndecided means that neither did the stranger get in, nor did anybody turn
// him away.
var ErrUndecided = errors.New("undecided")

// limit bounds one attempt through one door.
const limit = 60 * time.Second

// Try tries to get in through a door.
func Try(ctx context.Context, t *Target, door string) (Outcome, error) {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	address := t.Addresses[door]
	if address == "" {
		return Outcome{}, fmt.Errorf("oracle: the server has no %s door", door)
	}
	var ways []way
	switch door {
	case Client:
		ways = clientWays(ctx, address)
	case Websocket:
		ways = websocketWays(address)
	case MQTT:
		ways = mqttWays(address)
	case MQTTWebsocket:
		ways = mqttWebsocketWays(address)
	case Monitor:
		ways = monitorWays(address, t.BasePath)
	case Leafnode, LeafWebsocket, Route, Gateway:
		ways = peerWays(ctx, t, door, address)
	default:
		return Outcome{}, fmt.Errorf("oracle: nobody knows how to try a %s door", door)
	}
	// On a busy machine a connection may break before the word of refusal was read.
	for try := 1; ; try++ {
		out, err := tryAll(ctx, ways)
		if !errors.Is(err, ErrUndecided) || try == tries || ctx.Err() != nil {
			return out, err
		}
	}
}

// tries is how often a door is tried that neither lets in nor refuses.
const tries = 3

// way is one way of trying a door.
type way struct {
	name string
	try  func(ctx context.Context) result
}

// result is what one way led to. The zero value decides nothing.
type result struct {
	in      bool
	refused bool
	why     string
}

func in(why string) result                   { return result{in: true, why: why} }
func refused(why string) result              { return result{refused: true, why: why} }
func nothing(format string, v ...any) result { return result{why: fmt.Sprintf(format, v...)} }

// tryAll tries one way after the other until one leads in. The door is closed
// when none does and at least one was answered with a refusal; the others may
// have been in a language that the door does not speak.
func tryAll(ctx context.Context, ways []way) (Outcome, error) {
	var said, no []string
	for _, w := range ways {
		r := w.try(ctx)
		word := w.name + ": " + r.why
		switch {
		case r.in:
			return Outcome{In: true, How: word}, nil
		case r.refused:
			no = append(no, word)
		default:
			said = append(said, word)
		}
	}
	if len(no) == 0 {
		return Outcome{}, fmt.Errorf("oracle: %w: %s", ErrUndecided, strings.Join(said, "; "))
	}
	return Outcome{How: strings.Join(no, "; ")}, nil
}

// careless is the TLS of a stranger: he trusts anybody and has no certificate.
func careless() *tls.Config {
	return &tls.Config{InsecureSkipVerify: true, MinVersion: tls.VersionTLS10} //nolint:gosec // he has nothing to lose
}

// aboutCertificates tells whether a TLS error is the server's refusal of a
// peer without a certificate.
func aboutCertificates(text string) bool {
	for _, alert := range []string{"certificate required", "bad certificate", "handshake failure"} {
		if strings.Contains(text, "remote error: tls: "+alert) {
			return true
		}
	}
	return false
}

func carelessIf(secure bool) *tls.Config {
	if secure {
		return careless()
	}
	return nil
}
