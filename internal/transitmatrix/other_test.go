package transitmatrix

import (
	"bytes"
	"crypto/ecdh"
	"crypto/ecdsa"
	"crypto/hkdf"
	"crypto/hmac"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"math/big"
	"strconv"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	kwp "github.com/tink-crypto/tink-go/v2/kwp/subtle"

	"github.com/managedkeys/managedkeys/transit"
)

// doHMAC computes a MAC with one call, and verifies it.
func doHMAC(t *testing.T, p *place, k *key, c combination) error {
	r := transit.MACRequest{Input: message, HashAlgorithm: c.get("hash")}
	text, err := p.engine.HMAC(t.Context(), k.name, r)
	if err != nil {
		return err
	}
	p.made(t, 1)
	h, own := hashes[r.HashAlgorithm], k.secret
	if k.hmac != nil {
		own = k.hmac
	}
	raw := unwrapped(t, text)
	if h == 0 { // SHA-256, or the only one that the key has
		h = hashes[map[int]string{20: "sha1", 28: "sha2-224", 32: "sha2-256", 48: "sha2-384", 64: "sha2-512"}[len(raw)]]
	}
	mac := hmac.New(h.New, own)
	mac.Write(message)
	assert.Equal(t, mac.Sum(nil), raw, "%s: the standard library", c)
	for input, want := range map[string]bool{"message": true, "messagf": false} {
		r.Input = []byte(input)
		ok, err := p.engine.VerifyHMAC(t.Context(), k.name, text, r)
		assert.NoError(t, err, "%s: verify", c)
		assert.Equal(t, want, ok, "%s: verify", c)
	}
	return nil
}

// doCMAC computes a MAC with one call, and verifies it.
func doCMAC(t *testing.T, p *place, k *key, c combination) error {
	length, err := strconv.Atoi(c.get("length"))
	require.NoError(t, err)
	r := transit.CMACRequest{Input: message, Length: length}
	text, err := p.engine.CMAC(t.Context(), k.name, r)
	if err != nil {
		return err
	}
	p.made(t, 1)
	want := opensslCMAC(t, k.secret)
	if length != 0 {
		want = want[:length]
	}
	assert.Equal(t, want, unwrapped(t, text), "%s: OpenSSL", c)
	for input, want := range map[string]bool{"message": true, "messagf": false} {
		r.Input = []byte(input)
		ok, err := p.engine.VerifyCMAC(t.Context(), k.name, text, r)
		assert.NoError(t, err, "%s: verify", c)
		assert.Equal(t, want, ok, "%s: verify", c)
	}
	return nil
}

// doRandom has random bytes made, by the key manager only if it is asked for.
func doRandom(t *testing.T, p *place, k *key, c combination) error {
	n, err := strconv.Atoi(c.get("bytes"))
	require.NoError(t, err)
	source := c.get("source")
	one, err := p.engine.Random(t.Context(), n, source, k.name)
	if err != nil {
		return err
	}
	if p.calls != nil {
		assert.Equal(t, source != "" && source != transit.SourcePlatform, p.calls() > 0, "%s: calls of the key manager", c)
	}
	other, err := p.engine.Random(t.Context(), n, source, k.name)
	require.NoError(t, err)
	assert.Len(t, one, n)
	assert.False(t, bytes.Equal(one, other), "%s: the same twice", c)
	return nil
}

// doWrap wraps key material and unwraps it, with and without the engine.
func doWrap(t *testing.T, p *place, k *key, c combination) error {
	n, err := strconv.Atoi(c.get("size"))
	require.NoError(t, err)
	material := bytes.Repeat([]byte{7}, n)
	text, err := p.engine.WrapKey(t.Context(), k.name, material, 0)
	if err != nil {
		return err
	}
	p.made(t, k.local())
	p.begin()
	got, err := p.engine.UnwrapKey(t.Context(), k.name, text)
	assert.NoError(t, err, "%s: unwrap", c)
	assert.Equal(t, material, got, "%s: unwrap", c)
	p.made(t, 1)
	switch private, ok := k.private.(*rsa.PrivateKey); {
	case ok: // RFC 8017, Section 7.1
		got, err = rsa.DecryptOAEP(sha256.New(), nil, private, unwrapped(t, text), nil)
	case k.secret != nil: // RFC 5649
		var theirs *kwp.KWP
		theirs, err = kwp.NewKWP(k.secret)
		require.NoError(t, err)
		got, err = theirs.Unwrap(unwrapped(t, text))
	default:
		return nil
	}
	assert.NoError(t, err, "%s: without the engine", c)
	assert.Equal(t, material, got, "%s: without the engine", c)
	return nil
}

// doCSR has a certificate request and a certificate signed, one call each.
func doCSR(t *testing.T, p *place, k *key, c combination) error {
	der, err := p.engine.CSR(t.Context(), k.name, 0, &x509.CertificateRequest{Subject: pkix.Name{CommonName: "matrix"}, DNSNames: []string{"matrix.example"}})
	if err != nil {
		return err
	}
	p.made(t, 1)
	csr, err := x509.ParseCertificateRequest(der)
	require.NoError(t, err)
	assert.NoError(t, csr.CheckSignature(), "%s: the standard library", c)
	assert.Equal(t, "matrix", csr.Subject.CommonName)
	if k.row != "ML-DSA" { // which OpenSSL 3.0 doesn't know
		opensslRequest(t, der)
	}

	p.begin()
	signer, err := p.engine.Signer(t.Context(), k.name, 0)
	require.NoError(t, err)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "matrix"}, NotAfter: time.Now().Add(time.Hour), SignatureAlgorithm: csr.SignatureAlgorithm,
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	der, err = x509.CreateCertificate(rand.Reader, template, template, signer.Public(), signer)
	require.NoError(t, err, "%s: certificate", c)
	p.made(t, 1)
	certificate, err := x509.ParseCertificate(der)
	require.NoError(t, err)
	assert.NoError(t, certificate.CheckSignatureFrom(certificate), "%s: certificate", c)
	return nil
}

// doDeriveKey agrees on a secret with a peer, with one call, and makes a transit key of it, which the peer can make as well.
func doDeriveKey(t *testing.T, p *place, k *key, c combination) error {
	curve := ecdh.P256()
	if public, ok := k.public.(*ecdsa.PublicKey); ok {
		if own, err := public.ECDH(); err == nil {
			curve = own.Curve()
		}
	}
	peer, err := curve.GenerateKey(rand.Reader)
	require.NoError(t, err)
	spki, err := x509.MarshalPKIXPublicKey(peer.PublicKey())
	require.NoError(t, err)
	name := "derived-" + uuid.NewString()
	err = p.engine.DeriveKey(t.Context(), name, k.name, transit.DeriveRequest{PeerPublicKey: spki, Info: []byte("orders")}, transit.KeyOptions{Type: c.get("type"), Exportable: true})
	if err != nil {
		return err
	}
	p.made(t, 1)
	own, err := k.public.(*ecdsa.PublicKey).ECDH()
	require.NoError(t, err)
	agreed, err := peer.ECDH(own)
	require.NoError(t, err)
	export, size := transit.ExportEncryptionKey, 32
	switch c.get("type") {
	case transit.TypeHMAC:
		export = transit.ExportHMACKey
	case transit.TypeAES128CMAC:
		export, size = transit.ExportCMACKey, 16
	}
	want, err := hkdf.Key(sha256.New, agreed, nil, "orders", size)
	require.NoError(t, err)
	got, err := p.engine.Export(t.Context(), name, export, 1)
	require.NoError(t, err)
	assert.Equal(t, base64.StdEncoding.EncodeToString(want), got[1], "%s: the standard library", c)
	return nil
}

// doContext asks for an operation with a context, which only derived keys take, and for one without of those.
func doContext(t *testing.T, p *place, k *key, c combination) error {
	given := []byte("a context")
	if k.context != nil {
		given = nil
	}
	var err error
	switch c.get("of") {
	case "encrypt":
		_, err = p.engine.Encrypt(t.Context(), k.name, transit.EncryptRequest{Context: given})
	case "decrypt":
		_, err = p.engine.Decrypt(t.Context(), k.name, transit.DecryptRequest{Ciphertext: "vault:v1:AAAA", Context: given})
	case "sign":
		_, err = p.engine.Sign(t.Context(), k.name, transit.SignRequest{Context: given})
	case "verify":
		_, err = p.engine.Verify(t.Context(), k.name, "vault:v1:AAAA", transit.SignRequest{Context: given})
	}
	return err
}
