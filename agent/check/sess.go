package check

import (
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"path"
	"slices"
	"strings"

	"github.com/natsentry/natsentry/agent/posture"
)

// shownSessions bounds the evidence of one finding; the total is always told.
const shownSessions = 20

var sess001 = &Check{
	Claims: true,
	ID:     "SESS_001", Severity: Critical,
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
	Remedies: sessionRemedies(),
	Remedy: Remedy{
		Text: findOut + "Then close the listener that accepts them: DOOR_001, DOOR_002 and DOOR_003 say how.",
	},
	Refs: []string{refAuth},
}

const findOut = "Find out who they are and give them credentials first. A client that is not yours has read and written here since the time shown. "

// sessionRemedies close the listener by which anonymous sessions came in.
func sessionRemedies() map[posture.Cause]Remedy {
	all := withClientRemedies(map[posture.Cause]Remedy{
		posture.CauseWSNoAuthUser:   door002.Remedies[posture.CauseWSNoAuthUser],
		posture.CauseMQTTNoAuthUser: door003.Remedies[posture.CauseMQTTNoAuthUser],
		posture.CauseInherits:       door002.Remedies[posture.CauseInherits],
	})
	for cause, r := range all {
		r.Text = findOut + r.Text
		all[cause] = r
	}
	return all
}

var sess002 = &Check{
	Claims: true,
	ID:     "SESS_002", Severity: Warning,
	Title: "burst of authentication failures",
	Doc: "Many logins failed within a minute: a deployment with the wrong credentials, or somebody who guesses. " +
		"Counted from $SYS.SERVER.<id>.CLIENT.AUTH.ERR. A peer that calls itself natsentry-probe and brings no credentials is a probe, of this natsentry or of another: it guesses nothing, and is not counted. " +
		"Anybody may take that name, so many probes that this natsentry has not sent are told as well, mildly. A peer with that name and with credentials is a failed login like any other.",
	Needs: posture.Varz,
	Server: func(policy Policy, snap *posture.Snapshot, s *posture.Server) Verdict {
		switch f := s.Failures; {
		case f.Count >= policy.FailureBurst:
			v := fail("", "%s rejected %s within a minute", s.Name, count(f.Count, "login"))
			for _, p := range f.Peers {
				v = v.with(NoSeverity, posture.Evidence{Basis: posture.Observed, Access: posture.Closed, Source: "CLIENT.AUTH.ERR", Value: p})
			}
			if f.Probes > 0 {
				v = v.with(NoSeverity, probes(f.Probes))
			}
			return v
		case f.Probes >= policy.FailureBurst:
			return fail(causeProbes, "%s rejected %s of others within a minute", s.Name, count(f.Probes, "anonymous probe")).with(Info, probes(f.Probes))
		case !snap.Hears.Has(posture.AuthFailures, snap.Taken, posture.FailureWindow):
			return unknown("authentication failures have not been listened to for a minute")
		default:
			return pass("fewer than %d authentication failures within a minute", policy.FailureBurst)
		}
	},
	Remedies: map[posture.Cause]Remedy{
		causeProbes: {Text: "Nothing, if another natsentry audits this fleet (`natsentry audit`, `natsentry probe`, a second agent). If none does, somebody has taken its name: the server's log has the addresses."},
	},
	Remedy: Remedy{Text: "Find out who they are: the finding names the most frequent ones, the server's log all of them. A client of yours has the wrong credentials; anybody else should not reach the port."},
	Refs:   []string{refAuth},
}

const causeProbes posture.Cause = "probes"

// probes tells of peers that call themselves as touches do.
func probes(n int) posture.Evidence {
	return posture.Evidence{
		Basis: posture.Observed, Access: posture.Closed, Source: "CLIENT.AUTH.ERR",
		Value: fmt.Sprintf("%d without credentials that call themselves %s, and that this natsentry has not sent", n, posture.ProbeName),
	}
}

// Expected is somebody who belongs into the system account.
type Expected struct {
	User    string       // pattern, as in path.Match, of a user's name or public key
	Address netip.Prefix // where he comes from; zero: from anywhere
}

// Validate says what is wrong with an expectation.
func (e *Expected) Validate() error {
	if strings.TrimSpace(e.User) == "" {
		return errors.New("it names no user")
	}
	if _, err := path.Match(e.User, ""); err != nil {
		return fmt.Errorf("%.60q is no pattern of a user: * stands for any characters, ? for one, [ab] for one of several", e.User)
	}
	return nil
}

// covers tells whether somebody may be the one, if he is who he is shown as.
func (e *Expected) covers(m *Member) bool {
	if e.Address.IsValid() && !e.Address.Contains(m.host()) {
		return false
	}
	names := []string{m.User}
	if m.Claim != nil && m.Claim.Name != "" {
		names = append(names, m.Claim.Name)
	}
	return slices.ContainsFunc(names, func(name string) bool {
		matched, err := path.Match(e.User, name)
		return err == nil && matched
	})
}

var sess003 = &Check{
	ID: "SESS_003", Severity: Warning,
	Title: "a client in the system account is not expected",
	Doc: "Whoever is in the system account sees all servers, and may stop or reload them unless his permissions forbid it. The policy file says who is expected there: users of the configuration by name, JWT users by their key or by the name in their JWT. " +
		"What a client merely calls itself does not count. natsentry's own connection and its touches are expected, leafnodes are not judged, and without such a list nobody is.",
	Needs: everyoneInputs,
	Inside: func(policy Policy, _ *posture.Snapshot, in *Inside) Verdict {
		switch {
		case !in.System:
			return Verdict{Outcome: NotApplicable, Summary: "not the system account"}
		case len(policy.Expected) == 0:
			return Verdict{Outcome: NotApplicable, Summary: "the policy does not say who is expected"}
		}
		expected := func(m *Member) bool {
			return slices.ContainsFunc(policy.Expected, func(e Expected) bool { return e.covers(m) })
		}
		unshown := func(m *Member) bool {
			return m.Login == posture.LoginBearer && m.Claim == nil && !m.Ours && expected(m)
		}
		stranger := func(m *Member) bool {
			_, proven := m.Owner()
			return !m.Ours && m.Door != posture.Leafnode && !unshown(m) && (!proven || m.guest() || !expected(m))
		}
		strangers := in.pick(stranger)
		if nobody := slices.DeleteFunc(slices.Clone(in.Nobody), func(m Member) bool { return !stranger(&m) }); len(nobody) > 0 {
			strangers = append(strangers, &crowd{what: "a user who is not told", members: nobody})
		}
		switch n := in.unclear(unshown); {
		case len(strangers) > 0:
		case n > 0:
			return unknown("%s shown as somebody who is expected, by JWTs that the servers do not show", count(n, "bearer's session"))
		default:
			return pass("all who are inside are expected")
		}
		v := fail("", "%s in the system account %s that the policy does not expect", sessions(strangers), in.name())
		return show(v, strangers, nothingMore)
	},
	Remedy: Remedy{
		Text: "Find out who it is. If it is yours, add it to `expected` in the policy file. If not, revoke the user or change its password, and then its connections end; whoever was in the system account may have changed servers and accounts.",
	},
	Refs: []string{refSystem},
}

// sessions counts all sessions of users.
func sessions(crowds []*crowd) string {
	n := 0
	for _, c := range crowds {
		n += len(c.members)
	}
	return count(n, "session")
}

var sess004 = &Check{
	Sight: Both,
	ID:    "SESS_004", Severity: Warning,
	Title: "a user logs in by its name alone",
	Doc: "A user of the configuration without a password, or with an empty one, is let in to whoever knows its name. Only the configuration file shows that: its sessions look like any other, and natsentry tries no names. " +
		"On a running server it stays unknown. A user who is the name of a certificate on a listener that maps certificates is not meant, nor is a no_auth_user.",
	Needs:  posture.Varz,
	Config: nameOnly,
	Server: func(_ Policy, _ *posture.Snapshot, s *posture.Server) Verdict {
		if s.AuthMode != posture.AuthStatic {
			return Verdict{Outcome: NotApplicable, Summary: "no users in its configuration"}
		}
		return unknown("$SYS does not show whether users have a password")
	},
	Remedy: Remedy{
		Text:   "Give the user a password, as a bcrypt hash, and reload. Clients that log in by the name alone are dropped then: give them the password first.",
		Config: "users: [ { user: app, password: \"$2a$11$...\" } ] # bcrypt: nats server passwd\n",
		Reload: true,
	},
	Refs: []string{refAuth},
}

const (
	causeRevoked       posture.Cause = "revoked"
	causeSignerRemoved posture.Cause = "signer-removed"
	causeBothRefused   posture.Cause = "revoked-and-signer-removed"
)

var sess005 = &Check{
	ID: "SESS_005", Severity: Critical,
	Title: "a user is connected whose JWT is revoked, or whose signer is removed",
	Doc: "The account's claims revoke the user, or no longer list the key that signed him, and he is still inside. A server ends such sessions as soon as it goes by these claims, so it goes by older ones: " +
		"a MEMORY resolver that was not reloaded, a store that the new claims did not reach, a push that the server refused. Rests on two sources: the claims, of which the latest that any server or store shows count, and the sessions. Sessions that were told before the claims were looked at prove nothing, and their server is asked again.",
	Needs: everyoneInputs,
	Inside: func(_ Policy, _ *posture.Snapshot, in *Inside) Verdict {
		switch {
		case !in.Operator:
			return notOperator()
		case in.Claims == nil || in.Claims.At.IsZero():
			return unknown("the account's claims were not looked at")
		}
		latest, source := latestClaim(in.Claims)
		if latest == nil {
			return unknown("no server and no store shows the account's claims")
		}
		causes := map[posture.Cause]*posture.UserClaim{} // one user of each
		asked := map[string]bool{}
		refused := in.pick(func(m *Member) bool {
			if m.Claim == nil {
				return false
			}
			why := refusal(latest, m.Claim)
			if why != "" && !m.Server.Everyone.At.After(in.Claims.At) {
				asked[m.Server.ID] = true
				return false
			}
			if why != "" && causes[why] == nil {
				causes[why] = m.Claim
			}
			return why != ""
		})
		hidden := in.unclear(func(m *Member) bool { return len(latest.Revoked) > 0 && m.secretly() })
		switch {
		case len(refused) > 0:
			cause := causeRevoked
			switch {
			case len(causes) > 1:
				cause = causeBothRefused
			case causes[causeRevoked] == nil:
				cause = causeSignerRemoved
			}
			v := fail(cause, "%s in account %s that its claims refuse", sessions(refused), in.name())
			v = show(v, refused, func(c *crowd) string {
				u := c.members[0].Claim
				return "issued " + clock(u.Issued) + ", " + refusedFor[refusal(latest, u)]
			})
			for _, why := range []posture.Cause{causeRevoked, causeSignerRemoved} {
				if u := causes[why]; u != nil {
					v = v.with(NoSeverity, reported(source, claimInShort(latest, u)))
				}
			}
			return v
		case len(asked) > 0:
			v := unknown("users that the claims refuse were connected before the claims were looked at; their servers are asked again")
			v.Ask = slices.Sorted(maps.Keys(asked))
			return v
		case hidden > 0:
			return unknown("the JWTs of %s are not shown, and the claims revoke some", count(hidden, "session"))
		case len(in.Claims.Missing) > 0:
			return unknown("the claims that are known refuse nobody who is connected; %s did not show theirs", list(in.Claims.Missing))
		default:
			return pass("the latest claims refuse nobody who is connected")
		}
	},
	Remedies: map[posture.Cause]Remedy{
		causeBothRefused:   {Text: "Two things: users who are revoked, and users whose signer is removed; the finding says which is which. See which claims the servers go by (JWT_011), and give them the latest: `nsc push --account NAME` with a FULL resolver, or resolver_preload and a reload with a MEMORY one. All of these sessions end then. The users of the removed signer need JWTs of one that is listed: give them these first."},
		causeSignerRemoved: {Text: "See which claims the servers go by (JWT_011), and give them the latest: `nsc push --account NAME` with a FULL resolver, or resolver_preload and a reload with a MEMORY one. The sessions end then, and the users need JWTs of a signer that is listed: give them these first."},
	},
	Remedy: Remedy{Text: "See which claims the servers go by (JWT_011), and give them the latest: `nsc push --account NAME` with a FULL resolver, or resolver_preload and a reload with a MEMORY one. The sessions end then. Until that, `$SYS.REQ.SERVER.<id>.KICK` ends one connection, and the client comes back."},
	Refs:   []string{refRevocation},
}

// latestClaim is what an account's users should be judged by, and who shows it.
// Claims that no server would take do not count.
func latestClaim(a *posture.Account) (latest *posture.Claim, source string) {
	take := func(c *posture.Claim, from string) {
		if c != nil && c.Invalid == "" && c.Issuer != "" && (latest == nil || c.Issued.After(latest.Issued)) {
			latest, source = c, from
		}
	}
	for i := range a.InForce {
		take(a.InForce[i].Claim, "claims in force on "+a.InForce[i].Server)
	}
	for _, c := range a.Stored {
		take(c, "stored claims")
	}
	return latest, source
}

// refusal is why claims of an account refuse one of its users; "" when they do
// not. A server takes users that the account's own key signed whatever keys are
// listed, unless its operator is strict.
func refusal(c *posture.Claim, u *posture.UserClaim) posture.Cause {
	if revoked(c.Revoked, u.Key, u.Issued) {
		return causeRevoked
	}
	if u.Issuer != u.Account && !slices.ContainsFunc(c.SigningKeys, func(k posture.SigningKey) bool { return k.Key == u.Issuer }) {
		return causeSignerRemoved
	}
	return ""
}

// refusedFor says of one user why it is refused.
var refusedFor = map[posture.Cause]string{causeRevoked: "revoked", causeSignerRemoved: "its signing key is not listed"}

// claimInShort says what of the claims refuses a user.
func claimInShort(c *posture.Claim, u *posture.UserClaim) string {
	text := "issued " + clock(c.Issued)
	for _, r := range c.Revoked {
		if r.User == u.Key || r.User == "*" {
			return fmt.Sprintf("%s, revoke %s as issued until %s", text, r.User, clock(r.Before))
		}
	}
	return fmt.Sprintf("%s, do not list the signing key %s", text, u.Issuer)
}

func notOperator() Verdict {
	return Verdict{Outcome: NotApplicable, Summary: "no account of servers in operator mode"}
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
