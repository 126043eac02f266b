package pki

import (
	"testing"

	"github.com/managedkeys/managedkeys/backend"
	"github.com/managedkeys/managedkeys/backend/software"
	"github.com/managedkeys/managedkeys/managedkey"
	"github.com/managedkeys/managedkeys/namespace"
)

// TestNewestAway: a CA whose key is an older version goes on while the key manager of the newest is away.
func TestNewestAway(t *testing.T) {
	keys, away := software.New(nil), software.New(nil)
	defer keys.Close()
	away.Close()
	registry, ref := managedkey.NewRegistry(), namespace.Ref{Name: "ca"}
	entry := managedkey.Entry{
		Ref: ref, Backend: keys, AllowGenerateKey: true, AnyMount: true,
		Params: software.Params{KeyName: "ca", KeyType: software.ECDSA, Curve: software.P256},
	}
	if err := registry.Create(t.Context(), entry); err != nil {
		t.Fatal(err)
	}
	mount, err := registry.Mount(t.Context(), "", "pki")
	if err != nil {
		t.Fatal(err)
	}
	h := &house{engine: New(mount, nil)}
	old := mustRoot(t, h, "ca", rootTemplate())
	pin, err := backend.Fingerprint(old.Certificate().PublicKey)
	if err != nil {
		t.Fatal(err)
	}
	entry.Older = []managedkey.OlderVersion{{Version: 1, Backend: keys, Params: entry.Params, PublicKeySHA256: pin[:]}}
	entry.Ref.Name, entry.Backend, entry.PublicKeySHA256 = "restarted", away, make([]byte, 32)
	if err := registry.Create(t.Context(), entry); err != nil {
		t.Fatal(err)
	}
	ca, err := h.engine.LoadCA(t.Context(), "restarted", old.Chain())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := ca.Sign(t.Context(), testKeys()["rsa"].Public(), leafTemplate()); err != nil {
		t.Error(err)
	}
}
