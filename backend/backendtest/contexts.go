package backendtest

import (
	"crypto"
	"crypto/ed25519"
	"strings"

	"filippo.io/mldsa"

	"github.com/managedkeys/managedkeys/backend"
)

// withContext returns the options for a with a context string, or nil if a takes none.
func withContext(a backend.SignatureAlgorithm, context string) crypto.SignerOpts {
	switch a.Scheme {
	case backend.Ed25519:
		return &ed25519.Options{Hash: a.Hash, Context: context}
	case backend.MLDSA:
		return &mldsa.Options{Context: context}
	}
	return nil
}

// checkSignatureContexts checks context strings where they are declared (RFC 8032, Section 5.1; FIPS 204, Section 5.2):
// a signature holds under its own context only. That they are refused elsewhere is checked by checkRefused.
func checkSignatureContexts(c *checker, k Key, key backend.Key) {
	if !k.SignatureContexts {
		return
	}
	seen := false
	for _, a := range k.signatures(key.Public()) {
		if withContext(a, "") == nil {
			continue
		}
		seen = true
		message := random(70)
		in := input(a, message)
		for _, context := range []string{"", "a", "backendtest", strings.Repeat("\x00", 255)} {
			opts := withContext(a, context)
			sig, err := key.(backend.MessageSigner).SignContext(c.Context(), in, opts)
			if !c.ok("SignContext with a context string", err) {
				continue
			}
			if err := verify(key.Public(), a, 0, context, in, sig); err != nil {
				c.Errorf("%v with a context string of %d bytes: %v", a, len(context), err)
			}
			if verify(key.Public(), a, 0, context+"b", in, sig) == nil && len(context) < 255 {
				c.Errorf("%v: the signature verifies under another context string too", a)
			}
			c.ok("VerifyContext with a context string", key.(backend.Verifier).VerifyContext(c.Context(), in, sig, opts))
			sig, err = key.(backend.MessageSigner).SignMessage(noRandom{}, message, opts)
			if c.ok("SignMessage with a context string", err) && verify(key.Public(), a, 0, context, in, sig) != nil {
				c.Errorf("%v: SignMessage with a context string of %d bytes does not verify", a, len(context))
			}
		}
	}
	if !seen {
		c.Error("SignatureContexts is declared, but no algorithm takes a context string")
	}
}
