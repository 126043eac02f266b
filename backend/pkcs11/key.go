package pkcs11

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/rsa"
	"errors"
	"fmt"
	"runtime"

	"github.com/managedkeys/managedkeys/backend"
)

// maxRandom is the largest n of GenerateRandom in bytes.
const maxRandom = 64 << 10

// liveKey is what the operations of one handle share.
type liveKey struct {
	conn     *conn
	key      privateKey
	public   crypto.PublicKey
	fate     *fate
	parallel semaphore // holds one item for each operation in flight
}

// The handles: a key has the methods of what it can do and no others.
type (
	signingKey struct {
		*backend.Handle
		backend.SignOps
		backend.RandomOps
	}
	decryptingKey struct {
		*backend.Handle
		backend.DecryptOps
		backend.RandomOps
	}
	universalKey struct {
		*backend.Handle
		backend.SignOps
		backend.DecryptOps
		backend.RandomOps
	}
)

// load makes a handle of o, which p names. It proves with a signature or decryption, checked in this process, that the
// private key belongs to the public one. search is held.
func (c *conn) load(ctx context.Context, p Params, o object, cfg backend.HandleConfig) (backend.Key, error) {
	if o.alwaysAuthenticate {
		return nil, c.errorf("the %s takes the PIN for each operation (CKA_ALWAYS_AUTHENTICATE), which this version can't give: %w", o.describe(), backend.ErrUnsupported)
	}
	candidates, err := c.token.publicKeys(o)
	if err != nil {
		return nil, c.errorf("%w", classify(err))
	}
	if len(candidates) == 0 {
		return nil, c.errorf("the %s has neither a public key nor a certificate with its id on the token, on a curve that is supported: %w", o.describe(), backend.ErrUnsupported)
	}
	key, err := c.token.key(o)
	if err != nil {
		return nil, c.errorf("%w", classify(err))
	}
	caps := c.capabilities(o, p.Mechanism)
	pub, err := c.prove(ctx, key, candidates, caps)
	if err != nil {
		return nil, c.errorf("the %s: %w", o.describe(), err)
	}
	if err := p.agree(pub); err != nil {
		return nil, c.errorf("the %s: %w", o.describe(), err)
	}
	if err := c.complete(ctx, &caps, key, pub); err != nil {
		return nil, c.errorf("the %s: %w", o.describe(), err)
	}
	identity, err := c.identity(o, pub)
	if err != nil {
		return nil, c.errorf("%w", classify(err))
	}

	parallel := p.MaxParallel
	if parallel == 0 {
		parallel = max(4, 2*runtime.GOMAXPROCS(0))
	}
	live := &liveKey{conn: c, key: key, public: pub, fate: c.fateOf(identity), parallel: make(semaphore, parallel)}
	cfg.ID, cfg.Public, cfg.Capabilities, cfg.Mode = c.name(o), pub, caps, backend.CallDetached
	// Sessions and object handles become those of other keys when other code of the program finalises the module, which
	// can't be seen from here. No signature of another key may leave.
	cfg.VerifySignatures = true
	return live.handle(backend.NewHandle(cfg), caps.Usages), nil
}

func (k *liveKey) handle(h *backend.Handle, usages backend.Usage) backend.Key {
	signs, decrypts, random := h.Signing(k.sign), h.Decrypting(k.decrypt), h.Random(k.random)
	switch {
	case usages.Has(backend.UsageSign | backend.UsageDecrypt):
		return universalKey{h, signs, decrypts, random}
	case usages.Has(backend.UsageDecrypt):
		return decryptingKey{h, decrypts, random}
	}
	return signingKey{h, signs, random}
}

// agree returns an error if the parameters say another size or curve than the key has.
func (p Params) agree(pub crypto.PublicKey) error {
	switch pub := pub.(type) {
	case *rsa.PublicKey:
		if bits := pub.N.BitLen(); bits < minModulus {
			return fmt.Errorf("its modulus has %d bits; at least %d are needed: %w", bits, minModulus, backend.ErrUnsupported)
		} else if p.KeyBits != 0 && p.KeyBits != bits {
			return fmt.Errorf("key_bits: got %d, but the key has %d: %w", p.KeyBits, bits, backend.ErrInvalidParams)
		}
	case *ecdsa.PublicKey:
		if p.Curve != "" && curves[p.Curve] != pub.Curve {
			return fmt.Errorf("curve: got %s, but the key is on %s: %w", p.Curve, pub.Curve.Params().Name, backend.ErrInvalidParams)
		}
	}
	return nil
}

// use calls fn when the key and the token have a session for it, and only if the key is still on the token.
func (k *liveKey) use(ctx context.Context, fn func() ([]byte, error)) ([]byte, error) {
	if err := k.parallel.acquire(ctx, "as many operations as max_parallel allows are in flight"); err != nil {
		return nil, k.conn.errorf("%w", err)
	}
	defer k.parallel.release()
	return doResult(ctx, k.conn, func() ([]byte, error) {
		k.fate.mu.RLock()
		defer k.fate.mu.RUnlock()
		if k.fate.gone {
			return nil, k.conn.errorf("the key was replaced: %w", backend.ErrKeyChanged)
		}
		return fn()
	})
}

// sign implements backend.SignFunc.
func (k *liveKey) sign(ctx context.Context, req backend.SignRequest) ([]byte, error) {
	signature, err := k.use(ctx, func() ([]byte, error) { return signWith(k.key, k.public, req) })
	if err != nil {
		return nil, k.conn.explain(err)
	}
	return signature, nil
}

// signWith signs with key, whose public half is of pub's kind.
func signWith(key privateKey, pub crypto.PublicKey, req backend.SignRequest) ([]byte, error) {
	if ec, ok := pub.(*ecdsa.PublicKey); ok {
		req.Digest = leftmost(req.Digest, ec)
	}
	return key.sign(req)
}

// decrypt implements backend.DecryptFunc.
func (k *liveKey) decrypt(ctx context.Context, req backend.DecryptRequest) ([]byte, error) {
	plaintext, err := k.use(ctx, func() ([]byte, error) { return k.key.decrypt(req) })
	if c, ok := code(err); ok && c.failsDecryption() {
		return nil, backend.ErrDecryption
	}
	if err != nil {
		return nil, k.conn.explain(err)
	}
	return plaintext, nil
}

// random implements backend.RandomFunc.
func (k *liveKey) random(ctx context.Context, n int) ([]byte, error) {
	out := make([]byte, n)
	if err := k.conn.do(ctx, func() error { return k.conn.token.random(out) }); err != nil {
		return nil, k.conn.explain(err)
	}
	return out, nil
}

// explain returns err, if it came from the module, with its sentinel and the name of the token.
func (c *conn) explain(err error) error {
	if isSentinel(err) || errors.Is(err, context.Canceled) {
		return err
	}
	return c.errorf("%w", classify(err))
}
