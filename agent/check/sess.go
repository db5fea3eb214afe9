package check

import (
	"fmt"
	"strings"

	"github.com/natsentry/natsentry/agent/posture"
)

// shownSessions bounds the evidence of one finding; the total is always told.
const shownSessions = 20

var sess001 = &Check{
	ID: "SESS_001", Severity: Critical,
	Title: "anonymous clients are connected now",
	Doc: "Somebody is inside who proved nothing: on a server that asks nobody, every client, whatever name it claims; elsewhere, a session of the hidden user. " +
		"A session through no_auth_user looks like that user logging in with its password and is not counted.",
	Needs: posture.Varz | posture.Connz,
	Doors: []posture.DoorKind{posture.Client, posture.Websocket, posture.MQTT},
	Door: func(_ Policy, _ *posture.Snapshot, s *posture.Server, d *posture.Door) Verdict {
		anonymous := s.Sessions.Anonymous(d.Kind)
		if len(anonymous) == 0 {
			if listed := len(s.Sessions.List); listed < s.Sessions.Total {
				return unknown("only %d of %d sessions were looked at", listed, s.Sessions.Total)
			}
			return pass("no anonymous session")
		}
		v := fail(d.Cause, "%s on the %s port of %s", count(len(anonymous), "anonymous client"), d.Kind, s.Name)
		if s.Sessions.Total > len(s.Sessions.List) {
			v.Summary += fmt.Sprintf(", among the first %d of %d sessions", len(s.Sessions.List), s.Sessions.Total)
		}
		for _, c := range anonymous[:min(len(anonymous), shownSessions)] {
			v.Evidence = append(v.Evidence, posture.Evidence{
				Basis: posture.Observed, Access: posture.Open,
				Source: fmt.Sprintf("CONNZ cid %d", c.CID), Value: describe(c),
			})
		}
		return v
	},
	Remedy: Remedy{
		Text: "Find out who they are and give them credentials before the door is closed: closing it by reload drops them at once. " +
			"A client that is not yours has read and written here since the time shown.",
		Reload: true,
	},
	Refs: []string{refAuth},
}

var sess002 = &Check{
	ID: "SESS_002", Severity: Warning,
	Title: "burst of authentication failures",
	Doc: "Many peers, or one again and again, were turned away for their credentials within a minute: a deployment with the wrong ones, or somebody who tries. " +
		"Counted from $SYS.SERVER.<id>.CLIENT.AUTH.ERR; as many as natsentry itself has touched doors are left out.",
	Needs: posture.Varz,
	Server: func(policy Policy, snap *posture.Snapshot, s *posture.Server) Verdict {
		switch f := s.Failures; {
		case f.Count >= policy.FailureBurst:
			v := fail("", "%s turned away %s within a minute", s.Name, count(f.Count, "peer"))
			for _, p := range f.Peers {
				v = v.with(NoSeverity, posture.Evidence{Basis: posture.Observed, Access: posture.Closed, Source: "CLIENT.AUTH.ERR", Value: p})
			}
			return v
		case !snap.Hears.Has(posture.AuthFailures, snap.Taken, posture.FailureWindow):
			return unknown("authentication failures have not been listened to for a minute")
		default:
			return pass("fewer than %d authentication failures within a minute", policy.FailureBurst)
		}
	},
	Remedy: Remedy{Text: "Find out who they are: the finding names the most frequent ones, the server's log all of them. A client of yours has the wrong credentials; anybody else should not reach the port."},
	Refs:   []string{refAuth},
}

func describe(c posture.Session) string {
	parts := []string{c.Address}
	if c.Name != "" {
		parts = append(parts, fmt.Sprintf("calls itself %q", c.Name))
	}
	if lib := strings.TrimSpace(c.Lang + " " + c.Version); lib != "" {
		parts = append(parts, "library "+lib)
	}
	parts = append(parts, "since "+clock(c.Since), c.Why)
	return strings.Join(parts, ", ")
}

func count(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}
