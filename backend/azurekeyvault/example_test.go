package azurekeyvault_test

import (
	"context"
	"crypto"
	"crypto/rand"
	"crypto/sha256"
	"fmt"
	"log"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azidentity"

	"github.com/managedkeys/managedkeys/backend"
	"github.com/managedkeys/managedkeys/backend/azurekeyvault"
	"github.com/managedkeys/managedkeys/internal/fakeazure"
)

// fake starts a fake of Azure for the examples, and returns the options that lead to it; a program has none of this.
func fake() (*fakeazure.Server, *azurekeyvault.Options) {
	srv, err := fakeazure.New(nil)
	if err != nil {
		log.Fatal(err)
	}
	return srv, &azurekeyvault.Options{DialContext: srv.DialContext, RootCAs: srv.RootCAs()}
}

// A service principal, a vault and a key as the managed-keys API names them. Without ClientSecret, the identity is found in
// the surroundings of the program: workload identity, managed identity, Azure CLI.
func ExampleConnect() {
	ctx := context.Background()
	srv, opts := fake() // nil in a program
	defer srv.Close()

	azure, err := azurekeyvault.Connect(opts)
	if err != nil {
		log.Fatal(err)
	}
	defer azure.Close()
	params := azurekeyvault.Params{
		TenantID: fakeazure.TenantID, ClientID: fakeazure.ClientID, ClientSecret: fakeazure.ClientSecret, // or "env:NAME"
		VaultName: "myvault", KeyName: "issuing-ca", KeyType: azurekeyvault.EC, Curve: azurekeyvault.P384,
	}
	if _, err := azure.Generate(ctx, params, nil); err != nil {
		log.Fatal(err)
	}
	key, err := azure.Open(ctx, params)
	if err != nil {
		log.Fatal(err)
	}

	signer := key.(crypto.MessageSigner)
	signature, err := signer.SignMessage(rand.Reader, []byte("message"), crypto.SHA384)
	if err != nil {
		log.Fatal(err)
	}
	digest := crypto.SHA384.New()
	digest.Write([]byte("message"))
	err = backend.Verify(signer.Public(), digest.Sum(nil), signature, crypto.SHA384)
	fmt.Println(key.Capabilities().Algorithm, "signature verifies:", err == nil)
	// Output: ECDSA P-384 signature verifies: true
}

// One vault, with a credential that the program has made itself.
func ExampleNew() {
	ctx := context.Background()
	srv, opts := fake() // nil in a program
	defer srv.Close()
	client := azcore.ClientOptions{Transport: srv.Client()} // none in a program

	cred, err := azidentity.NewClientSecretCredential(fakeazure.TenantID, fakeazure.ClientID, fakeazure.ClientSecret,
		&azidentity.ClientSecretCredentialOptions{ClientOptions: client})
	if err != nil {
		log.Fatal(err)
	}
	hsm, err := azurekeyvault.New(cred, "https://myhsm.managedhsm.azure.net", opts)
	if err != nil {
		log.Fatal(err)
	}
	defer hsm.Close()
	key, err := hsm.Generate(ctx, azurekeyvault.Params{KeyName: "data", KeyType: azurekeyvault.OctHSM, KeyBits: 256}, nil)
	if err != nil {
		log.Fatal(err)
	}

	sealed, err := key.(backend.AEAD).Seal(ctx, []byte("plaintext"), []byte("record 17"))
	if err != nil {
		log.Fatal(err)
	}
	plaintext, err := key.(backend.AEAD).Open(ctx, sealed, []byte("record 17"))
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(key.Capabilities().Algorithm, string(plaintext))
	// Output: AES-256 plaintext
}

// A key that is rotated is another key: what is open stays with its version, and opening again shows the new one.
func ExampleBackend_Open() {
	ctx := context.Background()
	srv, opts := fake() // nil in a program
	defer srv.Close()
	azure, err := azurekeyvault.Connect(opts)
	if err != nil {
		log.Fatal(err)
	}
	defer azure.Close()
	params := azurekeyvault.Params{
		TenantID: fakeazure.TenantID, ClientID: fakeazure.ClientID, ClientSecret: fakeazure.ClientSecret,
		VaultName: "myvault", KeyName: "tokens", KeyType: azurekeyvault.EC, Curve: azurekeyvault.P256,
	}
	old, err := azure.Generate(ctx, params, nil)
	if err != nil {
		log.Fatal(err)
	}
	if _, err := azure.Generate(ctx, params, &backend.GenerateOptions{Replace: true}); err != nil { // as "rotate" does
		log.Fatal(err)
	}

	digest := sha256.Sum256([]byte("message"))
	_, err = old.(crypto.Signer).Sign(rand.Reader, digest[:], crypto.SHA256)
	fmt.Println("the old version signs:", err == nil)
	key, err := azure.Open(ctx, params)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println("opening again gives the same key:", key.ID() == old.ID())
	// Output:
	// the old version signs: true
	// opening again gives the same key: false
}
