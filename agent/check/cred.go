package check

import (
	"cmp"
	"slices"
	"strings"

	"github.com/natsentry/natsentry/agent/posture"
	"github.com/natsentry/natsentry/agent/release"
)

// Thresholds of CRED_005: a service that runs many times comes from many
// addresses and by one library, and a person's tools by several, but from few.
const (
	sharedAddresses = 3
	sharedLanguages = 2
)

var cred001 = &Check{
	Sight: Both,
	ID:    "CRED_001", Severity: Info,
	Title:  "clients share a token",
	Doc:    "A token names nobody: all who hold it are one and the same to the server, none of them can be turned away alone, and changing it changes it for all. Servers before 2.10.28 show the token itself where others show that it is one; there it stays unknown. Of a configuration it tells that its authorization block, or a flag, has a token, also one out of the environment.",
	Needs:  everyoneInputs,
	Config: sharedToken,
	Server: func(_ Policy, _ *posture.Snapshot, s *posture.Server) Verdict {
		holders := pick(s, func(m *Member) string {
			if m.Login != posture.LoginToken || m.Ours {
				return ""
			}
			return "the token"
		})
		switch {
		case len(holders) > 0:
			return show(fail("", "%s on %s came in by a token", sessions(holders), s.Name), holders, nothingMore)
		case s.AuthMode == posture.AuthStatic && !release.RedactsTokens.Holds(s.Version):
			return unknown("version %s does not show whether a session came in by a token", s.Version)
		case len(s.Everyone.List) < s.Everyone.Total:
			return unknown("only %d of %d sessions were looked at", len(s.Everyone.List), s.Everyone.Total)
		default:
			return pass("nobody came in by a token")
		}
	},
	Remedy: Remedy{
		Text:   "Give each client a user of its own: an nkey, or a password. A token and users can be had one after the other only: give the clients their user first, then put the users in the token's place and reload. Those who still send the token are dropped.",
		Config: "authorization {\n  users: [ { nkey: U... } ] # nk -gen user -pubout\n}\n", Reload: true,
	},
	Refs: []string{refToken},
}

// sharedToken judges CRED_001 of a configuration.
func sharedToken(_ Policy, _ *posture.Snapshot, s *posture.Server) Verdict {
	switch at := s.Config.Token; {
	case unread(s):
		return whyUnread(s)
	case at != nil && s.Config.UnsetUnder("authorization.token") != "":
		return unknown("the token is a variable without a value here, and there is none where that is empty")
	case at != nil:
		return fail("", "%s lets clients in by a token", s.Name).with(NoSeverity, at.Says(posture.Unknown, "all who hold it are one and the same"))
	case slices.ContainsFunc(s.Config.Unset, func(u posture.Unset) bool { return u.Key == "authorization" }):
		return unknown("the block is a variable without a value here")
	default:
		return pass("there is no token")
	}
}

var cred002 = &Check{
	Sight: Both,
	ID:    "CRED_002", Severity: Info,
	Title: "users log in with a password",
	Doc: "A password is sent to the server with every connection, is the same for all who use it, and stands in the configuration: in clear, unless it is a bcrypt hash, which a running server does not show. " +
		"nkeys and JWTs are never sent. natsentry's own user is not counted, nor are users that strangers are taken for. " +
		"Of a configuration it tells passwords and tokens that stand there in clear, as a warning: whoever reads the file, a backup, an image or a pull request can log in with them. Values out of the environment are not counted.",
	Needs:  everyoneInputs,
	Config: inClear,
	Inside: func(_ Policy, _ *posture.Snapshot, in *Inside) Verdict {
		users := in.pick(func(m *Member) bool { return m.Login == posture.LoginPassword && !m.guest() })
		users = slices.DeleteFunc(users, (*crowd).ours)
		unclear := in.unclear(func(m *Member) bool { return m.Server.AuthMode == posture.AuthStatic && m.secretly() })
		switch {
		case len(users) > 0:
			return show(fail("", "%s of account %s came in with a password", count(len(users), "user"), in.name()), users, nothingMore)
		case unclear > 0:
			return unknown("the servers do not show how %s came in", count(unclear, "session"))
		default:
			return pass("nobody came in with a password")
		}
	},
	Remedies: map[posture.Cause]Remedy{
		causeInClear: {
			Text: "Put a bcrypt hash there (`nats server passwd`) and reload: the clients' password stays the same, so they stay connected or come back. Or take it from a variable of the environment, which a reload does not see: restart the server. " +
				"The blocks cluster and gateway take no hash: servers log in to each other with the password that stands there. Change a password that was ever stored in clear.",
			Config: "users: [ { user: app, password: \"$2a$11$...\" } ]   # or: password: $APP_PASSWORD\n", Reload: true,
		},
		causePresented: {
			Text: "Do not put a hash there: the server logs in to its peers with this password, and a hash keeps servers apart for good that learn of each other by gossip. Take it from a variable of the environment, the same on all servers, and restart them one at a time; " +
				"or leave it in a file of its own that only the server may read, and accept the finding there. Change a password that others have seen.",
			Config: "cluster {\n  authorization { user: route, password: $ROUTE_PASSWORD }\n}\n",
		},
	},
	Remedy: Remedy{
		Text:   "Make each password long and random, write it as a bcrypt hash, and send it over TLS only. Better give the users nkeys, or move to JWTs. A user whose password changes is dropped by the reload.",
		Config: "users: [ { user: app, password: \"$2a$11$...\" } ] # bcrypt: nats server passwd\n", Reload: true,
	},
	Refs: []string{refPassword},
}

var cred006 = &Check{
	Sight: Both,
	ID:    "CRED_006", Severity: Warning,
	Title: "a page of any site can log in with a visitor's cookie",
	Doc: "The websocket listener takes credentials from cookies, which a browser sends along whichever page opens the connection, and it does not look at the page's origin: a page of another site that a visitor opens logs in as that visitor. " +
		"A cookie with SameSite=Strict or Lax is not sent from there, and nats-server does not see whether a cookie is one. VARZ shows jwt_cookie and no other cookie, so a running server without it stays unknown.",
	Needs: posture.Varz,
	Doors: []posture.DoorKind{posture.Websocket},
	Door: func(_ Policy, _ *posture.Snapshot, s *posture.Server, d *posture.Door) Verdict {
		unset := ""
		if s.Config != nil {
			for _, key := range []string{"jwt_cookie", "user_cookie", "pass_cookie", "token_cookie", "same_origin", "allowed_origins"} {
				unset = cmp.Or(unset, s.Config.UnsetUnder("websocket."+key))
			}
		}
		switch {
		case unset != "":
			return unknown("%s is a variable without a value here", unset)
		case d.AnyOrigin == posture.No:
			return pass("pages of other sites are rejected")
		case d.AnyOrigin == posture.Unseen:
			return unknown("whether pages of other sites are rejected was not seen")
		case len(d.Cookies) > 0:
			keys := strings.Join(d.Cookies, ", ")
			return fail("", "the websocket listener %s of %s takes credentials from cookies (%s) and accepts pages of any site", d.Address(), s.Name, keys).
				with(NoSeverity, said(s, "VARZ websocket."+d.Cookies[0], "set; same_origin and allowed_origins are not", "websocket."+d.Cookies[0], "websocket"))
		case s.Config == nil:
			return unknown("VARZ does not show user_cookie, pass_cookie and token_cookie")
		default:
			return pass("no credentials are taken from cookies")
		}
	},
	Remedy: Remedy{
		Text:   "Set same_origin where your pages come from the same host and port as the websocket listener, and allowed_origins with the addresses of your pages otherwise, and restart: a reload does not apply it. Clients that are no browsers send no origin and are not affected.",
		Config: "websocket {\n  allowed_origins: [ \"https://app.example.com\" ]\n}\n",
	},
	Refs: []string{refWebsocket},
}

var cred007 = &Check{
	Sight: Lint,
	ID:    "CRED_007", Severity: Critical,
	Title: "users see what others log in with",
	Doc: "The requests of an auth callout hold the passwords and tokens of the clients that log in, and are published in the callout's account. nats-server keeps its other users from them, except where allowed_accounts leaves that account out: its users then log in beside the callout and may subscribe to $SYS.REQ.USER.AUTH. " +
		"Before 2.14.10 and 2.15.3 users that the service itself places in the account may do so as well, which is a warning for a configuration of such a release. An xkey keeps the requests secret from all of them.",
	Server: func(_ Policy, _ *posture.Snapshot, s *posture.Server) Verdict {
		c := s.Config.Callout
		switch {
		case c == nil:
			return unreadOr(s, "it has no auth callout")
		case c.Encrypted == posture.Yes:
			return pass("requests are encrypted")
		case c.Encrypted == posture.Unseen:
			return unknown("xkey is a variable without a value here")
		case len(c.Watchers) > 0:
			return fail("", "%s in account %s can read what clients log in with", list(c.Watchers), c.Account).
				with(Critical, c.Place.Says(posture.Unknown, "allowed_accounts leaves out "+c.Account+", the callout's own account"))
		case c.Placed == posture.Yes:
			return fail(causePlaced, "users that the auth callout places in account %s can read what clients log in with", c.Account).
				with(Warning, c.Place.Says(posture.Unknown, "nats-server "+s.Version+" does not keep them from it"))
		case c.Placed == posture.Unseen:
			return unknown("whether nats-server %s keeps users that the service places in %s from its requests is not known", s.Version, c.Account)
		default:
			return pass("nats-server keeps others in account %s from the requests", c.Account)
		}
	},
	Remedy: Remedy{
		Text: "Keep the account of the callout for its service alone, add it to allowed_accounts, and set auth_callout { xkey: ... } to the public curve key of the service. Restart: a reload does not apply it.",
	},
	Remedies: map[posture.Cause]Remedy{
		causePlaced: {Text: "Update to nats-server 2.14.10, 2.15.3 or later, or set auth_callout { xkey: ... } to the public curve key of the service and restart. Until then the service should place nobody in its own account."},
	},
	Refs: []string{refCallout},
}

// causePlaced is users that the service places in its own account.
const causePlaced posture.Cause = "placed-in-its-account"

var cred005 = &Check{
	Claims: true,
	ID:     "CRED_005", Severity: Info,
	Title: "one user is shared",
	Doc: "One user is connected from three addresses or more, by libraries of two languages or more: different programs use the same credentials. Then none of them can be turned away alone, and nobody can tell who did what. " +
		"A service that runs many times comes from many addresses by one library, and is not told of.",
	Needs: everyoneInputs,
	Inside: func(_ Policy, _ *posture.Snapshot, in *Inside) Verdict {
		var shared []*crowd
		for _, c := range in.Users {
			if c.what == "" && len(c.members) >= sharedAddresses && !c.members[0].guest() && len(c.languages()) >= sharedLanguages && len(c.addresses()) >= sharedAddresses {
				shared = append(shared, c)
			}
		}
		if len(shared) == 0 {
			return pass("no user comes from many addresses by several libraries")
		}
		return show(fail("", "%s of account %s", count(len(shared), "shared user"), in.name()), shared, nothingMore)
	},
	Remedy: Remedy{Text: "Give each program a user of its own, and then take the shared one away: revoke it, or remove it from the configuration, which drops who still uses it."},
	Refs:   []string{refAuth},
}
