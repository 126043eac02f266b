package pkcs11

import (
	"errors"
	"testing"

	"github.com/managedkeys/managedkeys/backend"
	"github.com/managedkeys/managedkeys/internal/faultp11"
)

// searched has the token go away and return, so that an open key is searched for, with a rule that begins with the return. It returns
// what comes of signing.
func searched(t *testing.T, f *faulty, key backend.Key, rule faultp11.Rule) <-chan error {
	t.Helper()
	if err := f.Remove(); err != nil {
		t.Fatal(err)
	}
	wants(t, signOnce(t.Context(), key), backend.ErrUnavailable)
	f.Set(rule)
	f.Insert()
	signed := make(chan error, 1)
	go func() {
		err := signOnce(t.Context(), key)
		for errors.Is(err, backend.ErrUnavailable) && t.Context().Err() == nil { // the token is not found again at once
			err = signOnce(t.Context(), key)
		}
		signed <- err
	}()
	return signed
}

// TestSearchMeetsLogout: a session that is logged out while it searches sees no private keys, which doesn't mean that there are none.
func TestSearchMeetsLogout(t *testing.T) {
	f := newFaulty(t)
	key := mustGenerate(t, f.connect(t, Library{}), f.on("key"))
	signed := searched(t, f, key, faultp11.Rule{Function: "C_FindObjectsInit", Hang: true, Times: 1})
	eventually(t, "a search", func() bool { return f.Hanging() > 0 })
	if err := f.Logout(); err != nil {
		t.Fatal(err)
	}
	f.Set()
	if err := <-signed; err != nil {
		t.Fatal(err)
	}
}

// TestUnreadObject: an object of which a search can't read what it is, as if it was removed meanwhile, is looked at again.
func TestUnreadObject(t *testing.T) {
	f := newFaulty(t)
	key := mustGenerate(t, f.connect(t, Library{}), f.on("key"))
	for _, code := range []ckr{ckrObjectHandleInvalid, ckrAttributeValueInvalid} {
		for skip := range 2 { // the public key, the private one
			signed := searched(t, f, key, faultp11.Rule{Function: "C_GetAttributeValue", Code: uint64(code), Skip: skip, Times: 1})
			if err := <-signed; err != nil {
				t.Error(code, skip, err)
			}
			f.Set()
		}
	}
}
