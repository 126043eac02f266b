package azurekeyvault

import (
	"errors"
	"fmt"
	"testing"

	"github.com/Azure/azure-sdk-for-go/sdk/security/keyvault/azkeys"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/managedkeys/managedkeys/backend"
	"github.com/managedkeys/managedkeys/internal/fakeazure"
	"github.com/managedkeys/managedkeys/internal/fakecloud"
)

// listed returns what List yields, and its error.
func listed(t *testing.T, b *Backend) (infos []backend.KeyInfo, err error) {
	t.Helper()
	for info, e := range b.List(t.Context(), nil) {
		if e != nil {
			return infos, e
		}
		infos = append(infos, info)
	}
	return infos, nil
}

// TestList: keys of every state, over pages.
func TestList(t *testing.T) {
	srv := newFake(t, &fakeazure.Options{PageSize: 2})
	client := sdkClient(t, srv, vaultURL)
	for i := range 5 {
		makeKey(t, client, fmt.Sprintf("key-%d", i), p256())
	}
	disabled := makeKey(t, client, "key-5", p256())
	change(t, client, "key-5", disabled, azkeys.KeyAttributes{Enabled: ptr(false)})
	old := makeKey(t, client, "key-6", p256())
	change(t, client, "key-6", makeKey(t, client, "key-6", p256()), azkeys.KeyAttributes{Enabled: ptr(false)})
	b := newBackendAt(t, srv, vaultURL, nil)
	infos, err := listed(t, b)
	require.NoError(t, err)
	require.Len(t, infos, 7)
	assert.Equal(t, 4, srv.Log.Count("list"))
	for i, info := range infos {
		assert.Equal(t, fmt.Sprintf("key-%d", i), info.Label)
		assert.Equal(t, "ECDSA P-256", info.Algorithm)
		key, err := b.Open(t.Context(), info.Params)
		if i == 5 {
			assert.Contains(t, info.ID, disabled)
			assert.ErrorIs(t, err, backend.ErrKeyDisabled)
			continue
		}
		require.NoError(t, err)
		assert.Equal(t, info.ID, key.ID())
	}
	assert.Contains(t, infos[6].ID, old)

	// A key that goes away meanwhile, and one of an unknown kind, are left out.
	srv.Script.Add(fakecloud.Fault{Op: "get", Error: status(404, "KeyNotFound", "")}, fakecloud.Fault{Op: "get", Corrupt: inKey(set("kty", "OKP"))})
	infos, err = listed(t, b)
	require.NoError(t, err)
	assert.Len(t, infos, 5)

	// Whose state the vault doesn't let one read is listed by its newest version.
	srv.Script.Add(fakecloud.Fault{Op: "get", Error: status(403, "Forbidden", "KeyDisabled")})
	infos, err = listed(t, b)
	require.NoError(t, err)
	assert.Len(t, infos, 7)
	assert.Empty(t, infos[0].Algorithm)
}

// TestListFails: what goes wrong ends the list, whenever that is.
func TestListFails(t *testing.T) {
	srv := newFake(t, &fakeazure.Options{PageSize: 1})
	client := sdkClient(t, srv, vaultURL)
	makeKey(t, client, "a", p256())
	makeKey(t, client, "b", p256())
	b := newBackendAt(t, srv, vaultURL, hasty)
	for name, c := range map[string]struct {
		fault fakecloud.Fault
		n     int
		want  error
	}{
		"no permission":   {fakecloud.Fault{Op: "list", Error: status(403, "Forbidden", "ForbiddenByRbac")}, 0, backend.ErrNotPermitted},
		"second page":     {fakecloud.Fault{Op: "list", Skip: 1, Error: status(403, "Forbidden", "ForbiddenByRbac")}, 1, backend.ErrNotPermitted},
		"a key":           {fakecloud.Fault{Op: "get", Skip: 1, Error: status(403, "Forbidden", "ForbiddenByRbac")}, 1, backend.ErrNotPermitted},
		"an id of no key": {fakecloud.Fault{Op: "list", Corrupt: func(a map[string]any) { a["value"].([]any)[0].(map[string]any)["kid"] = "x" }}, 0, backend.ErrIntegrity},
		"null":            {fakecloud.Fault{Op: "list", Corrupt: func(a map[string]any) { a["value"] = []any{nil} }}, 1, nil},
	} {
		srv.Script.Add(c.fault)
		infos, err := listed(t, b)
		assert.Len(t, infos, c.n, name)
		assert.True(t, errors.Is(err, c.want), "%s: %v", name, err)
		assert.Zero(t, srv.Script.Left(), name)
	}
}

// TestPing tells who is not known from who may not read keys.
func TestPing(t *testing.T) {
	srv := newFake(t, nil)
	b := newBackendAt(t, srv, vaultURL, hasty)
	require.NoError(t, b.Ping(t.Context()))
	makeKey(t, sdkClient(t, srv, vaultURL), pingName, p256())
	require.NoError(t, b.Ping(t.Context()))
	srv.Deny("get")
	require.NoError(t, b.Ping(t.Context()))
	srv.Deny()
	srv.Script.Add(fakecloud.Fault{Op: "get", Error: status(403, "Forbidden", "ForbiddenByFirewall")})
	assert.ErrorIs(t, b.Ping(t.Context()), backend.ErrUnavailable)
	srv.Script.Add(fakecloud.Fault{Op: "get", Times: -1, Drop: true})
	assert.ErrorIs(t, b.Ping(t.Context()), backend.ErrUnavailable)
	srv.Script.Clear()
	srv.Script.Add(fakecloud.Fault{Op: "get", Error: status(401, "Unauthorized", "")})
	assert.ErrorIs(t, b.Ping(t.Context()), backend.ErrCredentials)
}
