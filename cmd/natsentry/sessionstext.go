package main

import (
	"bufio"
	"cmp"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/jedib0t/go-pretty/v6/table"

	"github.com/natsentry/natsentry/agent/finding"
	"github.com/natsentry/natsentry/agent/inside"
	"github.com/natsentry/natsentry/agent/posture"
)

// titles are what accounts and users of servers in operator mode are called, by
// their public keys.
type titles map[string]string

// titlesOf are the names in a snapshot: those of accounts in their claims, and
// those of users in the JWTs that servers show.
func titlesOf(snap *posture.Snapshot) titles {
	out := titles{}
	if snap.Trust != nil {
		for _, a := range snap.Trust.Accounts {
			out[a.ID] = a.Name
		}
	}
	for _, s := range snap.Servers {
		all := inside.Everybody(s)
		for i := range all.List {
			if c := all.List[i].Claim; c != nil {
				out[c.Key] = c.Name
			}
		}
	}
	return out
}

var publicKey = regexp.MustCompile(`^[AU][A-Z2-7]{55}$`)

// of is what a user or an account is called; a public key is shortened, as in
// findings.
func (n titles) of(id string) string {
	if !publicKey.MatchString(id) {
		return short(id)
	}
	key := id[:10] + "…"
	if name := strings.TrimSpace(n[id]); name != "" {
		return short(name) + " (" + key + ")"
	}
	return key
}

// groupRow is a group as both renderers show it.
func (n titles) groupRow(g *inside.Group) []string {
	server := short(g.Server)
	if g.Cluster != "" {
		server = short(g.Cluster) + "/" + server
	}
	since := "-"
	if !g.Since.IsZero() {
		since = g.Since.UTC().Format(lineTime)
	}
	library := strings.TrimSpace(g.Lang + " " + g.Version)
	accounts := make([]string, len(g.Accounts))
	for i, a := range g.Accounts {
		accounts[i] = n.of(a)
	}
	return []string{
		server, g.Door.String(), short(g.Name), orDash(g.IP), orDash(library), n.shows(g), fmt.Sprint(g.Count), since, orDash(strings.Join(accounts, ", ")),
	}
}

var groupHead = []string{"SERVER", "DOOR", "CLIENT", "ADDRESS", "LIBRARY", "SHOWS", "COUNT", "SINCE", "ACCOUNTS"}

// shows is what a group has shown of itself.
func (n titles) shows(g *inside.Group) string {
	user := n.of(g.User)
	switch g.Login {
	case posture.LoginNone:
		return "nothing"
	case posture.LoginName:
		return "claims to be " + user
	case posture.LoginToken:
		return "token"
	case posture.LoginPassword:
		if g.Weak {
			return user + ", password in plaintext"
		}
		return user + ", password"
	case posture.LoginBearer:
		return user + ", bearer JWT"
	case posture.LoginNKey:
		if g.Weak {
			return "claims the nkey " + user
		}
		return "nkey " + user
	case posture.LoginJWT, posture.LoginCertificate:
		return user + ", " + g.Login.String()
	case posture.LoginUnknown:
	}
	if g.User != "" {
		return user + ", in an unknown way"
	}
	return "unknown"
}

// shownGroups bounds one table of groups; JSON has them all.
const shownGroups = 50

func moreGroups(groups []*inside.Group) string {
	if n := len(groups) - shownGroups; n > 0 {
		return "and " + plural(n, "group", "groups") + " more (--format json shows them)"
	}
	return ""
}

func (n titles) groupTable(groups []*inside.Group, indent string) string {
	tw := table.NewWriter()
	tw.SetStyle(tableStyle())
	tw.SuppressTrailingSpaces()
	row := func(cells []string) {
		r := make(table.Row, len(cells))
		for i, c := range cells {
			r[i] = c
		}
		tw.AppendRow(r)
	}
	row(groupHead)
	for _, g := range groups[:min(len(groups), shownGroups)] {
		row(n.groupRow(g))
	}
	text := tw.Render()
	if more := moreGroups(groups); more != "" {
		text += "\n" + more
	}
	return indent + strings.ReplaceAll(text, "\n", "\n"+indent)
}

func pointers[T any](list []T) []*T {
	out := make([]*T, len(list))
	for i := range list {
		out[i] = &list[i]
	}
	return out
}

// whoHead tells what an answer is of.
func whoHead(system string, taken time.Time, c *finding.Coverage) string {
	return fmt.Sprintf("system %s at %s: %d of %s heard", clean(system), taken.UTC().Format("2006-01-02 15:04:05 UTC"), c.Heard, plural(c.Expected, "server", "servers"))
}

func (r *insiders) sum(all bool) string {
	text := plural(r.Weak, "session", "sessions") + " came in without proving anything, or with what anybody on the way could have read"
	if rest := r.Sessions - r.Weak; rest > 0 && !all {
		text += fmt.Sprintf("; %s shown (--all shows them)", plural(rest, "other is not", "others are not"))
	}
	if r.Unlisted > 0 {
		text += "; " + plural(r.Unlisted, "session was not listed by its server", "sessions were not listed by their servers")
	}
	return text + "."
}

func (t textRenderer) inside(w *bufio.Writer, r *insiders, all bool) {
	fmt.Fprintf(w, "%s\n\n", t.in(bold, whoHead(r.System, r.Taken, &r.Coverage)))
	if len(r.Groups) > 0 {
		fmt.Fprintf(w, "%s\n\n", r.titles.groupTable(pointers(r.Groups), ""))
	}
	t.paragraph(w, "", r.sum(all))
	t.gaps(w, &finding.Report{Coverage: r.Coverage})
}

func (m markdownRenderer) inside(w *bufio.Writer, r *insiders, all bool) {
	fmt.Fprintf(w, "# natsentry: who is inside %s\n\n%s.\n\n", escape(r.System), upper(escape(whoHead(r.System, r.Taken, &r.Coverage))))
	m.groups(w, r.titles, pointers(r.Groups))
	fmt.Fprintf(w, "%s\n", escape(r.sum(all)))
	m.gaps(w, &finding.Report{Coverage: r.Coverage})
}

func (m markdownRenderer) groups(w *bufio.Writer, n titles, groups []*inside.Group) {
	if len(groups) == 0 {
		return
	}
	for _, h := range groupHead {
		fmt.Fprintf(w, "| %s ", upper(strings.ToLower(h)))
	}
	fmt.Fprintf(w, "|\n%s|\n", strings.Repeat("|---", len(groupHead)))
	for _, g := range groups[:min(len(groups), shownGroups)] {
		for _, c := range n.groupRow(g) {
			fmt.Fprintf(w, "| %s ", escape(c))
		}
		fmt.Fprint(w, "|\n")
	}
	fmt.Fprintln(w)
	if more := moreGroups(groups); more != "" {
		fmt.Fprintf(w, "%s\n\n", escape(upper(more)))
	}
}

// fate is the groups that fare alike, for one reason.
type fate struct {
	verdict inside.Verdict
	why     string
	lingers bool
	count   int
	groups  []*inside.Group
}

// fates puts predictions together: the rejected first, those of which nothing is
// known next, and in each the largest.
func fates(predictions []inside.Prediction) []*fate {
	type key struct {
		verdict inside.Verdict
		why     string
		lingers bool
	}
	index := map[key]*fate{}
	var out []*fate
	for i := range predictions {
		p := &predictions[i]
		k := key{p.Verdict, p.Why, p.Lingers}
		f := index[k]
		if f == nil {
			f = &fate{verdict: p.Verdict, why: p.Why, lingers: p.Lingers}
			index[k] = f
			out = append(out, f)
		}
		f.count += p.Count
		f.groups = append(f.groups, &p.Group)
	}
	rank := map[inside.Verdict]int{inside.Rejected: 0, inside.Unknown: 1, inside.Kept: 2}
	slices.SortStableFunc(out, func(a, b *fate) int {
		return cmp.Or(cmp.Compare(rank[a.verdict], rank[b.verdict]), cmp.Compare(b.count, a.count), strings.Compare(a.why, b.why))
	})
	return out
}

func (f *fate) reason() string {
	text := upper(clean(f.why)) + "."
	if f.lingers {
		text += " A reload may leave it connected until it comes back by itself."
	}
	return text
}

func (r *lockedOut) sum() string {
	text := fmt.Sprintf("Under %s, of %s: %d kept, %d rejected, %d unknown", clean(r.Candidate),
		plural(r.Kept+r.Rejected+r.Unknown, "connection", "connections"), r.Kept, r.Rejected, r.Unknown)
	if r.Unlisted > 0 {
		text += "; " + plural(r.Unlisted, "session more was not listed by its server", "sessions more were not listed by their servers")
	}
	return text + "."
}

func stepText(s *inside.Step) string {
	name := short(s.Server)
	if s.Cluster != "" {
		name = short(s.Cluster) + "/" + name
	}
	text := fmt.Sprintf("%s: %d rejected, %d unknown, %d kept", name, s.Rejected, s.Unknown, s.Kept)
	if s.Leafs > 0 {
		text += ", dialled by " + plural(s.Leafs, "leafnode", "leafnodes")
	}
	if len(s.Restart) == 0 {
		return text + "; a reload does, as far as can be seen"
	}
	return text + "; it takes a restart: " + clean(strings.Join(s.Restart, "; "))
}

func (t textRenderer) lockout(w *bufio.Writer, r *lockedOut) {
	colours := map[inside.Verdict]string{inside.Rejected: red, inside.Unknown: yellow, inside.Kept: green}
	fmt.Fprintf(w, "%s\n", t.in(bold, whoHead(r.System, r.Taken, &r.Coverage)))
	t.paragraph(w, "", r.sum())
	for _, f := range fates(r.Predictions) {
		fmt.Fprintf(w, "\n%s  %s\n", t.in(colours[f.verdict], strings.ToUpper(f.verdict.String())), t.in(bold, plural(f.count, "connection", "connections")))
		t.paragraph(w, "  ", f.reason())
		fmt.Fprintf(w, "%s\n", r.titles.groupTable(f.groups, "  "))
	}
	if len(r.Order) > 0 && r.Rejected+r.Unknown > 0 {
		fmt.Fprintf(w, "\n%s\n", t.in(bold, "In which order to change the servers"))
		for i := range r.Order {
			t.item(w, "  ", fmt.Sprintf("%d. %s", i+1, stepText(&r.Order[i])))
		}
	}
	if len(r.Advice) > 0 {
		fmt.Fprintf(w, "\n%s\n", t.in(bold, "What to know before"))
	}
	for _, a := range r.Advice {
		t.item(w, "  ", "- "+clean(a))
	}
	if r.Bridge != nil {
		fmt.Fprintf(w, "\n%s\n", t.in(bold, "A bridge for those who bring nothing"))
		for line := range strings.SplitSeq(cleanLines(r.Bridge.Config), "\n") {
			fmt.Fprintf(w, "      %s\n", t.in(blue, line))
		}
		t.paragraph(w, "  ", clean(r.Bridge.Trap))
	}
	t.gaps(w, &finding.Report{Coverage: r.Coverage})
}

func (m markdownRenderer) lockout(w *bufio.Writer, r *lockedOut) {
	fmt.Fprintf(w, "# natsentry: who would be locked out of %s\n\n%s.\n\n%s\n", escape(r.System), upper(escape(whoHead(r.System, r.Taken, &r.Coverage))), escape(r.sum()))
	for _, f := range fates(r.Predictions) {
		fmt.Fprintf(w, "\n## %s: %s\n\n%s\n\n", upper(f.verdict.String()), plural(f.count, "connection", "connections"), escape(f.reason()))
		m.groups(w, r.titles, f.groups)
	}
	if len(r.Order) > 0 && r.Rejected+r.Unknown > 0 {
		fmt.Fprint(w, "\n## Order\n\n")
		for i := range r.Order {
			fmt.Fprintf(w, "%d. %s\n", i+1, escape(stepText(&r.Order[i])))
		}
	}
	if len(r.Advice) > 0 {
		fmt.Fprintln(w)
	}
	for _, a := range r.Advice {
		fmt.Fprintf(w, "- %s\n", escape(a))
	}
	if r.Bridge != nil {
		fmt.Fprintf(w, "\n## Bridge\n\n%s\n\n%s\n", fenced(r.Bridge.Config), escape(r.Bridge.Trap))
	}
	m.gaps(w, &finding.Report{Coverage: r.Coverage})
}
