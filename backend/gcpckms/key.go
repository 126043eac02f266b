package gcpckms

import (
	"crypto"
	"slices"

	"cloud.google.com/go/kms/apiv1/kmspb"
	"golang.org/x/time/rate"

	"github.com/managedkeys/managedkeys/backend"
	"github.com/managedkeys/managedkeys/backend/remote"
)

// Limits of the service, in bytes.
const (
	minData    = 1        // message: the wire format has no difference between empty data and none
	maxData    = 64 << 10 // message to sign or authenticate; plaintext; additional data
	maxHSM     = 8 << 10  // plaintext and additional data together, of a key in an HSM
	hsmRoom    = 1 << 10  // what plaintexts leave of it for additional data, so that there is one limit for them
	maxRandom  = 1024
	minRandom  = 8
	ivSize     = 12
	gcmTagSize = 16
)

// version is what the operations of an open key work with. Nothing of it changes.
type version struct {
	description
	conn     *conn
	location string
	limiter  *rate.Limiter
}

// The kinds of key.
type (
	signingKey struct {
		*backend.Handle
		backend.SignOps
		backend.RandomOps
	}
	decryptingKey struct {
		*backend.Handle
		backend.DecryptOps
		backend.RandomOps
	}
	unwrappingKey struct {
		*backend.Handle
		backend.DecryptOps
		backend.WrapOps
		backend.RandomOps
	}
	macKey struct {
		*backend.Handle
		backend.MACOps
		backend.RandomOps
	}
	kemKey struct {
		*backend.Handle
		backend.DecapsulateOps
		backend.RandomOps
	}
	cipherKey struct {
		*backend.Handle
		backend.AEADOps
		backend.RandomOps
	}
)

// handle returns the key that d describes.
func (b *Backend) handle(c *conn, location string, d description) backend.Key {
	v := &version{description: d, conn: c, location: location, limiter: c.limiter(d.name)}
	h := backend.NewHandle(backend.HandleConfig{
		ID:               d.name,
		Public:           d.public,
		Capabilities:     d.capabilities(),
		Mode:             backend.CallContext,
		Timeout:          b.remote.CallTimeout,
		Gate:             &b.gate,
		VerifySignatures: !b.remote.TrustSignatures,
	})
	random := h.Random(v.random)
	proof := attests{v: v, b: b}
	hsm := d.hardware()
	switch d.alg.kind {
	case kindOAEP:
		decrypt := h.Decrypting(v.decryptOAEP)
		if d.alg.hash == crypto.SHA256 {
			k := &unwrappingKey{h, decrypt, h.Wrapping(v.wrap, v.unwrap), random}
			if hsm {
				return struct {
					*unwrappingKey
					attests
				}{k, proof}
			}
			return k
		}
		k := &decryptingKey{h, decrypt, random}
		if hsm {
			return struct {
				*decryptingKey
				attests
			}{k, proof}
		}
		return k
	case kindMAC:
		k := &macKey{h, h.MAC(v.mac), random}
		if hsm {
			return struct {
				*macKey
				attests
			}{k, proof}
		}
		return k
	case kindMLKEM:
		k := &kemKey{h, h.Decapsulating(v.decapsulate), random}
		if hsm {
			return struct {
				*kemKey
				attests
			}{k, proof}
		}
		return k
	case kindSymmetric, kindGCM:
		k := &cipherKey{h, h.AEAD(v.seal, v.open), random}
		if hsm {
			return struct {
				*cipherKey
				attests
			}{k, proof}
		}
		return k
	}
	k := &signingKey{h, h.Signing(v.sign), random}
	if hsm {
		return struct {
			*signingKey
			attests
		}{k, proof}
	}
	return k
}

// call describes a call about the key for package remote.
func (v *version) call(op string) remote.Call { return remote.Call{Op: op, Limiter: v.limiter} }

// answer begins the check of an answer.
func (v *version) answer() *answer { return &answer{name: v.name} }

// failed marks the error of a call that a key manager outside of Google may have to do with.
func (v *version) failed(err error) error {
	if v.external() {
		return external{err}
	}
	return err
}

// external reports whether the key is kept outside of Google.
func (d description) external() bool {
	return d.level == kmspb.ProtectionLevel_EXTERNAL || d.level == kmspb.ProtectionLevel_EXTERNAL_VPC
}

// pkcs1Hashes are the hashes that have a DigestInfo (RFC 8017, Appendix B.1, and NIST's for SHA-3), for keys whose DigestInfo
// is made here. SHA-1 is last, and only used if the caller asks for it.
var pkcs1Hashes = []crypto.Hash{
	crypto.SHA256, crypto.SHA384, crypto.SHA512, crypto.SHA224, crypto.SHA512_256, crypto.SHA512_224,
	crypto.SHA3_256, crypto.SHA3_384, crypto.SHA3_512, crypto.SHA3_224, crypto.SHA1,
}

// capabilities returns all that the key can do, in slices of its own.
func (d description) capabilities() backend.Capabilities {
	a := d.alg
	caps := backend.Capabilities{
		Algorithm: a.describe(), Usages: backend.UsageGenerateRandom, MaxRandom: maxRandom,
	}
	signs := func(scheme backend.Scheme, hashes ...crypto.Hash) {
		caps.Usages |= backend.UsageSign | backend.UsageVerify
		for _, h := range hashes {
			s := backend.SignatureAlgorithm{Scheme: scheme, Hash: h}
			if scheme == backend.RSAPSS {
				s.Salt = backend.SaltEqualsHash // the service chooses it (cloud.google.com/kms/docs/algorithms)
			}
			caps.Signatures = append(caps.Signatures, s)
		}
	}
	switch a.kind {
	case kindPSS:
		signs(backend.RSAPSS, a.hash)
	case kindPKCS1:
		signs(backend.RSAPKCS1v15, a.hash)
	case kindRawPKCS1:
		signs(backend.RSAPKCS1v15, slices.Clone(pkcs1Hashes)...)
		caps.UnhashedPKCS1v15 = true
	case kindECDSA:
		signs(backend.ECDSA, a.hash)
	case kindEd25519:
		signs(backend.Ed25519, 0)
		caps.MinMessage, caps.MaxMessage = minData, maxData
	case kindMLDSA:
		signs(backend.MLDSA, 0)
		caps.MinMessage, caps.MaxMessage = minData, maxData
	case kindMLDSAMu:
		signs(backend.MLDSA, 0)
		caps.SignatureContexts = true
	case kindOAEP:
		caps.Usages |= backend.UsageEncrypt | backend.UsageDecrypt
		if a.hash == crypto.SHA256 { // which is what backend.Wrapper means
			caps.Usages |= backend.UsageWrap | backend.UsageUnwrap
		}
		caps.OAEPHashes = []crypto.Hash{a.hash}
	case kindMAC:
		caps.Usages |= backend.UsageMAC
		caps.MACs = []backend.MACAlgorithm{a.mac}
		caps.MinMessage, caps.MaxMessage = minData, maxData
	case kindMLKEM:
		caps.Usages |= backend.UsageDerive
	case kindSymmetric, kindGCM:
		caps.Usages |= backend.UsageEncrypt | backend.UsageDecrypt
		caps.MaxPlaintext = maxData
		if d.hardware() {
			caps.MaxPlaintext = maxHSM - hsmRoom
		}
	}
	return caps
}

// hardware reports whether the key is kept in an HSM of Google's.
func (d description) hardware() bool {
	return d.level == kmspb.ProtectionLevel_HSM || d.level == kmspb.ProtectionLevel_HSM_SINGLE_TENANT
}
