package managedkey_test

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"log"
	"time"

	"github.com/managedkeys/managedkeys/backend"
	"github.com/managedkeys/managedkeys/backend/software"
	"github.com/managedkeys/managedkeys/managedkey"
	"github.com/managedkeys/managedkeys/namespace"
)

// issuingCA is an entry whose key is generated when it is first used.
func issuingCA(keys backend.Backend) managedkey.Entry {
	return managedkey.Entry{
		Ref:              namespace.Ref{Namespace: "team-a", Name: "issuing-ca"},
		Backend:          keys,
		Params:           software.Params{KeyName: "issuing-ca", KeyType: software.ECDSA, Curve: software.P256},
		AllowGenerateKey: true,
	}
}

// A managed key signs wherever a crypto.Signer is taken.
func Example() {
	ctx := context.Background()
	keys := software.New(nil) // or a token, or a cloud service
	defer keys.Close()

	registry := managedkey.NewRegistry()
	entry := issuingCA(keys)
	if err := registry.Create(ctx, entry); err != nil {
		log.Fatal(err)
	}
	signer, err := registry.Signer(ctx, entry.Ref)
	if err != nil {
		log.Fatal(err)
	}
	request := &x509.CertificateRequest{Subject: pkix.Name{CommonName: "Team A Issuing CA"}}
	der, err := x509.CreateCertificateRequest(rand.Reader, request, signer)
	if err != nil {
		log.Fatal(err)
	}
	csr, err := x509.ParseCertificateRequest(der)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(csr.Subject, csr.SignatureAlgorithm, csr.CheckSignature())
	// Output: CN=Team A Issuing CA ECDSA-SHA256 <nil>
}

func ExampleNewRegistry() {
	ctx := context.Background()
	keys := software.New(nil)
	defer keys.Close()
	registry := managedkey.NewRegistry()
	entry := issuingCA(keys)
	for range 2 {
		fmt.Println(registry.Create(ctx, entry))
	}
	fmt.Println(registry.List("team-a"))
	fmt.Println(registry.Delete(ctx, entry.Ref), registry.List("team-a"))
	// Output:
	// <nil>
	// managedkey: create "team-a/issuing-ca" (software): an entry of that name: key already exists
	// [issuing-ca]
	// <nil> []
}

// A mount reaches what it was granted, and nothing else.
func ExampleRegistry_Mount() {
	ctx := context.Background()
	keys := software.New(nil)
	defer keys.Close()
	registry := managedkey.NewRegistry()
	if err := registry.Create(ctx, issuingCA(keys)); err != nil {
		log.Fatal(err)
	}
	mine, err := registry.Mount(ctx, "team-a", "pki", "issuing-ca")
	if err != nil {
		log.Fatal(err)
	}
	theirs, err := registry.Mount(ctx, "team-b", "pki")
	if err != nil {
		log.Fatal(err)
	}

	key, err := mine.Key(ctx, "issuing-ca")
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(key.Ref(), key.Capabilities().Algorithm, key.Capabilities().Usages)
	_, err = theirs.Key(ctx, "issuing-ca")
	fmt.Println(err)

	digest := sha256.Sum256([]byte("to be signed"))
	if err := registry.Revoke(ctx, mine, "issuing-ca"); err != nil {
		log.Fatal(err)
	}
	_, err = key.Sign(nil, digest[:], crypto.SHA256)
	fmt.Println(err)
	// Output:
	// team-a/issuing-ca ECDSA P-256 sign,verify
	// managedkey: open "team-b/issuing-ca": no such entry in this namespace: key not found
	// managedkey: sign "team-a/issuing-ca" (software): the mount "pki" has no grant for this key: not permitted
}

// Handles that are out follow a change of policy at once.
func ExampleRegistry_Update() {
	ctx := context.Background()
	keys := software.New(nil)
	defer keys.Close()
	registry := managedkey.NewRegistry()
	ref := namespace.Ref{Name: "mailbox"}
	err := registry.Create(ctx, managedkey.Entry{
		Ref:              ref,
		Backend:          keys,
		Params:           software.Params{KeyName: "mailbox", KeyType: software.RSA, KeyBits: 2048},
		Usages:           backend.UsageEncrypt | backend.UsageDecrypt,
		AllowGenerateKey: true,
	})
	if err != nil {
		log.Fatal(err)
	}
	key, err := registry.Key(ctx, ref)
	if err != nil {
		log.Fatal(err)
	}
	oaep := &rsa.OAEPOptions{Hash: crypto.SHA256}
	ciphertext, err := key.EncryptContext(ctx, []byte("hello"), oaep)
	if err != nil {
		log.Fatal(err)
	}
	plaintext, err := key.DecryptContext(ctx, ciphertext, oaep)
	fmt.Println(string(plaintext), err)

	entry, err := registry.Entry(ref)
	if err != nil {
		log.Fatal(err)
	}
	entry.Usages = backend.UsageEncrypt
	if err := registry.Update(ctx, entry); err != nil {
		log.Fatal(err)
	}
	_, err = key.DecryptContext(ctx, ciphertext, oaep)
	fmt.Println(err)
	// Output:
	// hello <nil>
	// managedkey: decrypt "mailbox" (software): usage decrypt is not allowed; the entry allows encrypt: not permitted
}

// A replaced key leaves the handles of the old one useless, and never signs for them.
func ExampleRegistry_Generate() {
	ctx := context.Background()
	keys := software.New(nil)
	defer keys.Close()
	registry := managedkey.NewRegistry()
	entry := issuingCA(keys)
	entry.AllowReplaceKey = true
	if err := registry.Create(ctx, entry); err != nil {
		log.Fatal(err)
	}
	old, err := registry.Key(ctx, entry.Ref)
	if err != nil {
		log.Fatal(err)
	}
	fresh, err := registry.Generate(ctx, entry.Ref)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(fresh.Public().(*ecdsa.PublicKey).Equal(old.Public()))
	digest := sha256.Sum256([]byte("to be signed"))
	_, err = old.Sign(nil, digest[:], crypto.SHA256)
	fmt.Println(errors.Is(err, backend.ErrKeyChanged))
	// Output:
	// false
	// true
}

// A view puts a deadline on APIs that take no context.
func ExampleKey_WithContext() {
	ctx := context.Background()
	keys := software.New(nil)
	defer keys.Close()
	registry := managedkey.NewRegistry()
	entry := issuingCA(keys)
	if err := registry.Create(ctx, entry); err != nil {
		log.Fatal(err)
	}
	key, err := registry.Key(ctx, entry.Ref)
	if err != nil {
		log.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	view := key.WithContext(ctx)
	_, err = x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{}, view)
	fmt.Println(err)
	cancel()
	_, err = x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{}, view)
	fmt.Println(errors.Is(err, context.Canceled))
	// Output:
	// <nil>
	// true
}
