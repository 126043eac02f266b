package transit

import (
	"testing"
	"time"

	"github.com/managedkeys/managedkeys/backend/software"
	"github.com/managedkeys/managedkeys/managedkey"
	"github.com/managedkeys/managedkeys/managedkey/store/memory"
	"github.com/managedkeys/managedkeys/namespace"
)

// TestNewestAway: what a version made is still good while the key manager of the managed key's newest version, which another
// program has just made, is away.
func TestNewestAway(t *testing.T) {
	st, old, next, away := memory.New(nil), software.New(nil), software.New(nil), software.New(nil)
	defer st.Close()
	defer old.Close()
	defer next.Close()
	away.Close()
	start := func(next *software.Backend) *managedkey.Registry {
		conns := []managedkey.Connection{{Name: "old", Backend: old.Share()}, {Name: "new", Backend: next}}
		r, err := managedkey.Open(t.Context(), st, conns, nil)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			r.Close()
			conns[0].Backend.Close()
		})
		return r
	}
	ref := namespace.Ref{Name: "aes"}
	params := software.Params{KeyName: "aes", KeyType: software.AES, KeyBits: 256}
	mine, other := start(away), start(next)
	err := mine.Create(t.Context(), managedkey.Entry{Ref: ref, Connection: "old", Params: params, Usages: allUsages, AllowGenerateKey: true, AnyMount: true})
	if err != nil {
		t.Fatal(err)
	}
	mount, err := mine.Mount(t.Context(), "", "transit")
	if err != nil {
		t.Fatal(err)
	}
	e := New(mount, nil)
	if err := e.CreateKey(t.Context(), "aes", KeyOptions{ManagedKey: "aes"}); err != nil {
		t.Fatal(err)
	}
	ciphertext, err := e.Encrypt(t.Context(), "aes", EncryptRequest{Plaintext: []byte("secret")})
	if err != nil {
		t.Fatal(err)
	}
	heard := func(r *managedkey.Registry, version int) {
		t.Helper()
		for end := time.Now().Add(10 * time.Second); ; time.Sleep(time.Millisecond) {
			if entry, err := r.Entry(ref); err == nil && entry.KeyVersion == version {
				return
			}
			if time.Now().After(end) {
				t.Fatalf("the entry does not come to have version %d", version)
			}
		}
	}
	heard(other, 1)
	if _, err := other.Rotate(t.Context(), ref, &managedkey.RotateOptions{Params: params, Connection: "new"}); err != nil {
		t.Fatal(err)
	}
	heard(mine, 2)
	if _, err := mount.Key(t.Context(), "aes"); err == nil {
		t.Fatal("the newest version is not away")
	}
	text, err := e.Decrypt(t.Context(), "aes", DecryptRequest{Ciphertext: ciphertext})
	if err != nil || string(text) != "secret" {
		t.Errorf("got %q, %v", text, err)
	}
}
