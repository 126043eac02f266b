package main

import (
	"context"
	"fmt"
	"log/slog"

	"github.com/google/uuid"

	"github.com/managedkeys/managedkeys/backend"
	"github.com/managedkeys/managedkeys/backend/software"
	"github.com/managedkeys/managedkeys/managedkey"
	"github.com/managedkeys/managedkeys/managedkey/httpapi"
	"github.com/managedkeys/managedkeys/managedkey/store"
	"github.com/managedkeys/managedkeys/namespace"
	pkihttp "github.com/managedkeys/managedkeys/pki/httpapi"
)

// mountTypes are the types that mounts may have.
var mountTypes = []string{"pki", "transit"}

// newEngines returns what serves the mounts. A type without an engine can be mounted, and its paths answer 404.
func newEngines(st store.Store, opts *pkihttp.Options) (map[string]httpapi.Engine, error) {
	pki, err := pkihttp.New(st, opts)
	if err != nil {
		return nil, err
	}
	return map[string]httpapi.Engine{"pki": pki, "transit": nil}, nil
}

// configuredEngines are those of a configuration file: no CA has a key in software.
func configuredEngines(st store.Store, log *slog.Logger) (map[string]httpapi.Engine, error) {
	return newEngines(st, &pkihttp.Options{Logger: log})
}

// devEngines are those to try things with: mounts may allow keys in software.
func devEngines(st store.Store, keys *managedkey.Registry, soft backend.Backend) (map[string]httpapi.Engine, error) {
	return newEngines(st, &pkihttp.Options{SoftwareKey: func(ctx context.Context, m *managedkey.Mount, kind string, bits int) (string, error) {
		name := "pki-" + uuid.NewString()
		params := software.Params{KeyName: name, KeyType: software.Ed25519}
		switch kind {
		case "rsa":
			params.KeyType, params.KeyBits = software.RSA, max(bits, 2048)
		case "ec":
			params.KeyType, params.Curve = software.ECDSA, software.Curve(fmt.Sprintf("P%d", max(bits, 256)))
		}
		entry := managedkey.Entry{Ref: namespace.Ref{Namespace: m.Namespace(), Name: name}, Backend: soft, Params: params, AllowGenerateKey: true}
		if err := keys.Create(ctx, entry); err != nil {
			return "", err
		}
		return name, keys.Grant(ctx, m, name)
	}})
}
