package check

import (
	"cmp"
	"fmt"
	"slices"

	"github.com/natsentry/natsentry/agent/posture"
)

// shownPlaces bounds the places that one finding tells; their number is always
// told.
const shownPlaces = 50

// shortest is the shortest password that CRED_003 takes.
const shortest = 12

// places is a failure with a piece of evidence for each place.
func places(v Verdict, evidence []posture.Evidence) Verdict {
	v.Evidence = append(v.Evidence, evidence[:min(len(evidence), shownPlaces)]...)
	return v
}

// unread tells that a configuration was not read to its end, so that what was
// not found in it may be there.
func unread(s *posture.Server) bool { return len(s.Config.Refused)+len(s.Config.Absent) > 0 }

// whyUnread says why.
func whyUnread(s *posture.Server) Verdict {
	if len(s.Config.Refused) > 0 {
		return unknown("nats-server would not start with it")
	}
	return unknown("a part of it is not here")
}

const (
	refConfig = "https://docs.nats.io/running-a-nats-service/configuration"
	refUsers  = "https://docs.nats.io/running-a-nats-service/configuration/securing_nats/auth_intro/username_password"
)

var conf001 = &Check{
	Sight: Lint,
	ID:    "CONF_001", Severity: Critical,
	Title: "authentication is commented out",
	Doc: "The configuration lets strangers in, and a comment of it holds the beginning of an authorization, accounts or operator block: somebody has switched authentication off, or has never switched it on. " +
		"The comment alone is no finding.",
	Server: func(_ Policy, _ *posture.Snapshot, s *posture.Server) Verdict {
		open := ""
		for _, kind := range []posture.DoorKind{posture.Client, posture.Websocket, posture.MQTT, posture.Leafnode} {
			if d := s.Door(kind); d != nil && d.Access == posture.Open && open == "" {
				open = kind.String()
			}
		}
		switch {
		case len(s.Config.Commented) == 0 && !unread(s):
			return pass("no block of authentication is commented out")
		case unread(s):
			return whyUnread(s)
		case open == "":
			return pass("what is commented out does not leave it open")
		}
		var evidence []posture.Evidence
		for _, c := range s.Config.Commented {
			evidence = append(evidence, c.Place.Says(posture.Unknown, "a comment holds a block "+c.Text))
		}
		return places(fail("", "%s has authentication in a comment, and lets strangers in on its %s port", s.Name, open), evidence)
	},
	Remedy: Remedy{
		Text:   "Take the comment marks away and reload; clients without credentials are then dropped at once with an authorization violation. Where the block is meant to be gone, delete the comment and write the one that counts.",
		Reload: true,
	},
	Refs: []string{refAuth},
}

var conf002 = &Check{
	Sight: Lint,
	ID:    "CONF_002", Severity: Warning,
	Title: "a later key overrides one of authentication",
	Doc: "nats-server takes the last of two keys of the same name and says nothing: the first block counts for nothing, not even partly. So an include below a block replaces that block. " +
		"Keys that have the same value are no finding.",
	Server: func(_ Policy, _ *posture.Snapshot, s *posture.Server) Verdict {
		if len(s.Config.Overridden) == 0 {
			return unlessUnread(s, "no key of authentication is written twice")
		}
		var evidence []posture.Evidence
		for _, o := range s.Config.Overridden {
			evidence = append(evidence, o.Lost.Says(posture.Unknown, o.Key+" counts for nothing: "+o.Kept.String()+" replaces it"))
		}
		return places(fail("", "%s has %s that a later one replaces", s.Name, several(len(evidence), "key of authentication", "keys of authentication")), evidence)
	},
	Remedy: Remedy{Text: "Keep one of them. What belongs together goes into one block: blocks of the same name are not merged, also not over includes.", Reload: true},
	Refs:   []string{refConfig},
}

var conf003 = &Check{
	Sight: Lint,
	ID:    "CONF_003", Severity: Critical,
	Title: "one key in two spellings: the server picks one at random",
	Doc: "nats-server does not look at the case of keys and knows several names for some (user and username, pass and password, leaf and leafnodes), but keeps both spellings, and takes them in an order that changes from start to start. " +
		"The same file is open today and closed after the next restart. A warning where the key has nothing to do with who gets in.",
	Server: func(_ Policy, _ *posture.Snapshot, s *posture.Server) Verdict {
		if len(s.Config.Spellings) == 0 {
			return unlessUnread(s, "no key has two spellings")
		}
		var evidence []posture.Evidence
		severity := Warning
		for _, sp := range s.Config.Spellings {
			if sp.Auth {
				severity = Critical
			}
			for i, p := range sp.Places {
				evidence = append(evidence, p.Says(posture.Unknown, fmt.Sprintf("%s, and elsewhere %s", sp.Keys[i], sp.Keys[1-i])))
			}
		}
		return places(fail("", "%s has %s: nats-server picks one at each start", s.Name, several(len(s.Config.Spellings), "key in two spellings", "keys in two spellings")).with(severity), evidence)
	},
	Remedy: Remedy{Text: "Keep one of them, and write keys in small letters.", Reload: true},
	Refs:   []string{refConfig},
}

var conf004 = &Check{
	Sight: Lint,
	ID:    "CONF_004", Severity: Warning,
	Title: "no_auth_user takes anonymous clients for a user",
	Doc: "A client without credentials is taken for the user that is named, with all that this user may do. The listeners say whether it is accepted that way; this says who it then is. " +
		"Where no listener accepts it, the finding is information and says why: the user's password is a bcrypt hash, for example, or the user may not connect in that way.",
	Server: func(_ Policy, _ *posture.Snapshot, s *posture.Server) Verdict {
		unset := s.Config.UnsetUnder("no_auth_user")
		switch {
		case len(s.Config.Guests) == 0 && unset != "" && !unread(s):
			return unknown("%s is a variable without a value here", unset)
		case len(s.Config.Guests) == 0:
			return unlessUnread(s, "there is no no_auth_user")
		}
		var evidence []posture.Evidence
		severity, used := NoSeverity, ""
		for _, g := range s.Config.Guests {
			if why := unusable(s, &g); why != "" {
				evidence = append(evidence, g.Place.Says(posture.Closed, fmt.Sprintf("%s cannot be used: %s", g.User, why)))
				continue
			}
			used = cmp.Or(used, g.User)
			may := "without permissions that restrict it"
			if g.Restricted {
				may = "with permissions that restrict it"
			}
			if g.Account == s.SystemAccount {
				severity = Critical
				may += "; this is the system account"
			}
			evidence = append(evidence, g.Place.Says(posture.Unknown, fmt.Sprintf("anonymous clients are %s in %s, %s", g.User, g.Account, may)))
		}
		if used == "" {
			return places(fail("", "the no_auth_user of %s cannot be used: no listener admits anonymous clients as %s", s.Name, s.Config.Guests[0].User).with(Info), evidence)
		}
		return places(fail("", "%s takes anonymous clients for %s", s.Name, used).with(severity), evidence)
	},
	Remedy: Remedy{
		Text: "Remove no_auth_user and restart: a reload does not apply that, unless its user is removed with it. If strangers are meant to get in, give that user permissions for what they are meant to do.",
	},
	Refs: []string{refNoAuthUser},
}

// unusable says why no listener admits anonymous clients as a no_auth_user; it is ""
// where one does, or may.
func unusable(s *posture.Server, g *posture.Guest) string {
	kinds := []posture.DoorKind{g.Door}
	if g.Door == posture.Client {
		kinds = append(kinds, posture.Websocket, posture.MQTT, posture.Leafnode) // which take its users where they have none of their own
	}
	why := ""
	for _, kind := range kinds {
		d := s.Door(kind)
		switch {
		case d == nil || d.Access == posture.Unknown:
			return ""
		case d.Access == posture.Open && (d.Landing == nil || d.Landing.User == g.User || d.Landing.User == ""):
			return ""
		case d.Access == posture.Closed && why == "" && len(d.Evidence) > 0:
			why = fmt.Sprintf("the %s listener is closed, %s", kind, d.Evidence[0].Value)
		}
	}
	return cmp.Or(why, "no listener takes it")
}

var conf005 = &Check{
	Sight: Lint,
	ID:    "CONF_005", Severity: Info,
	Title: "a variable has no value here",
	Doc: "The configuration takes a value from the environment, and it is not set where this was judged (--env-file sets it). nats-server does not start where it is absent. " +
		"A listener is unknown where what the variable may hold, an empty text included, decides about it.",
	Server: func(_ Policy, _ *posture.Snapshot, s *posture.Server) Verdict {
		if len(s.Config.Unset) == 0 {
			return unlessUnread(s, "all variables have values")
		}
		var evidence []posture.Evidence
		for _, u := range s.Config.Unset {
			name := "a variable"
			if u.Name != "" {
				name = "$" + u.Name
			}
			evidence = append(evidence, u.Place.Says(posture.Unknown, u.Key+" is "+name))
		}
		return places(fail("", "%s depends on %s without a value here", s.Name, several(len(evidence), "variable", "variables")), evidence)
	},
	Remedy: Remedy{Text: "Give the values that the server will have with --env-file, or in the environment. A value that begins with $ and is no variable goes into quotes.", Reload: true},
	Refs:   []string{refConfig},
}

var conf007 = &Check{
	Sight: Lint,
	ID:    "CONF_007", Severity: Critical,
	Title: "nats-server would not start with it",
	Doc: "nats-server refuses this configuration at start, and on reload keeps the one that it has. Found by nats-server's own code, with more than `nats-server -t` looks at: that does not try users, doors and accounts against each other, nor what ends a server while it starts. " +
		"Certificates are not looked at, since they need not be here; nor is what other versions of nats-server refuse.",
	Server: func(_ Policy, _ *posture.Snapshot, s *posture.Server) Verdict {
		switch {
		case !unread(s):
			return pass("nats-server %s takes it", s.Config.Rules)
		case len(s.Config.Refused) == 0:
			return whyUnread(s)
		}
		var evidence []posture.Evidence
		for _, r := range s.Config.Refused {
			evidence = append(evidence, r.Place.Says(posture.Unknown, r.Text))
		}
		return places(fail("", "nats-server would not start with %s", s.Config.File), evidence)
	},
	Remedy: Remedy{Text: "Mend what nats-server complains about.", Reload: true},
	Refs:   []string{refConfig},
}

var conf008 = &Check{
	Sight: Both,
	ID:    "CONF_008", Severity: Warning,
	Title: "anybody can claim any address",
	Doc: "With proxy_protocol the client port takes a client's address from a PROXY header, and nats-server has no list of proxies that it trusts: every client that reaches the port may send one. " +
		"Critical where JWTs are limited to source addresses, since that limit then keeps nobody out. Addresses in CONNZ, in events and in findings are what clients claim. A running server shows it by its greeting only: INFO has no client_ip.",
	Doors: []posture.DoorKind{posture.Client},
	Door: func(_ Policy, snap *posture.Snapshot, s *posture.Server, d *posture.Door) Verdict {
		unset := ""
		if s.Config != nil {
			unset = s.Config.UnsetUnder("proxy_protocol")
		}
		switch {
		case unset != "":
			return unknown("%s is a variable without a value here", unset)
		case d.Claimed == posture.Unseen:
			return unknown("no greeting of this listener was seen, and nothing else shows proxy_protocol")
		case d.Claimed == posture.No:
			return pass("proxy_protocol is off")
		}
		greeted := posture.Evidence{Basis: posture.Proven, Source: "INFO client_ip", Value: "absent"}
		if s.Config != nil {
			greeted = said(s, "", "", "proxy_protocol")
		}
		v := fail("", "the client listener %s of %s takes the address of a client from whatever the client sends: proxy_protocol is on", d.Address(), s.Name).
			with(NoSeverity, greeted)
		if who := limitedToAddresses(snap, s); who != "" {
			v.Summary += "; " + who + " is limited to addresses, which keeps nobody out"
			v.Severity, v.Firm = Critical, true
		}
		return v
	},
	Remedy: Remedy{
		Text: "Let only the proxy reach this port, by a firewall or by binding the listener to an address of its own, and do not rely on source addresses in JWTs. Without a proxy in front, remove proxy_protocol and restart: a reload does not apply it.",
	},
	Refs: []string{refConfig},
}

// limitedToAddresses names a user or a signing key that is limited to source
// addresses; it is "" where none is known.
func limitedToAddresses(snap *posture.Snapshot, s *posture.Server) string {
	for _, m := range s.Everyone.List {
		if m.Claim != nil && m.Claim.Sources {
			return "user " + cmp.Or(m.Claim.Name, m.Claim.Key)
		}
	}
	if snap.Trust == nil {
		return ""
	}
	for _, a := range snap.Trust.Accounts {
		for _, f := range a.InForce {
			if f.ServerID == s.ID && f.Claim != nil && slices.ContainsFunc(f.Claim.SigningKeys, func(k posture.SigningKey) bool { return k.Sources }) {
				return "a signing key of account " + cmp.Or(a.Name, a.ID)
			}
		}
	}
	return ""
}

var conf009 = &Check{
	Sight: Lint,
	ID:    "CONF_009", Severity: Critical,
	Title: "a placeholder is used as a secret",
	Doc: `A password or token is the text of a placeholder: "$NATS_PASSWORD", "${TOKEN}", "{{ token }}", "%TOKEN%", "<password>" or "changeme". ` +
		"nats-server expands nothing inside quotes, and only $NAME outside of them: the secret is the literal text, which anybody can guess, and the server starts without a word. " +
		"The text is shown, since it is no secret.",
	Server: func(_ Policy, _ *posture.Snapshot, s *posture.Server) Verdict {
		if len(s.Config.Placeholders) == 0 {
			return unlessUnread(s, "no secret is a placeholder")
		}
		var evidence []posture.Evidence
		for _, p := range s.Config.Placeholders {
			evidence = append(evidence, p.Place.Says(posture.Unknown, fmt.Sprintf("%s is %q: %s", p.Key, p.Literal, literally(p))))
		}
		return places(fail("", "%s uses %s", s.Name, several(len(evidence), "placeholder as a secret, which anybody can guess", "placeholders as secrets, which anybody can guess")), evidence)
	},
	Remedy: Remedy{
		Text: "Write a variable without quotes ($NATS_PASSWORD) and give the server its value in the environment, or replace the text before the server reads the file, and restart. " +
			"Clients that log in with the literal text are rejected afterwards.",
		Config: "authorization { user: app, password: $NATS_PASSWORD }\n",
	},
	Refs: []string{refConfig},
}

// literally says what nats-server makes of a placeholder.
func literally(p posture.Placeholder) string {
	if p.Variable {
		return "not expanded inside quotes; the secret is the literal text, which anybody can guess"
	}
	return "nats-server does not replace it; the secret is the literal text, which anybody can guess"
}

var conf010 = &Check{
	Sight: Lint,
	ID:    "CONF_010", Severity: Warning,
	Title: "a listener that nobody can connect to",
	Doc: "nats-server starts and listens, and every connection fails: a tls block without a certificate, or a TLS handshake that has no time. `nats-server -t` passes such a file. " +
		"The listener counts as closed where nobody at all can connect, and as unknown where a fast client may.",
	Server: func(_ Policy, _ *posture.Snapshot, s *posture.Server) Verdict {
		if len(s.Config.Barred) == 0 {
			return unlessUnread(s, "no listener rejects everybody")
		}
		var evidence []posture.Evidence
		for _, b := range s.Config.Barred {
			evidence = append(evidence, b.Place.Says(posture.Unknown, b.Door.String()+" listener: "+b.Text))
		}
		return places(fail("", "%s has %s that nobody can connect to", s.Name, several(len(evidence), "listener", "listeners")), evidence)
	},
	Remedy: Remedy{Text: "Give the tls block cert_file and key_file and a timeout of some seconds, and reload; or take the block out, if the listener is meant to speak plaintext.", Reload: true},
	Refs:   []string{refTLS},
}

// unlessUnread passes a configuration that was read to its end.
func unlessUnread(s *posture.Server, why string) Verdict {
	if unread(s) {
		return whyUnread(s)
	}
	return pass("%s", why)
}

func several(n int, one, many string) string {
	if n == 1 {
		return "1 " + one
	}
	return fmt.Sprintf("%d %s", n, many)
}

func unreadOr(s *posture.Server, why string) Verdict {
	if unread(s) {
		return whyUnread(s)
	}
	return Verdict{Outcome: NotApplicable, Summary: why}
}
