package pkcs11

import (
	"crypto"
	"crypto/sha256"
	"encoding/asn1"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/managedkeys/managedkeys/backend"
	"github.com/managedkeys/managedkeys/internal/requires"
	"github.com/managedkeys/managedkeys/internal/softhsm"
)

// tool returns a function that runs pkcs11-tool with the user logged in to the token.
func tool(tb testing.TB, token *softhsm.Token) func(args ...string) string {
	program := requires.Tool(tb, "opensc", "pkcs11-tool")
	return func(args ...string) string {
		tb.Helper()
		return run(tb, program, append([]string{"--module", token.Module, "--token-label", token.Label, "--login", "--pin", token.PIN}, args...)...)
	}
}

// TestKeysOfPKCS11Tool: keys that pkcs11-tool made are usable here.
func TestKeysOfPKCS11Tool(t *testing.T) {
	token := softhsm.Require(t)
	pkcs11Tool := tool(t, token)
	for _, key := range [][]string{
		{"rsa", "01", "RSA:2048"}, {"p256", "02", "EC:prime256v1"}, {"p384", "03", "EC:secp384r1"}, {"p521", "04", "EC:secp521r1"},
		{"ed", "05", "EC:edwards25519"}, {"k1", "06", "EC:secp256k1"},
	} {
		pkcs11Tool("--keypairgen", "--label", key[0], "--id", key[1], "--key-type", key[2])
	}
	pkcs11Tool("--keypairgen", "--label", "always", "--id", "07", "--key-type", "EC:prime256v1", "--always-auth")
	pkcs11Tool("--keygen", "--label", "aes", "--id", "08", "--key-type", "AES:32")
	b := connectTo(t, token)
	for label, m := range map[string]Mechanism{"rsa": RSAPKCSPSS, "p256": ECDSA, "p384": ECDSA, "p521": ECDSA, "ed": EdDSA, "k1": ECDSA, "always": ECDSA} {
		signsWell(t, mustOpen(t, b, on(token, label, m)))
	}
	byID := on(token, "", ECDSA)
	byID.KeyID = "0x03"
	signsWell(t, mustOpen(t, b, byID))
	_, err := b.Open(t.Context(), on(token, "ed", ECDSA))
	wants(t, err, backend.ErrInvalidParams, "EdDSA key", "CKM_ECDSA takes an EC key")
	seals(t, mustOpen(t, b, on(token, "aes", AESGCM)))

	var labels []string
	for info, err := range b.List(t.Context(), on(token, "", 0)) {
		if err != nil {
			t.Fatal(err)
		}
		labels = append(labels, info.Label)
		mustOpen(t, b, info.Params.(Params))
	}
	if got, want := fmt.Sprint(labels), "[aes always ed k1 p256 p384 p521 rsa]"; got != want {
		t.Errorf("List gives %s, want %s", got, want)
	}
}

// seals encrypts and decrypts with the key.
func seals(tb testing.TB, key backend.Key) {
	tb.Helper()
	aead := key.(backend.AEAD)
	sealed, err := aead.Seal(tb.Context(), []byte("message"), []byte("data"))
	if err != nil {
		tb.Error(err)
		return
	}
	if opened, err := aead.Open(tb.Context(), sealed, []byte("data")); err != nil || string(opened) != "message" {
		tb.Errorf("opened %q; error %v", opened, err)
	}
}

// TestKeysOfP11Tool: keys that GnuTLS made are usable here.
func TestKeysOfP11Tool(t *testing.T) {
	program := requires.Tool(t, "gnutls-bin", "p11tool")
	token := softhsm.Require(t)
	for label, kind := range map[string][]string{"rsa": {"--generate-privkey", "rsa", "--bits", "2048"}, "p256": {"--generate-privkey", "ecdsa", "--curve", "secp256r1"},
		"p384": {"--generate-privkey", "ecdsa", "--curve", "secp384r1"}} {
		run(t, program, append(kind, "--provider", token.Module, "--login", "--set-pin", token.PIN, "--label", label, "--outfile", filepath.Join(t.TempDir(), "public.pem"), "pkcs11:token="+token.Label)...)
	}
	b := connectTo(t, token)
	for label, m := range map[string]Mechanism{"rsa": RSAPKCS, "p256": ECDSA, "p384": ECDSA} {
		signsWell(t, mustOpen(t, b, on(token, label, m)))
	}
}

// TestFormsOfPoints: CKA_EC_POINT is a DER OCTET STRING by the standard, and the bare point with some modules.
func TestFormsOfPoints(t *testing.T) {
	r := newRig(t)
	b := r.client(t)
	for _, p := range []Params{r.p256("p256"), withCurve(r.with("k1", ECDSA), "SECP256K1"), r.with("ed", EdDSA)} {
		key := mustGenerate(t, b, p)
		der := attributesOf(t, b, p, classPublic, attrECPoint)[attrECPoint]
		var point []byte
		if rest, err := asn1.Unmarshal(der, &point); err != nil || len(rest) > 0 {
			t.Fatalf("%s: CKA_EC_POINT is %x", p.KeyLabel, der)
		}
		r.SetAttribute(p.KeyLabel, uint64(classPublic), attrECPoint, point)
		connectionTo(t, b, p).epoch.Add(1)
		again := mustOpen(t, b, p)
		if !same(again.Public(), key.Public()) {
			t.Errorf("%s: the bare point is read as another key", p.KeyLabel)
		}
		signsWell(t, again)
	}
}

// TestKeysForOtherPrograms: other programs find what was generated here, well guarded, and sign with it.
func TestKeysForOtherPrograms(t *testing.T) {
	token := softhsm.Require(t)
	pkcs11Tool := tool(t, token)
	b := connectTo(t, token)
	key := mustGenerate(t, b, withBits(on(token, "made here", RSAPKCS), 2048))
	ec := mustGenerate(t, b, withCurve(on(token, "ec", ECDSA), "P256"))
	mustGenerate(t, b, withBits(on(token, "aes", AESGCM), 256))
	if err := b.Close(); err != nil {
		t.Fatal(err)
	}
	if keys := pkcs11Tool("--list-objects", "--type", "secrkey"); !strings.Contains(keys, "AES length 32") || !strings.Contains(keys, "never extractable") {
		t.Errorf("pkcs11-tool sees:\n%s", keys)
	}
	objects := pkcs11Tool("--list-objects", "--type", "privkey")
	for _, want := range []string{"made here", "sensitive", "never extractable", "Usage:      sign\n"} {
		if !strings.Contains(objects, want) {
			t.Errorf("pkcs11-tool doesn't say %q:\n%s", want, objects)
		}
	}
	idOf := func(key backend.Key) string { // pkcs11-tool heeds no label here
		p, err := ParseURI(key.ID())
		if err != nil {
			t.Fatal(err)
		}
		return strings.TrimPrefix(p.KeyID, "0x")
	}
	dir := t.TempDir()
	message, signature := filepath.Join(dir, "message"), filepath.Join(dir, "signature")
	if err := os.WriteFile(message, []byte("message"), 0o600); err != nil {
		t.Fatal(err)
	}
	pkcs11Tool("--sign", "--id", idOf(key), "--mechanism", "SHA256-RSA-PKCS", "--input-file", message, "--output-file", signature)
	sig, err := os.ReadFile(signature)
	if err != nil {
		t.Fatal(err)
	}
	digest := sha256.Sum256([]byte("message"))
	if err := backend.Verify(key.Public(), digest[:], sig, crypto.SHA256); err != nil {
		t.Error(err)
	}
	if err := os.WriteFile(message, digest[:], 0o600); err != nil {
		t.Fatal(err)
	}
	pkcs11Tool("--sign", "--id", idOf(ec), "--mechanism", "ECDSA", "--signature-format", "openssl", "--input-file", message, "--output-file", signature)
	if sig, err = os.ReadFile(signature); err != nil {
		t.Fatal(err)
	}
	if err := backend.Verify(ec.Public(), digest[:], sig, crypto.SHA256); err != nil {
		t.Error(err)
	}
	t.Run("p11tool", func(t *testing.T) {
		program := requires.Tool(t, "gnutls-bin", "p11tool")
		out := run(t, program, "--provider", token.Module, "--login", "--set-pin", token.PIN, "--list-privkeys", key.ID())
		if !strings.Contains(out, "made%20here") {
			t.Errorf("p11tool doesn't find %s:\n%s", key.ID(), out)
		}
		for _, id := range []string{key.ID(), ec.ID()} {
			out := run(t, program, "--provider", token.Module, "--login", "--set-pin", token.PIN, "--test-sign", id)
			if strings.Count(out, "ok") < 2 { // it signs, and verifies with the key that it finds
				t.Errorf("p11tool can't sign with %s:\n%s", id, out)
			}
		}
	})
}
