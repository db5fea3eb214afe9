package manifest

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/natsentry/natsentry/agent/conffile"
	"github.com/natsentry/natsentry/agent/posture"
)

// read reads manifests, each a file of its own, and their configurations.
func read(t *testing.T, texts ...string) (*Set, []*Configuration, map[string]*conffile.File) {
	t.Helper()
	s := &Set{}
	for i, text := range texts {
		if err := s.Add(fmt.Sprintf("%d.yaml", i+1), []byte(text)); err != nil {
			t.Fatal(err)
		}
	}
	all, err := s.Configurations(nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	files := map[string]*conffile.File{}
	for _, c := range all {
		f, err := c.File()
		if err != nil {
			t.Fatal(err)
		}
		files[c.Name] = f
	}
	return s, all, files
}

// pod is a pod of one container.
func pod(container string) string {
	return "apiVersion: v1\nkind: Pod\nmetadata: { name: p, namespace: ns }\nspec:\n  volumes:\n  - { name: v, configMap: { name: c } }\n" +
		"  containers:\n  - name: nats\n    image: nats:2.14.2-alpine\n" + container
}

const mounted = "    args: [-c, /conf/nats.conf]\n    volumeMounts: [ { name: v, mountPath: /conf } ]\n"

func configMap(data string) string {
	return "apiVersion: v1\nkind: ConfigMap\nmetadata: { name: c, namespace: ns }\ndata:\n" + data
}

func client(t *testing.T, f *conffile.File) *posture.Door {
	t.Helper()
	if f == nil {
		t.Fatal("there is no such configuration")
	}
	return f.Server.Door(posture.Client)
}

// TestPlaces: positions are told in the manifest, in whatever form the text stands
// there, and secrets are shown in none.
func TestPlaces(t *testing.T) {
	secret := "hoohee4Eejae"
	for name, tc := range map[string]struct {
		data   string // under data
		place  string
		line   string
		column int
	}{
		"literal":  {"  c.conf: |\n    port: 4222\n    authorization { token: " + secret + " }\n", "1.yaml:7:5", "    authorization { token: xxxxx }", 5},
		"stripped": {"  c.conf: |-\n\n      # x\n      authorization { token: " + secret + " }\n", "1.yaml:8:7", "      authorization { token: xxxxx }", 7},
		"plain":    {"  c.conf: authorization { token = " + secret + " }\n", "1.yaml:5:11", "  c.conf: authorization { token = xxxxx }", 11},
		"quoted":   {"  c.conf: 'authorization { token: " + secret + " }'\n", "1.yaml:5:12", "  c.conf: 'authorization { token: xxxxx }'", 12},
		"escapes":  {"  c.conf: \"port: 4222\\nauthorization { token: " + secret + " }\"\n", "1.yaml:5:3", "  c.conf xxxxx", 3},
		"folded":   {"  c.conf: >\n    port: 4222\n\n    authorization { token: " + secret + " }\n", "1.yaml:5:3", "  c.conf xxxxx", 3},
		"lines":    {"  c.conf: authorization {\n    token\n    " + secret + " }\n", "1.yaml:5:3", "  c.conf xxxxx", 3},
	} {
		_, _, files := read(t, configMap(tc.data))
		f := files["ConfigMap/ns/c c.conf"]
		d := client(t, f)
		if d.Access != posture.Closed {
			t.Errorf("%s: %+v", name, d)
		}
		p := f.Server.Config.At("authorization")
		line, column := f.Line(p)
		if p.String() != tc.place || line != tc.line || column != tc.column {
			t.Errorf("%s: %s %q %d, want %s %q %d", name, p, line, column, tc.place, tc.line, tc.column)
		}
		if strings.Contains(line, secret) {
			t.Errorf("%s: a secret is shown: %s", name, line)
		}
	}
}

// TestBase64: what is encoded is read, and told at its key; nothing of it is shown.
func TestBase64(t *testing.T) {
	_, _, files := read(t, "apiVersion: v1\nkind: Secret\nmetadata: {name: s}\ndata:\n  x.conf: YXV0aG9yaXphdGlvbiB7CiAgdG9rZW46IGhvb2hlZTRFZWphZQp9Cg==\n")
	f := files["Secret/s x.conf"]
	p := f.Server.Config.At("authorization.token")
	if line, _ := f.Line(p); client(t, f).Access != posture.Closed || p.String() != "1.yaml:5:3" || line != "  x.conf xxxxx" {
		t.Errorf("%s %q %+v", p, line, client(t, f))
	}
}

// TestIgnores: a comment in a block scalar accepts what it stands beside; in a
// value whose lines are those of no file it does not count.
func TestIgnores(t *testing.T) {
	comment := "# natsentry:ignore DOOR_001 a lab"
	_, _, files := read(t, configMap("  c.conf: |\n    "+comment+"\n    port: 4222\n"))
	f := files["ConfigMap/ns/c c.conf"]
	g := f.Ignores()
	if len(g) != 1 || g[0].Place.String() != "1.yaml:6:5" || g[0].Line != 7 || g[0].Inside ||
		!g[0].Covers("DOOR_001", f.Server.Config.At("port")) || !g[0].Covers("DOOR_001", f.Server.Config.Whole()) || g[0].Covers("DOOR_001", posture.Place{File: "1.yaml", Line: 8}) {
		t.Errorf("%+v", g)
	}
	_, _, files = read(t, configMap("  c.conf: \""+comment+"\\nport: 4222\\n\"\n"))
	f = files["ConfigMap/ns/c c.conf"]
	if g := f.Ignores(); len(g) != 1 || !g[0].Inside || g[0].Covers("DOOR_001", f.Server.Config.At("port")) {
		t.Errorf("%+v", g)
	}
}

// TestWorkloads: what becomes of the client door, for what a container may say.
func TestWorkloads(t *testing.T) {
	shut := configMap("  nats.conf: |\n    authorization { token: $TOKEN }\n  users.conf: |\n    authorization { user: a, password: hoohee4Eejae }\n  main.conf: |\n    include ./sub/users.conf\n  key: open\n")
	const open, closed, unknown = posture.Open, posture.Closed, posture.Unknown
	for name, tc := range map[string]struct {
		container string
		access    posture.Access
		why       string
	}{
		"no value":          {mounted, unknown, "a variable that has no value here: authorization.token"},
		"value":             {mounted + "    env: [ { name: TOKEN, value: ahK0ohl0aith } ]\n", closed, ""},
		"value of a key":    {mounted + "    env: [ { name: TOKEN, valueFrom: { configMapKeyRef: { name: c, key: key } } } ]\n", closed, ""},
		"value by another":  {mounted + "    env: [ { name: X, value: ahK0ohl0aith }, { name: TOKEN, value: \"$(X)\" } ]\n", closed, ""},
		"value of a secret": {mounted + "    env: [ { name: TOKEN, valueFrom: { secretKeyRef: { name: s, key: key } } } ]\n", unknown, "no value here"},
		"envFrom":           {mounted + "    envFrom: [ { prefix: TO, configMapRef: { name: env } } ]\n", closed, ""},
		"envFrom elsewhere": {mounted + "    envFrom: [ { secretRef: { name: env } } ]\n", unknown, "no value here"},
		"no flags":          {"", open, ""},
		"no file":           {"    args: [-js]\n", open, ""},
		"token":             {"    args: [--auth=ahK0ohl0aith]\n", closed, ""},
		"token of nobody":   {"    args: [--auth, $(TOKEN)]\n    env: [ { name: TOKEN, valueFrom: { secretKeyRef: { name: s, key: key } } } ]\n", unknown, "--auth is not in the manifests: Secret/ns/s is not among the manifests"},
		"user":              {"    args: [--user, a, --pass, $(P)]\n    env: [ { name: P, valueFrom: { secretKeyRef: { name: s, key: key } } } ]\n", closed, ""},
		"literal $(X)":      {"    args: [--auth, $(X)]\n", closed, ""},
		"name":              {"    args: [--name, $(X)]\n    env: [ { name: X, valueFrom: { fieldRef: { fieldPath: metadata.name } } } ]\n", open, ""},
		"command":           {"    command: [nats-server, -c=/conf/users.conf]\n    volumeMounts: [ { name: v, mountPath: /conf/ } ]\n", closed, ""},
		"word in args":      {"    args: [nats-server, --config, /conf/users.conf]\n    volumeMounts: [ { name: v, mountPath: /conf } ]\n", closed, ""},
		"working directory": {"    workingDir: /conf\n    args: [-c, users.conf]\n    volumeMounts: [ { name: v, mountPath: /conf } ]\n", closed, ""},
		"subPath":           {"    args: [-c, /x/y.conf]\n    volumeMounts: [ { name: v, mountPath: /x/y.conf, subPath: users.conf } ]\n", closed, ""},
		"include elsewhere": {"    args: [-c, /conf/main.conf]\n    volumeMounts: [ { name: v, mountPath: /conf }, { name: w, mountPath: /conf/sub } ]\n", unknown, "/conf/sub/users.conf is not here: the pod has no such volume"},
		"include":           {"    args: [-c, /conf/main.conf]\n    volumeMounts: [ { name: v, mountPath: /conf }, { name: v, mountPath: /conf/sub } ]\n", closed, ""},
		"include nowhere":   {"    args: [-c, /conf/main.conf]\n    volumeMounts: [ { name: v, mountPath: /conf } ]\n", unknown, "cannot be read"},
		"not mounted":       {"    args: [-c, /conf/nats.conf]\n", unknown, "/conf/nats.conf is not here: nothing in the manifests is mounted there"},
		"no such key":       {"    args: [-c, /conf/other.conf]\n    volumeMounts: [ { name: v, mountPath: /conf } ]\n", unknown, "would not start"},
		"shell":             {"    command: [sh, -c, nats-server]\n", unknown, "a program before nats-server"},
		"no flag":           {"    args: [--nonsense]\n", unknown, "does not take its flags"},
		"default file":      {"    volumeMounts: [ { name: v, mountPath: /etc/nats/nats-server.conf, subPath: users.conf } ]\n", closed, ""},
	} {
		env := "apiVersion: v1\nkind: ConfigMap\nmetadata: { name: env }\ndata: { KEN: ahK0ohl0aith }\n"
		_, _, files := read(t, pod(tc.container), shut, env)
		if d := client(t, files["Pod/ns/p"]); d.Access != tc.access || !strings.Contains(d.Reason, tc.why) {
			t.Errorf("%s: %s %q, want %s %q; %+v", name, d.Access, d.Reason, tc.access, tc.why, files["Pod/ns/p"].Server.Config.Refused)
		}
		if v := files["Pod/ns/p"].Server.Version; v != "2.14.2" {
			t.Errorf("%s: version %q", name, v)
		}
	}
}

// TestNoServer: who only tests a file, or is another program, is no server.
func TestNoServer(t *testing.T) {
	for name, text := range map[string]string{
		"a test":    pod(strings.Replace(mounted, "[-c", "[-t, -c", 1)),
		"a program": pod("    args: [cat]\n"),
		"nats-box":  strings.Replace(pod(""), "nats:2.14.2-alpine", "natsio/nats-box:0.19", 1),
		"nothing":   "apiVersion: v1\nkind: Service\nmetadata: { name: x }\n",
	} {
		s := &Set{}
		if err := s.Add("x", []byte(text)); err != nil {
			t.Fatal(err)
		}
		if all, err := s.Configurations(nil, nil); !errors.Is(err, ErrNone) {
			t.Errorf("%s: %v %v", name, all, err)
		}
	}
	s := &Set{} // an nginx, and its file
	text := strings.Replace(pod(mounted), "nats:2.14.2-alpine", "nginx:1", 1) + "---\n" + configMap("  nginx.conf: x\n")
	if err := s.Add("x", []byte(text)); err != nil {
		t.Fatal(err)
	}
	if all, err := s.Configurations(nil, nil); !errors.Is(err, ErrNone) {
		t.Errorf("%v %v", all, err)
	}
}

// TestLeft tells of what nobody runs.
func TestLeft(t *testing.T) {
	s, all, _ := read(t, pod(mounted)+"---\n"+configMap("  nats.conf: |\n    include part.conf\n  part.conf: |\n    port: 1\n  leaf.conf: |\n    port: 2\n"))
	if diff := cmp.Diff([]string{"1.yaml:21:3: ConfigMap/ns/c leaf.conf is not judged: no container here runs nats-server with it"}, s.Left(all)); diff != "" {
		t.Error(diff)
	}
}

// TestOldLeafnodes: releases before 2.12.0 ask nobody on a leafnode port without
// users of its own.
func TestOldLeafnodes(t *testing.T) {
	data := configMap("  nats.conf: |\n    authorization { token: ahK0ohl0aith }\n    leafnodes { port: 7422 }\n")
	for tag, want := range map[string]posture.Access{"2.11.17-alpine": posture.Open, "2.12.0": posture.Closed, "latest": posture.Closed} {
		_, _, files := read(t, strings.Replace(pod(mounted), "2.14.2-alpine", tag, 1), data)
		if d := files["Pod/ns/p"].Server.Door(posture.Leafnode); d.Access != want {
			t.Errorf("%s: %s, want %s", tag, d.Access, want)
		}
	}
}

func TestImages(t *testing.T) {
	const alpine, scratch = "/etc/nats/nats-server.conf", "nats-server.conf"
	for ref, want := range map[string]string{
		"nats": scratch, "nats:latest": scratch, "nats:linux": scratch, "nats:scratch": scratch, "nats:2": scratch, "nats:2.12": scratch, "nats:2.12-scratch": scratch, "nats:2.12.3-linux": "2.12.3 " + scratch,
		"nats:alpine": alpine, "nats:alpine3.22": alpine, "nats:2-alpine": alpine, "nats:2.12-alpine3.22": alpine, "nats:2.12.3-alpine": "2.12.3 " + alpine, "nats:2.12.0-RC.2-alpine3.21": "2.12.0-RC.2 " + alpine,
		"nats:nanoserver": scratch, "nats:2.12-nanoserver-ltsc2025": scratch, "nats:2.9.1-windowsservercore-1809": "2.9.1 " + scratch, "nats:windowsservercore": scratch, "nats:2.12.0-RC.2": "2.12.0-RC.2 " + scratch,
		"docker.io/library/nats:2.11.1@sha256:0123": "2.11.1 " + scratch, "library/nats:alpine@sha256:0123": alpine,
		"nats@sha256:0123": "a digest does not say", "nats:nightly": `the tag "nightly" does not say`, "nats:edge-alpine": `the tag "edge-alpine" does not say`, "nats:2.12-alpine-custom": "does not say", "nats:2.12-debian": "does not say",
		"nats:2.1.6-alpine": "2.1.6 images before 2.1.7", "nats:1.4": "images before 2.1.7", "nats:2.1-alpine": alpine, "nats:2.0": "images before 2.1.7",
		"reg.example.net:5000/x/nats-server:v2.10.9": `2.10.9 "reg.example.net:5000/x/nats-server" is not the official image`, "reg:5000/nats": `"reg:5000/nats" is not the official image`, "nats-server:2.10": `"nats-server" is not the official image`,
		"openland/nats:v1": "is not the official image", "bitnami/nats:2.12.3-alpine": "2.12.3 \"bitnami/nats\" is not the official image", "ghcr.io/library/nats:alpine": "is not the official image", "docker.io/x/nats": "is not the official image",
		"natsio/nats-box:0.14": "-", "natsio/nats-server-config-reloader:0.1.0": "-", "nats-streaming:0.25.6": "-", "": "-", "nats/other:1": "-", "reg:5000/x": "-",
	} {
		i := imageOf(ref)
		got := strings.TrimSpace(i.version + " " + i.config + i.why)
		if !i.server {
			got = "-"
		}
		if !strings.Contains(got, want) || (i.config == "") != (i.why != "" || !i.server) || (i.config == "") != (i.start == unknownStart || i.start == official) {
			t.Errorf("%s: %s %+v, want %s", ref, got, i, want)
		}
	}
}

// TestImageFiles: which file a container reads, by its image, where each of the
// files that an image may read is mounted, and what each says.
func TestImageFiles(t *testing.T) {
	const open, closed, unknown = posture.Open, posture.Closed, posture.Unknown
	const mounts = "    volumeMounts: [ { name: v, mountPath: %s, subPath: users.conf } ]\n"
	files := configMap("  users.conf: |\n    authorization { user: a, password: hoohee4Eejae }\n  nats-server.conf: |\n    authorization { user: a, password: hoohee4Eejae }\n")
	for name, tc := range map[string]struct {
		image, mount, more string
		access             posture.Access
		why                string
	}{
		"scratch, the file of Alpine":  {"nats:2.10-scratch", "/etc/nats/nats-server.conf", "", open, ""},
		"no variant, that of Alpine":   {"nats:2.10", "/etc/nats/nats-server.conf", "", open, ""},
		"latest, that of Alpine":       {"nats", "/etc/nats/nats-server.conf", "", open, ""},
		"scratch":                      {"nats:2.10-scratch", "/nats-server.conf", "", closed, ""},
		"scratch, by its digest too":   {"docker.io/library/nats:2.10@sha256:01", "/nats-server.conf", "", closed, ""},
		"Alpine, the file of scratch":  {"nats:alpine", "/nats-server.conf", "", open, ""},
		"Alpine":                       {"nats:alpine", "/etc/nats/nats-server.conf", "", closed, ""},
		"Windows":                      {"nats:nanoserver", `'C:\nats-server.conf'`, "", closed, ""},
		"digest":                       {"nats@sha256:01", "/nats-server.conf", "", unknown, "a digest does not say"},
		"another registry":             {"reg.example.net/nats:2.10", "/nats-server.conf", "", unknown, "is not the official image"},
		"another owner, Alpine":        {"acme/nats:2.10-alpine", "/etc/nats/nats-server.conf", "", unknown, "is not the official image"},
		"another's, flags":             {"openland/nats:v1", "/nats-server.conf", "    args: ['--routes=nats://x:6222']\n", unknown, "is not the official image"},
		"another's, a token":           {"openland/nats:v1", "/nats-server.conf", "    args: [--auth, ohph7Sheeph0]\n", unknown, "is not the official image"},
		"another's, a file":            {"openland/nats:v1", "/x.conf", "    args: [-c, /x.conf]\n", closed, ""},
		"another's, its command":       {"openland/nats:v1", "/x.conf", "    command: [nats-server, -c, /x.conf]\n", closed, ""},
		"another's, command alone":     {"openland/nats:v1", "/x.conf", "    command: [nats-server]\n", open, ""},
		"another's, another program":   {"openland/nats:v1", "/x.conf", "    command: [/run.sh]\n", unknown, "a program before nats-server"},
		"another's, a shell in args":   {"openland/nats:v1", "/x.conf", "    args: [sh, -c, exec nats-server -c /x.conf]\n", unknown, "a program before nats-server"},
		"command, no flags":            {"nats:2.10", "/nats-server.conf", "    command: [/nats-server]\n", open, ""},
		"args replace the image's":     {"nats:2.10", "/nats-server.conf", "    args: [-js]\n", open, ""},
		"args replace Alpine's":        {"nats:2.10-alpine", "/etc/nats/nats-server.conf", "    args: [nats-server, -js]\n", open, ""},
		"the script":                   {"nats:2.10-alpine", "/etc/nats/nats-server.conf", "    command: [docker-entrypoint.sh]\n", open, ""},
		"the script, a flag":           {"nats:2.10-alpine", "/x.conf", "    command: [/usr/local/bin/docker-entrypoint.sh]\n    args: [-c, /x.conf]\n", closed, ""},
		"the script, elsewhere":        {"nats:2.10", "/x.conf", "    command: [docker-entrypoint.sh]\n    args: [-c, /x.conf]\n", unknown, "a program before nats-server"},
		"a word that scratch refuses":  {"nats:2.10", "/x.conf", "    args: [nats-server, -c, /x.conf]\n", unknown, "does not take its flags"},
		"a name is enough":             {"nats:2.10", "/nats-server.conf", "    args: [-c, nats-server.conf]\n", closed, ""},
		"the image's own":              {"nats:2.10", "/x.conf", "    args: [-c, /nats-server.conf]\n", open, ""},
		"working directory":            {"nats:2.10", "/conf/nats-server.conf", "    workingDir: /conf\n", closed, ""},
		"working directory, not there": {"nats:2.10", "/nats-server.conf", "    workingDir: /conf\n", unknown, "/conf/nats-server.conf is not here"},
		"working directory, Alpine":    {"nats:2.10-alpine", "/conf/nats-server.conf", "    workingDir: /conf\n", open, ""},
		"which file is not known":      {"nats:2.10", "/x.conf", "    args: [-c, $(F)]\n    env: [ { name: F, valueFrom: { secretKeyRef: { name: s, key: key } } } ]\n", unknown, "--c is not in the manifests"},
		"a flag before is not known":   {"nats:2.10", "/x.conf", "    args: [$(F)]\n    env: [ { name: F, valueFrom: { secretKeyRef: { name: s, key: key } } } ]\n", unknown, "its flags are not in the manifests"},
	} {
		mount := fmt.Sprintf(mounts, tc.mount)
		_, _, all := read(t, strings.Replace(pod(tc.more+mount), "nats:2.14.2-alpine", tc.image, 1), files)
		f := all["Pod/ns/p"]
		if d := client(t, f); d.Access != tc.access || !strings.Contains(d.Reason, tc.why) {
			t.Errorf("%s: %s %q, want %s %q; %+v", name, d.Access, d.Reason, tc.access, tc.why, f.Server.Config.Refused)
		}
		if absent := len(f.Server.Config.Absent) > 0; absent != (tc.access == unknown) {
			t.Errorf("%s: absent %v", name, f.Server.Config.Absent)
		}
	}
	// A volume over the directory hides the file of the image.
	for dir, want := range map[string]posture.Access{"/etc/nats": closed, "/etc": unknown, "/": closed} {
		_, _, all := read(t, strings.Replace(pod(fmt.Sprintf("    volumeMounts: [ { name: v, mountPath: %s } ]\n", dir)), "2.14.2-alpine", map[bool]string{true: "2.10", false: "2.10-alpine"}[dir == "/"], 1), files)
		f := all["Pod/ns/p"]
		if d := client(t, f); d.Access != want || want == unknown && len(f.Server.Config.Refused) == 0 {
			t.Errorf("%s: %s %q %v", dir, d.Access, d.Reason, f.Server.Config.Refused)
		}
	}
}

func TestExpand(t *testing.T) {
	env := &environment{vars: map[string]variable{"A": {value: "x", known: true}, "U": {why: "away"}}}
	for text, want := range map[string]string{
		"$(A)": "x []", "a$(A)b$(A)": "axbx []", "$$(A)": "$(A) []", "$(NO)": "$(NO) []", "$(U)!": "$(U)! [U]", "$A": "$A []", "$": "$ []", "$(A": "$(A []", "$$$(A)": "$x []",
	} {
		if out, unknown := env.expand(text); fmt.Sprint(out, " ", unknown) != want {
			t.Errorf("%s: %s %v, want %s", text, out, unknown, want)
		}
	}
}

// TestIs: manifests are told from configurations, and from YAML of other kinds.
func TestIs(t *testing.T) {
	for text, want := range map[string]string{
		"apiVersion: v1\nkind: Pod\n": "is", "# x\n---\nkind: Pod\napiVersion: apps/v1\n": "is", "{\"apiVersion\": \"v1\", \"kind\": \"List\"}": "is", "\"apiVersion\": \"v1\"\r\n'kind': \"Pod\" # x\r\n": "is",
		"port: 4222\n": "", "": "", "{\"port\": 4222}": "", "kind: x\n": "", "apiVersion: v1\n": "", "accounts {\n  apiVersion: v1\n  kind: Pod\n}\n": "", "authorization: {\n  token: x\n}\n": "", "tls:\n{\n}\n": "",
		"config:\n  cluster:\n    enabled: true\n": "yaml", "# Values\n\nnatsBox:\n\n  # x\n  enabled: false\n": "yaml", "a:\n- b\n": "yaml", "---\na: b\n": "yaml",
		"apiVersion: {{ x }}\nkind: Pod\n": "template", "{{- if .Values.x }}\nkind: Pod\n{{- end }}\n": "template",
	} {
		got := ""
		switch {
		case Is([]byte(text)):
			got = "is"
		case Template([]byte(text)):
			got = "template"
		case LooksYAML([]byte(text)):
			got = "yaml"
		}
		if got != want {
			t.Errorf("%q: %q, want %q", text, got, want)
		}
	}
}

// TestSeveralFiles: objects in other files, other namespaces and twice.
func TestSeveralFiles(t *testing.T) {
	shut := configMap("  nats.conf: |\n    authorization { token: ahK0ohl0aith }\n")
	open := configMap("  nats.conf: |\n    port: 4222\n")
	other := strings.Replace(open, "ns }", "else }", 1)
	_, _, files := read(t, pod(mounted), other, shut)
	if d := client(t, files["Pod/ns/p"]); d.Access != posture.Closed {
		t.Errorf("%+v", d)
	}
	_, _, files = read(t, pod(mounted), open, shut)
	if d := client(t, files["Pod/ns/p"]); d.Access != posture.Unknown || !strings.Contains(d.Reason, "several times") {
		t.Errorf("%+v", d)
	}
	_, all, files := read(t, pod(mounted)+"---\n"+open, pod(mounted)+"---\n"+shut)
	if len(all) != 2 || client(t, files["Pod/ns/p in 1.yaml"]).Access != posture.Open || client(t, files["Pod/ns/p in 2.yaml"]).Access != posture.Closed {
		t.Errorf("%v", files)
	}
	_, all, _ = read(t, shut+"  part.conf: x\n  also.conf: |\n    include part.conf\n")
	if !slices.ContainsFunc(all, func(c *Configuration) bool { return c.Fragment }) {
		t.Error("no fragments")
	}
}

// TestOneLine: nothing that may be a secret is shown of objects in one line.
func TestOneLine(t *testing.T) {
	secret := "hoohee4Eejae"
	for _, text := range []string{
		`{"apiVersion": "v1", "kind": "List", "items": [{"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "s"}, "stringData": {"a": "` + secret + `", "x.conf": "port: 4222"}}]}`,
		`{"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "s"}, "spec": {"containers": [{"env": [{"name": "X", "value": "` + secret + `"}], "image": "nats:2.14.2", "args": ["-p", "4222", "--cluster=nats://u:` + secret + `@0.0.0.0:1"]}]}}`,
		"apiVersion: v1\nkind: Pod\nmetadata: {name: s}\nspec:\n  containers:\n  - { env: [ { name: X, value: " + secret + " } ], image: nats }\n",
	} {
		if !Is([]byte(text)) {
			t.Errorf("no manifest: %s", text)
		}
		_, all, files := read(t, text)
		f := files[all[0].Name]
		for n := range strings.Count(text, "\n") + 1 {
			for _, column := range []int{0, 1, 100, len(text)} {
				p := posture.Place{File: "1.yaml", Line: n + 1, Column: column}
				if line, _ := f.Line(p); strings.Contains(line, secret) {
					t.Errorf("shown: %s", line)
				}
			}
		}
	}
}
