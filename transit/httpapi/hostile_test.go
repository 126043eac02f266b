package httpapi

import (
	"runtime"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"

	"github.com/managedkeys/managedkeys/transit"
)

// A chain of many certificates that are none costs no more than it is long: it is not copied for each of them.
func TestManyCertificates(t *testing.T) {
	g := newRig(t, nil, nil)
	g.post(200, "keys/k", object{"type": "ecdsa-p256"})
	const block = "-----BEGIN CERTIFICATE-----\nMAA=\n-----END CERTIFICATE-----\n"
	spent := func(blocks int) uint64 {
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		answer := g.post(400, "keys/k/set-certificate", object{"certificate_chain": strings.Repeat(block, blocks)})
		runtime.ReadMemStats(&after)
		assert.NotEmpty(t, answer.errors)
		return after.TotalAlloc - before.TotalAlloc
	}
	spent(transit.MaxCertificates) // connects
	assert.Less(t, spent(5000), uint64(32<<20), "bytes allocated for a body of 300,000")
}
