package transit

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"os/exec"
	"strings"
	"testing"

	"github.com/managedkeys/managedkeys/backend"
	"github.com/managedkeys/managedkeys/internal/requires"
)

// TestDeriveDataKeys: the keys are those of OpenSSL's KDF, and come again; whatever is different makes them others.
func TestDeriveDataKeys(t *testing.T) {
	openssl := requires.Tool(t, "openssl", "openssl")
	h := newSoftHouse(t)
	e, ctx := h.engine, t.Context()
	if err := e.CreateKey(ctx, "k", KeyOptions{Type: TypeAES256, Exportable: true}); err != nil {
		t.Fatal(err)
	}
	exported, err := e.Export(ctx, "k", ExportHMACKey, 1)
	if err != nil {
		t.Fatal(err)
	}
	secret, err := base64.StdEncoding.DecodeString(exported[1])
	if err != nil {
		t.Fatal(err)
	}
	seen := map[string]string{}
	for _, bits := range []int{128, 256, 512} {
		r := DerivedKeysRequest{DataKeyRequest: DataKeyRequest{Bits: bits, AssociatedData: []byte("a")}, Salt: "salt", Info: "info", From: 3, To: 5}
		keys, err := e.DeriveDataKeys(ctx, "k", r)
		if err != nil || len(keys) != 2 {
			t.Fatalf("got %d, %v", len(keys), err)
		}
		for i, k := range keys {
			context := fmt.Sprintf("%016x%x%016x%x%016x", 4, "salt", 4, "info", 3+i)
			out, err := exec.CommandContext(ctx, openssl, "kdf", "-keylen", fmt.Sprint(bits/8), "-kdfopt", "mode:counter", "-kdfopt", "mac:HMAC",
				"-kdfopt", "digest:SHA256", "-kdfopt", "hexkey:"+hex.EncodeToString(secret), "-kdfopt", "hexsalt:"+hex.EncodeToString([]byte(derivedLabel)),
				"-kdfopt", "hexinfo:"+context, "KBKDF").CombinedOutput()
			want := strings.ToLower(strings.ReplaceAll(strings.TrimSpace(string(out)), ":", ""))
			if err != nil || want != hex.EncodeToString(k.Plaintext) {
				t.Errorf("%d bits: got %x, %v; OpenSSL says %s", bits, k.Plaintext, err, want)
			}
			plaintext, err := e.Decrypt(ctx, "k", DecryptRequest{Ciphertext: k.Ciphertext, AssociatedData: []byte("a")})
			if err != nil || !bytes.Equal(plaintext, k.Plaintext) {
				t.Errorf("got %x, %v", plaintext, err)
			}
			seen[string(k.Plaintext[:16])] = fmt.Sprint(bits, i)
		}
	}
	if err := e.Rotate(ctx, "k", ""); err != nil {
		t.Fatal(err)
	}
	for what, r := range map[string]DerivedKeysRequest{
		"another salt": {Salt: "Salt", Info: "info", To: 1}, "a shifted salt": {Salt: "saltinfo", To: 1}, "a shifted info": {Salt: "salti", Info: "nfo", To: 1},
		"another version": {Salt: "salt", Info: "info", From: 3, To: 4}, "index 0": {Salt: "salt", Info: "info", To: 1},
	} {
		keys, err := e.DeriveDataKeys(ctx, "k", r)
		if err != nil || len(keys) != 1 || !strings.HasPrefix(keys[0].Ciphertext, "vault:v2:") {
			t.Fatalf("%s: got %d, %v", what, len(keys), err)
		}
		if other, ok := seen[string(keys[0].Plaintext[:16])]; ok {
			t.Errorf("%s gives the key of %s", what, other)
		}
		seen[string(keys[0].Plaintext[:16])] = what
	}
}

func TestDeriveDataKeysRefused(t *testing.T) {
	h := newSoftHouse(t)
	e, ctx := h.engine, t.Context()
	if err := e.CreateKey(ctx, "k", KeyOptions{Type: TypeAES256}); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		key   string
		r     DerivedKeysRequest
		class error
		text  string
	}{
		{"k", DerivedKeysRequest{To: 1}, backend.ErrInvalidParams, "a salt is required"},
		{"k", DerivedKeysRequest{Salt: "s"}, backend.ErrInvalidParams, "derived keys from 0 to 0"},
		{"k", DerivedKeysRequest{Salt: "s", From: -1, To: 1}, backend.ErrInvalidParams, "derived keys from -1 to 1"},
		{"k", DerivedKeysRequest{Salt: "s", From: 2, To: 1}, backend.ErrInvalidParams, "derived keys from 2 to 1"},
		{"k", DerivedKeysRequest{Salt: "s", To: MaxDataKeys + 1}, backend.ErrInvalidParams, "1 to 1000 keys"},
		{"k", DerivedKeysRequest{Salt: "s", From: -1 << 63, To: 1<<63 - 1}, backend.ErrInvalidParams, "1 to 1000 keys"},
		{"k", DerivedKeysRequest{DataKeyRequest: DataKeyRequest{Bits: 100}, Salt: "s", To: 1}, backend.ErrInvalidParams, "invalid bit length"},
		{"k", DerivedKeysRequest{DataKeyRequest: DataKeyRequest{KeyVersion: 2}, Salt: "s", To: 1}, backend.ErrInvalidParams, "higher than the latest"},
		{"none", DerivedKeysRequest{Salt: "s", To: 1}, backend.ErrKeyNotFound, "encryption key not found"},
	} {
		_, err := e.DeriveDataKeys(ctx, c.key, c.r)
		wantError(t, err, c.class, c.text)
	}
	managed := newHouse(t, "rsa")
	_, err := managed.engine.DeriveDataKeys(ctx, "rsa", DerivedKeysRequest{Salt: "s", To: 1})
	wantError(t, err, backend.ErrUnsupported, "no other key takes its place")
}
