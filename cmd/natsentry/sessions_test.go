package main

import (
	"bufio"
	"strings"
	"testing"
	"time"
	"unicode"

	"github.com/natsentry/natsentry/agent/inside"
	"github.com/natsentry/natsentry/agent/posture"
)

// TestSessionsHostile: whatever clients and servers call themselves, nothing of it
// moves a terminal or becomes markup.
func TestSessionsHostile(t *testing.T) {
	const evil = "\x1b[31mx\u202e|<b>[a](http://b)\n## y"
	s := &posture.Server{ID: "N1", Name: evil, Cluster: evil, Version: "2.15.2", State: posture.Answering, AuthRequired: posture.No, AuthMode: posture.AuthNone}
	s.Everyone = posture.Sessions{At: time.Unix(1, 0), Total: 1, List: []posture.Session{{
		Door: posture.Client, Name: evil, Address: evil, Lang: evil, Version: evil, User: evil, Account: evil,
	}}}
	plan, _ := inside.Plan("users")
	plan.Name = evil
	snap := &posture.Snapshot{System: evil, Servers: []*posture.Server{s}, Gaps: []posture.Gap{{Server: evil, Endpoint: evil, Reason: evil}}}
	for _, format := range []string{"text", "json", "markdown"} {
		var out strings.Builder
		p := &program{stdout: &out, terminal: func(any) bool { return false }}
		_ = p.tellInside(snap, snap.Servers, &sessionsFlags{all: true}, format) // the verdict is of no interest
		_ = p.tellLockout(snap, snap.Servers, plan, format)
		if strings.ContainsFunc(out.String(), func(r rune) bool { return r != '\n' && !unicode.IsPrint(r) }) {
			t.Errorf("%s: %q", format, out.String())
		}
		if n := strings.Count(out.String(), "\n## y"); n > 0 {
			t.Errorf("%s: a name began a line: %s", format, out.String())
		}
		if format == "markdown" && (strings.Contains(out.String(), "[a](") || strings.Contains(out.String(), "<b>")) {
			t.Errorf("markup: %s", out.String())
		}
	}
}

// TestFates: those that fare alike for one reason are told once, the rejected
// first.
func TestFates(t *testing.T) {
	prediction := func(verdict inside.Verdict, why string, count int) inside.Prediction {
		return inside.Prediction{Group: inside.Group{Count: count}, Verdict: verdict, Why: why}
	}
	var got []string
	for _, f := range fates([]inside.Prediction{
		prediction(inside.Kept, "k", 9), prediction(inside.Unknown, "u", 1), prediction(inside.Rejected, "r", 1), prediction(inside.Rejected, "s", 2), prediction(inside.Rejected, "r", 4),
	}) {
		got = append(got, f.verdict.String()+" "+f.why+" "+strings.Repeat("i", f.count))
	}
	if want := "rejected r iiiii, rejected s ii, unknown u i, kept k iiiiiiiii"; strings.Join(got, ", ") != want {
		t.Errorf("%q", got)
	}
	var w strings.Builder
	b := bufio.NewWriter(&w)
	textRenderer{}.lockout(b, &lockedOut{Candidate: "c", Outlook: &inside.Outlook{}})
	if err := b.Flush(); err != nil || !strings.Contains(w.String(), "Under c, of 0 connections") {
		t.Errorf("%v: %s", err, w.String())
	}
}

// TestSessionsMany: a table has an end, and says so.
func TestSessionsMany(t *testing.T) {
	r := &insiders{}
	for range shownGroups + 7 {
		r.Groups = append(r.Groups, inside.Group{Server: "n1", Name: "worker"})
	}
	for name, render := range map[string]func(*bufio.Writer){
		"text":     func(w *bufio.Writer) { textRenderer{}.inside(w, r, false) },
		"markdown": func(w *bufio.Writer) { markdownRenderer{}.inside(w, r, false) },
	} {
		var out strings.Builder
		w := bufio.NewWriter(&out)
		render(w)
		if err := w.Flush(); err != nil || strings.Count(out.String(), "worker") != shownGroups || !strings.Contains(strings.ToLower(out.String()), "and 7 groups more") {
			t.Errorf("%s: %v: %s", name, err, out.String())
		}
	}
}
