package main

import (
	"context"
	"errors"
	"fmt"

	"github.com/managedkeys/managedkeys/backend"
	"github.com/managedkeys/managedkeys/transit"
)

// documents makes the keys of transit, signs and verifies.
func (s *story) documents(ctx context.Context) error {
	if err := s.key(ctx, "documents", signingKey, backend.UsageSign|backend.UsageVerify); err != nil {
		return err
	}
	if err := s.key(ctx, "data", encryptionKey, backend.UsageEncrypt|backend.UsageDecrypt); err != nil {
		return err
	}
	mount, err := s.keys.Mount(ctx, "team-a", "transit", "documents", "data")
	if err != nil {
		return err
	}
	s.transit = transit.New(mount, nil)
	if err := s.transit.CreateKey(ctx, "documents", transit.KeyOptions{ManagedKey: "documents"}); err != nil {
		return err
	}
	contract := transit.SignRequest{Input: []byte("I owe you 10 francs")}
	var signature string
	err = s.step("signed", "documents", func() (_ string, err error) {
		signature, err = s.transit.Sign(ctx, "documents", contract)
		return short(signature), err
	})
	if err != nil {
		return err
	}
	return s.step("verified", "documents", func() (string, error) {
		valid, err := s.transit.Verify(ctx, "documents", signature, contract)
		if err != nil {
			return "", err
		}
		contract.Input = []byte("I owe you 1000 francs")
		forged, err := s.transit.Verify(ctx, "documents", signature, contract)
		if err != nil || !valid || forged {
			return "", fmt.Errorf("the signature is valid: %v; of a changed text: %v: %w", valid, forged, err)
		}
		return "valid; of a changed text: invalid", nil
	})
}

// data encrypts and decrypts.
func (s *story) data(ctx context.Context) error {
	if err := s.transit.CreateKey(ctx, "data", transit.KeyOptions{ManagedKey: "data"}); err != nil {
		return err
	}
	const secret = "the card number"
	var ciphertext string
	err := s.step("encrypted", "data", func() (_ string, err error) {
		ciphertext, err = s.transit.Encrypt(ctx, "data", transit.EncryptRequest{Plaintext: []byte(secret)})
		return short(ciphertext), err
	})
	if err != nil {
		return err
	}
	return s.step("decrypted", "data", func() (string, error) {
		plaintext, err := s.transit.Decrypt(ctx, "data", transit.DecryptRequest{Ciphertext: ciphertext})
		if err != nil || string(plaintext) != secret {
			return "", fmt.Errorf("got %q: %w", plaintext, err)
		}
		return fmt.Sprintf("%q", plaintext), nil
	})
}

// denied shows that team-b can't reach a key of team-a, and that a key refuses what it was not made for.
func (s *story) denied(ctx context.Context) error {
	mount, err := s.keys.Mount(ctx, "team-b", "transit")
	if err != nil {
		return err
	}
	fmt.Fprintln(s.out)
	_, err = mount.Key(ctx, "documents")
	if err == nil {
		return errors.New("team-b got a key of team-a")
	}
	fmt.Fprintf(s.out, "  denied to team-b:  %v\n", err)

	err = s.transit.CreateKey(ctx, "stolen", transit.KeyOptions{ManagedKey: "issuing-ca"})
	if !errors.Is(err, backend.ErrNotPermitted) {
		return fmt.Errorf("transit got the key of the CA: %w", err)
	}
	fmt.Fprintf(s.out, "  denied to transit: %v\n", err)
	return nil
}

func short(s string) string {
	if len(s) > 48 {
		return s[:45] + "..."
	}
	return s
}
