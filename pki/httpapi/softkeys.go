package httpapi

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"

	"github.com/google/uuid"

	"github.com/managedkeys/managedkeys/backend"
	"github.com/managedkeys/managedkeys/internal/softkey"
	"github.com/managedkeys/managedkeys/managedkey"
	api "github.com/managedkeys/managedkeys/managedkey/httpapi"
	"github.com/managedkeys/managedkeys/namespace"
	"github.com/managedkeys/managedkeys/pki"
)

// SoftwareKeys is where the keys that are in software are used: those of the types internal and exported, and those that are imported. What
// keeps them is the store of the authority, which must be sealed. Its methods are called only where the mount's option
// [OptionSoftwareKeys] allows new ones, and for those that there are. They may be called concurrently.
type SoftwareKeys interface {
	// Import makes a managed key of a private key, which is granted to the mount, and returns its name there. The key is one of
	// *rsa.PrivateKey, *ecdsa.PrivateKey and ed25519.PrivateKey.
	Import(ctx context.Context, m *managedkey.Mount, key crypto.Signer) (name string, err error)

	// Restore puts the private key of a managed key that Import has made, in whatever process, where it is looked for in this one.
	// One that is there already is no error.
	Restore(ctx context.Context, m *managedkey.Mount, name string, key crypto.Signer) error

	// Discard undoes Import and Restore, for a key that nothing needs any more. What of it is gone already is no error.
	Discard(ctx context.Context, m *managedkey.Mount, name string) error
}

// NewSoftwareKeys returns software keys that are entries of reg, named "pki-" and a UUID, and are used in b: it must be a
// [backend.Importer] and a [backend.ParamsDecoder] whose parameters are those of type software in the managed-keys API, as
// software.Backend is. It need not keep them: where it hasn't one that the authority has stored, that is imported again. Processes that
// share a store share the keys if reg is on that store as well, and b a connection of it.
func NewSoftwareKeys(reg *managedkey.Registry, b backend.Backend) (SoftwareKeys, error) {
	if err := softkey.Check(b); err != nil {
		return nil, fmt.Errorf("pki/httpapi: %w", err)
	}
	return &softKeys{reg, b}, nil
}

type softKeys struct {
	reg     *managedkey.Registry
	backend backend.Backend
}

func (s *softKeys) Import(ctx context.Context, m *managedkey.Mount, key crypto.Signer) (string, error) {
	name := "pki-" + uuid.NewString()
	params, err := softkey.Params(s.backend, name, "")
	if err != nil {
		return "", err
	}
	ref := namespace.Ref{Namespace: m.Namespace(), Name: name}
	if err := s.reg.Create(ctx, managedkey.Entry{Ref: ref, Backend: s.backend, Params: params, AllowStoreKey: true}); err != nil {
		return "", err
	}
	_, err = s.reg.Import(ctx, ref, key)
	if err == nil {
		err = s.reg.Grant(ctx, m, name)
	}
	if err != nil {
		return "", errors.Join(err, s.Discard(context.WithoutCancel(ctx), m, name))
	}
	return name, nil
}

func (s *softKeys) Restore(ctx context.Context, _ *managedkey.Mount, name string, key crypto.Signer) error {
	params, err := softkey.Params(s.backend, name, "")
	if err != nil {
		return err
	}
	_, err = s.backend.(backend.Importer).Import(ctx, params, key, nil)
	if errors.Is(err, backend.ErrKeyExists) {
		return nil
	}
	return err
}

func (s *softKeys) Discard(ctx context.Context, m *managedkey.Mount, name string) error {
	ref := namespace.Ref{Namespace: m.Namespace(), Name: name}
	params, err := softkey.Params(s.backend, name, "")
	if err != nil {
		return err
	}
	var errs []error
	if _, err := s.backend.Open(ctx, params); !errors.Is(err, backend.ErrKeyNotFound) { // it may never have been in this process
		errs = append(errs, softkey.Discard(ctx, s.backend, name))
	}
	revoked := s.reg.Revoke(ctx, m, name) // of a mount that was removed there is nothing to revoke
	if err := s.reg.Delete(ctx, ref); err != nil && !errors.Is(err, backend.ErrKeyNotFound) {
		errs = append(errs, revoked, err)
	}
	return errors.Join(errs...)
}

// here are the software keys of a mount that are in this process.
type here struct {
	mu    sync.Mutex
	names map[string]bool
}

func (k *here) note(name string, in bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.names == nil {
		k.names = make(map[string]bool)
	}
	if !in {
		delete(k.names, name)
		return
	}
	k.names[name] = true
}

func (k *here) all() []string {
	k.mu.Lock()
	defer k.mu.Unlock()
	return slices.Sorted(maps.Keys(k.names))
}

// restore is pki.Options.Restore.
func (h *handler) restore(ctx context.Context, m *managedkey.Mount, name string, key crypto.Signer) error {
	err := h.opts.Software.Restore(ctx, m, name, key)
	if err == nil {
		h.here.note(name, true)
	}
	return err
}

// discard takes a key out that the store doesn't have any more.
func (h *handler) discard(ctx context.Context, name string) {
	if h.opts.Software == nil {
		return
	}
	if err := h.opts.Software.Discard(ctx, h.mount, name); err != nil {
		h.opts.Logger.WarnContext(ctx, "pki/httpapi: a software key that nobody needs stays", "mount", h.mount.ID(), "key", name, "error", err)
		return
	}
	h.here.note(name, false)
}

// discardGone takes out what other processes have deleted.
func (h *handler) discardGone(ctx context.Context) error {
	names := h.here.all() // before the store is read, so that each was there
	if len(names) == 0 {
		return nil
	}
	kept, err := h.a.SoftwareKeys(ctx)
	if err != nil {
		return err
	}
	for _, name := range names {
		if !slices.ContainsFunc(kept, func(k pki.SoftwareKey) bool { return k.Name == name }) {
			h.discard(ctx, name)
		}
	}
	return nil
}

// softwareName returns the name of the managed key with that UUID if the authority keeps its private key, and "" otherwise.
func (h *handler) softwareName(ctx context.Context, id string) (string, error) {
	kept, err := h.a.SoftwareKeys(ctx)
	for _, k := range kept {
		if k.UUID == id {
			return k.Name, err
		}
	}
	return "", err
}

// allowSoftware returns an error unless program and mount both allow keys in software, and the store may have them.
func (h *handler) allowSoftware(what string) error {
	if h.opts.Software != nil && softkey.Allowed(h.mount) {
		return h.a.AllowsSoftwareKeys()
	}
	return refuse("%s: it would be a key in software, which this mount doesn't allow (option %s); use the type kms with a managed key", what, OptionSoftwareKeys)
}

// newSoftwareKey makes a private key. Nothing keeps it yet.
func newSoftwareKey(kind string, bits int) (crypto.Signer, error) {
	curves := map[int]elliptic.Curve{0: elliptic.P256(), 256: elliptic.P256(), 384: elliptic.P384(), 521: elliptic.P521()}
	switch {
	case (kind == "" || kind == "rsa") && (bits == 0 || bits == 2048 || bits == 3072 || bits == 4096):
		return rsa.GenerateKey(rand.Reader, max(bits, 2048))
	case kind == "ec" && curves[bits] != nil:
		return ecdsa.GenerateKey(curves[bits], rand.Reader)
	case kind == "ed25519" && bits == 0:
		_, key, err := ed25519.GenerateKey(rand.Reader)
		return key, err
	}
	return nil, refuse("fields key_type %.20q and key_bits %d: it takes rsa with 2048, 3072, 4096; ec with 256, 384, 521; and ed25519", kind, bits)
}

// keep puts a private key where software keys are used, and into the store, and returns its name and what takes it out again.
func (c *call) keep(key crypto.Signer) (name string, discard func(), err error) {
	if err := c.allowSoftware("private key"); err != nil {
		return "", nil, err
	}
	if name, err = c.opts.Software.Import(c.ctx(), c.mount, key); err != nil {
		return "", nil, fmt.Errorf("pki/httpapi: software key: %w", err)
	}
	id, err := c.a.KeepSoftwareKey(c.ctx(), name, key)
	discard = func() {
		again := context.WithoutCancel(c.ctx())
		if id != "" {
			if err := c.a.ForgetSoftwareKey(again, id); err != nil {
				c.opts.Logger.WarnContext(again, "pki/httpapi: a private key that nobody needs stays in the store until its mount is removed",
					"mount", c.mount.ID(), "key", name, "error", err)
			}
		}
		c.discard(again, name)
	}
	if err != nil {
		discard()
		return "", nil, err
	}
	c.here.note(name, true)
	return name, discard, nil
}

// importKey makes a key in software of a private key that the request has.
func importKey(c *call) (any, error) {
	if err := c.allowSoftware("keys/import"); err != nil {
		return nil, err
	}
	var bundle, name string
	err := c.read(func(f *api.Fields) {
		f.String("pem_bundle", &bundle)
		f.String("key_name", &name)
	})
	if err != nil {
		return nil, err
	}
	key, err := privateKey("pem_bundle", bundle)
	if err != nil {
		return nil, err
	}
	id, err := keyID(key.Public())
	if err != nil {
		return nil, err
	}
	if known, err := c.a.Key(c.ctx(), id); err == nil {
		c.warn("the key is here already; key/:ref changes its name")
		return c.keyData(known)
	}
	known, err := c.know(&chosen{pub: key.Public(), made: key}, name)
	if err != nil {
		return nil, err
	}
	return c.keyData(known)
}
