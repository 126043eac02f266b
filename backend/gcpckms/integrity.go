package gcpckms

import (
	"fmt"
	"hash/crc32"

	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/managedkeys/managedkeys/backend"
)

// The checksums are CRC32C, on both ways of every call (cloud.google.com/kms/docs/data-integrity-guidelines).

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// sum returns the checksum of data.
func sum(data []byte) *wrapperspb.Int64Value {
	return wrapperspb.Int64(int64(crc32.Checksum(data, castagnoli)))
}

// answer collects what is wrong with the answer of the service. Its error wraps backend.ErrIntegrity.
type answer struct {
	name string // of the key that was asked for
	err  error
}

func (a *answer) failf(format string, args ...any) {
	if a.err == nil {
		a.err = fmt.Errorf("%w: key %q: %s", backend.ErrIntegrity, a.name, fmt.Sprintf(format, args...))
	}
}

// from checks that the answer names the key that was asked for.
func (a *answer) from(name string) *answer {
	if name != a.name {
		a.failf("the answer is of %.200q", name)
	}
	return a
}

// carries checks data in the answer against the checksum beside it.
func (a *answer) carries(field string, data []byte, got *wrapperspb.Int64Value) *answer {
	switch {
	case got == nil:
		a.failf("the answer has no checksum for %s", field)
	case got.Value != sum(data).Value:
		a.failf("the checksum of %s is wrong", field)
	}
	return a
}

// received checks that the service has compared what it received with the checksum that was sent.
func (a *answer) received(field string, verified bool) *answer {
	if !verified {
		a.failf("the service has not verified the checksum of %s", field)
	}
	return a
}

// length checks the length of data in the answer, in bytes.
func (a *answer) length(field string, data []byte, want int) *answer {
	if len(data) != want {
		a.failf("%s has %d bytes, want %d", field, len(data), want)
	}
	return a
}
