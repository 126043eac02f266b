package transit

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/asn1"
	"encoding/base64"
	"math/big"
	"strings"
	"testing"

	"github.com/managedkeys/managedkeys/backend"
)

// What others get wrong with managed keys, one by one. That a batch is worked on in parallel is in TestBatchCalls, that data keys,
// requests for certificates and associated data work with keys of every key manager in TestManagedKeys, and that public keys
// are exported in TestExport.

// A MAC or a ciphertext that the managed key can't make is an error, also where software keys are allowed.
func TestNoSilentSoftware(t *testing.T) {
	h := newSoftHouse(t)
	for _, name := range []string{"p256", "rsa", "aes", "ed25519"} {
		h.addManaged(t, name, allUsages)
		h.create(t, name, KeyOptions{ManagedKey: name})
		_, err := h.engine.HMAC(t.Context(), name, MACRequest{Input: []byte("m")})
		wantError(t, err, backend.ErrUnsupported, "HMAC not supported for key type")
		_, err = h.engine.VerifyHMAC(t.Context(), name, "vault:v1:AAAA", MACRequest{Input: []byte("m")})
		wantError(t, err, backend.ErrUnsupported, "HMAC not supported for key type")
		_, err = h.engine.CMAC(t.Context(), name, CMACRequest{Input: []byte("m")})
		wantError(t, err, backend.ErrUnsupported, "CMAC not supported for key type")
	}
	_, err := h.engine.HMAC(t.Context(), "p256", MACRequest{})
	wantError(t, err, backend.ErrUnsupported, "no other key takes its place")
}

// The scheme, the salt and the form that were asked for are those of the signature.
func TestOptionsReachTheKey(t *testing.T) {
	h := newHouse(t, "rsa", "p256")
	ctx, input := t.Context(), []byte("m")
	sum := sha256.Sum256(input)
	raw := func(key string, r SignRequest, encoding *base64.Encoding) []byte {
		t.Helper()
		r.Input = input
		text, err := h.engine.Sign(ctx, key, r)
		if err != nil {
			t.Fatal(err)
		}
		out, err := encoding.DecodeString(strings.TrimPrefix(text, "vault:v1:"))
		if err != nil {
			t.Fatal(err)
		}
		return out
	}
	info, err := h.engine.Key("rsa")
	if err != nil {
		t.Fatal(err)
	}
	pub := info.Versions[0].PublicKey.(*rsa.PublicKey)
	for text, salt := range map[string]int{"auto": 32, "hash": 32, "0": 32, "20": 20, "222": 222} {
		signature := raw("rsa", SignRequest{SignatureAlgorithm: SignaturePSS, SaltLength: text}, base64.StdEncoding)
		if err := rsa.VerifyPSS(pub, crypto.SHA256, sum[:], signature, &rsa.PSSOptions{SaltLength: salt}); err != nil {
			t.Errorf("salt %s: %v", text, err)
		}
	}
	if err := rsa.VerifyPKCS1v15(pub, crypto.SHA256, sum[:], raw("rsa", SignRequest{SignatureAlgorithm: SignaturePKCS1v15}, base64.StdEncoding)); err != nil {
		t.Error(err)
	}
	if info, err = h.engine.Key("p256"); err != nil {
		t.Fatal(err)
	}
	jws := raw("p256", SignRequest{Marshaling: MarshalingJWS}, base64.RawURLEncoding)
	r, s := new(big.Int).SetBytes(jws[:32]), new(big.Int).SetBytes(jws[32:])
	if len(jws) != 64 || !ecdsa.Verify(info.Versions[0].PublicKey.(*ecdsa.PublicKey), sum[:], r, s) {
		t.Errorf("JWS of %d bytes does not verify", len(jws))
	}
	_, err = h.engine.Sign(ctx, "rsa", SignRequest{SignatureAlgorithm: SignaturePSS, SaltLength: "223"})
	wantError(t, err, backend.ErrInvalidParams, "requested salt length 223 is invalid")
}

// One signature has one form: others that mean the same are refused, which some take.
func TestStrictSignatures(t *testing.T) {
	h := newHouse(t, "p256")
	ctx, input := t.Context(), SignRequest{Input: []byte("m")}
	text, err := h.engine.Sign(ctx, "p256", input)
	if err != nil {
		t.Fatal(err)
	}
	der, _ := base64.StdEncoding.DecodeString(strings.TrimPrefix(text, "vault:v1:"))
	var sig ecdsaSignature
	if _, err := asn1.Unmarshal(der, &sig); err != nil {
		t.Fatal(err)
	}
	n := elliptic256
	encode := func(r, s *big.Int) []byte {
		out, err := asn1.Marshal(ecdsaSignature{r, s})
		if err != nil {
			t.Fatal(err)
		}
		return out
	}
	long := append([]byte{0x30, 0x81, der[1]}, der[2:]...) // a length in the long form that the short one holds
	for name, raw := range map[string][]byte{
		"trailing byte": append(der[:len(der):len(der)], 0), "cut": der[:len(der)-1], "long length": long, "r = 0": encode(new(big.Int), sig.S),
		"s = 0": encode(sig.R, new(big.Int)), "r + n": encode(new(big.Int).Add(sig.R, n), sig.S), "s + n": encode(sig.R, new(big.Int).Add(sig.S, n)),
		"s = n": encode(sig.R, n), "-s": encode(sig.R, new(big.Int).Neg(sig.S)), "nothing": {0x30, 0},
	} {
		_, err := h.engine.Verify(ctx, "p256", format(1, raw, base64.StdEncoding), input)
		wantError(t, err, backend.ErrInvalidParams, "supplied signature is invalid")
		if t.Failed() {
			t.Fatal(name)
		}
	}
	input.Marshaling = MarshalingJWS
	for _, size := range []int{1, 63, 65, 66, 128} {
		_, err := h.engine.Verify(ctx, "p256", format(1, make([]byte, size), base64.RawURLEncoding), input)
		wantError(t, err, backend.ErrInvalidParams, "supplied signature is invalid")
	}
}

var elliptic256, _ = new(big.Int).SetString("ffffffff00000000ffffffffffffffffbce6faada7179e84f3b9cac2fc632551", 16)

// A context string of a signature is part of what is signed, and refused where it would be ignored.
func TestSignatureContext(t *testing.T) {
	h := newHouse(t, "ed25519", "mldsa", "p256", "rsa")
	ctx := t.Context()
	for _, name := range []string{"ed25519", "mldsa"} {
		r := SignRequest{Input: []byte("m"), SignatureContext: "orders"}
		signature, err := h.engine.Sign(ctx, name, r)
		if err != nil {
			t.Fatal(err)
		}
		for text, want := range map[string]bool{"orders": true, "other": false, "": false} {
			r.SignatureContext = text
			if ok, err := h.engine.Verify(ctx, name, signature, r); ok != want || err != nil {
				t.Errorf("%s, %q: %t, %v", name, text, ok, err)
			}
		}
		r.SignatureContext = strings.Repeat("x", 256)
		_, err = h.engine.Sign(ctx, name, r)
		wantError(t, err, backend.ErrInvalidParams, "signature context of 256 bytes; it takes at most 255")
	}
	for _, name := range []string{"p256", "rsa"} {
		_, err := h.engine.Sign(ctx, name, SignRequest{SignatureContext: "x"})
		wantError(t, err, backend.ErrInvalidParams, "takes none")
	}
}
