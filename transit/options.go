package transit

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rsa"
	_ "crypto/sha1" // every hash that has a name here must be computable
	_ "crypto/sha256"
	_ "crypto/sha3"
	_ "crypto/sha512"
	"encoding/base64"
	"slices"
	"strconv"
	"strings"

	"filippo.io/mldsa"

	"github.com/managedkeys/managedkeys/backend"
)

// hashes are the hash algorithms by their names in the HTTP API.
var hashes = map[string]crypto.Hash{
	"sha1":     crypto.SHA1,
	"sha2-224": crypto.SHA224, "sha2-256": crypto.SHA256, "sha2-384": crypto.SHA384, "sha2-512": crypto.SHA512,
	"sha3-224": crypto.SHA3_224, "sha3-256": crypto.SHA3_256, "sha3-384": crypto.SHA3_384, "sha3-512": crypto.SHA3_512,
}

const hashNames = "sha1, sha2-224, sha2-256, sha2-384, sha2-512, sha3-224, sha3-256, sha3-384, sha3-512"

// Values of SignRequest, in the words of the HTTP API.
const (
	HashNone = "none" // HashAlgorithm: the input is signed as it is

	SignaturePSS      = "pss"      // SignatureAlgorithm: RSASSA-PSS (RFC 8017, Section 8.1)
	SignaturePKCS1v15 = "pkcs1v15" // SignatureAlgorithm: RSASSA-PKCS1-v1_5 (RFC 8017, Section 8.2)

	MarshalingASN1 = "asn1" // Marshaling: ECDSA in ASN.1 DER, padded base64
	MarshalingJWS  = "jws"  // Marshaling: ECDSA as r ‖ s (RFC 7518, Section 3.4), base64url without padding
)

// scheme is a SignRequest as the packages of crypto take it.
type scheme struct {
	opts     crypto.SignerOpts
	hash     crypto.Hash // of the input; 0 if the input is signed as it is
	jws      bool
	encoding *base64.Encoding
}

// scheme checks r for a version and fills in what r leaves open.
func (r *SignRequest) scheme(v *version) (scheme, error) {
	s := scheme{encoding: base64.StdEncoding}
	switch r.Marshaling {
	case "", MarshalingASN1:
	case MarshalingJWS:
		s.jws, s.encoding = true, base64.RawURLEncoding
	default:
		return s, invalid("invalid marshaling type %.40q; it takes asn1 and jws", r.Marshaling)
	}
	if _, ok := hashes[r.HashAlgorithm]; !ok && r.HashAlgorithm != "" && r.HashAlgorithm != HashNone {
		return s, invalid("invalid hash algorithm %.40q; it takes %s and none", r.HashAlgorithm, hashNames)
	}
	var err error
	switch v.public.(type) {
	case *rsa.PublicKey:
		err = s.rsa(r, v)
	case *ecdsa.PublicKey:
		err = s.ecdsa(r, v)
	case ed25519.PublicKey, *mldsa.PublicKey:
		err = s.message(r, v)
	default:
		if v.kind != TypeEd25519 { // a derived key has no public key of its own
			return s, unsupported("key type %s does not support signing", v.kind)
		}
		err = s.message(r, v)
	}
	if err == nil && r.Prehashed && s.hash != 0 && len(r.Input) != s.hash.Size() {
		return s, invalid("prehashed input must be hashed with given hash: got %d bytes; %v has %d", len(r.Input), s.hash, s.hash.Size())
	}
	return s, err
}

func (s *scheme) rsa(r *SignRequest, v *version) error {
	kind := v.scheme
	switch r.SignatureAlgorithm {
	case "":
	case SignaturePSS:
		kind = backend.RSAPSS
	case SignaturePKCS1v15:
		kind = backend.RSAPKCS1v15
	default:
		return invalid("unsupported rsa signature algorithm %.40q; it takes pss and pkcs1v15", r.SignatureAlgorithm)
	}
	if r.SignatureContext != "" {
		return invalid("signature context of %d bytes: a key of type %s takes none", len(r.SignatureContext), v.kind)
	}
	if r.HashAlgorithm == HashNone {
		if !r.Prehashed || r.SignatureAlgorithm != SignaturePKCS1v15 {
			return invalid("hash_algorithm=none requires both prehashed=true and signature_algorithm=pkcs1v15")
		}
	} else {
		s.hash = v.hashFor(r.HashAlgorithm, kind)
	}
	salt, err := parseSalt(r.SaltLength)
	switch {
	case err != nil:
		return err
	case kind == backend.RSAPKCS1v15 && r.SaltLength != "":
		return invalid("salt length %.40q: only signature_algorithm=pss has a salt", r.SaltLength)
	case kind == backend.RSAPKCS1v15:
		s.opts = s.hash
		return nil
	}
	// RFC 8017, Section 9.1.1: emLen >= hLen + sLen + 2, with emBits = modBits - 1.
	if longest := (v.public.(*rsa.PublicKey).N.BitLen()-1+7)/8 - s.hash.Size() - 2; salt > longest {
		return invalid("requested salt length %d is invalid; it takes at most %d", salt, longest)
	}
	s.opts = &rsa.PSSOptions{SaltLength: salt, Hash: s.hash}
	return nil
}

func (s *scheme) ecdsa(r *SignRequest, v *version) error {
	if r.HashAlgorithm == HashNone {
		return invalid("hash_algorithm=none requires an RSA key; this one is %s", v.kind)
	}
	if err := r.onlyRSA(v); err != nil {
		return err
	}
	if r.SignatureContext != "" {
		return invalid("signature context of %d bytes: a key of type %s takes none", len(r.SignatureContext), v.kind)
	}
	s.hash = v.hashFor(r.HashAlgorithm, backend.ECDSA)
	s.opts = s.hash
	return nil
}

// message is for schemes that sign the message itself: a hash of it would be another message.
func (s *scheme) message(r *SignRequest, v *version) error {
	if err := r.onlyRSA(v); err != nil {
		return err
	}
	_, ml := v.public.(*mldsa.PublicKey)
	switch {
	case !ml && r.Prehashed && (r.HashAlgorithm == "" || hashes[r.HashAlgorithm] == crypto.SHA512):
		s.hash = crypto.SHA512
	case r.Prehashed || r.HashAlgorithm != "" && r.HashAlgorithm != HashNone:
		return unsupported("hash algorithm %.40q, prehashed %t: a key of type %s signs the input itself, or if it is %s a digest by sha2-512", r.HashAlgorithm, r.Prehashed, v.kind, TypeEd25519)
	}
	switch {
	case len(r.SignatureContext) > maxSignatureContext:
		return invalid("signature context of %d bytes; it takes at most %d", len(r.SignatureContext), maxSignatureContext)
	case ml && r.SignatureContext != "":
		s.opts = &mldsa.Options{Context: r.SignatureContext}
	case s.hash != 0 || r.SignatureContext != "":
		s.opts = &ed25519.Options{Hash: s.hash, Context: r.SignatureContext}
	default:
		s.opts = crypto.Hash(0)
	}
	return nil
}

// maxSignatureContext is the length of the longest context string, in bytes.
const maxSignatureContext = 255

// onlyRSA refuses what would be ignored.
func (r *SignRequest) onlyRSA(v *version) error {
	if r.SignatureAlgorithm != "" || r.SaltLength != "" {
		return invalid("signature algorithm %.40q, salt length %.40q: they are for RSA keys; this one is %s",
			r.SignatureAlgorithm, r.SaltLength, v.kind)
	}
	return nil
}

// hashFor returns the hash of that name; for an empty name SHA-256, or what the key prefers if it doesn't take that.
func (v *version) hashFor(name string, kind backend.Scheme) crypto.Hash {
	switch {
	case name != "":
		return hashes[name]
	case kind == v.scheme || kind == backend.ECDSA:
		return v.hash
	}
	return crypto.SHA256
}

// prefer fills in what a request means that leaves scheme and hash open, if the key can't do what it means otherwise: RSASSA-PSS
// and SHA-256. It stays what it was when the version was made, so that a signature is verified with what it was made with.
func (r *versionRecord) prefer(public crypto.PublicKey, caps backend.Capabilities) {
	if len(caps.Signatures) == 0 {
		return
	}
	kind := backend.RSAPSS
	if _, ok := public.(*ecdsa.PublicKey); ok {
		kind = backend.ECDSA
	}
	is := func(a backend.SignatureAlgorithm) bool { return a.Scheme == kind && a.Hash != 0 }
	if _, ok := public.(*rsa.PublicKey); ok && !slices.ContainsFunc(caps.Signatures, is) {
		kind, r.Scheme = backend.RSAPKCS1v15, backend.RSAPKCS1v15
	}
	if _, ok := caps.Signature(kind, crypto.SHA256); ok {
		return
	}
	if i := slices.IndexFunc(caps.Signatures, is); i >= 0 {
		r.Hash = caps.Signatures[i].Hash
	}
}

// parseSalt reads a salt length: "auto" (and "", "0"), "hash" (and "-1"), or a number of bytes.
func parseSalt(text string) (int, error) {
	switch strings.ToLower(text) {
	case "", "auto":
		return rsa.PSSSaltLengthAuto, nil
	case "hash":
		return rsa.PSSSaltLengthEqualsHash, nil
	}
	n, err := strconv.Atoi(text)
	switch {
	case err != nil:
		return 0, invalid("salt length neither 'auto', 'hash', nor an int: %.40q", text)
	case n < rsa.PSSSaltLengthEqualsHash:
		return 0, invalid("salt length is invalid: %d", n)
	}
	return n, nil
}
