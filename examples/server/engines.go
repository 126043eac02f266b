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
	transithttp "github.com/managedkeys/managedkeys/transit/httpapi"
)

// mountTypes are the types that mounts may have.
var mountTypes = []string{"pki", "transit"}

// newEngines returns what serves the mounts, which keeps what it knows in st.
func (s *site) newEngines(st store.Store, ca *pkihttp.Options, keys *transithttp.Options) (map[string]httpapi.Engine, error) {
	pki, err := pkihttp.New(st, ca)
	if err != nil {
		return nil, err
	}
	soft := software.New(nil) // of transit
	s.later(soft.Close)
	keys.Software = soft
	return map[string]httpapi.Engine{"pki": pki, "transit": transithttp.New(st, keys)}, nil
}

// configuredEngines are those of a configuration file: no CA has a key in software, and a mount's option software_keys allows such keys
// of transit if the store is sealed.
func (s *site) configuredEngines(st store.Store, log *slog.Logger) (map[string]httpapi.Engine, error) {
	return s.newEngines(st, &pkihttp.Options{Logger: log}, &transithttp.Options{Logger: log})
}

// devEngines are those to try things with: software keys of transit are in every mount and may be written to a store that is not
// encrypted, and those of CAs are where a mount allows them.
func (s *site) devEngines(st store.Store, keys *managedkey.Registry, soft backend.Backend) (map[string]httpapi.Engine, error) {
	ca := &pkihttp.Options{SoftwareKey: func(ctx context.Context, m *managedkey.Mount, kind string, bits int) (string, error) {
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
	}}
	return s.newEngines(st, ca, &transithttp.Options{AllowUnsealed: true, AllowSoftware: func(*managedkey.Mount) bool { return true }})
}
