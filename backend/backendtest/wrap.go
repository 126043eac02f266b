package backendtest

import (
	"bytes"
	"crypto"
	"crypto/rsa"

	"github.com/managedkeys/managedkeys/backend"
)

// checkWrap checks key wrapping: round trips, and one error for what was tampered with.
func checkWrap(c *checker, k Key, key backend.Key) {
	if !k.Wraps {
		return
	}
	w, ok := key.(backend.Wrapper)
	if !ok {
		c.Fatalf("%T is no backend.Wrapper", key)
	}
	lengths := []int{16, 24, 32, 37, 66} // 37 is no multiple of 8: RFC 5649 pads
	if w.Public() == nil {
		lengths = append(lengths, 1219, 2048) // a PKCS #8 key, which RSA can't wrap without a hybrid
	}
	for _, n := range lengths {
		material := random(n)
		in := bytes.Clone(material)
		wrapped, err := w.WrapKey(c.Context(), in)
		if !c.ok("WrapKey", err) {
			continue
		}
		if !bytes.Equal(in, material) {
			c.Error("WrapKey modified its input")
		}
		if bytes.Contains(wrapped, material) {
			c.Error("the wrapped key contains the key")
		}
		// Rule: AES wraps as RFC 5649 says, that is to whole blocks of 8 bytes and one more of them (Section 4.1).
		if want := (n+7)/8*8 + 8; w.Public() == nil && len(wrapped) != want {
			c.Errorf("%d bytes were wrapped to %d, want %d", n, len(wrapped), want)
		}
		out, err := w.UnwrapKey(c.Context(), wrapped)
		if c.ok("UnwrapKey", err) && !bytes.Equal(out, material) {
			c.Errorf("material of %d bytes: another came back", n)
		}
	}
	if pub, ok := w.Public().(*rsa.PublicKey); ok {
		// Rule: an RSA key wraps with RSAES-OAEP and SHA-256, so what software wraps can be unwrapped.
		material := random(32)
		out, err := w.UnwrapKey(c.Context(), encrypt(c, pub, crypto.SHA256, material, nil))
		if c.ok("UnwrapKey", err) && !bytes.Equal(out, material) {
			c.Error("what was wrapped with RSAES-OAEP and SHA-256 came back as something else")
		}
	}
	wrapped, err := w.WrapKey(c.Context(), random(32))
	c.must("WrapKey", err)
	for name, wrong := range tampered(wrapped) {
		out, err := w.UnwrapKey(c.Context(), wrong)
		c.failedDecryption("UnwrapKey of something "+name, out, err)
	}
}
