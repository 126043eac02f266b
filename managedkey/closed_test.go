package managedkey_test

import (
	"context"
	"crypto"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/managedkeys/managedkeys/backend"
	"github.com/managedkeys/managedkeys/backend/software"
	"github.com/managedkeys/managedkeys/managedkey"
	"github.com/managedkeys/managedkeys/namespace"
)

// uncomparable is a key that holds a function by value, as those of some backends do.
type uncomparable struct {
	backend.Signer

	_ []func()
}

type closable struct {
	*software.Backend
}

func (c closable) Open(ctx context.Context, params backend.Params) (backend.Key, error) {
	key, err := c.Backend.Open(ctx, params)
	if err != nil {
		return nil, err
	}
	return uncomparable{Signer: key.(backend.Signer)}, nil
}

// TestClosedBackend: an operation on a key whose backend was closed fails, whatever the key is made of. It used to begin again for ever.
func TestClosedBackend(t *testing.T) {
	b := software.New(nil)
	params := software.Params{KeyName: "k", KeyType: software.ECDSA, Curve: software.P256}
	_, err := b.Generate(t.Context(), params, nil)
	require.NoError(t, err)
	r := managedkey.NewRegistry()
	ref := namespace.Ref{Name: "k"}
	require.NoError(t, r.Create(t.Context(), managedkey.Entry{Ref: ref, Backend: closable{b}, Params: params}))
	key, err := r.Key(t.Context(), ref)
	require.NoError(t, err)
	_, err = key.SignContext(t.Context(), make([]byte, 32), crypto.SHA256)
	require.NoError(t, err)
	require.NoError(t, b.Close())
	_, err = key.SignContext(t.Context(), make([]byte, 32), crypto.SHA256)
	assert.ErrorIs(t, err, backend.ErrClosed)
	_, err = key.SignMessageContext(t.Context(), []byte("message"), crypto.SHA256)
	assert.ErrorIs(t, err, backend.ErrClosed)
}
