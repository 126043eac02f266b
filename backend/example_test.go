package backend_test

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"fmt"

	"github.com/managedkeys/managedkeys/backend"
)

// documentKey is a driver's type for a kind of key that signs and does nothing else.
type documentKey struct {
	*backend.Handle
	backend.SignOps
}

// A driver describes a key as data, hands in its function, and gets a standard handle.
func Example() {
	private, _ := ecdsa.GenerateKey(elliptic.P256(), rand.Reader) // stands for a key in a key manager
	h := backend.NewHandle(backend.HandleConfig{
		ID:     "documents/1",
		Public: private.Public(),
		Capabilities: backend.Capabilities{
			Algorithm:  backend.Describe(private.Public()),
			Usages:     backend.UsageDefault,
			Signatures: []backend.SignatureAlgorithm{{Scheme: backend.ECDSA, Hash: crypto.SHA256}},
		},
	})
	var key backend.MessageSigner = documentKey{h, h.Signing(func(ctx context.Context, req backend.SignRequest) ([]byte, error) {
		return ecdsa.SignASN1(rand.Reader, private, req.Digest) // stands for a remote call
	})}

	digest := sha256.Sum256([]byte("document"))
	signature, err := key.SignContext(context.Background(), digest[:], crypto.SHA256)
	fmt.Println(backend.Verify(key.Public(), digest[:], signature, crypto.SHA256), err)

	_, err = key.SignContext(context.Background(), make([]byte, 64), crypto.SHA512)
	fmt.Println(errors.Is(err, backend.ErrUnsupported), err)
	// Output:
	// <nil> <nil>
	// true backend: ECDSA P-256 key "documents/1" can't sign with ECDSA with SHA-512; it takes ECDSA with SHA-256: unsupported operation by this key
}

func ExampleWithContext() {
	private, _ := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	h := backend.NewHandle(backend.HandleConfig{
		ID: "k", Public: private.Public(), Mode: backend.CallLocal,
		Capabilities: backend.Capabilities{Usages: backend.UsageSign, Signatures: []backend.SignatureAlgorithm{{Scheme: backend.ECDSA, Hash: crypto.SHA256}}},
	})
	key := documentKey{h, h.Signing(func(_ context.Context, req backend.SignRequest) ([]byte, error) {
		return ecdsa.SignASN1(rand.Reader, private, req.Digest)
	})}

	ctx, cancel := context.WithCancel(context.Background())
	signer := backend.WithContext(ctx, key).(crypto.Signer) // for an API that takes no context
	cancel()
	_, err := signer.Sign(nil, make([]byte, 32), crypto.SHA256)
	fmt.Println(err)
	// Output: backend: key "k": context canceled
}

func ExampleSecret() {
	pin := backend.Secret("1234")
	fmt.Printf("%v %q %#v\n", pin, pin, struct{ PIN backend.Secret }{pin})
	_, err := backend.Secret("env:NO_SUCH_PIN").Resolve()
	fmt.Println(err)
	// Output:
	// redacted "redacted" struct { PIN backend.Secret }{PIN:"redacted"}
	// backend: secret: environment variable "NO_SUCH_PIN" is not set or empty: credentials refused or missing
}
