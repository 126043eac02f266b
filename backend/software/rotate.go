package software

import (
	"context"

	"github.com/managedkeys/managedkeys/backend"
)

// Rotate implements [backend.Rotator]. The key is generated as [Backend.Generate] does, under the name that
// [backend.VersionName] gives: key_name "ca" becomes "ca-v2".
func (b *Backend) Rotate(ctx context.Context, params backend.Params, version int) (backend.Key, backend.Params, error) {
	p, err := b.params(params)
	if err != nil {
		return nil, nil, err
	}
	if p.KeyName, err = backend.VersionName(p.KeyName, version, MaxKeyName); err != nil {
		return nil, nil, err
	}
	key, err := b.Generate(ctx, p, nil)
	return key, p, err
}
