package integration

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/natsentry/natsentry/agent/collect"
	"github.com/natsentry/natsentry/agent/posture"
)

// liar answers every $SYS request that it can hear, as anybody with
// credentials of the system account can. reply writes the answers to one
// request; it runs on the subscription's goroutine.
func liar(t *testing.T, nc *nats.Conn, reply func(endpoint string, send func(*nats.Msg))) {
	t.Helper()
	for _, subject := range []string{"$SYS.REQ.SERVER.PING.*", "$SYS.REQ.SERVER.*.*", "$SYS.REQ.ACCOUNT.PING.STATZ"} {
		_, err := nc.Subscribe(subject, func(m *nats.Msg) {
			endpoint := m.Subject[strings.LastIndexByte(m.Subject, '.')+1:]
			reply(endpoint, func(out *nats.Msg) {
				out.Subject = m.Reply
				_ = nc.PublishMsg(out) // a liar that cannot speak does no harm
			})
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	if err := nc.Flush(); err != nil {
		t.Fatal(err)
	}
}

func body(format string, args ...any) *nats.Msg {
	return &nats.Msg{Data: fmt.Appendf(nil, format, args...)}
}

// TestHostileAnswers: whatever else comes in, the honest servers are heard
// and judged, and the sweep ends.
func TestHostileAnswers(t *testing.T) {
	const timeout = 2 * time.Second
	f := start(t, clusters(1, 3, sysAccount+"authorization { users: [ { user: app, password: app } ] }\n")...)
	waitActive(t, f, f.Servers()[0], 3)
	for name, c := range map[string]struct {
		reply func(endpoint string, send func(*nats.Msg))
		fakes bool // the liar poses as servers that are not there
	}{
		"garbage": {reply: func(_ string, send func(*nats.Msg)) {
			for _, data := range []string{"", "{", "null", "[]", "\xff\x00\x1b[2J", `"NABC"`, strings.Repeat("[", 10_000)} {
				send(&nats.Msg{Data: []byte(data)})
			}
		}},
		"no server": {reply: func(_ string, send func(*nats.Msg)) {
			send(body(`{"server":{},"data":{}}`))
			send(body(`{"server":{"id":"*.>"},"data":{},"statsz":{}}`))
			send(body(`{"server":{"id":%q},"data":{},"statsz":{}}`, strings.Repeat("N", 5000)))
		}},
		"huge": {fakes: true, reply: func(_ string, send func(*nats.Msg)) {
			send(body(`{"server":{"id":"NHUGE","name":%q},"data":{},"statsz":{}}`, strings.Repeat("x", 900_000)))
		}},
		"compressed nonsense": {reply: func(_ string, send func(*nats.Msg)) {
			m := body("\xff\x06\x00\x00sNaPpY garbage")
			m.Header = nats.Header{"Content-Encoding": {"snappy"}}
			send(m)
		}},
		"thousands": {reply: func(_ string, send func(*nats.Msg)) {
			for i := range 2000 {
				send(body(`{"server":{"id":"N%d"},"error":{"code":500,"description":"no %d"}}`, i, i))
			}
		}},
		"no responders, forged": {reply: func(_ string, send func(*nats.Msg)) {
			send(&nats.Msg{Header: nats.Header{"Status": {"503"}}})
		}},
		"a million servers": {fakes: true, reply: func(_ string, send func(*nats.Msg)) {
			send(body(`{"server":{"id":"NLIAR","name":"liar"},"statsz":{"active_servers":1000000}}`))
		}},
		"duplicates": {fakes: true, reply: func(_ string, send func(*nats.Msg)) {
			for range 50 {
				send(body(`{"server":{"id":"NTWIN","name":"twin"},"statsz":{},"data":{"server_id":"NTWIN"}}`))
			}
		}},
		"late": {reply: func(_ string, send func(*nats.Msg)) {
			go func() {
				time.Sleep(2 * timeout) // late is what this is about
				send(body(`{"server":{"id":"NLATE","name":"late"},"statsz":{},"data":{"server_id":"NLATE"}}`))
			}()
		}},
	} {
		t.Run(name, func(t *testing.T) {
			evil := connectSys(t, f.Servers()[0]) // where its subscriptions hold at once
			liar(t, evil, c.reply)
			a := auditor(t, connectSys(t, f.Servers()[0]), collect.Config{Timeout: timeout})
			began := time.Now()
			for range 2 {
				state := sweep(t, a)
				for _, s := range f.Servers() {
					srv := state.Snapshot.Server(s.ID())
					if srv == nil || srv.State != posture.Answering {
						t.Fatalf("%s was lost", s.Name())
					}
					if d := srv.Door(posture.Client); d.Basis != posture.Reported || len(d.Evidence) == 0 {
						t.Errorf("%s: client door is %s (%s)", s.Name(), d.Access, d.Basis)
					}
				}
				if n := len(state.Snapshot.Servers); !c.fakes && n != 3 {
					t.Errorf("%d servers in the snapshot, want 3", n)
				}
				if n := len(state.Snapshot.Gaps); n > 1000 {
					t.Errorf("%d gaps: they must be bounded", n)
				}
				report, err := json.Marshal(state.Report())
				if err != nil {
					t.Fatal(err)
				}
				if bytes.ContainsAny(report, "\x1b\x00") || len(report) > 1<<20 {
					t.Errorf("report of %d bytes, or with control characters", len(report))
				}
			}
			if took := time.Since(began); took > 20*timeout {
				t.Errorf("two sweeps took %s", took)
			}
		})
	}
}

// TestForgedAnswerIsNotBelieved: somebody answers in the name of a server.
// Which of two answers is the true one cannot be told, so neither counts.
func TestForgedAnswerIsNotBelieved(t *testing.T) {
	f := start(t, clusters(1, 3, sysAccount+"authorization { users: [ { user: app, password: app } ] }\n")...)
	waitActive(t, f, f.Servers()[0], 3)
	victim := f.Servers()[2]
	evil := connectSys(t, f.Servers()[0]) // where its subscriptions hold at once
	liar(t, evil, func(endpoint string, send func(*nats.Msg)) {
		if endpoint == "VARZ" {
			send(body(`{"server":{"id":%q,"name":"n"},"data":{"server_id":%q,"version":"2.15.2","auth_required":true,"port":4222}}`, victim.ID(), victim.ID()))
		}
	})
	// The liar is fast or slow; a sweep that listens on hears both.
	a := auditor(t, connectSys(t, f.Servers()[0]), collect.Config{Timeout: 10 * time.Second, Linger: time.Second})
	state := sweep(t, a)
	srv := state.Snapshot.Server(victim.ID())
	if srv == nil {
		t.Fatal("the victim is not in the snapshot")
	}
	for i := range srv.Doors {
		if d := &srv.Doors[i]; d.Access != posture.Unknown {
			t.Errorf("the %s door is %s", d.Kind, d.Access)
		}
	}
	if said := fmt.Sprint(state.Snapshot.Gaps); !strings.Contains(said, "contradict") {
		t.Errorf("no gap tells of the contradiction: %s", said)
	}
}
