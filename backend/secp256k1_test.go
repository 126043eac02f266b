//lint:file-ignore SA1019 the points of a curve that crypto/ecdsa doesn't know have no other form

package backend_test

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/asn1"
	"encoding/hex"
	"math/big"
	"os"
	"os/exec"
	"testing"
	"time"

	"github.com/decred/dcrd/dcrec/secp256k1/v4"
	secpecdsa "github.com/decred/dcrd/dcrec/secp256k1/v4/ecdsa"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/managedkeys/managedkeys/backend"
)

func unhex(t testing.TB, text string) []byte {
	t.Helper()
	data, err := hex.DecodeString(text)
	require.NoError(t, err)
	return data
}

func newSecp256k1(t testing.TB) *secp256k1.PrivateKey {
	t.Helper()
	key, err := secp256k1.GeneratePrivateKey()
	require.NoError(t, err)
	return key
}

func secp256k1Public(t testing.TB) *ecdsa.PublicKey {
	t.Helper()
	return newSecp256k1(t).PubKey().ToECDSA()
}

func selfSigned(t testing.TB, key crypto.Signer, alg x509.SignatureAlgorithm) *x509.Certificate {
	t.Helper()
	template := &x509.Certificate{SerialNumber: big.NewInt(1), SignatureAlgorithm: alg, IsCA: true, BasicConstraintsValid: true,
		NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	require.NoError(t, err)
	cert, err := x509.ParseCertificate(der)
	require.NoError(t, err)
	return cert
}

// opensslKey and opensslSignatures, of the text "message", are what OpenSSL 3.5 made.
const opensslKey = "3056301006072a8648ce3d020106052b8104000a0342000476da2615b244fbb6c9a2e346e491ed72e100d9ee785fa665bd582bb81bebd2d4" +
	"5384ac40aa7ba464a71d7e2b99e3154054c03d18709acddd49300f2edce12049"

var opensslSignatures = map[crypto.Hash]string{
	crypto.SHA1: "3046022100a07bf04c4417191d0d23156aadd285290ae86d7d9949cf02b2026c0eacfde2d1" +
		"022100f672bf1b2f486d5e1fd24c362e7c81b4c9b3b0b47e2c7124c351c9b055c214fd",
	crypto.SHA256: "304402201ed9cc388c257dd18ed6e512c8cfec2681fba2e3e11dcd87d86a5a4520ac7406" +
		"022038520ab741d01a6645f778759e4d8fb3cc15a5a0004e1d8871c5f07535992124",
	crypto.SHA512: "3046022100b2de8582c0d12b02b8df1b2870a2d49d7514be0bd225930726893aa360955062" +
		"022100ed859a3b121355dd85cc4dfc24a070b3c03bf20e3975fa6c8c04e266fac85939",
}

// TestSecp256k1AgainstOpenSSL checks form and verification against another implementation: digests shorter and longer
// than the order, and signatures in the upper half of it, which the libraries of coins refuse.
func TestSecp256k1AgainstOpenSSL(t *testing.T) {
	pub, err := backend.ParsePublicKey(unhex(t, opensslKey))
	require.NoError(t, err)
	require.IsType(t, &ecdsa.PublicKey{}, pub)
	assert.Equal(t, backend.Secp256k1(), pub.(*ecdsa.PublicKey).Curve)
	assert.Equal(t, "ECDSA secp256k1", backend.Describe(pub))
	der, err := backend.SubjectPublicKeyInfo(pub)
	require.NoError(t, err)
	assert.Equal(t, opensslKey, hex.EncodeToString(der))
	for h, text := range opensslSignatures {
		signature := unhex(t, text)
		assert.NoError(t, backend.Verify(pub, digestOf(h, "message"), signature, h), h)
		assert.ErrorIs(t, backend.Verify(pub, digestOf(h, "Message"), signature, h), backend.ErrInvalidSignature, h)
		assert.ErrorIs(t, backend.Verify(secp256k1Public(t), digestOf(h, "message"), signature, h), backend.ErrInvalidSignature, h)
		assert.ErrorIs(t, backend.Verify(ecdsaKey(t, elliptic.P256()), digestOf(h, "message"), signature, h), backend.ErrInvalidSignature, h)
		for _, bad := range [][]byte{nil, {}, signature[1:], signature[:len(signature)-1], append(bytes.Clone(signature), 0), make([]byte, 70)} {
			assert.ErrorIs(t, backend.Verify(pub, digestOf(h, "message"), bad, h), backend.ErrInvalidSignature, h)
		}
		assert.ErrorIs(t, backend.Verify(pub, make([]byte, h.Size()-1), signature, h), backend.ErrInvalidParams)
	}
}

// TestSecp256k1Signatures checks r ‖ s, both forms of s, and numbers that are out of range.
func TestSecp256k1Signatures(t *testing.T) {
	key := newSecp256k1(t)
	pub, order := key.PubKey().ToECDSA(), backend.Secp256k1().Params().N
	digest := sha256.Sum256([]byte("message"))
	var sig struct{ R, S *big.Int }
	_, err := asn1.Unmarshal(secpecdsa.Sign(key, digest[:]).Serialize(), &sig)
	require.NoError(t, err)
	verify := func(r, s *big.Int) error {
		der, err := asn1.Marshal(struct{ R, S *big.Int }{r, s})
		require.NoError(t, err)
		return backend.Verify(pub, digest[:], der, crypto.SHA256)
	}
	high := new(big.Int).Sub(order, sig.S)
	for _, s := range []*big.Int{sig.S, high} {
		assert.NoError(t, verify(sig.R, s))
		raw := append(sig.R.FillBytes(make([]byte, 32)), s.FillBytes(make([]byte, 32))...)
		der, err := backend.ECDSASignature(pub, raw)
		require.NoError(t, err)
		assert.NoError(t, backend.Verify(pub, digest[:], der, crypto.SHA256))
		_, err = backend.ECDSASignature(pub, raw[1:])
		assert.ErrorIs(t, err, backend.ErrUnavailable)
	}
	zero := new(big.Int)
	for _, bad := range [][2]*big.Int{{zero, sig.S}, {sig.R, zero}, {order, sig.S}, {sig.R, order}, {new(big.Int).Neg(sig.R), sig.S},
		{sig.R, new(big.Int).Add(sig.S, order)}, {new(big.Int).Add(sig.R, order), sig.S}, {sig.S, sig.R}} {
		assert.ErrorIs(t, verify(bad[0], bad[1]), backend.ErrInvalidSignature)
	}
}

// TestSecp256k1Points checks that a point which is not on the curve is no key, wherever it comes from. crypto/ecdsa does
// not check it for curves that it doesn't know.
func TestSecp256k1Points(t *testing.T) {
	good := secp256k1Public(t)
	p := backend.Secp256k1().Params().P
	one := big.NewInt(1)
	with := func(x, y *big.Int) *ecdsa.PublicKey { return &ecdsa.PublicKey{Curve: good.Curve, X: x, Y: y} }
	for name, bad := range map[string]*ecdsa.PublicKey{
		"no point": with(nil, nil), "half a point": with(good.X, nil), "zeros": with(new(big.Int), new(big.Int)),
		"beside the curve": with(good.X, new(big.Int).Add(good.Y, one)), "exchanged": with(good.Y, good.X),
		"not reduced": with(new(big.Int).Add(good.X, p), good.Y), "negative": with(good.X, new(big.Int).Sub(good.Y, p)),
		"much too long": with(new(big.Int).Lsh(good.X, 256), good.Y),
	} {
		_, err := backend.SubjectPublicKeyInfo(bad)
		assert.ErrorIs(t, err, backend.ErrUnsupported, name)
		err = backend.Verify(bad, make([]byte, 32), unhex(t, opensslSignatures[crypto.SHA256]), crypto.SHA256)
		assert.ErrorIs(t, err, backend.ErrInvalidSignature, name)
	}
	point := append([]byte{4}, append(good.X.FillBytes(make([]byte, 32)), good.Y.FillBytes(make([]byte, 32))...)...)
	parsed, err := backend.ParseSecp256k1(point)
	require.NoError(t, err)
	assert.True(t, good.Equal(parsed))
	hybrid := append([]byte{6 + byte(good.Y.Bit(0))}, point[1:]...) // the library takes it; RFC 5480, Section 2.2, doesn't
	compressed := append([]byte{2 + byte(good.Y.Bit(0))}, point[1:33]...)
	moved := bytes.Clone(point)
	moved[64] ^= 1
	for name, bad := range map[string][]byte{"nil": nil, "hybrid": hybrid, "compressed": compressed, "moved": moved,
		"short": point[:64], "long": append(bytes.Clone(point), 0), "in an OCTET STRING": append([]byte{4, 65}, point...), "infinity": {0}} {
		_, err := backend.ParseSecp256k1(bad)
		assert.ErrorIs(t, err, backend.ErrInvalidParams, name)
		der := unhex(t, opensslKey)
		_, err = backend.ParsePublicKey(bytes.Replace(der, der[23:], bad, 1))
		assert.ErrorIs(t, err, backend.ErrInvalidParams, name)
	}
}

// TestSecp256k1Promises checks that nothing is promised which crypto/x509 and crypto/tls would refuse, and that a handle
// signs.
func TestSecp256k1Promises(t *testing.T) {
	private := newSecp256k1(t)
	algs := algorithms([]backend.Scheme{backend.ECDSA}, crypto.SHA256, crypto.SHA384, crypto.SHA512)
	r := &recorder{key: private.ToECDSA()}
	h := backend.NewHandle(backend.HandleConfig{Public: r.key.Public(), VerifySignatures: true,
		Capabilities: backend.Capabilities{Usages: backend.UsageSign, Signatures: algs}})
	key := signingKey{h, h.Signing(r.sign)}
	assert.Empty(t, key.Capabilities().X509(key.Public()))
	assert.Empty(t, key.Capabilities().TLS(key.Public()))
	for _, a := range algs {
		signature, err := key.SignMessage(nil, []byte("message"), a.Hash)
		require.NoError(t, err)
		assert.NoError(t, key.VerifyContext(t.Context(), digestOf(a.Hash, "message"), signature, a.Hash))
	}
	r.key = newSecp256k1(t).ToECDSA()
	_, err := key.SignMessage(nil, []byte("message"), crypto.SHA256)
	assert.ErrorIs(t, err, backend.ErrKeyChanged)
}

// TestSecp256k1InFIPSMode runs tests of verification in a process in which crypto/ecdsa panics for such keys.
func TestSecp256k1InFIPSMode(t *testing.T) {
	exe, err := os.Executable()
	require.NoError(t, err)
	cmd := exec.CommandContext(t.Context(), exe, "-test.run=^(TestSecp256k1Signatures|TestSecp256k1Points)$", "-test.v")
	cmd.Env = append(os.Environ(), "GODEBUG=fips140=only")
	out, err := cmd.CombinedOutput()
	assert.NoError(t, err, "%s", out)
	assert.Contains(t, string(out), "--- PASS: TestSecp256k1Signatures")
}
