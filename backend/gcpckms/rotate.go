package gcpckms

import (
	"context"

	"github.com/managedkeys/managedkeys/backend"
)

// Rotate implements [backend.Rotator]: it makes a further version of the same key, as [Backend.Generate] does with [Latest] and
// Replace. The service numbers versions itself.
func (b *Backend) Rotate(ctx context.Context, params backend.Params, _ int) (backend.Key, backend.Params, error) {
	p, err := backend.ParamsAs[Params](params)
	if err != nil {
		return nil, nil, err
	}
	p.CryptoKeyVersion = Latest
	key, err := b.Generate(ctx, p, &backend.GenerateOptions{Replace: true})
	if err != nil {
		return nil, nil, err
	}
	return key, b.ExactParams(p, key), nil
}

// ExactParams implements [backend.Versioned] by setting CryptoKeyVersion.
func (b *Backend) ExactParams(params backend.Params, key backend.Key) backend.Params {
	p, ok := params.(Params)
	if name, err := ParseName(key.ID()); ok && err == nil {
		p.CryptoKeyVersion = name.CryptoKeyVersion
		return p
	}
	return params
}
