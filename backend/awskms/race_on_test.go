//go:build race

package awskms

// raceEnabled tells that the race detector makes everything many times slower.
const raceEnabled = true
