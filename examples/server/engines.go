package main

import (
	"log/slog"

	"github.com/managedkeys/managedkeys/backend"
	"github.com/managedkeys/managedkeys/backend/software"
	"github.com/managedkeys/managedkeys/managedkey"
	"github.com/managedkeys/managedkeys/managedkey/httpapi"
	"github.com/managedkeys/managedkeys/managedkey/store"
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
	ca, err := pkihttp.NewSoftwareKeys(keys, soft)
	if err != nil {
		return nil, err
	}
	return s.newEngines(st, &pkihttp.Options{Software: ca}, &transithttp.Options{AllowUnsealed: true, AllowSoftware: func(*managedkey.Mount) bool { return true }})
}
