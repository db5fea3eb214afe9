package form

import (
	"strings"
	"testing"
)

// TestForeign: what is not a configuration is recognised by its form, and what
// looks like it and is one, is not.
func TestForeign(t *testing.T) {
	for _, tc := range []struct{ name, text, want string }{
		{"nats.conf", "port: {{ nats_port }}\nauthorization { token: {{ nats_token | default('x') }} }\n", "a Jinja template"},
		{"nats.conf", "authorization {\n{% for u in users %}\n  user: {{ u }}\n{% endfor %}\n}\n", "a Jinja template"},
		{"nats.conf", "{%- if nats_tls -%}\ntls { cert_file: \"x\" }\n{%- endif -%}\nport: 4222\n", "a Jinja template"},
		{"nats.conf", "port: <%= @port %>\n<% if @auth -%>\nauthorization { token: x }\n<% end -%>\n", "an ERB template"},
		{"nats.conf", "<%- | Integer $port | -%>\nport: <%= $port %>\n", "an ERB template"},
		{"nats.conf", "port: {{ .Port }}\n", "a Go template"},
		{"nats.conf", "{{- range .Users }}\nuser: {{ .Name }}\n{{- end }}\n", "a Go template"},
		{"nats.conf", "authorization { token: {{ env \"TOKEN\" }} }\n", "a Go template"},
		{"nats.conf", "authorization { token: \"{{ index .Tokens \"a\" }}\" }\n", "a Go template"},
		{"nats.conf", "{{ with secret \"kv/nats\" }}\nauthorization { token: {{ .Data.token }} }\n{{ end }}\n", "a Go template"},
		{"nats.conf", "port: {{ .Values.port }}\n", "a Helm template"},
		{"nats.conf", "{{- include \"nats.conf\" . | nindent 2 }}\n", "a Helm template"},
		{"nats.conf", "{{#users}}\nuser: {{name}}\n{{/users}}\n", "a Mustache template"},
		{"nats.conf", "authorization { token: ${TOKEN:-secret} }\n", "a template with ${...}, as envsubst and Compose fill it in"},
		{"nats.conf", "port: ${nats.port}\n", "a Terraform template"},
		{"nats.conf", "%{ for u in users ~}\nuser: x\n%{ endfor ~}\n", "a Terraform template"},
		{"nats.conf.j2", "authorization { users: [ { user: a, password: \"{{ nats_password }}\" } ] }\n", "a Jinja template"},
		{"nats.conf.erb", "authorization { token: \"<%= @token %>\" }\n", "an ERB template"},
		{"nats.conf.tmpl", "authorization { token: \"{{ .Token }}\" }\n", "a Go template"},
		{"nats.conf.template", "authorization { token: \"${NATS_TOKEN}\" }\n", "a template with ${...}, as envsubst and Compose fill it in"},
		{"Dockerfile", "# syntax=docker/dockerfile:1\nARG V=2.12\nFROM nats:${V}-alpine AS x\nCOPY nats.conf /etc/nats/nats-server.conf\n", "a Dockerfile"},
		{"x", "FROM nats:2.12\nCMD [\"-c\", \"/nats.conf\"]\n", "a Dockerfile"},
		{"nats.service", "[Unit]\nDescription=NATS\n[Service]\nExecStart=/usr/sbin/nats-server -c /etc/nats-server.conf\n", "a systemd unit"},
		{"run.sh", "#!/bin/sh\nexec nats-server -p 4222\n", "a script"},

		{"nats.conf", "", ""},
		{"nats.conf", "# {{ ansible_managed }}\nport: 4222 # {{ x }}\n// {% y %} <% z %> ${A:-b}\n", ""},
		{"nats.conf", "authorization { users: [ { user: a, password: \"{{ nats_password }}\" } ] }\n", ""},
		{"nats.conf", "authorization { users: [ { user: a, password: '<%= x %>' }, { user: \"{% raw %}\", password: \"${TOKEN:-x}\" } ] }\n", ""},
		{"nats.conf", "authorization { users: [ { user: a, password: b, permissions: { publish: [ \"{{name()}}.>\", 'a.{{account()}}' ] } } ] }\n", ""},
		{"nats.conf", "mappings: { \"x.*\": \"y.{{wildcard(1)}}\", \"z.*\": [ { destination: \"z.{{partition(3,1)}}\", weight: 100% } ] }\n", ""},
		{"nats.conf", "{\"accounts\":{\"A\":{\"users\":[{\"user\":\"a\",\"password\":\"b\"}]}}}\n", ""},
		{"nats.conf", "authorization { token: $TOKEN }\n", ""},
		{"nats.conf", "authorization { token: ${TOKEN} }\n", ""}, // nats-server refuses it, and lint says why
		{"nats.conf", "cluster { routes: [ nats://u:it's@h:6222, nats-route://h#x:6222 ] }\nport: {{ x }}\n", "a Jinja template"},
		{"nats.conf", "authorization { password: \"a \\\" {{ x }}\", user: it's }\n", ""},
		{"nats.conf", "operator: eyJx\nauthorization { token: \"open {{\n", "a Jinja template"},
		{"nats.conf", "[section]\nkey = value\n", ""},
	} {
		f, ok := Of(tc.name, []byte(tc.text))
		if f.What != tc.want || ok != (tc.want != "") {
			t.Errorf("%s %q: %q, want %q", tc.name, tc.text, f.What, tc.want)
		}
		if ok && (f.Advice == "" || strings.HasSuffix(f.Advice, ".")) {
			t.Errorf("%q: advice %q", tc.text, f.Advice)
		}
	}
	for text, want := range map[string]string{
		"services:\n  nats:\n    image: nats:2.12\n    command: -c /nats.conf\n":                                 "a Compose file",
		"version: \"3\"\nservices: # x\n    bus:\n        build: .\n":                                            "a Compose file",
		"config:\n  cluster:\n    enabled: true\nnatsBox:\n  enabled: false\n":                                   "a values file of a Helm chart",
		"nats:\n  image: nats\ncluster:\n  enabled: true\n":                                                      "a values file of a Helm chart",
		"apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: {{ include \"x\" . }}\n":                            "a Helm template",
		"apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: {{ nats_name }}\n{% if x %}\ndata: {}\n{% endif %}": "a Jinja template",
		"a:\n  b: c\n": "", "on: push\njobs:\n  x:\n    runs-on: y\n": "", "- hosts: all\n  tasks: []\n": "",
	} {
		if f, _ := OfYAML([]byte(text)); f.What != want {
			t.Errorf("%q: %q, want %q", text, f.What, want)
		}
	}
}

// TestServers: a file that nobody calls a configuration of nats-server is one by
// what is in it.
func TestServers(t *testing.T) {
	for _, tc := range []struct {
		name, text string
		want       bool
	}{
		{"a.conf", "port: 4222\n", true},
		{"a.conf", "listen: 127.0.0.1:4222\nhttp: 8222\nlogfile: /var/log/x\n", true},
		{"a.conf", "accounts { A { users: [ { user: a, password: b } ] } }\n", true},
		{"a.conf", "accounts: {\n  A: {}\n}\nunknown_key: 1\n", true},
		{"a.conf", "{ \"authorization\": { \"token\": \"x\" } }\n", true},
		{"a.conf", "jetstream: enabled\nx: y\n", true},
		{"a.conf", "no_auth_user: $GUEST\n", true},
		{"a.conf", "include ./accounts.conf\ncluster { name: c, port: 6222 }\n", true},
		{"a.conf", "include other.conf\n", true},
		{"ld.so.conf", "include /etc/ld.so.conf.d/*.conf\n", false},
		{"a.conf", "PERMS = { publish: \">\" }\nport: 4222\nusers: $PERMS\n", false},
		{"a.conf", "TOKEN = x\nport: 4222\ntls { cert_file: $TOKEN }\n", true},
		{"a.conf", "# authorization {\n#   token: x\n# }\n", true},
		{"a.conf", "authorization {\n  # ours\n  users = [\n    {user: a\n", true},
		{"a.conf", "accounts: { A: { users: [ {user: a, password: b} ] }\n", true},
		{"a.conf", "leafnodes {\n  remotes: [\n    { url: x }\n", true},
		{"a.conf", "# configuration of nats-server\nport 4222 4223\n", true},
		{"nats.conf", "port: 4222\nx: y\n", true},
		{"my-nats-1.conf", "", true},
		{"nats.conf", "port: 4222 x\n", true},

		{"a.conf", "", false},
		{"a.conf", "# x\n", false},
		{"nginx.conf", "user nginx;\nworker_processes auto;\nevents {\n  worker_connections 1024;\n}\nhttp {\n  include mime.types;\n  server {\n    listen 80;\n    location / {\n      root /x;\n    }\n  }\n}\n", false},
		{"stream.conf", "# passes connections on to nats-server\nstream {\n  upstream bus {\n    server nats-0:4222;\n  }\n  server {\n    listen 4222;\n    proxy_pass bus;\n  }\n}\n", false},
		{"nats.conf", "upstream nats {\n  server 127.0.0.1:8222;\n}\nserver {\n  listen 443 ssl;\n}\n", false},
		{"redis.conf", "bind 127.0.0.1 -::1\nprotected-mode yes\nport 6379\ntcp-backlog 511\nlogfile \"\"\n", false},
		{"redis.conf", "bind 127.0.0.1\nport 6379\npidfile /run/redis.pid\nsave \"\"\n", false},
		{"stunnel.conf", "; a tunnel\npid = /run/stunnel.pid\n[nats]\naccept = 4443\nconnect = 127.0.0.1:4222\n", false},
		{"dnsmasq.conf", "# Listen on this port\nport=5353\ndomain-needed\nbogus-priv\nserver=/local/127.0.0.1\n", false},
		{"casbin.conf", "[request_definition]\nr = sub, obj, act\n\n[policy_definition]\np = sub, obj, act\n", false},
		{"model.conf", "[matchers]\nm = r.sub == p.sub\n", false},
		{"telegraf.conf", "# reads from nats-server\n[agent]\n  interval = \"10s\"\n[[inputs.nats]]\n  server = \"http://localhost:8222\"\n", false},
		{"supervisor.conf", "[program:nats]\ncommand=nats-server -c /etc/nats.conf\n", false},
		{"emqx.conf", "node {\n  name = \"emqx@127.0.0.1\"\n}\ncluster {\n  name = emqxcl\n  discovery_strategy = manual\n}\nauthorization {\n  no_match = allow\n  cache { enable = true }\n}\nmqtt { max_packet_size = 1MB }\n", false},
		{"application.conf", "akka {\n  actor { provider = cluster }\n  cluster { seed-nodes = [\"a\"] }\n}\nhttp { port = 8080 }\n", false},
		{"mosquitto.conf", "listener 1883\nallow_anonymous true\npersistence true\n", false},
		{"named.conf", "options {\n  directory \"/var/cache/bind\";\n  listen-on-v6 { any; };\n};\n", false},
		{"keepalived.conf", "vrrp_instance VI_1 {\n  state MASTER\n  authentication {\n    auth_type PASS\n    auth_pass x\n  }\n}\n", false},
		{"swanctl.conf", "connections {\n  home {\n    remote_addrs = 10.0.0.1\n    local { auth = pubkey }\n  }\n}\n", false},
		{"apache.conf", "Listen 80\n<VirtualHost *:80>\n  ServerName x\n</VirtualHost>\n", false},
		{"rabbitmq.conf", "listeners.tcp.default = 5672\nmqtt.allow_anonymous = false\n", false},
		{"squid.conf", "http_port 3128\nacl localnet src 10.0.0.0/8\nhttp_access deny all\n", false},
		{"turnserver.conf", "listening-port=3478\nlt-cred-mech\nuser=a:b\n", false},
		{"mongod.conf", "net:\n  port: 27017\nsecurity:\n  authorization: enabled\n", false},
		{"sysctl.conf", "net.core.rmem_max = 1\nvm.swappiness=1\n", false},
		{"postgresql.conf", "listen_addresses = 'localhost'\nport = 5432\nmax_connections = 100\n", false},
		{"consul.conf", "{ \"server\": true, \"ports\": { \"http\": 8500 }, \"tls\": { \"defaults\": { \"ca_file\": \"x\" } } }\n", false},
	} {
		if got := Servers(tc.name, []byte(tc.text), nil); got != tc.want {
			t.Errorf("%s: %v, want %v:\n%s", tc.name, got, tc.want, tc.text)
		}
	}
}

func FuzzOf(f *testing.F) {
	f.Add("nats.conf", "port: {{ x }}\n# \"\n'")
	f.Fuzz(func(t *testing.T, name, text string) {
		if b := bare(text); len(b) > len(text) {
			t.Errorf("%q is longer than %q", b, text)
		}
		Of(name, []byte(text))
		Servers(name, []byte(text), nil)
	})
}
