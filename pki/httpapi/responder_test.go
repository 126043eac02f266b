package httpapi_test

import (
	"bytes"
	"crypto/x509"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/crypto/ocsp"
)

// askOCSP asks about a certificate and returns the answer, which is verified.
func (g *rig) askOCSP(mount string, cert, issuer *x509.Certificate) *ocsp.Response {
	g.Helper()
	request, err := ocsp.CreateRequest(cert, issuer, nil)
	require.NoError(g, err)
	a := g.do("POST", mount+"/ocsp", "", request, "Content-Type", "application/ocsp-request")
	require.Equal(g, 200, a.status)
	response, err := ocsp.ParseResponseForCert(a.body, cert, issuer)
	require.NoError(g, err)
	return response
}

// TestResponder: another key of the mount answers in place of the issuer's, until that is taken back; its key is not forgotten meanwhile.
func TestResponder(t *testing.T) {
	for name, client := range map[string]func(*rig) stock{"vault": (*rig).vault, "openbao": (*rig).bao} {
		t.Run(name, func(t *testing.T) {
			g := newRig(t, nil)
			c := client(g)
			root := g.root("root").cert("certificate")
			g.must(200, "POST", "pki/roles/web", fields{"allow_any_name": true, "key_type": "ec"})
			leaf := g.must(200, "POST", "pki/issue/web", fields{"common_name": "a.example"}).cert("certificate")
			assert.Nil(t, g.askOCSP("pki", leaf, root).Certificate, "the issuer itself")
			nothing, err := c.read("pki/issuer/default/ocsp-responder")
			require.NoError(t, err)
			assert.Nil(t, nothing)

			made, _, err := c.write("pki/issuer/default/ocsp-responder", fields{"managed_key_name": "sub", "key_name": "answers", "common_name": "Answers", "ttl": "240h"})
			require.NoError(t, err)
			cert := parse(t, made["certificate"].(string))
			require.NoError(t, cert.CheckSignatureFrom(root))
			assert.Equal(t, []x509.ExtKeyUsage{x509.ExtKeyUsageOCSPSigning}, cert.ExtKeyUsage)
			assert.Equal(t, "Answers", cert.Subject.CommonName)
			assert.Equal(t, "ec", made["key_type"])
			assert.Equal(t, "sub", made["managed_key_ref"])
			read, err := c.read("pki/issuer/root-root/ocsp-responder")
			require.NoError(t, err)
			assert.Equal(t, made, read)
			assert.NotContains(t, made, "private_key")
			answer := g.askOCSP("pki", leaf, root)
			require.NotNil(t, answer.Certificate)
			assert.True(t, bytes.Equal(cert.Raw, answer.Certificate.Raw))
			assert.Equal(t, ocsp.Good, answer.Status)

			assert.Contains(t, g.must(409, "DELETE", "pki/key/answers", nil).errors[0], "OCSP responder")
			require.NoError(t, c.remove("pki/issuer/default/ocsp-responder"))
			require.NoError(t, c.remove("pki/issuer/default/ocsp-responder"), "what isn't there is gone as well")
			assert.Nil(t, g.askOCSP("pki", leaf, root).Certificate)
			g.must(204, "DELETE", "pki/key/answers", nil)
		})
	}
}

// TestResponderByKeyRef: a key that the mount knows answers at its version; RSA-PSS and formats are as asked.
func TestResponderByKeyRef(t *testing.T) {
	g := newRig(t, nil)
	root := g.root("root").cert("certificate")
	id := g.must(200, "POST", "pki/keys/generate/kms", fields{"managed_key_name": "rsa", "key_name": "r"}).str("key_id")
	made := g.must(200, "POST", "pki/issuer/default/ocsp-responder", fields{"key_ref": "r", "use_pss": true, "signature_bits": 384, "format": "der"})
	assert.Equal(t, id, made.str("key_id"))
	assert.Equal(t, "SHA384WithRSAPSS", made.str("signature_algorithm"))
	assert.EqualValues(t, 1, made.data["managed_key_version"], "it stays at that")
	assert.EqualValues(t, 30*24*3600, made.data["ttl"])
	assert.NotContains(t, made.str("certificate"), "BEGIN")
	g.must(200, "POST", "pki/roles/web", fields{"allow_any_name": true, "key_type": "ec"})
	leaf := g.must(200, "POST", "pki/issue/web", fields{"common_name": "a.example"}).cert("certificate")
	request, err := ocsp.CreateRequest(leaf, root, nil)
	require.NoError(t, err)
	a := g.do("POST", "pki/ocsp", "", request, "Content-Type", "application/ocsp-request")
	raw := g.must(200, "GET", "pki/issuer/default/ocsp-responder", nil).cert("certificate").Raw
	assert.True(t, bytes.Contains(a.body, raw), "the responder's certificate goes with answers")

	// Who may not write there can't make one, and it goes with the issuer.
	assert.Equal(t, 403, g.do("POST", "pki/issuer/default/ocsp-responder", issueToken, fields{"managed_key_name": "sub"}).status)
	assert.Equal(t, 403, g.do("GET", "pki/issuer/default/ocsp-responder", "", nil).status, "it is not for everybody")
	g.must(200, "DELETE", "pki/root", nil)
	g.must(404, "LIST", "pki/keys", nil)
	g.must(204, "DELETE", "pki/issuer/default/ocsp-responder", nil)
}
