package managedkey_test

import (
	"context"
	"crypto"
	"crypto/sha256"
	"fmt"

	"github.com/managedkeys/managedkeys/backend/software"
	"github.com/managedkeys/managedkeys/managedkey"
	"github.com/managedkeys/managedkeys/namespace"
)

// A key gets a next version. Who holds the old one goes on with it, until the entry says that it may not sign any more.
func ExampleRegistry_Rotate() {
	ctx := context.Background()
	hsm := software.New(nil) // or any other backend
	defer hsm.Close()
	keys, ref := managedkey.NewRegistry(), namespace.Ref{Namespace: "team-a", Name: "release"}
	err := keys.Create(ctx, managedkey.Entry{
		Ref: ref, Backend: hsm, AllowGenerateKey: true,
		Params: software.Params{KeyName: "release", KeyType: software.ECDSA, Curve: software.P256},
	})
	if err != nil {
		panic(err)
	}
	old, err := keys.Key(ctx, ref)
	if err != nil {
		panic(err)
	}
	digest := sha256.Sum256([]byte("release 1.0"))
	signature, err := old.SignContext(ctx, digest[:], crypto.SHA256)
	if err != nil {
		panic(err)
	}

	next, err := keys.Rotate(ctx, ref, nil)
	if err != nil {
		panic(err)
	}
	entry, err := keys.Entry(ref)
	if err != nil {
		panic(err)
	}
	entry.MinEncryptionVersion = next.Version() // older ones verify and decrypt, and make nothing new
	if err := keys.Update(ctx, entry); err != nil {
		panic(err)
	}

	fmt.Println("newest:", next.Version())
	fmt.Println("old signature:", old.VerifyContext(ctx, digest[:], signature, crypto.SHA256))
	_, err = old.SignContext(ctx, digest[:], crypto.SHA256)
	fmt.Println("old key signs:", err)
	// Output:
	// newest: 2
	// old signature: <nil>
	// old key signs: managedkey: sign "team-a/release" (software): usage sign is not allowed: version 1 is below min_encryption_version, 2: not permitted
}
