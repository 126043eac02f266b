package gcpckms_test

import (
	"context"
	"crypto"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"fmt"
	"log"
	"os"

	kms "cloud.google.com/go/kms/apiv1"
	"google.golang.org/api/option"

	"github.com/managedkeys/managedkeys/backend"
	"github.com/managedkeys/managedkeys/backend/gcpckms"
	"github.com/managedkeys/managedkeys/backend/remote"
	"github.com/managedkeys/managedkeys/internal/fakegcp"
)

// A key of Cloud KMS is an ordinary crypto.Signer. Credentials are found as all of Google's libraries find them.
func ExampleConnect() {
	keys, err := gcpckms.Connect(nil)
	if err != nil {
		log.Fatal(err)
	}
	defer keys.Close()

	key, err := keys.Open(context.Background(), gcpckms.Params{
		Project: "my-project", Region: "europe-west3", KeyRing: "tls", CryptoKey: "www", CryptoKeyVersion: "1",
	})
	if err != nil {
		log.Fatal(err)
	}
	request := &x509.CertificateRequest{Subject: pkix.Name{CommonName: "www.example.com"}}
	csr, err := x509.CreateCertificateRequest(rand.Reader, request, key.(backend.Signer))
	if err != nil {
		log.Fatal(err)
	}
	os.Stdout.Write(csr)
}

// A program that has a client of Google's SDK already hands it in, and goes on owning it.
func ExampleNew() {
	ctx := context.Background()
	client, err := kms.NewKeyManagementClient(ctx)
	if err != nil {
		log.Fatal(err)
	}
	defer client.Close()

	keys, err := gcpckms.New(client, &gcpckms.Options{Remote: remote.Options{MaxInFlight: 64}})
	if err != nil {
		log.Fatal(err)
	}
	defer keys.Close()
}

// Options of Google's SDK say how the service is reached: here, in the region of the key.
func ExampleNewFromOptions() {
	keys, err := gcpckms.NewFromOptions(context.Background(), nil,
		option.WithQuotaProject("my-project"), option.WithEndpoint("cloudkms.europe-west3.rep.googleapis.com:443"))
	if err != nil {
		log.Fatal(err)
	}
	defer keys.Close()
}

// The name of a key is what the console and gcloud show.
func ExampleParseName() {
	params, err := gcpckms.ParseName("projects/my-project/locations/europe-west3/keyRings/ca/cryptoKeys/issuing/cryptoKeyVersions/2")
	fmt.Println(params.Region, params.CryptoKey, params.CryptoKeyVersion, err)
	// Output: europe-west3 issuing 2 <nil>
}

// A key is made in an HSM, signs, and is replaced by a further version; the example runs against a fake on loopback.
func ExampleBackend_Generate() {
	ctx := context.Background()
	service, err := fakegcp.New(nil)
	if err != nil {
		log.Fatal(err)
	}
	defer service.Close()
	service.AddKeyRing("my-project", "europe-west3", "ca")
	keys, err := gcpckms.NewFromOptions(ctx, nil, service.ClientOptions()...)
	if err != nil {
		log.Fatal(err)
	}
	defer keys.Close()

	params := gcpckms.Params{
		Project: "my-project", Region: "europe-west3", KeyRing: "ca", CryptoKey: "issuing", CryptoKeyVersion: gcpckms.Latest,
		Algorithm: "EC_SIGN_P384_SHA384", ProtectionLevel: gcpckms.HSM,
	}
	key, err := keys.Generate(ctx, params, nil)
	if err != nil {
		log.Fatal(err)
	}
	signature, err := key.(crypto.MessageSigner).SignMessage(nil, []byte("message"), crypto.SHA384)
	if err != nil {
		log.Fatal(err)
	}
	next, err := keys.Generate(ctx, params, &backend.GenerateOptions{Replace: true})
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(key.ID())
	fmt.Println(next.ID())
	fmt.Println(key.Capabilities().Algorithm, len(signature) > 0)
	// Output:
	// projects/my-project/locations/europe-west3/keyRings/ca/cryptoKeys/issuing/cryptoKeyVersions/1
	// projects/my-project/locations/europe-west3/keyRings/ca/cryptoKeys/issuing/cryptoKeyVersions/2
	// ECDSA P-384 true
}

// What a key can't do is refused before any call, with what it takes.
func ExampleBackend_Open() {
	ctx := context.Background()
	service, err := fakegcp.New(nil)
	if err != nil {
		log.Fatal(err)
	}
	defer service.Close()
	service.AddKeyRing("my-project", "global", "tokens")
	keys, err := gcpckms.NewFromOptions(ctx, nil, service.ClientOptions()...)
	if err != nil {
		log.Fatal(err)
	}
	defer keys.Close()
	params := gcpckms.Params{Project: "my-project", Region: "global", KeyRing: "tokens", CryptoKey: "jwt", Algorithm: "EC_SIGN_P256_SHA256"}
	if _, err := keys.Generate(ctx, params, nil); err != nil {
		log.Fatal(err)
	}

	key, err := keys.Open(ctx, params)
	if err != nil {
		log.Fatal(err)
	}
	digest := sha256.Sum256([]byte("message"))
	_, err = key.(crypto.Signer).Sign(nil, digest[:], crypto.SHA512)
	fmt.Println(err)
	// Output: backend: ECDSA P-256 key "projects/my-project/locations/global/keyRings/tokens/cryptoKeys/jwt/cryptoKeyVersions/1" can't sign with ECDSA with SHA-512; it takes ECDSA with SHA-256: unsupported operation by this key
}
