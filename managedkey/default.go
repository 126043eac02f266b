package managedkey

import (
	"context"
	"crypto"
	"crypto/ecdh"

	"github.com/managedkeys/managedkeys/namespace"
)

var defaultRegistry = NewRegistry()

// Default returns the registry of the package-level functions. It is one for the whole program.
func Default() *Registry { return defaultRegistry }

// Create is [Registry.Create] of [Default].
func Create(ctx context.Context, in Entry) error { return defaultRegistry.Create(ctx, in) }

// Update is [Registry.Update] of [Default].
func Update(ctx context.Context, in Entry) error { return defaultRegistry.Update(ctx, in) }

// Delete is [Registry.Delete] of [Default].
func Delete(ctx context.Context, ref namespace.Ref) error { return defaultRegistry.Delete(ctx, ref) }

// EntryFor is [Registry.Entry] of [Default].
func EntryFor(ref namespace.Ref) (Entry, error) { return defaultRegistry.Entry(ref) }

// List is [Registry.List] of [Default].
func List(ns namespace.Path) []string { return defaultRegistry.List(ns) }

// Signer is [Registry.Signer] of [Default].
func Signer(ctx context.Context, ref namespace.Ref) (crypto.Signer, error) {
	return defaultRegistry.Signer(ctx, ref)
}

// Decrypter is [Registry.Decrypter] of [Default].
func Decrypter(ctx context.Context, ref namespace.Ref) (crypto.Decrypter, error) {
	return defaultRegistry.Decrypter(ctx, ref)
}

// KeyExchanger is [Registry.KeyExchanger] of [Default].
func KeyExchanger(ctx context.Context, ref namespace.Ref) (ecdh.KeyExchanger, error) {
	return defaultRegistry.KeyExchanger(ctx, ref)
}

// Decapsulator is [Registry.Decapsulator] of [Default].
func Decapsulator(ctx context.Context, ref namespace.Ref) (crypto.Decapsulator, error) {
	return defaultRegistry.Decapsulator(ctx, ref)
}

// KeyFor is [Registry.Key] of [Default].
func KeyFor(ctx context.Context, ref namespace.Ref) (*Key, error) {
	return defaultRegistry.Key(ctx, ref)
}

// Generate is [Registry.Generate] of [Default].
func Generate(ctx context.Context, ref namespace.Ref) (*Key, error) {
	return defaultRegistry.Generate(ctx, ref)
}

// Import is [Registry.Import] of [Default].
func Import(ctx context.Context, ref namespace.Ref, material any) (*Key, error) {
	return defaultRegistry.Import(ctx, ref, material)
}

// NewMount is [Registry.Mount] of [Default].
func NewMount(ctx context.Context, ns namespace.Path, path string, allowed ...string) (*Mount, error) {
	return defaultRegistry.Mount(ctx, ns, path, allowed...)
}
