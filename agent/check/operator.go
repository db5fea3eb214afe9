package check

import (
	"slices"
	"time"

	"github.com/natsentry/natsentry/agent/posture"
)

const (
	refSigningKeys = "https://docs.nats.io/using-nats/nats-tools/nsc/signing_keys"
	refNscOperator = "https://docs.nats.io/using-nats/nats-tools/nsc/basics"
)

// claimWarning is how long before a claim's end the checks speak up.
const claimWarning = 30 * 24 * time.Hour

// restartOperator is what makes servers take a new operator JWT.
const restartOperator = "Servers read the operator JWT at their start only: put the new one (`nsc describe operator --raw`) where their configuration names it, and restart them one at a time. Clients are disconnected by each restart and come back. "

var jwt001 = &Check{
	Sight: Both,
	ID:    "JWT_001", Severity: Info,
	Title: "operator without signing keys",
	Doc: "Accounts can only be signed by the operator's identity key, which then has to be at hand whenever an account changes. Whoever gets hold of it owns everything, and it cannot be replaced without replacing the operator; a signing key can. nsc makes operators without one unless it is told otherwise. " +
		"Judged by the operator's claim that servers show in VARZ trusted_operators_claim.",
	Operator: func(_ Policy, _ *posture.Snapshot, o Operator) Verdict {
		if len(o.SigningKeys) > 0 {
			return pass("it has %s", count(len(o.SigningKeys), "signing key"))
		}
		return fail("", "operator %s has no signing keys: its identity key signs accounts", title(o.Name, o.Key)).with(NoSeverity, o.shown("signing_keys", "absent"))
	},
	Remedy: Remedy{Text: "Make a signing key with `nsc edit operator --sk generate`. " + restartOperator +
		"Only then sign each account anew with it (`nsc edit account NAME --tag signed -K SIGNING_KEY`, then `nsc push --all`; connected clients stay), and take the identity key offline."},
	Refs: []string{refSigningKeys},
}

var jwt002 = &Check{
	Sight: Both,
	ID:    "JWT_002", Severity: Info,
	Title: "identity keys may sign",
	Doc:   "Without strict signing key usage, servers take accounts that the operator's identity key has signed as well as those of signing keys, and users that an account's identity key has signed: the keys that should be locked away still work, and their use goes unnoticed. That is how nsc makes operators. Of one without signing keys JWT_001 speaks.",
	Operator: func(_ Policy, _ *posture.Snapshot, o Operator) Verdict {
		switch {
		case o.Strict:
			return pass("only signing keys may sign accounts")
		case len(o.SigningKeys) == 0:
			return Verdict{Outcome: NotApplicable, Summary: "it has no signing keys"}
		}
		return fail("", "operator %s does not insist on signing keys", title(o.Name, o.Key)).with(NoSeverity, o.shown("strict_signing_key_usage", "absent"))
	},
	Remedy: Remedy{Text: "First sign every account by a signing key (JWT_001): servers that insist on signing keys refuse the others at their next start, and the users of those accounts do not come back. The same goes for users that an account's identity key has signed (JWT_012). Then `nsc edit operator --require-signing-keys`. " + restartOperator},
	Refs:   []string{refSigningKeys},
}

var jwt003 = &Check{
	Sight: Both,
	ID:    "JWT_003", Severity: Warning,
	Title: "operator names no system account",
	Doc:   "The operator's claim does not say which account is the system account. Each configuration file then says so by itself, and one that does not, or says otherwise, starts: nobody who watches the others sees that server.",
	Operator: func(_ Policy, _ *posture.Snapshot, o Operator) Verdict {
		if o.SystemAccount != "" {
			return pass("its system account is %s", short(o.SystemAccount))
		}
		return fail("", "operator %s names no system account", title(o.Name, o.Key)).with(NoSeverity, o.shown("system_account", "absent"))
	},
	Remedy: Remedy{Text: "`nsc edit operator --system-account NAME`, with the account that the servers' system_account names today: a server refuses to start when the two differ. " + restartOperator},
	Refs:   []string{refNscOperator},
}

var jwt004 = &Check{
	Sight: Both,
	ID:    "JWT_004", Severity: Warning,
	Title: "operator JWT expires",
	Doc:   "Critical when it has expired, a warning within the last 30 days. nats-server 2.15.2 does not look at it: it starts, and goes on, with an operator JWT that has expired. nsc and other tools do, and then sign and push nothing.",
	Operator: func(_ Policy, snap *posture.Snapshot, o Operator) Verdict {
		switch left := o.Expires.Sub(snap.Taken); {
		case o.Expires.IsZero():
			return pass("it does not expire")
		case left > claimWarning:
			return pass("more than %s left", days(claimWarning))
		case left <= 0:
			return fail(causeExpired, "the JWT of operator %s expired on %s", title(o.Name, o.Key), clock(o.Expires)).with(Critical, o.shown("exp", clock(o.Expires)))
		default:
			return fail("", "the JWT of operator %s expires on %s", title(o.Name, o.Key), clock(o.Expires)).with(NoSeverity, o.shown("exp", clock(o.Expires)))
		}
	},
	Remedy: Remedy{Text: "`nsc edit operator --expiry 1y`, or 0 for never. " + restartOperator},
	Refs:   []string{refNscOperator},
}

var jwt005 = &Check{
	Sight: Both,
	ID:    "JWT_005", Severity: Info,
	Title: "operator names service URLs without TLS",
	Doc:   "nsc, and whoever sets clients up by the operator's JWT, connects where it says. By nats://, ws:// or http:// the JWTs of accounts and users cross the wire in clear, and nobody checks who is at the other end. nats:// is upgraded where the server insists on TLS.",
	Operator: func(_ Policy, _ *posture.Snapshot, o Operator) Verdict {
		if len(o.Plaintext) == 0 {
			return pass("it names no such URL")
		}
		urls := slices.Compact(slices.Sorted(slices.Values(o.Plaintext))) // nsc knows one for both
		return fail("", "operator %s names %s without TLS", title(o.Name, o.Key), count(len(urls), "URL")).
			with(NoSeverity, o.shown("operator_service_urls, account_server_url", list(urls)))
	},
	Remedy: Remedy{Text: "Add the TLS URL and remove the other: `nsc edit operator --service-url tls://HOST:4222 --rm-service-url nats://HOST:4222`; for the account server `nsc edit operator --account-jwt-server-url wss://HOST:443`, a websocket listener with TLS, or https:// (`nsc push` does not take tls://). Servers do not use these URLs, and no restart is urgent; but they show the operator JWT of their start, and the finding ends when they show the new one. " + restartOperator},
	Refs:   []string{refNscOperator},
}

// shown is a part of the operator's claim as evidence.
func (o *Operator) shown(field, value string) posture.Evidence {
	for _, s := range o.Servers {
		if s.Config != nil {
			return s.Config.At("operator").Says(posture.Unknown, "of the operator's claim: "+field+" "+value)
		}
	}
	return reported("VARZ trusted_operators_claim "+field, value)
}
