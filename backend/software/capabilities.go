package software

import (
	"crypto"
	"slices"

	"github.com/managedkeys/managedkeys/backend"
)

// The hashes of digests, those of X.509 and TLS first. They are what crypto/rsa and crypto/ecdsa take less SHA-1.
var (
	commonHashes = []crypto.Hash{crypto.SHA256, crypto.SHA384, crypto.SHA512}
	otherHashes  = []crypto.Hash{crypto.SHA224, crypto.SHA3_256, crypto.SHA3_384, crypto.SHA3_512, crypto.SHA3_224}
)

// oaepHashes includes SHA-1: OAEP does not need collision resistance (RFC 8017, Appendix B.1), and it is what much
// software encrypts with when not told otherwise.
var oaepHashes = []crypto.Hash{crypto.SHA256, crypto.SHA384, crypto.SHA512, crypto.SHA224, crypto.SHA1}

var hmacAlgorithms = []backend.MACAlgorithm{
	backend.HMACSHA256, backend.HMACSHA384, backend.HMACSHA512, backend.HMACSHA224, backend.HMACSHA3_256,
	backend.HMACSHA3_384, backend.HMACSHA3_512, backend.HMACSHA3_224, backend.HMACSHA1,
}

// capabilities returns all that a key of e's kind can do, in slices of its own.
func (e *entry) capabilities() backend.Capabilities {
	caps := backend.Capabilities{
		Algorithm: e.algorithm(),
		Usages:    backend.UsageGenerateRandom,
		MaxRandom: MaxRandom,
	}
	switch e.kind.KeyType {
	case RSA:
		caps.Usages |= backend.UsageSign | backend.UsageVerify | backend.UsageEncrypt | backend.UsageDecrypt |
			backend.UsageWrap | backend.UsageUnwrap
		caps.Signatures = signatures([]backend.Scheme{backend.RSAPKCS1v15, backend.RSAPSS}, commonHashes, otherHashes)
		caps.UnhashedPKCS1v15 = true
		caps.OAEPHashes = slices.Clone(oaepHashes)
		caps.OAEPLabels = true
	case ECDSA:
		caps.Usages |= backend.UsageSign | backend.UsageVerify | backend.UsageDerive
		// The hash as strong as the curve comes first; TLS 1.3 takes no other (RFC 8446, Section 4.2.3).
		own := map[Curve]crypto.Hash{P256: crypto.SHA256, P384: crypto.SHA384, P521: crypto.SHA512}[e.kind.Curve]
		rest := slices.DeleteFunc(slices.Clone(commonHashes), func(h crypto.Hash) bool { return h == own })
		caps.Signatures = signatures([]backend.Scheme{backend.ECDSA}, []crypto.Hash{own}, rest, otherHashes)
	case Ed25519:
		caps.Usages |= backend.UsageSign | backend.UsageVerify
		caps.Signatures = []backend.SignatureAlgorithm{{Scheme: backend.Ed25519}, {Scheme: backend.Ed25519, Hash: crypto.SHA512}}
		caps.SignatureContexts = true
	case MLDSA:
		caps.Usages |= backend.UsageSign | backend.UsageVerify
		caps.Signatures = []backend.SignatureAlgorithm{{Scheme: backend.MLDSA}}
		caps.SignatureContexts = true
	case MLKEM:
		caps.Usages |= backend.UsageDerive
	case AES:
		caps.Usages |= backend.UsageEncrypt | backend.UsageDecrypt | backend.UsageWrap | backend.UsageUnwrap
	case HMAC:
		caps.Usages |= backend.UsageMAC
		caps.MACs = slices.Clone(hmacAlgorithms)
	}
	return caps
}

// signatures returns every scheme with every hash; earlier groups of hashes come before later ones with all schemes.
func signatures(schemes []backend.Scheme, groups ...[]crypto.Hash) []backend.SignatureAlgorithm {
	var algs []backend.SignatureAlgorithm
	for _, hashes := range groups {
		for _, s := range schemes {
			for _, h := range hashes {
				algs = append(algs, backend.SignatureAlgorithm{Scheme: s, Hash: h})
			}
		}
	}
	return algs
}
