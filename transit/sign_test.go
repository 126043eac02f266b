package transit

import (
	"cmp"
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/base64"
	"math/big"
	"strings"
	"testing"

	"filippo.io/mldsa"

	"github.com/managedkeys/managedkeys/backend"
	"github.com/managedkeys/managedkeys/managedkey"
	"github.com/managedkeys/managedkeys/namespace"
)

// Every kind of key signs with every option that it has; each signature is checked by the standard library.
func TestSignVerify(t *testing.T) {
	h := newHouse(t, "rsa", "p256", "p384", "p521", "ed25519", "mldsa")
	input := []byte("some input")
	digest := sha256.Sum256(input)
	digest512 := sha512.Sum512(input)
	rsaKey := func(pub crypto.PublicKey) *rsa.PublicKey { return pub.(*rsa.PublicKey) }
	for name, c := range map[string]struct {
		key     string
		request SignRequest
		check   func(pub crypto.PublicKey, signature []byte) bool
	}{
		"rsa default": {"rsa", SignRequest{Input: input}, func(pub crypto.PublicKey, s []byte) bool {
			return rsa.VerifyPSS(rsaKey(pub), crypto.SHA256, digest[:], s, &rsa.PSSOptions{SaltLength: 32}) == nil
		}},
		"rsa prehashed": {"rsa", SignRequest{Input: digest[:], Prehashed: true}, func(pub crypto.PublicKey, s []byte) bool {
			return rsa.VerifyPSS(rsaKey(pub), crypto.SHA256, digest[:], s, nil) == nil
		}},
		"rsa salt 0 is auto": {"rsa", SignRequest{Input: input, SaltLength: "0"}, func(pub crypto.PublicKey, s []byte) bool {
			return rsa.VerifyPSS(rsaKey(pub), crypto.SHA256, digest[:], s, &rsa.PSSOptions{SaltLength: 32}) == nil
		}},
		"rsa salt 222": {"rsa", SignRequest{Input: input, SaltLength: "222"}, func(pub crypto.PublicKey, s []byte) bool {
			return rsa.VerifyPSS(rsaKey(pub), crypto.SHA256, digest[:], s, &rsa.PSSOptions{SaltLength: 222}) == nil
		}},
		"rsa pss sha2-512": {"rsa", SignRequest{Input: input, HashAlgorithm: "sha2-512", SignatureAlgorithm: "pss", SaltLength: "hash"}, func(pub crypto.PublicKey, s []byte) bool {
			return rsa.VerifyPSS(rsaKey(pub), crypto.SHA512, digest512[:], s, &rsa.PSSOptions{SaltLength: 64}) == nil
		}},
		"rsa pkcs1v15": {"rsa", SignRequest{Input: input, SignatureAlgorithm: "pkcs1v15"}, func(pub crypto.PublicKey, s []byte) bool {
			return rsa.VerifyPKCS1v15(rsaKey(pub), crypto.SHA256, digest[:], s) == nil
		}},
		"rsa sha3": {"rsa", SignRequest{Input: input, HashAlgorithm: "sha3-256"}, nil},
		"rsa jws":  {"rsa", SignRequest{Input: input, Marshaling: "jws"}, nil},
		"empty":    {"rsa", SignRequest{}, nil},
		"p256": {"p256", SignRequest{Input: input}, func(pub crypto.PublicKey, s []byte) bool {
			return ecdsa.VerifyASN1(pub.(*ecdsa.PublicKey), digest[:], s)
		}},
		"p256 prehashed": {"p256", SignRequest{Input: digest[:], Prehashed: true, HashAlgorithm: "sha2-256"}, func(pub crypto.PublicKey, s []byte) bool {
			return ecdsa.VerifyASN1(pub.(*ecdsa.PublicKey), digest[:], s)
		}},
		"p384 sha2-512": {"p384", SignRequest{Input: input, HashAlgorithm: "sha2-512"}, func(pub crypto.PublicKey, s []byte) bool {
			return ecdsa.VerifyASN1(pub.(*ecdsa.PublicKey), digest512[:], s)
		}},
		"p521 jws": {"p521", SignRequest{Input: input, Marshaling: "jws"}, func(pub crypto.PublicKey, s []byte) bool {
			return len(s) == 132 && ecdsa.Verify(pub.(*ecdsa.PublicKey), digest[:], new(big.Int).SetBytes(s[:66]), new(big.Int).SetBytes(s[66:]))
		}},
		"ed25519": {"ed25519", SignRequest{Input: input}, func(pub crypto.PublicKey, s []byte) bool {
			return ed25519.Verify(pub.(ed25519.PublicKey), input, s)
		}},
		"ed25519 none": {"ed25519", SignRequest{Input: input, HashAlgorithm: "none"}, func(pub crypto.PublicKey, s []byte) bool {
			return ed25519.Verify(pub.(ed25519.PublicKey), input, s)
		}},
		"mldsa": {"mldsa", SignRequest{Input: input}, func(pub crypto.PublicKey, s []byte) bool {
			return mldsa.Verify(pub.(*mldsa.PublicKey), input, s, nil) == nil
		}},
	} {
		t.Run(name, func(t *testing.T) {
			ctx := t.Context()
			signature, err := h.engine.Sign(ctx, c.key, c.request)
			if err != nil {
				t.Fatal(err)
			}
			encoding := base64.StdEncoding
			if c.request.Marshaling == "jws" {
				encoding = base64.RawURLEncoding
			}
			raw, err := encoding.DecodeString(strings.TrimPrefix(signature, "vault:v1:"))
			if err != nil {
				t.Fatal(err)
			}
			info, err := h.engine.Key(c.key)
			if err != nil {
				t.Fatal(err)
			}
			if c.check != nil && !c.check(info.Versions[0].PublicKey, raw) {
				t.Error("the standard library does not verify the signature")
			}
			if ok, err := h.engine.Verify(ctx, c.key, signature, c.request); !ok || err != nil {
				t.Errorf("got %t, %v", ok, err)
			}
			other := c.request
			other.Input = append([]byte{0}, c.request.Input...)
			if c.request.Prehashed {
				other.Input = make([]byte, len(c.request.Input))
			}
			if ok, err := h.engine.Verify(ctx, c.key, signature, other); ok || err != nil {
				t.Errorf("another input: got %t, %v", ok, err)
			}
		})
	}
}

func TestSignRefused(t *testing.T) {
	h := newHouse(t, "rsa", "p256", "ed25519", "mldsa", "aes", "hmac")
	for name, c := range map[string]struct {
		key      string
		request  SignRequest
		sentinel error
		text     string
	}{
		"hash":                {"rsa", SignRequest{HashAlgorithm: "md5"}, backend.ErrInvalidParams, `invalid hash algorithm "md5"`},
		"hash in capitals":    {"rsa", SignRequest{HashAlgorithm: "SHA2-256"}, backend.ErrInvalidParams, `invalid hash algorithm "SHA2-256"; it takes sha1, sha2-224`},
		"marshaling":          {"rsa", SignRequest{Marshaling: "xml"}, backend.ErrInvalidParams, `invalid marshaling type "xml"`},
		"signature algorithm": {"rsa", SignRequest{SignatureAlgorithm: "xx"}, backend.ErrInvalidParams, `unsupported rsa signature algorithm "xx"`},
		"none":                {"rsa", SignRequest{HashAlgorithm: "none"}, backend.ErrInvalidParams, "hash_algorithm=none requires both prehashed=true and signature_algorithm=pkcs1v15"},
		"none, no pkcs1v15":   {"rsa", SignRequest{HashAlgorithm: "none", Prehashed: true}, backend.ErrInvalidParams, "hash_algorithm=none requires both"},
		"none, no prehashed":  {"rsa", SignRequest{HashAlgorithm: "none", SignatureAlgorithm: "pkcs1v15"}, backend.ErrInvalidParams, "hash_algorithm=none requires both"},
		"none, too long":      {"rsa", SignRequest{HashAlgorithm: "none", SignatureAlgorithm: "pkcs1v15", Prehashed: true, Input: make([]byte, 246)}, backend.ErrInvalidParams, "without a hash it takes at most 245"},
		"sha1":                {"rsa", SignRequest{HashAlgorithm: "sha1"}, backend.ErrUnsupported, "can't sign with RSA PSS with SHA-1; it takes"},
		"digest length":       {"rsa", SignRequest{Input: make([]byte, 20), Prehashed: true}, backend.ErrInvalidParams, "input must be hashed with given hash: got 20 bytes; SHA-256 has 32"},
		"ECDSA digest length": {"p256", SignRequest{Prehashed: true}, backend.ErrInvalidParams, "input must be hashed with given hash: got 0 bytes"},
		"salt text":           {"rsa", SignRequest{SaltLength: "x"}, backend.ErrInvalidParams, "salt length neither 'auto', 'hash', nor an int: \"x\""},
		"salt -3":             {"rsa", SignRequest{SaltLength: "-3"}, backend.ErrInvalidParams, "salt length is invalid: -3"},
		"salt 223":            {"rsa", SignRequest{SaltLength: "223"}, backend.ErrInvalidParams, "requested salt length 223 is invalid; it takes at most 222"},
		"salt of pkcs1v15":    {"rsa", SignRequest{SaltLength: "hash", SignatureAlgorithm: "pkcs1v15"}, backend.ErrInvalidParams, "only signature_algorithm=pss has a salt"},
		"ECDSA with pss":      {"p256", SignRequest{SignatureAlgorithm: "pss"}, backend.ErrInvalidParams, "they are for RSA keys; this one is ecdsa-p256"},
		"ECDSA with salt":     {"p256", SignRequest{SaltLength: "hash"}, backend.ErrInvalidParams, "they are for RSA keys"},
		"ECDSA none":          {"p256", SignRequest{HashAlgorithm: "none", Prehashed: true}, backend.ErrInvalidParams, "requires an RSA key"},
		"Ed25519 hash":        {"ed25519", SignRequest{HashAlgorithm: "sha2-512"}, backend.ErrUnsupported, "a key of type ed25519 signs the input itself"},
		"Ed25519 prehashed":   {"ed25519", SignRequest{Prehashed: true, HashAlgorithm: "sha2-256"}, backend.ErrUnsupported, "prehashed true"},
		"ML-DSA hash":         {"mldsa", SignRequest{HashAlgorithm: "sha2-512"}, backend.ErrUnsupported, "ml-dsa-65"},
		"aes":                 {"aes", SignRequest{}, backend.ErrUnsupported, "key type aes256-gcm96 does not support signing"},
		"hmac":                {"hmac", SignRequest{}, backend.ErrUnsupported, "key type hmac does not support signing"},
	} {
		t.Run(name, func(t *testing.T) {
			signature, err := h.engine.Sign(t.Context(), c.key, c.request)
			wantError(t, err, c.sentinel, c.text)
			if signature != "" {
				t.Errorf("got %s with the error", signature)
			}
		})
	}
	cancelled, cancel := context.WithCancel(t.Context())
	cancel()
	_, err := h.engine.Sign(cancelled, "p256", SignRequest{})
	wantError(t, err, context.Canceled)
	_, err = h.engine.Verify(cancelled, "p256", "vault:v1:MAYCAQECAQE=", SignRequest{})
	wantError(t, err, context.Canceled)
}

func TestVerifyMalformed(t *testing.T) {
	h := newHouse(t, "rsa", "p256", "ed25519", "aes")
	jws := func(n int) string { return "vault:v1:" + base64.RawURLEncoding.EncodeToString(make([]byte, n)) }
	for name, c := range map[string]struct {
		key, signature string
		request        SignRequest
		text           string // of the error; empty: no error, but not valid
	}{
		"no prefix":      {"p256", "AAAA", SignRequest{}, "invalid signature: no prefix"},
		"no version":     {"p256", "vault:vx:AAAA", SignRequest{}, "invalid signature: version number could not be decoded"},
		"base64":         {"p256", "vault:v1:A", SignRequest{}, "invalid base64 signature value"},
		"nothing":        {"p256", "vault:v1:", SignRequest{}, "invalid base64 signature value"},
		"url base64":     {"rsa", "vault:v1:-_-_", SignRequest{}, "invalid base64 signature value"},
		"std base64":     {"rsa", "vault:v1:AA==", SignRequest{Marshaling: "jws"}, "invalid base64 signature value"},
		"no ASN.1":       {"p256", "vault:v1:AAAA", SignRequest{}, "supplied signature is invalid"},
		"ASN.1 and more": {"p256", "vault:v1:MAYCAQECAQEA", SignRequest{}, "supplied signature is invalid"},
		"negative r":     {"p256", "vault:v1:MAYCAf8CAQE=", SignRequest{}, "supplied signature is invalid"},
		"zero s":         {"p256", "vault:v1:MAYCAQECAQA=", SignRequest{}, "supplied signature is invalid"},
		"short jws":      {"p256", jws(63), SignRequest{Marshaling: "jws"}, "supplied signature is invalid"},
		"zero jws":       {"p256", jws(64), SignRequest{Marshaling: "jws"}, "supplied signature is invalid"},
		"small r and s":  {"p256", "vault:v1:MAYCAQECAQE=", SignRequest{}, ""},
		"short rsa":      {"rsa", "vault:v1:AAAA", SignRequest{}, ""},
		"short ed25519":  {"ed25519", "vault:v1:AAAA", SignRequest{}, ""},
		"request":        {"rsa", "vault:v1:AAAA", SignRequest{HashAlgorithm: "md5"}, "invalid hash algorithm"},
	} {
		t.Run(name, func(t *testing.T) {
			ok, err := h.engine.Verify(t.Context(), c.key, c.signature, c.request)
			if ok {
				t.Error("it is valid")
			}
			if c.text != "" {
				wantError(t, err, backend.ErrInvalidParams, c.text)
			} else if err != nil {
				t.Errorf("got error %v; want false alone", err)
			}
		})
	}
	_, err := h.engine.Verify(t.Context(), "aes", "vault:v1:AAAA", SignRequest{})
	wantError(t, err, backend.ErrUnsupported, "does not support signing")
}

// What the key can't sign with is still verified here: SHA-1, and a digest without its name.
func TestVerifyBeyondTheKey(t *testing.T) {
	h := newHouse(t)
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	params := kinds["rsa"]
	params.KeyName = "imported"
	if _, err := h.software.Import(t.Context(), params, key, nil); err != nil {
		t.Fatal(err)
	}
	entry := managedkey.Entry{Ref: namespace.Ref{Name: "imported"}, Backend: h.software, Params: params, Usages: allUsages, AnyMount: true}
	if err := h.registry.Create(t.Context(), entry); err != nil {
		t.Fatal(err)
	}
	if err := h.engine.CreateKey(t.Context(), "k", KeyOptions{ManagedKey: "imported"}); err != nil {
		t.Fatal(err)
	}
	input := []byte("old")
	h1 := crypto.SHA1.New()
	h1.Write(input)
	for name, c := range map[string]struct {
		hash    crypto.Hash
		digest  []byte
		request SignRequest
	}{
		"sha1": {crypto.SHA1, h1.Sum(nil), SignRequest{Input: input, HashAlgorithm: "sha1", SignatureAlgorithm: "pkcs1v15"}},
		"none": {0, []byte("any text"), SignRequest{Input: []byte("any text"), HashAlgorithm: "none", SignatureAlgorithm: "pkcs1v15", Prehashed: true}},
	} {
		raw, err := rsa.SignPKCS1v15(nil, key, c.hash, c.digest)
		if err != nil {
			t.Fatal(err)
		}
		if ok, err := h.engine.Verify(t.Context(), "k", format(1, raw, base64.StdEncoding), c.request); !ok || err != nil {
			t.Errorf("%s: got %t, %v", name, ok, err)
		}
	}
}

// Defaults follow the key: what it prefers where it doesn't take SHA-256 or PSS.
func TestDefaultsFollowCapabilities(t *testing.T) {
	p384, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		public crypto.PublicKey
		caps   []backend.SignatureAlgorithm
		asked  string
		want   crypto.Hash
	}{
		"the only one":             {p384.Public(), []backend.SignatureAlgorithm{{Scheme: backend.ECDSA, Hash: crypto.SHA384}}, "", crypto.SHA384},
		"a named hash stays":       {p384.Public(), []backend.SignatureAlgorithm{{Scheme: backend.ECDSA, Hash: crypto.SHA384}}, "sha2-256", crypto.SHA256},
		"nothing is known":         {p384.Public(), nil, "", crypto.SHA256},
		"SHA-256 is preferred":     {p384.Public(), []backend.SignatureAlgorithm{{Scheme: backend.ECDSA, Hash: crypto.SHA512}, {Scheme: backend.ECDSA, Hash: crypto.SHA256}}, "", crypto.SHA256},
		"PKCS #1 v1.5 and SHA-512": {key.Public(), []backend.SignatureAlgorithm{{Scheme: backend.RSAPKCS1v15, Hash: crypto.SHA512}}, "", crypto.SHA512},
	} {
		rec := new(versionRecord)
		rec.prefer(c.public, backend.Capabilities{Signatures: c.caps})
		v := &version{public: c.public, scheme: cmp.Or(rec.Scheme, backend.RSAPSS), hash: cmp.Or(rec.Hash, crypto.SHA256)}
		s, err := (&SignRequest{HashAlgorithm: c.asked}).scheme(v)
		if err != nil || s.opts.HashFunc() != c.want {
			t.Errorf("%s: got %v, %v; want %v", name, s.opts, err, c.want)
		}
		if _, pss := s.opts.(*rsa.PSSOptions); pss {
			t.Errorf("%s: got PSS", name)
		}
	}
}
