package backendtest

import (
	"crypto"
	"crypto/ed25519"
	"crypto/rsa"
	"fmt"
	"strings"

	"filippo.io/mldsa"

	"github.com/managedkeys/managedkeys/backend"
)

// refusal is a call that must be refused before the key manager is asked.
type refusal struct {
	name string
	call func() error
	want []error // one of them
}

// checkRefused checks that everything that is not declared is refused.
func checkRefused(c *checker, k Key, key backend.Key) {
	for _, r := range refusals(c, k, key) {
		c.refuses(r)
	}
}

// refuses makes a call that must be refused. A panic fails the test, and the next call is made all the same.
func (c *checker) refuses(r refusal) {
	c.Helper()
	defer func() {
		if p := recover(); p != nil {
			c.Errorf("%s: panic: %s", r.name, c.cfg.mask(fmt.Sprint(p)))
		}
	}()
	c.refused(r.name, r.call(), r.want...)
}

// refusals returns all that key must refuse. The calls can be made on a closed key as well, and must give the same error
// there: that is how it shows that they are refused before any call.
func refusals(c *checker, k Key, key backend.Key) []refusal {
	all := secretKeyRefusals(c, k, key)
	if s, ok := key.(backend.MessageSigner); ok {
		all = append(all, signRefusals(c, k, s)...)
	}
	if d, ok := key.(backend.Decrypter); ok {
		all = append(all, decryptRefusals(c, k, d)...)
	}
	if a, ok := key.(backend.KeyAgreer); ok && k.Agrees {
		all = append(all, agreeRefusals(c, a)...)
	}
	if d, ok := key.(backend.Decapsulator); ok && k.Decapsulates {
		all = append(all, decapsulateRefusals(c, d)...)
	}
	return all
}

// signRefusals returns what must be refused of signing: algorithms that are not declared, digests of a wrong length,
// absent options, salts and context strings.
func signRefusals(c *checker, k Key, s backend.MessageSigner) []refusal {
	declared := make(map[backend.SignatureAlgorithm]bool)
	var all []refusal
	sign := func(name string, in []byte, opts crypto.SignerOpts, want ...error) {
		all = append(all, refusal{"SignContext with " + name, func() error {
			_, err := s.SignContext(c.Context(), in, opts)
			return err
		}, want}, refusal{"Sign with " + name, func() error {
			_, err := s.Sign(noRandom{}, in, opts)
			return err
		}, want})
	}
	message := func(name string, in []byte, opts crypto.SignerOpts, want ...error) {
		all = append(all, refusal{"SignMessageContext with " + name, func() error {
			_, err := s.SignMessageContext(c.Context(), in, opts)
			return err
		}, want})
	}
	for _, a := range k.signatures(s.Public()) {
		declared[backend.SignatureAlgorithm{Scheme: a.Scheme, Hash: a.Hash}] = true
		if a.Scheme == backend.RSAPSS {
			all = append(all, saltRefusals(c, k, s, a)...)
		}
		if a.Hash != 0 {
			// Rule: a digest has the length of its hash; what is longer is neither truncated nor hashed again.
			for _, n := range []int{0, 1, a.Hash.Size() - 1, a.Hash.Size() + 1, 2 * a.Hash.Size(), 1000} {
				sign("a digest of a wrong length and "+a.String(), make([]byte, n), options(a), backend.ErrInvalidParams)
			}
			sign("a nil digest and "+a.String(), nil, options(a), backend.ErrInvalidParams)
		}
		if opts := withContext(a, "x"); opts != nil && !k.SignatureContexts {
			sign("an undeclared context string", make([]byte, saltOf(a)), opts, backend.ErrUnsupported)
			message("an undeclared context string", make([]byte, 10), opts, backend.ErrUnsupported)
		} else if opts != nil {
			long := withContext(a, strings.Repeat("x", 256))
			sign("a context string of 256 bytes", make([]byte, saltOf(a)), long, backend.ErrInvalidParams)
		}
	}
	if s.Capabilities().UnhashedPKCS1v15 {
		declared[backend.SignatureAlgorithm{Scheme: backend.RSAPKCS1v15}] = true
	}
	for _, scheme := range schemesOf(s.Public()) {
		for _, h := range append([]crypto.Hash{0}, hashes...) {
			a := backend.SignatureAlgorithm{Scheme: scheme, Hash: h}
			if !declared[a] {
				in := make([]byte, 32)
				if h != 0 {
					in = make([]byte, h.Size())
				}
				sign("the undeclared "+a.String(), in, options(a), backend.ErrUnsupported)
				message("the undeclared "+a.String(), make([]byte, 10), options(a), backend.ErrUnsupported)
			}
		}
	}
	// Rule: absent options are an error and never a panic, whatever their type.
	for name, opts := range map[string]crypto.SignerOpts{
		"nil options": nil, "nil *rsa.PSSOptions": (*rsa.PSSOptions)(nil), "nil *ed25519.Options": (*ed25519.Options)(nil),
		"nil *mldsa.Options": (*mldsa.Options)(nil),
	} {
		sign(name, make([]byte, 32), opts, backend.ErrInvalidParams, backend.ErrUnsupported)
		message(name, make([]byte, 32), opts, backend.ErrInvalidParams, backend.ErrUnsupported)
	}
	return all
}
