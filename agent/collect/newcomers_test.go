package collect

import (
	"testing"
	"time"
)

func TestNewcomers(t *testing.T) {
	var n newcomers
	at := time.Now()
	for i, c := range []struct {
		server string
		cid    uint64
		after  time.Duration
		want   bool
	}{
		{"A", 1, 0, false},
		{"A", 2, 0, false},
		{"B", 1, 0, false}, // of another server
		{"A", 1, 900 * time.Millisecond, true},
		{"A", 1, 1100 * time.Millisecond, true}, // remembered for that long at least
		{"A", 1, 1900 * time.Millisecond, true},
		{"A", 2, 5 * time.Second, false}, // and then told by its age
	} {
		if got := n.again(c.server, c.cid, at.Add(c.after)); got != c.want {
			t.Errorf("%d: %v", i, got)
		}
	}
	at = at.Add(time.Minute)
	for cid := range uint64(3 * mostNewcomers) {
		n.again("A", cid, at)
	}
	if len(n.now) > mostNewcomers {
		t.Errorf("%d are remembered", len(n.now))
	}
}
