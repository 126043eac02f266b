package managedkey_test

import (
	"context"
	"fmt"

	"github.com/managedkeys/managedkeys/backend/software"
	"github.com/managedkeys/managedkeys/managedkey"
	"github.com/managedkeys/managedkeys/namespace"
)

func ExampleRegistry_Test() {
	ctx := context.Background()
	hsm := software.New(nil) // or any other backend
	defer hsm.Close()
	keys := managedkey.NewRegistry()
	ref := namespace.Ref{Namespace: "team-a", Name: "identity"}
	err := keys.Create(ctx, managedkey.Entry{
		Ref: ref, AllowGenerateKey: true,
		Backend: hsm, Params: software.Params{KeyName: "identity", KeyType: software.Ed25519},
	})
	if err != nil {
		panic(err)
	}
	_, err = keys.Test(ctx, ref, nil) // makes no key
	fmt.Println(err)
	report, err := keys.Test(ctx, ref, &managedkey.TestOptions{Generate: true})
	if err != nil {
		panic(err)
	}
	for _, step := range report.Steps { // or print the report
		fmt.Println(step.Usage, step.Algorithm, step.Err)
	}
	// Output:
	// managedkey: test "team-a/identity" (software): software: key "identity" in store "memory": key not found
	// sign Ed25519 <nil>
	// verify Ed25519 <nil>
	// sign Ed25519 with SHA-512 <nil>
	// verify Ed25519 with SHA-512 <nil>
}

func ExampleRegistry_TestSign() {
	ctx := context.Background()
	hsm := software.New(nil)
	defer hsm.Close()
	keys := managedkey.NewRegistry()
	ref := namespace.Ref{Namespace: "team-a", Name: "issuing-ca"}
	err := keys.Create(ctx, managedkey.Entry{
		Ref: ref, AllowGenerateKey: true,
		Backend: hsm, Params: software.Params{KeyName: "issuing-ca", KeyType: software.ECDSA, Curve: software.P256},
	})
	if err != nil {
		panic(err)
	}
	fmt.Println(keys.TestSign(ctx, ref, &managedkey.TestSignOptions{HashAlgorithm: "sha2-384"}))
	// Output: <nil>
}
