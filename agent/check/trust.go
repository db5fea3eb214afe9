package check

import (
	"cmp"
	"fmt"
	"slices"

	"github.com/natsentry/natsentry/agent/posture"
)

// Operator is a trusted operator, and the servers that trust it.
type Operator struct {
	posture.Operator
	Servers []*posture.Server
	heard   bool // one of them answered VARZ; otherwise it is what they once said
}

// operators lists the operators of a fleet. Servers may hold different claims of
// one operator; the latest of those that answered is taken, and FLEET_002 tells
// of others.
func operators(snap *posture.Snapshot) []Operator {
	byKey := map[string]*Operator{}
	var keys []string
	for _, s := range snap.Servers {
		for _, o := range s.Operators {
			known := byKey[o.Key]
			if known == nil {
				known = &Operator{Operator: o}
				byKey[o.Key] = known
				keys = append(keys, o.Key)
			}
			heard := s.Heard.Has(posture.Varz) || s.Config != nil
			if heard && !known.heard || heard == known.heard && o.Issued.After(known.Issued) {
				known.Operator = o
			}
			known.heard = known.heard || heard
			known.Servers = append(known.Servers, s)
		}
	}
	slices.Sort(keys)
	out := make([]Operator, len(keys))
	for i, k := range keys {
		out[i] = *byKey[k]
	}
	return out
}

// Account is an account of servers in operator mode, and whom the servers trust
// to sign it.
type Account struct {
	*posture.Account
	trust *trustees
}

// trustees are the operators of a fleet: of all servers together, for what any
// of them may find in a store, and of each.
type trustees struct {
	all      []posture.Operator
	byServer map[string][]posture.Operator // by id
}

func trusteesOf(snap *posture.Snapshot) *trustees {
	t := &trustees{byServer: map[string][]posture.Operator{}}
	for _, o := range operators(snap) {
		t.all = append(t.all, o.Operator)
	}
	for _, s := range snap.Servers {
		if len(s.Operators) > 0 {
			t.byServer[s.ID] = s.Operators
		}
	}
	return t
}

// of lists the operators that a server trusts.
func (t *trustees) of(server string) []posture.Operator {
	if own := t.byServer[server]; len(own) > 0 {
		return own
	}
	return t.all
}

func (c *Check) judgeOperators(out []Result, snap *posture.Snapshot, policy Policy) []Result {
	for _, o := range operators(snap) {
		g := Group{Members: o.Servers}
		scope := Scope{Kind: KindOperator, Account: o.Key, Name: o.Name}
		v := unknown("no answer to VARZ from any server that trusts it")
		if o.heard {
			v = c.Operator(policy, snap, o)
		}
		out = append(out, Result{Check: c, Scope: scope, Looked: g.looked(), Verdict: v})
	}
	return out
}

// judgeAccounts judges the accounts that are known. While none are, because
// nobody has asked yet, there are no results: the ledger does not take that for
// an end. The evaluator, not the check, says that a server is missing.
func (c *Check) judgeAccounts(out []Result, snap *posture.Snapshot, policy Policy) []Result {
	if snap.Trust == nil {
		return out
	}
	trust, from := trusteesOf(snap), len(out)
	for _, a := range snap.Trust.Accounts {
		scope := Scope{Kind: KindAccount, Account: a.ID, Name: a.Name}
		v := unknown("it was not looked at yet")
		if !a.At.IsZero() {
			v = c.Account(policy, snap, Account{a, trust})
		}
		if v.Outcome == Pass && len(a.Missing) > 0 {
			v = unknown("it passes as far as it was seen; no answer about it from %s", list(a.Missing))
		}
		out = append(out, Result{Check: c, Scope: scope, Looked: a.At, Verdict: v})
	}
	return c.together(out, from)
}

// together reports once, of the system, what is Common to several accounts: what
// the operator decided once, or left as the tools make it, is one finding however
// many accounts there are.
func (c *Check) together(out []Result, from int) []Result {
	if c.Together == "" || len(out) == from {
		return out
	}
	all := Result{Check: c, Scope: Scope{Kind: KindSystem}, Verdict: Verdict{Outcome: NotApplicable, Summary: "no account that this is about"}}
	var names []string
	for i := from; i < len(out); i++ {
		r := &out[i]
		if r.Looked.After(all.Looked) {
			all.Looked = r.Looked
		}
		switch {
		case r.Common && r.Outcome == Fail:
			name := title(r.Scope.Name, r.Scope.Account)
			names = append(names, cmp.Or(r.Scope.Name, short(r.Scope.Account)))
			e := r.Evidence[0]
			e.Value = name + ": " + r.Summary + e.Value
			all.Evidence = append(all.Evidence, e)
			r.Verdict = Verdict{Outcome: NotApplicable, Common: true, Summary: "reported once for all accounts"}
		case weight(r.Outcome) > weight(all.Outcome) && r.Outcome != Fail:
			all.Verdict = Verdict{Outcome: r.Outcome, Summary: map[Outcome]string{
				Pass: "no account is as the tools make it", Unknown: "of some accounts it is unknown",
			}[r.Outcome], Evidence: all.Evidence}
		}
	}
	if len(names) > 0 {
		slices.Sort(names)
		evidence := all.Evidence[:min(len(all.Evidence), shownSessions)]
		if n := len(all.Evidence) - len(evidence); n > 0 {
			evidence = append(slices.Clip(evidence), reported("accounts", fmt.Sprintf("and %d more", n)))
		}
		all.Verdict = fail("", "%s %s: %s", count(len(names), "account"), c.Together, list(names)).with(Info, evidence...)
	}
	return append(out, all)
}
