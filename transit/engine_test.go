package transit

import (
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/managedkeys/managedkeys/backend"
	"github.com/managedkeys/managedkeys/namespace"
)

func TestKeyInfo(t *testing.T) {
	want := map[string]string{"rsa": "rsa-2048", "p256": "ecdsa-p256", "p384": "ecdsa-p384", "p521": "ecdsa-p521",
		"ed25519": "ed25519", "mldsa": "ml-dsa-65", "aes": "aes256-gcm96", "hmac": "hmac"}
	var names []string
	for name := range want {
		names = append(names, name)
	}
	h := newHouse(t, names...)
	slices.Sort(names)
	if got := h.engine.List(); !slices.Equal(got, names) {
		t.Errorf("got names %v; want %v", got, names)
	}
	for name, kind := range want {
		info, err := h.engine.Key(name)
		if err != nil {
			t.Fatal(err)
		}
		if info.Name != name || info.Type != kind || info.LatestVersion != 1 || len(info.Versions) != 1 {
			t.Errorf("%s: got %+v; want type %s and one version", name, info, kind)
		}
		handle, err := h.mount.Key(t.Context(), name)
		if err != nil {
			t.Fatal(err)
		}
		v := info.Versions[0]
		if v.Version != 1 || v.ManagedKey != handle.UUID() || v.KeyID != handle.ID() || v.PublicKey == nil != (handle.Public() == nil) || !v.Created.Equal(created) {
			t.Errorf("%s: got version %+v", name, v)
		}
	}
	_, err := h.engine.Key("nobody")
	wantError(t, err, backend.ErrKeyNotFound, "nobody")
	if got := New(h.mount, nil).List(); got == nil || len(got) != 0 {
		t.Errorf("an engine without keys lists %#v", got)
	}
}

func TestCreateKeyRefused(t *testing.T) {
	h := newHouse(t, "p256")
	h.addManaged(t, "p384", allUsages)
	for name, c := range map[string]struct {
		key, managed string
		sentinel     error
		text         string
	}{
		"exists":       {"p256", "p384", backend.ErrKeyExists, `"p256"`},
		"no name":      {"", "p384", backend.ErrInvalidParams, "empty key name"},
		"bad name":     {"A/b", "p384", backend.ErrInvalidParams, `"A/b"`},
		"no managed":   {"new", "", backend.ErrInvalidParams, "managed key: no name or UUID"},
		"unknown":      {"new", "nobody", backend.ErrKeyNotFound, "nobody"},
		"other's name": {"new", "../p384", backend.ErrKeyNotFound, "p384"},
	} {
		t.Run(name, func(t *testing.T) {
			err := h.engine.CreateKey(t.Context(), c.key, KeyOptions{ManagedKey: c.managed})
			wantError(t, err, c.sentinel, c.text)
			if got := h.engine.List(); !slices.Equal(got, []string{"p256"}) {
				t.Errorf("now there are %v", got)
			}
		})
	}
	if info, err := h.engine.Key("p256"); err != nil || info.Type != "ecdsa-p256" || info.LatestVersion != 1 {
		t.Errorf("the key that existed is now %+v, %v", info, err)
	}
	if err := h.registry.Revoke(t.Context(), h.mount, "p384"); err != nil {
		t.Fatal(err)
	}
	wantError(t, h.engine.CreateKey(t.Context(), "new", KeyOptions{ManagedKey: "p384"}), backend.ErrNotPermitted)
}

func TestRotate(t *testing.T) {
	h := newHouse(t, "rsa")
	h.addManaged(t, "rsa-2", allUsages)
	h.addManaged(t, "aes", allUsages)
	ctx := t.Context()
	message := SignRequest{Input: []byte("message")}
	first, err := h.engine.Sign(ctx, "rsa", message)
	if err != nil {
		t.Fatal(err)
	}
	sealed, err := h.engine.Encrypt(ctx, "rsa", EncryptRequest{Plaintext: []byte("secret")})
	if err != nil {
		t.Fatal(err)
	}
	if err := h.engine.Rotate(ctx, "rsa", "rsa-2"); err != nil {
		t.Fatal(err)
	}
	second, err := h.engine.Sign(ctx, "rsa", message)
	if err != nil || !strings.HasPrefix(second, "vault:v2:") {
		t.Fatalf("got %.12s, %v; want version 2", second, err)
	}
	message.KeyVersion = 1
	old, err := h.engine.Sign(ctx, "rsa", message)
	if err != nil || !strings.HasPrefix(old, "vault:v1:") {
		t.Errorf("got %.12s, %v; want version 1", old, err)
	}
	for _, signature := range []string{first, second, old} {
		if ok, err := h.engine.Verify(ctx, "rsa", signature, SignRequest{Input: message.Input}); !ok || err != nil {
			t.Errorf("%.9s: got %t, %v", signature, ok, err)
		}
	}
	swapped := "vault:v2:" + strings.TrimPrefix(first, "vault:v1:")
	if ok, err := h.engine.Verify(ctx, "rsa", swapped, message); ok || err != nil {
		t.Errorf("a signature of version 1 as one of version 2: got %t, %v", ok, err)
	}
	if plaintext, err := h.engine.Decrypt(ctx, "rsa", DecryptRequest{Ciphertext: sealed}); err != nil || string(plaintext) != "secret" {
		t.Errorf("got %q, %v", plaintext, err)
	}

	// Whether two managed keys are the same key of a key manager is for the operator to know.
	twin, err := h.registry.Entry(namespace.Ref{Name: "rsa-2"})
	if err != nil {
		t.Fatal(err)
	}
	twin.Ref.Name, twin.UUID, twin.AnyMount = "twin", "", true
	if err := h.registry.Create(ctx, twin); err != nil {
		t.Fatal(err)
	}
	if err := h.engine.Rotate(ctx, "rsa", "twin"); err != nil {
		t.Fatal(err)
	}
	wantError(t, h.engine.Rotate(ctx, "nobody", "rsa-2"), backend.ErrKeyNotFound, "key not found")
	wantError(t, h.engine.Rotate(ctx, "rsa", "nobody"), backend.ErrKeyNotFound, "nobody")
	wantError(t, h.engine.Rotate(ctx, "rsa", "twin"), backend.ErrInvalidParams, "version 3 is already")
	if err := h.engine.Rotate(ctx, "rsa", "aes"); err != nil {
		t.Fatal(err)
	}
	info, err := h.engine.Key("rsa")
	if err != nil || info.LatestVersion != 4 || info.Type != "aes256-gcm96" || info.Versions[1].Type != "rsa-2048" {
		t.Errorf("got %+v, %v", info, err)
	}
	if plaintext, err := h.engine.Decrypt(ctx, "rsa", DecryptRequest{Ciphertext: sealed}); err != nil || string(plaintext) != "secret" {
		t.Errorf("got %q, %v", plaintext, err)
	}
}

func TestVersions(t *testing.T) {
	h := newHouse(t, "p256", "aes", "hmac")
	ctx := t.Context()
	_, err := h.engine.Sign(ctx, "p256", SignRequest{KeyVersion: 2})
	wantError(t, err, backend.ErrInvalidParams, "requested version for signing is higher than the latest key version")
	_, err = h.engine.Sign(ctx, "p256", SignRequest{KeyVersion: -1})
	wantError(t, err, backend.ErrInvalidParams, "requested version for signing is negative")
	_, err = h.engine.Encrypt(ctx, "aes", EncryptRequest{KeyVersion: 2})
	wantError(t, err, backend.ErrInvalidParams, "requested version for encryption is higher than the latest key version")
	_, err = h.engine.HMAC(ctx, "hmac", MACRequest{KeyVersion: -1})
	wantError(t, err, backend.ErrInvalidParams, "requested version for HMAC is negative")
	_, err = h.engine.Verify(ctx, "p256", "vault:v2:AAAA", SignRequest{})
	wantError(t, err, backend.ErrInvalidParams, "invalid signature: version is too new")
	_, err = h.engine.Decrypt(ctx, "aes", DecryptRequest{Ciphertext: "vault:v2:AAAA"})
	wantError(t, err, backend.ErrInvalidParams, "invalid ciphertext: version is too new")
	_, err = h.engine.VerifyHMAC(ctx, "hmac", "vault:v2:AAAA", MACRequest{})
	wantError(t, err, backend.ErrInvalidParams, "invalid HMAC: version is too new")

	_, err = h.engine.Sign(ctx, "nobody", SignRequest{})
	wantError(t, err, backend.ErrKeyNotFound, "signing key not found")
	_, err = h.engine.Verify(ctx, "nobody", "vault:v1:AAAA", SignRequest{})
	wantError(t, err, backend.ErrKeyNotFound, "signature verification key not found")
	_, err = h.engine.Encrypt(ctx, "nobody", EncryptRequest{})
	wantError(t, err, backend.ErrKeyNotFound, "encryption key not found")
	_, err = h.engine.Decrypt(ctx, "nobody", DecryptRequest{Ciphertext: "vault:v1:AAAA"})
	wantError(t, err, backend.ErrKeyNotFound, "encryption key not found")
}

// Policy is the handle's: each usage is needed for its own operation, and a revoked grant stops all of them.
func TestPolicy(t *testing.T) {
	h := newHouse(t, "p256", "rsa", "aes", "hmac")
	ctx := t.Context()
	signature, err := h.engine.Sign(ctx, "p256", SignRequest{})
	if err != nil {
		t.Fatal(err)
	}
	sealed, err := h.engine.Encrypt(ctx, "aes", EncryptRequest{})
	if err != nil {
		t.Fatal(err)
	}
	mac, err := h.engine.HMAC(ctx, "hmac", MACRequest{})
	if err != nil {
		t.Fatal(err)
	}
	operations := map[string]struct {
		key string
		do  func() error
	}{
		"sign":        {"p256", func() error { _, err := h.engine.Sign(ctx, "p256", SignRequest{}); return err }},
		"verify":      {"p256", func() error { _, err := h.engine.Verify(ctx, "p256", signature, SignRequest{}); return err }},
		"encrypt":     {"aes", func() error { _, err := h.engine.Encrypt(ctx, "aes", EncryptRequest{}); return err }},
		"decrypt":     {"aes", func() error { _, err := h.engine.Decrypt(ctx, "aes", DecryptRequest{Ciphertext: sealed}); return err }},
		"encrypt RSA": {"rsa", func() error { _, err := h.engine.Encrypt(ctx, "rsa", EncryptRequest{}); return err }},
		"mac":         {"hmac", func() error { _, err := h.engine.HMAC(ctx, "hmac", MACRequest{}); return err }},
		"verify mac":  {"hmac", func() error { _, err := h.engine.VerifyHMAC(ctx, "hmac", mac, MACRequest{}); return err }},
	}
	update := func(t *testing.T, name string, usages backend.Usage) {
		entry, err := h.registry.Entry(namespace.Ref{Name: name})
		if err != nil {
			t.Fatal(err)
		}
		entry.Usages = usages
		if err := h.registry.Update(ctx, entry); err != nil {
			t.Fatal(err)
		}
	}
	for name, op := range operations {
		t.Run(name, func(t *testing.T) {
			if err := op.do(); err != nil {
				t.Fatal(err)
			}
			update(t, op.key, backend.UsageGenerateRandom)
			wantError(t, op.do(), backend.ErrNotPermitted)
			update(t, op.key, allUsages)
			if err := op.do(); err != nil {
				t.Fatal(err)
			}
			if err := h.registry.Revoke(t.Context(), h.mount, op.key); err != nil {
				t.Fatal(err)
			}
			wantError(t, op.do(), backend.ErrNotPermitted)
			if err := h.registry.Grant(t.Context(), h.mount, op.key); err != nil {
				t.Fatal(err)
			}
		})
	}
}

// A version answers for the key that it was made with and for no other; what that one signed stays signed.
func TestKeyReplaced(t *testing.T) {
	ctx := t.Context()
	h := newHouse(t, "p256", "aes")
	request := SignRequest{Input: []byte("message")}
	signature, err := h.engine.Sign(ctx, "p256", request)
	if err != nil {
		t.Fatal(err)
	}
	sealed, err := h.engine.Encrypt(ctx, "aes", EncryptRequest{Plaintext: []byte("secret")})
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"p256", "aes"} {
		entry, err := h.registry.Entry(namespace.Ref{Name: name})
		if err != nil {
			t.Fatal(err)
		}
		params := kinds[name]
		params.KeyName = name
		entry.Params, entry.AllowGenerateKey, entry.AllowReplaceKey = params, true, true
		if err := h.registry.Update(ctx, entry); err != nil {
			t.Fatal(err)
		}
		if _, err := h.registry.Generate(ctx, entry.Ref); err != nil {
			t.Fatal(err)
		}
	}
	_, err = h.engine.Sign(ctx, "p256", request)
	wantError(t, err, backend.ErrKeyChanged, `key "p256" version 1`)
	_, err = h.engine.Encrypt(ctx, "aes", EncryptRequest{})
	wantError(t, err, backend.ErrKeyChanged)
	_, err = h.engine.Decrypt(ctx, "aes", DecryptRequest{Ciphertext: sealed})
	wantError(t, err, backend.ErrKeyChanged)
	if ok, err := h.engine.Verify(ctx, "p256", signature, request); !ok || err != nil {
		t.Errorf("verify with the public key of version 1: got %t, %v", ok, err)
	}
	if ok, err := h.engine.Verify(ctx, "p256", signature, SignRequest{Input: []byte("other")}); ok || err != nil {
		t.Errorf("verify another message: got %t, %v", ok, err)
	}

	// The new key of the same entry is another version.
	if err := h.engine.Rotate(ctx, "p256", "p256"); err != nil {
		t.Fatal(err)
	}
	again, err := h.engine.Sign(ctx, "p256", request)
	if err != nil || !strings.HasPrefix(again, "vault:v2:") {
		t.Errorf("got %.9s, %v", again, err)
	}
	entry, err := h.registry.Entry(namespace.Ref{Name: "p256"})
	if err != nil {
		t.Fatal(err)
	}
	entry.Usages = backend.UsageSign
	if err := h.registry.Update(ctx, entry); err != nil {
		t.Fatal(err)
	}
	_, err = h.engine.Verify(ctx, "p256", signature, request)
	wantError(t, err, backend.ErrNotPermitted, "usage verify")
}

// While the key manager is out of reach, verifying and encrypting with RSA go on and the rest says so. When the entry is
// gone, nothing goes on.
func TestOutOfReach(t *testing.T) {
	ctx := t.Context()
	h := newHouse(t, "p256", "rsa")
	request := SignRequest{Input: []byte("message")}
	signature, err := h.engine.Sign(ctx, "p256", request)
	if err != nil {
		t.Fatal(err)
	}
	if err := h.software.Close(); err != nil {
		t.Fatal(err)
	}
	_, err = h.engine.Sign(ctx, "p256", request)
	wantError(t, err, backend.ErrUnavailable)
	if ok, err := h.engine.Verify(ctx, "p256", signature, request); !ok || err != nil {
		t.Errorf("verify: got %t, %v", ok, err)
	}
	if ok, err := h.engine.Verify(ctx, "p256", signature, SignRequest{}); ok || err != nil {
		t.Errorf("verify another message: got %t, %v", ok, err)
	}
	ciphertext, err := h.engine.Encrypt(ctx, "rsa", EncryptRequest{Plaintext: []byte("secret")})
	if err != nil {
		t.Errorf("encrypt: %v", err)
	}
	_, err = h.engine.Decrypt(ctx, "rsa", DecryptRequest{Ciphertext: ciphertext})
	wantError(t, err, backend.ErrUnavailable)

	if err := h.registry.Revoke(t.Context(), h.mount, "p256"); err != nil {
		t.Fatal(err)
	}
	_, err = h.engine.Verify(ctx, "p256", signature, request)
	wantError(t, err, backend.ErrNotPermitted)
	if err := h.registry.Delete(ctx, namespace.Ref{Name: "p256"}); err != nil {
		t.Fatal(err)
	}
	_, err = h.engine.Verify(ctx, "p256", signature, request)
	wantError(t, err, backend.ErrKeyNotFound)
}

func TestConcurrentUse(t *testing.T) {
	h := newHouse(t, "p256")
	for _, name := range []string{"p256-2", "p256-3", "p256-4"} {
		h.addManaged(t, name, allUsages)
	}
	ctx := t.Context()
	var wg sync.WaitGroup
	for _, name := range []string{"p256-2", "p256-3", "p256-4"} {
		wg.Go(func() {
			if err := h.engine.Rotate(ctx, "p256", name); err != nil {
				t.Error(err)
			}
		})
	}
	for range 8 {
		wg.Go(func() {
			for range 20 {
				signature, err := h.engine.Sign(ctx, "p256", SignRequest{Input: []byte("m")})
				if err != nil {
					t.Error(err)
					return
				}
				if ok, err := h.engine.Verify(ctx, "p256", signature, SignRequest{Input: []byte("m")}); !ok || err != nil {
					t.Errorf("%.9s: got %t, %v", signature, ok, err)
				}
				h.engine.List()
			}
		})
	}
	wg.Wait()
	info, err := h.engine.Key("p256")
	if err != nil || info.LatestVersion != 4 {
		t.Fatalf("got %+v, %v; want 4 versions", info, err)
	}
	for i, v := range info.Versions {
		if v.Version != i+1 {
			t.Errorf("version %d has number %d", i+1, v.Version)
		}
	}
}
