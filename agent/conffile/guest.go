package conffile

import (
	"slices"

	"github.com/nats-io/nats-server/v2/server"

	"github.com/natsentry/natsentry/agent/posture"
)

// asGuest: users are there, and a stranger may be taken for one of them.
func (j *judge) asGuest(l *listener, guest, where, connection string) answer {
	o := j.opts
	closed := answer{access: posture.Closed, place: j.at("authorization", "accounts"), text: "credentials are asked for"}
	if own := authOf(o, l.kind); own.user != "" || own.token != "" {
		closed.place, closed.text = j.at(l.block+".authorization"), "the block has a user or token of its own"
	}
	if guest == "" {
		return closed
	}
	closed.place = j.at(where)
	for _, n := range o.Nkeys {
		if n.Nkey == guest {
			return j.taken(l, closed, where, guest, n.Account, n.AllowedConnectionTypes, n.Permissions, n.ProxyRequired, connection)
		}
	}
	if l.tlsMap && len(o.Users) > 0 {
		closed.text = guest + " is not used where certificates are mapped to users"
		return closed
	}
	for _, u := range o.Users {
		if u.Username != guest {
			continue
		}
		if bcryptHash.MatchString(u.Password) {
			closed.text = "the password of that user is a hash, with which nats-server does not log him in"
			return closed
		}
		return j.taken(l, closed, where, guest, u.Account, u.AllowedConnectionTypes, u.Permissions, u.ProxyRequired, connection)
	}
	closed.text = "no such user"
	return closed
}

// taken: a stranger is taken for a user, unless that one may not come this way.
func (j *judge) taken(l *listener, closed answer, where, guest string, account *server.Account, allowed map[string]struct{}, perms *server.Permissions, proxied bool, connection string) answer {
	if _, ok := allowed[connection]; !ok && len(allowed) > 0 {
		closed.text = "that user may not come this way: allowed_connection_types"
		return closed
	}
	if proxied {
		closed.text = "that user comes through a proxy only"
		return closed
	}
	a := answer{access: posture.Open, cause: posture.CauseNoAuthUser, place: j.at(where), text: where + " is " + guest}
	a.landing = &posture.Landing{Account: orGlobal(accountName(account)), User: guest, Restricted: permissions(perms).Restricted()}
	switch {
	case !has(j.config, where) && posture.IsHiddenUser(guest, ""):
		a.cause, a.place, a.text = posture.CauseHiddenUser, j.at("accounts", "system_account"), "only the system account has users, so nats-server adds one that lets everybody in"
		a.landing.User = ""
	case where == "websocket.no_auth_user" && l.kind == posture.Websocket:
		a.cause = posture.CauseWSNoAuthUser
	case where == "mqtt.no_auth_user":
		a.cause = posture.CauseMQTTNoAuthUser
	}
	if l.kind == posture.Leafnode {
		a.cause = posture.CauseLeafNoAuth
	}
	return a
}

func orGlobal(account string) string {
	if account == "" {
		return posture.GlobalAccount
	}
	return account
}

const reasonCallout = "an auth callout decides, and what its service says is not in the configuration"

// callout: whoever is not known, or is in an account that is delegated, is
// decided about elsewhere (auth.go, processClientOrLeafAuthentication).
func (j *judge) callout(a answer, guest string, leaf bool) answer {
	c := j.opts.AuthCallout
	if a.access == posture.Open && slices.Contains(c.AuthUsers, guest) {
		return a
	}
	if a.access == posture.Open && !leaf && a.landing.Account != posture.GlobalAccount &&
		len(c.AllowedAccounts) > 0 && !slices.Contains(c.AllowedAccounts, a.landing.Account) {
		return a
	}
	return answer{access: posture.Unknown, reason: reasonCallout, place: j.at("authorization.auth_callout"), text: "its service decides"}
}

func (j *judge) unsetAt(key string) bool {
	e := get(j.tree.Root, key)
	return e != nil && e.Node.Unset
}

// guests lists the users whom strangers are taken for.
func (j *judge) guests() []posture.Guest {
	o := j.opts
	var out []posture.Guest
	for _, g := range []struct {
		door       posture.DoorKind
		user, path string
	}{{posture.Client, o.NoAuthUser, "no_auth_user"}, {posture.Websocket, o.Websocket.NoAuthUser, "websocket.no_auth_user"}, {posture.MQTT, o.MQTT.NoAuthUser, "mqtt.no_auth_user"}} {
		if g.user == "" || !has(j.config, g.path) || posture.IsHiddenUser(g.user, "") || j.told(g.user) == "" {
			continue
		}
		guest := posture.Guest{Door: g.door, User: g.user, Account: posture.GlobalAccount, Place: j.at(g.path)}
		for _, u := range o.Users {
			if u.Username == g.user {
				guest.Account, guest.Restricted = orGlobal(accountName(u.Account)), permissions(u.Permissions).Restricted()
			}
		}
		for _, n := range o.Nkeys {
			if n.Nkey == g.user {
				guest.Account, guest.Restricted = orGlobal(accountName(n.Account)), permissions(n.Permissions).Restricted()
			}
		}
		out = append(out, guest)
	}
	return out
}
