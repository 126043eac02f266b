package backendtest

import (
	"crypto"
	"crypto/x509"
	"testing"

	"github.com/managedkeys/managedkeys/backend"
)

// Config tells the suite how to reach a key manager and, as data, what it can and can't do. What is not declared must be
// refused, so that a limit that was lifted is seen as well as one that was broken.
type Config struct {
	// New returns a client of the key manager; each call another one, all of the same key manager. The suite closes it.
	New func(tb testing.TB) backend.Backend

	// Keys are keys that exist before the suite starts. There must be at least one. The suite doesn't change them.
	Keys []Key

	// Absent describes a key that doesn't exist and stays so. It is required.
	Absent backend.Params

	// Ambiguous describes more than one key. It is nil if the key manager can't hold two keys that match.
	Ambiguous backend.Params

	// Generate are keys that the suite makes, each with parameters that no key matches yet. They are not removed.
	// Empty if the backend is no backend.Generator.
	Generate []Generate

	// Import are private keys that the suite imports. They are not removed. Empty if the backend can't import: it is no
	// backend.Importer, or it refuses every key with backend.ErrUnsupported.
	Import []Import

	// Invalid are parameters that Open must refuse with backend.ErrInvalidParams, by name. There must be at least one.
	Invalid map[string]backend.Params

	// Secrets are texts, such as the PIN, that must not appear in any error or formatted value. Each has at least 4
	// bytes; choose some that can't appear by chance, as "1234" does in many an identifier.
	Secrets []string
}

// Key is one existing key and everything that it can do.
type Key struct {
	Name      string         // of the subtest
	Params    backend.Params // of the key
	Algorithm string         // what backend.Capabilities.Algorithm says

	// Signs are the certificate signature algorithms, in any order. ML-DSA is left out: where crypto/x509 has it, the
	// suite expects it of every ML-DSA key.
	Signs []x509.SignatureAlgorithm
	// Digests are the hashes with which digests can be signed with each scheme that Signs implies, beyond those of Signs
	// (SHA-1, SHA-224, SHA-3 …).
	Digests []crypto.Hash
	// Schemes are signature schemes that Digests apply to as well, for keys with which no certificate can be signed, such
	// as ECDSA on secp256k1: Signs implies none there, and Digests are all that they sign.
	Schemes []backend.Scheme
	// PKCS1Digests are hashes like Digests that only RSASSA-PKCS1-v1_5 takes: where the key manager pads and doesn't ask
	// what made a digest.
	PKCS1Digests []crypto.Hash
	// SaltEqualsHash: RSASSA-PSS only with a salt as long as the hash.
	SaltEqualsHash bool
	// SignatureContexts: Ed25519 and ML-DSA take a context string.
	SignatureContexts bool

	OAEP       []crypto.Hash // hashes of RSAES-OAEP; empty: the key doesn't decrypt with it
	OAEPLabels bool

	Agrees bool // on secrets with peers on its curve; if false, the key must be no ecdh.KeyExchanger

	Decapsulates bool // is of ML-KEM; if false, the key must be no crypto.Decapsulator

	AEAD bool
	// OwnCiphertexts: those of AEAD have a form of the key manager's own, and don't begin with a nonce.
	OwnCiphertexts bool
	MACs           []backend.MACAlgorithm
	Wraps          bool
	Random         bool
}

// Generate is a key to be made.
type Generate struct {
	Name      string
	Params    backend.Params
	Algorithm string
	// Replaces: making it again with GenerateOptions.Replace gives another key under the same parameters. If false,
	// that must fail with backend.ErrUnsupported and leave the first key as it was.
	Replaces bool
}

// Import is a key to be imported.
type Import struct {
	Name     string
	Params   backend.Params // that no key matches yet
	Material any            // as backend.Importer takes it
	// Replaces: as for Generate, with another key of the same kind that the suite makes and backend.ImportOptions.
	Replaces bool
}
