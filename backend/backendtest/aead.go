package backendtest

import (
	"bytes"
	"fmt"

	"github.com/managedkeys/managedkeys/backend"
)

// checkAEAD checks authenticated encryption: round trips, fresh nonces, and one error for everything that was tampered
// with.
func checkAEAD(c *checker, k Key, key backend.Key) {
	if !k.AEAD {
		return
	}
	s, ok := key.(backend.AEAD)
	if !ok {
		c.Fatalf("%T is no backend.AEAD", key)
	}
	least, limit := s.Capabilities().MinPlaintext, s.Capabilities().MaxPlaintext
	for _, n := range []int{0, 1, 16, 1000, least, limit} {
		if limit > 0 && n > limit || n < least {
			continue
		}
		for _, ad := range [][]byte{nil, {}, []byte("additional data")} {
			plaintext := random(n)
			in, adIn := bytes.Clone(plaintext), bytes.Clone(ad)
			ciphertext, err := s.Seal(c.Context(), in, adIn)
			if !c.ok(fmt.Sprintf("Seal of %d bytes with %d of additional data", n, len(ad)), err) {
				continue
			}
			if !bytes.Equal(in, plaintext) || !bytes.Equal(adIn, ad) {
				c.Error("Seal modified its input")
			}
			sealed := bytes.Clone(ciphertext)
			out, err := s.Open(c.Context(), ciphertext, ad)
			if c.ok("Open", err) && !bytes.Equal(out, plaintext) {
				c.Errorf("Open of %d bytes with %d of additional data: the plaintext is another", n, len(ad))
			}
			if !bytes.Equal(sealed, ciphertext) {
				c.Error("Open modified the ciphertext")
			}
			if n >= 16 && bytes.Contains(ciphertext, plaintext) {
				c.Error("the ciphertext contains the plaintext")
			}
		}
	}
	checkNonces(c, k, s)
	checkTamperedAEAD(c, s)
}

// checkNonces checks that the same plaintext never gives the same ciphertext, and for AES-GCM that no nonce, which is its
// first 12 bytes unless the form is the key manager's own, comes twice.
func checkNonces(c *checker, k Key, s backend.AEAD) {
	seen := make(map[string]bool)
	for range 16 {
		ciphertext, err := s.Seal(c.Context(), []byte("the same plaintext"), nil)
		c.must("Seal", err)
		nonce := string(ciphertext[:min(12, len(ciphertext))])
		if k.OwnCiphertexts {
			nonce = string(ciphertext)
		}
		if seen[nonce] {
			c.Error("two ciphertexts of the same plaintext are equal, or begin with the same 12 bytes; a nonce was used twice")
		}
		seen[nonce] = true
	}
}

func checkTamperedAEAD(c *checker, s backend.AEAD) {
	plaintext, ad := []byte("a plaintext of more than one block"), []byte("additional data")
	ciphertext, err := s.Seal(c.Context(), plaintext, ad)
	c.must("Seal", err)
	fail := func(what string, ciphertext, ad []byte) {
		c.Helper()
		out, err := s.Open(c.Context(), ciphertext, ad)
		c.failedDecryption("Open of a ciphertext "+what, out, err)
	}
	for name, wrong := range tampered(ciphertext) {
		fail("that is "+name, wrong, ad)
	}
	fail("without its additional data", ciphertext, nil)
	fail("with additional data cut short", ciphertext, ad[1:])
	fail("with other additional data", ciphertext, []byte("Additional data"))
	bare, err := s.Seal(c.Context(), plaintext, nil)
	c.must("Seal", err)
	fail("with additional data where there was none", bare, ad)
}
