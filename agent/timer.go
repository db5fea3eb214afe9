package agent

import "time"

// timer is a timer that may not be running. Its zero value is one.
type timer struct {
	t  *time.Timer
	at time.Time
}

// C is where it tells that its time has come; nil when it is not running.
func (t *timer) C() <-chan time.Time {
	if t.t == nil {
		return nil
	}
	return t.t.C
}

// in sets it, whatever it was set to.
func (t *timer) in(d time.Duration) {
	t.stop()
	t.t, t.at = time.NewTimer(d), time.Now().Add(d)
}

// atMost sets it, unless it is set to an earlier time already.
func (t *timer) atMost(d time.Duration) {
	if t.t == nil || time.Until(t.at) > d {
		t.in(d)
	}
}

func (t *timer) stop() {
	if t.t != nil {
		t.t.Stop()
		t.t = nil
	}
}

// budget allows so much in each stretch of time.
type budget struct {
	each time.Duration
	most int
	left int
	from time.Time
}

// spend tells whether there was something left.
func (b *budget) spend(now time.Time) bool {
	if d := now.Sub(b.from); d >= b.each || d < 0 {
		b.from, b.left = now, b.most
	}
	if b.left == 0 {
		return false
	}
	b.left--
	return true
}
