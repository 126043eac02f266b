package backendtest

import (
	"bytes"
	"crypto"
	"fmt"

	"github.com/managedkeys/managedkeys/backend"
)

// checkMAC checks each declared message authentication code. Without the key its value can't be computed here; where a
// key is imported, checkImport compares it with crypto/hmac.
func checkMAC(c *checker, k Key, key backend.Key) {
	if len(k.MACs) == 0 {
		return
	}
	m, ok := key.(backend.MAC)
	if !ok {
		c.Fatalf("%T is no backend.MAC", key)
	}
	for _, alg := range k.MACs {
		c.sub(string(alg), func(c *checker) { checkMACAlgorithm(c, m, alg) })
	}
	macs := make(map[string]backend.MACAlgorithm)
	for _, alg := range k.MACs {
		mac, err := m.ComputeMAC(c.Context(), alg, []byte("message"))
		c.must("ComputeMAC", err)
		if other, ok := macs[string(mac)]; ok {
			c.Errorf("%s and %s give the same MAC", alg, other)
		}
		macs[string(mac)] = alg
	}
}

// macSize returns the length of a full MAC in bytes (RFC 2104, Section 2; RFC 4493, Section 2.4).
func macSize(alg backend.MACAlgorithm) int {
	if h := alg.Hash(); h != 0 {
		return h.Size()
	}
	return 16
}

func checkMACAlgorithm(c *checker, m backend.MAC, alg backend.MACAlgorithm) {
	least, limit := m.Capabilities().MinMessage, m.Capabilities().MaxMessage
	for _, n := range []int{0, 1, 16, 200, 5000, least, limit} {
		if limit > 0 && n > limit || n < least {
			continue
		}
		message := random(n)
		in := bytes.Clone(message)
		mac, err := m.ComputeMAC(c.Context(), alg, in)
		if !c.ok("ComputeMAC", err) {
			continue
		}
		if !bytes.Equal(in, message) {
			c.Error("ComputeMAC modified its input")
		}
		// Rule: the MAC is full-length.
		if len(mac) != macSize(alg) {
			c.Errorf("the MAC is %d bytes long, want %d", len(mac), macSize(alg))
		}
		again, err := m.ComputeMAC(c.Context(), alg, message)
		if c.ok("ComputeMAC", err) && !bytes.Equal(mac, again) {
			c.Error("the MAC of the same message is another each time")
		}
		c.ok("VerifyMAC", m.VerifyMAC(c.Context(), alg, message, mac))
		for name, wrong := range tampered(mac) {
			err := m.VerifyMAC(c.Context(), alg, message, wrong)
			c.refused("VerifyMAC of a MAC that is "+name, err, backend.ErrInvalidSignature)
		}
		other := []byte("x")
		if n > 0 {
			other = bytes.Clone(message)
			other[n-1] ^= 1
		}
		c.refused("VerifyMAC of another message", m.VerifyMAC(c.Context(), alg, other, mac), backend.ErrInvalidSignature)
		otherMAC, err := m.ComputeMAC(c.Context(), alg, other)
		if c.ok("ComputeMAC", err) && bytes.Equal(mac, otherMAC) {
			c.Error("another message has the same MAC")
		}
	}
}

// macAlgorithms are all that a key might be asked for, and some that don't exist.
var macAlgorithms = []backend.MACAlgorithm{
	backend.HMACSHA1, backend.HMACSHA224, backend.HMACSHA256, backend.HMACSHA384, backend.HMACSHA512,
	backend.HMACSHA3_224, backend.HMACSHA3_256, backend.HMACSHA3_384, backend.HMACSHA3_512, backend.AESCMAC,
	"", "hmac-sha256", "HMAC-MD5",
}

func macRefusals(c *checker, k Key, m backend.MAC) []refusal {
	var all []refusal
	declared := make(map[backend.MACAlgorithm]bool)
	refuse := func(alg backend.MACAlgorithm, n int, want error) {
		all = append(all, refusal{fmt.Sprintf("ComputeMAC of %d bytes with %q", n, alg), func() error {
			_, err := m.ComputeMAC(c.Context(), alg, make([]byte, n))
			return err
		}, []error{want}}, refusal{fmt.Sprintf("VerifyMAC of %d bytes with %q", n, alg), func() error {
			return m.VerifyMAC(c.Context(), alg, make([]byte, n), make([]byte, crypto.SHA256.Size()))
		}, []error{want}})
	}
	for _, alg := range k.MACs {
		declared[alg] = true
		if limit := m.Capabilities().MaxMessage; limit > 0 {
			refuse(alg, limit+1, backend.ErrInvalidParams)
		}
		if least := m.Capabilities().MinMessage; least > 0 {
			refuse(alg, least-1, backend.ErrInvalidParams)
		}
	}
	for _, alg := range macAlgorithms {
		if !declared[alg] {
			refuse(alg, 10, backend.ErrUnsupported)
		}
	}
	return all
}
