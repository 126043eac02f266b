package httpapi_test

import (
	"context"
	"crypto/x509"
	"errors"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/managedkeys/managedkeys/backend/gcpckms"
	"github.com/managedkeys/managedkeys/internal/fakegcp"
	"github.com/managedkeys/managedkeys/internal/requires"
	"github.com/managedkeys/managedkeys/managedkey"
	"github.com/managedkeys/managedkeys/managedkey/store"
)

// TestGoogleKeys: a key that can do one algorithm is asked for that one. Vault had a SHA-256 digest signed with
// RSA_SIGN_PSS_4096_SHA512 (PR 17328), answered no OCSP for PSS, and none for Ed25519.
func TestGoogleKeys(t *testing.T) {
	requires.Tool(t, "openssl", "openssl")
	requires.Tool(t, "curl", "curl")
	server, err := fakegcp.New(nil)
	require.NoError(t, err)
	t.Cleanup(func() { server.Close() })
	server.AddKeyRing("p-1", "europe-west3", "ring")
	google, err := gcpckms.NewFromOptions(t.Context(), nil, server.ClientOptions()...)
	require.NoError(t, err)
	t.Cleanup(func() { assert.NoError(t, google.Close()) })
	g := newRig(t, nil, managedkey.Connection{Name: "google", Backend: google})
	for name, c := range map[string]struct {
		google gcpckms.Algorithm
		want   x509.SignatureAlgorithm
	}{
		"pss": {"RSA_SIGN_PSS_4096_SHA512", x509.SHA512WithRSAPSS}, "ed": {"EC_SIGN_ED25519", x509.PureEd25519}, "p384": {"EC_SIGN_P384_SHA384", x509.ECDSAWithSHA384},
	} {
		g.entry(name, google, gcpckms.Params{Project: "p-1", Region: "europe-west3", KeyRing: "ring", CryptoKey: name, Algorithm: c.google})
		mount := "ca-" + name
		g.mount(mount, name)
		g.chain(mount, name, c.want)
	}
	refused := g.must(400, "POST", "ca-pss/root/generate/kms", fields{"common_name": "Root", "managed_key_name": "pss", "use_pss": true, "signature_bits": 256})
	assert.Contains(t, refused.errors[0], "SHA512-RSAPSS", "it says what the key takes")
	request := parseCSR(t, g.must(200, "POST", "ca-pss/intermediate/generate/kms", fields{"common_name": "Sub", "managed_key_name": "pss"}).str("csr"))
	assert.Equal(t, x509.SHA512WithRSAPSS, request.SignatureAlgorithm)
	require.NoError(t, request.CheckSignature())
}

// chain makes a root on a managed key and what it signs, and has openssl verify all of it.
func (g *rig) chain(mount, key string, want x509.SignatureAlgorithm) {
	g.Helper()
	s := &shop{g, g.TempDir()}
	root := g.must(200, "POST", mount+"/root/generate/kms", fields{"common_name": "Root", "organization": "Example", "country": "SE", "managed_key_name": key, "ttl": "8760h"})
	handle, err := g.keys.Key(g.Context(), ref(key))
	require.NoError(g, err)
	assert.Equal(g, handle.Public(), root.cert("certificate").PublicKey)
	assert.Equal(g, want, root.cert("certificate").SignatureAlgorithm)
	g.must(200, "POST", mount+"/roles/web", fields{"allow_any_name": true, "key_type": "ec"})
	leaf := g.must(200, "POST", mount+"/issue/web", fields{"common_name": "a.example"})
	g.must(200, "POST", mount+"/revoke", fields{"serial_number": g.must(200, "POST", mount+"/issue/web", fields{"common_name": "b.example"}).str("serial_number")})
	crl := g.crl(mount + "/crl")
	assert.Equal(g, want, crl.SignatureAlgorithm)
	assert.Len(g, crl.RevokedCertificateEntries, 1)
	s.file("ca.pem", []byte(root.str("certificate")))
	s.file("leaf.pem", []byte(leaf.str("certificate")))
	s.file("crl.pem", g.do("GET", mount+"/crl/pem", "", nil).body)
	s.run("openssl", "verify", "-x509_strict", "-CAfile", "ca.pem", "-CRLfile", "crl.pem", "-crl_check", "leaf.pem")
	s.run("openssl", "ocsp", "-issuer", "ca.pem", "-cert", "leaf.pem", "-no_nonce", "-reqout", "request.der")
	s.file("pool.pem", g.pool)
	s.run("curl", "-sSf", "--cacert", "pool.pem", "-H", "Content-Type: application/ocsp-request", "--data-binary", "@request.der", "-o", "answer.der", g.url+"/v1/"+mount+"/ocsp")
	text := s.run("openssl", "ocsp", "-respin", "answer.der", "-issuer", "ca.pem", "-cert", "leaf.pem", "-CAfile", "ca.pem", "-no_nonce")
	assert.Contains(g, text, "Response verify OK")
	assert.Contains(g, text, "leaf.pem: good")
}

// losing is a store that loses what is written once the signature is there.
type losing struct {
	store.Store
	on atomic.Bool
}

func (s *losing) Apply(ctx context.Context, ops ...store.Op) (uint64, error) {
	if s.on.Load() && strings.Contains(ops[0].Key, "/certs/") && ops[0].Expect != store.Absent {
		return 0, errors.Join(store.ErrUnavailable, errors.New("the disk of the tests is full"))
	}
	return s.Store.Apply(ctx, ops...)
}

// TestPending: a certificate that may have been signed is not given out, can be revoked, and is known.
func TestPending(t *testing.T) {
	var st losing
	g := newRigOn(t, func(inner store.Store) store.Store { st.Store = inner; return &st }, nil)
	root := g.root("root").str("serial_number")
	g.must(200, "POST", "pki/roles/web", fields{"allow_any_name": true, "key_type": "ec"})
	st.on.Store(true)
	a := g.must(503, "POST", "pki/issue/web", fields{"common_name": "a.example"})
	assert.NotContains(t, string(a.body), "BEGIN")
	assert.Equal(t, "1", a.header.Get("Retry-After"))
	st.on.Store(false)
	var pending string
	for _, serial := range g.must(200, "LIST", "pki/certs", nil).data["keys"].([]any) {
		if serial != root {
			pending = serial.(string)
		}
	}
	require.NotEmpty(t, pending)
	for _, path := range []string{"", "/raw", "/raw/pem"} {
		got := g.do("GET", "pki/cert/"+pending+path, "", nil)
		assert.Equal(t, 404, got.status)
		assert.Contains(t, got.errors[0], "pending")
	}
	info := g.must(200, "LIST", "pki/certs/detailed", nil).data["key_info"].(map[string]any)
	assert.Equal(t, "pending", info[pending].(map[string]any)["state"])
	g.must(200, "POST", "pki/revoke", fields{"serial_number": pending})
	assert.Len(t, g.crl("pki/crl").RevokedCertificateEntries, 1)
}
