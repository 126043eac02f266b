//go:build race

package transitmatrix

// raceEnabled tells that the race detector watches. One combination after the other is asked for, so that it learns little.
const raceEnabled = true
