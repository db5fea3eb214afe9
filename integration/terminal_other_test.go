//go:build !linux

package integration

import "testing"

func (b *bench) onTerminal(t *testing.T, script string) string {
	t.Helper()
	t.Skipf("%s: this test knows terminals of Linux only", script)
	return ""
}
