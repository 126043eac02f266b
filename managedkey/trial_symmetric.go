package managedkey

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ecdh"
	"crypto/rand"
	"fmt"

	"github.com/managedkeys/managedkeys/backend"
)

// aead tries authenticated encryption.
func (t *trial) aead(ctx context.Context, usages backend.Usage) {
	plaintext, data := draw(t.caps.MinPlaintext, t.caps.MaxPlaintext), []byte("managedkey test")
	open := func(ciphertext []byte) ([]byte, error) { return t.k.Open(ctx, ciphertext, data) }
	t.inverses(ctx, usages, backend.UsageEncrypt, backend.UsageDecrypt, plaintext, func() ([]byte, error) {
		return t.k.Seal(ctx, plaintext, data)
	}, open, func(ciphertext []byte) error {
		_, err := t.k.Open(ctx, ciphertext, altered(data))
		return refused(err, backend.ErrDecryption, "a ciphertext with other additional data")
	})
}

// wrapping wraps a key of 32 bytes.
func (t *trial) wrapping(ctx context.Context, usages backend.Usage) {
	material := draw(testSize, testSize)
	t.inverses(ctx, usages, backend.UsageWrap, backend.UsageUnwrap, material, func() ([]byte, error) {
		return t.k.WrapKey(ctx, material)
	}, func(wrapped []byte) ([]byte, error) { return t.k.UnwrapKey(ctx, wrapped) }, nil)
}

// inverses tries two operations, of which the second undoes the first. more, which may be nil, checks the ciphertext further.
func (t *trial) inverses(ctx context.Context, usages, forth, back backend.Usage, plaintext []byte,
	do func() ([]byte, error), undo func([]byte) ([]byte, error), more func(ciphertext []byte) error) {
	var ciphertext []byte
	if usages.Has(forth) {
		ok := t.step(ctx, forth, t.caps.Algorithm, func() (err error) {
			ciphertext, err = do()
			return err
		}, func() error {
			if len(plaintext) >= testSize/2 && bytes.Contains(ciphertext, plaintext) {
				return wrongf("the ciphertext shows the plaintext")
			}
			if len(ciphertext) == 0 {
				return wrongf("the ciphertext is empty")
			}
			return nil
		})
		if !ok {
			return
		}
	}
	if !usages.Has(back) {
		return
	}
	t.back(ctx, back, t.caps.Algorithm, plaintext, ciphertext, undo, func() error {
		if more == nil {
			return nil
		}
		return more(ciphertext)
	})
}

func (t *trial) macs(ctx context.Context) {
	if len(t.caps.MACs) == 0 {
		t.none(ctx, backend.UsageMAC)
	}
	for _, a := range t.caps.MACs {
		message := draw(t.caps.MinMessage, t.caps.MaxMessage)
		var mac []byte
		t.step(ctx, backend.UsageMAC, string(a), func() (err error) {
			mac, err = t.k.ComputeMAC(ctx, a, message)
			return err
		}, func() error {
			size := 16 // of AES-CMAC (RFC 4493, Section 2.4)
			if h := a.Hash(); h != 0 {
				size = h.Size()
			}
			if len(mac) != size {
				return wrongf("the MAC has %d bytes, not %d", len(mac), size)
			}
			if err := t.k.VerifyMAC(ctx, a, message, mac); err != nil {
				return err
			}
			err := refused(t.k.VerifyMAC(ctx, a, message, altered(mac)), backend.ErrInvalidSignature, "a MAC that was altered")
			if err != nil {
				return err
			}
			return refused(t.k.VerifyMAC(ctx, a, altered(message), mac), backend.ErrInvalidSignature, "the MAC of another message")
		})
	}
}

// derivation agrees with a peer that is made here, or decapsulates what is encapsulated here.
func (t *trial) derivation(ctx context.Context) {
	var got, want []byte
	check := func() error {
		if !bytes.Equal(got, want) {
			return wrongf("the secret is not the one that the other side has")
		}
		return nil
	}
	if public, ok := t.k.Public().(crypto.Encapsulator); ok {
		shared, ciphertext := public.Encapsulate()
		want = shared
		t.step(ctx, backend.UsageDerive, t.caps.Algorithm, func() (err error) {
			got, err = t.k.DecapsulateContext(ctx, ciphertext)
			return err
		}, check)
		return
	}
	public := t.k.PublicKey()
	if public == nil {
		t.none(ctx, backend.UsageDerive)
		return
	}
	peer, err := agreement(public, &want)
	t.step(ctx, backend.UsageDerive, fmt.Sprintf("ECDH %v", public.Curve()), func() error {
		if err != nil {
			return err
		}
		got, err = t.k.ECDHContext(ctx, peer)
		return err
	}, check)
}

// agreement returns the public key of a fresh peer and sets secret to what that has in common with public.
func agreement(public *ecdh.PublicKey, secret *[]byte) (*ecdh.PublicKey, error) {
	peer, err := public.Curve().GenerateKey(rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("no peer to agree with: %w: %w", backend.ErrUnavailable, err)
	}
	if *secret, err = peer.ECDH(public); err != nil {
		return nil, fmt.Errorf("no peer to agree with: %w: %w", backend.ErrUnavailable, err)
	}
	return peer.PublicKey(), nil
}

func (t *trial) random(ctx context.Context) {
	n := len(draw(1, t.caps.MaxRandom))
	var first []byte
	t.step(ctx, backend.UsageGenerateRandom, "random bytes", func() (err error) {
		first, err = t.k.GenerateRandom(ctx, n)
		return err
	}, func() error {
		second, err := t.k.GenerateRandom(ctx, n)
		switch {
		case err != nil:
			return err
		case len(first) != n || len(second) != n:
			return wrongf("there are %d and %d bytes, not %d", len(first), len(second), n)
		// Fewer than 16 bytes may well be the same by chance.
		case n >= testSize/2 && bytes.Equal(first, second):
			return wrongf("it is the same twice")
		}
		return nil
	})
}
