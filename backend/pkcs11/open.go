package pkcs11

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/rsa"
	"errors"
	"fmt"
	"time"

	"filippo.io/mldsa"

	"github.com/managedkeys/managedkeys/backend"
)

// errNoPublic says that a private key stands alone.
var errNoPublic = errors.New("it has neither a public key nor a certificate with its id on the token that makes a key of a kind that is supported")

// How often, and how long after a search, is looked again for what belongs to a private key.
const (
	maxAlone   = 2
	alonePause = 20 * time.Millisecond
)

// open finds the key that p names and makes a handle of it.
func (c *conn) open(ctx context.Context, p Params, cfg backend.HandleConfig) (backend.Key, error) {
	began, alone := time.Now(), 0
	for n := 1; ; n++ {
		e, x, err := c.locate(ctx, p)
		if err != nil {
			return nil, err
		}
		key, err := c.load(ctx, p, x, e, cfg)
		switch {
		case err == nil || n == maxAttempts:
			return key, err
		case errors.Is(err, errStale) || troubleOf(err) == staleHandle:
			// The connection began anew, or another program removed the key, since x was made.
		case errors.Is(err, errNoPublic) && alone < maxAlone && ctx.Err() == nil:
			// Another program may be making or removing the pair, whose objects come and go one by one.
			if alone++; x.made.After(began) {
				time.Sleep(alonePause)
			}
		default:
			return nil, err
		}
		c.forget(x)
	}
}

// forget has the next search sweep the token again.
func (c *conn) forget(x *index) {
	c.search <- struct{}{}
	defer c.search.release()
	if c.index == x {
		c.index = nil
	}
}

// load makes a handle of e, which p names and x found. It has the token use the key, and checks the result in this process.
func (c *conn) load(ctx context.Context, p Params, x *index, e entry, cfg backend.HandleConfig) (backend.Key, error) {
	o, others, err := c.inspect(ctx, x, e)
	if err != nil {
		return nil, err
	}
	k := &liveKey{conn: c, entry: e, timeout: c.lib.callTimeout(), always: o.alwaysAuthenticate, binding: make(semaphore, 1)}
	if p.MaxParallel > 0 {
		k.parallel = make(semaphore, p.MaxParallel)
	}
	if p.ForceRWSession {
		c.rw.Store(true)
	}
	var key backend.Key
	cfg.ID, cfg.Mode, cfg.VerifySignatures = c.name(e), backend.CallManaged, c.lib.VerifySignatures
	if o.class == classSecret {
		key, err = c.loadSecret(ctx, p, o, k, cfg)
	} else {
		key, err = c.loadPrivate(ctx, p, o, others, k, cfg)
	}
	if err != nil {
		return nil, c.errorf("the %s: %w", o.describe(), classify(err))
	}
	return key, nil
}

func (c *conn) loadPrivate(ctx context.Context, p Params, o object, others []material, k *liveKey, cfg backend.HandleConfig) (backend.Key, error) {
	var publics []crypto.PublicKey
	for _, m := range append([]material{o.own}, others...) {
		if pub := m.publicKey(o.kind); pub != nil {
			publics = append(publics, pub)
		}
	}
	if len(publics) == 0 {
		return nil, fmt.Errorf("%w: %w", errNoPublic, backend.ErrUnsupported)
	}
	cand := &candidate{conn: c, object: o, at: handle{o.handle, o.epoch}}
	if o.alwaysAuthenticate {
		// Only the holder of presenting gives the PIN.
		if err := c.presenting.acquire(ctx, "another operation that gives the PIN has not ended"); err != nil {
			return nil, err
		}
		defer c.presenting.release()
		var err error
		if cand.pin, err = c.pin(); err != nil {
			return nil, err
		}
		if err := c.instance.refusal(newCredential(cand.pin, c.id)); err != nil {
			return nil, err
		}
		defer func() { cand.pin = "" }()
	}
	proves, err := cand.prove(ctx, publics)
	if err == nil {
		err = p.agree(cand.public)
	}
	if err == nil {
		err = cand.capabilities(ctx, p.Mechanism)
	}
	if err != nil {
		return nil, err
	}
	k.public, k.proves = cand.public, proves
	identity, err := c.identity(o.entry, cand.public)
	if err != nil {
		return nil, err
	}
	k.fate = c.fateOf(identity)
	k.bound.Store(&binding{cand.at})
	cfg.Public, cfg.Capabilities = cand.public, cand.caps
	return k.asymmetric(backend.NewHandle(cfg)), nil
}

func (c *conn) loadSecret(ctx context.Context, p Params, o object, k *liveKey, cfg backend.HandleConfig) (backend.Key, error) {
	if o.alwaysAuthenticate {
		return nil, fmt.Errorf("it is a secret key that takes the PIN for each operation (CKA_ALWAYS_AUTHENTICATE): %w", backend.ErrUnsupported)
	}
	can, err := c.trySecret(ctx, o)
	if err != nil {
		return nil, err
	}
	if p.KeyBits != 0 && o.bits != 0 && p.KeyBits != o.bits {
		return nil, fmt.Errorf("key_bits: got %d, but the key has %d: %w", p.KeyBits, o.bits, backend.ErrInvalidParams)
	}
	k.proves = can.proves
	identity, err := c.identity(o.entry, nil)
	if err != nil {
		return nil, err
	}
	k.fate = c.fateOf(identity)
	k.bound.Store(&binding{handle{o.handle, o.epoch}})
	caps := backend.Capabilities{Algorithm: "HMAC", MACs: can.macs}
	if o.kind == keyAES {
		caps.Algorithm = "AES"
		if o.bits != 0 {
			caps.Algorithm = fmt.Sprintf("AES-%d", o.bits)
		}
	}
	if can.aead {
		caps.Usages |= backend.UsageEncrypt | backend.UsageDecrypt
	}
	if len(can.macs) > 0 {
		caps.MaxMessage = can.longest
		caps.Usages |= backend.UsageMAC
	}
	if can.wraps != 0 {
		caps.Usages |= backend.UsageWrap | backend.UsageUnwrap
	}
	c.addRandom(&caps)
	cfg.Capabilities = caps
	return k.symmetric(backend.NewHandle(cfg), can), nil
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
	case *mldsa.PublicKey:
		if name := fmt.Sprintf("ML-DSA-%d", p.ParameterSet); p.ParameterSet != 0 && name != backend.Describe(pub) {
			return fmt.Errorf("parameter_set: got %d, but the key is %s: %w", p.ParameterSet, backend.Describe(pub), backend.ErrInvalidParams)
		}
	}
	return nil
}

// identity returns what tells a key apart from all others of the token.
func (c *conn) identity(e entry, pub crypto.PublicKey) (string, error) {
	text := fmt.Sprintf("%d %q %q", e.class, e.id, e.label)
	if pub == nil {
		return text, nil
	}
	fingerprint, err := backend.Fingerprint(pub)
	return string(fingerprint[:]) + text, err
}

// fateOf returns the fate of the object with that identity.
func (c *conn) fateOf(identity string) *fate {
	c.mu.Lock()
	defer c.mu.Unlock()
	f := c.fates[identity]
	if f == nil {
		f = new(fate)
		c.fates[identity] = f
	}
	return f
}
