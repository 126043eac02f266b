//go:build cgo

package pkcs11

import (
	"crypto"
	"crypto/sha256"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/managedkeys/managedkeys/backend"
	"github.com/managedkeys/managedkeys/internal/requires"
	"github.com/managedkeys/managedkeys/internal/softhsm"
)

// run runs a program and returns its output. The arguments are not shown, since they have the PIN.
func run(tb testing.TB, program string, args ...string) string {
	tb.Helper()
	out, err := exec.Command(program, args...).CombinedOutput()
	if err != nil {
		tb.Fatalf("%s: %v\n%s", filepath.Base(program), err, out)
	}
	return string(out)
}

// tool returns a function that runs pkcs11-tool with the user logged in to the token.
func tool(tb testing.TB, token *softhsm.Token) func(args ...string) string {
	program := requires.Tool(tb, "opensc", "pkcs11-tool")
	return func(args ...string) string {
		tb.Helper()
		return run(tb, program, append([]string{"--module", token.Module, "--token-label", token.Label, "--login", "--pin", token.PIN}, args...)...)
	}
}

// TestKeysOfPKCS11Tool: keys that other programs made are usable here, whatever else is on the token.
func TestKeysOfPKCS11Tool(t *testing.T) {
	token := softhsm.Require(t)
	pkcs11Tool := tool(t, token)
	for _, key := range [][]string{
		{"rsa", "01", "RSA:2048"}, {"p256", "02", "EC:prime256v1"}, {"p384", "03", "EC:secp384r1"}, {"p521", "04", "EC:secp521r1"},
		{"ed", "05", "EC:edwards25519"}, {"k1", "06", "EC:secp256k1"},
	} {
		pkcs11Tool("--keypairgen", "--label", key[0], "--id", key[1], "--key-type", key[2])
	}
	b := connectTo(t, token)
	for label, m := range map[string]Mechanism{"rsa": RSAPKCSPSS, "p256": ECDSA, "p384": ECDSA, "p521": ECDSA} {
		signsWell(t, mustOpen(t, b, on(token, label, m)))
	}
	byID := on(token, "", ECDSA)
	byID.KeyID = "0x03"
	signsWell(t, mustOpen(t, b, byID))

	_, err := b.Open(t.Context(), on(token, "ed", ECDSA))
	wants(t, err, backend.ErrInvalidParams, "EdDSA key", "CKM_ECDSA takes an EC key")
	_, err = b.Open(t.Context(), on(token, "ed", EdDSA))
	wants(t, err, backend.ErrUnsupported, "CKM_EDDSA")
	_, err = b.Open(t.Context(), on(token, "k1", ECDSA))
	wants(t, err, backend.ErrUnsupported, "curve")

	var labels []string
	for info, err := range b.List(t.Context(), on(token, "", 0)) {
		if err != nil {
			t.Fatal(err)
		}
		labels = append(labels, info.Label)
	}
	if got, want := fmt.Sprint(labels), "[ed k1 p256 p384 p521 rsa]"; got != want {
		t.Errorf("List gives %s, want %s", got, want)
	}
}

// TestKeysForOtherPrograms: other programs find what was generated here, well guarded, and sign with it.
func TestKeysForOtherPrograms(t *testing.T) {
	token := softhsm.Require(t)
	pkcs11Tool := tool(t, token)
	b := connectTo(t, token)
	key := mustGenerate(t, b, withBits(on(token, "made here", RSAPKCS), 2048))
	if err := b.Close(); err != nil {
		t.Fatal(err)
	}
	objects := pkcs11Tool("--list-objects", "--type", "privkey")
	for _, want := range []string{"made here", "sensitive", "never extractable", "Usage:      sign\n"} {
		if !strings.Contains(objects, want) {
			t.Errorf("pkcs11-tool doesn't say %q:\n%s", want, objects)
		}
	}
	dir := t.TempDir()
	message, signature := filepath.Join(dir, "message"), filepath.Join(dir, "signature")
	if err := os.WriteFile(message, []byte("message"), 0o600); err != nil {
		t.Fatal(err)
	}
	pkcs11Tool("--sign", "--label", "made here", "--mechanism", "SHA256-RSA-PKCS", "--input-file", message, "--output-file", signature)
	sig, err := os.ReadFile(signature)
	if err != nil {
		t.Fatal(err)
	}
	digest := sha256.Sum256([]byte("message"))
	if err := backend.Verify(key.Public(), digest[:], sig, crypto.SHA256); err != nil {
		t.Error(err)
	}
	t.Run("p11tool", func(t *testing.T) {
		program := requires.Tool(t, "gnutls-bin", "p11tool")
		out := run(t, program, "--provider", token.Module, "--login", "--set-pin", token.PIN, "--list-privkeys", key.ID())
		if !strings.Contains(out, "made%20here") {
			t.Errorf("p11tool doesn't find %s:\n%s", key.ID(), out)
		}
	})
}
