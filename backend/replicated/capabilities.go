package replicated

import (
	"crypto"
	"slices"

	"github.com/managedkeys/managedkeys/backend"
)

// capabilities returns what all the places can do that have the key now.
func (r *replica) capabilities() backend.Capabilities {
	var caps backend.Capabilities
	first := true
	for _, s := range r.seats {
		key := s.handle()
		if key == nil {
			continue
		}
		if other := key.Capabilities(); first {
			caps, first = clone(other), false
		} else {
			caps = both(caps, other)
		}
	}
	return caps
}

// clone returns c with slices of its own.
func clone(c backend.Capabilities) backend.Capabilities {
	c.Signatures, c.OAEPHashes, c.MACs = slices.Clone(c.Signatures), slices.Clone(c.OAEPHashes), slices.Clone(c.MACs)
	return c
}

// both returns what a and b can do, in a's order of preference.
func both(a, b backend.Capabilities) backend.Capabilities {
	a.Usages &= b.Usages
	var signatures []backend.SignatureAlgorithm
	for _, alg := range a.Signatures {
		if other, ok := b.Signature(alg.Scheme, alg.Hash); ok {
			alg.Salt = max(alg.Salt, other.Salt) // SaltEqualsHash is the stricter
			signatures = append(signatures, alg)
		}
	}
	a.Signatures = signatures
	a.OAEPHashes = slices.DeleteFunc(a.OAEPHashes, func(h crypto.Hash) bool { return !slices.Contains(b.OAEPHashes, h) })
	a.MACs = slices.DeleteFunc(a.MACs, func(m backend.MACAlgorithm) bool { return !slices.Contains(b.MACs, m) })
	a.OAEPLabels = a.OAEPLabels && b.OAEPLabels
	a.SignatureContexts = a.SignatureContexts && b.SignatureContexts
	a.RawRSA = a.RawRSA && b.RawRSA
	a.UnhashedPKCS1v15 = a.UnhashedPKCS1v15 && b.UnhashedPKCS1v15
	a.MaxMessage = tighter(a.MaxMessage, b.MaxMessage)
	a.MaxPlaintext = tighter(a.MaxPlaintext, b.MaxPlaintext)
	a.MaxRandom = min(a.MaxRandom, b.MaxRandom)
	// A usage whose every algorithm is gone is none.
	if len(a.Signatures) == 0 {
		a.Usages &^= backend.UsageSign | backend.UsageVerify
	}
	if len(a.MACs) == 0 {
		a.Usages &^= backend.UsageMAC
	}
	if a.MaxRandom == 0 {
		a.Usages &^= backend.UsageGenerateRandom
	}
	return a
}

// tighter returns the smaller of two limits, where 0 is none.
func tighter(a, b int) int {
	if a == 0 || b == 0 {
		return max(a, b)
	}
	return min(a, b)
}
