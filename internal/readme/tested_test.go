package readme

import (
	"context"
	"fmt"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/managedkeys/managedkeys/backend"
	"github.com/managedkeys/managedkeys/managedkey"
	"github.com/managedkeys/managedkeys/namespace"
)

// already is a backend whose only key is open already.
type already struct {
	backend.Backend
	key backend.Key
}

func (b already) Open(context.Context, backend.Params) (backend.Key, error) { return b.key, nil }

// passes has a registry test every key in each of its usages. params are any of the backend.
func passes(t *testing.T, b backend.Backend, keys []backend.Key, params backend.Params) {
	t.Helper()
	r := managedkey.NewRegistry()
	for i, key := range keys {
		ref := namespace.Ref{Name: fmt.Sprintf("key-%d", i)}
		in := managedkey.Entry{Ref: ref, Backend: already{b, key}, Params: params, Usages: backend.UsageDerive<<1 - 1}
		require.NoError(t, r.Create(t.Context(), in))
		report, err := r.Test(t.Context(), ref, nil)
		require.NotNil(t, report)
		assert.NoError(t, err, "%s", report)
		var tried backend.Usage
		for _, s := range report.Steps {
			tried |= s.Usage
		}
		assert.Equal(t, key.Capabilities().Usages, tried, "%s", report)
	}
}
