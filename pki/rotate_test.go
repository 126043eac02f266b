package pki

import (
	"crypto/x509"
	"testing"

	"github.com/managedkeys/managedkeys/backend/software"
	"github.com/managedkeys/managedkeys/managedkey"
	"github.com/managedkeys/managedkeys/namespace"
)

// TestRotatedKey: a CA goes on with the version of its key that its certificate is of, also when it is loaded again, and what
// is made of the key afterwards has the new one.
func TestRotatedKey(t *testing.T) {
	keys := software.New(nil)
	defer keys.Close()
	registry, ref := managedkey.NewRegistry(), namespace.Ref{Name: "ca"}
	err := registry.Create(t.Context(), managedkey.Entry{
		Ref: ref, Backend: keys, AllowGenerateKey: true, AnyMount: true,
		Params: software.Params{KeyName: "ca", KeyType: software.ECDSA, Curve: software.P256},
	})
	if err != nil {
		t.Fatal(err)
	}
	mount, err := registry.Mount(t.Context(), "", "pki")
	if err != nil {
		t.Fatal(err)
	}
	h := &house{engine: New(mount, nil)}
	old := mustRoot(t, h, "ca", rootTemplate())
	if _, err := registry.Rotate(t.Context(), ref, nil); err != nil {
		t.Fatal(err)
	}
	loaded, err := h.engine.LoadCA(t.Context(), "ca", old.Chain())
	if err != nil {
		t.Fatal(err)
	}
	fresh := mustRoot(t, h, "ca", rootTemplate())
	if equalKeys(old.Certificate().PublicKey, fresh.Certificate().PublicKey) {
		t.Fatal("the new root has the old key")
	}
	for _, ca := range []*CA{old, loaded, fresh} {
		leaf, err := ca.Sign(t.Context(), testKeys()["rsa"].Public(), leafTemplate())
		if err != nil {
			t.Fatal(err)
		}
		if err := leaf.Certificate.CheckSignatureFrom(ca.Certificate()); err != nil {
			t.Error(err)
		}
		crl, err := ca.CRL(t.Context(), crlTemplate())
		if err != nil {
			t.Fatal(err)
		}
		list, err := x509.ParseRevocationList(crl)
		if err != nil {
			t.Fatal(err)
		}
		if err := list.CheckSignatureFrom(ca.Certificate()); err != nil {
			t.Error(err)
		}
	}
}
