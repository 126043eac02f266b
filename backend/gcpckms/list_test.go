package gcpckms

import (
	"fmt"
	"strings"
	"testing"

	"cloud.google.com/go/kms/apiv1/kmspb"
	"encoding/pem"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"github.com/managedkeys/managedkeys/backend"
	"github.com/managedkeys/managedkeys/internal/fakecloud"
	"github.com/managedkeys/managedkeys/internal/fakegcp"
)

// pemOf returns a public key in PEM.
func pemOf(tb testing.TB, pub any) string {
	der, err := backend.SubjectPublicKeyInfo(pub)
	require.NoError(tb, err)
	return string(pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der}))
}

// listed returns the ids of what a list yields, without the key ring.
func listed(t *testing.T, b *Backend, ring string) ([]string, error) {
	var ids []string
	for info, err := range b.List(t.Context(), testParams("ignored", "")) {
		if err != nil {
			return ids, err
		}
		ids = append(ids, strings.TrimPrefix(info.ID, ring+"/cryptoKeys/"))
	}
	return ids, nil
}

// All pages are read, of the keys and of the versions of each.
func TestListPages(t *testing.T) {
	r := newRig(t, &fakegcp.Options{PageSize: 3}, nil)
	var want []string
	for i := range 7 {
		p := r.add(fmt.Sprintf("key-%d", i), p256, Software)
		for v := range i {
			_, err := r.server.AddVersion(p.key())
			require.NoError(t, err)
			_ = v
		}
		for v := range i + 1 {
			want = append(want, fmt.Sprintf("key-%d/cryptoKeyVersions/%d", i, v+1))
		}
	}
	got, err := listed(t, r.b, r.ring)
	require.NoError(t, err)
	assert.Equal(t, want, got)
	assert.Equal(t, 3, r.server.Log.Count("ListCryptoKeys"))
	assert.Equal(t, 3+2*3+3, r.server.Log.Count("ListCryptoKeyVersions"))

	last := testParams("key-6", p256)
	last.CryptoKeyVersion = "7"
	r.setState(last, kmspb.CryptoKeyVersion_DISABLED)
	got, err = listed(t, r.b, r.ring)
	require.NoError(t, err)
	assert.Equal(t, want[:len(want)-1], got, "what can't be opened is not listed")
	newest := latest(last)
	assert.True(t, strings.HasSuffix(r.open(newest).ID(), "/6"), "the newest version is looked for on all pages")
}

// A list that fails on a later page ends there with the error, and one that passes is got over.
func TestListFaults(t *testing.T) {
	r := newRig(t, &fakegcp.Options{PageSize: 2}, nil)
	for i := range 5 {
		r.add(fmt.Sprintf("key-%d", i), p256, Software)
	}
	r.server.Script.Add(fakecloud.Fault{Op: "ListCryptoKeys", Skip: 1, Error: status.New(codes.Unavailable, "x")}, fakecloud.Fault{Op: "ListCryptoKeyVersions", Skip: 2, Drop: true})
	got, err := listed(t, r.b, r.ring)
	require.NoError(t, err)
	assert.Len(t, got, 5)
	r.server.Script.Add(fakecloud.Fault{Op: "ListCryptoKeys", Skip: 1, Error: status.New(codes.PermissionDenied, "x")})
	got, err = listed(t, r.b, r.ring)
	assert.ErrorIs(t, err, backend.ErrNotPermitted)
	assert.Len(t, got, 2)

	for name, f := range map[string]fakecloud.Fault{
		"a key of another ring": {Op: "ListCryptoKeys", Corrupt: func(m proto.Message) {
			m.(*kmspb.ListCryptoKeysResponse).CryptoKeys[0].Name = "projects/p-1/locations/europe-west3/keyRings/other/cryptoKeys/k"
		}},
		"a version of another key": {Op: "ListCryptoKeyVersions", Corrupt: func(m proto.Message) {
			m.(*kmspb.ListCryptoKeyVersionsResponse).CryptoKeyVersions[0].Name = r.ring + "/cryptoKeys/other/cryptoKeyVersions/1"
		}},
		"a version that is no number": {Op: "ListCryptoKeyVersions", Corrupt: func(m proto.Message) {
			m.(*kmspb.ListCryptoKeyVersionsResponse).CryptoKeyVersions[0].Name += "x"
		}},
		"the same page again": {Op: "ListCryptoKeys", Skip: 1, Corrupt: func(m proto.Message) {
			m.(*kmspb.ListCryptoKeysResponse).NextPageToken = "2"
		}},
	} {
		r.server.Script.Add(f)
		_, err = listed(t, r.b, r.ring)
		assert.ErrorIs(t, err, backend.ErrIntegrity, name)
	}
}

// The loop over a list may use the backend, and the list needs no more than the key ring.
func TestListInUse(t *testing.T) {
	r := newRig(t, nil, nil)
	for _, alg := range []Algorithm{p256, "HMAC_SHA256", "AES_256_CBC"} {
		r.add(lower(alg), alg, Software)
	}
	seen := 0
	for info, err := range r.b.List(t.Context(), Params{Project: testProject, Region: testRegion, KeyRing: testRing}) {
		require.NoError(t, err)
		seen++
		if info.Algorithm == "" { // it is listed, but can't be used
			continue
		}
		assert.Equal(t, info.ID, r.open(info.Params.(Params)).ID())
	}
	assert.Equal(t, 3, seen)
	for _, scope := range []backend.Params{nil, Params{}, Params{Project: testProject, Region: testRegion}} {
		for _, err := range r.b.List(t.Context(), scope) {
			assert.ErrorIs(t, err, backend.ErrInvalidParams)
		}
	}
	for _, err := range r.b.List(t.Context(), Params{Project: testProject, Region: testRegion, KeyRing: "absent"}) {
		assert.ErrorIs(t, err, backend.ErrKeyNotFound)
	}
}

// Ping says what is wrong with the connection, and not what is wrong with a key.
func TestPing(t *testing.T) {
	r := newRig(t, nil, quick)
	require.NoError(t, r.b.Ping(t.Context()))
	assert.Zero(t, r.server.Log.Count(""), "there is nothing to ask before a key is opened")
	for _, alg := range []Algorithm{p256, "HMAC_SHA256", "PQ_SIGN_ML_DSA_44"} {
		p := r.add(lower(alg), alg, Software)
		r.open(p)
		calls := r.server.Log.Count("")
		require.NoError(t, r.b.Ping(t.Context()))
		assert.Equal(t, 1, r.server.Log.Count("")-calls)
		r.setState(p, kmspb.CryptoKeyVersion_DISABLED)
		assert.NoError(t, r.b.Ping(t.Context()))
	}
	for code, want := range map[codes.Code]error{codes.Unavailable: backend.ErrUnavailable, codes.Unauthenticated: backend.ErrCredentials} {
		r.server.Script.Add(fault("", status.New(code, "x")))
		assert.ErrorIs(t, r.b.Ping(t.Context()), want)
	}
}
