//go:build race

package fleet

// underRace: the race detector looks at this process, and makes it slow.
const underRace = true
