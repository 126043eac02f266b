package azurekeyvault

import (
	"context"

	"github.com/Azure/azure-sdk-for-go/sdk/security/keyvault/azkeys"

	"github.com/managedkeys/managedkeys/backend"
)

// Rotate implements [backend.Rotator]: it makes a further version of the same key, as [Backend.Generate] does with Replace. The
// vault names versions itself.
func (b *Backend) Rotate(ctx context.Context, params backend.Params, _ int) (backend.Key, backend.Params, error) {
	p, err := backend.ParamsAs[Params](params)
	if err != nil {
		return nil, nil, err
	}
	p.KeyVersion = ""
	key, err := b.Generate(ctx, p, &backend.GenerateOptions{Replace: true})
	if err != nil {
		return nil, nil, err
	}
	return key, b.ExactParams(p, key), nil
}

// ExactParams implements [backend.Versioned] by setting KeyVersion.
func (b *Backend) ExactParams(params backend.Params, key backend.Key) backend.Params {
	p, ok := params.(Params)
	id := azkeys.ID(key.ID())
	if at, err := parseKID(&id); ok && err == nil {
		p.KeyVersion = at.version
		return p
	}
	return params
}
