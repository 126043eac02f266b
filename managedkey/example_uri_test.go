package managedkey_test

import (
	"context"
	"fmt"

	"github.com/managedkeys/managedkeys/backend/software"
	"github.com/managedkeys/managedkeys/managedkey"
	"github.com/managedkeys/managedkeys/namespace"
)

// A key by its canonical name, with whichever backend has it.
func ExampleParseURI() {
	ctx := context.Background()
	b := software.New(nil)
	defer b.Close()
	if _, err := b.Generate(ctx, software.Params{KeyName: "issuing-ca", KeyType: software.ECDSA, Curve: software.P256}, nil); err != nil {
		panic(err)
	}

	uri, err := managedkey.ParseURI("software:memory/issuing-ca")
	if err != nil {
		panic(err)
	}
	key, err := uri.Open(ctx, b) // and any other backends: the one that has the key is taken
	if err != nil {
		panic(err)
	}
	fmt.Println(uri.Type(), key.Capabilities().Algorithm)

	entry, err := uri.Entry(namespace.Ref{Namespace: "team-a", Name: "issuing-ca"}, b)
	if err != nil {
		panic(err)
	}
	keys := managedkey.NewRegistry()
	fmt.Println(keys.Create(ctx, entry), keys.List("team-a"))
	// Output:
	// software ECDSA P-256
	// <nil> [issuing-ca]
}

// The PIN is not in the URI, and doesn't show if it is.
func ExampleURI_With() {
	uri, err := managedkey.ParseURI("pkcs11:token=hall-1;object=issuing-ca;type=private?pin-value=1234")
	fmt.Println(uri, err)

	uri, err = managedkey.ParseURI("arn:aws:kms:eu-central-1:111122223333:alias/issuing-ca")
	fmt.Println(uri.Type(), err)
	// With what a URI can't say: uri.With(awskms.Params{Endpoint: "https://kms.internal"}).Open(ctx, cloud)

	_, err = managedkey.ParseURI("https://example.com/")
	fmt.Println(err != nil)
	// Output:
	// pkcs11:token=hall-1;object=issuing-ca;type=private <nil>
	// awskms <nil>
	// true
}
