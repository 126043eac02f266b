package main

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/managedkeys/managedkeys/backend"
	"github.com/managedkeys/managedkeys/internal/fakeaws"
)

// TestRun: the example works with the usual environment alone.
func TestRun(t *testing.T) {
	srv, err := fakeaws.New(nil)
	require.NoError(t, err)
	defer srv.Close()
	none := filepath.Join(t.TempDir(), "none")
	for name, value := range map[string]string{
		"AWS_ENDPOINT_URL": srv.URL(), "AWS_REGION": fakeaws.DefaultRegion, "AWS_PROFILE": "", "AWS_SESSION_TOKEN": "",
		"AWS_ACCESS_KEY_ID": fakeaws.AccessKey, "AWS_SECRET_ACCESS_KEY": fakeaws.SecretKey,
		"AWS_CONFIG_FILE": none, "AWS_SHARED_CREDENTIALS_FILE": none,
	} {
		t.Setenv(name, value)
	}
	file := filepath.Join(t.TempDir(), "document")
	require.NoError(t, os.WriteFile(file, []byte("a document"), 0o600))
	assert.ErrorIs(t, run(t.Context(), "alias/documents", false, file), backend.ErrKeyNotFound)
	assert.NoError(t, run(t.Context(), "alias/documents", true, file))
	assert.NoError(t, run(t.Context(), "alias/documents", true, file))
	assert.Equal(t, 1, srv.Log.Count("CreateKey"))
	assert.Equal(t, 2, srv.Log.Count("Sign"))
	_, err = srv.AddKey(fakeaws.Key{Spec: "HMAC_256", Alias: "alias/mac"})
	require.NoError(t, err)
	assert.ErrorContains(t, run(t.Context(), "alias/mac", false, file), "and not sign")
}
