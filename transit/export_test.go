package transit

import (
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"strings"
	"testing"

	"github.com/managedkeys/managedkeys/backend"
)

// Public keys are exported of every key, private ones only where that was allowed.
func TestExport(t *testing.T) {
	h := newHouse(t, "p256", "aes")
	ctx := t.Context()
	keys, err := h.engine.Export(ctx, "p256", ExportPublicKey, 0)
	if err != nil {
		t.Fatal(err)
	}
	block, _ := pem.Decode([]byte(keys[1]))
	public, err := x509.ParsePKIXPublicKey(block.Bytes)
	info, ierr := h.engine.Key("p256")
	if err != nil || ierr != nil || !samePublic(public, info.Versions[0].PublicKey) {
		t.Errorf("got %v, %v, %v", public, err, ierr)
	}
	for _, what := range []string{ExportEncryptionKey, ExportSigningKey, ExportHMACKey, ExportCMACKey} {
		for _, name := range []string{"p256", "aes"} {
			_, err := h.engine.Export(ctx, name, what, 0)
			wantError(t, err, backend.ErrNotPermitted, "private key material is not exportable")
		}
	}
	_, err = h.engine.Export(ctx, "aes", ExportPublicKey, 0)
	wantError(t, err, backend.ErrUnsupported, "has no public-key")
	_, err = h.engine.Export(ctx, "p256", ExportCertificateChain, 0)
	wantError(t, err, backend.ErrUnsupported, "has no certificate-chain")

	soft := newSoftHouse(t)
	for _, kind := range []string{TypeP384, TypeEd25519, TypeAES128, TypeMLDSA44, TypeAES256CMAC} {
		soft.create(t, kind, KeyOptions{Type: kind, Exportable: true})
	}
	export := func(name, what string) string {
		t.Helper()
		keys, err := soft.engine.Export(ctx, name, what, 1)
		if err != nil {
			t.Fatal(err)
		}
		return keys[1]
	}
	block, _ = pem.Decode([]byte(export(TypeP384, ExportSigningKey)))
	if key, err := x509.ParseECPrivateKey(block.Bytes); err != nil || block.Type != "EC PRIVATE KEY" || !key.Public().(*ecdsa.PublicKey).Equal(softPublic(t, soft, TypeP384)) {
		t.Errorf("got %s, %v", block.Type, err)
	}
	seed, err := base64.StdEncoding.DecodeString(export(TypeEd25519, ExportSigningKey))
	if err != nil || len(seed) != 64 || !ed25519.PrivateKey(seed).Public().(ed25519.PublicKey).Equal(softPublic(t, soft, TypeEd25519)) {
		t.Errorf("got %d bytes, %v", len(seed), err)
	}
	if block, _ := pem.Decode([]byte(export(TypeMLDSA44, ExportSigningKey))); block.Type != "PRIVATE KEY" {
		t.Errorf("got %s", block.Type)
	}
	if secret, _ := base64.StdEncoding.DecodeString(export(TypeAES256CMAC, ExportCMACKey)); len(secret) != 32 {
		t.Errorf("got %d bytes", len(secret))
	}
	for name, what := range map[string]string{TypeP384: ExportEncryptionKey, TypeAES128: ExportSigningKey, TypeAES256CMAC: ExportHMACKey} {
		_, err := soft.engine.Export(ctx, name, what, 0)
		wantError(t, err, backend.ErrUnsupported, "has no "+what)
	}
	_, err = soft.engine.Export(ctx, TypeP384, "foo", 0)
	wantError(t, err, backend.ErrInvalidParams, "invalid export type: foo")
	_, err = soft.engine.Export(ctx, TypeP384, ExportPublicKey, 2)
	wantError(t, err, backend.ErrInvalidParams, "version 2 does not exist")
	_, err = soft.engine.Export(ctx, "nobody", ExportPublicKey, 0)
	wantError(t, err, backend.ErrKeyNotFound)
}

func softPublic(tb testing.TB, h *house, name string) any {
	tb.Helper()
	info, err := h.engine.Key(name)
	if err != nil {
		tb.Fatal(err)
	}
	return info.Versions[0].PublicKey
}

// A restored key is the key that was backed up: versions, window and configuration.
func TestBackup(t *testing.T) {
	h := newSoftHouse(t)
	e, ctx := h.engine, t.Context()
	h.rotated(t, "k", 3, KeyOptions{Type: TypeAES256})
	_, err := e.Backup(ctx, "k")
	wantError(t, err, backend.ErrNotPermitted, "exporting is disallowed")
	yes := true
	if err := e.Configure(ctx, "k", Config{Exportable: &yes}); err != nil {
		t.Fatal(err)
	}
	_, err = e.Backup(ctx, "k")
	wantError(t, err, backend.ErrNotPermitted, "plaintext backup is disallowed")
	if err := e.Configure(ctx, "k", Config{AllowPlaintextBackup: &yes}); err != nil {
		t.Fatal(err)
	}
	if err := h.configure(2, 3); err != nil {
		t.Fatal(err)
	}
	ciphertext, err := e.Encrypt(ctx, "k", EncryptRequest{Plaintext: []byte("secret")})
	if err != nil {
		t.Fatal(err)
	}
	text, err := e.Backup(ctx, "k")
	if err != nil {
		t.Fatal(err)
	}
	other := newSoftHouse(t).engine
	if err := other.Restore(ctx, "", text, false); err != nil {
		t.Fatal(err)
	}
	plaintext, err := other.Decrypt(ctx, "k", DecryptRequest{Ciphertext: ciphertext})
	if err != nil || string(plaintext) != "secret" {
		t.Errorf("got %q, %v", plaintext, err)
	}
	if info, err := other.Key("k"); err != nil || info.MinDecryptionVersion != 2 || info.MinEncryptionVersion != 3 || info.LatestVersion != 3 {
		t.Errorf("got %+v, %v", info, err)
	}
	wantError(t, other.Restore(ctx, "k", text, false), backend.ErrKeyExists)
	if err := other.Restore(ctx, "k", text, true); err != nil {
		t.Error(err)
	}
	if err := other.Restore(ctx, "forced", text, true); err != nil { // where there is none
		t.Error(err)
	}
	for name, c := range map[string]struct{ name, text, want string }{
		"name":    {"A/b", text, "A/b"},
		"base64":  {"x", "!" + text, "not base64"},
		"empty":   {"x", "", "not base64"},
		"no JSON": {"x", base64.StdEncoding.EncodeToString([]byte("hello")), "not JSON"},
		"other":   {"x", base64.StdEncoding.EncodeToString([]byte(`{"format":"other"}`)), "no backup that this version"},
		"cut":     {"x", base64.StdEncoding.EncodeToString([]byte(`{"format":"managedkeys/transit-backup","name":"k","key":{}}`)), "makes no sense"},
		"long":    {"x", strings.Repeat("A", 4<<20), "it takes at most"},
	} {
		t.Run(name, func(t *testing.T) {
			wantError(t, other.Restore(ctx, c.name, c.text, false), backend.ErrInvalidParams, c.want)
		})
	}
}

// The backup of a managed key has no secret and needs no permission; restored, it is on the same managed keys.
func TestBackupManaged(t *testing.T) {
	h := newHouse(t, "p256")
	ctx := t.Context()
	signature, err := h.engine.Sign(ctx, "p256", SignRequest{Input: []byte("m")})
	if err != nil {
		t.Fatal(err)
	}
	text, err := h.engine.Backup(ctx, "p256")
	if err != nil {
		t.Fatal(err)
	}
	if err := h.engine.Restore(ctx, "copy", text, false); err != nil {
		t.Fatal(err)
	}
	if ok, err := h.engine.Verify(ctx, "copy", signature, SignRequest{Input: []byte("m")}); !ok || err != nil {
		t.Errorf("got %t, %v", ok, err)
	}
}
