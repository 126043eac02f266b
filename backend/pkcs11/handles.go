package pkcs11

import "github.com/managedkeys/managedkeys/backend"

// A key has the methods of what it can do and no others, so that a type assertion tells the truth. All of them give random
// bytes if the token does; Capabilities say so.
type keyBase struct {
	*backend.Handle
	backend.RandomOps
}

// The kinds of asymmetric keys.
type (
	signingKey struct {
		keyBase
		backend.SignOps
	}
	decryptingKey struct {
		keyBase
		backend.DecryptOps
	}
	universalKey struct {
		keyBase
		backend.SignOps
		backend.DecryptOps
	}
	unwrappingKey struct {
		keyBase
		backend.DecryptOps
		backend.WrapOps
	}
	fullRSAKey struct {
		keyBase
		backend.SignOps
		backend.DecryptOps
		backend.WrapOps
	}
	agreeingKey struct {
		keyBase
		backend.AgreeOps
	}
	fullECKey struct {
		keyBase
		backend.SignOps
		backend.AgreeOps
	}
)

// asymmetric returns the key that has what the handle's usages say.
func (k *liveKey) asymmetric(h *backend.Handle) backend.Key {
	base := keyBase{h, h.Random(k.random)}
	has := h.Capabilities().Usages.Has
	signs, decrypts := h.Signing(k.sign), h.Decrypting(k.decrypt)
	wraps, agrees := h.Wrapping(k.wrapRSA, k.unwrapRSA), h.Agreeing(k.agree)
	switch {
	case has(backend.UsageSign | backend.UsageUnwrap):
		return fullRSAKey{base, signs, decrypts, wraps}
	case has(backend.UsageSign | backend.UsageDecrypt):
		return universalKey{base, signs, decrypts}
	case has(backend.UsageUnwrap):
		return unwrappingKey{base, decrypts, wraps}
	case has(backend.UsageDecrypt):
		return decryptingKey{base, decrypts}
	case has(backend.UsageSign | backend.UsageDerive):
		return fullECKey{base, signs, agrees}
	case has(backend.UsageDerive):
		return agreeingKey{base, agrees}
	}
	return signingKey{base, signs}
}

// The kinds of secret keys.
type (
	aeadKey struct {
		keyBase
		backend.AEADOps
	}
	macKey struct {
		keyBase
		backend.MACOps
	}
	wrappingKey struct {
		keyBase
		backend.WrapOps
	}
	aeadMACKey struct {
		keyBase
		backend.AEADOps
		backend.MACOps
	}
	aeadWrappingKey struct {
		keyBase
		backend.AEADOps
		backend.WrapOps
	}
	macWrappingKey struct {
		keyBase
		backend.MACOps
		backend.WrapOps
	}
	fullAESKey struct {
		keyBase
		backend.AEADOps
		backend.MACOps
		backend.WrapOps
	}
)

// symmetric returns the key that has what a trial showed.
func (k *liveKey) symmetric(h *backend.Handle, can secretAbilities) backend.Key {
	base := keyBase{h, h.Random(k.random)}
	wrap, unwrap := k.wrapAES(can.wraps)
	aead, macs, wraps := h.AEAD(k.seal, k.open), h.MAC(k.mac), h.Wrapping(wrap, unwrap)
	macsToo, wrapsToo := len(can.macs) > 0, can.wraps != 0
	switch {
	case can.aead && macsToo && wrapsToo:
		return fullAESKey{base, aead, macs, wraps}
	case can.aead && macsToo:
		return aeadMACKey{base, aead, macs}
	case can.aead && wrapsToo:
		return aeadWrappingKey{base, aead, wraps}
	case can.aead:
		return aeadKey{base, aead}
	case macsToo && wrapsToo:
		return macWrappingKey{base, macs, wraps}
	case wrapsToo:
		return wrappingKey{base, wraps}
	}
	return macKey{base, macs}
}
