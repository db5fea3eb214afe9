package check

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/natsentry/natsentry/agent/posture"
)

const (
	causeSilent   posture.Cause = "silent"
	causeHangs    posture.Cause = "hangs"
	causeCutOff   posture.Cause = "connection-lost"
	causeLameDuck posture.Cause = "lame-duck"
	causeShutDown posture.Cause = "shut-down"

	causeNeverAnswered posture.Cause = "never-answered"
	causeUnrouted      posture.Cause = "incomplete-mesh"
	causeHalfMigrated  posture.Cause = "half-migrated"
	causeOtherOperator posture.Cause = "other-operator"
	causeOldClaim      posture.Cause = "old-claim"
)

var fleet001 = &Check{
	ID: "FLEET_001", Severity: Critical,
	Title: "auth mode differs inside one cluster",
	Doc: "A cluster is as open as its most open member: the half-finished migration, the server that was restarted with the wrong file. " +
		"The mode is none, static or operator, as VARZ shows it. A member of another system account never answers, so that this is unknown: see FLEET_005 and FLEET_003.",
	Needs: posture.Varz, By: ByCluster,
	Group: func(_ Policy, _ *posture.Snapshot, g Group) Verdict {
		v := differ(g, "auth mode", "VARZ auth_required, trusted_operators", func(s *posture.Server) string { return s.AuthMode.String() })
		if v.Outcome != Fail || !slices.ContainsFunc(g.Members, func(s *posture.Server) bool { return s.AuthMode == posture.AuthOperator }) {
			return v
		}
		// The server on the old file is the one that has not loaded one lately.
		oldest := slices.MinFunc(g.Members, func(a, b *posture.Server) int { return a.ConfigLoaded.Compare(b.ConfigLoaded) })
		v.Cause = causeHalfMigrated
		return v.with(NoSeverity, reported("VARZ config_load_time", "the oldest is that of "+oldest.Name+": "+clock(oldest.ConfigLoaded)))
	},
	Remedies: map[posture.Cause]Remedy{
		causeHalfMigrated: {Text: "Finish the migration to operator mode, or take it back: give the odd servers the operator, system_account and resolver of the others and restart them one at a time, since none of it is reloaded. " +
			"Until then clients with JWTs are turned away by the servers without an operator, and clients with passwords by those with one; whoever fails over to the wrong member is cut off. Clients of a restarted server are disconnected, and those without a JWT do not come back."},
	},
	Remedy: Remedy{
		Text: "Bring the odd servers to the configuration of the others, one at a time. Moving between none and static by users works by reload. " +
			"Clients of the changed servers that lack the new credentials are dropped.",
	},
	Refs: []string{refCluster, refAuth},
}

var fleet002 = &Check{
	ID: "FLEET_002", Severity: Critical,
	Title: "trusted operators differ",
	Doc: "Servers that routes or gateways join trust different operators: accounts that one side signs are unknown to the other, or an old operator is still trusted somewhere. Or they have different JWTs of one operator: a signing key that was retired still signs accounts on some of them, or one that is new does not yet. " +
		"A leafnode may have an operator of its own and is not compared. Servers outside of operator mode are FLEET_001's business.",
	Needs: posture.Varz, By: ByMesh,
	Group: func(_ Policy, _ *posture.Snapshot, g Group) Verdict {
		g.Members = slices.DeleteFunc(g.Members, func(s *posture.Server) bool { return s.AuthMode != posture.AuthOperator })
		const what, source = "trusted operators", "VARZ trusted_operators_claim"
		v := differ(g, what, source, func(s *posture.Server) string {
			return eachOperator(s, func(o *posture.Operator) string { return title(o.Name, o.Key) + " " + o.Key })
		})
		switch v.Outcome {
		case Fail:
			v.Cause = causeOtherOperator
			return v
		case Pass:
		default:
			return v
		}
		claims := differ(g, "the JWT of the operator", source, func(s *posture.Server) string {
			return eachOperator(s, func(o *posture.Operator) string {
				keys := make([]string, len(o.SigningKeys))
				for i, k := range o.SigningKeys {
					keys[i] = short(k)
				}
				return fmt.Sprintf("%s issued %s with signing keys %s", title(o.Name, o.Key), clock(o.Issued), cmp.Or(list(keys), "none"))
			})
		})
		if claims.Outcome == Fail {
			claims.Cause = causeOldClaim
			return claims
		}
		return v
	},
	Remedies: map[posture.Cause]Remedy{
		causeOldClaim: {Text: "Give the servers with the older JWT the latest one (`nsc describe operator --raw`) and restart them one at a time: operators are not reloaded. Clients are disconnected by each restart; those whose account only a retired key has signed do not come back."},
	},
	Remedy: Remedy{Text: "Give every server the same operator JWT and restart them one at a time: operators are not reloaded. Clients are disconnected by each restart; those whose account the new operator did not sign do not come back."},
	Refs:   []string{refOperator},
}

// eachOperator writes the operators of a server down, always in one order.
func eachOperator(s *posture.Server, write func(*posture.Operator) string) string {
	out := make([]string, len(s.Operators))
	for i := range s.Operators {
		out[i] = write(&s.Operators[i])
	}
	slices.Sort(out)
	return strings.Join(out, " and ")
}

var fleet003 = &Check{
	ID: "FLEET_003", Severity: Critical,
	Title: "system account differs",
	Doc:   "Servers that routes or gateways join name different system accounts: whoever watches one of them does not see all servers. A server of another system account answers nobody in this one: where peers are connected to a server that never answers this is unknown, and FLEET_005 names it.",
	Needs: posture.Varz, By: ByMesh,
	Group: func(_ Policy, _ *posture.Snapshot, g Group) Verdict {
		return differ(g, "system account", "VARZ system_account", func(s *posture.Server) string { return s.SystemAccount })
	},
	Remedy: Remedy{Text: "Name the same system_account on every server and restart the odd ones: it is not reloaded. Clients are disconnected by the restart and come back.", Config: "system_account: SYS\n"},
	Refs:   []string{refCluster},
}

var fleet004 = &Check{
	ID: "FLEET_004", Severity: Warning,
	Title: "TLS is required on some members only",
	Doc:   "Clients that fail over to the odd member speak plaintext, or do not get in at all. Judged for the client and the leafnode port of every cluster.",
	Needs: posture.Varz, By: ByCluster,
	Group: func(_ Policy, _ *posture.Snapshot, g Group) Verdict {
		var fails []Verdict
		judged := false
		for _, kind := range []posture.DoorKind{posture.Client, posture.Leafnode} {
			with := slices.DeleteFunc(slices.Clone(g.Members), func(s *posture.Server) bool {
				d := s.Door(kind)
				return d == nil || d.On != posture.Yes || d.TLS.Required == posture.Unseen
			})
			v := differ(Group{Scope: g.Scope, Members: with}, fmt.Sprintf("TLS on the %s port", kind), "VARZ tls_required", func(s *posture.Server) string {
				if s.Door(kind).TLS.Required == posture.Yes {
					return "required"
				}
				return "not required"
			})
			judged = judged || v.Outcome == Pass
			if v.Outcome == Fail {
				fails = append(fails, v)
			}
		}
		switch {
		case len(fails) > 0:
			v := fails[0]
			for _, more := range fails[1:] {
				v.Summary += "; " + more.Summary
				v.Evidence = append(v.Evidence, more.Evidence...)
			}
			return v
		case judged:
			return pass("all members agree")
		case len(g.Missing) > 0:
			return unknown("fewer than two members to compare; no answer from %s", names(g.Missing))
		default:
			return Verdict{Outcome: NotApplicable, Summary: "fewer than two members to compare"}
		}
	},
	Remedy: Remedy{Text: "Give every member a tls block for that port. Turning TLS on works by reload; clients that are connected stay, new ones must speak TLS.", Config: "tls {\n  cert_file: \"server.pem\"\n  key_file: \"server-key.pem\"\n}\n", Reload: true},
	Refs:   []string{refTLS},
}

// differ fails when the members of a group do not all show the same value.
func differ(g Group, what, source string, value func(*posture.Server) string) Verdict {
	switch {
	case len(g.Members) >= 2:
	case len(g.Members)+len(g.Missing) >= 2:
		return unknown("fewer than two servers answered; no answer from %s", names(g.Missing))
	default:
		return Verdict{Outcome: NotApplicable, Summary: "fewer than two servers to compare"}
	}
	byValue := map[string][]string{}
	for _, s := range g.Members {
		v := cmp.Or(value(s), "none")
		byValue[v] = append(byValue[v], s.Name)
	}
	values := slices.SortedFunc(maps.Keys(byValue), func(a, b string) int {
		// The majority first: the others are the odd ones.
		return cmp.Or(cmp.Compare(len(byValue[b]), len(byValue[a])), strings.Compare(a, b))
	})
	if len(values) == 1 {
		return pass("all of %d show %s", len(g.Members), values[0])
	}
	parts := make([]string, len(values))
	var evidence []posture.Evidence
	for i, v := range values {
		names := byValue[v]
		slices.Sort(names)
		parts[i] = fmt.Sprintf("%s on %s", v, list(names))
		evidence = append(evidence, reported(source, v+": "+list(names)))
	}
	where := "the fleet"
	if g.Scope.Kind == KindCluster {
		where = "cluster " + g.Scope.Cluster
	}
	return fail("", "%s differs in %s: %s", what, where, strings.Join(parts, ", ")).with(NoSeverity, evidence...)
}

func names(servers []*posture.Server) string {
	out := make([]string, len(servers))
	for i, s := range servers {
		out[i] = s.Name
	}
	return list(out)
}

// list names servers, all of a few and the first of many.
func list(names []string) string {
	const shown = 5
	if len(names) <= shown+1 {
		return strings.Join(names, ", ")
	}
	return fmt.Sprintf("%s and %d more", strings.Join(names[:shown], ", "), len(names)-shown)
}

var fleet005 = &Check{
	ID: "FLEET_005", Severity: Warning,
	Title: "a known server did not answer",
	Doc: "Its peers or an earlier sweep know the server, and it was silent, also when it was asked by its own id. Of its listeners only those are judged that peers give an address of: they are touched, and answer under the server's id. " +
		"A lame-duck server still has clients and accepts no new ones; a shut-down one has said goodbye. " +
		"Of the others, one to which a peer still holds a connection hangs; one to which no peer does is gone, or cut off. " +
		"Where some members of its cluster hold a connection to it and others do not, requests may not reach it, and it may be well. " +
		"One to which peers hold a connection and that has not answered since natsentry started may also be well, and of another system account: the member that a migration left behind, the other side of a gateway. Or it is in lame-duck mode, and announced that before natsentry listened: then it accepts no clients any more, and routes still stand.",
	Server: unanswered,
	Remedies: map[posture.Cause]Remedy{
		causeNeverAnswered: {Text: "Compare its configuration with that of its peers: operator, system_account and accounts (FLEET_001, FLEET_002 and FLEET_003 cannot be told without it). If they are the same, the process hangs: look at its log and its CPU before you restart it. " +
			"natsentry sees only servers of the system account that its user is in; run another one with a user of the other system account until they are joined."},
		causeUnrouted: {Text: "Repair the routes: every server of a cluster needs a route to every other member, because servers do not forward messages from one route to another. Look for authentication errors on the route listeners, and compare the passwords in `cluster.authorization`. Until then natsentry sees only servers to which the one that it is connected to has a route."},
		causeHangs:    {Text: "The process is there and does not answer: it is stopped, overloaded, or of another system account (see FLEET_003). Look at its log and its CPU before you restart it."},
		causeCutOff:   {Text: "The process has ended without a goodbye, or the network between it and its peers is gone. Look whether it runs, then at its log. Its clients may still be connected to it, on their side of the network."},
		causeLameDuck: {Text: "Nothing, if this was meant. The finding ends when the server is forgotten or comes back."},
		causeShutDown: {Text: "Nothing, if this was meant. The finding ends when the server is forgotten or comes back."},
	},
	Remedy: Remedy{Text: "See whether the process runs and whether its routes, gateways or leafnode connections are up (`nats server list`). A server of another system account never answers: see FLEET_003."},
	Refs:   []string{refCluster},
}

// unanswered judges a server that is known and did not answer.
func unanswered(_ Policy, _ *posture.Snapshot, s *posture.Server) Verdict {
	switch s.State {
	case posture.Answering:
		return pass("it answered")
	case posture.LameDuck:
		return fail(causeLameDuck, "%s is shutting down (lame-duck mode): it accepts no new clients, and those that it has are being moved", s.Name).with(Info, known(s)...)
	case posture.ShutDown:
		return fail(causeShutDown, "%s has shut down", s.Name).with(Info, known(s)...)
	case posture.Foreign:
		return Verdict{Outcome: NotApplicable, Summary: "it has its own system account, and is not expected to answer"}
	case posture.Silent:
	}
	switch {
	case len(s.Unlinked) > 0:
		return fail(causeUnrouted, "%s did not answer, and the routes of its cluster are incomplete: some peers are connected to it, and %s not, so that requests may not reach it", s.Name, isOrAre(s.Unlinked)).
			with(NoSeverity, reported("ROUTEZ", "no connection to it: "+list(s.Unlinked))).with(NoSeverity, known(s)...)
	case s.Version == "" && acceptsClients(s):
		return fail(causeNeverAnswered, "%s has not answered since natsentry started, and its listeners do: it has another system account, or none", s.Name).with(NoSeverity, known(s)...)
	case s.Version == "" && answersTouch(s) != "":
		return fail(causeNeverAnswered, "%s has not answered since natsentry started, and some of its listeners do: it has another system account, or none, or it is shutting down (lame-duck mode)", s.Name).with(NoSeverity, known(s)...)
	case s.Linked == posture.Yes && s.Version == "":
		return fail(causeNeverAnswered, "%s has not answered since natsentry started, and its peers are connected to it: it hangs, is shutting down, or has another system account", s.Name).with(NoSeverity, known(s)...)
	case s.Linked == posture.Yes:
		return fail(causeHangs, "%s did not answer, and its peers are still connected to it", s.Name).with(NoSeverity, known(s)...)
	case s.Linked == posture.No:
		return fail(causeCutOff, "%s did not answer, and no peer is connected to it any more", s.Name).with(NoSeverity, known(s)...)
	}
	return fail(causeSilent, "%s did not answer; it is known by %s", s.Name, s.KnownBy).with(NoSeverity, known(s)...)
}

// isOrAre makes servers the subject of a sentence.
func isOrAre(names []string) string {
	if len(names) == 1 {
		return names[0] + " is"
	}
	return list(names) + " are"
}

// acceptsClients reports whether a listener answered that a server in lame-duck mode
// has closed.
func acceptsClients(s *posture.Server) bool {
	return slices.ContainsFunc([]posture.DoorKind{posture.Client, posture.Websocket, posture.MQTT, posture.Leafnode}, func(kind posture.DoorKind) bool {
		d := s.Door(kind)
		return d != nil && d.Reached != ""
	})
}

// answersTouch is an address at which a silent server has answered a touch.
func answersTouch(s *posture.Server) string {
	for i := range s.Doors {
		if at := s.Doors[i].Reached; at != "" {
			return at
		}
	}
	return ""
}

// known says who knows a server that did not answer, and where its listeners
// answer, or were tried in vain.
func known(s *posture.Server) []posture.Evidence {
	out := []posture.Evidence{reported("known by", s.KnownBy)}
	if at := answersTouch(s); at != "" {
		out = append(out, posture.Evidence{Basis: posture.Proven, Source: "touch of " + at, Value: "its INFO has the id of this server"})
	}
	for i := range s.Doors {
		for _, e := range s.Doors[i].Evidence {
			if e.Tried() {
				out = append(out, e)
			}
		}
	}
	return out
}

var fleet006 = &Check{
	ID: "FLEET_006", Severity: Info,
	Title: "configuration changed",
	Doc: "A server has loaded another configuration: its load time moved, or it was restarted with another digest. Shown for some minutes, with the access before and after of the listeners that moved. " +
		"A reload that is still under way, when the digest has moved and the load time has not, is no change yet.",
	Needs:  posture.Varz,
	Server: configChanged,
	Remedy: Remedy{Text: "Nothing, if the change was meant. Compare before and after."},
}

func configChanged(policy Policy, snap *posture.Snapshot, s *posture.Server) Verdict {
	switch c := s.Change; {
	case s.ConfigLoaded.IsZero():
		return unknown("the server does not show when its configuration was loaded")
	case c == nil:
		return pass("unchanged since it was first seen")
	case snap.Taken.Sub(c.Seen) > policy.ChangeShown:
		return pass("unchanged for more than %s", policy.ChangeShown)
	case snap.Taken.Sub(c.Seen) < changeProbed && slices.ContainsFunc(s.Doors, func(d posture.Door) bool { return d.Pending }):
		return unknown("%s loaded a new configuration at %s, and its listeners are being probed", s.Name, clock(c.Loaded))
	default:
		v := fail("", "%s loaded a new configuration at %s", s.Name, clock(c.Loaded))
		before, after, moved := c.Moved()
		if !moved && before.AuthMode == after.AuthMode {
			return v.with(NoSeverity, reported("before and after", c.After.String()))
		}
		return v.with(NoSeverity, reported("before", before.String()), reported("after", after.String()))
	}
}

// changeProbed is how long a change of configuration waits for the probes of its
// listeners, to be told once and with what it brought.
const changeProbed = 10 * time.Second

var fleet007 = &Check{
	ID: "FLEET_007", Severity: Info,
	Title: "server versions differ",
	Doc:   "Mixed versions are normal during an upgrade and a surprise otherwise: fixes hold on some servers only.",
	Needs: posture.Varz, By: BySystem,
	Group: func(_ Policy, _ *posture.Snapshot, g Group) Verdict {
		return differ(g, "the version", "VARZ version", func(s *posture.Server) string { return s.Version })
	},
	Remedy: Remedy{Text: "Finish the upgrade, one server at a time with lame-duck mode, so that clients move before each restart."},
}

var fleet008 = &Check{
	ID: "FLEET_008", Severity: Warning,
	Title: "a reload was asked for and nothing changed",
	Doc: "Somebody asked the server over $SYS to reload, and it still runs what it ran: it refused the file, which stays on disk for the next restart to find. " +
		"A reload by signal is not seen, nor one before natsentry listened. The finding ends when the server loads a configuration.",
	Needs: posture.Varz,
	Server: func(policy Policy, snap *posture.Snapshot, s *posture.Server) Verdict {
		switch r := s.Reload; {
		case r != nil && !s.ConfigLoaded.Equal(r.Loaded):
			return pass("the server has loaded a configuration since it was asked to")
		case r != nil && s.Looked.Sub(r.At) < policy.ReloadGrace:
			return unknown("the server was asked to reload just now")
		case r != nil:
			return fail("", "%s was asked to reload at %s, and still runs the configuration of %s", s.Name, clock(r.At), clock(s.ConfigLoaded)).
				with(NoSeverity, reported("$SYS.REQ.SERVER.<id>.RELOAD", clock(r.At)), reported("VARZ config_load_time", clock(s.ConfigLoaded)))
		case !snap.Hears.Has(posture.Reloads, snap.Taken, 0):
			return unknown("nobody listened for requests to reload")
		case s.Change != nil && s.Change.Seen.After(snap.Hears.Since):
			return pass("the server has loaded a configuration since natsentry listens")
		default:
			return unknown("no request to reload was heard since %s", clock(snap.Hears.Since))
		}
	},
	Remedy: Remedy{Text: "Look into the server's log for \"Failed to reload server configuration\", mend the file and reload again. Do not restart the server before: it would start with that file, or not at all.", Reload: true},
}

// clock writes a moment for people, to the second.
func clock(t time.Time) string { return t.UTC().Format(time.RFC3339) }
