//go:build !race

package pkcs11

// raceEnabled tells that the race detector is in, which allocates for itself.
const raceEnabled = false
