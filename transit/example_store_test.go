package transit_test

import (
	"context"
	"fmt"
	"log"

	"github.com/managedkeys/managedkeys/backend/software"
	"github.com/managedkeys/managedkeys/managedkey"
	"github.com/managedkeys/managedkeys/managedkey/store/memory"
	"github.com/managedkeys/managedkeys/namespace"
	"github.com/managedkeys/managedkeys/transit"
)

// Keys are in a store. This one is not sealed, which a program must say if it wants software keys in it all the same.
func ExampleOpen() {
	ctx := context.Background()
	st := memory.New(nil) // or bolt, postgres, etcd; under seal
	defer st.Close()
	keys, err := managedkey.Open(ctx, st, nil, nil)
	if err != nil {
		log.Fatal(err)
	}
	defer keys.Close()
	mount, err := keys.Mount(ctx, namespace.Root, "transit")
	if err != nil {
		log.Fatal(err)
	}
	soft := software.New(nil)
	defer soft.Close()
	engine, err := transit.Open(ctx, mount, st, &transit.Options{Software: soft, AllowUnsealed: true})
	if err != nil {
		log.Fatal(err)
	}
	defer engine.Close()
	if err := engine.CreateKey(ctx, "users", transit.KeyOptions{Type: transit.TypeAES256, Derived: true}); err != nil {
		log.Fatal(err)
	}
	ciphertext, err := engine.Encrypt(ctx, "users", transit.EncryptRequest{Plaintext: []byte("secret"), Context: []byte("user 1")})
	if err != nil {
		log.Fatal(err)
	}
	if err := engine.Rotate(ctx, "users", ""); err != nil {
		log.Fatal(err)
	}
	ciphertext, err = engine.Rewrap(ctx, "users", transit.RewrapRequest{Ciphertext: ciphertext, Context: []byte("user 1")})
	if err != nil {
		log.Fatal(err)
	}
	plaintext, err := engine.Decrypt(ctx, "users", transit.DecryptRequest{Ciphertext: ciphertext, Context: []byte("user 1")})
	fmt.Printf("%.9s %s %v\n", ciphertext, plaintext, err)
	_, err = engine.Decrypt(ctx, "users", transit.DecryptRequest{Ciphertext: ciphertext, Context: []byte("user 2")})
	fmt.Println(err)
	// Output:
	// vault:v2: secret <nil>
	// transit: decryption failed
}

// One bad item spoils nothing.
func ExampleEngine_HMACBatch() {
	ctx := context.Background()
	mount, err := managedkey.NewRegistry().Mount(ctx, namespace.Root, "transit")
	if err != nil {
		log.Fatal(err)
	}
	soft := software.New(nil)
	defer soft.Close()
	engine := transit.New(mount, &transit.Options{Software: soft})
	if err := engine.CreateKey(ctx, "tokens", transit.KeyOptions{Type: transit.TypeHMAC}); err != nil {
		log.Fatal(err)
	}
	results, err := engine.HMACBatch(ctx, "tokens", []transit.MACRequest{
		{Input: []byte("a"), Reference: "first"}, {Input: []byte("b"), HashAlgorithm: "md5", Reference: "second"}, {Input: []byte("c"), Reference: "third"},
	})
	if err != nil {
		log.Fatal(err)
	}
	for _, r := range results {
		fmt.Printf("%s: %.9s, error: %t\n", r.Reference, r.Value, r.Err != nil)
	}
	// Output:
	// first: vault:v1:, error: false
	// second: , error: true
	// third: vault:v1:, error: false
}
