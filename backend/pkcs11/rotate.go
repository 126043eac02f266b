package pkcs11

import (
	"context"

	"github.com/managedkeys/managedkeys/backend"
)

// Rotate implements [backend.Rotator]. The key is generated as [Backend.Generate] does, on the same token and under the label
// that [backend.VersionName] gives: key_label "ca" becomes "ca-v2". A key_id is left out, since the new key gets another one;
// there must be a label then as well.
func (b *Backend) Rotate(ctx context.Context, params backend.Params, version int) (backend.Key, backend.Params, error) {
	p, err := parameters(params)
	if err != nil {
		return nil, nil, err
	}
	p.KeyID = ""
	if err := p.creates(); err != nil {
		return nil, nil, err
	}
	if p.KeyLabel, err = backend.VersionName(p.KeyLabel, version, maxLabel); err != nil {
		return nil, nil, err
	}
	key, err := b.Generate(ctx, p, nil)
	return key, p, err
}
