package backendtest

import (
	"bytes"
	"context"
	"crypto/rsa"
	"fmt"

	"github.com/managedkeys/managedkeys/backend"
)

// operation is one thing that a key does.
type operation struct {
	name string

	// do calls the key with input of its own and checks the result. It returns the error of the call, and what was
	// wrong with the result of a call that succeeded. It is safe for concurrent use.
	do func(ctx context.Context) (err, wrong error)
}

// perform runs an operation that must succeed.
func (c *checker) perform(op operation) {
	c.Helper()
	err, wrong := op.do(c.Context())
	if c.ok(op.name, err) && wrong != nil {
		c.Errorf("%s: %v", op.name, wrong)
	}
}

// samples is how many inputs of an operation are prepared with the key itself. Goroutines that were given each other's
// input or result would show.
const samples = 4

// operations returns everything that key can do according to its capabilities, each operation with every algorithm.
// What they need as input (ciphertexts, MACs) is made here, so that they can be tried on a key that was closed. It ends
// the test if there are none.
func operations(c *checker, key backend.Key) []operation {
	c.Helper()
	caps := key.Capabilities()
	var ops []operation
	if s, ok := key.(backend.MessageSigner); ok {
		for _, a := range caps.Signatures {
			ops = append(ops, signing(s, a)...)
		}
	}
	if d, ok := key.(backend.Decrypter); ok {
		ops = append(ops, decrypting(c, d)...)
	}
	if a, ok := key.(backend.KeyAgreer); ok && caps.Usages.Has(backend.UsageDerive) {
		ops = append(ops, agreeing(c, a)...)
	}
	if d, ok := key.(backend.Decapsulator); ok && caps.Usages.Has(backend.UsageDerive) {
		ops = append(ops, decapsulating(c, d)...)
	}
	if s, ok := key.(backend.AEAD); ok && caps.Usages.Has(backend.UsageEncrypt|backend.UsageDecrypt) {
		ops = append(ops, sealing(c, s)...)
	}
	if m, ok := key.(backend.MAC); ok {
		for _, alg := range caps.MACs {
			ops = append(ops, authenticating(c, m, alg)...)
		}
	}
	if r, ok := key.(backend.Random); ok && caps.MaxRandom > 0 {
		ops = append(ops, operation{"GenerateRandom", func(ctx context.Context) (error, error) {
			n := min(32, caps.MaxRandom)
			out, err := r.GenerateRandom(ctx, n)
			return err, wrongIf(len(out) != n, "got %d bytes, want %d", len(out), n)
		}})
	}
	if w, ok := key.(backend.Wrapper); ok && caps.Usages.Has(backend.UsageWrap|backend.UsageUnwrap) {
		ops = append(ops, wrapping(c, w)...)
	}
	if len(ops) == 0 {
		c.Fatalf("%T has no method for anything that its capabilities promise: %+v", key, caps)
	}
	return ops
}

func wrongIf(wrong bool, format string, args ...any) error {
	if !wrong {
		return nil
	}
	return fmt.Errorf(format, args...)
}

// signing returns SignContext and SignMessageContext with a. The digest and the message are overwritten after the call,
// which the contract allows.
func signing(s backend.MessageSigner, a backend.SignatureAlgorithm) []operation {
	check := func(message []byte, sig []byte, err error) error {
		if err != nil {
			return nil
		}
		return verify(s.Public(), a, a.Hash.Size(), "", input(a, message), sig)
	}
	if a.Hash == 0 {
		check = func(message []byte, sig []byte, err error) error {
			if err != nil {
				return nil
			}
			return verify(s.Public(), a, 0, "", message, sig)
		}
	}
	return []operation{
		{"SignContext with " + a.String(), func(ctx context.Context) (error, error) {
			message := random(64)
			in := bytes.Clone(input(a, message))
			sig, err := s.SignContext(ctx, in, options(a))
			clear(in)
			return err, check(message, sig, err)
		}},
		{"SignMessageContext with " + a.String(), func(ctx context.Context) (error, error) {
			message := random(64)
			in := bytes.Clone(message)
			sig, err := s.SignMessageContext(ctx, in, options(a))
			clear(in)
			return err, check(message, sig, err)
		}},
	}
}

// decrypting returns DecryptContext with each hash.
func decrypting(c *checker, d backend.Decrypter) []operation {
	var ops []operation
	for _, h := range d.Capabilities().OAEPHashes {
		name := "DecryptContext with " + h.String()
		ops = append(ops, operation{name, func(ctx context.Context) (error, error) {
			plaintext := random(16)
			ciphertext := encrypt(c, d.Public(), h, plaintext, nil)
			out, err := d.DecryptContext(ctx, ciphertext, &rsa.OAEPOptions{Hash: h})
			return err, wrongIf(err == nil && !bytes.Equal(out, plaintext), "the plaintext is another")
		}})
	}
	return ops
}

func sealing(c *checker, s backend.AEAD) []operation {
	opening := prepare(c, "Seal", func(plaintext []byte) ([]byte, error) { return s.Seal(c.Context(), plaintext, nil) })
	return []operation{
		{"Seal", func(ctx context.Context) (error, error) {
			plaintext := random(24)
			ciphertext, err := s.Seal(ctx, bytes.Clone(plaintext), nil)
			short := err == nil && len(ciphertext) < len(plaintext)
			return err, wrongIf(short, "%d bytes of ciphertext for %d", len(ciphertext), len(plaintext))
		}},
		{"Open", func(ctx context.Context) (error, error) {
			p := opening()
			out, err := s.Open(ctx, bytes.Clone(p.out), nil)
			return err, wrongIf(err == nil && !bytes.Equal(out, p.in), "the plaintext is another")
		}},
	}
}

func authenticating(c *checker, m backend.MAC, alg backend.MACAlgorithm) []operation {
	known := prepare(c, "ComputeMAC", func(message []byte) ([]byte, error) {
		return m.ComputeMAC(c.Context(), alg, message)
	})
	return []operation{
		{"ComputeMAC with " + string(alg), func(ctx context.Context) (error, error) {
			p := known()
			out, err := m.ComputeMAC(ctx, alg, bytes.Clone(p.in))
			return err, wrongIf(err == nil && !bytes.Equal(out, p.out), "the MAC of the same message is another")
		}},
		{"VerifyMAC with " + string(alg), func(ctx context.Context) (error, error) {
			p := known()
			return m.VerifyMAC(ctx, alg, bytes.Clone(p.in), bytes.Clone(p.out)), nil
		}},
	}
}

func wrapping(c *checker, w backend.Wrapper) []operation {
	wrapped := prepare(c, "WrapKey", func(material []byte) ([]byte, error) { return w.WrapKey(c.Context(), material) })
	return []operation{
		{"WrapKey", func(ctx context.Context) (error, error) {
			out, err := w.WrapKey(ctx, random(32))
			return err, wrongIf(err == nil && len(out) < 32, "wrapped to %d bytes", len(out))
		}},
		{"UnwrapKey", func(ctx context.Context) (error, error) {
			p := wrapped()
			out, err := w.UnwrapKey(ctx, bytes.Clone(p.out))
			return err, wrongIf(err == nil && !bytes.Equal(out, p.in), "the material is another")
		}},
	}
}

// pair is an input of the key's and what the key made of it.
type pair struct{ in, out []byte }

// prepare calls fn with inputs of 32 random bytes and returns a function that picks one of the pairs at random.
func prepare(c *checker, op string, fn func([]byte) ([]byte, error)) (pick func() pair) {
	c.Helper()
	pairs := make([]pair, samples)
	for i := range pairs {
		in := random(32)
		out, err := fn(bytes.Clone(in))
		c.must(op, err)
		pairs[i] = pair{in, bytes.Clone(out)}
	}
	return func() pair { return pairs[random(1)[0]%samples] }
}
