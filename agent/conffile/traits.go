package conffile

import (
	"slices"

	"github.com/nats-io/jwt/v2"
	"github.com/nats-io/nats-server/v2/server"

	"github.com/natsentry/natsentry/agent/posture"
)

// traits are what advisories take beside doors, by the effective options.
func (j *judge) traits() posture.Traits {
	guest := j.opts.NoAuthUser
	t := posture.Traits{
		NoAuthUser:        posture.TriOf(!j.operator && guest != ""),
		RefusesNoAuthUser: posture.TriOf(!j.operator && j.guestRefused()),
		OnlySystemAccount: posture.TriOf(j.onlySystemAccount()),
		MapsCertificates:  posture.TriOf(j.mapsCertificates()),
	}
	doubt := func(trait *posture.Tri, answer posture.Tri, keys ...string) {
		if *trait == answer && j.hangsOn(keys...) {
			*trait = posture.Unseen
		}
	}
	for _, answer := range []posture.Tri{posture.Yes, posture.No} {
		doubt(&t.NoAuthUser, answer, "no_auth_user", "operator")
		doubt(&t.RefusesNoAuthUser, answer, "websocket", "operator", "accounts", "authorization", "authorization.users")
		if slices.ContainsFunc(j.opts.Users, limited) { // otherwise it is no matter who it is
			doubt(&t.RefusesNoAuthUser, answer, "no_auth_user", "websocket.no_auth_user")
		}
		doubt(&t.OnlySystemAccount, answer, "no_auth_user", "operator", "accounts", "system_account")
	}
	// One that maps is enough, whatever the others do.
	for _, block := range []string{"", "websocket.", "mqtt.", "leafnodes."} {
		doubt(&t.MapsCertificates, posture.No, block+"tls", block+"tls.verify_and_map")
	}
	doubt(&t.MapsCertificates, posture.No, "websocket", "mqtt", "leafnodes")
	if t.MapsCertificates == posture.Yes && j.hangsOn("tls.verify_and_map", "websocket.tls.verify_and_map", "mqtt.tls.verify_and_map", "leafnodes.tls.verify_and_map") {
		t.MapsCertificates = posture.Unseen // what was filled in may be why
	}
	return t
}

// limited tells whether a user may not use every port.
func limited(u *server.User) bool { return u.ProxyRequired || len(u.AllowedConnectionTypes) > 0 }

func (j *judge) jetStream() posture.Tri {
	if j.hangsOn("jetstream", "jetstream.enabled") && !j.flags.any("js", "jetstream") {
		return posture.Unseen
	}
	return posture.TriOf(j.opts.JetStream)
}

// hangsOn tells whether one of the keys is a variable without a value.
func (j *judge) hangsOn(keys ...string) bool {
	return slices.ContainsFunc(j.config.Unset, func(u posture.Unset) bool { return slices.Contains(keys, u.Key) })
}

// guestRefused tells whether a no_auth_user may not use a port that takes strangers
// for him. Before there was a check of it, whoever sent no CONNECT came in as him
// (parser.go, parse); nkeys are not looked up there.
func (j *judge) guestRefused() bool {
	o := j.opts
	refused := func(name, connection string) bool {
		i := slices.IndexFunc(o.Users, func(u *server.User) bool { return u.Username == name })
		if name == "" || i < 0 {
			return false
		}
		_, may := o.Users[i].AllowedConnectionTypes[connection]
		return o.Users[i].ProxyRequired || !may && len(o.Users[i].AllowedConnectionTypes) > 0
	}
	if refused(o.NoAuthUser, jwt.ConnectionTypeStandard) {
		return true
	}
	if o.Websocket.Port == 0 {
		return false
	}
	guest := o.NoAuthUser
	if o.Websocket.NoAuthUser != "" {
		guest = o.Websocket.NoAuthUser
	}
	return refused(guest, jwt.ConnectionTypeWebsocket)
}

// onlySystemAccount tells whether the accounts block has the system account and no
// other, without a no_auth_user: then nats-server makes its hidden user, and some
// releases do so beside an authorization block, too (server.go, configureAccounts).
func (j *judge) onlySystemAccount() bool {
	o, only := j.opts, false
	if j.operator || has(j.config, "no_auth_user") {
		return false
	}
	for _, a := range o.Accounts {
		switch a.GetName() {
		case posture.GlobalAccount:
		case o.SystemAccount:
			only = true
		default:
			return false
		}
	}
	return only
}

// mapsCertificates tells whether a listener takes a client certificate for a user.
func (j *judge) mapsCertificates() bool {
	o := j.opts
	return o.TLSMap || o.Websocket.Port != 0 && o.Websocket.TLSMap || o.MQTT.Port != 0 && o.MQTT.TLSMap || o.LeafNode.Port != 0 && o.LeafNode.TLSMap
}

// token is the place of the token that lets clients in.
func (r *reading) token(o *server.Options) *posture.Place {
	if o.Authorization == "" {
		return nil
	}
	at := r.config.Whole() // a flag of nats-server
	if auth := block(r.tree.Root, "authorization"); !r.flags.any("auth") && get(auth, "token") != nil {
		at = placeOf(get(auth, "token").Pos)
	}
	return &at
}
