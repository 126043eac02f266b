package httpapi_test

import (
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// list returns the CRL in a text, whose signature must be the issuer's.
func crlIn(t testing.TB, text string, issuer *x509.Certificate) *x509.RevocationList {
	t.Helper()
	block, _ := pem.Decode([]byte(text))
	require.NotNil(t, block, text)
	list, err := x509.ParseRevocationList(block.Bytes)
	require.NoError(t, err)
	require.NoError(t, list.CheckSignatureFrom(issuer))
	return list
}

// TestSignRevocationList: stock clients have a list signed of what they say, and lists of the issuer combined.
func TestSignRevocationList(t *testing.T) {
	for name, client := range map[string]func(*rig) stock{"vault": (*rig).vault, "openbao": (*rig).bao} {
		t.Run(name, func(t *testing.T) {
			g := newRig(t, nil)
			c := client(g)
			root := g.root("root").cert("certificate")
			at := time.Now().Add(-time.Hour).UTC().Truncate(time.Second)
			key := base64.StdEncoding.EncodeToString([]byte{0x0a, 1, 1})
			out, _, err := c.write("pki/issuer/default/sign-revocation-list", fields{
				"crl_number": 10, "delta_crl_base_number": -1, "next_update": "48h", "format": "pem",
				"revoked_certs": []fields{
					{"serial_number": "01:02", "revocation_time": at.Format(time.RFC3339), "extensions": []fields{{"id": "2.5.29.21", "critical": false, "value": key}}},
					{"serial_number": "0304", "revocation_time": at.Unix(), "reason": "superseded"},
				},
				"extensions": []fields{{"id": "1.3.6.1.4.1.32473.7", "value": "BQA="}},
			})
			require.NoError(t, err)
			list := crlIn(t, out["crl"].(string), root)
			assert.EqualValues(t, 10, list.Number.Int64())
			assert.Equal(t, 48*time.Hour, list.NextUpdate.Sub(list.ThisUpdate))
			require.Len(t, list.RevokedCertificateEntries, 2)
			assert.Equal(t, 1, list.RevokedCertificateEntries[0].ReasonCode)
			assert.Equal(t, 4, list.RevokedCertificateEntries[1].ReasonCode)
			assert.True(t, list.RevokedCertificateEntries[1].RevocationTime.Equal(at))
			own := crlIn(t, string(g.must(200, "GET", "pki/crl/pem", nil).body), root)
			assert.Equal(t, 11, int(own.Number.Int64()), "the issuer's own lists go on above it")
			assert.Empty(t, own.RevokedCertificateEntries, "it is not published")

			out, _, err = c.write("pki/issuer/root-root/resign-crls", fields{"crls": []string{out["crl"].(string), string(pem.EncodeToMemory(&pem.Block{Type: "X509 CRL", Bytes: own.Raw}))}, "format": "der"})
			require.NoError(t, err)
			der, err := base64.StdEncoding.DecodeString(out["crl"].(string))
			require.NoError(t, err)
			list, err = x509.ParseRevocationList(der)
			require.NoError(t, err)
			assert.Len(t, list.RevokedCertificateEntries, 2)
			assert.EqualValues(t, 12, list.Number.Int64())
			assert.Equal(t, 72*time.Hour, list.NextUpdate.Sub(list.ThisUpdate), "the default")
			// As the command line sends it, in a string.
			out, _, err = c.write("pki/issuer/default/sign-revocation-list", fields{"crl_number": "20", "revoked_certs": `[{"serial_number":"05","revocation_time":"2026-01-01T00:00:00Z"}]`})
			require.NoError(t, err)
			assert.Len(t, crlIn(t, out["crl"].(string), root).RevokedCertificateEntries, 1)
		})
	}
}

// TestSignRevocationListSudo: whoever may sign certificates may not sign lists by that.
func TestSignRevocationListSudo(t *testing.T) {
	g := newRig(t, nil)
	g.root("root")
	for _, path := range []string{"resign-crls", "sign-revocation-list"} {
		assert.Equal(t, 403, g.do("POST", "pki/issuer/default/"+path, signerToken, fields{"crl_number": 9}).status, path)
		assert.Equal(t, 405, g.do("GET", "pki/issuer/default/"+path, rootToken, nil).status, path)
	}
	assert.Equal(t, 400, g.do("POST", "pki/issuer/default/revoke", signerToken, fields{"reason": "boredom"}).status, "this it may")
}
