package transit

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/sha512"
	"encoding/base64"
	"encoding/hex"
	"strings"
	"testing"
)

func unhex(tb testing.TB, text string) []byte {
	tb.Helper()
	b, err := hex.DecodeString(text)
	if err != nil {
		tb.Fatal(err)
	}
	return b
}

// Published test vectors of AEADs: nonce, associated data, plaintext and ciphertext ‖ tag. Their keys are imported, and their
// ciphertexts decrypted.
func TestVectorsAEAD(t *testing.T) {
	h := newSoftHouse(t)
	for key, c := range map[string]struct{ kind, key, nonce, data, plaintext, ciphertext string }{
		"gcm-14": { // the GCM specification, Appendix B
			TypeAES256, strings.Repeat("00", 32), strings.Repeat("00", 12), "", strings.Repeat("00", 16),
			"cea7403d4d606b6e074ec5d3baf39d18d0d1c8a799996bf0265b98b5d48ab919",
		},
		"gcm-2": {
			TypeAES128, strings.Repeat("00", 16), strings.Repeat("00", 12), "", strings.Repeat("00", 16),
			"0388dace60b6a392f328c2b971b2fe78ab6e47d42cec13bdf53a67b21257bddf",
		},
		"rfc8439": { // Section 2.8.2
			TypeChaCha20Poly1305, "808182838485868788898a8b8c8d8e8f909192939495969798999a9b9c9d9e9f", "070000004041424344454647", "50515253c0c1c2c3c4c5c6c7",
			hex.EncodeToString([]byte("Ladies and Gentlemen of the class of '99: If I could offer you only one tip for the future, sunscreen would be it.")),
			"d31a8d34648e60db7b86afbc53ef7ec2a4aded51296e08fea9e2b5a736ee62d63dbea45e8ca9671282fafb69da92728b1a71de0a9e060b2905d6a5b67ecd3b36" +
				"92ddbd7f2d778b8c9803aee328091b58fab324e4fad675945585808b4831d7bc3ff4def08e4b7a9de576d26586cec64b61161ae10b594f09e26a7e902ecbd0600691",
		},
	} {
		fatal(t, h.engine.ImportKey(t.Context(), key, Import{Ciphertext: wrapped(t, h.engine, crypto.SHA256, unhex(t, c.key))}, KeyOptions{Type: c.kind}, false))
		text := format(1, append(unhex(t, c.nonce), unhex(t, c.ciphertext)...), base64.StdEncoding)
		got, err := h.engine.Decrypt(t.Context(), key, DecryptRequest{Ciphertext: text, AssociatedData: unhex(t, c.data)})
		if err != nil || !bytes.Equal(got, unhex(t, c.plaintext)) {
			t.Errorf("%s: got %x, %v", key, got, err)
		}
	}
}

// RFC 8032, Section 7: TEST 2 of Ed25519, the first of Ed25519ctx, and that of Ed25519ph.
func TestVectorsEd25519(t *testing.T) {
	h := newSoftHouse(t)
	sum := sha512.Sum512([]byte("abc"))
	for name, c := range map[string]struct {
		seed      string
		request   SignRequest
		signature string
	}{
		"ed25519": {
			"4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb", SignRequest{Input: []byte{0x72}},
			"92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da085ac1e43e15996e458f3613d0f11d8c387b2eaeb4302aeeb00d291612bb0c00",
		},
		"ed25519ctx": {
			"0305334e381af78f141cb666f6199f57bc3495335a256a95bd2a55bf546663f6",
			SignRequest{Input: unhex(t, "f726936d19c800494e3fdaff20b276a8"), SignatureContext: "foo"},
			"55a4cc2f70a54e04288c5f4cd1e45a7bb520b36292911876cada7323198dd87a8b36950b95130022907a7fb7c4e9b2d5f6cca685a587b4b21f4b888e4e7edb0d",
		},
		"ed25519ph": {
			"833fe62409237b9d62ec77587520911e9a759cec1d19755b7da901b96dca3d42", SignRequest{Input: sum[:], Prehashed: true},
			"98a70222f0b8121aa9d30f813d683f809e462b469c7ff87639499bb94e6dae4131f85042463c2a355a2003d062adf5aaa10b8c61e636062aaad11c2a26083406",
		},
	} {
		key := ed25519.NewKeyFromSeed(unhex(t, c.seed))
		fatal(t, h.engine.ImportKey(t.Context(), name, Import{Ciphertext: wrapped(t, h.engine, crypto.SHA256, key)}, KeyOptions{Type: TypeEd25519}, false))
		want := format(1, unhex(t, c.signature), base64.StdEncoding)
		if got, err := h.engine.Sign(t.Context(), name, c.request); err != nil || got != want {
			t.Errorf("%s: got %s, %v; want %s", name, got, err, want)
		}
		if ok, err := h.engine.Verify(t.Context(), name, want, c.request); !ok || err != nil {
			t.Errorf("%s: verify: %t, %v", name, ok, err)
		}
	}
}

// RFC 6979, Appendix A.2.5: its signature of "sample" with SHA-256 is verified; RFC 4231, Section 4.7 gives the HMACs.
func TestVectorsECDSAAndHMAC(t *testing.T) {
	h := newSoftHouse(t)
	e, ctx := h.engine, t.Context()
	key, err := ecdsa.ParseRawPrivateKey(elliptic.P256(), unhex(t, "c9afa9d845ba75166b5c215767b1d6934e50c3db36e89b127b8a622b120f6721"))
	fatal(t, err)
	fatal(t, e.ImportKey(ctx, "p256", Import{Ciphertext: wrapped(t, e, crypto.SHA256, key)}, KeyOptions{Type: TypeP256}, false))
	signature := format(1, unhex(t, "efd48b2aacb6a8fd1140dd9cd45e81d69d2c877b56aaf991c34d0ea84eaf3716f7cb1c942d657c41d436c7a1b6e29f65f3e900dbb9aff4064dc4ab2f843acda8"), base64.RawURLEncoding)
	for input, want := range map[string]bool{"sample": true, "test": false} {
		if ok, err := e.Verify(ctx, "p256", signature, SignRequest{Input: []byte(input), Marshaling: MarshalingJWS}); ok != want || err != nil {
			t.Errorf("%s: got %t, %v", input, ok, err)
		}
	}

	fatal(t, e.ImportKey(ctx, "hmac", Import{Ciphertext: wrapped(t, e, crypto.SHA256, bytes.Repeat([]byte{0xaa}, 131))}, KeyOptions{Type: TypeHMAC}, false))
	for algorithm, want := range map[string]string{
		"sha2-256": "60e431591ee0b67f0d8a26aacbf5b77f8e0bc6213728c5140546040f0ee37f54",
		"sha2-512": "80b24263c7c1a3ebb71493c1dd7be8b49b46d1f41b4aeec1121b013783f8f3526b56d037e05f2598bd0fd2215d6a1e5295e64f73f63f0aec8b915a985d786598",
	} {
		got, err := e.HMAC(ctx, "hmac", MACRequest{Input: []byte("Test Using Larger Than Block-Size Key - Hash Key First"), HashAlgorithm: algorithm})
		if want := format(1, unhex(t, want), base64.StdEncoding); err != nil || got != want {
			t.Errorf("%s: got %s, %v; want %s", algorithm, got, err, want)
		}
	}
}
