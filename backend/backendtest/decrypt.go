package backendtest

import (
	"bytes"
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"fmt"
	"io"
	"math/big"

	"github.com/managedkeys/managedkeys/backend"
)

// encryptOAEP encrypts plaintext to pub with RSAES-OAEP (RFC 8017, Section 7.1).
func encryptOAEP(pub crypto.PublicKey, h crypto.Hash, plaintext, label []byte) ([]byte, error) {
	key, ok := pub.(*rsa.PublicKey)
	if !ok {
		return nil, fmt.Errorf("can't encrypt to a public key of type %T", pub)
	}
	return rsa.EncryptOAEP(h.New(), rand.Reader, key, plaintext, label)
}

// encrypt is encryptOAEP for what must succeed.
func encrypt(c *checker, pub crypto.PublicKey, h crypto.Hash, plaintext, label []byte) []byte {
	c.Helper()
	ciphertext, err := encryptOAEP(pub, h, plaintext, label)
	if err != nil {
		c.Errorf("encrypting: %v", err)
	}
	return ciphertext
}

// checkDecrypt checks RSAES-OAEP with every declared hash.
func checkDecrypt(c *checker, k Key, key backend.Key) {
	if len(k.OAEP) == 0 {
		return // that the key refuses to decrypt is checked by checkRefused
	}
	d, ok := key.(backend.Decrypter)
	if !ok {
		c.Fatalf("%T is no backend.Decrypter", key)
	}
	for _, h := range k.OAEP {
		c.sub(h.String(), func(c *checker) {
			checkPlaintexts(c, k, d, h)
			checkFailedDecryption(c, k, d, h)
		})
	}
}

// checkPlaintexts decrypts what software encrypted: plaintexts of all lengths up to the longest, with and without label.
func checkPlaintexts(c *checker, k Key, d backend.Decrypter, h crypto.Hash) {
	longest := d.Public().(*rsa.PublicKey).Size() - 2*h.Size() - 2 // RFC 8017, Section 7.1.1
	labels := [][]byte{nil, {}}
	if k.OAEPLabels {
		labels = append(labels, []byte("label"), []byte{0}, random(300))
	}
	for _, label := range labels {
		for _, n := range []int{0, 1, 32, longest} {
			plaintext := random(min(n, longest))
			ciphertext := encrypt(c, d.Public(), h, plaintext, label)
			before := bytes.Clone(ciphertext)
			for i, opts := range []*rsa.OAEPOptions{{Hash: h, Label: label}, {Hash: h, MGFHash: h, Label: label}} {
				// Rule: the first parameter is ignored, and that MGF1 has the hash of the label may be said or not.
				out, err := d.Decrypt([]io.Reader{nil, noRandom{}}[i], ciphertext, opts)
				what := fmt.Sprintf("Decrypt of %d bytes with a label of %d", len(plaintext), len(label))
				if c.ok(what, err) && !bytes.Equal(out, plaintext) {
					c.Errorf("%s: the plaintext is another", what)
				}
			}
			out, err := d.DecryptContext(c.Context(), ciphertext, &rsa.OAEPOptions{Hash: h, Label: label})
			if c.ok("DecryptContext", err) && !bytes.Equal(out, plaintext) {
				c.Error("DecryptContext: the plaintext is another")
			}
			if !bytes.Equal(before, ciphertext) {
				c.Error("Decrypt modified the ciphertext")
			}
		}
	}
}

// checkFailedDecryption checks that every ciphertext that can't be decrypted gives exactly the same error, and no
// output: anything that told them apart would be an oracle (RFC 8017, Section 7.1.2).
func checkFailedDecryption(c *checker, k Key, d backend.Decrypter, h crypto.Hash) {
	pub := d.Public().(*rsa.PublicKey)
	fail := func(what string, ciphertext []byte, opts *rsa.OAEPOptions) {
		c.Helper()
		out, err := d.DecryptContext(c.Context(), ciphertext, opts)
		c.failedDecryption("DecryptContext of a ciphertext "+what, out, err)
		out, err = d.Decrypt(nil, ciphertext, opts)
		c.failedDecryption("Decrypt of a ciphertext "+what, out, err)
	}
	opts := &rsa.OAEPOptions{Hash: h}
	ciphertext := encrypt(c, pub, h, []byte("a plaintext"), nil)
	for name, wrong := range tampered(ciphertext) {
		fail("that is "+name, wrong, opts)
	}
	fail("of all ones", bytes.Repeat([]byte{0xff}, pub.Size()), opts)
	fail("that is the modulus", pub.N.FillBytes(make([]byte, pub.Size())), opts)
	fail("for another key", encrypt(c, otherKey(pub), h, []byte("a plaintext"), nil), opts)
	fail("with a label that isn't given", encrypt(c, pub, h, []byte("a plaintext"), []byte("label")), opts)
	if k.OAEPLabels {
		fail("without the label that is given", ciphertext, &rsa.OAEPOptions{Hash: h, Label: []byte("label")})
		labelled := encrypt(c, pub, h, []byte("a plaintext"), []byte("label"))
		fail("with another label", labelled, &rsa.OAEPOptions{Hash: h, Label: []byte("Label")})
	}
	for _, other := range k.OAEP {
		if other != h {
			fail("with another hash", ciphertext, &rsa.OAEPOptions{Hash: other})
		}
	}
	//lint:ignore SA1019 it must not be decrypted
	pkcs1, err := rsa.EncryptPKCS1v15(rand.Reader, pub, []byte("a plaintext"))
	if err != nil {
		c.Fatalf("rsa.EncryptPKCS1v15: %v", err)
	}
	fail("of RSAES-PKCS1-v1_5", pkcs1, opts)
}

// otherKey returns a public key whose ciphertexts are as long as those of pub and below its modulus, so that nothing but
// the key is wrong with them. The modulus is an odd number a little smaller than pub's; nobody has the private key.
func otherKey(pub *rsa.PublicKey) *rsa.PublicKey {
	n := new(big.Int).Sub(pub.N, new(big.Int).Lsh(big.NewInt(3), uint(pub.N.BitLen()/2)))
	n.SetBit(n, 0, 1)
	return &rsa.PublicKey{N: n, E: pub.E}
}

// decryptRefusals returns what must be refused of decrypting: hashes, labels and paddings that are not declared.
func decryptRefusals(c *checker, k Key, d backend.Decrypter) []refusal {
	size := 256
	if pub, ok := d.Public().(*rsa.PublicKey); ok {
		size = pub.Size()
	}
	ciphertext := append([]byte{0}, random(size-1)...)
	var all []refusal
	refuse := func(name string, opts crypto.DecrypterOpts, want ...error) {
		all = append(all, refusal{"DecryptContext with " + name, func() error {
			_, err := d.DecryptContext(c.Context(), ciphertext, opts)
			return err
		}, want}, refusal{"Decrypt with " + name, func() error {
			_, err := d.Decrypt(noRandom{}, ciphertext, opts)
			return err
		}, want})
	}
	declared := make(map[crypto.Hash]bool)
	for _, h := range k.OAEP {
		declared[h] = true
	}
	for _, h := range append([]crypto.Hash{0}, hashes...) {
		if !declared[h] {
			refuse(fmt.Sprintf("the undeclared hash %v", h), &rsa.OAEPOptions{Hash: h}, backend.ErrUnsupported)
			continue
		}
		for _, mgf := range hashes {
			if mgf != h {
				refuse(fmt.Sprintf("%v and %v for MGF1", h, mgf), &rsa.OAEPOptions{Hash: h, MGFHash: mgf}, backend.ErrUnsupported)
			}
		}
		if !k.OAEPLabels {
			refuse("an undeclared label", &rsa.OAEPOptions{Hash: h, Label: []byte("label")}, backend.ErrUnsupported)
		}
	}
	// Rule: RSAES-PKCS1-v1_5 is refused, because its padding can't be checked without an oracle (RFC 8017, Section 7.2),
	// and crypto.Decrypter's default of it for nil options as well.
	//lint:ignore SA1019 it must be refused
	refuse("RSAES-PKCS1-v1_5", &rsa.PKCS1v15DecryptOptions{}, backend.ErrUnsupported)
	//lint:ignore SA1019 it must be refused, with the session key that crypto/rsa makes up as well
	refuse("RSAES-PKCS1-v1_5 of a session key", &rsa.PKCS1v15DecryptOptions{SessionKeyLen: 32}, backend.ErrUnsupported)
	refuse("nil options", nil, backend.ErrUnsupported, backend.ErrInvalidParams)
	refuse("nil *rsa.OAEPOptions", (*rsa.OAEPOptions)(nil), backend.ErrUnsupported, backend.ErrInvalidParams)
	return all
}
