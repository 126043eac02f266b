package httpapi

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/pem"
	"math/big"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/managedkeys/managedkeys/internal/rsasize"
)

// TestHugePrivateKey: a private key that takes minutes to look at is refused before that.
func TestHugePrivateKey(t *testing.T) {
	long := new(big.Int).Lsh(big.NewInt(1), rsasize.Most)
	inner, err := asn1.Marshal(struct{ Version, N, E, D, P, Q, DP, DQ, QI *big.Int }{
		new(big.Int), long, big.NewInt(65537), long, long, long, big.NewInt(1), big.NewInt(1), big.NewInt(1),
	})
	require.NoError(t, err)
	outer, err := asn1.Marshal(struct {
		Version   int
		Algorithm pkix.AlgorithmIdentifier
		Key       []byte
	}{0, pkix.AlgorithmIdentifier{Algorithm: asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 1, 1}, Parameters: asn1.NullRawValue}, inner})
	require.NoError(t, err)
	for kind, der := range map[string][]byte{"RSA PRIVATE KEY": inner, "PRIVATE KEY": outer} {
		_, err := privateKey("f", string(pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der})))
		assert.ErrorContains(t, err, "RSA key with a number of 1025 bytes", kind)
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	der, err := x509.MarshalPKCS8PrivateKey(key)
	require.NoError(t, err)
	_, err = privateKey("f", string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})))
	assert.NoError(t, err)
}
