package replicated_test

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"fmt"

	"github.com/managedkeys/managedkeys/backend/replicated"
	"github.com/managedkeys/managedkeys/backend/software"
	"github.com/managedkeys/managedkeys/managedkey"
	"github.com/managedkeys/managedkeys/namespace"
)

func ExampleNew() {
	ctx := context.Background()
	hall1, hall2 := twoStores(ctx, "issuing-ca") // or two HSMs, or the clients of two regions
	key, err := replicated.New([]replicated.Place{{Name: "hall-1", Backend: hall1}, {Name: "hall-2", Backend: hall2}}, nil)
	if err != nil {
		panic(err)
	}
	defer key.Close()
	keys := managedkey.NewRegistry()
	ref := namespace.Ref{Name: "issuing-ca"}
	err = keys.Create(ctx, managedkey.Entry{Ref: ref, Backend: key, Params: replicated.Params{Places: []replicated.At{
		{Place: "hall-1", Params: software.Params{KeyName: "issuing-ca"}},
		{Place: "hall-2", Params: software.Params{KeyName: "issuing-ca"}},
	}}})
	if err != nil {
		panic(err)
	}
	signer, err := keys.Signer(ctx, ref)
	if err != nil {
		panic(err)
	}
	hall1.Close() // nobody notices
	digest := sha256.Sum256([]byte("message"))
	signature, err := signer.Sign(rand.Reader, digest[:], crypto.SHA256)
	fmt.Println(err == nil && ecdsa.VerifyASN1(signer.Public().(*ecdsa.PublicKey), digest[:], signature))
	// Output: true
}

// twoStores returns two stores that have the same key.
func twoStores(ctx context.Context, name string) (a, b *software.Backend) {
	private := must(ecdsa.GenerateKey(elliptic.P256(), rand.Reader))
	a, b = software.New(nil), software.New(nil)
	for _, store := range []*software.Backend{a, b} {
		if _, err := store.Import(ctx, software.Params{KeyName: name}, private, nil); err != nil {
			panic(err)
		}
	}
	return a, b
}
