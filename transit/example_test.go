package transit_test

import (
	"context"
	"fmt"
	"log"
	"strings"

	"github.com/managedkeys/managedkeys/backend"
	"github.com/managedkeys/managedkeys/backend/software"
	"github.com/managedkeys/managedkeys/managedkey"
	"github.com/managedkeys/managedkeys/namespace"
	"github.com/managedkeys/managedkeys/transit"
)

func Example() {
	ctx := context.Background()
	keys := managedkey.NewRegistry()
	keeper := software.New(nil)
	defer keeper.Close()
	err := keys.Create(ctx, managedkey.Entry{
		Ref:              namespace.Ref{Namespace: "team-a", Name: "orders-2026"},
		Backend:          keeper,
		Params:           software.Params{KeyName: "orders-2026", KeyType: software.ECDSA, Curve: software.P256},
		AllowGenerateKey: true,
	})
	if err != nil {
		log.Fatal(err)
	}
	mount, err := keys.Mount(ctx, "team-a", "transit", "orders-2026")
	if err != nil {
		log.Fatal(err)
	}

	engine := transit.New(mount, nil)
	if err := engine.CreateKey(ctx, "orders", transit.KeyOptions{ManagedKey: "orders-2026"}); err != nil {
		log.Fatal(err)
	}
	request := transit.SignRequest{Input: []byte("10 boxes")}
	signature, err := engine.Sign(ctx, "orders", request)
	if err != nil {
		log.Fatal(err)
	}
	valid, err := engine.Verify(ctx, "orders", signature, request)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(strings.HasPrefix(signature, "vault:v1:"), valid)

	valid, err = engine.Verify(ctx, "orders", signature, transit.SignRequest{Input: []byte("100 boxes")})
	fmt.Println(valid, err)
	// Output:
	// true true
	// false <nil>
}

func ExampleEngine_Encrypt() {
	ctx := context.Background()
	keys := managedkey.NewRegistry()
	keeper := software.New(nil)
	defer keeper.Close()
	for _, name := range []string{"cards-2025", "cards-2026"} {
		err := keys.Create(ctx, managedkey.Entry{
			Ref:              namespace.Ref{Name: name},
			Backend:          keeper,
			Params:           software.Params{KeyName: name, KeyType: software.AES, KeyBits: 256},
			Usages:           backend.UsageEncrypt | backend.UsageDecrypt,
			AllowGenerateKey: true,
		})
		if err != nil {
			log.Fatal(err)
		}
	}
	mount, err := keys.Mount(ctx, namespace.Root, "transit", "cards-2025", "cards-2026")
	if err != nil {
		log.Fatal(err)
	}

	engine := transit.New(mount, nil)
	if err := engine.CreateKey(ctx, "cards", transit.KeyOptions{ManagedKey: "cards-2025"}); err != nil {
		log.Fatal(err)
	}
	customer := []byte("customer 42")
	old, err := engine.Encrypt(ctx, "cards", transit.EncryptRequest{Plaintext: []byte("4111 1111"), AssociatedData: customer})
	if err != nil {
		log.Fatal(err)
	}
	if err := engine.Rotate(ctx, "cards", "cards-2026"); err != nil {
		log.Fatal(err)
	}
	plaintext, err := engine.Decrypt(ctx, "cards", transit.DecryptRequest{Ciphertext: old, AssociatedData: customer})
	fmt.Printf("%s %v\n", plaintext, err)
	_, err = engine.Decrypt(ctx, "cards", transit.DecryptRequest{Ciphertext: old, AssociatedData: []byte("customer 43")})
	fmt.Println(err)
	fresh, err := engine.Encrypt(ctx, "cards", transit.EncryptRequest{Plaintext: []byte("4111 1111"), AssociatedData: customer})
	fmt.Println(fresh[:9], err)
	// Output:
	// 4111 1111 <nil>
	// transit: decryption failed
	// vault:v2: <nil>
}
