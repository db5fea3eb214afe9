package finding

import (
	"fmt"
	"testing"
	"time"

	"github.com/natsentry/natsentry/agent/check"
	"github.com/natsentry/natsentry/agent/posture"
)

// BenchmarkJudge judges a fleet of 3,000 servers of which one in a hundred is
// open: every check on every server, and the ledger's answer.
//
//	new  servers without a known vulnerability
//	old  servers with ten each, without websocket, MQTT and leafnode ports
//
// ms/first is the judgement that opens all findings.
func BenchmarkJudge(b *testing.B) {
	for name, version := range map[string]string{"new": "2.15.2", "old": "2.10.26"} {
		b.Run(name, func(b *testing.B) { judge(b, version) })
	}
}

func judge(b *testing.B, version string) {
	const servers = 3000
	snap := &posture.Snapshot{System: "bench", Epoch: 1, Taken: time.Unix(1000, 0), Expected: servers, Heard: servers}
	for i := range servers {
		s := &posture.Server{
			ID: fmt.Sprintf("N%055d", i), Name: fmt.Sprintf("n%d", i), Cluster: fmt.Sprintf("c%d", i/6), Version: version, BuiltWith: "go1.26.0", State: posture.Answering,
			Heard:        posture.Statsz | posture.Varz | posture.Connz | posture.AccountStatz | posture.Accountz,
			AuthRequired: posture.Yes, AuthMode: posture.AuthStatic, SystemAccount: "SYS", Accounts: []string{"$G", "SYS", "APP"},
			Start: time.Unix(1, 0), ConfigLoaded: time.Unix(1, 0), Looked: snap.Taken,
		}
		for _, kind := range posture.DoorKinds() {
			on := posture.No
			if kind == posture.Client || kind == posture.Route || kind == posture.Gateway {
				on = posture.Yes
			}
			s.Doors = append(s.Doors, posture.Door{Kind: kind, On: on, Host: "10.0.0.1", Port: 4000})
			if on == posture.Yes {
				access := posture.Closed
				if i%100 == 0 {
					access = posture.Open
				}
				s.Touches = append(s.Touches, posture.Touch{Door: kind, Access: access, Answer: "bench"})
			}
		}
		posture.Judge(s)
		snap.Servers = append(snap.Servers, s)
	}
	policy := check.DefaultPolicy()
	l := NewLedger("bench", Rules{})
	began := time.Now()
	l.Apply(snap, check.Evaluate(snap, policy), &policy)
	first := time.Since(began)
	for b.Loop() {
		results := check.Evaluate(snap, policy)
		if told := l.Apply(snap, results, &policy); len(told) != 0 {
			b.Fatal("nothing has changed")
		}
	}
	b.ReportMetric(first.Seconds()*1000, "ms/first")
	b.ReportMetric(float64(len(l.Findings())), "findings")
	b.ReportMetric(b.Elapsed().Seconds()*1000/float64(b.N), "ms/judgement")
}
