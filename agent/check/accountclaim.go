package check

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/natsentry/natsentry/agent/posture"
)

// claimCheck judges each claim that counts for an account.
func claimCheck(judge func(Policy, *posture.Snapshot, Account, claimed) Verdict) func(Policy, *posture.Snapshot, Account) Verdict {
	return func(policy Policy, snap *posture.Snapshot, a Account) Verdict {
		claims, why := effective(a)
		if len(claims) == 0 {
			return why
		}
		var out Verdict
		for i, c := range claims {
			v := unknown("%s: %s", c.source, c.claim.Invalid)
			if c.claim.Issuer != "" {
				v = judge(policy, snap, a, c)
			}
			// A claim that fails is not excused by another one, and one that
			// cannot be told about is not by one that passes.
			if i == 0 || weight(v.Outcome) > weight(out.Outcome) {
				out = v
			}
		}
		return out
	}
}

// common fails an account for what the tools make of every account. Its summary,
// if it has one, begins that of its evidence.
func common(evidence ...posture.Evidence) Verdict {
	v := Verdict{Outcome: Fail, Severity: Info, Common: true}
	return v.with(NoSeverity, evidence...)
}

func weight(o Outcome) int {
	switch o {
	case Fail:
		return 3
	case Unknown:
		return 2
	case Pass:
		return 1
	default:
		return 0
	}
}

// claimed is a claim that counts for an account, and where it was seen.
type claimed struct {
	claim   *posture.Claim
	source  string
	expired bool // its servers say so
}

// effective lists the different claims by which servers go, or else those that
// are stored for the next user who comes. A stored claim that no server would
// take counts for nothing; that it is there is told by JWT_010 and JWT_011. why
// is the verdict where there is none.
func effective(a Account) (claims []claimed, why Verdict) {
	for _, f := range a.InForce {
		i := slices.IndexFunc(claims, func(c claimed) bool { return c.claim.Mark == f.Claim.Mark })
		if i < 0 {
			claims = append(claims, claimed{claim: f.Claim, source: "ACCOUNTZ of " + f.Server, expired: f.Expired})
			continue
		}
		claims[i].expired = claims[i].expired || f.Expired
	}
	if len(claims) > 0 {
		return claims, Verdict{}
	}
	for _, c := range a.Stored {
		if c.Invalid == "" && (len(a.trust.all) == 0 || distrusted(c, a.trust.all) == "") {
			claims = append(claims, claimed{claim: c, source: "CLAIMS LOOKUP"})
		}
	}
	if len(claims) == 0 && len(a.Stored) > 0 {
		return nil, Verdict{Outcome: NotApplicable, Summary: "no server would take what is stored"}
	}
	return claims, unknown("no server has loaded it, and no store shows it")
}

var jwt012 = &Check{
	ID: "JWT_012", Severity: Info,
	Title:    "account without signing keys",
	Doc:      "Users can only be signed by the account's identity key, which then has to be at hand whenever somebody gets a user. When it leaks, the account has to be replaced; a signing key can be taken away, and its users with it. That is how nsc makes accounts, so it is reported once for all of them. Where the operator insists on signing keys, nobody can log in to such an account: a warning, for each.",
	Together: "without signing keys",
	Account: claimCheck(func(_ Policy, _ *posture.Snapshot, a Account, c claimed) Verdict {
		if n := len(c.claim.SigningKeys); n > 0 {
			return pass("it has %s", count(n, "signing key"))
		}
		for i := range a.trust.all {
			if o := (&Operator{Operator: a.trust.all[i]}); o.Strict && slices.Contains(o.SigningKeys, c.claim.Issuer) {
				return fail(causeNoSigner, "account %s has no signing keys, and its operator insists on them: nobody can log in", title(a.Name, a.ID)).
					with(Warning, reported(c.source, "no signing_keys"), o.shown("strict_signing_key_usage", "true"))
			}
		}
		return common(reported(c.source, "no signing_keys"))
	}),
	Remedy: Remedy{Text: "`nsc edit account NAME --sk generate` makes one; `nsc edit signing-key --account NAME --sk generate --role ROLE --allow-pub SUBJECTS --allow-sub SUBJECTS` makes one that prescribes what its users may do. " + pushed +
		"Connected clients stay. Then sign the users anew by it and give the clients their new credentials: `nsc edit user --account NAME --name USER --tag signed -K SIGNING_KEY`; a key with a role takes only new users, `nsc add user --account NAME --name USER -K ROLE`. At last take the identity key offline."},
	Refs: []string{refSigningKeys},
}

var jwt013 = &Check{
	ID: "JWT_013", Severity: Warning,
	Sight:  Both,
	Config: preloads(expiredPreload),
	Title:  "account JWT expires",
	Doc:    "Critical when it has expired: servers then drop all clients of the account and turn its users away. A warning within the last 30 days.",
	Account: claimCheck(func(_ Policy, snap *posture.Snapshot, a Account, c claimed) Verdict {
		end := c.claim.Expires
		switch left := end.Sub(snap.Taken); {
		case !end.IsZero() && left <= 0:
			return fail(causeExpired, "the JWT of account %s expired on %s: its users are turned away", title(a.Name, a.ID), clock(end)).with(Critical, reported(c.source+" exp", clock(end)))
		case c.expired:
			return fail(causeDisabled, "servers take account %s for expired: its users are turned away", title(a.Name, a.ID)).with(Critical, reported(c.source+" expired", "true, though its JWT has not"))
		case end.IsZero():
			return pass("it does not expire")
		case left > claimWarning:
			return pass("more than %s left", days(claimWarning))
		default:
			return fail("", "the JWT of account %s expires on %s", title(a.Name, a.ID), clock(end)).with(NoSeverity, reported(c.source+" exp", clock(end)))
		}
	}),
	Remedies: map[posture.Cause]Remedy{
		causeDisabled: {Text: "Somebody has removed the account from the store, and servers have locked it until they are restarted. If that was not meant, push it again: `nsc push --account NAME`. Its users can log in at once."},
	},
	Remedy: Remedy{Text: "`nsc edit account NAME --expiry 1y`, or 0 for never. " + pushed + "Connected clients stay; those that were dropped can log in again at once."},
	Refs:   []string{refNscPush},
}

var jwt014 = &Check{
	ID: "JWT_014", Severity: Info,
	Title:    "account allows bearer users",
	Doc:      "A bearer user's JWT is all it takes to log in: it needs no key, and every server, proxy, log and CONNECT event that sees it once can use it. An account without disallow_bearer takes such users, whoever of its signers makes one. That is how nsc makes accounts, so it is reported once for all of them; JWT_032 warns of bearers that are connected.",
	Together: "that may have bearer users",
	Account: claimCheck(func(_ Policy, _ *posture.Snapshot, _ Account, c claimed) Verdict {
		if !c.claim.BearerUsers {
			return pass("bearer users are turned away")
		}
		return common(reported(c.source+" limits.disallow_bearer", "absent"))
	}),
	Remedy: Remedy{Text: "See that no client needs it (websocket and MQTT ones may; JWT_032 names those that are connected), then `nsc edit account NAME --disallow-bearer`. " + pushed + "Bearer users that are connected are dropped, and do not come back."},
	Refs:   []string{refOperator},
}

var jwt015 = &Check{
	ID: "JWT_015", Severity: Info,
	Together: "that restrict nothing by default",
	Title:    "users may do everything by default",
	Doc:      "A user of the account whose own JWT says nothing of permissions may publish and subscribe to everything: the account's default permissions restrict nothing. Or they do, and a scoped signing key prescribes permissions that restrict nothing; one that prescribes none gives the account's defaults. Defaults that restrict nothing are how nsc makes accounts, and are reported once for all of them.",
	Account: claimCheck(func(_ Policy, _ *posture.Snapshot, a Account, c claimed) Verdict {
		var open []string
		for _, k := range c.claim.SigningKeys {
			if k.Scoped && k.Open {
				open = append(open, short(k.Key))
			}
		}
		v := pass("its default permissions and scoped signing keys restrict users")
		switch {
		case c.claim.OpenDefaults:
			return common(reported(c.source+" default_permissions", "none that restrict"))
		case len(open) > 0:
			v = fail(causeScopedKey, "account %s has %s whose users may do everything", title(a.Name, a.ID), count(len(open), "scoped signing key"))
		}
		if len(open) > 0 {
			v = v.with(NoSeverity, reported(c.source+" scoped signing_keys that restrict nothing", list(open)))
		}
		return v
	}),
	Remedies: map[posture.Cause]Remedy{
		causeScopedKey: {Text: "Give the role its permissions: `nsc edit signing-key --account NAME --sk KEY --rm '>' --allow-pub SUBJECTS --allow-sub SUBJECTS`. " + pushed + "They hold for its users at once, also for those who are connected."},
	},
	Remedy: Remedy{Text: "`nsc edit account NAME --rm '>' --allow-pub SUBJECTS --allow-sub SUBJECTS` sets what users without permissions of their own may do. " + pushed + "It holds at once, also for those who are connected: see first which of them need more, and give them permissions of their own."},
	Refs:   []string{refOperator},
}

var jwt016 = &Check{
	ID: "JWT_016", Severity: Info,
	Together: "without limits",
	Title:    "account without limits",
	Doc:      "Nothing keeps one account's clients from taking all connections, subscriptions and bandwidth of the servers. Limits of connections, leafnodes, subscriptions, data and payload count; any one of them will do. That is how nsc makes accounts, so it is reported once for all of them.",
	Account: claimCheck(func(_ Policy, _ *posture.Snapshot, _ Account, c claimed) Verdict {
		if c.claim.Limited {
			return pass("something is limited")
		}
		return common(reported(c.source+" limits", "conn, leaf, subs, data, payload: none"))
	}),
	Remedy: Remedy{Text: "`nsc edit account NAME --conns 1000 --subscriptions 10000 --payload 1048576`, with numbers well above what the account uses today (`nats server report accounts`). " + pushed + "Clients beyond a new limit of connections are disconnected."},
	Refs:   []string{refAccounts},
}

var jwt017 = &Check{
	ID: "JWT_017", Severity: Warning,
	Title: "account exports to everybody",
	Doc:   "Every account of the operator can import a public export, also those that are made tomorrow, without this account's consent: it reads the stream, or asks the service. An export whose subject holds the importer's own key (account_token_position) is not counted, since it shows each one its own part.",
	Account: claimCheck(func(_ Policy, _ *posture.Snapshot, a Account, c claimed) Verdict {
		var public []posture.Evidence
		n := 0
		for _, e := range c.claim.Exports {
			if !e.Public {
				continue
			}
			if n++; n <= shownSessions {
				public = append(public, reported(c.source+" export of a "+kindOf(e.Service), e.Subject))
			}
		}
		if n == 0 {
			return pass("none of its %s is public", count(len(c.claim.Exports), "export"))
		}
		return fail("", "account %s has %s for everybody", title(a.Name, a.ID), count(n, "export")).with(NoSeverity, public...)
	}),
	Remedy: Remedy{Text: "Make it private, and do not push it yet: `nsc edit export --account NAME --subject SUBJECT --private`. Give each account that imports it today an activation, which nsc makes for private exports only: `nsc generate activation --account NAME --subject SUBJECT --target-account KEY --output-file FILE`, `nsc delete import --account IMPORTER --subject SUBJECT`, `nsc add import --account IMPORTER --token FILE`. Push the importers first (`nsc push --account IMPORTER`), and the exporter last. " + pushed + "Imports without an activation stop at once."},
	Refs:   []string{refNscStreams},
}

func kindOf(service bool) string {
	if service {
		return "service"
	}
	return "stream"
}

var jwt018 = &Check{
	ID: "JWT_018", Severity: Warning,
	Title: "an import brings nothing, or soon will not",
	Doc: "No message arrives, and clients only notice that nothing comes or nobody answers. Critical when the activation of an import has expired; a warning within the last 30 days, and where the import has no activation and the export is private, " +
		"where the exporter has revoked the activation or no longer lists the key that signed it, where no export offers the subject, and where there is no such account. Judged by the claims of both accounts. Activations that are given by URL are not seen.",
	Account: claimCheck(func(_ Policy, snap *posture.Snapshot, a Account, c claimed) Verdict {
		byCause := map[posture.Cause][]posture.Evidence{}
		unseen := 0
		for i := range c.claim.Imports {
			in := &c.claim.Imports[i]
			cause, known := deadImport(snap, a, in)
			if !known {
				unseen++
			}
			if cause == causeNone {
				continue
			}
			text := fmt.Sprintf("%s of account %s", in.Subject, accountTitle(snap, in.Account))
			if !in.Expires.IsZero() {
				text += ": activation until " + clock(in.Expires)
			}
			byCause[cause] = append(byCause[cause], reported(c.source+" import of a "+kindOf(in.Service), text))
		}
		for _, d := range deadImports {
			evidence := byCause[d.cause]
			if len(evidence) == 0 {
				continue
			}
			v := fail(d.cause, "account %s has %s %s", title(a.Name, a.ID), count(len(evidence), "import"), d.what)
			if d.cause == causeSoon {
				v.Cause = ""
			}
			for _, other := range deadImports { // the others after it
				if other.cause != d.cause {
					evidence = append(evidence, byCause[other.cause]...)
				}
			}
			return v.with(d.severity, evidence[:min(len(evidence), shownSessions)]...)
		}
		if unseen > 0 {
			return unknown("the exporters of %s were not seen", count(unseen, "import"))
		}
		return pass("every import is offered, and no activation ends within %s", days(claimWarning))
	}),
	Remedies: map[posture.Cause]Remedy{
		causeNoActivation:   {Text: "The export is private. " + activate},
		causeActRevoked:     {Text: "Ask the exporter whether that was meant. If not: `nsc revocations delete-activation --account EXPORTER --subject SUBJECT --target-account KEY`, and `nsc push --account EXPORTER`. If so, remove the import: " + deleteImport + pushed},
		causeActRotated:     {Text: "The exporter has replaced the signing key. " + activate},
		causeNoSuchExport:   {Text: "See how the subject is exported now (`nsc describe account EXPORTER`), and import that, or remove the import: " + deleteImport + pushed + "Connected clients stay."},
		causeNoSuchExporter: {Text: "See whether the account was deleted, or not pushed to these servers: `nsc push --account EXPORTER`. If it is gone for good, remove the import: " + deleteImport + pushed},
	},
	Remedy: Remedy{Text: activate},
	Refs:   []string{refNscStreams},
}

const deleteImport = "`nsc delete import --account NAME --subject SUBJECT`. "

const activate = "Whoever exports makes a new activation (`nsc generate activation --account EXPORTER --subject SUBJECT --target-account KEY --expiry 1y --output-file FILE`), and the importer takes it (`nsc delete import --account NAME --subject SUBJECT`, then `nsc add import --account NAME --token FILE`). " + pushed + "Connected clients stay, and the import works again at once."

const (
	causeNone           posture.Cause = ""
	causeSoon           posture.Cause = "soon"
	causeNoActivation   posture.Cause = "no-activation"
	causeActRevoked     posture.Cause = "activation-revoked"
	causeActRotated     posture.Cause = "activation-signer-removed"
	causeNoSuchExport   posture.Cause = "no-such-export"
	causeNoSuchExporter posture.Cause = "no-such-account"
)

// deadImports are the reasons why an import brings nothing, the worst first.
var deadImports = []struct {
	cause    posture.Cause
	severity Severity
	what     string
}{
	{causeExpired, Critical, "whose activation has expired"},
	{causeActRevoked, Warning, "whose activation the exporter has revoked"},
	{causeActRotated, Warning, "whose activation was signed by a key that the exporter no longer lists"},
	{causeNoActivation, Warning, "of a private export without an activation"},
	{causeNoSuchExport, Warning, "that no export offers"},
	{causeNoSuchExporter, Warning, "from an account that does not exist"},
	{causeSoon, Warning, "whose activation expires soon"},
}

// deadImport is why an import brings nothing; causeNone when it does. known
// reports whether the exporter's claims were seen.
func deadImport(snap *posture.Snapshot, a Account, in *posture.Import) (cause posture.Cause, known bool) {
	left := in.Expires.Sub(snap.Taken)
	switch {
	case !in.Expires.IsZero() && left <= 0:
		return causeExpired, true
	case !in.Expires.IsZero() && left <= claimWarning:
		cause = causeSoon
	}
	exporter := snap.Trust.Account(in.Account)
	switch {
	case exporter == nil && snap.Trust.Left == 0 && len(snap.Trust.Gaps) == 0 && a.Asked:
		return causeNoSuchExporter, true
	case exporter == nil || exporter.At.IsZero() || strings.Contains(in.Subject, "{{"):
		return cause, false
	}
	claims, _ := effective(Account{exporter, a.trust})
	if len(claims) == 0 {
		return cause, false
	}
	for i := range claims {
		if why := notOffered(claims[i].claim, a.ID, in); why != causeNone {
			return why, true
		}
	}
	return cause, true
}

// notOffered is why an exporter's claim does not grant an import (nats-server
// accounts.go, checkAuth and checkActivation).
func notOffered(c *posture.Claim, importer string, in *posture.Import) posture.Cause {
	cause := causeNoSuchExport
	for i := range c.Exports {
		e := &c.Exports[i]
		switch {
		case strings.Contains(e.Subject, "{{"):
			return causeNone // resolved by the server
		case e.Service != in.Service || !e.Offers(in.Subject):
		case !e.Private:
			return causeNone
		case in.Activation == nil:
			cause = causeNoActivation
		case in.Activation.Unread:
			return causeNone
		case in.Activation.Signer != "" && in.Activation.Signer != c.Account && !slices.ContainsFunc(c.SigningKeys, func(k posture.SigningKey) bool { return k.Key == in.Activation.Signer }):
			cause = causeActRotated
		case revoked(e.Revoked, importer, in.Activation.Issued):
			cause = causeActRevoked
		default:
			return causeNone
		}
	}
	return cause
}

// revoked reports whether a list ends what was issued to a key at a time.
func revoked(list []posture.Revocation, key string, issued time.Time) bool {
	return slices.ContainsFunc(list, func(r posture.Revocation) bool {
		return (r.User == key || r.User == "*") && !r.Before.Before(issued)
	})
}

// accountTitle is what an account is called, if it is known.
func accountTitle(snap *posture.Snapshot, id string) string {
	name := ""
	if a := snap.Trust.Account(id); a != nil {
		name = a.Name
	}
	return title(name, id)
}

var jwt019 = &Check{
	ID: "JWT_019", Severity: Critical,
	Title: "nobody answers the auth callout",
	Doc:   "The account has its users authorized by a service (auth callout), and none of the users that are that service (auth_users) is connected anywhere: nobody else can log in to the account. Judged by the sessions of all accounts on all servers; where those were not asked for, or not all of them were looked at, an absent service is unknown.",
	Account: claimCheck(func(_ Policy, snap *posture.Snapshot, a Account, c claimed) Verdict {
		if c.claim.Callout == nil {
			return Verdict{Outcome: NotApplicable, Summary: "it has no auth callout"}
		}
		var unseen, claimed []string
		for _, s := range snap.Servers {
			for i := range s.Everyone.List {
				switch u := &s.Everyone.List[i]; {
				case u.Claim != nil && u.Claim.Account == a.ID && slices.Contains(c.claim.Callout.AuthUsers, u.Claim.Key):
					return pass("one of its auth users is connected to %s", s.Name)
				case u.Claim == nil && u.Account == a.ID && slices.Contains(c.claim.Callout.AuthUsers, u.User):
					claimed = append(claimed, s.Name)
				}
			}
			gone := s.State == posture.ShutDown
			if !gone && (s.Everyone.At.IsZero() || s.State != posture.Answering || s.Everyone.Total > len(s.Everyone.List)) {
				unseen = append(unseen, s.Name)
			}
		}
		if len(unseen) > 0 {
			return unknown("its auth users were not found, and not all sessions were seen on %s", list(unseen))
		}
		if len(claimed) > 0 {
			return unknown("somebody on %s is shown as one of its auth users, by a JWT that the server does not show", list(claimed))
		}
		keys := make([]string, len(c.claim.Callout.AuthUsers))
		for i, k := range c.claim.Callout.AuthUsers {
			keys[i] = short(k)
		}
		return fail("", "account %s has its users authorized by a service that is not connected", title(a.Name, a.ID)).with(NoSeverity,
			reported(c.source+" authorization.auth_users", list(keys)),
			posture.Evidence{Basis: posture.Observed, Source: "CONNZ", Value: fmt.Sprintf("none of them on any of %s", count(len(snap.Servers), "server"))})
	}),
	Remedy: Remedy{Text: "Start the service, more than once. If there is none any more, `nsc edit authcallout --account NAME --disable`. " + pushed + "The account's own users can then log in again."},
	Refs:   []string{refCallout},
}

var jwt020 = &Check{
	Sight: Both,
	ID:    "JWT_020", Severity: Warning,
	Title: "auth callout trusts too much",
	Doc:   "Without an xkey the requests to the service, which hold the passwords and tokens of those who log in, can be read by every user of the account who may subscribe to $SYS.REQ.USER.AUTH. With allowed_accounts * the service may place users in any account of the operator: who owns it owns them all.",
	Account: claimCheck(func(_ Policy, _ *posture.Snapshot, a Account, c claimed) Verdict {
		callout := c.claim.Callout
		if callout == nil {
			return Verdict{Outcome: NotApplicable, Summary: "it has no auth callout"}
		}
		v := pass("requests are encrypted, and accounts are named")
		if !callout.Encrypted {
			v = fail(causeNoXKey, "the auth callout of account %s is not encrypted", title(a.Name, a.ID)).with(NoSeverity, reported(c.source+" authorization.xkey", "absent"))
		}
		if slices.Contains(callout.Accounts, "*") {
			evidence := reported(c.source+" authorization.allowed_accounts", "*")
			if v.Outcome == Fail {
				v.Summary += ", and may place users in any account"
				return v.with(NoSeverity, evidence)
			}
			v = fail(causeAnyAccount, "the auth callout of account %s may place users in any account", title(a.Name, a.ID)).with(NoSeverity, evidence)
		}
		return v
	}),
	// In a configuration, allowed_accounts are those whose users go to the service, and
	// nothing bounds where it places them.
	Config: func(_ Policy, _ *posture.Snapshot, s *posture.Server) Verdict {
		c := s.Config.Callout
		switch {
		case c == nil:
			return unreadOr(s, "it has no auth callout")
		case c.Encrypted == posture.Unseen:
			return unknown("xkey is a variable without a value here")
		case c.Encrypted == posture.Yes:
			return pass("requests are encrypted")
		default:
			return fail(causeNoXKey, "the auth callout of %s is not encrypted", s.Name).with(NoSeverity, c.Place.Says(posture.Unknown, "auth_callout has no xkey"))
		}
	},
	Remedies: map[posture.Cause]Remedy{
		causeNoXKey:     {Text: "In a configuration file, set auth_callout { xkey: ... } to the public curve key of the service and restart. In operator mode, give the service a curve key and the account its public half: `nsc edit authcallout --account NAME --curve generate`. " + pushed + "From then on requests are encrypted: the service must be able to read them before, or nobody can log in."},
		causeAnyAccount: {Text: "Name the accounts: `nsc edit authcallout --account NAME --rm-allowed-account '*' --allowed-account KEY`. " + pushed + "Users whom the service places elsewhere cannot log in any more; those who are connected stay."},
	},
	Refs: []string{refCallout},
}
