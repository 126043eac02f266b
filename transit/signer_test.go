package transit

import (
	"context"
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"errors"
	"testing"

	"github.com/managedkeys/managedkeys/backend"
)

// A signer is one version of one key for as long as that may be used.
func TestSigner(t *testing.T) {
	h := newSoftHouse(t)
	e, ctx, message := h.engine, t.Context(), []byte("message")
	h.addManaged(t, "rsa", allUsages)
	h.addManaged(t, "rsa-2", allUsages)
	h.addManaged(t, "rsa-encrypts", backend.UsageEncrypt|backend.UsageDecrypt)
	h.create(t, "rsa", KeyOptions{ManagedKey: "rsa"})
	h.create(t, "rsa-encrypts", KeyOptions{ManagedKey: "rsa-encrypts"})
	h.create(t, "own", KeyOptions{Type: TypeRSA2048})
	h.create(t, "aes", KeyOptions{Type: TypeAES256})
	h.create(t, "derived", KeyOptions{Type: TypeEd25519, Derived: true})
	for name, next := range map[string]string{"rsa": "rsa-2", "own": ""} {
		s, err := e.Signer(ctx, name, 0)
		fatal(t, err)
		if s.Version() != 1 || len(s.Capabilities().Signatures) == 0 {
			t.Errorf("%s: version %d, %+v", name, s.Version(), s.Capabilities())
		}
		fatal(t, e.Rotate(ctx, name, next))
		public := s.Public().(*rsa.PublicKey)
		sum := sha256.Sum256(message)
		opts := &rsa.PSSOptions{Hash: crypto.SHA256, SaltLength: 20}
		one, err := s.Sign(rand.Reader, sum[:], opts)
		fatal(t, err)
		two, err := s.SignMessage(rand.Reader, message, opts)
		fatal(t, err)
		for _, signature := range [][]byte{one, two} {
			if err := rsa.VerifyPSS(public, crypto.SHA256, sum[:], signature, opts); err != nil {
				t.Errorf("%s: %v", name, err)
			}
		}
		info, err := e.Key(name)
		fatal(t, err)
		if !public.Equal(info.Versions[0].PublicKey) || public.Equal(info.Versions[1].PublicKey) {
			t.Errorf("%s: the signer is not of version 1", name)
		}
		canceled, cancel := context.WithCancel(ctx)
		cancel()
		if _, err := s.WithContext(canceled).Sign(nil, sum[:], opts); !errors.Is(err, context.Canceled) {
			t.Errorf("%s: got %v", name, err)
		}
		_, err = s.Sign(nil, sum[:], nil)
		wantError(t, err, backend.ErrInvalidParams, "options are nil")

		one2, yes := 2, true
		fatal(t, e.Configure(ctx, name, Config{MinEncryptionVersion: &one2, DeletionAllowed: &yes}))
		_, err = s.Sign(nil, sum[:], opts)
		wantError(t, err, backend.ErrInvalidParams, "less than the minimum encryption key version")
		s, err = e.Signer(ctx, name, 2)
		fatal(t, err)
		fatal(t, e.SoftDelete(ctx, name))
		_, err = s.Sign(nil, sum[:], opts)
		wantError(t, err, backend.ErrNotPermitted, "is deleted")
		if caps := s.Capabilities(); len(caps.Signatures) != 0 {
			t.Errorf("%s: a deleted key can %+v", name, caps)
		}
		fatal(t, e.Undelete(ctx, name))
		fatal(t, e.DeleteKey(ctx, name))
		h.create(t, name, KeyOptions{Type: TypeRSA2048})
		fatal(t, e.Rotate(ctx, name, ""))
		_, err = s.Sign(nil, sum[:], opts)
		wantError(t, err, backend.ErrKeyNotFound, "made again")
	}
	for name, sentinel := range map[string]error{
		"aes": backend.ErrUnsupported, "derived": backend.ErrUnsupported, "rsa-encrypts": backend.ErrNotPermitted, "nobody": backend.ErrKeyNotFound,
	} {
		s, err := e.Signer(ctx, name, 0)
		if err == nil { // a policy is the managed key's business, at each signature
			_, err = s.Sign(nil, make([]byte, 32), crypto.SHA256)
		}
		t.Log(name)
		wantError(t, err, sentinel)
	}
}
