//go:build !race

package pkimatrix

// raceEnabled tells that the race detector watches, which the kinds of keys differ in nothing for.
const raceEnabled = false
