package posture_test

import (
	"testing"

	"github.com/natsentry/natsentry/agent/posture"
)

func TestRestricted(t *testing.T) {
	list := func(s ...string) []string { return s }
	type perms = posture.Permissions
	type subjects = posture.Subjects
	named := subjects{Allow: list("orders.>", "_INBOX.>")}
	if (*perms)(nil).Restricted() {
		t.Error("no permissions restrict")
	}
	for _, c := range []struct {
		name string
		perms
		want bool
	}{
		{"nothing said", perms{}, false},
		{"subjects by name", perms{Publish: named, Subscribe: named}, true},
		{"publishing alone", perms{Publish: named}, false},
		{"subscribing alone", perms{Subscribe: named}, false},
		{"everything", perms{Publish: subjects{Allow: list(">")}, Subscribe: named}, false},
		{"everything beside a name", perms{Publish: named, Subscribe: subjects{Allow: list("a", ">")}}, false},
		{"two tokens and more", perms{Publish: named, Subscribe: subjects{Allow: list("*.>")}}, false},
		{"every depth", perms{Publish: subjects{Allow: list("*", "*.*", "*.*.>")}, Subscribe: named}, false},
		{"the names of tenants", perms{Publish: subjects{Allow: list("*.orders.>")}, Subscribe: named}, true},
		{"a single wildcard grants what lies below", perms{Publish: named, Subscribe: subjects{Allow: list("*")}}, false},
		{"a wildcard below a name", perms{Publish: named, Subscribe: subjects{Allow: list("a.*")}}, true},
		{"everything in a queue group", perms{Publish: named, Subscribe: subjects{Allow: list("> workers")}}, false},

		{"denies everything", perms{Publish: subjects{Deny: list(">")}, Subscribe: named}, true},
		{"denies every depth", perms{Publish: subjects{Deny: list("*", "*.>")}, Subscribe: named}, true},
		{"denies some of everything", perms{Publish: subjects{Deny: list("a.>", "$SYS.>")}, Subscribe: named}, false},
		{"denies all but the shortest", perms{Publish: subjects{Deny: list("*.>")}, Subscribe: named}, false},
		{"denies one queue group", perms{Publish: named, Subscribe: subjects{Deny: list("> q")}}, false},
		{"denies what is allowed", perms{Publish: named, Subscribe: subjects{Allow: list("*.>"), Deny: list("*.>")}}, true},

		{"the whole API", perms{Publish: subjects{Allow: list("$JS.API.>")}, Subscribe: named}, false},
		{"JetStream", perms{Publish: subjects{Allow: list("$JS.>")}, Subscribe: named}, false},
		{"creates a stream", perms{Publish: subjects{Allow: list("$JS.API.STREAM.CREATE.X")}, Subscribe: named}, false},
		{"anything of a stream", perms{Publish: subjects{Allow: list("$JS.API.STREAM.*.X")}, Subscribe: named}, false},
		{"anything of anything", perms{Publish: subjects{Allow: list("$JS.API.*.*.X")}, Subscribe: named}, false},
		{"consumers", perms{Publish: subjects{Allow: list("$JS.API.CONSUMER.CREATE.X")}, Subscribe: named}, false},
		{"reads one bucket", perms{Publish: subjects{Allow: list("$JS.API.DIRECT.GET.KV_public.>", "$JS.API.INFO", "$JS.API.STREAM.INFO.KV_public")}, Subscribe: named}, true},
		{"reads every bucket", perms{Publish: subjects{Allow: list("$JS.API.DIRECT.GET.>")}, Subscribe: named}, false},
		{"writes one key", perms{Publish: subjects{Allow: list("$KV.public.mine")}, Subscribe: named}, true},
		{"writes every bucket", perms{Publish: subjects{Allow: list("$KV.>")}, Subscribe: named}, false},
		{"all acknowledgements", perms{Publish: subjects{Allow: list("$JS.ACK.>")}, Subscribe: named}, false},
		{"its own acknowledgements", perms{Publish: subjects{Allow: list("$JS.ACK.S.C.>")}, Subscribe: named}, true},
		{"another domain's API", perms{Publish: subjects{Allow: list("$JS.hub.API.>")}, Subscribe: named}, true},
		{"the API, denied", perms{Publish: subjects{Allow: list("$JS.API.>"), Deny: list("$JS.>")}, Subscribe: named}, true},
		{"the API, half denied", perms{Publish: subjects{Allow: list("$JS.API.>"), Deny: list("$JS.API.STREAM.>")}, Subscribe: named}, false},
		{"the server", perms{Publish: subjects{Allow: list("$SYS.>")}, Subscribe: named}, false},
		{"who it is", perms{Publish: subjects{Allow: list("$SYS.REQ.USER.INFO")}, Subscribe: named}, true},
		{"hears system requests", perms{Publish: named, Subscribe: subjects{Allow: list("$SYS.>")}}, false},

		{"a placeholder below a name", perms{Publish: subjects{Allow: list("in.{{name()}}.x")}, Subscribe: named}, true},
		{"a placeholder for everything", perms{Publish: subjects{Allow: list("{{tag(subjects)}}")}, Subscribe: named}, false},
		{"denies what is filled in", perms{Publish: subjects{Allow: list("*.>"), Deny: list("{{tag(subjects)}}.>")}, Subscribe: named}, false},

		{"only answers", perms{Subscribe: named, Responses: true}, true},
		{"answers, and asks what nobody hears", perms{Publish: subjects{Allow: list("a")}, Subscribe: subjects{Allow: list("b")}, Responses: true}, true},
		{"answers itself", perms{Publish: subjects{Allow: list("a.>")}, Subscribe: subjects{Allow: list("a.b")}, Responses: true}, false},
		{"answers where a list denies", perms{Publish: subjects{Deny: list("a")}, Subscribe: named, Responses: true}, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got := c.Restricted(); got != c.want {
				t.Errorf("Restricted() = %t of %+v", got, c.perms)
			}
		})
	}
}
