package main

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha1"
	"crypto/sha256"
	"fmt"

	"github.com/managedkeys/managedkeys/backend"
	"github.com/managedkeys/managedkeys/backend/software"
)

// Contenders that tables name.
const (
	contenderC    = "C" // c/bench.c
	contenderOurs = "pkcs11"
	contenderFast = "inline" // ours with Library.InlineCalls
	contenderKept = "kept"   // ours through a registry on a store
)

// algorithms are what is measured; each contender, c/bench.c too, knows them by these names. HMAC is with SHA-256, OAEP
// with SHA-1, the only one that SoftHSM2 has. The first ones are signatures, which keys in software are measured with.
var algorithms = []string{"ECDSA P-256", "RSA-2048 PKCS#1", "RSA-2048 PSS", "RSA-2048 OAEP", "HMAC 1 KiB", "AES-256-GCM 1 KiB"}

const signatures = 3

// contenders work in processes of the program itself.
var contenders = map[string]contender{
	"stdlib":         {open: stdlibKeys},
	"software":       {open: softwareKeys},
	contenderFast:    {open: inlineKeys},
	contenderKept:    {open: keptKeys},
	contenderTransit: {open: transitKeys},
	contenderServed:  {open: transitServer},
	contenderBare:    {open: bareServer},
	contenderIssues:  {open: issuesKeys},
	contenderByHand:  {open: byHandKeys},
	contenderCRLs:    {lists: crlPeak},
	contenderOurs:    {open: oursKeys, cold: oursCold, keys: oursOpen, narrow: oursNarrow},
}

var (
	digest  = sha256.Sum256([]byte("message"))
	message = make([]byte, 1024)
	oaep    = &rsa.OAEPOptions{Hash: crypto.SHA1}
)

// signing returns the signatures of an ECDSA and an RSA key.
func signing(ec, rsaKey crypto.Signer) map[string]operation {
	pss := &rsa.PSSOptions{Hash: crypto.SHA256, SaltLength: rsa.PSSSaltLengthEqualsHash}
	return map[string]operation{
		algorithms[0]: sign(ec, crypto.SHA256),
		algorithms[1]: sign(rsaKey, crypto.SHA256),
		algorithms[2]: sign(rsaKey, pss),
	}
}

func sign(key crypto.Signer, opts crypto.SignerOpts) operation {
	return func() error {
		_, err := key.Sign(rand.Reader, digest[:], opts)
		return err
	}
}

// decryption returns the decryption of a ciphertext that was made with the key's public key.
func decryption(key crypto.Decrypter) (operation, error) {
	pub, ok := key.Public().(*rsa.PublicKey)
	if !ok {
		return nil, fmt.Errorf("%T is no RSA key", key.Public())
	}
	ciphertext, err := rsa.EncryptOAEP(sha1.New(), rand.Reader, pub, digest[:], nil)
	if err != nil {
		return nil, err
	}
	return func() error {
		_, err := key.Decrypt(rand.Reader, ciphertext, oaep)
		return err
	}, nil
}

func stdlibKeys() (map[string]operation, error) {
	ec, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	rsaKey, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		return nil, err
	}
	return signing(ec, rsaKey), nil
}

func softwareKeys() (map[string]operation, error) {
	b := software.New(nil)
	ec, err := as[crypto.Signer](b.Generate(context.Background(), software.Params{KeyName: "ec", KeyType: software.ECDSA, Curve: software.P256}, nil))
	if err != nil {
		return nil, err
	}
	rsaKey, err := as[crypto.Signer](b.Generate(context.Background(), software.Params{KeyName: "rsa", KeyType: software.RSA, KeyBits: 2048}, nil))
	if err != nil {
		return nil, err
	}
	return signing(ec, rsaKey), nil
}

// as returns what a backend opened or made as a T.
func as[T any](key backend.Key, err error) (T, error) {
	t, ok := key.(T)
	if err == nil && !ok {
		err = fmt.Errorf("%T can't do what is measured: %w", key, backend.ErrUnsupported)
	}
	return t, err
}
