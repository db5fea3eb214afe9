package release

import (
	"strings"

	"golang.org/x/mod/semver"
)

// Since is a list of releases from which on servers do something: the first
// release of each line that got it, the oldest first. The last entry holds for
// everything after it.
type Since []string

// Holds reports whether a server of this version does it for certain. A
// version that is no semantic version does not.
func (since Since) Holds(version string) bool {
	holds, known := since.In(version)
	return holds && known
}

// In reports whether a server of this version does it, and whether that is
// known. It is not of a version that is no semantic version, nor of a candidate
// or a vendor's build of the very release that got it: those are called
// 2.12.0-RC.1 and 2.12.0-vendor alike.
func (since Since) In(version string) (holds, known bool) {
	if len(since) == 0 {
		return true, true
	}
	v := "v" + strings.TrimPrefix(version, "v")
	if !semver.IsValid(v) {
		return false, false
	}
	core, _, _ := strings.Cut(v, "-")
	holds = since.from(core)
	return holds, since.from(v) == holds
}

func (since Since) from(v string) bool {
	for _, first := range since[:len(since)-1] {
		if semver.MajorMinor(v) == semver.MajorMinor("v"+first) {
			return semver.Compare(v, "v"+first) >= 0
		}
	}
	return semver.Compare(v, "v"+since[len(since)-1]) >= 0
}

// Rule is one behavior of nats-server that came with a release.
type Rule struct {
	Since
	Name     string // what it is about, in a few words
	Security bool   // it decides who is admitted, or what can be seen
	Before   string // what servers do before; "" where they lack it
	After    string // what they do from then on
	Source   string // how this is known
}

// Newer reports whether a version is newer than another one, or may be. An
// empty version is not.
func Newer(version, than string) bool {
	v, w := "v"+strings.TrimPrefix(version, "v"), "v"+strings.TrimPrefix(than, "v")
	return version != "" && (!semver.IsValid(v) || semver.Compare(v, w) > 0)
}
