package httpapi_test

import (
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"slices"
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

// otherSAN returns an other name in DER.
func otherSAN(t *testing.T, id, text string) []byte {
	t.Helper()
	oid, err := x509.ParseOID(id)
	require.NoError(t, err)
	encoded, err := oid.MarshalBinary()
	require.NoError(t, err)
	value, err := asn1.MarshalWithParams(text, "utf8,explicit,tag:0")
	require.NoError(t, err)
	der, err := asn1.Marshal(asn1.RawValue{Class: 2, Tag: 0, IsCompound: true, Bytes: slices.Concat([]byte{6, byte(len(encoded))}, encoded, value)})
	require.NoError(t, err)
	return der
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

	// Those of the CSR are taken where the role takes its names, under the same rule.
	list, err := asn1.Marshal([]asn1.RawValue{{FullBytes: otherSAN(t, "1.2.3.4", "c")}, {FullBytes: otherSAN(t, upn, "c@example.com")}})
	require.NoError(t, err)
	request, _ = csr(t, &x509.CertificateRequest{ExtraExtensions: []pkix.Extension{{Id: asn1.ObjectIdentifier{2, 5, 29, 17}, Value: list}}})
	cert = g.must(200, "POST", "pki/sign/web", fields{"csr": request, "common_name": "a.example", "other_sans": "1.2.3.4;UTF8:c"}).cert("certificate")
	assert.Equal(t, map[string]string{upn: "c@example.com", "1.2.3.4": "c"}, otherNames(t, cert))
	a := g.must(400, "POST", "pki/sign/ec", fields{"csr": request, "common_name": "a.example"})
	assert.Contains(t, a.errors[0], "allowed_other_sans")
	assert.Contains(t, a.errors[0], "1.2.3.4;UTF8:c")
	g.must(200, "PATCH", "pki/roles/ec", fields{"use_csr_sans": false})
	assert.Empty(t, otherNames(t, g.must(200, "POST", "pki/sign/ec", fields{"csr": request, "common_name": "a.example"}).cert("certificate")))
	assert.Contains(t, g.must(400, "POST", "pki/root/sign-intermediate", fields{"csr": request, "common_name": "S"}).errors[0], "otherName")

	for _, names := range []string{upn + ";UTF8:a@example.org", "1.2.3.4;UTF8:b", upn + ";IA5:a@example.com", upn + ";UTF8:"} {
		a := g.must(400, "POST", "pki/issue/ec", fields{"common_name": "a.example", "other_sans": names})
		assert.Contains(t, a.errors[0], "other", names)
	}
}
