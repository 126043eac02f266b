package transit

import (
	"errors"
	"strings"
	"sync"
	"testing"

	"github.com/managedkeys/managedkeys/backend"
	"github.com/managedkeys/managedkeys/backend/software"
	"github.com/managedkeys/managedkeys/managedkey"
	"github.com/managedkeys/managedkeys/namespace"
)

// addGenerated makes and grants a managed key that can be rotated, and a transit key of it.
func (h *house) addGenerated(tb testing.TB, name string) namespace.Ref {
	tb.Helper()
	params := kinds[name]
	params.KeyName = name
	ref := namespace.Ref{Name: name}
	err := h.registry.Create(tb.Context(), managedkey.Entry{
		Ref: ref, Backend: h.software, Params: params, Usages: allUsages, AllowGenerateKey: true, AnyMount: true,
	})
	if err == nil {
		err = h.engine.CreateKey(tb.Context(), name, KeyOptions{ManagedKey: name})
	}
	if err != nil {
		tb.Fatal(err)
	}
	return ref
}

// TestRotateManagedKey: a transit key follows its managed key from version to version, and what each version made is still
// good.
func TestRotateManagedKey(t *testing.T) {
	h := newHouse(t)
	ref := h.addGenerated(t, "rsa")
	ctx, message := t.Context(), SignRequest{Input: []byte("message")}
	var signatures, ciphertexts []string
	for n := range 3 {
		signature, err := h.engine.Sign(ctx, "rsa", message)
		if err != nil {
			t.Fatal(err)
		}
		ciphertext, err := h.engine.Encrypt(ctx, "rsa", EncryptRequest{Plaintext: []byte("secret")})
		if err != nil {
			t.Fatal(err)
		}
		signatures, ciphertexts = append(signatures, signature), append(ciphertexts, ciphertext)
		if n == 1 { // once somebody else has rotated the managed key, which changes nothing until the transit key is
			if _, err := h.registry.Rotate(ctx, ref, nil); err != nil {
				t.Fatal(err)
			}
			again, err := h.engine.Sign(ctx, "rsa", message)
			if err != nil || !strings.HasPrefix(again, "vault:v2:") {
				t.Fatalf("got %.9s, %v; want version 2", again, err)
			}
		}
		if err := h.engine.Rotate(ctx, "rsa", ""); err != nil {
			t.Fatal(err)
		}
	}
	entry, err := h.registry.Entry(ref)
	if err != nil || entry.KeyVersion != 4 {
		t.Errorf("the managed key has version %d, want 4: %v", entry.KeyVersion, err)
	}
	for i := range signatures {
		if ok, err := h.engine.Verify(ctx, "rsa", signatures[i], message); !ok || err != nil {
			t.Errorf("signature of version %d: %t, %v", i+1, ok, err)
		}
		if plaintext, err := h.engine.Decrypt(ctx, "rsa", DecryptRequest{Ciphertext: ciphertexts[i]}); err != nil || string(plaintext) != "secret" {
			t.Errorf("ciphertext of version %d: %q, %v", i+1, plaintext, err)
		}
	}
	entry.MinDecryptionVersion = 3
	if err := h.registry.Update(ctx, entry); err != nil {
		t.Fatal(err)
	}
	_, err = h.engine.Decrypt(ctx, "rsa", DecryptRequest{Ciphertext: ciphertexts[0]})
	wantError(t, err, backend.ErrNotPermitted, "min_decryption_version")
	if _, err := h.engine.Decrypt(ctx, "rsa", DecryptRequest{Ciphertext: ciphertexts[2]}); err != nil {
		t.Error(err)
	}
}

// TestRotateUnderLoad: no operation fails while a key is rotated.
func TestRotateUnderLoad(t *testing.T) {
	h := newHouse(t)
	h.addGenerated(t, "aes")
	stop := make(chan struct{})
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for n := 0; ; n++ {
				select {
				case <-stop:
					return
				default:
				}
				ciphertext, err := h.engine.Encrypt(t.Context(), "aes", EncryptRequest{Plaintext: []byte("secret")})
				if err == nil {
					var plaintext []byte
					plaintext, err = h.engine.Decrypt(t.Context(), "aes", DecryptRequest{Ciphertext: ciphertext})
					if err == nil && string(plaintext) != "secret" {
						err = errors.New("it decrypts to something else")
					}
				}
				if err != nil {
					t.Errorf("operation %d: %v", n, err)
					return
				}
			}
		})
	}
	for range 30 {
		if err := h.engine.Rotate(t.Context(), "aes", ""); err != nil {
			t.Error(err)
		}
	}
	close(stop)
	wg.Wait()
}

// TestRotateManagedKeyRefused: what the entry or its backend doesn't allow is said, and the transit key stays.
func TestRotateManagedKeyRefused(t *testing.T) {
	h := newHouse(t, "p256")
	wantError(t, h.engine.Rotate(t.Context(), "p256", ""), backend.ErrNotPermitted, "allow_generate_key")
	h.addGenerated(t, "p384")
	if _, err := h.software.Generate(t.Context(), software.Params{KeyName: "p384-v2", KeyType: software.ECDSA, Curve: software.P384}, nil); err != nil {
		t.Fatal(err)
	}
	wantError(t, h.engine.Rotate(t.Context(), "p384", ""), backend.ErrKeyExists)
	for _, name := range []string{"p256", "p384"} {
		if info, err := h.engine.Key(name); err != nil || info.LatestVersion != 1 {
			t.Errorf("%s has version %d, %v", name, info.LatestVersion, err)
		}
	}
}
