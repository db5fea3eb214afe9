package collect

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"reflect"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/klauspost/compress/s2"
	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nkeys"

	"github.com/natsentry/natsentry/agent/posture"
)

const fuzzID = "NDNPHKBWHCRLOIXOUVSLVRWRUKCVW5JHEX4ZPVOA6UKEGJ62535EZF2V"

// fuzz feeds any bytes to the decoder of one endpoint and, when they decode,
// puts a server together from them.
func fuzz(f *testing.F, input posture.Input, sample any) {
	fill(reflect.ValueOf(sample).Elem(), new(int), 0)
	env := map[string]any{"server": map[string]any{"id": fuzzID, "name": "n1", "ver": "2.15.2"}, "data": sample}
	if input == posture.Statsz {
		env["statsz"] = sample
		delete(env, "data")
	}
	good, err := json.Marshal(env)
	if err != nil {
		f.Fatal(err)
	}
	var packed bytes.Buffer
	w := s2.NewWriter(&packed, s2.WriterSnappyCompat())
	if _, err := w.Write(good); err != nil {
		f.Fatal(err)
	}
	if err := w.Close(); err != nil {
		f.Fatal(err)
	}
	f.Add(good, "")
	f.Add(packed.Bytes(), "snappy")
	f.Add(good[:len(good)/2], "")
	f.Add([]byte(`{"server":{"id":"x"},"data":null,"error":{"code":500,"description":"no"}}`), "")
	f.Add([]byte(`{"server":null,"data":[]}`), "")
	f.Add([]byte("\xff\xfe"), "gzip")

	e := endpointOf(input)
	f.Fuzz(func(t *testing.T, data []byte, encoding string) {
		who, body, err := e.decode(data, encoding)
		if err != nil {
			if strings.ContainsAny(err.Error(), "\x1b\n\r") {
				t.Fatalf("the error carries control characters: %q", err)
			}
			return
		}
		if body == nil || who.id == "" || strings.ContainsAny(who.id, " .*>") {
			t.Fatalf("accepted from %q with body %v", who.id, body)
		}
		check(t, input, who, body)
	})
}

// check puts a server together from one answer and looks for what must never
// be: a control character, or a closed door that rests on nothing.
func check(t *testing.T, input posture.Input, who identity, body any) {
	c := &Collector{cfg: Config{}.withDefaults(), links: map[string]map[string]bool{}, watch: newWatch(), ears: &ears{}, hosts: map[string][]string{}, placing: map[string]int{}, topology: map[string]uint64{}, roster: newRoster()}
	g := c.newGather(input, nil, 0)
	g.peers = true
	g.take(answer{input: input, asked: pingSelf, who: who, body: body})
	g.take(answer{input: input, asked: pingSelf, who: who, body: body})
	s := &sweep{c: c, main: g, topo: g, accounts: g, conns: g, previous: map[string]*posture.Server{}, began: time.Unix(0, 0)}
	if len(g.who) == 0 {
		return // the answer contradicted itself
	}
	g.known[who.id] = true
	snap := s.assemble()
	for _, srv := range snap.Servers {
		if z, ok := body.(*connz); ok && input == posture.EveryoneConnz {
			checkEveryone(t, z, srv)
		}
		texts := []string{srv.Name, srv.Cluster, srv.Version, srv.SystemAccount, srv.KnownBy}
		for _, c := range srv.Sessions.List {
			texts = append(texts, c.Name, c.User, c.Account, c.Lang, c.Version, c.Address)
		}
		for i := range srv.Doors {
			d := &srv.Doors[i]
			texts = append(texts, d.Host, d.NoAuthUser, d.Reason)
			if d.Access == posture.Closed && (!srv.Heard.Has(posture.Varz) || len(d.Evidence) == 0) {
				t.Fatalf("%s of %s is closed without evidence", d.Kind, srv.Name)
			}
			for _, e := range d.Evidence {
				texts = append(texts, e.Source, e.Value)
			}
		}
		for _, text := range texts {
			if strings.ContainsAny(text, "\x00\x07\x1b\r\n\x7f") || !utf8.ValidString(text) {
				t.Fatalf("a name reached the snapshot with control characters: %q", text)
			}
		}
	}
}

// checkEveryone reads sessions as on every kind of server: nothing that may be
// used, and nothing that cannot be printed, may be left of them, and who is said
// to have logged in must not have done so by a claim.
func checkEveryone(t *testing.T, z *connz, srv *posture.Server) {
	for _, mode := range []posture.AuthMode{posture.AuthUnknown, posture.AuthNone, posture.AuthStatic, posture.AuthOperator} {
		s := *srv
		s.AuthMode, s.AuthRequired = mode, posture.TriOf(mode != posture.AuthNone)
		const limit = 3
		got := everyone(z, &s, time.Unix(1, 0), limit, 0)
		if len(got.List) > limit {
			t.Fatalf("%d sessions, with a limit of %d", len(got.List), limit)
		}
		for _, c := range got.List {
			texts := []string{c.Name, c.User, c.Account, c.Lang, c.Version, c.Address}
			if c.Claim != nil {
				texts = append(texts, c.Claim.Key, c.Claim.Name, c.Claim.Account, c.Claim.Issuer)
			}
			for _, text := range texts {
				if strings.ContainsAny(text, "\x00\x07\x1b\r\n\x7f") || !utf8.ValidString(text) || jwtLike.MatchString(text) && strings.Count(text, ".") == 2 {
					t.Fatalf("a session holds %q", text)
				}
			}
			if _, ok := c.Owner(); ok && mode == posture.AuthNone {
				t.Fatalf("on a server that asks nobody: %+v", c)
			}
		}
	}
}

func FuzzEveryone(f *testing.F) { fuzz(f, posture.EveryoneConnz, &server.Connz{}) }

func FuzzStatsz(f *testing.F)   { fuzz(f, posture.Statsz, &server.ServerStats{}) }
func FuzzVarz(f *testing.F)     { fuzz(f, posture.Varz, &server.Varz{}) }
func FuzzRoutez(f *testing.F)   { fuzz(f, posture.Routez, &server.Routez{}) }
func FuzzGatewayz(f *testing.F) { fuzz(f, posture.Gatewayz, &server.Gatewayz{}) }
func FuzzLeafz(f *testing.F)    { fuzz(f, posture.Leafz, &server.Leafz{}) }
func FuzzConnz(f *testing.F)    { fuzz(f, posture.Connz, &server.Connz{}) }
func FuzzAccountz(f *testing.F) { fuzz(f, posture.Accountz, &server.Accountz{}) }

func FuzzAccountStatz(f *testing.F) {
	fuzz(f, posture.AccountStatz, &server.AccountStatz{})
}

// FuzzClaim: whatever a server or a store gives as a claim, nothing of it that
// reaches the model is more than text, and none of it is the claim itself. The
// body is signed by its own account, as anybody could.
func FuzzClaim(f *testing.F) {
	key, err := nkeys.CreateAccount()
	if err != nil {
		f.Fatal(err)
	}
	account, err := key.PublicKey()
	if err != nil {
		f.Fatal(err)
	}
	for _, body := range []string{
		`{}`, `null`, `{"nats":null}`,
		`{"sub":"ACC","iss":"ACC","iat":1,"exp":-9223372036854775808,"nats":{"type":"account","version":2,"signing_keys":["X",{"kind":"user_scope","key":"K","template":{"pub":{}}}],"exports":[null,{"subject":"\u001b[2J>","type":"stream"}],"imports":[null,{"subject":">","token":"eyJ.a.b","account":"B"}],"revocations":{"*":9223372036854775807},"authorization":{"auth_users":["U"],"allowed_accounts":["*"]},"limits":{"subs":-1}}}`,
		`{"sub":"ACC","iss":"ACC","type":"account","nats":{"signing_keys":["X"]}}`,
	} {
		f.Add([]byte(body))
	}
	header := base64.RawURLEncoding.EncodeToString([]byte(`{"typ":"JWT","alg":"ed25519-nkey"}`))
	f.Fuzz(func(t *testing.T, body []byte) {
		body = bytes.ReplaceAll(body, []byte("ACC"), []byte(account))
		signed := header + "." + base64.RawURLEncoding.EncodeToString(body)
		sig, err := key.Sign([]byte(signed))
		if err != nil {
			t.Fatal(err)
		}
		token := signed + "." + base64.RawURLEncoding.EncodeToString(sig)
		for _, raw := range []string{token, string(body)} {
			c := readClaim(rawClaim(raw), account)
			if c.Issuer == "" && c.Invalid == "" {
				t.Fatal("nothing is known of it, and nothing is said about that")
			}
			if c.Account != "" && c.Account != account {
				t.Fatalf("the claim of another account: %s", c.Account)
			}
			text := fmt.Sprintf("%+v", *c)
			for _, callout := range []*posture.Callout{c.Callout} {
				if callout != nil {
					text += fmt.Sprintf("%+v", *callout)
				}
			}
			if strings.ContainsAny(text, "\x00\x07\x1b\r\n\x7f") || !utf8.ValidString(text) {
				t.Fatalf("a claim reached the model with control characters: %q", text)
			}
			if len(raw) > 40 && strings.Contains(text, raw) {
				t.Fatal("the claim itself reached the model")
			}
		}
		if id := claimSubject("$SYS.REQ.CLAIMS.UPDATE", []byte(token)); id != "" && !accountKey(id) {
			t.Fatalf("an event of account %q", id)
		}
	})
}

// FuzzEvent: whatever comes as an event, what is handed on can be printed and
// names a server that there can be.
func FuzzEvent(f *testing.F) {
	msg := &server.DisconnectEventMsg{Reason: "Client Closed", Server: server.ServerInfo{ID: "NABC"}, Client: server.ClientInfo{User: "eyJhbGci.x.y", Name: "n", Jwt: "eyJ"}}
	seed, err := json.Marshal(msg)
	if err != nil {
		f.Fatal(err)
	}
	for _, s := range []string{string(seed), "", "{}", "null", `{"server":{"id":"*"}}`, `{"client":{"name":"\u001b[2J"},"server":{"id":"N"}}`} {
		f.Add([]byte(s), "$SYS.SERVER.N.STATSZ")
	}
	f.Fuzz(func(t *testing.T, data []byte, subject string) {
		c := &Collector{cfg: Config{Now: time.Now}, watch: newWatch(), roster: newRoster()}
		c.ears = &ears{handler: func(e Event) {
			if !plausibleID(e.Server) {
				t.Fatalf("an event of %q", e.Server)
			}
			for _, text := range []string{e.Peer, e.Session.Name, e.Session.User, e.Session.Address, e.Session.Account, e.Session.Lang, e.Session.Version} {
				if strings.ContainsAny(text, "\x00\x07\x1b\r\n\x7f") || strings.HasPrefix(text, "eyJ") && strings.Contains(text, ".") {
					t.Fatalf("an event handed on %q", text)
				}
			}
		}}
		for _, hear := range []func(*nats.Msg){
			c.hearConnect, c.hearDisconnect, c.hearFailure, c.watched,
			func(m *nats.Msg) { c.hear(Appeared, token(m.Subject, 2)) },
		} {
			hear(&nats.Msg{Subject: subject, Data: data})
		}
	})
}
