package software

import (
	"context"
	"crypto/rsa"
	"fmt"

	"github.com/managedkeys/managedkeys/backend"
)

// Generate implements [backend.Generator]. params must be of type [Params] and say all of what the key is to be. It
// returns as soon as ctx ends, even from the making of an RSA key, and nothing is stored then.
func (b *Backend) Generate(ctx context.Context, params backend.Params, opts *backend.GenerateOptions) (backend.Key, error) {
	p, err := b.params(params)
	if err != nil {
		return nil, err
	}
	if err := p.complete(); err != nil {
		return nil, err
	}
	replace := opts != nil && opts.Replace
	return b.create(ctx, "generate", p.KeyName, replace, func() (*material, error) {
		return generateMaterial(p, func(bits int) (*rsa.PrivateKey, error) { return b.generateRSA(ctx, bits) })
	})
}

// Import implements [backend.Importer]. params must be of type [Params]. material is copied and may be wiped afterwards.
//
// Beside what the contract demands, an RSA key must have two prime factors and an odd public exponent of at least 65537
// (FIPS 186-5, Appendix A.1.1), and every private key must belong to the public key that comes with it.
func (b *Backend) Import(ctx context.Context, params backend.Params, material any, opts *backend.ImportOptions) (backend.Key, error) {
	p, err := b.params(params)
	if err != nil {
		return nil, err
	}
	m, err := importMaterial(p.KeyType, material)
	if err != nil {
		return nil, err
	}
	if err := p.match(m.kind, "the imported key"); err != nil {
		return nil, err
	}
	replace := opts != nil && opts.Replace
	return b.create(ctx, "import", p.KeyName, replace, constant(m))
}

func constant(m *material) func() (*material, error) {
	return func() (*material, error) { return m, nil }
}

// create makes a key, stores it under name and opens it. Whether the name is free is seen before the key is made, since
// that can take seconds, and again when it is stored.
func (b *Backend) create(ctx context.Context, op, name string, replace bool, produce func() (*material, error)) (backend.Key, error) {
	// The whole of it is one call in flight, so that Close waits for it.
	if err := b.gate.Enter(); err != nil {
		return nil, err
	}
	defer b.gate.Leave()
	if err := b.locked(ctx, op, func() error { return b.free(name, replace) }); err != nil {
		return nil, err
	}
	m, err := produce()
	if err != nil {
		if ctx.Err() != nil {
			return nil, contextError(ctx, op)
		}
		return nil, fmt.Errorf("software: %s key %q: %w: %w", op, name, backend.ErrUnavailable, err)
	}
	e := newEntry(name, newSerial(), m)
	if err := b.put(ctx, op, e, replace); err != nil {
		return nil, err
	}
	return e.open(&b.gate), nil
}

func (b *Backend) free(name string, replace bool) error {
	if old := b.store.entries[name]; old != nil && !replace {
		return fmt.Errorf("software: key %q in store %q: %w", old.id(), b.name, backend.ErrKeyExists)
	}
	return nil
}

// put stores e, unless its name has been taken in the meantime. If there is an error, the store is as before.
func (b *Backend) put(ctx context.Context, op string, e *entry, replace bool) error {
	// In this order: the wait for another program must not keep this one from opening keys.
	if f := b.store.file; f != nil {
		unlock, err := f.lock(ctx, op)
		if err != nil {
			return err
		}
		defer unlock()
	}
	if err := b.enter(ctx, op); err != nil {
		return err
	}
	defer func() { <-b.store.lock }()
	if err := b.free(e.name, replace); err != nil {
		return err
	}
	if ctx.Err() != nil {
		return contextError(ctx, op)
	}
	return b.store.put(e)
}

// generateRSA makes an RSA key on a goroutine of its own, because that takes seconds and can't be interrupted. A caller
// whose context ends leaves at once. At most as many keys are in the making as processors work on them.
func (b *Backend) generateRSA(ctx context.Context, bits int) (*rsa.PrivateKey, error) {
	type result struct {
		key *rsa.PrivateKey
		err error
	}
	select {
	case b.makers <- struct{}{}:
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	done := make(chan result, 1) // buffered, so that the goroutine ends even if nobody waits
	go func() {
		defer func() { <-b.makers }()
		key, err := b.newRSA(bits)
		done <- result{key, err}
	}()
	select {
	case r := <-done:
		return r.key, r.err
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}
