//go:build cgo

package main

import (
	"crypto"
	"crypto/rand"
	"os"

	"github.com/ThalesGroup/crypto11"
	p11 "github.com/miekg/pkcs11"
)

const hasCgo = true

func init() {
	contenders["crypto11"] = contender{open: crypto11Keys, cold: crypto11Cold, narrow: crypto11Narrow}
	contenders["miekg"] = contender{open: miekgKeys}
}

// crypto11Context connects; 0 sessions are the default.
func crypto11Context(maxSessions int) (*crypto11.Context, error) {
	return crypto11.Configure(&crypto11.Config{Path: os.Getenv(envModule), TokenLabel: os.Getenv(envLabel), Pin: os.Getenv(envPIN),
		MaxSessions: maxSessions})
}

func crypto11Keys() (map[string]operation, error) {
	ctx, err := crypto11Context(0)
	if err != nil {
		return nil, err
	}
	ec, err := ctx.FindKeyPair(nil, []byte("ec"))
	if err != nil {
		return nil, err
	}
	rsaKey, err := ctx.FindKeyPair(nil, []byte("rsa"))
	if err != nil {
		return nil, err
	}
	decrypter, err := ctx.FindRSAKeyPair(nil, []byte("oaep"))
	if err != nil {
		return nil, err
	}
	hmacKey, err := ctx.FindKey(nil, []byte("hmac"))
	if err != nil {
		return nil, err
	}
	aesKey, err := ctx.FindKey(nil, []byte("aes"))
	if err != nil {
		return nil, err
	}
	aead, err := aesKey.NewGCM()
	if err != nil {
		return nil, err
	}
	operations := signing(ec, rsaKey)
	if operations[algorithms[3]], err = decryption(decrypter); err != nil {
		return nil, err
	}
	operations[algorithms[4]] = func() error {
		h, err := hmacKey.NewHMAC(p11.CKM_SHA256_HMAC, 0)
		if err != nil {
			return err
		}
		if _, err := h.Write(message); err != nil {
			return err
		}
		h.Sum(nil) // panics on an error of the token
		return nil
	}
	operations[algorithms[5]] = func() error {
		nonce := make([]byte, aead.NonceSize())
		rand.Read(nonce)
		aead.Seal(nonce, nonce, message, nil) // panics on an error of the token
		return nil
	}
	return operations, nil
}

func crypto11Cold(label string) error {
	ctx, err := crypto11Context(0)
	if err != nil {
		return err
	}
	key, err := ctx.FindKeyPair(nil, []byte(label))
	if err != nil {
		return err
	}
	return sign(key, crypto.SHA256)()
}

// crypto11Narrow allows one session more, which holds the login.
func crypto11Narrow(parallel int) (operation, error) {
	ctx, err := crypto11Context(parallel + 1)
	if err != nil {
		return nil, err
	}
	key, err := ctx.FindKeyPair(nil, []byte("ec"))
	if err != nil {
		return nil, err
	}
	return sign(key, crypto.SHA256), nil
}
