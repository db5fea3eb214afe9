package fleet

import "os"

// Windows has no signals but the end of a process. The others are refused by
// os.Process.Signal when they are sent, and a clean stop becomes a kill.
var (
	signalReload   os.Signal = unsupported("reload")
	signalStop     os.Signal = os.Kill
	signalLameDuck os.Signal = unsupported("lame duck")
)

type unsupported string

func (unsupported) Signal()          {}
func (s unsupported) String() string { return string(s) }
