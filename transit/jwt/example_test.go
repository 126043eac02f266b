package jwt_test

import (
	"context"
	"fmt"
	"log"

	jwtv5 "github.com/golang-jwt/jwt/v5"

	"github.com/managedkeys/managedkeys/backend/software"
	"github.com/managedkeys/managedkeys/managedkey"
	"github.com/managedkeys/managedkeys/transit"
	"github.com/managedkeys/managedkeys/transit/jwt"
)

func ExampleNewMethod() {
	ctx := context.Background()
	store := software.New(nil)
	defer store.Close()
	mount, err := managedkey.NewRegistry().Mount(ctx, "", "transit")
	if err != nil {
		log.Fatal(err)
	}
	engine := transit.New(mount, &transit.Options{Software: store})
	if err := engine.CreateKey(ctx, "tokens", transit.KeyOptions{Type: transit.TypeEd25519}); err != nil {
		log.Fatal(err)
	}

	key, err := engine.Signer(ctx, "tokens", 0)
	if err != nil {
		log.Fatal(err)
	}
	method, err := jwt.NewMethod(key, "") // the algorithm that fits the key
	if err != nil {
		log.Fatal(err)
	}
	text, err := jwtv5.NewWithClaims(method, jwtv5.RegisteredClaims{Subject: "alice"}).SignedString(ctx)
	if err != nil {
		log.Fatal(err)
	}
	token, err := jwtv5.Parse(text, func(*jwtv5.Token) (any, error) { return key.Public(), nil }) // by whoever has the public key
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(token.Claims.GetSubject())
	// Output: alice <nil>
}
