package pkcs11

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/managedkeys/managedkeys/backend"
	"github.com/managedkeys/managedkeys/backend/pkcs11/internal/cryptoki"
)

// idLength is the length of the random CKA_ID of a new key in bytes, long enough never to repeat.
const idLength = 20

// Generate implements backend.Generator. The key is sensitive and not extractable, has a random CKA_ID and the label
// KeyLabel, and does what its mechanism is for and nothing else. RSA keys have the public exponent 65537. Params must have
// KeyBits for RSA, AES and HMAC, Curve for EC, or ParameterSet for ML-DSA, and no KeyID. [Library] can add attributes and
// leave some out. If the token refuses the template, it is asked once more without the attributes that are false; a key
// that it then makes is removed again, with an error that wraps backend.ErrUnsupported, if it may do more or is not secret.
//
// With Replace, the new key is made and proved before the old one is removed; if either fails, the new one is removed
// again. Between these steps other programs see both. Handles of the old key in this process then fail with
// backend.ErrKeyChanged.
//
// When ctx ends before the token begins to make the key, nothing is made. When it ends later, Generate returns at once
// but the token finishes: the key is then found by the next Open. Generating is not tried again after a
// failure: if the token fails while it makes the key, what it may have made is looked for and removed.
func (b *Backend) Generate(ctx context.Context, params backend.Params, opts *backend.GenerateOptions) (backend.Key, error) {
	p, err := parameters(params)
	if err != nil {
		return nil, err
	}
	if err := p.generates(); err != nil {
		return nil, err
	}
	return b.create(ctx, p, opts != nil && opts.Replace, func(ctx context.Context, c *conn, id []byte) error {
		return c.generate(ctx, p, id)
	}, nil)
}

// generates returns an error unless p describes a new key completely.
func (p Params) generates() error {
	if err := p.creates(); err != nil {
		return err
	}
	m := p.Mechanism
	switch {
	case (m.is(keyRSA) || m.is(keyAES) || m.is(keyGeneric)) && p.KeyBits == 0:
		return invalid("key_bits", "is missing; generating takes it with mechanism %s", m)
	case m.is(keyEC) && p.Curve == "":
		return invalid("curve", "is missing; generating takes P224, P256, P384, P521 or SECP256K1 with mechanism %s", m)
	case m.is(keyMLDSA) && p.ParameterSet == 0:
		return invalid("parameter_set", "is missing; generating takes 44, 65 or 87 with mechanism %s", m)
	}
	return nil
}

// creates returns an error unless p names a key that can be made.
func (p Params) creates() error {
	switch {
	case p.KeyLabel == "":
		return invalid("key_label", "is missing; a new key needs one")
	case p.KeyID != "":
		return invalid("key_id", "can't be chosen for a new key, which gets a random one; leave it out")
	}
	return nil
}

// create has maker make the key that p describes, proves it, has check look at it unless that is nil, and removes the one
// that it replaces.
func (b *Backend) create(ctx context.Context, p Params, replace bool, maker func(ctx context.Context, c *conn, id []byte) error, check func(context.Context, backend.Key) error) (backend.Key, error) {
	return aside(ctx, b, GenerateTimeout, func(ctx context.Context) (backend.Key, error) {
		c, lib, err := b.connection(ctx, p)
		if err != nil {
			return nil, err
		}
		if err := c.search.acquire(ctx, "another search or generation on the token has not ended"); err != nil {
			return nil, c.errorf("%w", err)
		}
		defer c.search.release()
		return c.create(ctx, p, replace, maker, check, b.handleConfig(lib))
	})
}

func (c *conn) create(ctx context.Context, p Params, replace bool, maker func(context.Context, *conn, []byte) error, check func(context.Context, backend.Key) error, cfg backend.HandleConfig) (backend.Key, error) {
	x, err := c.refreshed(ctx, time.Now())
	if err != nil {
		return nil, err
	}
	old := x.keys(p)
	switch {
	case len(old) > 0 && !replace:
		return nil, c.errorf("key_label %q is that of an %s: %w", p.KeyLabel, old[0].describe(), backend.ErrKeyExists)
	case len(old) > 1:
		return nil, c.errorf("%d keys have key_label %q; which one to replace can't be told: %w", len(old), p.KeyLabel, backend.ErrAmbiguousKey)
	}
	if ctx.Err() != nil {
		return nil, c.errorf("%w: %w", backend.ErrUnavailable, ctx.Err())
	}

	// From here on things are done to the end, so that nothing half-made stays.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), GenerateTimeout)
	defer cancel()
	id := make([]byte, idLength)
	rand.Read(id) // never fails
	p.KeyID = fmt.Sprintf("0x%x", id)
	key, err := c.makeKey(ctx, p, id, maker, cfg)
	if err == nil && check != nil {
		// search is held, and a key that has to be looked up again waits for it: not for as long as generating may take.
		checking, cancel := context.WithTimeout(ctx, c.lib.callTimeout())
		err = c.explain(check(checking, key))
		cancel()
	}
	if err == nil && len(old) == 1 {
		err = c.retire(ctx, x, old[0])
	}
	c.index = nil
	if err != nil {
		return nil, c.undo(ctx, p, err)
	}
	return key, nil
}

// makeKey makes a key and opens it.
func (c *conn) makeKey(ctx context.Context, p Params, id []byte, maker func(context.Context, *conn, []byte) error, cfg backend.HandleConfig) (backend.Key, error) {
	if err := maker(ctx, c, id); err != nil {
		return nil, c.explain(err)
	}
	for n := 1; ; n++ {
		x, err := c.refreshed(ctx, time.Now())
		if err != nil {
			return nil, err
		}
		e, err := c.pick(x.keys(p), p)
		if err != nil {
			return nil, err
		}
		key, err := c.load(ctx, p, x, e, cfg)
		if err == nil || n == maxAttempts || troubleOf(err) != staleHandle {
			return key, err
		}
	}
}

// undo removes the key that was to be made, as far as it was, and returns cause.
func (c *conn) undo(ctx context.Context, p Params, cause error) error {
	x, err := c.refreshed(ctx, time.Now())
	if err == nil {
		err = c.destroy(ctx, x, append(x.keys(p), x.publics(p)...))
	}
	c.index = nil
	if err != nil {
		return fmt.Errorf("%w; whether a new key with id %s was left on the token is not known: %w", cause, p.KeyID, err)
	}
	return cause
}

// publics returns the public keys with the label and id that p names.
func (x *index) publics(p Params) []entry {
	id, _ := p.keyID() // was validated
	return x.where(string(id), p.KeyLabel, func(e entry) bool { return e.class == classPublic && p.fits(e) })
}

// destroy removes objects, in the order given.
func (c *conn) destroy(ctx context.Context, x *index, objects []entry) error {
	if len(objects) == 0 {
		return nil // and no read/write session, which a token may not give
	}
	return c.do(ctx, true, false, func(w *worker) error {
		if x.epoch != c.epoch.Load() {
			return errStale
		}
		for _, e := range objects {
			// One that is gone already was removed by an attempt that failed later.
			if err := w.module.Destroy(w.session, e.handle); err != nil && troubleOf(err) != staleHandle {
				return err
			}
		}
		return nil
	})
}

// Delete removes the key that params name from its token, and its public key. Handles of it in this process then fail with
// backend.ErrKeyChanged. Nothing else in this library deletes a key, but generating or importing with Replace. The error
// wraps the sentinels of Open, and backend.ErrNotPermitted if the token forbids it.
//
// When ctx ends before the token begins, nothing is done; when it ends later, Delete returns at once and the token finishes.
func (b *Backend) Delete(ctx context.Context, params backend.Params) error {
	p, err := parameters(params)
	if err != nil {
		return err
	}
	_, err = aside(ctx, b, OpenTimeout, func(ctx context.Context) (struct{}, error) {
		c, _, err := b.connection(ctx, p)
		if err != nil {
			return struct{}{}, err
		}
		if err := c.search.acquire(ctx, "another search or generation on the token has not ended"); err != nil {
			return struct{}{}, c.errorf("%w", err)
		}
		defer c.search.release()
		x, err := c.refreshed(ctx, time.Now())
		if err != nil {
			return struct{}{}, err
		}
		e, err := c.pick(x.keys(p), p)
		if err != nil {
			return struct{}{}, err
		}
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), OpenTimeout)
		defer cancel()
		c.index = nil
		return struct{}{}, c.retire(ctx, x, e)
	})
	return err
}

// retire removes the key e, and then its public key, and makes its handles fail. Operations that are in flight end before.
// search is held.
func (c *conn) retire(ctx context.Context, x *index, e entry) error {
	o, others, err := c.inspect(ctx, x, e)
	for n := 1; n < maxAttempts && troubleOf(err) == staleHandle; n++ {
		if x, e, err = c.again(ctx, e); err == nil {
			o, others, err = c.inspect(ctx, x, e)
		}
	}
	if err != nil {
		return err
	}
	identities := []string{}
	for _, m := range append([]material{o.own}, others...) {
		if pub := m.publicKey(e.kind); pub != nil {
			if identity, err := c.identity(e, pub); err == nil {
				identities = append(identities, identity)
			}
		}
	}
	if e.class == classSecret {
		identity, err := c.identity(e, nil)
		if err != nil {
			return err
		}
		identities = append(identities, identity)
	}
	var leaving, locked []*fate
	defer func() {
		for _, f := range locked {
			f.mu.Unlock()
		}
		for _, f := range leaving {
			f.leaving.Store(false)
		}
	}()
	c.mu.Lock()
	for _, identity := range identities {
		if f := c.fates[identity]; f != nil && !slices.Contains(leaving, f) {
			f.leaving.Store(true)
			leaving = append(leaving, f)
		}
	}
	c.mu.Unlock()
	waiting, cancel := context.WithTimeout(ctx, c.lib.callTimeout())
	defer cancel()
	for _, f := range leaving {
		if !lockBefore(waiting, f) {
			return c.errorf("the %s, which is to be removed, is in an operation that does not end: %w", e.describe(), backend.ErrUnavailable)
		}
		locked = append(locked, f)
	}
	// The private key goes first: without its public half it could not be opened again if its removal failed.
	err = c.destroy(ctx, x, []entry{e})
	for n := 1; n < maxAttempts && troubleOf(err) == staleHandle; n++ {
		var there entry
		if x, there, err = c.again(ctx, e); err == nil {
			err = c.destroy(ctx, x, []entry{there})
		} else if errors.Is(err, backend.ErrKeyNotFound) {
			err = nil // an attempt whose reply was lost removed it
		}
	}
	if err != nil {
		return fmt.Errorf("the %s can't be removed: %w", e.describe(), c.explain(err))
	}
	for _, f := range locked {
		f.gone = true
	}
	c.mu.Lock()
	for _, identity := range identities {
		delete(c.fates, identity)
	}
	c.mu.Unlock()
	// A public key that is left over does no harm: keys are proved when they are opened.
	if x != nil {
		c.destroy(ctx, x, slices.DeleteFunc(x.beside(e, classPublic), func(other entry) bool { return other.id != e.id || other.label != e.label }))
	}
	return nil
}

// again finds the object e, which was found before handles began anew, with a new index. search is held.
func (c *conn) again(ctx context.Context, e entry) (*index, entry, error) {
	x, err := c.refreshed(ctx, time.Now())
	if err != nil {
		return nil, e, err
	}
	found := x.where(e.id, e.label, func(other entry) bool {
		return other.class == e.class && other.kind == e.kind && other.id == e.id && other.label == e.label
	})
	switch len(found) {
	case 0:
		return x, e, c.errorf("the %s is not on the token any more: %w", e.describe(), backend.ErrKeyNotFound)
	case 1:
		return x, found[0], nil
	}
	return x, e, c.errorf("%d keys are an %s: %w", len(found), e.describe(), backend.ErrAmbiguousKey)
}

// lockBefore locks f for writing, and returns false if ctx ends before that is possible: a hung call holds it.
func lockBefore(ctx context.Context, f *fate) bool {
	for !f.mu.TryLock() {
		select {
		case <-ctx.Done():
			return false
		case <-time.After(time.Millisecond):
		}
	}
	return true
}

// generate makes a key with that id.
func (c *conn) generate(ctx context.Context, p Params, id []byte) error {
	t, err := c.template(p, id)
	if err != nil {
		return err
	}
	if c.uses[t.generator]&t.use == 0 {
		return fmt.Errorf("the token can't generate keys with %s: %w", t.generator, backend.ErrUnsupported)
	}
	err = c.generateWith(ctx, t)
	if plainer, ok := t.plainer(); ok && refusesTemplate(err) {
		if e := c.generateWith(ctx, plainer); !refusesTemplate(e) {
			return e
		}
	}
	return err
}

// generateWith makes a key of a template.
func (c *conn) generateWith(ctx context.Context, t template) error {
	return c.do(ctx, true, true, func(w *worker) (err error) {
		var key cryptoki.Handle
		if t.use == useGenerate {
			key, err = w.module.GenerateKey(w.session, uint(t.generator), t.private)
		} else {
			_, key, err = w.module.GenerateKeyPair(w.session, uint(t.generator), t.public, t.private)
		}
		if err != nil {
			return err
		}
		return w.judge(key, t.unsaid) // create removes what doesn't pass
	})
}

// refusesTemplate reports whether err says that a token took offence at an attribute, so that nothing was made.
func refusesTemplate(err error) bool {
	switch c, _ := code(err); c {
	case ckrAttributeReadOnly, ckrAttributeTypeInvalid, ckrAttributeValueInvalid, ckrTemplateInconsistent:
		return true
	}
	return false
}
