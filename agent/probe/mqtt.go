package probe

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/natsentry/natsentry/agent/posture"
)

// mqttConnect is an MQTT 3.1.1 CONNECT: a clean session, no will, no user
// name, no password, and a client id that says who we are.
var mqttConnect = append([]byte{
	0x10, byte(10 + 2 + len(Name)), // CONNECT, remaining length
	0, 4, 'M', 'Q', 'T', 'T', 4, // protocol name and level
	0x02,  // clean session
	0, 10, // keep-alive, seconds
	0, byte(len(Name)),
}, Name...)

// touchMQTT knocks at an MQTT door. Unlike all others this touch leaves
// something behind where it is let in: the server makes the JetStream streams
// in which it keeps MQTT sessions of the account, unless they are there
// already.
func (p *Prober) touchMQTT(ctx context.Context, b *budget, t Target, out *posture.Touch) error {
	if !p.MQTT {
		return errors.New("an MQTT door is touched only when asked for: where it is open, that creates streams")
	}
	conn, err := p.dial(ctx, b, t.Address)
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close() }()
	l := newLine(conn, out)
	if t.TLS == posture.Yes {
		if l, err = encrypt(ctx, conn, t, out); err != nil {
			return refusal(err, out)
		}
	}
	if err := l.write(string(mqttConnect)); err != nil {
		return refusal(err, out)
	}
	var ack [4]byte
	n, err := io.ReadFull(l.r, ack[:])
	out.Read += n
	switch {
	case err != nil:
		return refusal(fmt.Errorf("no CONNACK: %w", err), out)
	case ack[0] != 0x20 || ack[1] != 2:
		return errors.New("it does not answer as an MQTT server")
	}
	const accepted, badUserOrPassword, notAuthorized = 0, 4, 5
	out.Answer = fmt.Sprintf("CONNACK %d", ack[3])
	switch ack[3] {
	case accepted:
		out.Access = posture.Open
		return l.write("\xe0\x00") // DISCONNECT
	case badUserOrPassword, notAuthorized:
		out.Access = posture.Closed
		return nil
	default:
		return fmt.Errorf("it answers %s, which decides nothing", out.Answer)
	}
}
