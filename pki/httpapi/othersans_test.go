package httpapi_test

import (
	"crypto/x509"
	"encoding/asn1"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// otherNames returns the other names of a certificate, by object identifier.
func otherNames(t *testing.T, cert *x509.Certificate) map[string]string {
	t.Helper()
	out := map[string]string{}
	for _, e := range cert.Extensions {
		if !e.Id.Equal(asn1.ObjectIdentifier{2, 5, 29, 17}) {
			continue
		}
		var names []asn1.RawValue
		rest, err := asn1.Unmarshal(e.Value, &names)
		require.NoError(t, err)
		require.Empty(t, rest)
		for _, name := range names {
			if name.Tag != 0 {
				continue
			}
			var id asn1.ObjectIdentifier
			value, err := asn1.Unmarshal(name.Bytes, &id)
			require.NoError(t, err)
			var text string
			_, err = asn1.UnmarshalWithParams(value, &text, "explicit,tag:0,utf8")
			require.NoError(t, err)
			out[id.String()] = text
		}
	}
	return out
}

// TestOtherSANs: other names go from the request into the certificate, issued and signed, as far as the role allows them.
func TestOtherSANs(t *testing.T) {
	g := newRig(t, nil)
	g.root("root")
	const upn = "1.3.6.1.4.1.311.20.2.3"
	g.must(200, "POST", "pki/roles/web", fields{"allow_any_name": true, "key_type": "any", "allowed_other_sans": upn + ";UTF8:*@example.com,1.2.3.4;UTF8:*"})
	g.must(200, "POST", "pki/roles/ec", fields{"allow_any_name": true, "key_type": "ec", "allowed_other_sans": []string{upn + ";UTF8:*@example.com"}})
	role := g.must(200, "GET", "pki/roles/ec", nil)
	assert.Equal(t, []any{upn + ";UTF8:*@example.com"}, role.data["allowed_other_sans"])

	cert := g.must(200, "POST", "pki/issue/ec", fields{"common_name": "a.example", "other_sans": upn + ";UTF8:zoë@example.com"}).cert("certificate")
	assert.Equal(t, map[string]string{upn: "zoë@example.com"}, otherNames(t, cert))
	request, _ := csr(t, &x509.CertificateRequest{})
	cert = g.must(200, "POST", "pki/sign/web", fields{"csr": request, "common_name": "a.example",
		"other_sans": []string{upn + ";UTF8:a@example.com", "1.2.3.4;utf8:b"}}).cert("certificate")
	assert.Equal(t, map[string]string{upn: "a@example.com", "1.2.3.4": "b"}, otherNames(t, cert))

	for _, names := range []string{upn + ";UTF8:a@example.org", "1.2.3.4;UTF8:b", upn + ";IA5:a@example.com", upn + ";UTF8:"} {
		a := g.must(400, "POST", "pki/issue/ec", fields{"common_name": "a.example", "other_sans": names})
		assert.Contains(t, a.errors[0], "other", names)
	}
}
