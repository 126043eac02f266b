package gcpckms

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/managedkeys/managedkeys/backend"
)

// TestParseURI: resource names, full ones too, with the credentials of the scope and none of its key.
func TestParseURI(t *testing.T) {
	b, err := Connect(nil)
	require.NoError(t, err)
	defer b.Close()
	const name = "projects/p-1/locations/europe-west3/keyRings/ca/cryptoKeys/issuing/cryptoKeyVersions/3"
	want := Params{Project: "p-1", Region: "europe-west3", KeyRing: "ca", CryptoKey: "issuing", CryptoKeyVersion: "3"}
	for _, uri := range []string{name, "//cloudkms.googleapis.com/" + name} {
		got, err := b.ParseURI(uri, nil)
		require.NoError(t, err)
		assert.Equal(t, want, got)
		assert.NoError(t, b.Matches(got))
	}
	got, err := b.ParseURI(name, Params{Credentials: "file:/run/c", Project: "other", CryptoKey: "other", Algorithm: "EC_SIGN_P256_SHA256"})
	require.NoError(t, err)
	want.Credentials = "file:/run/c"
	assert.Equal(t, want, got)
	for _, bad := range []string{"", name + "/", name[:len(name)-1], "/" + name, "https://cloudkms.googleapis.com/v1/" + name, name + "?alt=json"} {
		_, err := b.ParseURI(bad, nil)
		assert.ErrorIs(t, err, backend.ErrInvalidParams, bad)
	}
}

// TestMatches: a backend with a client of the program's takes no credentials.
func TestMatches(t *testing.T) {
	r := newRig(t, nil, nil)
	p := testParams("a", "")
	assert.NoError(t, r.b.Matches(p))
	p.Credentials = "file:/run/c"
	connected, err := Connect(nil)
	require.NoError(t, err)
	defer connected.Close()
	assert.NoError(t, connected.Matches(p))
	given := &Backend{given: new(conn)}
	assert.ErrorContains(t, given.Matches(p), "credentials: are given")
}

// FuzzParseURI: what is taken is valid, and its resource name is taken for the same.
func FuzzParseURI(f *testing.F) {
	f.Add("projects/p-1/locations/global/keyRings/r/cryptoKeys/k/cryptoKeyVersions/3")
	f.Add("//cloudkms.googleapis.com/projects/example.com:p/locations/eu/keyRings/r/cryptoKeys/k")
	b := new(Backend)
	f.Fuzz(func(t *testing.T, uri string) {
		got, err := b.ParseURI(uri, nil)
		if err != nil {
			assert.ErrorIs(t, err, backend.ErrInvalidParams)
			return
		}
		p := got.(Params)
		require.NoError(t, p.Validate())
		again, err := b.ParseURI(p.version(p.CryptoKeyVersion), nil)
		require.NoError(t, err)
		assert.Equal(t, p, again)
	})
}
