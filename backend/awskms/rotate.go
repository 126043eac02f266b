package awskms

import (
	"context"

	"github.com/managedkeys/managedkeys/backend"
)

// Rotate implements [backend.Rotator]. The key is generated as [Backend.Generate] does, and gets the alias that
// [backend.VersionName] gives: "alias/ca" becomes "alias/ca-v2". It is another key with an ARN of its own; the service's own
// rotation of symmetric keys, which nobody notices, goes on beside it.
func (b *Backend) Rotate(ctx context.Context, params backend.Params, version int) (backend.Key, backend.Params, error) {
	p, err := backend.ParamsAs[Params](params)
	if err != nil {
		return nil, nil, err
	}
	id, err := parseIdentifier(p.KMSKey)
	switch {
	case err != nil:
		return nil, nil, err
	case id.alias == "":
		return nil, nil, invalid("kms_key", "got %.80q; to make the next key it takes alias/NAME", p.KMSKey)
	}
	if id.alias, err = backend.VersionName(id.alias, version, maxAlias); err != nil {
		return nil, nil, err
	}
	p.KMSKey = id.String()
	key, err := b.Generate(ctx, p, nil)
	return key, p, err
}
