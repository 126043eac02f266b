package pkcs11

import (
	"context"
	"crypto/rand"
	"fmt"
	"slices"

	"github.com/managedkeys/managedkeys/backend"
)

// idLength is the length of the random CKA_ID of a generated key in bytes, long enough never to repeat.
const idLength = 20

// Generate implements backend.Generator. The key is sensitive and not extractable, has a random CKA_ID and the label
// KeyLabel, and signs if its mechanism signs, or decrypts if its mechanism is RSAPKCSOAEP, and nothing else. RSA keys
// have the public exponent 65537. Params must have KeyBits for RSA or Curve for ECDSA, and no KeyID.
//
// With Replace, the new key is made and proved before the old one is removed; if either fails, the new one is removed
// again. Between these steps other programs see both. Handles of the old key in this process then fail with
// backend.ErrKeyChanged.
//
// When ctx ends before the token begins to make the key, nothing is made. When it ends later, Generate returns at once
// but the token finishes: the key is then found by the next Open.
func (b *Backend) Generate(ctx context.Context, params backend.Params, opts *backend.GenerateOptions) (backend.Key, error) {
	p, err := parameters(params)
	if err != nil {
		return nil, err
	}
	spec, err := p.spec()
	if err != nil {
		return nil, err
	}
	replace := opts != nil && opts.Replace
	return aside(ctx, b, GenerateTimeout, func(ctx context.Context) (backend.Key, error) {
		return withToken(ctx, b, p, func(c *conn, lib library) (backend.Key, error) {
			return c.generate(ctx, p, spec, replace, b.handleConfig(lib))
		})
	})
}

// spec returns the key that p describes. The error wraps backend.ErrInvalidParams.
func (p Params) spec() (keySpec, error) {
	kind, _ := p.Mechanism.keyType()
	switch {
	case p.KeyLabel == "":
		return keySpec{}, invalid("key_label", "is missing; a key that is generated needs one")
	case p.KeyID != "":
		return keySpec{}, invalid("key_id", "can't be chosen for a key that is generated, which gets a random one; leave it out")
	case kind == keyRSA && p.KeyBits == 0:
		return keySpec{}, invalid("key_bits", "is missing; generating an RSA key takes 2048, 3072 or 4096")
	case kind == keyEC && p.Curve == "":
		return keySpec{}, invalid("curve", "is missing; generating an ECDSA key takes P256, P384 or P521")
	}
	id := make([]byte, idLength)
	rand.Read(id) // never fails
	decrypts := p.Mechanism == RSAPKCSOAEP
	return keySpec{id: id, label: p.KeyLabel, kind: kind, bits: p.KeyBits, curve: p.Curve, sign: !decrypts, decrypt: decrypts}, nil
}

// generate makes the key that p and spec describe. search is held.
func (c *conn) generate(ctx context.Context, p Params, spec keySpec, replace bool, cfg backend.HandleConfig) (backend.Key, error) {
	old, err := c.token.find(nil, spec.label)
	if err != nil {
		return nil, c.errorf("%w", classify(err))
	}
	switch {
	case len(old) > 0 && !replace:
		return nil, c.errorf("key_label %q is that of an %s: %w", spec.label, old[0].describe(), backend.ErrKeyExists)
	case len(old) > 1:
		return nil, c.errorf("%d private keys have key_label %q; which one to replace can't be told: %w", len(old), spec.label, backend.ErrAmbiguousKey)
	}
	maker := rsaKeyPairGen
	if spec.kind == keyEC {
		maker = ecKeyPairGen
	}
	if c.uses[maker]&useGenerate == 0 {
		return nil, c.errorf("the token can't generate keys with %s: %w", maker, backend.ErrUnsupported)
	}
	if ctx.Err() != nil {
		return nil, c.errorf("%w: %w", backend.ErrUnavailable, ctx.Err())
	}

	// From here on things are done to the end, so that nothing half-made stays.
	ctx = context.WithoutCancel(ctx)
	p.KeyID = fmt.Sprintf("0x%x", spec.id)
	key, err := c.makeKey(ctx, p, spec, cfg)
	if err == nil && len(old) == 1 {
		err = c.retire(old[0])
	}
	if err != nil {
		return nil, c.undo(p, err)
	}
	return key, nil
}

// makeKey generates a key and opens it.
func (c *conn) makeKey(ctx context.Context, p Params, spec keySpec, cfg backend.HandleConfig) (backend.Key, error) {
	if err := c.do(ctx, func() error { return c.token.generate(spec) }); err != nil {
		return nil, c.explain(err)
	}
	o, err := c.find(p)
	if err != nil {
		return nil, err
	}
	return c.load(ctx, p, o, cfg)
}

// undo removes the key that was to be made, as far as it was, and returns cause.
func (c *conn) undo(p Params, cause error) error {
	id, _ := p.keyID() // is ours
	made, err := c.token.find(id, p.KeyLabel)
	for _, o := range made {
		if e := c.token.destroy(o); e != nil {
			err = e
		}
	}
	if err != nil {
		return fmt.Errorf("%w; the new key with id %s could not be removed again: %w", cause, p.KeyID, err)
	}
	return cause
}

// retire removes o from the token and makes its handles fail. Operations that are in flight end before. search is held.
func (c *conn) retire(o object) error {
	pubs, err := c.token.publicKeys(o)
	if err != nil {
		return c.errorf("%w", classify(err))
	}
	var locked []*fate
	defer func() {
		for _, f := range locked {
			f.mu.Unlock()
		}
	}()
	var identities []string
	for _, pub := range pubs {
		identity, err := c.identity(o, pub)
		if err != nil {
			continue // no handle can exist of such a key
		}
		if f := c.fates[identity]; f != nil && !slices.Contains(locked, f) {
			f.mu.Lock()
			locked = append(locked, f)
			identities = append(identities, identity)
		}
	}
	if err := c.token.destroy(o); err != nil {
		return c.errorf("the %s, which was to be replaced, can't be removed: %w", o.describe(), classify(err))
	}
	for i, f := range locked {
		f.gone = true
		delete(c.fates, identities[i])
	}
	return nil
}

// Import implements backend.Importer. It always fails with an error that wraps backend.ErrUnsupported: this version
// can't import keys.
func (b *Backend) Import(_ context.Context, params backend.Params, _ any, _ *backend.ImportOptions) (backend.Key, error) {
	if _, err := parameters(params); err != nil {
		return nil, err
	}
	if b.gate.Closed() {
		return nil, fmt.Errorf("pkcs11: %w", backend.ErrClosed)
	}
	return nil, fmt.Errorf("pkcs11: importing private keys into a token is not supported by this version; generate the key on the token, or import it with the tools of its vendor: %w", backend.ErrUnsupported)
}
