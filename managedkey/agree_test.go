package managedkey

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ecdh"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"testing"

	"github.com/managedkeys/managedkeys/backend"
)

// ecKey is a key that agrees as crypto/ecdh does.
type ecKey struct {
	*backend.Handle
	backend.AgreeOps
}

func newECKey(t *testing.T, usages backend.Usage) ecKey {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	own, err := private.ECDH()
	if err != nil {
		t.Fatal(err)
	}
	h := backend.NewHandle(backend.HandleConfig{ID: "ec", Public: private.Public(),
		Capabilities: backend.Capabilities{Algorithm: "ECDSA P-256", Usages: usages}})
	return ecKey{h, h.Agreeing(func(_ context.Context, peer *ecdh.PublicKey) ([]byte, error) { return own.ECDH(peer) })}
}

var _ backend.KeyAgreer = (*Key)(nil)

// TestKeyExchanger has the registry's and a mount's narrow value agree with crypto/ecdh, and lose the right to.
func TestKeyExchanger(t *testing.T) {
	key := newECKey(t, backend.UsageDerive)
	v := newVault()
	v.set("a/ec", key)
	r := NewRegistry()
	entry := entryOf(newClient(v), "a/ec", backend.UsageDerive)
	mustCreate(t, r, entry)
	m := mustMount(t, r, "a", "tls", "ec")
	fromRegistry, err := r.KeyExchanger(t.Context(), ref("a/ec"))
	check(t, err, nil)
	fromMount, err := m.KeyExchanger(t.Context(), "ec")
	check(t, err, nil)

	peer, err := ecdh.P256().GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	foreign, err := ecdh.P384().GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	for name, x := range map[string]ecdh.KeyExchanger{"registry": fromRegistry, "mount": fromMount, "handle": mustKey(t, r, "a/ec")} {
		want, err := peer.ECDH(x.PublicKey())
		if err != nil || x.Curve() != ecdh.P256() || !x.PublicKey().Equal(key.PublicKey()) {
			t.Fatalf("%s: PublicKey is %v on %v: %v", name, x.PublicKey(), x.Curve(), err)
		}
		got, err := x.ECDH(peer.PublicKey())
		if check(t, err, nil); !bytes.Equal(got, want) {
			t.Errorf("%s: the secret is not the one that the peer computes", name)
		}
		got, err = x.(interface {
			ECDHContext(context.Context, *ecdh.PublicKey) ([]byte, error)
		}).ECDHContext(bg, peer.PublicKey())
		if check(t, err, nil); !bytes.Equal(got, want) {
			t.Errorf("%s: the secret with a context is not the one that the peer computes", name)
		}
		_, err = x.ECDH(foreign.PublicKey())
		check(t, err, backend.ErrInvalidParams, "agree", "on P-384; it takes one on P-256")
	}
	for name, x := range map[string]any{"registry": fromRegistry, "mount": fromMount} {
		if _, ok := x.(crypto.Signer); ok {
			t.Errorf("the %s's value is a crypto.Signer", name)
		}
		if _, ok := x.(crypto.Decrypter); ok {
			t.Errorf("the %s's value is a crypto.Decrypter", name)
		}
		says, ok := x.(interface{ Capabilities() backend.Capabilities })
		if !ok || says.Capabilities().Usages != backend.UsageDerive {
			t.Errorf("the %s's value doesn't say what the key can do", name)
		}
	}
	s, err := newSignerOf(t, backend.UsageSign|backend.UsageDerive)
	check(t, err, nil)
	if _, ok := s.(ecdh.KeyExchanger); ok {
		t.Error("a narrow signer is an ecdh.KeyExchanger")
	}

	check(t, r.Revoke(bg, m, "ec"), nil)
	_, err = fromMount.ECDH(peer.PublicKey())
	check(t, err, backend.ErrNotPermitted, "no grant")
	_, err = m.KeyExchanger(t.Context(), "ec")
	check(t, err, backend.ErrNotPermitted)
	entry.Usages = allUsages &^ backend.UsageDerive
	check(t, r.Update(t.Context(), entry), nil)
	_, err = fromRegistry.ECDH(peer.PublicKey())
	check(t, err, backend.ErrNotPermitted, "usage derive is not allowed")
}

func newSignerOf(t *testing.T, usages backend.Usage) (crypto.Signer, error) {
	t.Helper()
	r := NewRegistry()
	mustCreate(t, r, entryOf(newClient(newVault("a/k")), "a/k", usages))
	return r.Signer(t.Context(), ref("a/k"))
}

// TestKeysThatCannotAgree checks that a narrow value is given out only if it would work.
func TestKeysThatCannotAgree(t *testing.T) {
	v := newVault("a/fake") // has the method, and an Ed25519 key
	v.set("a/rsa", newRSAKey(rsaCaps))
	v.set("a/bare", struct{ backend.Key }{newECKey(t, backend.UsageDerive)})
	v.set("a/idle", newECKey(t, backend.UsageSign))
	v.set("a/sym", fakeKey{"sym"})
	r := NewRegistry()
	for _, name := range []string{"a/fake", "a/rsa", "a/bare", "a/idle", "a/sym"} {
		mustCreate(t, r, entryOf(newClient(v), name, allUsages))
		x, err := r.KeyExchanger(t.Context(), ref(name))
		check(t, err, backend.ErrUnsupported, "managedkey: open")
		if x != nil {
			t.Errorf("%s: got %v", name, x)
		}
		k := mustKey(t, r, name)
		if elliptic := name == "a/bare" || name == "a/idle"; (k.PublicKey() != nil) != elliptic || (k.Curve() != nil) != elliptic {
			t.Errorf("%s: PublicKey is %v on %v", name, k.PublicKey(), k.Curve())
		}
	}
	x, err := handleOf(t, newECKey(t, backend.UsageDerive), backend.UsageSign).narrowExchanger(t.Context())
	check(t, err, backend.ErrNotPermitted, "usage derive")
	if x != nil {
		t.Errorf("got %v", x)
	}
}
