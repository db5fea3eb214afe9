//go:build race

package fleet

// UnderRace tells that the race detector looks at this process, and makes it slow.
const UnderRace = true
