package backendtest

import (
	"context"
	"crypto"
	"crypto/rsa"
	"crypto/x509"
	"errors"
	"time"

	"github.com/managedkeys/managedkeys/backend"
)

// endedContext is a context that has ended, and the error that it must give.
type endedContext struct {
	name string
	ctx  context.Context
	want error
}

// endedContexts returns a cancelled context and one whose deadline has passed.
func (c *checker) endedContexts() []endedContext {
	cancelled, cancel := context.WithCancel(c.Context())
	cancel()
	expired, cancel := context.WithDeadline(c.Context(), time.Unix(0, 0))
	c.Cleanup(cancel)
	return []endedContext{
		{"cancelled", cancelled, context.Canceled},
		{"expired", expired, context.DeadlineExceeded},
	}
}

// checkContext checks that contexts bound calls, and only those that they were given to.
func checkContext(c *checker, k Key, key backend.Key) {
	ops := operations(c, key)
	c.sub("Ended", func(c *checker) {
		// Rule: a context that has ended is an error that wraps ctx.Err().
		for _, ended := range c.endedContexts() {
			for _, op := range ops {
				err, _ := op.do(ended.ctx)
				c.refused(op.name+" with a context that is "+ended.name, err, ended.want)
			}
		}
	})
	c.sub("Ending", func(c *checker) { checkEnding(c, ops) })
	if key.Public() != nil {
		c.sub("Views", func(c *checker) { checkViews(c, k, key) })
	}
	// Rule: what one context ended, the key goes on without.
	for _, op := range ops {
		c.perform(op)
	}
}

// checkEnding cancels contexts while calls are under way. (Rule: such a call gives its result or ctx.Err(), and the
// sessions or connections that it leaves behind are in order.)
func checkEnding(c *checker, ops []operation) {
	c.concurrently(16, func(i int) {
		op := ops[i%len(ops)]
		ctx, cancel := context.WithCancel(c.Context())
		go cancel()
		err, wrong := op.do(ctx)
		c.see(op.name, err)
		if err != nil && !errors.Is(err, context.Canceled) {
			c.Errorf("%s, cancelled under way: %s", op.name, c.describe(err))
		}
		if err == nil && wrong != nil {
			c.Errorf("%s, cancelled under way: %v", op.name, wrong)
		}
	})
}

// checkViews checks backend.WithContext: a view is what the key is, and its context ends the view alone.
func checkViews(c *checker, k Key, key backend.Key) {
	ctx, cancel := context.WithCancel(c.Context())
	defer cancel()
	ending, lasting := backend.WithContext(ctx, key), backend.WithContext(c.Context(), key)
	if !samePublic(ending.Public(), key.Public()) || ending.ID() != key.ID() {
		c.Error("the view is of another key")
	}
	if algs := k.signatures(key.Public()); len(algs) > 0 {
		a := algs[0]
		message := random(40)
		in := input(a, message)
		sign := func(what string, key backend.Key, want error) {
			for _, call := range []struct {
				name string
				sign func() ([]byte, error)
			}{
				{"Sign", func() ([]byte, error) { return key.(crypto.Signer).Sign(noRandom{}, in, options(a)) }},
				{"SignMessage", func() ([]byte, error) {
					return key.(crypto.MessageSigner).SignMessage(noRandom{}, message, options(a))
				}},
			} {
				sig, err := call.sign()
				if want != nil {
					c.refused(call.name+" of "+what, err, want)
				} else if c.ok(call.name+" of "+what, err) && verify(key.Public(), a, saltOf(a), "", in, sig) != nil {
					c.Errorf("%s of %s: the signature does not verify", call.name, what)
				}
			}
		}
		sign("a view", ending, nil)
		for _, alg := range k.certificates(key.Public()) {
			der, err := x509.CreateCertificateRequest(noRandom{}, &x509.CertificateRequest{SignatureAlgorithm: alg}, ending)
			c.x509("x509.CreateCertificateRequest with a view", err)
			csr, err := x509.ParseCertificateRequest(der)
			c.x509("x509.ParseCertificateRequest", err)
			c.x509("the request's signature", csr.CheckSignature())
		}
		cancel()
		sign("a view whose context was cancelled", ending, context.Canceled)
		sign("another view", lasting, nil)
		sign("the key itself", key, nil)
	}
	if len(k.OAEP) > 0 {
		h := k.OAEP[0]
		ciphertext := encrypt(c, key.Public(), h, []byte("plaintext"), nil)
		decrypt := func(key backend.Key) error {
			_, err := key.(crypto.Decrypter).Decrypt(noRandom{}, ciphertext, &rsa.OAEPOptions{Hash: h})
			return err
		}
		cancel()
		c.refused("Decrypt of a view whose context was cancelled", decrypt(ending), context.Canceled)
		c.ok("Decrypt of another view", decrypt(lasting))
		c.ok("Decrypt of the key itself", decrypt(key))
	}
	if k.Decapsulates {
		ctx, cancel := context.WithCancel(c.Context())
		defer cancel()
		checkDecapsulateView(c, backend.WithContext(ctx, key), lasting, key, cancel)
	}
	if k.Agrees {
		ctx, cancel := context.WithCancel(c.Context())
		defer cancel()
		checkAgreeView(c, backend.WithContext(ctx, key), lasting, key, cancel)
	}
}
