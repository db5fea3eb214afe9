package service

import (
	"time"

	"github.com/natsentry/natsentry/agent/check"
	"github.com/natsentry/natsentry/agent/finding"
	"github.com/natsentry/natsentry/agent/inside"
	"github.com/natsentry/natsentry/agent/posture"
)

// Page tells which part of a list a reply holds.
type Page struct {
	Offset     int  `json:"offset"`
	Limit      int  `json:"limit"`       // items of each list at the most; smaller than asked where more did not fit
	Total      int  `json:"total"`       // items there are; of two lists, the longer one
	NextOffset *int `json:"next_offset"` // ask with this for the next page; null on the last
}

// cut returns the bounds of this view's page in a list, and notes it in page.
func (v *view) cut(p *Page, total int) (from, to int) {
	p.Offset, p.Limit, p.Total = v.Offset, v.limit, max(p.Total, total)
	from = min(v.Offset, total)
	to = min(from+v.limit, total)
	if to < total {
		next := v.Offset + v.limit
		p.NextOffset = &next
	}
	return from, to
}

// head is what every list reply begins with.
type head struct {
	Type   string    `json:"type"`
	System string    `json:"system"`
	Epoch  uint64    `json:"epoch"`
	Taken  time.Time `json:"taken"`
	Page
}

func (v *view) head(kind string) head {
	snap := v.state.Snapshot
	return head{Type: kind, System: snap.System, Epoch: snap.Epoch, Taken: snap.Taken.UTC()}
}

// Report is one page of a report. Its totals and coverage are those of the
// whole fleet; the page cuts both lists, of servers and of findings.
type Report struct {
	finding.Report
	Page
}

func reportPage(v *view) page {
	r := &Report{Report: *v.state.Report()}
	from, to := v.cut(&r.Page, len(v.servers))
	shown := *v.state.Snapshot
	shown.Servers = v.servers[from:to]
	r.Servers = finding.NewReport(&shown, nil).Servers
	from, to = v.cut(&r.Page, len(v.findings))
	r.Findings = append([]finding.Finding{}, v.findings[from:to]...)
	r.Coverage.Shorten(v.limit)
	return r
}

func (r *Report) shrink() {
	shrinkFindings(r.Findings)
	shrinkServers(r.Servers)
	r.Coverage.Shorten(0)
}

func shrinkFindings(fs []finding.Finding) {
	for i := range fs {
		fs[i].Evidence = trimmed(fs[i].Evidence)
	}
}

func shrinkServers(servers []finding.ReportServer) {
	for i := range servers {
		for j := range servers[i].Doors {
			servers[i].Doors[j].Evidence = trimmed(servers[i].Doors[j].Evidence)
		}
	}
}

// Servers is a page of servers.
type Servers struct {
	head
	Servers []finding.ReportServer `json:"servers"`
}

func serversPage(v *view) page {
	p := &Servers{head: v.head(ServersType)}
	from, to := v.cut(&p.Page, len(v.servers))
	shown := *v.state.Snapshot
	shown.Servers = v.servers[from:to]
	p.Servers = finding.NewReport(&shown, nil).Servers
	return p
}

func (p *Servers) shrink() { shrinkServers(p.Servers) }

// Findings is a page of findings.
type Findings struct {
	head
	Findings []finding.Finding `json:"findings"`
}

func findingsPage(v *view) page {
	p := &Findings{head: v.head(FindingsType)}
	from, to := v.cut(&p.Page, len(v.findings))
	p.Findings = append([]finding.Finding{}, v.findings[from:to]...)
	return p
}

func (p *Findings) shrink() { shrinkFindings(p.Findings) }

// Sessions is a page of sessions in the global account, or, where the request
// says grouped, of groups of sessions in all accounts that are known.
type Sessions struct {
	head
	Sessions []Session      `json:"sessions"`
	Groups   []inside.Group `json:"groups,omitempty"`
}

// Session is one connection, and whether it proved anything.
type Session struct {
	Server    string           `json:"server"`
	ServerID  string           `json:"server_id"`
	Cluster   string           `json:"cluster"`
	Door      posture.DoorKind `json:"door"`
	CID       uint64           `json:"cid"`
	Name      string           `json:"name"`
	Address   string           `json:"address"`
	Lang      string           `json:"lang"`
	Version   string           `json:"version"`
	User      string           `json:"user"` // on a server that asks nobody: merely claimed
	Account   string           `json:"account"`
	Since     time.Time        `json:"since"`
	Anonymous bool             `json:"anonymous"`
	Why       string           `json:"why"`
	Seen      time.Time        `json:"seen"` // when the server was asked
}

func sessionsPage(v *view) page {
	if v.Grouped {
		return groupsPage(v)
	}
	var all []Session
	for _, s := range v.servers {
		for _, c := range s.Sessions.List {
			if v.Anonymous && !c.Anonymous {
				continue
			}
			all = append(all, Session{
				Server: s.Name, ServerID: s.ID, Cluster: s.Cluster, Door: c.Door, CID: c.CID, Name: c.Name,
				Address: c.Address, Lang: c.Lang, Version: c.Version, User: c.User, Account: c.Account,
				Since: c.Since.UTC(), Anonymous: c.Anonymous, Why: c.Why, Seen: s.Sessions.At.UTC(),
			})
		}
	}
	p := &Sessions{head: v.head(SessionsType)}
	from, to := v.cut(&p.Page, len(all))
	p.Sessions = append([]Session{}, all[from:to]...)
	return p
}

// groupsPage: anonymous keeps the groups that proved nothing, or showed what
// anybody on the way could have read.
func groupsPage(v *view) page {
	groups := inside.Groups(v.servers)
	if v.Anonymous {
		groups = inside.Weak(groups)
	}
	p := &Sessions{head: v.head(SessionsType), Sessions: []Session{}}
	from, to := v.cut(&p.Page, len(groups))
	p.Groups = groups[from:to]
	return p
}

func (p *Sessions) shrink() {}

// Checks is a page of the catalogue.
type Checks struct {
	head
	Checks []Check `json:"checks"`
}

// Check is one check of the catalogue.
type Check struct {
	ID       string         `json:"id"`
	Aliases  []string       `json:"aliases"`
	Severity check.Severity `json:"severity"`
	Title    string         `json:"title"`
	Doc      string         `json:"doc"`
	Refs     []string       `json:"refs"`
}

func checksPage(v *view) page {
	all := []Check{}
	for _, c := range check.Catalogue() {
		if c.Severity >= v.severity && (v.Check == "" || v.Check == c.ID) {
			all = append(all, Check{
				ID: c.ID, Aliases: append([]string{}, c.Aliases...), Severity: c.Severity,
				Title: c.Title, Doc: c.Doc, Refs: append([]string{}, c.Refs...),
			})
		}
	}
	p := &Checks{head: v.head(ChecksType)}
	from, to := v.cut(&p.Page, len(all))
	p.Checks = all[from:to]
	return p
}

func (p *Checks) shrink() {}
