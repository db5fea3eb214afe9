package main

import (
	"path/filepath"
	"strings"
	"testing"
)

// TestLintForms: what is not a configuration is told by its form where it is named,
// and is skipped where a folder is.
func TestLintForms(t *testing.T) {
	const jinja = "authorization { token: {{ nats_token }} }\n"
	dir := confs(t, map[string]string{
		"jinja.conf": jinja, "go.conf": "port: {{ .Port }}\n", "erb.conf": "port: <%= @port %>\n", "env.conf": "port: ${PORT:-4222}\n",
		"quoted.conf": "authorization { token: \"{{ nats_token }}\" }\n", "named.conf.j2": "authorization { token: \"{{ nats_token }}\" }\n", "users.conf": "authorization { users: [ { user: a, password: ahK0ohl0aith, permissions: { publish: \"{{name()}}.>\" } } ] }\n",
		"Dockerfile": "FROM nats:2.12\nCOPY nats.conf /nats-server.conf\n", "compose.yaml": "services:\n  bus:\n    image: nats:2.12\n", "values.yaml": "config:\n  cluster: { enabled: true }\nnatsBox:\n  enabled: false\n",
		"nats.service": "[Service]\nExecStart=/usr/bin/nats-server -c /etc/nats.conf\n", "run.sh": "#!/bin/sh\nnats-server\n", "playbook.yml": "- hosts: all\n  tasks: []\n", "ansible.yaml": "apiVersion: v1\nkind: Pod\nmetadata:\n  name: {{ x }}\n{% if y %}\n",
		"others/nginx.conf": "events {\n}\nhttp {\n  server {\n    listen 80;\n  }\n}\n", "others/redis.conf": "port 6379\nbind 127.0.0.1 ::1\n", "others/sub/casbin.conf": "[matchers]\nm = x\n",
		"mixed/nginx.conf": "http {\n  server {\n    listen 80;\n  }\n}\n", "mixed/main.conf": shutConf, "mixed/jinja.conf": jinja, "mixed/compose.yaml": "services:\n  bus:\n    image: nats:2.12\n", "mixed/ci.yaml": "on: push\njobs:\n  x:\n    runs-on: y\n",
		"templates/nats.conf": jinja, "templates/nats.conf.j2": jinja, "parts/main.conf": "include part.conf\n", "parts/part.conf": "PASSWORD: ahK0ohl0aith\nauthorization { user: a, password: $PASSWORD }\n", "parts/broken.conf": "accounts: { A: { users: [\n",
		"fragment/main.conf": "authorization { include users.conf }\n", "fragment/users.conf": "user: a, password: ahK0ohl0aith\n", "many/nats.conf": shutConf,
	})
	more := map[string]string{}
	for i := range 40 {
		more["x"+strings.Repeat("i", i)+".conf"] = "[a]\n"
	}
	in := func(name string) string { return filepath.Join(dir, name) }
	for _, tc := range []struct {
		args   []string
		code   int
		wants  []string
		denied string
	}{
		{[]string{in("jinja.conf")}, 3, []string{in("jinja.conf") + ": this is a Jinja template: render it first"}, "closed"},
		{[]string{in("go.conf")}, 3, []string{"this is a Go template: render it first"}, "OPEN"},
		{[]string{in("erb.conf")}, 3, []string{"this is an ERB template: render it first"}, ""},
		{[]string{in("env.conf")}, 3, []string{"as envsubst and Compose fill it in: render it first"}, ""},
		{[]string{in("named.conf.j2")}, 3, []string{"this is a Jinja template"}, "closed"},
		{[]string{in("quoted.conf"), "--fail-on", "none"}, 0, []string{"client ✓ closed"}, "render it first"},
		{[]string{in("users.conf")}, 0, []string{"client ✓ closed"}, "template"},
		{[]string{in("Dockerfile")}, 3, []string{"this is a Dockerfile: lint the configuration that it copies"}, "helm"},
		{[]string{in("compose.yaml")}, 3, []string{"this is a Compose file: lint the configuration that it mounts"}, "helm"},
		{[]string{in("values.yaml")}, 3, []string{"this is a values file of a Helm chart: lint what the chart renders"}, ""},
		{[]string{in("nats.service")}, 3, []string{"this is a systemd unit: lint the file that its ExecStart names"}, ""},
		{[]string{in("run.sh")}, 3, []string{"this is a script"}, ""},
		{[]string{in("playbook.yml")}, 3, []string{"it looks like YAML without Kubernetes objects, and is no configuration of nats-server"}, "helm"},
		{[]string{in("ansible.yaml")}, 3, []string{"this is a Jinja template"}, "helm"},
		{[]string{in("others")}, 0, []string{"nothing was judged", in("others/nginx.conf") + " is skipped: nothing in it is of nats-server", in("others/redis.conf") + " is skipped", in("others/sub/casbin.conf") + " is skipped"}, "would not start"},
		{[]string{in("others/redis.conf")}, 1, []string{"would not start"}, "skipped"},
		{[]string{in("others"), in("others/redis.conf")}, 1, []string{"would not start", "nginx.conf is skipped"}, "redis.conf is skipped"},
		{[]string{in("mixed")}, 0, []string{"main.conf: client ✓ closed", in("mixed/jinja.conf") + " is skipped: this is a Jinja template: render it first", in("mixed/compose.yaml") + " is skipped: this is a Compose file"}, "ci.yaml"},
		{[]string{in("templates")}, 3, []string{"there are only templates in it, like " + in("templates/nats.conf")}, "closed"},
		{[]string{in("parts")}, 1, []string{"main.conf: client ✓ closed", "broken.conf: ✗ would not start"}, "skipped"},
		{[]string{in("fragment")}, 0, []string{"main.conf: client ✓ closed"}, "skipped"},
		{[]string{confs(t, more)}, 0, []string{"xiiiiiiiiiiiiiiiiiii.conf is skipped", "20 files are skipped as well"}, "xiiiiiiiiiiiiiiiiiiii.conf"},
	} {
		r := exec(t, append([]string{"lint"}, tc.args...)...)
		out := r.stdout + r.stderr
		for _, want := range tc.wants {
			if r.code != tc.code || !strings.Contains(out, want) {
				t.Errorf("%q ended with %d, want %d and %q:\n%s", tc.args, r.code, tc.code, want, out)
			}
		}
		if tc.denied != "" && strings.Contains(out, tc.denied) {
			t.Errorf("%q tells of %q:\n%s", tc.args, tc.denied, out)
		}
	}
	for _, text := range []string{jinja, "FROM nats\n", "services:\n  x:\n    image: nats\n"} {
		r := execIn(t.Context(), t, func(p *program) { p.stdin = strings.NewReader(text) }, "lint", "-")
		if r.code != 3 || !strings.Contains(r.stderr, "stdin: this is a ") {
			t.Errorf("%q: %+v", text, r)
		}
	}
}
