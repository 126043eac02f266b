// Package all has builders for all connections and stores that the project has. A program that imports it links all of their SDKs.
package all

import (
	"time"

	"github.com/managedkeys/managedkeys/backend"
	"github.com/managedkeys/managedkeys/backend/awskms"
	"github.com/managedkeys/managedkeys/backend/azurekeyvault"
	"github.com/managedkeys/managedkeys/backend/gcpckms"
	"github.com/managedkeys/managedkeys/backend/pkcs11"
	"github.com/managedkeys/managedkeys/backend/remote"
	"github.com/managedkeys/managedkeys/backend/replicated"
	"github.com/managedkeys/managedkeys/backend/software"
	"github.com/managedkeys/managedkeys/managedkey/config"
)

// Builders returns builders for the backends pkcs11, awskms, azurekeyvault, gcpckms, replicated and software, and for the stores
// memory, bolt, postgres and etcd. The caller may add to what it returns, and take out of it.
func Builders() *config.Builders {
	return &config.Builders{
		Backends: map[string]config.BackendBuilder{
			pkcs11.Type:        {New: func() config.BackendStanza { return new(PKCS11) }, Params: decode[pkcs11.Params]},
			awskms.Type:        {New: func() config.BackendStanza { return new(AWS) }, Params: decode[awskms.Params]},
			azurekeyvault.Type: {New: func() config.BackendStanza { return new(Azure) }, Params: decode[azurekeyvault.Params]},
			gcpckms.Type:       {New: func() config.BackendStanza { return new(Google) }, Params: decode[gcpckms.Params]},
			software.Type:      {New: func() config.BackendStanza { return new(Software) }, Params: decode[software.Params]},
			replicated.Type:    {New: func() config.BackendStanza { return new(Replicated) }},
		},
		Stores: map[string]func() config.StoreStanza{
			"memory":   func() config.StoreStanza { return new(Memory) },
			"bolt":     func() config.StoreStanza { return new(Bolt) },
			"postgres": func() config.StoreStanza { return new(Postgres) },
			"etcd":     func() config.StoreStanza { return new(Etcd) },
		},
	}
}

func decode[T backend.Params](data []byte) (backend.Params, error) {
	p, err := backend.DecodeParams[T](data)
	if err != nil {
		return nil, err
	}
	return p, nil
}

// Remote are the arguments of connections to services on a network; see remote.Options for what they mean and their defaults.
type Remote struct {
	CallTimeout     time.Duration `config:"call_timeout"`
	AttemptTimeout  time.Duration `config:"attempt_timeout"`
	MaxAttempts     int           `config:"max_attempts"`
	RetryBudget     float64       `config:"retry_budget"`
	Rate            float64       `config:"rate"`  // requests per second of the connection
	Burst           int           `config:"burst"` // of them at once
	KeyRate         float64       `config:"key_rate"`
	KeyBurst        int           `config:"key_burst"`
	MaxInFlight     int           `config:"max_in_flight"`
	TrustSignatures bool          `config:"trust_signatures"`
}

func (r *Remote) options() remote.Options {
	return remote.Options{
		CallTimeout: r.CallTimeout, AttemptTimeout: r.AttemptTimeout, MaxAttempts: r.MaxAttempts, RetryBudget: r.RetryBudget,
		ConnectionRate: remote.Rate{PerSecond: r.Rate, Burst: r.Burst}, KeyRate: remote.Rate{PerSecond: r.KeyRate, Burst: r.KeyBurst},
		MaxInFlight: r.MaxInFlight, TrustSignatures: r.TrustSignatures,
	}
}

// validate returns the error of remote.Options.
func (r *Remote) validate() error {
	opts := r.options()
	_, err := opts.WithDefaults()
	return err
}
