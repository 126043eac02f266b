package httpapi_test

import (
	"crypto/x509"
	"math/big"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func (g *rig) crl(path string) *x509.RevocationList {
	g.Helper()
	a := g.do("GET", path, "", nil)
	require.Equal(g, 200, a.status, "%s: %s", path, a.body)
	assert.Equal(g, "application/pkix-crl", a.header.Get("Content-Type"))
	list, err := x509.ParseRevocationList(a.body)
	require.NoError(g, err)
	return list
}

// indicates returns the number of the list that a delta list is about, or nil.
func indicates(t testing.TB, list *x509.RevocationList) *big.Int {
	for _, extension := range list.Extensions {
		if extension.Id.String() == "2.5.29.27" {
			return new(big.Int).SetBytes(extension.Value[2:])
		}
	}
	return nil
}

// TestDeltaCRL: with delta lists, the complete one stays, and the delta to it has what is new.
func TestDeltaCRL(t *testing.T) {
	g := newRig(t, nil)
	root := g.root("root").cert("certificate")
	a := g.must(200, "POST", "pki/config/crl", fields{"auto_rebuild": true, "enable_delta": "true", "delta_rebuild_interval": "5m"})
	assert.Equal(t, "5m", a.str("delta_rebuild_interval"))
	assert.Equal(t, true, a.data["enable_delta"])
	g.must(200, "POST", "pki/config/urls", fields{"crl_distribution_points": "http://pki.example/crl", "delta_crl_distribution_points": "http://pki.example/crl/delta"})
	g.must(200, "POST", "pki/roles/web", fields{"allow_any_name": true, "key_type": "ec"})
	complete := g.crl("pki/crl")
	leaf := g.must(200, "POST", "pki/issue/web", fields{"common_name": "a.example"})
	g.must(200, "POST", "pki/revoke", fields{"serial_number": leaf.str("serial_number")})
	assert.Equal(t, complete.Number, g.crl("pki/crl").Number, "it is due by time alone")
	assert.Equal(t, true, g.must(200, "GET", "pki/crl/rotate-delta", nil).data["success"])
	for _, path := range []string{"crl/delta", "issuer/default/crl/delta/der", "cert/delta-crl/raw", "unified-crl/delta", "issuer/root-root/unified-crl/delta/der"} {
		delta := g.crl("pki/" + path)
		require.NoError(t, delta.CheckSignatureFrom(root))
		require.Len(t, delta.RevokedCertificateEntries, 1, path)
		assert.Equal(t, complete.Number, indicates(t, delta), path)
	}
	for path, kind := range map[string]string{"crl/delta/pem": "application/x-pem-file", "issuer/default/crl/delta/pem": "application/x-pem-file",
		"cert/delta-crl": "application/json", "issuer/default/crl/delta": "application/json", "unified-crl/pem": "application/x-pem-file"} {
		got := g.do("GET", "pki/"+path, "", nil)
		assert.Equal(t, 200, got.status, path)
		assert.Equal(t, kind, got.header.Get("Content-Type"), path)
	}
	g.must(200, "POST", "pki/crl/rotate", nil)
	assert.Len(t, g.crl("pki/crl").RevokedCertificateEntries, 1)
}

// TestShards: a certificate says where its list is, and that is where it is.
func TestShards(t *testing.T) {
	g := newRig(t, nil)
	g.root("root")
	g.must(200, "POST", "pki/config/urls", fields{"crl_distribution_points": g.url + "/v1/pki/crl/shard/{{shard}}"})
	assert.EqualValues(t, 4, g.must(200, "POST", "pki/config/crl", fields{"shards": 4}).data["shards"])
	g.must(200, "POST", "pki/roles/web", fields{"allow_any_name": true, "key_type": "ec"})
	a := g.must(200, "POST", "pki/issue/web", fields{"common_name": "a.example"})
	leaf := a.cert("certificate")
	g.must(200, "POST", "pki/revoke", fields{"serial_number": a.str("serial_number")})
	require.Len(t, leaf.CRLDistributionPoints, 1)
	found := 0
	for _, shard := range []string{"1", "2", "3", "4"} {
		n := len(g.crl("pki/crl/shard/" + shard).RevokedCertificateEntries)
		assert.Equal(t, n, len(g.crl("pki/issuer/default/crl/shard/"+shard).RevokedCertificateEntries))
		found += n
		if n > 0 {
			assert.Equal(t, g.url+"/v1/pki/crl/shard/"+shard, leaf.CRLDistributionPoints[0])
		}
	}
	assert.Equal(t, 1, found)
	assert.Equal(t, 404, g.do("GET", "pki/crl/shard/5", "", nil).status)
	assert.Equal(t, 400, g.do("GET", "pki/crl/shard/0", "", nil).status)
	assert.Empty(t, g.must(200, "GET", "pki/crl/rotate", nil).warnings)
}
