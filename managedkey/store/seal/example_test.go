package seal_test

import (
	"context"
	"errors"
	"fmt"
	"log"
	"os"

	"github.com/managedkeys/managedkeys/backend/software"
	"github.com/managedkeys/managedkeys/managedkey/store"
	"github.com/managedkeys/managedkeys/managedkey/store/memory"
	"github.com/managedkeys/managedkeys/managedkey/store/seal"
)

// A sealed store is a store; the one below it sees neither values nor names.
func ExampleOpen() {
	ctx := context.Background()
	os.Setenv("SEAL_PASSPHRASE", "correct horse battery staple")
	key, err := seal.Passphrase("env:SEAL_PASSPHRASE", nil)
	if err != nil {
		log.Fatal(err)
	}
	inner := memory.New(nil) // or bolt, postgres, etcd
	s, err := seal.Open(ctx, inner, key, &seal.Options{EncryptNames: true})
	if err != nil {
		log.Fatal(err)
	}
	defer s.Close()

	if _, err := s.Apply(ctx, store.Op{Key: "entries/a", Value: []byte("secret")}); err != nil {
		log.Fatal(err)
	}
	record, err := s.Get(ctx, "entries/a")
	if err != nil {
		log.Fatal(err)
	}
	fmt.Printf("%s\n", record.Value)
	_, err = inner.Get(ctx, "data/entries/a")
	fmt.Println("the engine knows the name:", !errors.Is(err, store.ErrNotFound))
	// Output:
	// secret
	// the engine knows the name: false
}

// A key of a backend, here a software one, wraps the root key. It is rotated without encrypting anything anew.
func ExampleManaged() {
	ctx := context.Background()
	keys := software.New(nil) // or an HSM
	defer keys.Close()
	old, err := keys.Generate(ctx, software.Params{KeyName: "seal-1", KeyType: software.AES, KeyBits: 256}, nil)
	if err != nil {
		log.Fatal(err)
	}
	key, err := seal.Managed(old)
	if err != nil {
		log.Fatal(err)
	}
	s, err := seal.Open(ctx, memory.New(nil), key, nil)
	if err != nil {
		log.Fatal(err)
	}
	defer s.Close()

	replacement, err := keys.Generate(ctx, software.Params{KeyName: "seal-2", KeyType: software.RSA, KeyBits: 3072}, nil)
	if err != nil {
		log.Fatal(err)
	}
	if key, err = seal.Managed(replacement); err != nil {
		log.Fatal(err)
	}
	if err := s.RotateSealKey(ctx, key); err != nil {
		log.Fatal(err)
	}
	fmt.Println(s.Status().SealKind)
	// Output: rsa-oaep
}

// A passphrase is for one machine; a reference keeps it out of the program's configuration.
func ExamplePassphrase() {
	key, err := seal.Passphrase("file:/run/secrets/seal", &seal.Argon2id{MemoryKiB: 256 << 10})
	if err != nil {
		fmt.Println("there is no such file here")
		return
	}
	_ = key
	// Output: there is no such file here
}
