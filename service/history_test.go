package service

import (
	"testing"
	"time"
)

func TestMoment(t *testing.T) {
	now := time.Date(2026, 3, 4, 5, 6, 7, 0, time.UTC)
	for text, want := range map[string]time.Time{
		"90m": now.Add(-90 * time.Minute), "24h": now.Add(-24 * time.Hour), "7d": now.AddDate(0, 0, -7), "1.5d": now.Add(-36 * time.Hour),
		"0s": now, "1h30m": now.Add(-90 * time.Minute), "0d": now, "2026-03-04T00:00:00Z": now.Truncate(24 * time.Hour),
		"2026-03-04T02:00:00.5+02:00": now.Truncate(24 * time.Hour).Add(500 * time.Millisecond), "100000d": now.Add(-100000 * 24 * time.Hour),
	} {
		if got, err := Moment(text, now); err != nil || !got.Equal(want) {
			t.Errorf("%s: %v, %v, want %v", text, got, err, want)
		}
	}
	// The last two are longer than a duration can be.
	for _, text := range []string{"", "yesterday", "-1h", "-1d", "7", "d", "2026-03-04", "1w", "1d12h", "107000d", "200000d"} {
		if got, err := Moment(text, now); err == nil {
			t.Errorf("%q became %v", text, got)
		}
	}
}
