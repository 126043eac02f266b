package backendtest

import (
	"bytes"
	"context"
	"crypto"
	"crypto/hpke"
	"crypto/mlkem"
	"errors"
	"fmt"

	"github.com/managedkeys/managedkeys/backend"
)

// checkDecapsulate checks decapsulation with crypto/mlkem on the other side, and that crypto/hpke works with the key.
func checkDecapsulate(c *checker, k Key, key backend.Key) {
	if !k.Decapsulates {
		return // that the key is no backend.Decapsulator is checked by checkCapabilities
	}
	d, ok := key.(backend.Decapsulator)
	if !ok {
		c.Fatalf("%T is no backend.Decapsulator", key)
	}
	// Rule: the key is a crypto.Decapsulator with its own public key.
	public := encapsulator(c, key)
	if !bytes.Equal(d.Encapsulator().Bytes(), public.Bytes()) {
		c.Error("Encapsulator is another key than Public()")
	}
	var got, want [][]byte
	for range 3 {
		shared, ciphertext := public.Encapsulate()
		again, err := d.Decapsulate(ciphertext)
		if c.ok("Decapsulate", err) && !bytes.Equal(again, shared) {
			c.Error("Decapsulate: the key is not the one that was encapsulated")
		}
		again, err = d.DecapsulateContext(c.Context(), ciphertext)
		c.must("DecapsulateContext", err)
		got, want = append(got, again), append(want, shared)
	}
	// Rule: a result is the caller's own; a later call does not overwrite it.
	for i := range got {
		if !bytes.Equal(got[i], want[i]) {
			c.Errorf("shared key %d was overwritten by a later call, or is wrong", i)
		}
	}
	// Rule: a ciphertext that was tampered with gives a key that tells nothing, always the same (FIPS 203, Section 6.3).
	shared, ciphertext := public.Encapsulate()
	ciphertext[len(ciphertext)/2] ^= 1
	first, err := d.DecapsulateContext(c.Context(), ciphertext)
	c.must("DecapsulateContext of a ciphertext that was tampered with", err)
	second, err := d.DecapsulateContext(c.Context(), ciphertext)
	c.must("DecapsulateContext of a ciphertext that was tampered with", err)
	if bytes.Equal(first, shared) || !bytes.Equal(first, second) || len(first) != mlkem.SharedKeySize {
		c.Errorf("a ciphertext that was tampered with gave keys of %d and %d bytes, equal: %t", len(first), len(second), bytes.Equal(first, second))
	}
	private, err := hpke.NewMLKEMPrivateKey(d)
	if err != nil {
		c.Fatalf("hpke.NewMLKEMPrivateKey: %v", err)
	}
	checkHPKE(c, private)
}

// encapsulator returns the public key of a key that decapsulates.
func encapsulator(c *checker, key backend.Key) crypto.Encapsulator {
	c.Helper()
	public, ok := key.Public().(crypto.Encapsulator)
	if !ok {
		c.Fatalf("the key decapsulates, but its public key is %T", key.Public())
	}
	return public
}

// decapsulating returns DecapsulateContext.
func decapsulating(c *checker, d backend.Decapsulator) []operation {
	public := encapsulator(c, d)
	return []operation{{"DecapsulateContext", func(ctx context.Context) (error, error) {
		shared, ciphertext := public.Encapsulate()
		got, err := d.DecapsulateContext(ctx, ciphertext)
		return err, wrongIf(err == nil && !bytes.Equal(got, shared), "the key is not the one that was encapsulated")
	}}}
}

// decapsulateRefusals returns ciphertexts of a wrong length.
func decapsulateRefusals(c *checker, d backend.Decapsulator) []refusal {
	_, ciphertext := encapsulator(c, d).Encapsulate()
	var all []refusal
	for name, bad := range map[string][]byte{
		"no ciphertext":                nil,
		"a byte less":                  ciphertext[1:],
		"a byte more":                  append(bytes.Clone(ciphertext), 0),
		"the other parameter set's":    make([]byte, mlkem.CiphertextSize768+mlkem.CiphertextSize1024-len(ciphertext)),
		"a ciphertext of many lengths": bytes.Repeat(ciphertext, 100),
	} {
		all = append(all, refusal{fmt.Sprintf("DecapsulateContext with %s", name), func() error {
			_, err := d.DecapsulateContext(c.Context(), bad)
			return err
		}, []error{backend.ErrDecryption}})
	}
	return all
}

// checkDecapsulateView checks the views of a key that decapsulates. end ends the context of the first.
func checkDecapsulateView(c *checker, ending, lasting, key backend.Key, end func()) {
	c.Helper()
	public := encapsulator(c, key)
	open := func(key backend.Key) error {
		d, ok := key.(crypto.Decapsulator)
		if !ok {
			return errors.New("it is no crypto.Decapsulator")
		}
		shared, ciphertext := public.Encapsulate()
		got, err := d.Decapsulate(ciphertext)
		if err == nil && (!bytes.Equal(got, shared) || !bytes.Equal(d.Encapsulator().Bytes(), public.Bytes())) {
			c.Errorf("Decapsulate of %T: the key is not the one that was encapsulated", key)
		}
		return err
	}
	c.ok("Decapsulate of a view", open(ending))
	end()
	c.refused("Decapsulate of a view whose context was cancelled", open(ending), context.Canceled)
	c.ok("Decapsulate of another view", open(lasting))
	c.ok("Decapsulate of the key itself", open(key))
}
