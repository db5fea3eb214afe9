package check

import (
	"fmt"
	"slices"
	"strings"

	"github.com/natsentry/natsentry/agent/posture"
)

const (
	refAccounts   = "https://docs.nats.io/running-a-nats-service/configuration/securing_nats/accounts"
	refResolver   = "https://docs.nats.io/running-a-nats-service/configuration/securing_nats/auth_intro/jwt/resolver"
	refNscPush    = "https://docs.nats.io/using-nats/nats-tools/nsc/managed"
	refNscStreams = "https://docs.nats.io/using-nats/nats-tools/nsc/streams"
	refCallout    = "https://docs.nats.io/running-a-nats-service/configuration/securing_nats/auth_callout"
)

const (
	causeIdentityKey   posture.Cause = "identity-key"
	causeUnknownIssuer posture.Cause = "unknown-issuer"
	causeSelfSigned    posture.Cause = "self-signed"
	causeServersDiffer posture.Cause = "servers-differ"
	causeStoreDiffers  posture.Cause = "store-differs"
	causeRefused       posture.Cause = "refused"
	causeDisabled      posture.Cause = "disabled"
	causeScopedKey     posture.Cause = "scoped-key"
	causeNoSigner      posture.Cause = "no-signer"
	causeNoXKey        posture.Cause = "no-xkey"
	causeAnyAccount    posture.Cause = "any-account"
	causeExpired       posture.Cause = "expired"
)

// pushed is what makes servers take a new account JWT.
const pushed = "`nsc push --account NAME` makes a FULL resolver take it at once; with a MEMORY resolver the new JWT goes into resolver_preload of every server and is reloaded. "

var jwt010 = &Check{
	ID: "JWT_010", Severity: Critical,
	Sight:  Both,
	Config: preloads(signedPreload),
	Title:  "account is not signed by a key of the operator",
	Doc: "Servers turn away all users of such an account. A store takes an account JWT from whoever may push one, without asking who signed it, so that the next start of a server, or the next user, finds it: of a foreign operator, " +
		"of a signing key that was retired, of the identity key where the operator insists on signing keys, or of nobody but the account itself. Judged for the claims in force, those that are stored, and those that a configuration preloads: there it may also be the JWT of another account that stands under its key.",
	Account: func(_ Policy, _ *posture.Snapshot, a Account) Verdict {
		if len(a.trust.all) == 0 {
			return unknown("no server shows its operator")
		}
		var (
			seen   bool
			issuer string
			cause  posture.Cause
			shown  []posture.Evidence
		)
		judge := func(c *posture.Claim, source string, trusted []posture.Operator) {
			if c.Issuer == "" {
				return // who signed it cannot be told
			}
			seen = true
			why := distrusted(c, trusted)
			if why == "" {
				return
			}
			if cause == "" {
				cause, issuer = why, c.Issuer
			}
			if len(shown) < shownSessions {
				shown = append(shown, reported(source, c.Issuer))
			}
		}
		for _, f := range a.InForce {
			judge(f.Claim, "ACCOUNTZ issuer, on "+f.Server, a.trust.of(f.ServerID))
		}
		for _, c := range a.Stored {
			judge(c, "CLAIMS LOOKUP issuer, issued "+clock(c.Issued), a.trust.all)
		}
		switch {
		case !seen:
			return unknown("no server has loaded it, and no store shows it")
		case cause == "":
			return pass("its issuer is a key of the operator")
		}
		for i := range a.trust.all {
			shown = append(shown, reported("VARZ trusted_operators_claim", keysOf(&a.trust.all[i])))
		}
		return fail(cause, "account %s is signed by %s, which is no key that servers trust", title(a.Name, a.ID), short(issuer)).with(NoSeverity, shown...)
	},
	Remedies: map[posture.Cause]Remedy{
		causeOtherAccount: {Text: "Put the JWT of the account under its own key (`nsc generate config --mem-resolver` writes the block), and reload. Users of the account that the key names cannot log in until then."},
		causeIdentityKey:  {Text: "The operator insists on signing keys, and its identity key has signed the account. Sign it anew by a signing key: `nsc edit account NAME --tag signed -K SIGNING_KEY` (nsc signs where something changes). " + pushed + "Its users can log in again at once."},
		causeSelfSigned:   {Text: "The account has signed itself, as `nsc add account` does without an operator. Have the operator sign it: `nsc import account --file NAME.jwt --overwrite` re-issues it under the current operator. " + pushed + "Its users can log in then."},
		causeUnknownIssuer: {Text: "Find out who signed it. If the key was retired, sign the account anew: `nsc edit account NAME --tag signed -K SIGNING_KEY` (nsc signs where something changes). " + pushed +
			"If it is an account of another operator, somebody with a user of the system account has pushed it: remove it with `nsc push --account-removal KEY` (servers with `allow_delete: true` only, and the users of that account are disconnected), and find out who may push."},
	},
	Refs: []string{refOperator, refResolver},
}

// distrusted says why none of the operators vouches for a claim; "" when one does.
func distrusted(c *posture.Claim, by []posture.Operator) posture.Cause {
	cause := causeUnknownIssuer
	for i := range by {
		switch o := &by[i]; {
		case slices.Contains(o.SigningKeys, c.Issuer), c.Issuer == o.Key && !o.Strict:
			return ""
		case c.Issuer == o.Key:
			cause = causeIdentityKey
		}
	}
	if c.Issuer == c.Account {
		cause = causeSelfSigned
	}
	return cause
}

func keysOf(o *posture.Operator) string {
	keys := slices.Clone(o.SigningKeys)
	if !o.Strict {
		keys = append([]string{o.Key}, keys...)
	}
	return title(o.Name, o.Key) + " trusts " + list(keys)
}

var jwt011 = &Check{
	ID: "JWT_011", Severity: Critical,
	Title: "the claims of an account differ",
	Doc: "Servers go by different claims of one account, or by another one than is stored: who is let in, and what he may do, depends on the server, and changes with its next restart. A push that reached some servers only, a preload that was changed on one, a stored claim that servers refuse. " +
		"What is just being pushed does not count: it must differ twice in a row. Where no store answers (MEMORY and URL resolvers), claims that agree are half of the answer and the outcome is unknown.",
	Account: func(_ Policy, _ *posture.Snapshot, a Account) Verdict {
		refused := slices.IndexFunc(a.Stored, func(c *posture.Claim) bool { return c.Invalid != "" })
		switch {
		case a.Differs >= 2:
			cause := causeStoreDiffers
			if slices.ContainsFunc(a.InForce, func(f posture.InForce) bool { return f.Claim.Mark != a.InForce[0].Claim.Mark }) {
				cause = causeServersDiffer
			}
			v := fail(cause, "account %s: %s", title(a.Name, a.ID), map[posture.Cause]string{
				causeStoreDiffers:  "what is stored is not what servers go by",
				causeServersDiffer: "servers go by different claims",
			}[cause])
			return v.with(NoSeverity, variants(a)...)
		case refused >= 0:
			return fail(causeRefused, "account %s: a store holds a claim that servers refuse: %s", title(a.Name, a.ID), a.Stored[refused].Invalid).
				with(NoSeverity, variants(a)...)
		case a.Differs == 1:
			return unknown("the claims differ, and have been seen to once only")
		case len(a.InForce) == 0 && len(a.Stored) == 0:
			return unknown("no server has loaded it, and no store shows it")
		case len(a.InForce) == 0:
			return Verdict{Outcome: NotApplicable, Summary: "no server has loaded it"}
		case !a.Asked:
			return unknown("the claims in force agree; no store tells what is stored")
		default:
			return pass("%s and what is stored agree", count(len(a.InForce), "server"))
		}
	},
	Remedies: map[posture.Cause]Remedy{
		causeServersDiffer: {Text: "Push the account again, to all servers: `nsc push --account NAME`. With a MEMORY resolver, give every server the same resolver_preload and reload it. Connected clients stay, unless the claim that wins does not allow them."},
		causeStoreDiffers:  {Text: "Servers go on by the older claim when they refuse the stored one; their log says why (\"resulted in error\"). See whether JWT_010 speaks of it too. Sign the account anew and push it: `nsc push --account NAME`. A server that is restarted before goes by the stored claim, or turns the account's users away."},
		causeRefused:       {Text: "No server loads it: users of the account cannot log in at servers that have not yet. Mend what the finding names, and push the account: `nsc push --account NAME`, which refuses such a claim itself."},
	},
	Refs: []string{refResolver, refNscPush},
}

// variants are the different claims of an account as evidence, each with those
// who have it.
func variants(a Account) []posture.Evidence {
	type variant struct {
		claim *posture.Claim
		on    []string
	}
	var all []*variant
	note := func(c *posture.Claim, who string) {
		for _, v := range all {
			if v.claim.Mark == c.Mark {
				v.on = append(v.on, who)
				return
			}
		}
		all = append(all, &variant{c, []string{who}})
	}
	for _, f := range a.InForce {
		note(f.Claim, f.Server)
	}
	for _, c := range a.Stored {
		note(c, "stored")
	}
	out := make([]posture.Evidence, len(all))
	for i, v := range all {
		out[i] = reported("claim of "+list(v.on), describeClaim(v.claim))
	}
	return out
}

func describeClaim(c *posture.Claim) string {
	if c.Issuer == "" {
		return c.Invalid
	}
	text := fmt.Sprintf("issued %s by %s", clock(c.Issued), short(c.Issuer))
	if !c.Expires.IsZero() {
		text += ", expires " + clock(c.Expires)
	}
	if c.Invalid != "" {
		text += ", refused by servers: " + c.Invalid
	}
	return text
}

// title is what people call an operator or an account: its name, which is not
// unique, and the start of its key.
func title(name, key string) string {
	if strings.TrimSpace(name) == "" {
		return short(key)
	}
	return name + " (" + short(key) + ")"
}

// short is the start of a public key, enough to tell a few of them apart.
func short(key string) string {
	const shown = 10
	if len(key) <= shown+1 {
		return key
	}
	return key[:shown] + "…"
}
