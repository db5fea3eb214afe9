package check

import (
	"slices"

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
		return unknown("the token is a variable without a value here; where that value is empty, clients share no token")
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
