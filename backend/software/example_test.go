package software_test

import (
	"context"
	"crypto"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"fmt"
	"log"
	"os"
	"path/filepath"

	"github.com/managedkeys/managedkeys/backend"
	"github.com/managedkeys/managedkeys/backend/software"
)

// A key in memory is an ordinary crypto.Signer.
func ExampleNew() {
	ctx := context.Background()
	keys := software.New(nil)
	defer keys.Close()
	key, err := keys.Generate(ctx, software.Params{KeyName: "root", KeyType: software.ECDSA, Curve: software.P256}, nil)
	if err != nil {
		log.Fatal(err)
	}

	signer := key.(crypto.Signer)
	digest := sha256.Sum256([]byte("message"))
	signature, err := signer.Sign(rand.Reader, digest[:], crypto.SHA256)
	if err != nil {
		log.Fatal(err)
	}
	err = backend.Verify(signer.Public(), digest[:], signature, crypto.SHA256)
	fmt.Println(key.Capabilities().Algorithm, "signature verifies:", err == nil)
	// Output: ECDSA P-256 signature verifies: true
}

// Keys in a file are there again when it is opened with the same passphrase, and with no other.
func ExampleOpenFile() {
	ctx := context.Background()
	dir, err := os.MkdirTemp("", "software")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(dir)
	path := filepath.Join(dir, "keys")
	os.Setenv("KEYS_PASSPHRASE", "correct horse battery staple")

	keys, err := software.OpenFile(path, "env:KEYS_PASSPHRASE", nil)
	if err != nil {
		log.Fatal(err)
	}
	_, err = keys.Generate(ctx, software.Params{KeyName: "tokens", KeyType: software.Ed25519}, nil)
	if err != nil {
		log.Fatal(err)
	}
	keys.Close()

	keys, err = software.OpenFile(path, "env:KEYS_PASSPHRASE", nil)
	if err != nil {
		log.Fatal(err)
	}
	defer keys.Close()
	for info, err := range keys.List(ctx, nil) {
		if err != nil {
			log.Fatal(err)
		}
		fmt.Println(info.Label, info.Algorithm)
	}

	_, err = software.OpenFile(path, "guess", nil)
	fmt.Println("credentials refused:", errors.Is(err, backend.ErrCredentials))
	// Output:
	// tokens Ed25519
	// credentials refused: true
}

// Two Backends on one store stand for two clients of one key manager.
func ExampleBackend_Share() {
	ctx := context.Background()
	first := software.New(nil)
	defer first.Close()
	second := first.Share()
	defer second.Close()

	if _, err := first.Generate(ctx, software.Params{KeyName: "data", KeyType: software.AES, KeyBits: 256}, nil); err != nil {
		log.Fatal(err)
	}
	key, err := second.Open(ctx, software.Params{KeyName: "data"})
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(key.Capabilities().Algorithm, key.Capabilities().Usages)
	// Output: AES-256 encrypt,decrypt,wrap,unwrap,generate_random
}
