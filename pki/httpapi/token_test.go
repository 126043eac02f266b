//go:build cgo

package httpapi_test

import (
	"crypto/x509"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/managedkeys/managedkeys/backend"
	"github.com/managedkeys/managedkeys/backend/pkcs11"
	"github.com/managedkeys/managedkeys/internal/requires"
	"github.com/managedkeys/managedkeys/internal/softhsm"
	"github.com/managedkeys/managedkeys/managedkey"
)

// TestTokenKeys: CAs whose keys are on a PKCS#11 token, RSA and ECDSA.
func TestTokenKeys(t *testing.T) {
	requires.Tool(t, "openssl", "openssl")
	requires.Tool(t, "curl", "curl")
	token := softhsm.Require(t)
	hsm, err := pkcs11.New(pkcs11.Library{Name: "hsm1", Path: token.Module})
	require.NoError(t, err)
	t.Cleanup(func() { assert.NoError(t, hsm.Close()) })
	g := newRig(t, nil, managedkey.Connection{Name: "hsm1", Backend: hsm})
	for name, c := range map[string]struct {
		params pkcs11.Params
		want   x509.SignatureAlgorithm
	}{
		"pkcs1": {pkcs11.Params{Mechanism: pkcs11.RSAPKCS, KeyBits: 2048}, x509.SHA256WithRSA},
		"p384":  {pkcs11.Params{Mechanism: pkcs11.ECDSA, Curve: "P384"}, x509.ECDSAWithSHA384},
	} {
		c.params.Library, c.params.TokenLabel, c.params.PIN, c.params.KeyLabel = "hsm1", token.Label, backend.Secret(token.PIN), name
		g.entry(name, hsm, c.params)
		g.mount("ca-"+name, name)
		g.chain("ca-"+name, name, c.want)
	}
}
