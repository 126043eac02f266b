package transit

import (
	"context"
	"crypto"
	"errors"

	"github.com/managedkeys/managedkeys/backend"
)

// Has reports whether there is a transit key of that name. Of a name that is not known it asks the store; the error is that of
// asking.
func (e *Engine) Has(ctx context.Context, name string) (bool, error) {
	_, err := e.find(ctx, "key", name)
	if errors.Is(err, backend.ErrKeyNotFound) {
		return false, nil
	}
	return err == nil, err
}

// PublicKey returns the public key of a version, 0 for the latest; that of a derived key for the context, which it requires and
// others refuse. It makes no call. The error wraps [backend.ErrUnsupported] if the key is symmetric, and is otherwise as for [Engine.Sign].
func (e *Engine) PublicKey(ctx context.Context, name string, version int, derivation []byte) (crypto.PublicKey, error) {
	k, err := e.usable(ctx, "key", name)
	if err != nil {
		return nil, err
	}
	if version == 0 {
		version = k.latest()
	}
	k, v, err := e.made(ctx, k, "version", version)
	if err != nil {
		return nil, err
	}
	if err := k.checkContext(derivation); err != nil {
		return nil, err
	}
	switch {
	case v.public != nil:
		return v.public, nil
	case v.kind != TypeEd25519: // a derived one has a public key for each context
		return nil, unsupported("a key of type %s has no public key", v.kind)
	}
	_, public, err := v.signingKey(derivation)
	if err != nil {
		return nil, failed("derive", k, v, err)
	}
	return public, nil
}

// Kind returns the type of a version of a key, 0 for the latest, as KeyVersion.Type has it. It makes no call. The error is as for
// [Engine.Key], or wraps [backend.ErrInvalidParams] if there is no such version.
func (e *Engine) Kind(ctx context.Context, name string, version int) (string, error) {
	k, err := e.find(ctx, "key", name)
	if err != nil {
		return "", err
	}
	if version == 0 {
		version = k.latest()
	}
	if version < k.rec.First || version > k.latest() {
		return "", invalid("no such key version: %d; there are %d to %d", version, k.rec.First, k.latest())
	}
	return k.version(version).kind, nil
}

// IsManagedBackup reports whether text is what [Engine.Backup] returned of a managed key, and so has no secret in it.
func IsManagedBackup(text string) bool {
	if _, vaults, err := openBackup(text); err != nil || vaults { // of those none is
		return false
	}
	b, err := readBackup(context.Background(), text) // of our own, which is read at once
	return err == nil && b.Key.managed()
}
