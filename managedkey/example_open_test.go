package managedkey_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"

	"github.com/managedkeys/managedkeys/backend/software"
	"github.com/managedkeys/managedkeys/managedkey"
	"github.com/managedkeys/managedkeys/managedkey/store/bolt"
	"github.com/managedkeys/managedkeys/managedkey/store/seal"
	"github.com/managedkeys/managedkeys/namespace"
)

// Entries and mounts that outlive the program, in a file that is encrypted under a passphrase.
func ExampleOpen() {
	ctx := context.Background()
	dir, err := os.MkdirTemp("", "managedkeys")
	if err != nil {
		panic(err)
	}
	defer os.RemoveAll(dir)
	hsm := software.New(nil) // or any other backend
	defer hsm.Close()
	ref := namespace.Ref{Namespace: "team-a", Name: "issuing-ca"}
	for start := range 2 { // the program is started twice
		file, err := bolt.Open(filepath.Join(dir, "registry.db"), nil)
		if err != nil {
			panic(err)
		}
		passphrase, err := seal.Passphrase("correct horse battery staple", nil) // better: env:NAME or file:PATH, best a managed key
		if err != nil {
			panic(err)
		}
		sealed, err := seal.Open(ctx, file, passphrase, nil)
		if err != nil {
			panic(err)
		}
		keys, err := managedkey.Open(ctx, sealed, []managedkey.Connection{{Name: "hall-1", Backend: hsm}}, nil)
		if err != nil {
			panic(err)
		}
		if start == 0 {
			err := keys.Create(ctx, managedkey.Entry{
				Ref: ref, AllowGenerateKey: true, Connection: "hall-1",
				Params: software.Params{KeyName: "issuing-ca", KeyType: software.ECDSA, Curve: software.P256},
			})
			if err != nil {
				panic(err)
			}
		}
		key, err := keys.Key(ctx, ref)
		if err != nil {
			panic(err)
		}
		fmt.Println(key.Ref(), key.Capabilities().Algorithm)
		keys.Close()
		sealed.Close()
	}
	// Output:
	// team-a/issuing-ca ECDSA P-256
	// team-a/issuing-ca ECDSA P-256
}
