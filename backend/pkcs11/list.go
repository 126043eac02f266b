package pkcs11

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"iter"
	"slices"

	"github.com/managedkeys/managedkeys/backend"
)

// List implements backend.Lister. It yields the private keys of one token, sorted by label and then by id; scope is a
// [Params] with Library, Slot or TokenLabel, and PIN. Algorithm is empty. Keys of a kind that this version can't use are
// yielded if their mechanism is known ([EdDSA]), so that opening them says why it fails; keys that have neither label
// nor id, and keys of other kinds, are left out.
func (b *Backend) List(ctx context.Context, scope backend.Params) iter.Seq2[backend.KeyInfo, error] {
	return func(yield func(backend.KeyInfo, error) bool) {
		infos, err := b.list(ctx, scope)
		for _, info := range infos {
			if !yield(info, nil) {
				return
			}
		}
		if err != nil {
			yield(backend.KeyInfo{}, err)
		}
	}
}

func (b *Backend) list(ctx context.Context, scope backend.Params) ([]backend.KeyInfo, error) {
	p, ok := scope.(Params)
	if !ok {
		return nil, fmt.Errorf("pkcs11: params are %T, want %T: %w", scope, p, backend.ErrInvalidParams)
	}
	if err := p.validateScope(); err != nil {
		return nil, err
	}
	return aside(ctx, b, OpenTimeout, func(ctx context.Context) ([]backend.KeyInfo, error) {
		return withToken(ctx, b, p, func(c *conn, _ library) ([]backend.KeyInfo, error) {
			objects, err := c.token.find(nil, "")
			if err != nil {
				return nil, c.errorf("%w", classify(err))
			}
			slices.SortFunc(objects, func(a, b object) int {
				return cmp.Or(cmp.Compare(a.label, b.label), bytes.Compare(a.id, b.id), cmp.Compare(a.kind, b.kind))
			})
			var infos []backend.KeyInfo
			for _, o := range objects {
				if found, ok := o.params(p); ok {
					infos = append(infos, backend.KeyInfo{ID: c.name(o), Label: o.label, Params: found})
				}
			}
			return infos, nil
		})
	})
}

// params returns the parameters that open o on the token that scope names, and false if there are none.
func (o object) params(scope Params) (Params, bool) {
	p := Params{Library: scope.Library, PIN: scope.PIN, Slot: scope.Slot, TokenLabel: scope.TokenLabel, KeyLabel: o.label}
	if len(o.id) > 0 {
		p.KeyID = fmt.Sprintf("0x%x", o.id)
	}
	switch {
	case o.kind == keyRSA && o.sign:
		p.Mechanism = RSAPKCSPSS
	case o.kind == keyRSA:
		p.Mechanism = RSAPKCSOAEP
	case o.kind == keyEC:
		p.Mechanism = ECDSA
	case o.kind == keyEdDSA:
		p.Mechanism = EdDSA
	default:
		return Params{}, false
	}
	return p, p.Validate() == nil
}

// Ping implements backend.Pinger. It asks each token that a key was opened on whether the login still stands, and makes
// no call if there is none.
func (b *Backend) Ping(ctx context.Context) error {
	_, err := aside(ctx, b, OpenTimeout, func(ctx context.Context) (struct{}, error) {
		b.mu.Lock()
		held := slices.Clone(b.held)
		b.mu.Unlock()
		var failed []error
		for _, c := range held {
			failed = append(failed, c.ping(ctx))
		}
		return struct{}{}, errors.Join(failed...)
	})
	return err
}

func (c *conn) ping(ctx context.Context) error {
	if err := c.search.acquire(ctx, "another search or generation on the token has not ended"); err != nil {
		return c.errorf("%w", err)
	}
	defer c.search.release()
	if err := c.token.alive(); err != nil {
		return c.errorf("%w", classify(err))
	}
	return nil
}
