package pkcs11

import (
	"crypto"
	"encoding/asn1"
	"fmt"

	"github.com/managedkeys/managedkeys/backend"
)

// hashAlgorithm is how PKCS#11 and DigestInfo name a hash.
type hashAlgorithm struct {
	mechanism, mgf uint   // CKM_… and CKG_MGF1_… (PKCS #11 Specification Version 3.1, Section 6.1.5); mgf 0: there is none
	prefix         []byte // of DigestInfo (RFC 8017, Section 9.2)
}

// hashAlgorithms are the hashes of RSA signatures and encryption.
var hashAlgorithms = map[crypto.Hash]hashAlgorithm{
	crypto.SHA1:       newHash(0x220, 1, 20, 1, 3, 14, 3, 2, 26),
	crypto.SHA224:     newHash(0x255, 5, 28, nist(4)...),
	crypto.SHA256:     newHash(0x250, 2, 32, nist(1)...),
	crypto.SHA384:     newHash(0x260, 3, 48, nist(2)...),
	crypto.SHA512:     newHash(0x270, 4, 64, nist(3)...),
	crypto.SHA512_256: newHash(0x04C, 0, 32, nist(6)...),
	crypto.SHA3_224:   newHash(0x2B5, 6, 28, nist(7)...),
	crypto.SHA3_256:   newHash(0x2B0, 7, 32, nist(8)...),
	crypto.SHA3_384:   newHash(0x2C0, 8, 48, nist(9)...),
	crypto.SHA3_512:   newHash(0x2D0, 9, 64, nist(10)...),
}

// nist returns the object identifier of a hash under id-hashAlgs of NIST.
func nist(last int) []int { return []int{2, 16, 840, 1, 101, 3, 4, 2, last} }

func newHash(mechanism, mgf uint, size int, oid ...int) hashAlgorithm {
	type algorithm struct {
		OID  asn1.ObjectIdentifier
		Null asn1.RawValue
	}
	der, err := asn1.Marshal(struct {
		Algorithm algorithm
		Digest    []byte
	}{algorithm{oid, asn1.NullRawValue}, make([]byte, size)})
	if err != nil {
		panic(fmt.Sprintf("pkcs11: DigestInfo of a constant: %v", err))
	}
	return hashAlgorithm{mechanism, mgf, der[:len(der)-size]}
}

// pkcs1Hashes are the hashes of PKCS#1 v1.5 signatures, the preferred one first. DigestInfo is built here, so the token
// need not know the hash.
var pkcs1Hashes = []crypto.Hash{
	crypto.SHA256, crypto.SHA384, crypto.SHA512, crypto.SHA224, crypto.SHA512_256,
	crypto.SHA3_256, crypto.SHA3_384, crypto.SHA3_512, crypto.SHA3_224,
}

// ecdsaHashes are the hashes whose digests ECDSA signs. CKM_ECDSA takes a digest whatever made it.
var ecdsaHashes = pkcs1Hashes

// pssHashes are the hashes that are tried with PSS, the preferred one first.
var pssHashes = []crypto.Hash{
	crypto.SHA256, crypto.SHA384, crypto.SHA512, crypto.SHA224, crypto.SHA3_256, crypto.SHA3_384, crypto.SHA3_512, crypto.SHA3_224,
}

// oaepHashes are the hashes that are tried with OAEP, the preferred one first. SHA-1 is safe here, and all that some
// tokens do.
var oaepHashes = []crypto.Hash{crypto.SHA256, crypto.SHA384, crypto.SHA512, crypto.SHA224, crypto.SHA1}

// macMechanisms are the mechanisms of message authentication.
var macMechanisms = map[Mechanism]backend.MACAlgorithm{
	0x0221: backend.HMACSHA1,
	0x0256: backend.HMACSHA224,
	0x0251: backend.HMACSHA256,
	0x0261: backend.HMACSHA384,
	0x0271: backend.HMACSHA512,
	0x02B6: backend.HMACSHA3_224,
	0x02B1: backend.HMACSHA3_256,
	0x02C1: backend.HMACSHA3_384,
	0x02D1: backend.HMACSHA3_512,
}

// macOrder is the order of preference.
var macOrder = []Mechanism{SHA256HMAC, 0x0261, 0x0271, 0x0256, 0x02B1, 0x02C1, 0x02D1, 0x02B6, 0x0221}

// macByAlgorithm is the inverse of macMechanisms, with CMAC.
var macByAlgorithm = func() map[backend.MACAlgorithm]Mechanism {
	inverse := map[backend.MACAlgorithm]Mechanism{backend.AESCMAC: AESCMAC}
	for m, alg := range macMechanisms {
		inverse[alg] = m
	}
	return inverse
}()

// Sizes of results in bytes.
const (
	gcmNonce = 12 // SP 800-38D, Section 8.2.2
	gcmTag   = 16
	macSize  = 64 // of the longest; a token writes what it has
)
