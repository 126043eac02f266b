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
	"net/http"

	"github.com/google/uuid"

	"github.com/managedkeys/managedkeys/backend"
	"github.com/managedkeys/managedkeys/internal/softkey"
	"github.com/managedkeys/managedkeys/managedkey"
	api "github.com/managedkeys/managedkeys/managedkey/httpapi"
	"github.com/managedkeys/managedkeys/namespace"
)

// SoftwareKeys has the keys that are in software: those of the types internal and exported, and those that are imported. Its methods are
// called only where the mount's option [OptionSoftwareKeys] allows them, and may be called concurrently.
type SoftwareKeys interface {
	// Import makes a managed key of a private key, which is granted to the mount, and returns its name there. The key is one of
	// *rsa.PrivateKey, *ecdsa.PrivateKey and ed25519.PrivateKey.
	Import(ctx context.Context, m *managedkey.Mount, key crypto.Signer) (name string, err error)

	// Discard undoes Import for a key that has signed nothing yet, since what it was wanted for was refused.
	Discard(ctx context.Context, m *managedkey.Mount, name string) error
}

// NewSoftwareKeys returns software keys that are entries of reg, named "pki-" and a UUID, in b, which keeps them: it must be a
// [backend.Importer] and a [backend.ParamsDecoder] whose parameters are those of type software in the managed-keys API, as
// software.Backend is, with a file that is encrypted where keys shall outlive the process.
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

func (s *softKeys) Discard(ctx context.Context, m *managedkey.Mount, name string) error {
	ref := namespace.Ref{Namespace: m.Namespace(), Name: name}
	err := s.reg.Revoke(ctx, m, name)
	return errors.Join(err, s.reg.Delete(ctx, ref), softkey.Discard(ctx, s.backend, name))
}

// allowSoftware returns an error unless program and mount both allow keys in software.
func (h *handler) allowSoftware(what string) error {
	if h.opts.Software != nil && softkey.Allowed(h.mount) {
		return nil
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

// keep puts a private key where software keys are, and returns its name and what takes it out again.
func (c *call) keep(key crypto.Signer) (name string, discard func(), err error) {
	if err := c.allowSoftware("private key"); err != nil {
		return "", nil, err
	}
	if name, err = c.opts.Software.Import(c.ctx(), c.mount, key); err != nil {
		return "", nil, fmt.Errorf("pki/httpapi: software key: %w", err)
	}
	return name, func() {
		if err := c.opts.Software.Discard(context.WithoutCancel(c.ctx()), c.mount, name); err != nil {
			c.opts.Logger.WarnContext(c.ctx(), "pki/httpapi: a software key that nobody needs stays", "key", name, "error", err)
		}
	}, nil
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
		return nil, api.Errorf(http.StatusConflict, "key %s is here already, as the managed key %s", id, known.UUID)
	}
	known, err := c.know(&chosen{pub: key.Public(), made: key}, name)
	if err != nil {
		return nil, err
	}
	return c.keyData(known)
}
