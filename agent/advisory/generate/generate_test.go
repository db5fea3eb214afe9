package main

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/natsentry/natsentry/agent/advisory"
)

// TestTableIsGenerated: the table is what the sources say, again and again.
func TestTableIsGenerated(t *testing.T) {
	got, err := os.ReadFile("../table.json")
	if err != nil {
		t.Fatal(err)
	}
	for range 3 {
		want, err := generate("data")
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(got, want) {
			t.Fatal("table.json is out of date: run go generate ./agent/advisory")
		}
	}
}

var lastAffected = regexp.MustCompile(`(?:up to and including|through and including|Versions) ((?:v?\d+\.\d+\.\d+(?:,| and)? ?)+)`)

// TestNotesSayTheSame holds the table against the words of the notes: the
// versions that they call affected, and those that they call fixed.
func TestNotesSayTheSame(t *testing.T) {
	text, err := os.ReadFile(filepath.Join("data", "secnotes.json"))
	if err != nil {
		t.Fatal(err)
	}
	var notes []note
	if err := json.Unmarshal(text, &notes); err != nil {
		t.Fatal(err)
	}
	version := regexp.MustCompile(`\d+\.\d+\.\d+`)
	checked := 0
	for i := range notes {
		n := &notes[i]
		a, ours, err := n.read()
		if err != nil {
			t.Fatal(err)
		}
		if !ours || len(a.BuiltWith) > 0 {
			continue
		}
		known := advisory.Known().Lookup(a.ID)
		if known == nil {
			t.Errorf("%s is not in the table", n.File)
			continue
		}
		fixes, _, _ := n.fixes()
		for _, v := range fixes {
			if known.Match(v, "") != advisory.NotAffected {
				t.Errorf("%s: %s is fixed, and the table says otherwise", n.File, v)
			}
		}
		words, _, _ := strings.Cut(n.AffectedText, "NATS Streaming Server")
		if at := thisServer.FindStringIndex(words); at != nil {
			words = words[at[0]:]
		}
		for _, m := range lastAffected.FindAllStringSubmatch(words, -1) {
			for _, v := range version.FindAllString(m[1], -1) {
				checked++
				if known.Match(v, "") != advisory.Affected {
					t.Errorf("%s: %s is affected, and the table says otherwise", n.File, v)
				}
			}
		}
	}
	if checked < 35 {
		t.Errorf("only %d versions were read out of the notes' words", checked)
	}
}

// TestQuirks: what is wrong or odd in the sources.
func TestQuirks(t *testing.T) {
	for name, tc := range map[string]struct {
		note   note
		ours   bool
		id     string
		ranges []advisory.Range
	}{
		"not fixed yet": {
			note{Advisory: "2027-01", Date: "2027-01-01", FixedIn: []string{"TBD"}, AffectedText: "nats-server: any version before the fix"},
			true, "2027-01",
			[]advisory.Range{{}},
		},
		"a dot too many": {
			note{Advisory: "2027-01", Date: "2027-01-01", FixedIn: []string{"v2.14.3", "v2.12.12."}, AffectedText: "Versions v2.14.2, v2.12.11 and below are vulnerable."},
			true, "2027-01",
			[]advisory.Range{{Fixed: "2.12.12"}, {Introduced: "2.13.0-0", Fixed: "2.14.3"}},
		},
		"another one's number": {
			note{File: "secnote-2026-05.txt", Advisory: "2025-05", Date: "2026-03-24", FixedIn: []string{"2.11.15"}, AffectedText: "any version before"},
			true, "2026-05",
			[]advisory.Range{{Fixed: "2.11.15"}},
		},
		"another product": {
			note{Advisory: "2020-01", Date: "2020-09-29", FixedIn: []string{"nats.js 2.0.0-209; nats.deno v1.0.0-9"}, AffectedText: "NPM package nats.js"},
			false, "2020-01", nil,
		},
		"a library too": {
			note{Advisory: "2023-02", Date: "2023-10-26", FixedIn: []string{"nkeys 0.4.6; nats-server 2.10.4"}, AffectedText: "nkeys Go library: * 0.4.0 up to and including 0.4.5 NATS Server: * 2.10.0 up to and including 2.10.3"},
			true, "2023-02",
			[]advisory.Range{{Introduced: "2.10.0", Fixed: "2.10.4"}},
		},
	} {
		a, ours, err := tc.note.read()
		if err != nil || ours != tc.ours || a.ID != tc.id || len(a.Affected) != len(tc.ranges) {
			t.Errorf("%s: %+v, ours %v, %v", name, a, ours, err)
			continue
		}
		for i := range tc.ranges {
			if a.Affected[i] != tc.ranges[i] {
				t.Errorf("%s: %+v, want %+v", name, a.Affected, tc.ranges)
			}
		}
	}
	for name, n := range map[string]note{
		"no number":        {Advisory: "pending", Date: "2027-01-01"},
		"no date":          {Advisory: "2027-01"},
		"unclear fix":      {Advisory: "2027-01", Date: "2027-01-01", FixedIn: []string{"soon"}, AffectedText: "any version before"},
		"unclear versions": {Advisory: "2027-01", Date: "2027-01-01", FixedIn: []string{"2.14.3"}, AffectedText: "some versions"},
		"two fixes a line": {Advisory: "2027-01", Date: "2027-01-01", FixedIn: []string{"2.14.3", "2.14.5"}, AffectedText: "any version before"},
		"upside down":      {Advisory: "2027-01", Date: "2027-01-01", FixedIn: []string{"2.1.3"}, AffectedText: "from v2.2.0 onwards"},
	} {
		if a, ours, err := n.read(); err == nil {
			t.Errorf("%s: read as %+v, ours %v", name, a, ours)
		}
	}
}
