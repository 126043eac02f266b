package backendtest

import (
	"crypto/rsa"
	"fmt"

	"github.com/managedkeys/managedkeys/backend"
)

// longestSalt returns the length of the longest salt that RSASSA-PSS can have: emLen - hLen - 2 bytes, with emLen the
// length in bytes of a number of one bit less than the modulus (RFC 8017, Section 9.1.1).
func longestSalt(pub *rsa.PublicKey, a backend.SignatureAlgorithm) int {
	return (pub.N.BitLen()-1+7)/8 - a.Hash.Size() - 2
}

// checkPSS checks every salt length that a caller can ask for. The length that was made is seen by verifying with exactly
// that length.
func checkPSS(c *checker, k Key, key backend.Key) {
	for _, a := range k.signatures(key.Public()) {
		if a.Scheme == backend.RSAPSS {
			c.sub(a.Hash.String(), func(c *checker) { checkSalts(c, k, key.(backend.MessageSigner), a) })
		}
	}
}

func checkSalts(c *checker, k Key, s backend.MessageSigner, a backend.SignatureAlgorithm) {
	pub := s.Public().(*rsa.PublicKey)
	hash, longest := a.Hash.Size(), longestSalt(pub, a)
	type saltCase struct{ ask, want int }
	// Rule: PSSSaltLengthAuto means the length of the hash on signing, where crypto/rsa takes the longest.
	cases := []saltCase{{rsa.PSSSaltLengthAuto, hash}, {rsa.PSSSaltLengthEqualsHash, hash}, {hash, hash}}
	if !k.SaltEqualsHash {
		cases = append(cases, saltCase{1, 1}, saltCase{20, 20}, saltCase{longest, longest})
	}
	message := random(80)
	in := digest(a.Hash, message)
	for _, salt := range cases {
		opts := &rsa.PSSOptions{SaltLength: salt.ask, Hash: a.Hash}
		sig, err := s.SignContext(c.Context(), in, opts)
		if !c.ok(fmt.Sprintf("SignContext with salt length %d", salt.ask), err) {
			continue
		}
		if err := verify(pub, a, salt.want, "", in, sig); err != nil {
			c.Errorf("asked for salt length %d, the salt is not %d bytes long: %v", salt.ask, salt.want, err)
		}
		sig, err = s.SignMessage(nil, message, opts)
		if c.ok("SignMessage", err) && verify(pub, a, salt.want, "", in, sig) != nil {
			c.Errorf("SignMessage: asked for salt length %d, the salt is not %d bytes long", salt.ask, salt.want)
		}
		// Rule: PSSSaltLengthAuto accepts any salt length on verifying, and a length that is given is the only one.
		verifyWith := func(salt int) error {
			opts := &rsa.PSSOptions{SaltLength: salt, Hash: a.Hash}
			return s.(backend.Verifier).VerifyContext(c.Context(), in, sig, opts)
		}
		c.ok("VerifyContext with salt length auto", verifyWith(rsa.PSSSaltLengthAuto))
		if salt.want != 21 {
			c.refused("VerifyContext with another salt length", verifyWith(21), backend.ErrInvalidSignature)
		}
	}
}

// saltRefusals returns the salt lengths that a key must refuse with a.
func saltRefusals(c *checker, k Key, s backend.Signer, a backend.SignatureAlgorithm) []refusal {
	longest := longestSalt(s.Public().(*rsa.PublicKey), a)
	refuse := func(salt int, want error) refusal {
		return refusal{fmt.Sprintf("SignContext with %v and salt length %d", a, salt), func() error {
			_, err := s.SignContext(c.Context(), make([]byte, a.Hash.Size()), &rsa.PSSOptions{SaltLength: salt, Hash: a.Hash})
			return err
		}, []error{want}}
	}
	refusals := []refusal{
		refuse(longest+1, backend.ErrInvalidParams),
		refuse(1<<30, backend.ErrInvalidParams),
		refuse(-2, backend.ErrInvalidParams),
		refuse(-1<<30, backend.ErrInvalidParams),
	}
	if k.SaltEqualsHash {
		for _, salt := range []int{1, 20, a.Hash.Size() - 1, a.Hash.Size() + 1, longest} {
			if salt != a.Hash.Size() && salt <= longest {
				refusals = append(refusals, refuse(salt, backend.ErrUnsupported))
			}
		}
	}
	return refusals
}
