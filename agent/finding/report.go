package finding

import (
	"slices"
	"time"

	"github.com/natsentry/natsentry/agent/check"
	"github.com/natsentry/natsentry/agent/posture"
)

// ReportType is the type field of a [Report].
const ReportType = "natsentry.v1.report"

// Report is what natsentry says of a fleet: the one structure behind every
// command, endpoint and renderer.
type Report struct {
	Type     string         `json:"type"`
	System   string         `json:"system"`
	Epoch    uint64         `json:"epoch"`
	Taken    time.Time      `json:"taken"`
	Took     string         `json:"took"`
	Via      string         `json:"via,omitempty"` // the server that the questions went through
	Coverage Coverage       `json:"coverage"`
	Totals   Totals         `json:"totals"`
	Servers  []ReportServer `json:"servers"`
	Findings []Finding      `json:"findings"`
	Notes    []string       `json:"notes"` // what the findings leave out: why some are lowered, and which open listeners have none
}

// Coverage tells how much of the fleet a report speaks of.
type Coverage struct {
	Expected int           `json:"expected"`
	Heard    int           `json:"heard"`
	Gaps     []posture.Gap `json:"gaps"`
	// NotAudited are servers that are connected and have their own system account.
	// They are not among the expected.
	NotAudited []posture.Unaudited `json:"not_audited"`
}

// Shorten cuts both lists to their first entries.
func (c *Coverage) Shorten(most int) {
	c.Gaps = c.Gaps[:min(len(c.Gaps), most)]
	c.NotAudited = c.NotAudited[:min(len(c.NotAudited), most)]
}

// Totals counts doors by access and findings by severity, over the whole
// fleet, also where a report shows only a part of it.
type Totals struct {
	Doors    DoorTotals    `json:"doors"`
	Findings FindingTotals `json:"findings"`
}

// DoorTotals counts doors. Reported is the part of Closed that rests on the
// server's word only.
type DoorTotals struct {
	Open     int `json:"open"`
	Closed   int `json:"closed"`
	Reported int `json:"closed_reported"`
	Unknown  int `json:"unknown"`
	Off      int `json:"off"`
}

// FindingTotals counts findings by severity, and apart from those the ones
// that are waived.
type FindingTotals struct {
	Critical int `json:"critical"`
	Warning  int `json:"warning"`
	Info     int `json:"info"`
	Waived   int `json:"waived"`
}

// ReportServer is one server in a report.
type ReportServer struct {
	Name         string           `json:"name"`
	ID           string           `json:"id"`
	Cluster      string           `json:"cluster"`
	Version      string           `json:"version"`
	State        posture.State    `json:"state"`
	AuthMode     posture.AuthMode `json:"auth_mode"`
	AuthRequired *bool            `json:"auth_required"` // null when not seen
	Doors        []ReportDoor     `json:"doors"`
}

// ReportDoor is one door in a report.
type ReportDoor struct {
	Door     posture.DoorKind   `json:"door"`
	Address  string             `json:"address"`
	Reached  string             `json:"reached,omitempty"` // where it was found, when that is not where the server says
	Access   posture.Access     `json:"access"`
	Basis    posture.Basis      `json:"basis"`
	Reason   string             `json:"reason,omitempty"`
	Landing  *posture.Landing   `json:"landing"`
	Evidence []posture.Evidence `json:"evidence"`
}

// NewReport writes a snapshot and its findings down as a report.
func NewReport(snap *posture.Snapshot, findings []Finding) *Report {
	r := &Report{
		Type: ReportType, System: snap.System, Epoch: snap.Epoch,
		Taken: snap.Taken.UTC(), Took: snap.Took.Round(10 * time.Microsecond).String(),
		Coverage: Coverage{Expected: snap.Expected, Heard: snap.Heard, Gaps: orEmpty(snap.Gaps), NotAudited: orEmpty(snap.Unaudited)},
		Servers:  make([]ReportServer, 0, len(snap.Servers)),
		Findings: orEmpty(findings),
	}
	if snap.Trust != nil {
		r.Coverage.Gaps = append(slices.Clip(r.Coverage.Gaps), snap.Trust.Gaps...)
	}
	for _, s := range snap.Servers {
		r.Servers = append(r.Servers, reportServer(s))
		for i := range s.Doors {
			r.Totals.Doors.add(&s.Doors[i])
		}
	}
	r.Totals.Findings = CountFindings(findings)
	r.Notes = notes(snap, findings)
	return r
}

// CountFindings counts findings by severity.
func CountFindings(findings []Finding) FindingTotals {
	var t FindingTotals
	for i := range findings {
		if findings[i].Waived != nil {
			t.Waived++
			continue
		}
		switch findings[i].Severity {
		case check.Critical:
			t.Critical++
		case check.Warning:
			t.Warning++
		case check.Info, check.NoSeverity:
			t.Info++
		}
	}
	return t
}

func (t *DoorTotals) add(d *posture.Door) {
	switch d.Access {
	case posture.Open:
		t.Open++
	case posture.Closed:
		t.Closed++
		if d.Basis <= posture.Reported && d.Basis != posture.Declared {
			t.Reported++
		}
	case posture.Unknown:
		t.Unknown++
	case posture.Off:
		t.Off++
	}
}

func reportServer(s *posture.Server) ReportServer {
	out := ReportServer{
		Name: s.Name, ID: s.ID, Cluster: s.Cluster, Version: s.Version, State: s.State,
		AuthMode: s.AuthMode, Doors: make([]ReportDoor, 0, len(s.Doors)),
	}
	if s.AuthRequired != posture.Unseen {
		required := s.AuthRequired == posture.Yes
		out.AuthRequired = &required
	}
	for i := range s.Doors {
		d := &s.Doors[i]
		out.Doors = append(out.Doors, ReportDoor{
			Door: d.Kind, Address: d.Address(), Reached: d.Elsewhere(), Access: d.Access, Basis: d.Basis,
			Reason: d.Reason, Landing: d.Landing, Evidence: orEmpty(d.Evidence),
		})
	}
	return out
}
