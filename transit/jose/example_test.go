package jose_test

import (
	"context"
	"fmt"
	"log"

	josev4 "github.com/go-jose/go-jose/v4"

	"github.com/managedkeys/managedkeys/backend/software"
	"github.com/managedkeys/managedkeys/managedkey"
	"github.com/managedkeys/managedkeys/transit"
	"github.com/managedkeys/managedkeys/transit/jose"
)

func ExampleNewSigner() {
	ctx := context.Background()
	store := software.New(nil)
	defer store.Close()
	mount, err := managedkey.NewRegistry().Mount(ctx, "", "transit")
	if err != nil {
		log.Fatal(err)
	}
	engine := transit.New(mount, &transit.Options{Software: store})
	if err := engine.CreateKey(ctx, "tokens", transit.KeyOptions{Type: transit.TypeP256}); err != nil {
		log.Fatal(err)
	}

	key, err := engine.Signer(ctx, "tokens", 0)
	if err != nil {
		log.Fatal(err)
	}
	opaque, err := jose.NewSigner(key, nil)
	if err != nil {
		log.Fatal(err)
	}
	signer, err := josev4.NewSigner(josev4.SigningKey{Algorithm: opaque.Algs()[0], Key: opaque}, nil)
	if err != nil {
		log.Fatal(err)
	}
	object, err := signer.Sign([]byte(`{"sub":"alice"}`))
	if err != nil {
		log.Fatal(err)
	}
	payload, err := object.Verify(opaque.Public()) // by whoever has the public key
	if err != nil {
		log.Fatal(err)
	}
	fmt.Printf("%s %s\n", opaque.Algs()[0], payload)
	// Output: ES256 {"sub":"alice"}
}
