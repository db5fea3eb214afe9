package probe

import (
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/nats-io/nuid"

	"github.com/natsentry/natsentry/agent/posture"
	"github.com/natsentry/natsentry/agent/release"
)

// userInfo is the part of the answer that is used.
type userInfo struct {
	Server struct {
		ID string `json:"id"`
	} `json:"server"`
	Data *struct {
		User        string           `json:"user"`
		Account     string           `json:"account"`
		Permissions *userPermissions `json:"permissions"`
	} `json:"data"`
}

// userPermissions are permissions as nats-server writes them; none stand for
// everything.
type userPermissions struct {
	Publish   posture.Subjects `json:"publish"`
	Subscribe posture.Subjects `json:"subscribe"`
	Responses *struct{}        `json:"responses"`
}

func (p *userPermissions) restricted() bool {
	return p != nil && (&posture.Permissions{Publish: p.Publish, Subscribe: p.Subscribe, Responses: p.Responses != nil}).Restricted()
}

// violation begins what a server answers to a user whom permissions stop.
const violation = "-ERR 'Permissions Violation"

// refused reports whether a user who may not ask who it is is restricted. To
// be refused that request alone does not say so, since a list that denies
// $SYS leaves everything else open. So it asks for subjects that mean nothing:
// names that nobody uses, a service that nobody runs, and the state of
// JetStream in the account, with nowhere to send an answer to. A user to whom
// all of them are refused has lists of what is allowed.
func refused(l *line) bool {
	name := nuid.Next()
	below, service, state := name+"."+name, "$SRV.PING."+name, "$JS.API.INFO"
	if l.write("SUB "+name+" 2\r\nSUB "+below+" 3\r\nPUB "+service+" 0\r\n\r\nPUB "+state+" 0\r\n\r\nPING\r\n") != nil {
		return false
	}
	for wanted := []string{name, below, service, state}; ; {
		word, err := l.readLine()
		switch {
		case err != nil:
			return false
		case strings.HasPrefix(word, violation):
			wanted = slices.DeleteFunc(wanted, func(s string) bool { return strings.Contains(word, `"`+s+`"`) })
		case word == "PONG":
			return len(wanted) == 0
		}
	}
}

// Pauses between two questions of one touch, the first and the longest.
const (
	firstPause   = time.Millisecond
	longestPause = 200 * time.Millisecond
)

// land asks, once let in, who it is there. What cannot be learned stays
// unknown: the verdict is settled already.
func land(l *line, in *info, out *posture.Touch) {
	if !release.ShowsUser.Holds(in.Version) {
		return
	}
	inbox := "_INBOX." + nuid.Next()
	ask := "PUB $SYS.REQ.USER.INFO " + inbox + " 0\r\n\r\n"
	if err := l.write("SUB " + inbox + " 1\r\n" + ask); err != nil {
		return
	}
	pause := firstPause
	for {
		word, err := l.readLine()
		switch {
		case err != nil:
			return
		case strings.HasPrefix(word, violation):
			out.Landing = &posture.Landing{Restricted: refused(l)}
			return
		case strings.HasPrefix(word, "MSG "), strings.HasPrefix(word, "HMSG "):
			u := readUserInfo(l, word)
			if u != nil && u.Server.ID != in.ID {
				// A gateway carried the request to a server that knows nothing
				// of us, and its answer took the place of the right one, whose
				// server is busy: ask again when it may be less so, until the
				// touch is out of time.
				time.Sleep(pause)
				if pause = min(2*pause, longestPause); l.write(ask) != nil {
					return
				}
				continue
			}
			out.Landing = u.landing()
			return
		}
	}
}

func readUserInfo(l *line, header string) *userInfo {
	fields := strings.Fields(header)
	size, err := strconv.Atoi(fields[len(fields)-1])
	if err != nil || size < 0 || size > maxRead {
		return nil
	}
	if fields[0] == "HMSG" {
		return nil // "no responders": the server does not know the request
	}
	payload := make([]byte, size)
	for read := 0; read < size; {
		n, err := l.r.Read(payload[read:])
		read += n
		l.out.Read += n
		if err != nil {
			return nil
		}
	}
	var u userInfo
	if err := json.Unmarshal(payload, &u); err != nil {
		return nil
	}
	return &u
}

func (u *userInfo) landing() *posture.Landing {
	if u == nil || u.Data == nil {
		return nil
	}
	return &posture.Landing{
		Account: printable(u.Data.Account), User: printable(u.Data.User),
		Restricted: u.Data.Permissions.restricted(),
	}
}

// printable keeps control characters and oversized names out of reports.
func printable(s string) string {
	if strings.ContainsFunc(s, func(r rune) bool { return !strconv.IsPrint(r) }) || len(s) > 256 {
		return fmt.Sprintf("%.256q", s)
	}
	return s
}
