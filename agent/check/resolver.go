package check

import (
	"github.com/natsentry/natsentry/agent/posture"
)

var jwt040 = &Check{
	Sight: Lint,
	ID:    "JWT_040", Severity: Warning,
	Title: "accounts may be deleted over the network",
	Doc:   "resolver.allow_delete: whoever may publish to $SYS.REQ.CLAIMS.DELETE, with a request signed by an operator, deletes accounts from the server's store; the clients of these accounts are disconnected.",
	Server: func(_ Policy, _ *posture.Snapshot, s *posture.Server) Verdict {
		switch r := s.Config.Resolver; {
		case r == nil:
			return unreadOr(s, "there is no resolver")
		case r.AllowDelete:
			return fail("", "%s deletes accounts when it is asked to", s.Name).with(NoSeverity, r.DeletePlace.Says(posture.Unknown, "allow_delete is true"))
		default:
			return unlessUnread(s, "deletions are refused")
		}
	},
	Remedy: Remedy{Text: "Set it to false and restart, and turn it on for as long as accounts are to be deleted.", Config: "resolver {\n  # ... as it is\n  allow_delete: false\n}\n"},
	Refs:   []string{refResolver},
}

var jwt041 = &Check{
	Sight: Lint,
	ID:    "JWT_041", Severity: Info,
	Title: "accounts are known from the configuration only",
	Doc:   "A MEMORY resolver knows the accounts that are preloaded. A changed account, a revoked user or a new signing key takes another configuration and a reload on every server; what is pushed is forgotten with a restart.",
	Server: func(_ Policy, _ *posture.Snapshot, s *posture.Server) Verdict {
		switch r := s.Config.Resolver; {
		case r == nil:
			return unreadOr(s, "there is no resolver")
		case r.Kind == "memory":
			return fail("", "%s has a MEMORY resolver", s.Name).with(NoSeverity, r.Place.Says(posture.Unknown, "the resolver is MEMORY"))
		default:
			return unlessUnread(s, "the resolver keeps what is pushed")
		}
	},
	Remedy: Remedy{Text: "Take a full resolver, push the accounts to it (nsc push), and restart.", Config: "resolver {\n  type: full\n  dir: \"/var/lib/nats/jwt\"\n  allow_delete: false\n  interval: \"2m\"\n}\n"},
	Refs:   []string{refResolver},
}
