//go:build !race

package integration

// underRace: the race detector looks at this process, and makes it slow.
const underRace = false
