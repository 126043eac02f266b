package fakegcp

import (
	"crypto"
	"crypto/elliptic"

	"cloud.google.com/go/kms/apiv1/kmspb"
	"filippo.io/mldsa"

	"github.com/managedkeys/managedkeys/backend"
)

// algorithm is what the fake knows of an algorithm of the service.
type algorithm struct {
	purpose kmspb.CryptoKey_CryptoKeyPurpose
	hash    crypto.Hash      // of the digest, of OAEP or of HMAC; 0 if the data is signed as it is
	bits    int              // of RSA and AES
	pss     bool             // RSASSA-PSS
	raw     bool             // RSASSA-PKCS1-v1_5 without DigestInfo
	curve   elliptic.Curve   // of ECDSA
	ed25519 bool             // Ed25519
	mldsa   mldsa.Parameters // of ML-DSA
	mu      bool             // ML-DSA of a digest that the caller computes
	kem     int              // 768 or 1024
}

type alg = kmspb.CryptoKeyVersion_CryptoKeyVersionAlgorithm

// algorithms are those that the fake has.
var algorithms = func() map[alg]algorithm {
	const (
		sign    = kmspb.CryptoKey_ASYMMETRIC_SIGN
		decrypt = kmspb.CryptoKey_ASYMMETRIC_DECRYPT
		mac     = kmspb.CryptoKey_MAC
		encrypt = kmspb.CryptoKey_ENCRYPT_DECRYPT
		raw     = kmspb.CryptoKey_RAW_ENCRYPT_DECRYPT
		kem     = kmspb.CryptoKey_KEY_ENCAPSULATION
	)
	return map[alg]algorithm{
		kmspb.CryptoKeyVersion_RSA_SIGN_PSS_2048_SHA256:   {purpose: sign, bits: 2048, hash: crypto.SHA256, pss: true},
		kmspb.CryptoKeyVersion_RSA_SIGN_PSS_3072_SHA256:   {purpose: sign, bits: 3072, hash: crypto.SHA256, pss: true},
		kmspb.CryptoKeyVersion_RSA_SIGN_PSS_4096_SHA256:   {purpose: sign, bits: 4096, hash: crypto.SHA256, pss: true},
		kmspb.CryptoKeyVersion_RSA_SIGN_PSS_4096_SHA512:   {purpose: sign, bits: 4096, hash: crypto.SHA512, pss: true},
		kmspb.CryptoKeyVersion_RSA_SIGN_PKCS1_2048_SHA256: {purpose: sign, bits: 2048, hash: crypto.SHA256},
		kmspb.CryptoKeyVersion_RSA_SIGN_PKCS1_3072_SHA256: {purpose: sign, bits: 3072, hash: crypto.SHA256},
		kmspb.CryptoKeyVersion_RSA_SIGN_PKCS1_4096_SHA256: {purpose: sign, bits: 4096, hash: crypto.SHA256},
		kmspb.CryptoKeyVersion_RSA_SIGN_PKCS1_4096_SHA512: {purpose: sign, bits: 4096, hash: crypto.SHA512},
		kmspb.CryptoKeyVersion_RSA_SIGN_RAW_PKCS1_2048:    {purpose: sign, bits: 2048, raw: true},
		kmspb.CryptoKeyVersion_RSA_SIGN_RAW_PKCS1_3072:    {purpose: sign, bits: 3072, raw: true},
		kmspb.CryptoKeyVersion_RSA_SIGN_RAW_PKCS1_4096:    {purpose: sign, bits: 4096, raw: true},

		kmspb.CryptoKeyVersion_RSA_DECRYPT_OAEP_2048_SHA256: {purpose: decrypt, bits: 2048, hash: crypto.SHA256},
		kmspb.CryptoKeyVersion_RSA_DECRYPT_OAEP_3072_SHA256: {purpose: decrypt, bits: 3072, hash: crypto.SHA256},
		kmspb.CryptoKeyVersion_RSA_DECRYPT_OAEP_4096_SHA256: {purpose: decrypt, bits: 4096, hash: crypto.SHA256},
		kmspb.CryptoKeyVersion_RSA_DECRYPT_OAEP_4096_SHA512: {purpose: decrypt, bits: 4096, hash: crypto.SHA512},
		kmspb.CryptoKeyVersion_RSA_DECRYPT_OAEP_2048_SHA1:   {purpose: decrypt, bits: 2048, hash: crypto.SHA1},
		kmspb.CryptoKeyVersion_RSA_DECRYPT_OAEP_3072_SHA1:   {purpose: decrypt, bits: 3072, hash: crypto.SHA1},
		kmspb.CryptoKeyVersion_RSA_DECRYPT_OAEP_4096_SHA1:   {purpose: decrypt, bits: 4096, hash: crypto.SHA1},

		kmspb.CryptoKeyVersion_EC_SIGN_P256_SHA256:      {purpose: sign, curve: elliptic.P256(), hash: crypto.SHA256},
		kmspb.CryptoKeyVersion_EC_SIGN_P384_SHA384:      {purpose: sign, curve: elliptic.P384(), hash: crypto.SHA384},
		kmspb.CryptoKeyVersion_EC_SIGN_SECP256K1_SHA256: {purpose: sign, curve: backend.Secp256k1(), hash: crypto.SHA256},
		kmspb.CryptoKeyVersion_EC_SIGN_ED25519:          {purpose: sign, ed25519: true},

		kmspb.CryptoKeyVersion_PQ_SIGN_ML_DSA_44:             {purpose: sign, mldsa: mldsa.MLDSA44()},
		kmspb.CryptoKeyVersion_PQ_SIGN_ML_DSA_65:             {purpose: sign, mldsa: mldsa.MLDSA65()},
		kmspb.CryptoKeyVersion_PQ_SIGN_ML_DSA_87:             {purpose: sign, mldsa: mldsa.MLDSA87()},
		kmspb.CryptoKeyVersion_PQ_SIGN_ML_DSA_44_EXTERNAL_MU: {purpose: sign, mldsa: mldsa.MLDSA44(), mu: true},
		kmspb.CryptoKeyVersion_PQ_SIGN_ML_DSA_65_EXTERNAL_MU: {purpose: sign, mldsa: mldsa.MLDSA65(), mu: true},
		kmspb.CryptoKeyVersion_PQ_SIGN_ML_DSA_87_EXTERNAL_MU: {purpose: sign, mldsa: mldsa.MLDSA87(), mu: true},

		kmspb.CryptoKeyVersion_HMAC_SHA1:   {purpose: mac, hash: crypto.SHA1},
		kmspb.CryptoKeyVersion_HMAC_SHA224: {purpose: mac, hash: crypto.SHA224},
		kmspb.CryptoKeyVersion_HMAC_SHA256: {purpose: mac, hash: crypto.SHA256},
		kmspb.CryptoKeyVersion_HMAC_SHA384: {purpose: mac, hash: crypto.SHA384},
		kmspb.CryptoKeyVersion_HMAC_SHA512: {purpose: mac, hash: crypto.SHA512},

		kmspb.CryptoKeyVersion_GOOGLE_SYMMETRIC_ENCRYPTION:   {purpose: encrypt, bits: 256},
		kmspb.CryptoKeyVersion_EXTERNAL_SYMMETRIC_ENCRYPTION: {purpose: encrypt, bits: 256},
		kmspb.CryptoKeyVersion_AES_128_GCM:                   {purpose: raw, bits: 128},
		kmspb.CryptoKeyVersion_AES_256_GCM:                   {purpose: raw, bits: 256},
		kmspb.CryptoKeyVersion_AES_256_CBC:                   {purpose: raw, bits: 256},

		kmspb.CryptoKeyVersion_ML_KEM_768:  {purpose: kem, kem: 768},
		kmspb.CryptoKeyVersion_ML_KEM_1024: {purpose: kem, kem: 1024},

		// Only so that there is a key that a client can't use.
		kmspb.CryptoKeyVersion_PQ_SIGN_SLH_DSA_SHA2_128S: {purpose: sign},
	}
}()

// asymmetric reports whether keys of the algorithm have a public key.
func (a algorithm) asymmetric() bool {
	switch a.purpose {
	case kmspb.CryptoKey_ASYMMETRIC_SIGN, kmspb.CryptoKey_ASYMMETRIC_DECRYPT, kmspb.CryptoKey_KEY_ENCAPSULATION:
		return true
	}
	return false
}

// has reports whether the public key of such a key comes in the format. Where there is none by default, a request must
// name one.
func (a algorithm) has(format kmspb.PublicKey_PublicKeyFormat) bool {
	classical := a.bits > 0 || a.curve != nil || a.ed25519
	switch format {
	case kmspb.PublicKey_PUBLIC_KEY_FORMAT_UNSPECIFIED:
		return classical
	case kmspb.PublicKey_PEM, kmspb.PublicKey_DER:
		return classical || a.mldsa != (mldsa.Parameters{})
	case kmspb.PublicKey_NIST_PQC:
		return !classical
	}
	return false
}
