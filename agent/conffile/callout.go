package conffile

import (
	"slices"
	"strings"

	"github.com/nats-io/nats-server/v2/server"

	"github.com/natsentry/natsentry/agent/posture"
	"github.com/natsentry/natsentry/agent/release"
)

// calloutRequests is where the requests of an auth callout are published, in its
// account. They hold what clients log in with.
const calloutRequests = "$SYS.REQ.USER.AUTH"

// configCallout is the auth callout of a configuration; nil where there is none.
func (j *judge) configCallout() *posture.ConfigCallout {
	o := j.opts.AuthCallout
	if o == nil {
		return nil
	}
	const path = "authorization.auth_callout"
	c := &posture.ConfigCallout{
		Place: j.at(path, "authorization"), Account: orGlobal(o.Account),
		Encrypted: posture.TriOf(o.XKey != ""), Placed: posture.No,
	}
	if key := j.config.UnsetUnder("auth_callout.xkey"); key != "" {
		c.Encrypted = posture.Unseen
	}
	if j.src.Version != "" {
		holds, known := release.CalloutAccount.In(j.src.Version)
		if c.Placed = posture.TriOf(!holds); !known {
			c.Placed = posture.Unseen
		}
	}
	// Users of an account that is handed to the callout do not log in beside it. The
	// global account always is (auth.go, processClientOrLeafAuthentication).
	if c.Account == posture.GlobalAccount || len(o.AllowedAccounts) == 0 || slices.Contains(o.AllowedAccounts, c.Account) {
		return c
	}
	note := func(name string, account *server.Account, perms *server.Permissions) {
		if accountName(account) == c.Account && !slices.Contains(o.AuthUsers, name) && maySubscribe(perms, calloutRequests) {
			c.Watchers = append(c.Watchers, name)
		}
	}
	for _, u := range j.opts.Users {
		note(u.Username, u.Account, u.Permissions)
	}
	for _, n := range j.opts.Nkeys {
		note(n.Nkey, n.Account, n.Permissions)
	}
	slices.Sort(c.Watchers)
	return c
}

// maySubscribe reports whether permissions let a user receive a subject without
// wildcards. A deny entry with a queue group leaves the plain subscription.
func maySubscribe(p *server.Permissions, subject string) bool {
	if p == nil || p.Subscribe == nil {
		return true
	}
	matches := func(entry string) bool {
		filter, _, _ := strings.Cut(entry, " ")
		return server.SubjectMatchesFilter(subject, filter)
	}
	allowed := len(p.Subscribe.Allow) == 0 || slices.ContainsFunc(p.Subscribe.Allow, matches)
	return allowed && !slices.ContainsFunc(p.Subscribe.Deny, func(entry string) bool { return !strings.Contains(entry, " ") && matches(entry) })
}
