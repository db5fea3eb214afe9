package check

import "github.com/natsentry/natsentry/agent/posture"

var perm008 = &Check{
	Sight: Lint,
	ID:    "PERM_008", Severity: Critical,
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
