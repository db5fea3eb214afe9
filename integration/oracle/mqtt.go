package oracle

import (
	"bufio"
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"time"

	"github.com/nats-io/nuid"
)

func mqttWays(address string) []way {
	return mqttOver(address, "MQTT", "MQTT over TLS", func(conn net.Conn) result { return mqttSession(conn) })
}

func mqttWebsocketWays(address string) []way {
	return mqttOver(address, "MQTT over ws", "MQTT over wss", func(conn net.Conn) result { return mqttWebsocket(conn, address) })
}

// mqttOver tries a session in plaintext, and over TLS.
func mqttOver(address, plaintext, encrypted string, try func(net.Conn) result) []way {
	over := func(name string, wrap func(net.Conn) net.Conn) way {
		return way{name, func(ctx context.Context) result {
			conn, err := dial(ctx, address)
			if err != nil {
				return nothing("%v", err)
			}
			defer conn.Close()
			_ = conn.SetDeadline(time.Now().Add(clientTimeout)) // a failure shows in the reads
			return try(wrap(conn))
		}}
	}
	return []way{
		over(plaintext, func(conn net.Conn) net.Conn { return conn }),
		over(encrypted, func(conn net.Conn) net.Conn { return tls.Client(conn, careless()) }),
	}
}

// mqttSession opens an MQTT 3.1.1 session without user name and password, and asks
// for a sign of life in it.
func mqttSession(conn io.ReadWriter) result {
	const cleanSession, keepAlive = 2, 60
	id := "stranger-" + nuid.Next() // a second one of the same name would end the first
	connect := append([]byte{0x10, byte(12 + len(id)), 0, 4, 'M', 'Q', 'T', 'T', 4, cleanSession, 0, keepAlive, 0, byte(len(id))}, id...)
	if _, err := conn.Write(connect); err != nil {
		return broken(err)
	}
	var connack [4]byte
	if _, err := io.ReadFull(conn, connack[:]); err != nil {
		return broken(err)
	}
	const badUserOrPassword, notAuthorized = 4, 5
	switch code := connack[3]; {
	case connack[0] != 0x20:
		return nothing("answered with %x", connack)
	case code == badUserOrPassword || code == notAuthorized:
		return refused(fmt.Sprintf("CONNACK %d", code))
	case code != 0:
		return nothing("CONNACK %d", code)
	}
	var pong [2]byte
	if _, err := conn.Write([]byte{0xc0, 0}); err != nil {
		return nothing("ping: %v", err)
	}
	if _, err := io.ReadFull(conn, pong[:]); err != nil || pong[0] != 0xd0 {
		return nothing("CONNACK 0, but no answer to a ping: %x %v", pong, err)
	}
	return in("CONNACK 0")
}

// mqttWebsocket opens the same session through the websocket port.
func mqttWebsocket(conn net.Conn, address string) result {
	_, err := fmt.Fprintf(conn, "GET /mqtt HTTP/1.1\r\nHost: %s\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"+
		"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: c3RyYW5nZXJzdHJhbmdlcg==\r\nSec-WebSocket-Protocol: mqtt\r\n\r\n", address)
	if err != nil {
		return broken(err)
	}
	r := bufio.NewReader(conn)
	resp, err := http.ReadResponse(r, nil)
	if err != nil {
		return broken(err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusSwitchingProtocols {
		why, _ := io.ReadAll(io.LimitReader(resp.Body, 200)) // for people only
		return nothing("%s %s", resp.Status, strings.TrimSpace(string(why)))
	}
	return mqttSession(&frames{conn: conn, r: r})
}

// frames sends and receives binary frames of less than 126 bytes.
type frames struct {
	conn net.Conn
	r    *bufio.Reader
	left int // of the frame that is being read
}

func (f *frames) Write(b []byte) (int, error) {
	const final, binary, masked = 0x80, 2, 0x80
	frame := append([]byte{final | binary, masked | byte(len(b)), 0, 0, 0, 0}, b...) // a mask of zeros changes nothing
	if _, err := f.conn.Write(frame); err != nil {
		return 0, err
	}
	return len(b), nil
}

func (f *frames) Read(b []byte) (int, error) {
	for f.left == 0 {
		var head [2]byte
		if _, err := io.ReadFull(f.r, head[:]); err != nil {
			return 0, err
		}
		const opcode, closing, tooLong = 0xf, 8, 126
		if head[0]&opcode == closing || head[1] >= tooLong {
			return 0, io.EOF
		}
		f.left = int(head[1])
	}
	n, err := f.r.Read(b[:min(len(b), f.left)])
	f.left -= n
	return n, err
}
