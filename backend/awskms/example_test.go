package awskms_test

import (
	"context"
	"crypto"
	"crypto/rand"
	"crypto/sha256"
	"fmt"
	"log"

	"github.com/managedkeys/managedkeys/backend"
	"github.com/managedkeys/managedkeys/backend/awskms"
	"github.com/managedkeys/managedkeys/backend/remote"
	"github.com/managedkeys/managedkeys/internal/fakeaws"
)

// A key of AWS KMS is an ordinary crypto.Signer. The program's own configuration of the SDK says where and as whom; here it is
// that of a fake.
func ExampleNew() {
	service, err := fakeaws.New(nil)
	if err != nil {
		log.Fatal(err)
	}
	defer service.Close()
	cfg := service.Config() // or config.LoadDefaultConfig(ctx)

	ctx := context.Background()
	keys, err := awskms.New(cfg, nil)
	if err != nil {
		log.Fatal(err)
	}
	defer keys.Close()
	key, err := keys.Generate(ctx, awskms.Params{KMSKey: "alias/documents", KeyType: awskms.ECDSA, Curve: "P256"}, nil)
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

// Entries of a configuration say where their keys are and, if need be, how to get there. Rates keep the program below the
// account's quotas.
func ExampleConnect() {
	service, err := fakeaws.New(nil)
	if err != nil {
		log.Fatal(err)
	}
	defer service.Close()
	arn, err := service.AddKey(fakeaws.Key{Spec: "SYMMETRIC_DEFAULT", Alias: "alias/data"})
	if err != nil {
		log.Fatal(err)
	}

	ctx := context.Background()
	keys, err := awskms.Connect(&awskms.Options{Remote: remote.Options{ConnectionRate: remote.Rate{PerSecond: 500}}})
	if err != nil {
		log.Fatal(err)
	}
	defer keys.Close()
	key, err := keys.Open(ctx, awskms.Params{
		KMSKey: "alias/data", Region: fakeaws.DefaultRegion, Endpoint: service.URL(),
		AccessKey: fakeaws.AccessKey, SecretKey: fakeaws.SecretKey, // or nothing: the default chain finds them
	})
	if err != nil {
		log.Fatal(err)
	}
	sealed, err := key.(backend.AEAD).Seal(ctx, []byte("plaintext"), []byte("row 17"))
	if err != nil {
		log.Fatal(err)
	}
	plaintext, err := key.(backend.AEAD).Open(ctx, sealed, []byte("row 17"))
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(key.ID() == arn, string(plaintext))
	// Output: true plaintext
}

// Permission by a grant that is a moment old goes with its token.
func ExampleWithGrantTokens() {
	service, err := fakeaws.New(nil)
	if err != nil {
		log.Fatal(err)
	}
	defer service.Close()
	if _, err := service.AddKey(fakeaws.Key{Spec: "HMAC_256", Alias: "alias/tokens"}); err != nil {
		log.Fatal(err)
	}
	service.Deny("GenerateMac")
	token := service.Grant()

	ctx := awskms.WithGrantTokens(context.Background(), token)
	keys, err := awskms.New(service.Config(), nil)
	if err != nil {
		log.Fatal(err)
	}
	defer keys.Close()
	key, err := keys.Open(ctx, awskms.Params{KMSKey: "alias/tokens"})
	if err != nil {
		log.Fatal(err)
	}
	mac, err := key.(backend.MAC).ComputeMAC(ctx, backend.HMACSHA256, []byte("message"))
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(len(mac), "bytes")
	// Output: 32 bytes
}
