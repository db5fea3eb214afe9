package check

import (
	"github.com/natsentry/natsentry/agent/posture"
)

const (
	causeOtherAccount posture.Cause = "other-account"
	causeNotYet       posture.Cause = "not-yet"
	causeNoClients    posture.Cause = "no-connections"
	causeLimitsUnset  posture.Cause = "limits-absent"
)

// preloads judges the accounts that a configuration preloads; the worst is said,
// and all are shown.
func preloads(judge func(*posture.Snapshot, *posture.Server, *posture.Preload) Verdict) func(Policy, *posture.Snapshot, *posture.Server) Verdict {
	return func(_ Policy, snap *posture.Snapshot, s *posture.Server) Verdict {
		if len(s.Config.Preloads) == 0 {
			return unreadOr(s, "no account is preloaded")
		}
		out := Verdict{Outcome: NotApplicable}
		var evidence []posture.Evidence
		for i := range s.Config.Preloads {
			p := &s.Config.Preloads[i]
			v := judge(snap, s, p)
			if v.Outcome == Fail && len(evidence) < shownSessions {
				evidence = append(evidence, p.Place.Says(posture.Unknown, "preload of "+title(p.Claim.Name, p.Key)+": "+v.Summary))
			}
			if weight(v.Outcome) > weight(out.Outcome) || v.Outcome == Fail && out.Outcome == Fail && v.Severity > out.Severity {
				out = v
			}
		}
		if out.Outcome == Fail {
			out.Summary = s.Name + " preloads an account with a problem: " + out.Summary
			out.Evidence = evidence
		}
		return out
	}
}

func signedPreload(_ *posture.Snapshot, s *posture.Server, p *posture.Preload) Verdict {
	switch why := distrusted(p.Claim, s.Operators); {
	case p.Claim.Account != p.Key:
		return fail(causeOtherAccount, "the JWT is that of another account, %s", short(p.Claim.Account)).with(Critical)
	case why == "":
		return pass("all preloaded accounts are signed by the operator")
	case !s.Config.Operators:
		return unknown("the JWT of the operator is not here")
	default:
		return fail(why, "the JWT is signed by %s, which is no key that the server trusts", short(p.Claim.Issuer)).with(Critical)
	}
}

func expiredPreload(snap *posture.Snapshot, _ *posture.Server, p *posture.Preload) Verdict {
	switch left := p.Claim.Expires.Sub(snap.Taken); {
	case p.Claim.Expires.IsZero():
		return pass("no preloaded account expires")
	case left <= 0:
		return fail(causeExpired, "the JWT expired on %s: its users are rejected", clock(p.Claim.Expires)).with(Critical)
	case left > claimWarning:
		return pass("more than %s left", days(claimWarning))
	default:
		return fail("", "the JWT expires on %s", clock(p.Claim.Expires)).with(Warning)
	}
}

// admitsNobody is why no client can log in to an account, whoever signed its
// JWT: it may be meant where a time or a number says so.
func admitsNobody(snap *posture.Snapshot, c *posture.Claim) Verdict {
	switch {
	case c.NotBefore.After(snap.Taken):
		return fail(causeNotYet, "its JWT is valid from %s on, and servers reject its users until then", clock(c.NotBefore)).with(Info)
	case c.Limits == posture.LimitsUnset:
		return fail(causeLimitsUnset, "its JWT has no limits, which servers take for 0 connections").with(Warning)
	case c.Limits == posture.NoClients:
		return fail(causeNoClients, "its limit of connections is 0").with(Info)
	default:
		return pass("clients may log in")
	}
}

var jwt021 = &Check{
	ID: "JWT_021", Severity: Warning,
	Sight: Both,
	Title: "no client can log in to an account",
	Doc: "Its JWT is not valid yet, or its limit of connections is 0: that may be meant, for an account that is prepared or shut. Or the JWT has no limits at all, as one that another program than nsc has made: servers take what is absent for 0. " +
		"Judged for the claims in force, or those that are stored, and those that a configuration preloads.",
	Account: claimCheck(func(_ Policy, snap *posture.Snapshot, a Account, c claimed) Verdict {
		v := admitsNobody(snap, c.claim)
		if v.Outcome == Fail {
			evidence := reported(c.source, v.Summary)
			v.Summary = "no client can log in to account " + title(a.Name, a.ID) + ": " + v.Summary
			return v.with(NoSeverity, evidence)
		}
		return v
	}),
	Config: preloads(func(snap *posture.Snapshot, _ *posture.Server, p *posture.Preload) Verdict {
		return admitsNobody(snap, p.Claim)
	}),
	Remedies: map[posture.Cause]Remedy{
		causeNotYet: {Text: "If it is not meant: `nsc edit account NAME --start 0`. " + pushed + "Its users can log in at once."},
	},
	Remedy: Remedy{Text: "If it is not meant: `nsc edit account NAME --conns -1 --leaf-conns -1 --subscriptions -1 --data -1 --payload -1` takes the limits away. " + pushed + "Its users can log in at once."},
	Refs:   []string{refNscPush},
}
