package managedkey_test

import (
	"context"
	"crypto/hpke"
	"fmt"
	"log"

	"github.com/managedkeys/managedkeys/backend"
	"github.com/managedkeys/managedkeys/backend/software"
	"github.com/managedkeys/managedkeys/managedkey"
	"github.com/managedkeys/managedkeys/namespace"
)

// A key that agrees on secrets opens HPKE messages (RFC 9180). The private key stays where it is: the key manager is
// asked for one ECDH per message.
func ExampleRegistry_KeyExchanger() {
	ctx := context.Background()
	keys := software.New(nil)
	defer keys.Close()
	registry := managedkey.NewRegistry()
	ref := namespace.Ref{Name: "inbox"}
	err := registry.Create(ctx, managedkey.Entry{
		Ref:              ref,
		Backend:          keys,
		Params:           software.Params{KeyName: "inbox", KeyType: software.ECDSA, Curve: software.P256},
		Usages:           backend.UsageDerive,
		AllowGenerateKey: true,
	})
	if err != nil {
		log.Fatal(err)
	}
	exchanger, err := registry.KeyExchanger(ctx, ref)
	if err != nil {
		log.Fatal(err)
	}
	private, err := hpke.NewDHKEMPrivateKey(exchanger)
	if err != nil {
		log.Fatal(err)
	}
	info := []byte("inbox of example.com")
	message, err := hpke.Seal(private.PublicKey(), hpke.HKDFSHA256(), hpke.AES256GCM(), info, []byte("hello"))
	if err != nil {
		log.Fatal(err)
	}
	plaintext, err := hpke.Open(private, hpke.HKDFSHA256(), hpke.AES256GCM(), info, message)
	fmt.Println(string(plaintext), err)

	_, err = registry.Signer(ctx, ref)
	fmt.Println(err)
	// Output:
	// hello <nil>
	// managedkey: open "inbox" (software): usage sign is not allowed; the entry allows derive: not permitted
}
