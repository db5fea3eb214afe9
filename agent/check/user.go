package check

import (
	"slices"
	"time"

	"github.com/natsentry/natsentry/agent/posture"
)

// JWT_031 speaks up so long before the end of a user's JWT. One that was meant to
// last for no more than userShortLived is taken to be renewed by a program.
const (
	userEndsSoon   = 7 * 24 * time.Hour
	userShortLived = 14 * 24 * time.Hour
)

// userCheck judges the users of an account that are connected: bad says of one
// whether he fails, and Unknown where his JWT cannot tell.
type userCheck struct {
	bad    func(snap *posture.Snapshot, in *Inside, m *Member) Outcome
	what   string                      // there is to say of those who fail
	fine   string                      // of a Pass
	more   func(*crowd) string         // of the evidence
	system Severity                    // in the system account, unless it is natsentry alone who fails
	common bool                        // who fails is as the tools make users
	apart  func(*Inside, *Member) bool // another check speaks of them; nil: of nobody
	other  string                      // which one
}

func (u userCheck) inside(_ Policy, snap *posture.Snapshot, in *Inside) Verdict {
	if !in.Operator {
		return notOperator()
	}
	apart := 0
	outcome := func(m *Member) Outcome {
		switch {
		case u.apart != nil && m.Claim != nil && u.apart(in, m):
			apart++
			return NotApplicable
		case m.Claim != nil || m.Login == posture.LoginBearer:
			return u.bad(snap, in, m)
		case m.secretly():
			return Unknown
		default:
			return NotApplicable
		}
	}
	bad := in.pick(func(m *Member) bool { return outcome(m) == Fail })
	own := !slices.ContainsFunc(bad, func(c *crowd) bool { return !c.ours() })
	unclear := in.unclear(func(m *Member) bool { return outcome(m) == Unknown })
	switch {
	case len(bad) > 0:
		v := fail("", "%s of account %s %s", count(len(bad), "connected user"), in.name(), u.what)
		if in.System && !own {
			return show(v.with(u.system), bad, u.more)
		}
		if u.common {
			v = common(v.Evidence...)
			v.Summary = count(len(bad), "connected user") + ", such as "
		}
		return show(v, bad, u.more)
	case unclear > 0:
		return unknown("the servers do not show it of %s", count(unclear, "session"))
	case apart > 0:
		return Verdict{Outcome: NotApplicable, Summary: u.other}
	default:
		return pass("%s", u.fine)
	}
}

func outcomeOf(bad bool) Outcome {
	if bad {
		return Fail
	}
	return Pass
}

var jwt030 = &Check{
	ID: "JWT_030", Severity: Info,
	Title:    "users whose JWT never expires",
	Together: "with connected users whose JWT never expires",
	Doc: "Whoever gets hold of such credentials has them until somebody notices and revokes the user. Critical in the system account, where natsentry's own user alone does not count more than others. That is how nsc makes users, so it is reported once for all other accounts, and harms nobody until credentials leak. " +
		"Judged by the JWTs of those who are connected; servers do not show those of bearers.",
	Needs: everyoneInputs,
	Inside: userCheck{
		bad: func(_ *posture.Snapshot, _ *Inside, m *Member) Outcome {
			if m.Claim == nil {
				return Unknown
			}
			return outcomeOf(m.Claim.Expires.IsZero())
		},
		what: "with a JWT that never expires", fine: "the JWTs of all who are connected expire",
		more:   func(c *crowd) string { return "issued " + clock(c.members[0].Claim.Issued) },
		system: Critical, common: true,
	}.inside,
	Remedy: Remedy{Text: "Issue the credentials anew with an end: `nsc edit user --account NAME --name USER --expiry 90d`, then `nsc generate creds --account NAME --name USER --output-file FILE`, and give them to the client before the old user is revoked. A client is dropped when its JWT ends, and comes back with the new one."},
	Refs:   []string{refOperator},
}

var jwt031 = &Check{
	ID: "JWT_031", Severity: Warning,
	Title: "users whose JWT expires soon",
	Doc:   "Less than 7 days are left; then the server drops the client, and it does not come back without new credentials. JWTs that were issued for 14 days or less are left out: whoever issues such renews them by a program.",
	Needs: everyoneInputs,
	Inside: userCheck{
		bad: func(snap *posture.Snapshot, _ *Inside, m *Member) Outcome {
			if m.Claim == nil {
				return Unknown
			}
			left, whole := m.Claim.Expires.Sub(snap.Taken), m.Claim.Expires.Sub(m.Claim.Issued)
			return outcomeOf(!m.Claim.Expires.IsZero() && left > 0 && left < userEndsSoon && whole > userShortLived)
		},
		what: "with a JWT that expires within 7 days", fine: "no JWT of those who are connected expires soon",
		more: func(c *crowd) string { return "expires " + clock(c.members[0].Claim.Expires) },
	}.inside,
	Remedy: Remedy{Text: "Issue the credentials anew before that: `nsc edit user --account NAME --name USER --expiry 90d`, then `nsc generate creds --account NAME --name USER --output-file FILE`, and give them to the client. It is dropped when the old JWT ends, and comes back with the new one."},
	Refs:   []string{refOperator},
}

var jwt032 = &Check{
	ID: "JWT_032", Severity: Warning,
	Title: "users who are let in without a signature",
	Doc: "A bearer's JWT is all that it takes to be let in: whoever sees it once, in a file, a URL or a log, is that user. A server's default_sentinel is one too. " +
		"Users of scoped signing keys are bearers where the key in the account's claims says so, which their own JWT does not show: where those claims are not known they stay unknown.",
	Needs: everyoneInputs,
	Inside: userCheck{
		bad: func(_ *posture.Snapshot, in *Inside, m *Member) Outcome {
			if m.Login != posture.LoginBearer && m.Claim.Scoped {
				if c := in.inForce(m); c != nil && !c.BearerUsers {
					return Pass
				}
				key := in.signer(m)
				if key == nil {
					return Unknown
				}
				return outcomeOf(key.Bearer)
			}
			return outcomeOf(m.Login == posture.LoginBearer)
		},
		what: "without a signature", fine: "nobody who is connected is a bearer", more: nothingMore,
	}.inside,
	Remedy: Remedy{Text: "Give the clients credentials that need their key (`nsc edit user --account NAME --name USER --bearer=false`, then `nsc generate creds --account NAME --name USER --output-file FILE`), and forbid bearers in the account: `nsc edit account --name NAME --disallow-bearer`. " + pushed + "From then on those who are connected as bearers are dropped. Browsers and MQTT clients, which cannot sign, need JWTs that end soon."},
	Refs:   []string{refOperator},
}

var jwt033 = &Check{
	ID: "JWT_033", Severity: Info,
	Together: "with connected users who may come from anywhere, in any way",
	Title:    "users who may come from anywhere, in any way",
	Doc:      "Their JWT restricts neither addresses, nor times, nor kinds of connection, so that stolen credentials work from everywhere: all addresses of one family, all day, and all kinds of connection restrict nothing. Of a scoped user the signing key in the account's claims says it. That is how nsc makes users, so it is reported once for all accounts.",
	Needs:    everyoneInputs,
	Inside: userCheck{
		bad: func(_ *posture.Snapshot, in *Inside, m *Member) Outcome {
			if m.Claim == nil {
				return Unknown
			}
			if m.Claim.Scoped {
				key := in.signer(m)
				if key == nil {
					return Unknown
				}
				return outcomeOf(!key.Bound)
			}
			return outcomeOf(!m.Claim.Bound)
		},
		what: "bound to no address, time or kind of connection", fine: "all who are connected are bound to addresses, times or kinds of connection", more: nothingMore,
		common: true,
	}.inside,
	Remedy: Remedy{Text: "Name the networks that a user comes from, and the kinds of connection that he needs: `nsc edit user --account NAME --name USER --source-network 10.0.0.0/8 --conn-type STANDARD`, then give the client its new credentials. It needs none to stay connected."},
	Refs:   []string{refOperator},
}

var jwt034 = &Check{
	ID: "JWT_034", Severity: Warning,
	Title: "users who may publish and subscribe to everything",
	Doc: "Nothing in the user's JWT, in its scoped signing key or in the account's default permissions restricts what he may publish and subscribe to in his account. " +
		"An empty JWT alone does not say so: a scoped user's always is. Where the account's claims are not known such users stay unknown. Users who have nothing but the account's defaults are left to JWT_015, except in the system account, where they may stop servers: there only natsentry's own is.",
	Needs: everyoneInputs,
	Inside: userCheck{
		bad: func(_ *posture.Snapshot, in *Inside, m *Member) Outcome {
			if m.Claim == nil {
				return Unknown
			}
			open, known := unrestricted(m.Claim, in.inForce(m))
			if !known {
				return Unknown
			}
			return outcomeOf(open)
		},
		what: "free to publish and subscribe to everything", fine: "all who are connected are restricted", more: nothingMore,
		apart: func(in *Inside, m *Member) bool {
			c := in.inForce(m)
			return m.Claim.Defaults && c != nil && c.OpenDefaults && in.signer(m) == nil && (!in.System || m.Ours)
		},
		other: "those who are connected have the account's default permissions: see JWT_015",
	}.inside,
	Remedy: Remedy{Text: "Allow what the client needs: `nsc edit user --account NAME --name USER --rm '>' --allow-pub SUBJECTS --allow-sub SUBJECTS` and give it its new credentials, or `nsc edit account --name NAME --rm '>' --allow-pub SUBJECTS --allow-sub SUBJECTS` for all who have no permissions of their own, which holds at once for those who are connected. " + pushed + "Better sign users by scoped keys, one for each role."},
	Refs:   []string{refSigningKeys},
}

// inForce is the claim of its account that a session's server goes by, as far as
// that is known; of a server that did not say, the one of all others.
func (in *Inside) inForce(m *Member) *posture.Claim {
	if in.Claims == nil {
		return nil
	}
	var shared *posture.Claim
	for i := range in.Claims.InForce {
		f := &in.Claims.InForce[i]
		switch {
		case f.Claim == nil || f.Claim.Issuer == "":
		case f.ServerID == m.Server.ID:
			return f.Claim
		case shared == nil:
			shared = f.Claim
		case shared.Mark != f.Claim.Mark:
			return nil
		}
	}
	return shared
}

// signer is the scoped signing key of a session's user; nil where it is none, or
// is not known.
func (in *Inside) signer(m *Member) *posture.SigningKey {
	c := in.inForce(m)
	if c == nil || m.Claim == nil {
		return nil
	}
	for i := range c.SigningKeys {
		if k := &c.SigningKeys[i]; k.Key == m.Claim.Issuer && k.Scoped {
			return k
		}
	}
	return nil
}

// unrestricted tells whether a user may publish and subscribe to everything in
// his account. A server puts the permissions of a scoped signing key in the
// place of the user's, and those of the account where there are none (nats-server
// accounts.go, buildInternalNkeyUser).
func unrestricted(u *posture.UserClaim, account *posture.Claim) (open, known bool) {
	if !u.Defaults {
		return u.OpenPub && u.OpenSub, true
	}
	if account == nil {
		return false, false
	}
	if u.Issuer != u.Account {
		i := slices.IndexFunc(account.SigningKeys, func(k posture.SigningKey) bool { return k.Key == u.Issuer })
		if i < 0 {
			return false, false
		}
		if k := account.SigningKeys[i]; k.Scoped {
			return k.Open, true
		}
	}
	return account.OpenDefaults, true
}
