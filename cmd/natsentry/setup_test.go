package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/natsentry/natsentry/service"
)

func TestAge(t *testing.T) {
	for text, want := range map[string]time.Duration{
		"0": 0, "0s": 0, "90d": 90 * oneDay, "12w": 84 * oneDay, "1y": 365 * oneDay, "36h": 36 * time.Hour, "1h30m": 90 * time.Minute, "200y": 200 * 365 * oneDay,
	} {
		var a age
		if err := a.Set(text); err != nil || a.d != want || a.String() != text {
			t.Errorf("%s: %v, %v", text, a, err)
		}
	}
	for _, text := range []string{"", "d", "-1d", "1.5y", "201y", "99999999999999999999y", "-1h", "soon", "1", "1M"} {
		a := age{"1y", 365 * oneDay}
		if err := a.Set(text); err == nil || a.text != "1y" {
			t.Errorf("%q became %v", text, a)
		}
	}
}

func names(t *testing.T, dir string) []string {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var out []string
	for _, e := range entries {
		info, err := e.Info()
		if err != nil {
			t.Fatal(err)
		}
		if mode := info.Mode().Perm(); mode != 0o600 && runtime.GOOS != "windows" {
			t.Errorf("%s has mode %o", e.Name(), mode)
		}
		out = append(out, e.Name())
	}
	return out
}

func TestSetupDir(t *testing.T) {
	for format, want := range map[string][]string{
		"config": {"account.conf", "imports.conf", "stream.json"},
		"nsc":    {"accounts.sh", "stream.json"},
	} {
		dir := filepath.Join(t.TempDir(), "it's", "new")
		r := exec(t, "setup", "--dir", dir, "--format", format, "--max-age", "30d", "--replicas", "3")
		if r.code != 0 || r.stderr != "" || !slices.Equal(names(t, dir), want) {
			t.Fatalf("%s: %+v, %v", format, r, names(t, dir))
		}
		printable(t, r.stdout)
		if quoted := `'` + strings.ReplaceAll(filepath.Join(dir, "stream.json"), "'", `'\''`) + `'`; !strings.Contains(r.stdout, "stream add --config "+quoted+"\n") {
			t.Errorf("%s: the path is not quoted: %s", format, r.stdout)
		}
		if strings.Contains(r.stdout, "One copy") {
			t.Errorf("%s: advice that was taken: %s", format, r.stdout)
		}
		text, err := os.ReadFile(filepath.Join(dir, "stream.json"))
		if err != nil {
			t.Fatal(err)
		}
		var stream jetstream.StreamConfig
		if err := json.Unmarshal(text, &stream); err != nil || stream.Name != service.StoreStream || stream.MaxAge != 30*oneDay || stream.Replicas != 3 || !strings.Contains(string(text), `"audit.store.>"`) {
			t.Errorf("%s: %v: %s", format, err, text)
		}
	}
}

// Nothing is overwritten, and what was begun is taken back.
func TestSetupDirOverwritesNothing(t *testing.T) {
	dir := t.TempDir()
	mine := filepath.Join(dir, "stream.json")
	if err := os.WriteFile(mine, []byte("mine"), 0o600); err != nil {
		t.Fatal(err)
	}
	r := exec(t, "setup", "--dir", dir)
	if r.code != exitUsageOrConn || r.stdout != "" || !strings.Contains(r.stderr, "has a file stream.json, and none is overwritten: name another directory") {
		t.Errorf("%+v", r)
	}
	if text, err := os.ReadFile(mine); err != nil || string(text) != "mine" || len(names(t, dir)) != 1 {
		t.Errorf("%s, %v, %v", text, err, names(t, dir))
	}
	// Nor through a link.
	if err := os.Remove(mine); err != nil {
		t.Fatal(err)
	}
	elsewhere := filepath.Join(t.TempDir(), "elsewhere")
	if err := os.Symlink(elsewhere, filepath.Join(dir, "account.conf")); err != nil {
		t.Skip(err)
	}
	if r := exec(t, "setup", "--dir", dir); r.code != exitUsageOrConn || exists(elsewhere) {
		t.Errorf("%+v", r)
	}
	// A file is no directory.
	if r := exec(t, "setup", "--dir", filepath.Join(dir, "account.conf", "x")); r.code != exitUsageOrConn || !strings.Contains(r.stderr, "--dir: ") {
		t.Errorf("%+v", r)
	}
}

// Every name that is accepted goes through a configuration file and a shell.
func TestSetupNames(t *testing.T) {
	r := exec(t, "setup", "--account", "K+e=e@p", "--system-account", "$SYS", "--user", "_u.-x")
	for _, want := range []string{`"K+e=e@p": {`, `accounts: [ "$SYS" ]`, `account: "K+e=e@p"`, `user: "_u.-x"`, `permissions --store --account '$SYS'`} {
		if r.code != 0 || !strings.Contains(r.stdout, want) {
			t.Errorf("no %s in %s%s", want, r.stdout, r.stderr)
		}
	}
	r = exec(t, "setup", "--format", "nsc", "--account", "KEEP", "--system-account", "$SYS", "--user", "$k")
	for _, want := range []string{"nsc add account --name 'KEEP'\n", "--target-account '$SYS'", "nsc add user --account 'KEEP' --name '$k'\n", "--output-file 'k.creds'\n", "nats --creds 'k.creds' kv add"} {
		if r.code != 0 || !strings.Contains(r.stdout, want) {
			t.Errorf("no %s in %s%s", want, r.stdout, r.stderr)
		}
	}
}

// permissions --store adds what the store takes, and no more.
func TestPermissionsStore(t *testing.T) {
	for _, format := range []string{"config", "nsc"} {
		without, with := exec(t, "permissions", "--format", format).stdout, exec(t, "permissions", "--store", "--format", format, "--prefix", "audit.auth").stdout
		publish, between := service.StorePermissions(service.DefaultPrefix)
		subjects := func(text string) map[string]int {
			out := map[string]int{}
			for _, word := range strings.FieldsFunc(text, func(r rune) bool { return strings.ContainsRune("\n \"',", r) }) {
				out[word]++
			}
			return out
		}
		before, after := subjects(without), subjects(with)
		for subject, n := range after {
			more := n - before[subject]
			switch {
			case slices.Contains(publish, subject) && more == 1, slices.Contains(between, subject) && more == 2:
			case strings.HasPrefix(subject, "audit.") && more != 0:
				t.Errorf("%s: %s is there %d times more", format, subject, more)
			}
		}
		for _, subject := range append(publish, between...) {
			if after[subject] == 0 {
				t.Errorf("%s: %s is missing", format, subject)
			}
		}
	}
}
