package pkcs11

import (
	"cmp"
	"context"
	"fmt"
	"iter"
	"slices"
	"time"

	"github.com/managedkeys/managedkeys/backend"
)

// List implements backend.Lister. It yields the private and secret keys of one token, sorted by label and then by id; scope
// is a [Params] with Library, Slot, TokenLabel or TokenSerial, and PIN. Algorithm is empty. Keys that have neither label
// nor id, and keys of kinds that this package doesn't know, are left out.
// URI has the token's label and serial number, Library and Mechanism, and no PIN. Usages are
// those of the kind of key, whatever its attributes say.
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
		c, _, err := b.connection(ctx, p)
		if err != nil {
			return nil, err
		}
		x, err := c.indexed(ctx, time.Now())
		if err != nil {
			return nil, err
		}
		var keys []entry
		for _, e := range x.entries {
			if e.class == classPrivate || e.class == classSecret {
				keys = append(keys, e)
			}
		}
		slices.SortFunc(keys, func(a, b entry) int {
			return cmp.Or(cmp.Compare(a.label, b.label), cmp.Compare(a.id, b.id), cmp.Compare(a.class, b.class), cmp.Compare(a.kind, b.kind))
		})
		var infos []backend.KeyInfo
		for _, e := range keys {
			if found, ok := e.params(p); ok {
				infos = append(infos, backend.KeyInfo{ID: c.name(e), Label: e.label, Usages: usagesOf[found.Mechanism], URI: c.uri(found), Params: found})
			}
		}
		return infos, nil
	})
}

// mechanismOf is what a key of a kind is listed with.
var mechanismOf = map[keyType]Mechanism{keyRSA: RSAPKCSPSS, keyEC: ECDSA, keyEdDSA: EdDSA, keyMLDSA: MLDSA, keyAES: AESGCM, keyGeneric: SHA256HMAC}

// usagesOf is what keys can be for that are listed with a mechanism.
var usagesOf = func() map[Mechanism]backend.Usage {
	const (
		signs    = backend.UsageSign | backend.UsageVerify
		encrypts = backend.UsageEncrypt | backend.UsageDecrypt | backend.UsageWrap | backend.UsageUnwrap
	)
	return map[Mechanism]backend.Usage{
		RSAPKCSPSS: signs | encrypts, ECDSA: signs | backend.UsageDerive, EdDSA: signs, MLDSA: signs,
		AESGCM: encrypts | backend.UsageMAC, SHA256HMAC: backend.UsageMAC,
	}
}()

// params returns the parameters that open e on the token that scope names, and false if there are none.
func (e entry) params(scope Params) (Params, bool) {
	p := Params{Library: scope.Library, PIN: scope.PIN, Slot: scope.Slot, TokenLabel: scope.TokenLabel, TokenSerial: scope.TokenSerial,
		KeyLabel: e.label, Mechanism: mechanismOf[e.kind]}
	if len(e.id) > 0 {
		p.KeyID = fmt.Sprintf("0x%x", e.id)
	}
	for _, t := range hmacTypes {
		if e.kind == t {
			p.Mechanism = SHA256HMAC
		}
	}
	return p, p.Validate() == nil
}
