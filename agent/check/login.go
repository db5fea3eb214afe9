package check

import (
	"fmt"

	"github.com/natsentry/natsentry/agent/posture"
)

// loginCheck judges the logins of a configuration one by one: bad says what is
// wrong with one, "" if nothing is.
func loginCheck(bad func(s *posture.Server, l *posture.ConfigLogin) string, one, many string) func(Policy, *posture.Snapshot, *posture.Server) Verdict {
	return func(_ Policy, _ *posture.Snapshot, s *posture.Server) Verdict {
		var evidence []posture.Evidence
		unset := false
		for i := range s.Config.Logins {
			l := &s.Config.Logins[i]
			unset = unset || l.Secret == posture.SecretUnset
			if what := bad(s, l); what != "" {
				evidence = append(evidence, l.Place.Says(posture.Unknown, loginName(l)+": "+what))
			}
		}
		switch {
		case len(evidence) > 0:
			return places(fail("", "%s has %s", s.Name, several(len(evidence), one, many)), evidence)
		case unread(s):
			return whyUnread(s)
		case unset:
			return unknown("passwords are variables without a value here")
		case len(s.Config.Logins) == 0:
			return Verdict{Outcome: NotApplicable, Summary: "nobody can log in"}
		default:
			return pass("none of its %s", several(len(s.Config.Logins), "login", "logins"))
		}
	}
}

func loginName(l *posture.ConfigLogin) string {
	name := "user " + l.User
	switch {
	case l.User == "" && l.Unnamed:
		name = "a user whose name is a variable"
	case l.User == "":
		name = "the token"
	}
	return name + " of " + l.Where
}

// causeInClear is a secret that a configuration holds in clear.
const causeInClear posture.Cause = "in-clear"

// causePresented is such a secret with which the server itself logs in.
const causePresented posture.Cause = "in-clear-for-peers"

// nameOnly judges SESS_004 of a configuration, and inClear CRED_002.
var (
	nameOnly = loginCheck(func(_ *posture.Server, l *posture.ConfigLogin) string {
		if l.Secret == posture.SecretNone && !l.Guest {
			return "no password, so its name alone gets in"
		}
		return ""
	}, "user without a password", "users without a password")

	clearly = loginCheck(func(_ *posture.Server, l *posture.ConfigLogin) string {
		switch {
		case l.Secret != posture.SecretPlain || l.Outside || l.Guest:
			return ""
		case l.Presented:
			return "in clear, and no hash would do: the server logs in to its peers with it"
		}
		return "in clear"
	}, "secret in clear", "secrets in clear")
)

func inClear(policy Policy, snap *posture.Snapshot, s *posture.Server) Verdict {
	v := clearly(policy, snap, s)
	if v.Outcome == Fail {
		v.Severity, v.Cause = Warning, causePresented
		for i := range s.Config.Logins {
			if l := &s.Config.Logins[i]; !l.Presented && l.Secret == posture.SecretPlain && !l.Outside && !l.Guest {
				v.Cause = causeInClear
			}
		}
	}
	return v
}

var cred003 = &Check{
	Sight: Lint,
	ID:    "CRED_003", Severity: Warning,
	Title: "a password or token is easily guessed",
	Doc:   "It has fewer than 12 characters, is the user's own name, or stands in documentation and lists of common passwords. nats-server does not slow down guesses. Hashes cannot be judged.",
	Server: loginCheck(func(_ *posture.Server, l *posture.ConfigLogin) string {
		switch {
		case l.Secret != posture.SecretPlain || l.Guest:
			return ""
		case l.Guessable:
			return "a common one"
		case l.Length < shortest:
			return fmt.Sprintf("fewer than %d characters", shortest)
		}
		return ""
	}, "weak secret", "weak secrets"),
	Remedy: Remedy{Text: "Take a long random one (`nats server passwd --generate` makes one with its hash), give it to the clients, and reload. Clients with the old one are dropped at once.", Reload: true},
	Refs:   []string{refUsers},
}

var cred004 = &Check{
	Sight: Lint,
	ID:    "CRED_004", Severity: Warning,
	Title: "a user may do everything in an account that others use",
	Doc: "Neither its permissions nor the default permissions of the account restrict it, so it reads or writes the messages of all others there, and their streams. " +
		"Permissions restrict a user when both publishing and subscribing are limited to subjects that are named, and none of these gives power over the whole account, as $JS.API.> does. " +
		"An account with one user is no finding.",
	Server: func(policy Policy, snap *posture.Snapshot, s *posture.Server) Verdict {
		others := map[string]int{}
		for i := range s.Config.Logins {
			if l := &s.Config.Logins[i]; l.Client {
				others[l.Where]++
			}
		}
		judge := loginCheck(func(_ *posture.Server, l *posture.ConfigLogin) string {
			if l.Client && !l.Restricted && l.User != "" && others[l.Where] > 1 && l.Account != s.SystemAccount {
				return "no permissions that restrict it, beside " + several(others[l.Where]-1, "other user", "other users")
			}
			return ""
		}, "user who may do everything", "users who may do everything")
		v := judge(policy, snap, s)
		if v.Outcome == Unknown && !unread(s) {
			v = pass("none of its %s", several(len(s.Config.Logins), "login", "logins")) // a password says nothing of permissions
		}
		return v
	},
	Remedy: Remedy{
		Text:   "Give each user the subjects that it needs, or an account of its own, and reload. A client that uses other subjects gets permission violations and stays connected.",
		Config: "users: [ { user: app, password: \"$2a$11$...\", permissions: { publish: [\"orders.>\"], subscribe: [\"orders.>\", \"_INBOX.>\"] } } ]\n", Reload: true,
	},
	Refs: []string{refNoAuthUser},
}
