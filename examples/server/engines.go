package main

import (
	"log/slog"

	"github.com/managedkeys/managedkeys/backend"
	"github.com/managedkeys/managedkeys/backend/software"
	"github.com/managedkeys/managedkeys/managedkey"
	"github.com/managedkeys/managedkeys/managedkey/httpapi"
	"github.com/managedkeys/managedkeys/managedkey/store"
	"github.com/managedkeys/managedkeys/pki"
	pkihttp "github.com/managedkeys/managedkeys/pki/httpapi"
	transithttp "github.com/managedkeys/managedkeys/transit/httpapi"
)

// mountTypes are the types that mounts may have.
var mountTypes = []string{"pki", "transit"}

// newEngines returns what serves the mounts, which keeps what it knows in st.
func (s *site) newEngines(st store.Store, ca *pkihttp.Options, keys *transithttp.Options) (map[string]httpapi.Engine, error) {
	authorities, err := pkihttp.New(st, ca)
	if err != nil {
		return nil, err
	}
	soft := software.New(nil) // of transit
	s.later(soft.Close)
	keys.Software = soft
	return map[string]httpapi.Engine{"pki": authorities, "transit": transithttp.New(st, keys)}, nil
}

// configuredEngines are those of a configuration file: no CA has a key in software, and a mount's option software_keys allows such keys
// of transit if the store is sealed. What expires is logged, and in the metrics if there are any.
func (s *site) configuredEngines(st store.Store, log *slog.Logger, metrics measures) (map[string]httpapi.Engine, error) {
	expiry := func(*managedkey.Mount) *pki.ExpiryOptions { return new(pki.ExpiryOptions) }
	return s.newEngines(st, &pkihttp.Options{Logger: log, Expiry: expiry, MeterProvider: metrics.provider}, &transithttp.Options{Logger: log})
}

// devEngines are those to try things with: software keys of transit are in every mount and may be written to a store that is not
// encrypted, and those of CAs are where a mount allows them.
func (s *site) devEngines(st store.Store, keys *managedkey.Registry, soft backend.Backend) (map[string]httpapi.Engine, error) {
	ca, err := pkihttp.NewSoftwareKeys(keys, soft)
	if err != nil {
		return nil, err
	}
	return s.newEngines(st, &pkihttp.Options{Software: ca, AllowUnsealed: true}, &transithttp.Options{AllowUnsealed: true, AllowSoftware: func(*managedkey.Mount) bool { return true }})
}
