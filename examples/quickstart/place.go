package main

import (
	"context"
	"errors"
	"fmt"
	"os"

	"github.com/managedkeys/managedkeys/backend"
	"github.com/managedkeys/managedkeys/backend/pkcs11"
	"github.com/managedkeys/managedkeys/backend/software"
	"github.com/managedkeys/managedkeys/internal/softhsm"
)

// kind is what a key of the story is for.
type kind int

const (
	caKey kind = iota
	signingKey
	encryptionKey
)

// place is where the keys live: the only part of this program that knows a backend.
type place struct {
	backend backend.Backend
	name    string                                    // for people
	params  func(label string, k kind) backend.Params // of a key with that label
	close   func() error
}

func openPlace(ctx context.Context, f flags) (*place, error) {
	switch {
	case f.softhsm && f.module != "" || f.fake != "" && (f.softhsm || f.module != ""):
		return nil, errors.New("give one of -softhsm, -pkcs11-module and -fake")
	case f.fake != "":
		return openFake(ctx, f.fake)
	case f.softhsm:
		return openSoftHSM()
	case f.module != "":
		return openPKCS11(f.module, f.token, f.pin)
	case f.token != "" || f.pin != "":
		return nil, errors.New("-token and -pin go with -pkcs11-module")
	}
	return openSoftware(), nil
}

func openSoftware() *place {
	keys := software.New(nil)
	return &place{
		backend: keys,
		name:    "software keys in memory",
		params: func(label string, k kind) backend.Params {
			if k == encryptionKey {
				return software.Params{KeyName: label, KeyType: software.AES, KeyBits: 256}
			}
			return software.Params{KeyName: label, KeyType: software.ECDSA, Curve: software.P256}
		},
		close: keys.Close,
	}
}

// openSoftHSM makes a SoftHSM2 token in a temporary folder.
func openSoftHSM() (*place, error) {
	dir, err := os.MkdirTemp("", "managedkeys-quickstart-")
	if err != nil {
		return nil, err
	}
	token, err := softhsm.New(dir, "quickstart")
	if err != nil {
		return nil, errors.Join(err, os.RemoveAll(dir))
	}
	p, err := openPKCS11(token.Module, token.Label, backend.Secret(token.PIN))
	if err != nil {
		return nil, errors.Join(err, os.RemoveAll(dir))
	}
	p.name = "a new SoftHSM2 token in " + dir
	closeToken := p.close
	p.close = func() error { return errors.Join(closeToken(), os.RemoveAll(dir)) }
	return p, nil
}

func openPKCS11(module, token string, pin backend.Secret) (*place, error) {
	if token == "" || pin == "" {
		return nil, errors.New("-pkcs11-module needs -token LABEL and -pin PIN (better: -pin env:NAME or -pin file:PATH)")
	}
	hsm, err := pkcs11.New(pkcs11.Library{Name: "hsm", Path: module})
	if err != nil {
		return nil, err
	}
	return &place{
		backend: hsm,
		name:    fmt.Sprintf("PKCS#11 token %q of %s", token, module),
		params: func(label string, k kind) backend.Params {
			p := pkcs11.Params{Library: "hsm", TokenLabel: token, PIN: pin, KeyLabel: "quickstart-" + label}
			if k == encryptionKey {
				p.Mechanism, p.KeyBits = pkcs11.RSAPKCSOAEP, 2048
			} else {
				p.Mechanism, p.Curve = pkcs11.ECDSA, "P256"
			}
			return p
		},
		close: hsm.Close,
	}, nil
}
