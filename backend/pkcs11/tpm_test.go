package pkcs11

import (
	"context"
	"crypto"
	"errors"
	"iter"
	"testing"

	"github.com/managedkeys/managedkeys/backend"
	"github.com/managedkeys/managedkeys/backend/backendtest"
	"github.com/managedkeys/managedkeys/internal/swtpm"
)

// onTPM returns parameters of a key on token, whose id is its label.
func onTPM(token *swtpm.Token, label string, m Mechanism) Params {
	return Params{Library: "tpm", TokenLabel: token.Label, PIN: backend.Secret(token.PIN), KeyLabel: label, Mechanism: m}
}

// keyUser is a backend without what makes keys. Import is nothing that tpm2-pkcs11 has. Generate is left to TestGenerateOnTPM,
// since the suite replaces keys: one that is removed while the TPM holds it takes its room for good, unless a resource manager
// stands between, which the software TPM has not.
type keyUser struct {
	backend.Backend
	b *Backend
}

// tpmStanza returns what it takes to make keys: those of tpm2-pkcs11 both sign and decrypt, and it refuses to be told that
// they don't.
func tpmStanza(token *swtpm.Token) Library {
	return Library{Name: "tpm", Path: token.Module,
		PublicKeyAttributes:  []Attribute{{attrVerify, nil}, {attrEncrypt, nil}},
		PrivateKeyAttributes: []Attribute{{attrSign, nil}, {attrDecrypt, nil}}}
}

func (u keyUser) Ping(ctx context.Context) error { return u.b.Ping(ctx) }

func (u keyUser) List(ctx context.Context, scope backend.Params) iter.Seq2[backend.KeyInfo, error] {
	return u.b.List(ctx, scope)
}

// tpmKey is a key that tpm2_ptool makes, and what tpm2-pkcs11 1.8 does with it.
type tpmKey struct {
	algorithm string // tpm2_ptool's
	mechanism Mechanism
	backendtest.Key
}

// What is missing is so because of the module or the TPM: PSS (the module pads by itself and knows CKM_RSA_PKCS only), OAEP
// labels, digests of 28 bytes for ECDSA, AES-GCM, CMAC, key agreement and Ed25519. HMACs take 4,096 bytes at most, which the key
// says in Capabilities.MaxMessage. RSA-3072 and P-384 are left out because the software TPM takes up to 30 s to make one.
var (
	tpmRSA = tpmKey{"rsa2048", RSAPKCS, backendtest.Key{Name: "RSA", Algorithm: "RSA-2048", Signs: signsPKCS1,
		PKCS1Digests: append([]crypto.Hash{crypto.SHA224}, pkcs1Hashes[4:]...),
		OAEP:         []crypto.Hash{crypto.SHA1, crypto.SHA256, crypto.SHA384, crypto.SHA512}, Wraps: true, Random: true}}
	tpmP256 = tpmKey{"ecc256", ECDSA, backendtest.Key{Name: "P256", Algorithm: "ECDSA P-256", Signs: signsECDSA,
		Digests: []crypto.Hash{crypto.SHA512_256, crypto.SHA3_256, crypto.SHA3_384, crypto.SHA3_512}, Random: true}}
	tpmHMAC = tpmKey{"hmac:sha256", SHA256HMAC, backendtest.Key{Name: "HMAC", Algorithm: "HMAC",
		MACs: []backend.MACAlgorithm{backend.HMACSHA256}, Random: true}}
)

// TestConformanceOnTPM: a TPM is a small device, which has room for two keys at a time. Each part has a token of its own
// with as many.
func TestConformanceOnTPM(t *testing.T) {
	for name, keys := range map[string][]tpmKey{"RSA": {tpmRSA}, "P256AndHMAC": {tpmP256, tpmHMAC}} {
		t.Run(name, func(t *testing.T) {
			token := swtpm.Require(t)
			cfg := backendtest.Config{
				New: func(tb testing.TB) backend.Backend {
					b, err := New(tpmStanza(token))
					if err != nil {
						tb.Fatal(err)
					}
					return keyUser{b, b}
				},
				Absent:  onTPM(token, "absent", ECDSA),
				Invalid: map[string]backend.Params{"no PIN": Params{Library: "tpm", TokenLabel: token.Label, KeyLabel: "x", Mechanism: ECDSA}},
				Secrets: []string{token.PIN, token.SOPIN},
			}
			for _, k := range keys {
				token.AddKey(t, k.algorithm, k.Name, k.Name)
				k.Params = onTPM(token, k.Name, k.mechanism)
				cfg.Keys = append(cfg.Keys, k.Key)
			}
			backendtest.Run(t, cfg)
		})
	}
}

// TestGenerateOnTPM: what the stanza leaves to the token is as the token wants it, and the keys are secret.
func TestGenerateOnTPM(t *testing.T) {
	for _, p := range []Params{{Mechanism: ECDSA, Curve: "P256"}, {Mechanism: RSAPKCS, KeyBits: 2048}, {Mechanism: RSAPKCSOAEP, KeyBits: 2048}} {
		t.Run(p.Mechanism.String(), func(t *testing.T) {
			token := swtpm.Require(t)
			lib := tpmStanza(token)
			b := connectWith(t, lib)
			where := onTPM(token, "key", p.Mechanism)
			p.Library, p.TokenLabel, p.PIN, p.KeyLabel = "soft", where.TokenLabel, where.PIN, where.KeyLabel
			key := mustGenerate(t, b, p)
			_, err := b.Generate(t.Context(), p, nil)
			wants(t, err, backend.ErrKeyExists)
			if again := mustOpen(t, b, p); !same(again.Public(), key.Public()) {
				t.Error("opening gives another key")
			}
			if _, ok := key.(backend.Signer); !ok {
				t.Error("the key doesn't sign")
			} else {
				signsWell(t, key)
			}
			if p.Mechanism.is(keyRSA) {
				ciphertext := encryptOAEP(t, key)
				if got, err := key.(backend.Decrypter).DecryptContext(t.Context(), ciphertext, oaepSHA1); err != nil || string(got) != "message" {
					t.Errorf("decrypted %q, error %v", got, err)
				}
			}
			for a, want := range map[uint]bool{attrPrivate: true, attrSensitive: true, attrAlwaysSensitive: true, attrExtractable: false, attrNeverExtractable: true,
				attrSign: true, attrDecrypt: true, attrUnwrap: false, attrDerive: false} {
				if got := attributesOf(t, b, p, classPrivate, a)[a]; isTrue(got) != want {
					t.Errorf("attribute 0x%x is %x, want %t", a, got, want)
				}
			}
		})
	}
}

// TestThreeKeysOnTPM: more keys than the TPM has room for take turns, at the price of logins, which are rare.
func TestThreeKeysOnTPM(t *testing.T) {
	token := swtpm.Require(t)
	b := connectWith(t, Library{Path: token.Module})
	var keys []backend.Key
	for _, label := range []string{"a", "b", "c"} {
		token.AddKey(t, "ecc256", label, label)
	}
	for _, label := range []string{"a", "b", "c"} {
		p := onTPM(token, label, ECDSA)
		p.Library = "soft"
		awaits(t, "opening "+label, func() error {
			key, err := b.Open(t.Context(), p)
			if err == nil {
				keys = append(keys, key)
			}
			return err
		})
	}
	for n := range 6 {
		took := awaits(t, "signing", func() error {
			err := signOnce(t.Context(), keys[n%len(keys)])
			if err != nil && !errors.Is(err, backend.ErrUnavailable) {
				t.Fatal(err)
			}
			return err
		})
		t.Logf("key %d signed after %v", n%len(keys), took)
	}
}
