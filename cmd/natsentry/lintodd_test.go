package main

import (
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"unicode/utf8"
)

// What is no configuration, or an odd one: each is told in a few lines that say what
// to do, and nothing hangs or fills the terminal.
func TestLintOddFiles(t *testing.T) {
	const secret = "hunter2hunter2x"
	users := make([]string, 0, 5000)
	for i := range cap(users) {
		users = append(users, fmt.Sprintf("{ user: u%d, password: %s }", i, secret))
	}
	noise := make([]byte, 1<<20)
	for i := range noise {
		noise[i] = byte(i*i>>3 ^ i)
	}
	bom := "\xef\xbb\xbf"
	dir := confs(t, map[string]string{
		"noise.conf": string(noise), "empty.conf": "", "blank.conf": "\r\n\t \n",
		"crlf.conf":     "# x\r\nauthorization {\r\n\ttoken: \"" + secret + "\"\r\n}\r\n",
		"bom.conf":      bom + "port: 4222\n",
		"bomword.conf":  bom + "# a comment\nport: 4222\n",
		"bommed.conf":   "include bom.conf\n",
		"utf16.conf":    "\xff\xfep\x00o\x00r\x00t\x00:\x001\x00",
		"tabs.conf":     "\tauthorization\t{\tuser:\ta\n\t\tpassword:\t" + secret + "\t}\n",
		"long.conf":     "authorization { users: [ " + strings.Join(users, ", ") + " ] }\n",
		"wide.conf":     "logfile: \"" + strings.Repeat("ä", 10000) + "\", authorization { token: " + secret + " }, http_port: 8222, # " + strings.Repeat("ö", 10000) + "\n",
		"huge.conf":     strings.Repeat("# x\n", 5<<20),
		"template.conf": "{{ .Values.x }}\n", "comma.conf": "authorization { user: a password: " + secret + " }\n",
		"slash.conf": "port: 4222 / the port\n", "open.conf": "accounts { A {\n", "list.conf": "x: [ 1, , 2 ]\n",
		"locked/x.conf": openConf, "unread.conf": openConf,
	})
	in := func(name string) string { return filepath.Join(dir, name) }
	type odd struct {
		name string
		code int
		want string
	}
	all := []odd{
		{"noise.conf", 1, "would not start"},
		{"empty.conf", 1, "the configuration is empty"},
		{"blank.conf", 1, "the configuration is empty"},
		{"crlf.conf", 0, "     3 |  token: xxxxx"},
		{"bom.conf", 1, "byte order mark"},
		{"bomword.conf", 1, "byte order mark"},
		{"bommed.conf", 1, "byte order mark"},
		{"utf16.conf", 1, "UTF-16: save it as UTF-8"},
		{"tabs.conf", 0, "     2 |   password: xxxxx"},
		{"long.conf", 0, "has 5000 secrets in clear"},
		{"wide.conf", 0, "has 1 secret in clear"},
		{"huge.conf", 3, "larger than 16 MiB"},
		{"template.conf", 3, "this is a Helm template: render it first"},
		{"comma.conf", 1, "put a comma between two keys"},
		{"slash.conf", 1, "a comment begins with # or //"},
		{"open.conf", 1, "a } is missing"},
		{"list.conf", 1, "take out the comma"},
	}
	if runtime.GOOS != "windows" {
		if err := os.Symlink("loop.conf", in("loop.conf")); err != nil {
			t.Fatal(err)
		}
		all = append(all, odd{"loop.conf", 3, "loop.conf"}, odd{"/dev/zero", 3, "`natsentry lint -`"})
	}
	if os.Getuid() > 0 {
		for _, name := range []string{"locked", "unread.conf"} {
			if err := os.Chmod(in(name), 0); err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { _ = os.Chmod(in(name), 0o700) }) // so that it can be removed
			all = append(all, odd{name, 3, name + ": permission denied"})
		}
	}
	for _, tc := range all {
		path := tc.name
		if !filepath.IsAbs(path) {
			path = in(path)
		}
		r := exec(t, "lint", path)
		flat := strings.Join(strings.Fields(r.stdout+r.stderr), " ")
		if r.code != tc.code || !strings.Contains(r.stdout+r.stderr, tc.want) && !strings.Contains(flat, tc.want) {
			t.Errorf("%s ended with %d, want %d and %q:\n%.3000s%s", tc.name, r.code, tc.code, tc.want, r.stdout, r.stderr)
		}
		if strings.Contains(r.stdout+r.stderr, secret) {
			t.Errorf("%s: its secret is told", tc.name)
		}
		if len(r.stdout) > 20000 {
			t.Errorf("%s: %d bytes are told", tc.name, len(r.stdout))
		}
		for line := range strings.SplitSeq(r.stdout, "\n") {
			if n := utf8.RuneCountInString(line); strings.Contains(line, " | ") && n > 230 {
				t.Errorf("%s: a line of %d characters: %.200s", tc.name, n, line)
			}
		}
		printable(t, r.stdout)
	}
	// The mark is below the key, also where the line is cut.
	lines := strings.Split(exec(t, "lint", in("wide.conf")).stdout, "\n")
	marked := 0
	for i, line := range lines {
		if !strings.Contains(line, "^") {
			continue
		}
		at := strings.IndexRune(line, '^')
		key := string([]rune(lines[i-1])[at : at+strings.Count(line, "^")])
		if key != "token" && key != "http_port" {
			t.Errorf("marked is %q:\n%s\n%s", key, lines[i-1], line)
		}
		marked++
	}
	if marked < 2 {
		t.Errorf("nothing is marked:\n%.2000s", strings.Join(lines, "\n"))
	}
}
