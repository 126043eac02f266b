package pkcs11

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"math/big"
	"os/exec"
	"strings"
	"testing"

	"github.com/managedkeys/managedkeys/backend"
	"github.com/managedkeys/managedkeys/internal/requires"
	"github.com/managedkeys/managedkeys/internal/softhsm"
)

func mustRSA(tb testing.TB) *rsa.PrivateKey {
	tb.Helper()
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		tb.Fatal(err)
	}
	return key
}

func mustEC(tb testing.TB, curve elliptic.Curve) *ecdsa.PrivateKey {
	tb.Helper()
	key, err := ecdsa.GenerateKey(curve, rand.Reader)
	if err != nil {
		tb.Fatal(err)
	}
	return key
}

func mustEd25519(tb testing.TB) ed25519.PrivateKey {
	tb.Helper()
	_, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		tb.Fatal(err)
	}
	return key
}

// objects returns what pkcs11-tool lists of the objects with a label, an entry each.
func objects(tb testing.TB, token *softhsm.Token, label string) []string {
	tb.Helper()
	program := requires.Tool(tb, "opensc", "pkcs11-tool")
	out, err := exec.Command(program, "--module", token.Module, "--token-label", token.Label, "--login", "--pin", token.PIN,
		"--list-objects").CombinedOutput()
	if err != nil {
		tb.Fatalf("pkcs11-tool: %v: %s", err, out)
	}
	var found []string
	for _, object := range strings.Split(string(out), "\nP") { // "Private Key Object", "Public Key Object"
		if strings.Contains(object, "label:      "+label+"\n") {
			found = append(found, object)
		}
	}
	return found
}

// TestImportedAttributes: an imported key is as well kept as one that was made on the token.
func TestImportedAttributes(t *testing.T) {
	token := softhsm.Require(t)
	b := connectTo(t, token)
	for label, m := range map[string]struct {
		Mechanism
		material any
	}{"in-rsa": {RSAPKCS, mustRSA(t)}, "in-p256": {ECDSA, mustEC(t, elliptic.P256())}, "in-p521": {ECDSA, mustEC(t, elliptic.P521())}} {
		key, err := b.Import(t.Context(), on(token, label, m.Mechanism), m.material, nil)
		if err != nil {
			t.Errorf("%s: %v", label, err)
			continue
		}
		signsWell(t, key)
		found := objects(t, token, label)
		if len(found) != 2 {
			t.Fatalf("%s: %d objects: %q", label, len(found), found)
		}
		private := found[0] + found[1]
		for _, want := range []string{"Usage:      sign", "Access:     sensitive"} {
			if !strings.Contains(private, want) {
				t.Errorf("%s: pkcs11-tool doesn't say %q: %s", label, want, private)
			}
		}
		if strings.Contains(private, "extractable") && !strings.Contains(private, "never extractable") {
			t.Errorf("%s can be extracted: %s", label, private)
		}
	}
}

// TestPlainImport: what the token can't unwrap is refused, and nothing stays, unless the stanza allows the plain way.
func TestPlainImport(t *testing.T) {
	token := softhsm.Require(t)
	key := mustEd25519(t)
	strict := connectTo(t, token)
	_, err := strict.Import(t.Context(), on(token, "ed", EdDSA), key, nil)
	wants(t, err, backend.ErrUnsupported, "PlainImport", "C_UnwrapKey")
	if found := objects(t, token, "ed"); len(found) > 0 {
		t.Errorf("something was left: %q", found)
	}
	if err := strict.Close(); err != nil {
		t.Fatal(err)
	}
	lax := connectWith(t, Library{Path: token.Module, PlainImport: true})
	imported, err := lax.Import(t.Context(), on(token, "ed", EdDSA), key, nil)
	if err != nil {
		t.Fatal(err)
	}
	if !key.Public().(ed25519.PublicKey).Equal(imported.Public()) {
		t.Error("it has another public key")
	}
	signsWell(t, imported)
}

// TestImportRefusals: material that doesn't fit the parameters is refused before the token is asked.
func TestImportRefusals(t *testing.T) {
	token := softhsm.Require(t)
	b := connectTo(t, token)
	withID := on(token, "in", ECDSA)
	withID.KeyID = "0x01"
	for name, test := range map[string]struct {
		p        Params
		material any
		want     error
	}{
		"EC for RSA":        {on(token, "in", RSAPKCS), mustEC(t, elliptic.P256()), backend.ErrInvalidParams},
		"other curve":       {withCurve(on(token, "in", ECDSA), "P384"), mustEC(t, elliptic.P256()), backend.ErrInvalidParams},
		"other size":        {withBits(on(token, "in", RSAPKCS), 3072), mustRSA(t), backend.ErrInvalidParams},
		"secret for EC":     {on(token, "in", ECDSA), secret(32), backend.ErrInvalidParams},
		"AES of 20 bytes":   {on(token, "in", AESGCM), secret(20), backend.ErrInvalidParams},
		"other AES size":    {withBits(on(token, "in", AESGCM), 128), secret(32), backend.ErrInvalidParams},
		"short HMAC":        {on(token, "in", SHA256HMAC), secret(8), backend.ErrInvalidParams},
		"id":                {withID, mustEC(t, elliptic.P256()), backend.ErrInvalidParams},
		"ML-DSA":            {on(token, "in", MLDSA), mustEC(t, elliptic.P256()), backend.ErrInvalidParams},
		"unknown":           {on(token, "in", ECDSA), struct{}{}, backend.ErrUnsupported},
		"unknown mechanism": {on(token, "in", 0x80000001), mustEC(t, elliptic.P256()), backend.ErrUnsupported},
	} {
		_, err := b.Import(t.Context(), test.p, test.material, nil)
		if err == nil {
			t.Errorf("%s: imported", name)
			continue
		}
		wants(t, err, test.want)
	}
	if found := objects(t, token, "in"); len(found) > 0 {
		t.Errorf("something was made: %q", found)
	}
}

// TestRawRSA: the bare RSA operation is refused unless the stanza asks for it.
func TestRawRSA(t *testing.T) {
	token := softhsm.Require(t)
	b := connectTo(t, token)
	p := withBits(on(token, "oaep", RSAPKCSOAEP), 2048)
	key := mustGenerate(t, b, p)
	pub := key.Public().(*rsa.PublicKey)
	message := append(make([]byte, pub.Size()-32), secret(32)...)
	// RSAEP (RFC 8017, Section 5.1.1)
	ciphertext := new(big.Int).Exp(new(big.Int).SetBytes(message), big.NewInt(int64(pub.E)), pub.N).FillBytes(make([]byte, pub.Size()))
	_, err := key.(backend.Decrypter).Decrypt(nil, ciphertext, &backend.RawRSAOptions{})
	wants(t, err, backend.ErrUnsupported, "without a padding scheme")
	if err := b.Close(); err != nil {
		t.Fatal(err)
	}
	raw := mustOpen(t, connectWith(t, Library{Path: token.Module, RawRSA: true}), p)
	if !raw.Capabilities().RawRSA {
		t.Error("Capabilities don't say it")
	}
	got, err := raw.(backend.Decrypter).Decrypt(nil, ciphertext, &backend.RawRSAOptions{})
	if err != nil || !bytes.Equal(got, message) {
		t.Errorf("got %d bytes, error %v", len(got), err)
	}
	for name, wrong := range map[string][]byte{"short": ciphertext[1:], "not below the modulus": bytes.Repeat([]byte{0xff}, len(ciphertext))} {
		if _, err := raw.(backend.Decrypter).Decrypt(nil, wrong, &backend.RawRSAOptions{}); err != backend.ErrDecryption {
			t.Errorf("%s: error %v", name, err)
		}
	}
}

// TestDelete: a key is deleted on demand, with its public key, and its handles know.
func TestDelete(t *testing.T) {
	token := softhsm.Require(t)
	b := connectTo(t, token)
	for _, p := range []Params{withCurve(on(token, "doomed", ECDSA), "P256"), withBits(on(token, "doomed", SHA256HMAC), 256)} {
		key := mustGenerate(t, b, p)
		if err := b.Delete(t.Context(), p); err != nil {
			t.Fatal(err)
		}
		if found := objects(t, token, "doomed"); len(found) > 0 {
			t.Errorf("something was left: %q", found)
		}
		_, err := b.Open(t.Context(), p)
		wants(t, err, backend.ErrKeyNotFound)
		wants(t, b.Delete(t.Context(), p), backend.ErrKeyNotFound)
		switch key := key.(type) {
		case backend.Signer:
			_, err = key.SignContext(t.Context(), make([]byte, 32), crypto.SHA256)
		case backend.MAC:
			_, err = key.ComputeMAC(t.Context(), backend.HMACSHA256, nil)
		}
		wants(t, err, backend.ErrKeyChanged, "deleted")
		mustGenerate(t, b, p) // another one of that name is no obstacle
		if err := b.Delete(t.Context(), p); err != nil {
			t.Error(err)
		}
	}
}
