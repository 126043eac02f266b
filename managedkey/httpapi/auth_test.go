package httpapi

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/hex"
	"encoding/pem"
	"math/big"
	"net/http"
	"net/http/httptest"
	"net/url"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/managedkeys/managedkeys/managedkey"
)

func pemOf(c *x509.Certificate) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.Raw})
}

// TestTokens: who has no token that is good is told one thing, and that for every path.
func TestTokens(t *testing.T) {
	g := newRig(t, nil)
	g.must(204, "POST", keyPath+"ca", ecdsaKey("ca"))
	for _, token := range []string{"", "wrong", oldToken, nobodyToken, teamToken} {
		for _, path := range []string{keyPath + "ca", keyPath + "none", "/v1/sys/none", "/v1/none", "/v1/sys/mounts"} {
			a := g.do("GET", path, token, "")
			assert.Equal(t, http.StatusForbidden, a.status, "%q %s", token, path)
			assert.Equal(t, []string{"permission denied"}, a.errors)
		}
	}
	assert.Equal(t, 200, g.do("GET", keyPath+"ca", "", "", "Authorization", "Bearer "+rootToken).status)
	assert.Equal(t, 403, g.do("GET", keyPath+"ca", "", "", "Authorization", "Basic "+rootToken).status)
	assert.Equal(t, 400, g.do("GET", keyPath+"ca", rootToken, "", "Authorization", "Bearer "+rootToken).status)
	assert.Equal(t, 400, g.do("GET", keyPath+"ca", rootToken, "", "X-Vault-Token", rootToken).status)

	token, hash := NewToken()
	require.NoError(t, g.tokens.Add(Token{SHA256: hash, Accessor: "new", Policies: []string{RootPolicy}}))
	require.ErrorContains(t, g.tokens.Add(Token{SHA256: hash, Accessor: "newer"}), "hash")
	require.ErrorContains(t, g.tokens.Add(Token{SHA256: HashToken("x"), Accessor: "new"}), "accessor")
	assert.Equal(t, 200, g.do("GET", keyPath+"ca", token, "").status)
	assert.True(t, g.tokens.Revoke("new"))
	assert.False(t, g.tokens.Revoke("new"))
	assert.Equal(t, 403, g.do("GET", keyPath+"ca", token, "").status)
	assert.Equal(t, 403, g.do("POST", keyPath+"cb", token, ecdsaKey("cb")).status)
	g.must(404, "GET", keyPath+"cb", "")
	require.Error(t, g.tokens.Replace(Token{SHA256: hash}, Token{SHA256: hash}))
	assert.Equal(t, 200, g.do("GET", keyPath+"ca", rootToken, "").status, "nothing changed")
	require.NoError(t, g.tokens.Replace())
	assert.Equal(t, 403, g.do("GET", keyPath+"ca", rootToken, "").status)
}

func TestTokenRefusals(t *testing.T) {
	for _, token := range []Token{{}, {SHA256: "00"}, {SHA256: HashToken("x") + "00"}, {SHA256: HashToken("x"), Namespace: "A"}, {SHA256: HashToken("x"), Name: string(make([]byte, 200))}} {
		_, err := NewTokens(token)
		assert.Error(t, err)
	}
	a, _ := NewToken()
	b, hash := NewToken()
	assert.NotEqual(t, a, b)
	assert.Len(t, b, 46)
	assert.Equal(t, HashToken(b), hash)
	id := (&Token{SHA256: hash}).mustHold(t).id.ID
	assert.NotContains(t, hash, id)
}

func (token *Token) mustHold(t *testing.T) *heldToken {
	held, err := token.held()
	require.NoError(t, err)
	return held
}

// TestNobody: without an Authenticator, or without an Authorizer, all are refused.
func TestNobody(t *testing.T) {
	for _, change := range []func(*Options){
		func(o *Options) { o.Authenticator = nil },
		func(o *Options) { o.Authorizer = nil },
	} {
		g := newRig(t, change)
		for _, path := range []string{"/v1/sys/mounts", keyPath + "ca", "/v1/x"} {
			assert.Equal(t, 403, g.do("GET", path, rootToken, "").status)
		}
		assert.Equal(t, 200, g.do("GET", "/v1/sys/health", "", "").status)
	}
	_, err := New(nil, nil)
	require.Error(t, err)
	api, err := New(managedkey.NewRegistry(), nil)
	require.NoError(t, err)
	w := httptest.NewRecorder()
	api.ServeHTTP(w, httptest.NewRequest("GET", "/v1/sys/mounts", nil))
	assert.Equal(t, 403, w.Code)
}

func TestLookupSelf(t *testing.T) {
	g := newRig(t, func(o *Options) { o.EchoToken = true })
	a := g.do("GET", "/v1/auth/token/lookup-self", readerToken, "")
	assert.Equal(t, "reader", a.data["display_name"])
	assert.Equal(t, []any{"reader"}, a.data["policies"])
	assert.Equal(t, readerToken, a.data["id"])
	assert.InDelta(t, 3600, a.data["ttl"], 10)
	assert.Equal(t, "team-a/", g.do("POST", "/v1/team-a/auth/token/lookup-self", teamToken, "{}").data["namespace_path"])
	assert.Equal(t, 403, g.do("GET", "/v1/auth/token/lookup-self", "", "").status)
	assert.Equal(t, 403, g.do("GET", "/v1/auth/token/lookup-self", teamToken, "").status, "it is confined")
	assert.Equal(t, 200, g.do("GET", "/v1/auth/token/lookup-self", nobodyToken, "").status)
	assert.Equal(t, 400, g.do("POST", "/v1/sys/capabilities-self", nobodyToken, "{}").status)
	assert.Equal(t, []any{"deny"}, g.do("POST", "/v1/sys/capabilities-self", nobodyToken, `{"paths":["sys/mounts"]}`).data["sys/mounts"])
}

// TestVisibleMounts: callers see the mounts with which they may do something, and no difference between others and none.
func TestVisibleMounts(t *testing.T) {
	g := newRig(t, nil)
	g.must(204, "POST", "/v1/sys/mounts/signer", `{"type":"signer"}`)
	g.must(204, "POST", "/v1/sys/mounts/pki", `{"type":"pki"}`)
	secret := func(token string) []string {
		var out []string
		all := g.do("GET", "/v1/sys/internal/ui/mounts", token, "").data["secret"].(map[string]any)
		for _, path := range []string{"signer/", "pki/"} {
			if all[path] != nil {
				out = append(out, path)
			}
		}
		return out
	}
	assert.Equal(t, []string{"signer/", "pki/"}, secret(rootToken))
	assert.Equal(t, []string{"signer/"}, secret(readerToken))
	assert.Empty(t, secret(nobodyToken))
	assert.Equal(t, 403, g.do("GET", "/v1/sys/internal/ui/mounts", "", "").status)
	assert.Equal(t, "signer/", g.do("GET", "/v1/sys/internal/ui/mounts/signer/sign/x", readerToken, "").data["path"])
	hidden := g.do("GET", "/v1/sys/internal/ui/mounts/pki", readerToken, "")
	absent := g.do("GET", "/v1/sys/internal/ui/mounts/abc", readerToken, "")
	assert.Equal(t, 403, hidden.status)
	assert.Equal(t, 403, absent.status)
	assert.Contains(t, hidden.errors[0], "preflight capability check returned 403")
}

// authority makes certificates for clients.
type authority struct {
	*testing.T
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

func newAuthority(t *testing.T) *authority {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "Clients"}, IsCA: true, BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageCertSign, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	require.NoError(t, err)
	cert, err := x509.ParseCertificate(der)
	require.NoError(t, err)
	return &authority{t, cert, key}
}

func (a *authority) client(change func(*x509.Certificate)) tls.Certificate {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(a, err)
	template := &x509.Certificate{SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: "client", Organization: []string{"Example"}},
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour)}
	change(template)
	der, err := x509.CreateCertificate(rand.Reader, template, a.cert, key.Public(), a.key)
	require.NoError(a, err)
	leaf, err := x509.ParseCertificate(der)
	require.NoError(a, err)
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key, Leaf: leaf}
}

// TestCertificates: clients of TLS are who their certificate says, if the server has verified it.
func TestCertificates(t *testing.T) {
	ca, other := newAuthority(t), newAuthority(t)
	byKey := ca.client(func(*x509.Certificate) {})
	pin := sha256.Sum256(byKey.Leaf.RawSubjectPublicKeyInfo)
	spiffe, err := url.Parse("spiffe://example.org/issuer")
	require.NoError(t, err)
	withURI := func(c *x509.Certificate) { c.URIs = []*url.URL{spiffe}; c.Subject = pkix.Name{CommonName: "u"} }
	withDNS := func(c *x509.Certificate) {
		c.DNSNames = []string{"Issuer.example.org"}
		c.Subject = pkix.Name{CommonName: "d"}
	}
	certificates, err := NewCertificates(
		Certificate{SPKI: hex.EncodeToString(pin[:]), Name: "by-key", Policies: []string{RootPolicy}},
		Certificate{URI: spiffe.String(), Name: "by-uri", Policies: []string{RootPolicy}},
		Certificate{DNS: "issuer.example.org", Name: "by-dns", Namespace: "team-a", Policies: []string{RootPolicy}},
		Certificate{Subject: "CN=special,O=Example", Name: "by-subject", Policies: []string{RootPolicy}},
	)
	require.NoError(t, err)
	g := newRig(t, func(o *Options) { o.Authenticator = AnyOf(o.Authenticator, certificates) })
	server := httptest.NewUnstartedServer(g.api)
	pool := x509.NewCertPool()
	pool.AddCert(ca.cert)
	server.TLS = &tls.Config{ClientCAs: pool, ClientAuth: tls.VerifyClientCertIfGiven}
	server.StartTLS()
	defer server.Close()
	ask := func(cert *tls.Certificate, header ...string) answer {
		config := server.Client().Transport.(*http.Transport).TLSClientConfig.Clone()
		if cert != nil {
			config.Certificates = []tls.Certificate{*cert}
		}
		h := *g
		h.url, h.client = server.URL, &http.Client{Transport: &http.Transport{TLSClientConfig: config, DisableKeepAlives: true}}
		return h.do("GET", "/v1/auth/token/lookup-self", "", "", header...)
	}
	assert.Equal(t, "by-key", ask(&byKey).data["display_name"])
	uri := ca.client(withURI)
	assert.Equal(t, "cert:by-uri", ask(&uri).data["accessor"])
	dns := ca.client(withDNS)
	assert.Equal(t, 403, ask(&dns).status, "it is confined to team-a")
	assert.Equal(t, "by-dns", ask(&dns, "X-Vault-Namespace", "team-a").data["display_name"])
	subject := ca.client(func(c *x509.Certificate) { c.Subject.CommonName = "special" })
	assert.Equal(t, "by-subject", ask(&subject).data["display_name"])
	unknown := ca.client(func(*x509.Certificate) {})
	assert.Equal(t, 403, ask(&unknown).status)
	assert.Equal(t, 403, ask(nil).status)
	assert.Equal(t, 403, ask(&byKey, "X-Vault-Token", "wrong").status, "a wrong token isn't made good")
	assert.Equal(t, "root", ask(&byKey, "X-Vault-Token", rootToken).data["display_name"])

	// A server that asks for certificates and does not verify them.
	foreign := other.client(withURI)
	r := httptest.NewRequest("GET", "/", nil)
	r.TLS = &tls.ConnectionState{PeerCertificates: []*x509.Certificate{foreign.Leaf}}
	_, err = certificates.Authenticate(r)
	require.ErrorIs(t, err, ErrDenied)
	// A page in a browser that has the certificate.
	r = httptest.NewRequest("POST", "/v1/sys/mounts/x", nil)
	r.TLS = &tls.ConnectionState{PeerCertificates: []*x509.Certificate{byKey.Leaf}, VerifiedChains: [][]*x509.Certificate{{byKey.Leaf}}}
	_, err = certificates.Authenticate(r)
	require.NoError(t, err)
	r.Header.Set("Sec-Fetch-Site", "cross-site")
	_, err = certificates.Authenticate(r)
	require.ErrorIs(t, err, ErrDenied)
}

func TestCertificateRefusals(t *testing.T) {
	for _, c := range []Certificate{{}, {Name: "x"}, {DNS: "x"}, {Name: "x", SPKI: "00"}, {Name: "x", SPKI: "zz"}, {Name: "x", DNS: "x", Namespace: "A"}} {
		_, err := NewCertificates(c)
		assert.Error(t, err)
	}
}
