// Package argon2id makes keys from passphrases by Argon2id (RFC 9106), with bounds on its costs, so that a file that somebody
// made up can't exhaust memory or time.
package argon2id

import (
	"cmp"
	"fmt"

	"golang.org/x/crypto/argon2"
)

// Bounds of the costs.
const (
	maxTime       = 64      // passes
	maxMemoryKiB  = 1 << 20 // 1 GiB
	maxThreads    = 64
	maxMemoryTime = 4 << 20 // KiB, over all passes
)

// SaltSize is the length of a salt in bytes (RFC 9106, Section 3.1).
const SaltSize = 16

// Costs are the costs of Argon2id.
type Costs struct {
	Time      uint32 // passes: 1 to 64, default 3
	MemoryKiB uint32 // KiB: 8 for each thread to 1048576, default 65536; times Time, at most 4194304
	Threads   uint8  // lanes: 1 to 64, default 4
}

// WithDefaults returns c with defaults where it has zero: the second recommended option of RFC 9106, Section 4.
func (c Costs) WithDefaults() Costs {
	return Costs{Time: cmp.Or(c.Time, 3), MemoryKiB: cmp.Or(c.MemoryKiB, 64<<10), Threads: cmp.Or(c.Threads, 4)}
}

// Check returns an error that names the field, what it got and what it takes, unless the costs are within bounds.
func (c Costs) Check() error {
	field, got, takes := "", uint32(0), ""
	switch {
	case c.Time < 1 || c.Time > maxTime:
		field, got, takes = "time", c.Time, fmt.Sprintf("1 to %d", maxTime)
	case c.Threads < 1 || c.Threads > maxThreads:
		field, got, takes = "threads", uint32(c.Threads), fmt.Sprintf("1 to %d", maxThreads)
	case c.MemoryKiB < 8*uint32(c.Threads) || c.MemoryKiB > maxMemoryKiB:
		field, got, takes = "memory_kib", c.MemoryKiB, fmt.Sprintf("%d to %d with %d threads", 8*uint32(c.Threads), maxMemoryKiB, c.Threads)
	case uint64(c.MemoryKiB)*uint64(c.Time) > maxMemoryTime:
		field, got, takes = "memory_kib", c.MemoryKiB, fmt.Sprintf("at most %d with time %d", maxMemoryTime/c.Time, c.Time)
	default:
		return nil
	}
	return fmt.Errorf("argon2id %s: got %d; it takes %s", field, got, takes)
}

// Key returns the key of that many bytes. The costs must have passed [Costs.Check].
func (c Costs) Key(passphrase string, salt [SaltSize]byte, size uint32) []byte {
	return argon2.IDKey([]byte(passphrase), salt[:], c.Time, c.MemoryKiB, c.Threads, size)
}
