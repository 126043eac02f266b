package awskms

import (
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/managedkeys/managedkeys/backend"
	"github.com/managedkeys/managedkeys/backend/replicated"
	"github.com/managedkeys/managedkeys/internal/fakeaws"
)

// TestReplicas: with package replicated, a multi-Region key that two Regions hold goes on when one of them is away, what was
// sealed by one is opened by the other, and the library's own generation makes such keys.
func TestReplicas(t *testing.T) {
	const elsewhere = "us-west-2"
	srv := serve(t, nil)
	near := httptest.NewServer(&httputil.ReverseProxy{Rewrite: func(r *httputil.ProxyRequest) {
		r.SetURL(must(url.Parse(srv.URL())))
		r.Out.Host = r.In.Host
	}})
	defer near.Close()
	b := connect(t, &Options{Remote: quick})
	places := []replicated.Place{{Name: "near", Backend: b}, {Name: "far", Backend: connect(t, nil)}}
	both, err := replicated.New(places, nil)
	require.NoError(t, err)
	defer both.Close()
	of := func(p Params) backend.Key {
		p = at(srv, p)
		p.MultiRegion = true
		made, err := b.Generate(t.Context(), p, nil)
		require.NoError(t, err)
		id, err := parseIdentifier(made.ID())
		require.NoError(t, err)
		_, err = b.clients()[0].client.ReplicateKey(t.Context(), &kms.ReplicateKeyInput{KeyId: &id.key, ReplicaRegion: aws.String(elsewhere)})
		require.NoError(t, err)
		here, there := at(srv, Params{KMSKey: id.key}), at(srv, Params{KMSKey: id.key})
		here.Endpoint, there.Region = near.URL, elsewhere
		key, err := both.Open(t.Context(), replicated.Params{Places: []replicated.At{{Place: "near", Params: here}, {Place: "far", Params: there}}})
		require.NoError(t, err)
		return key
	}
	signer := of(Params{KMSKey: "alias/signer", KeyType: ECDSA, Curve: "P256"}).(backend.Signer)
	aead := of(Params{KMSKey: "alias/data", KeyType: AES}).(backend.AEAD)
	sealed, err := aead.Seal(t.Context(), []byte("plaintext"), []byte("data"))
	require.NoError(t, err)
	_, err = signOnce(t.Context(), signer)
	require.NoError(t, err)
	single := add(t, srv, fakeaws.Key{Spec: "HMAC_256"})
	_, err = b.clients()[0].client.ReplicateKey(t.Context(), &kms.ReplicateKeyInput{KeyId: &single, ReplicaRegion: aws.String(elsewhere)})
	assert.ErrorContains(t, err, "UnsupportedOperationException")

	near.Close()
	_, err = signOnce(t.Context(), signer)
	assert.NoError(t, err)
	out, err := aead.Open(t.Context(), sealed, []byte("data"))
	require.NoError(t, err)
	assert.Equal(t, "plaintext", string(out))
}
