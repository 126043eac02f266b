package main

import (
	"context"
	"crypto"
	"errors"
	"os"
	"time"

	"github.com/managedkeys/managedkeys/backend"
	"github.com/managedkeys/managedkeys/backend/pkcs11"
)

// Mechanisms of symmetric keys (PKCS#11 v2.40 mechanisms, Sections 2.17.6 and 2.10.2).
const (
	sha256HMAC pkcs11.Mechanism = 0x0251
	aesGCM     pkcs11.Mechanism = 0x1087
)

// oursBackend returns a backend over the module.
func oursBackend(lib pkcs11.Library) (*pkcs11.Backend, error) {
	lib.Name, lib.Path = "bench", os.Getenv(envModule)
	return pkcs11.New(lib)
}

func oursParams(label string, m pkcs11.Mechanism) pkcs11.Params {
	return pkcs11.Params{Library: "bench", TokenLabel: os.Getenv(envLabel), PIN: "env:" + envPIN, KeyLabel: label, Mechanism: m}
}

func oursKeys() (map[string]operation, error) { return openKeys(pkcs11.Library{}) }

func inlineKeys() (map[string]operation, error) { return openKeys(pkcs11.Library{InlineCalls: true}) }

func openKeys(lib pkcs11.Library) (map[string]operation, error) {
	ctx := context.Background()
	b, err := oursBackend(lib)
	if err != nil {
		return nil, err
	}
	ec, err := as[crypto.Signer](b.Open(ctx, oursParams("ec", pkcs11.ECDSA)))
	if err != nil {
		return nil, err
	}
	rsaKey, err := as[crypto.Signer](b.Open(ctx, oursParams("rsa", pkcs11.RSAPKCS)))
	if err != nil {
		return nil, err
	}
	decrypter, err := as[crypto.Decrypter](b.Open(ctx, oursParams("oaep", pkcs11.RSAPKCSOAEP)))
	if err != nil {
		return nil, err
	}
	operations := signing(ec, rsaKey)
	if operations[algorithms[3]], err = decryption(decrypter); err != nil {
		return nil, err
	}

	mac, err := as[backend.MAC](b.Open(ctx, oursParams("hmac", sha256HMAC)))
	operations[algorithms[4]] = unless(err, func() error {
		_, err := mac.ComputeMAC(ctx, backend.HMACSHA256, message)
		return err
	})
	aead, err := as[backend.AEAD](b.Open(ctx, oursParams("aes", aesGCM)))
	operations[algorithms[5]] = unless(err, func() error {
		_, err := aead.Seal(ctx, message, nil)
		return err
	})
	return operations, nil
}

// unless returns an operation that fails if its key could not be opened. Parameters that are refused are those of a kind
// of key that the backend doesn't know.
func unless(err error, op operation) operation {
	switch {
	case errors.Is(err, backend.ErrInvalidParams):
		return func() error { return errors.Join(err, errors.ErrUnsupported) }
	case err != nil:
		return func() error { return err }
	}
	return op
}

// oursCold leaves the backend open: the process ends, and closing is not what is measured.
func oursCold(label string) error {
	b, err := oursBackend(pkcs11.Library{})
	if err != nil {
		return err
	}
	key, err := as[crypto.Signer](b.Open(context.Background(), oursParams(label, pkcs11.ECDSA)))
	if err != nil {
		return err
	}
	return sign(key, crypto.SHA256)()
}

func oursOpen(labels []string, limit time.Duration) (int, error) {
	b, err := oursBackend(pkcs11.Library{})
	if err != nil {
		return 0, err
	}
	return openEach(labels, limit, func(label string) error {
		_, err := b.Open(context.Background(), oursParams(label, pkcs11.ECDSA))
		return err
	})
}

func oursNarrow(parallel int) (operation, error) {
	b, err := oursBackend(pkcs11.Library{MaxSessions: parallel})
	if err != nil {
		return nil, err
	}
	key, err := as[crypto.Signer](b.Open(context.Background(), oursParams("ec", pkcs11.ECDSA)))
	if err != nil {
		return nil, err
	}
	return sign(key, crypto.SHA256), nil
}
