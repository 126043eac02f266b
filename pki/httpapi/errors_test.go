package httpapi_test

import (
	"bytes"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

var updateGolden = flag.Bool("update", false, "write the golden files")

// refusals are requests that are wrong. <CSR> is a request for a.example, <CERT> the root's certificate, <LEAF> one that was issued,
// <SERIAL> its number, <KEY> the id of the root's key, and <PRIVATE> a private key.
var refusals = []string{
	// Generating.
	`POST root/generate/kms {"common_name":"R"}`,
	`POST root/generate/kms {"common_name":"R","managed_key_name":"sub","managed_key_id":"sub"}`,
	`POST root/generate/kms {"common_name":"R","managed_key_name":"sub","key_type":"ec"}`,
	`POST root/generate/kms {"common_name":"R","managed_key_name":"sub","key_bits":256}`,
	`POST root/generate/kms {"common_name":"R","managed_key_name":"sub","key_ref":"default"}`,
	`POST root/generate/kms {"common_name":"R","managed_key_name":"none"}`,
	`POST root/generate/kms {"managed_key_name":"sub"}`,
	`POST root/generate/kms {"common_name":"R","managed_key_name":"sub","alt_names":"a.example"}`,
	`POST root/generate/kms {"common_name":"R","managed_key_name":"sub","ttl":"1h","not_after":"2099-01-01T00:00:00Z"}`,
	`POST root/generate/kms {"common_name":"R","managed_key_name":"sub","ttl":"soon"}`,
	`POST root/generate/kms {"common_name":"R","managed_key_name":"sub","not_after":"tomorrow"}`,
	`POST root/generate/kms {"common_name":"R","managed_key_name":"sub","not_after":"2001-01-01T00:00:00Z"}`,
	`POST root/generate/kms {"common_name":"R","managed_key_name":"sub","max_path_length":-2}`,
	`POST root/generate/kms {"common_name":"R","managed_key_name":"sub","signature_bits":257}`,
	`POST root/generate/kms {"common_name":"R","managed_key_name":"sub","use_pss":true}`,
	`POST root/generate/kms {"common_name":"R","managed_key_name":"sub","format":"p12"}`,
	`POST root/generate/kms {"common_name":"R","managed_key_name":"sub","private_key_format":"openssh"}`,
	`POST root/generate/kms {"common_name":"R","managed_key_name":"sub","permitted_ip_ranges":"10.0.0.1/8"}`,
	`POST root/generate/kms {"common_name":"R","managed_key_name":"sub","permitted_dns_domains":"*.example"}`,
	`POST root/generate/kms {"common_name":"R","managed_key_name":"sub","issuer_name":"default"}`,
	`POST root/generate/kms {"common_name":"R","managed_key_name":"sub","issuer_name":"root-root"}`,
	`POST root/generate/kms {"common_name":"R","managed_key_name":"sub","key_name":"a/b"}`,
	`POST root/generate/kms {"common_name":"R","managed_key_name":"sub","key_name":"default"}`,
	`POST root/generate/kms {"common_name":"R\u0000","managed_key_name":"sub"}`,
	`POST root/generate/kms {"common_name":"R","managed_key_name":"sub","key_name":"left","country":"Sweden"}`,
	`POST root/generate/kms {"common_name":"R","managed_key_name":"sub","country":"Sweden"}`,
	`POST root/generate/kms {"common_name":"R","managed_key_name":"sub","skid":"00"}`,
	`POST root/generate/kms {"common_nam":"R"}`,
	`POST root/generate/kms {"common_name":"R","common_name":"S"}`,
	`POST root/generate/kms {"common_name":7}`,
	`POST root/generate/kms [1]`,
	`POST root/generate/internal {"common_name":"R"}`,
	`POST root/generate/exported {"common_name":"R"}`,
	`POST root/generate/existing {"common_name":"R","key_ref":"none"}`,
	`POST root/generate/existing {"common_name":"R","managed_key_name":"sub"}`,
	`POST root/generate/else {"common_name":"R"}`,
	`POST root/rotate/kms {"managed_key_name":"root"}`,
	`POST root/replace {}`,
	`POST root/replace {"default":"a/b"}`,
	`POST intermediate/generate/kms {"managed_key_name":"sub"}`,
	`POST intermediate/generate/kms {"common_name":"S","managed_key_name":"sub","other_sans":"1.2.3;UTF8:x"}`,
	`POST intermediate/generate/kms {"common_name":"S","managed_key_name":"sub","ip_sans":"nowhere"}`,
	`POST intermediate/cross-sign {"key_ref":"none"}`,
	`POST intermediate/set-signed {}`,
	`POST intermediate/set-signed {"certificate":"<LEAF>"}`,
	`POST issuers/import/bundle {"pem_bundle":"<PRIVATE>"}`,
	`POST issuers/import/bundle {"pem_bundle":"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----"}`,
	`POST keys/generate/kms {}`,
	`POST keys/import {"pem_bundle":"<PRIVATE>"}`,
	`POST key/<KEY> {"key_name":"default"}`,
	`DELETE key/<KEY>`,
	`POST issuer/default/ocsp-responder {}`,
	`POST issuer/default/ocsp-responder {"managed_key_name":"root"}`,
	`POST issuer/default/ocsp-responder {"managed_key_name":"none"}`,
	`POST issuer/default/ocsp-responder {"managed_key_name":"sub","managed_key_id":"sub"}`,
	`POST issuer/default/ocsp-responder {"managed_key_name":"sub","key_ref":"default"}`,
	`POST issuer/default/ocsp-responder {"managed_key_name":"sub","key_type":"ec"}`,
	`POST issuer/default/ocsp-responder {"managed_key_name":"sub","ttl":"1m"}`,
	`POST issuer/default/ocsp-responder {"managed_key_name":"sub","use_pss":true}`,
	`POST issuer/default/ocsp-responder {"managed_key_name":"sub","alt_names":"a.example"}`,
	`POST issuer/default/ocsp-responder {"managed_key_name":"sub","key_name":"left","country":"Sweden"}`,
	`POST issuer/none/ocsp-responder {"managed_key_name":"sub"}`,
	`GET issuer/default/ocsp-responder`,
	`GET issuer/none/ocsp-responder`,
	`POST issuer/default/sign-revocation-list {"crl_number":-1}`,
	`POST issuer/default/sign-revocation-list {"crl_number":"ten"}`,
	`POST issuer/default/sign-revocation-list {"crl_number":5,"delta_crl_base_number":5}`,
	`POST issuer/default/sign-revocation-list {"crl_number":5,"delta_crl_base_number":0}`,
	`POST issuer/default/sign-revocation-list {"crl_number":5,"next_update":"0s"}`,
	`POST issuer/default/sign-revocation-list {"crl_number":5,"format":"pem_bundle"}`,
	`POST issuer/default/sign-revocation-list {"crl_number":5,"revoked_certs":{}}`,
	`POST issuer/default/sign-revocation-list {"crl_number":5,"revoked_certs":[{"serial_number":"zz","revocation_time":"2026-01-01T00:00:00Z"}]}`,
	`POST issuer/default/sign-revocation-list {"crl_number":5,"revoked_certs":[{"serial_number":"01","revocation_time":"soon"}]}`,
	`POST issuer/default/sign-revocation-list {"crl_number":5,"revoked_certs":[{"serial_number":"01","revocation_time":1,"reason":"boredom"}]}`,
	`POST issuer/default/sign-revocation-list {"crl_number":5,"revoked_certs":[{"serial_number":"01","revocation_time":1},{"serial_number":"01","revocation_time":2}]}`,
	`POST issuer/default/sign-revocation-list {"crl_number":5,"revoked_certs":[{"serial_number":"01","revocation_time":1,"reason":1,"extensions":[{"id":"2.5.29.21","value":"CgEB"}]}]}`,
	`POST issuer/default/sign-revocation-list {"crl_number":5,"revoked_certs":[{"serial_number":"01","revocation_time":1,"extensions":[{"id":"2.5.29.29","critical":true,"value":"MAA="}]}]}`,
	`POST issuer/default/sign-revocation-list {"crl_number":5,"extensions":[{"id":"2.5.29.20","value":"AgEB"}]}`,
	`POST issuer/default/sign-revocation-list {"crl_number":5,"extensions":[{"id":"2.5.29.28","critical":true,"value":"MAA="}]}`,
	`POST issuer/default/sign-revocation-list {"crl_number":5,"extensions":[{"id":"1.x","value":"MAA="}]}`,
	`POST issuer/default/sign-revocation-list {"crl_number":5,"extensions":[{"id":"1.2.3","value":"?"}]}`,
	`POST issuer/default/sign-revocation-list {"crl_number":5,"extensions":[{"id":"9.9","value":"MAA="}]}`,
	`POST issuer/none/sign-revocation-list {"crl_number":5}`,
	`POST issuer/default/resign-crls {}`,
	`POST issuer/default/resign-crls {"crls":["text"]}`,
	`POST issuer/default/resign-crls {"crls":["<CERT>"]}`,
	// Signing CAs.
	`POST root/sign-intermediate {"common_name":"S"}`,
	`POST root/sign-intermediate {"csr":"<CSR>","skid":"xyz"}`,
	`POST root/sign-intermediate {"csr":"<CERT>","common_name":"S"}`,
	`POST root/sign-intermediate {"csr":"<CSR>","common_name":"Example Root","organization":"Example","country":"SE"}`,
	`POST root/sign-intermediate {"csr":"<CSR>","common_name":"S","issuer_ref":"none"}`,
	`POST root/sign-self-issued {"certificate":"<LEAF>"}`,
	`POST root/sign-self-issued {"certificate":"<CERT>"}`,
	`POST root/sign-self-issued {}`,
	// Issuers.
	`GET issuer/none`,
	`GET issuer/none/json`,
	`GET issuer/none/crl/der`,
	`POST issuer/default {"usage":"read-only,everything"}`,
	`POST issuer/default {"leaf_not_after_behavior":"sometimes"}`,
	`POST issuer/default {"revocation_signature_algorithm":"MD5WithRSA"}`,
	`POST issuer/default {"manual_chain":["a"]}`,
	`POST issuer/default {"issuing_certificates":"ftp://x.example"}`,
	`POST issuer/default {"crl_distribution_points":"http://x.example/{{nothing}}"}`,
	`POST issuer/default/reissue {}`,
	`POST config/issuers {"default":"none"}`,
	`POST config/keys {}`,
	`POST config/keys {"default":"none"}`,
	`POST config/urls {"ocsp_servers":["nowhere"]}`,
	`POST config/urls {"crl_distribution_points":"http://x.example/{{issuer_id}}","enable_templating":false}`,
	`POST config/cluster {"path":"here"}`,
	`POST config/crl {"expiry":"10s"}`,
	`POST config/crl {"disable":true}`,
	`POST config/crl {"enable_delta":true,"auto_rebuild":false}`,
	`POST config/crl {"shards":-1}`,
	`GET crl/delta`,
	`GET issuer/default/crl/delta/pem`,
	`GET crl/shard/1`,
	`GET crl/shard/x`,
	`POST crl/rotate-delta {}`,
	`POST config/auto-tidy {"enabled":true}`,
	`POST config/auto-tidy {"safety_buffer":"1s"}`,
	`POST tidy {"tidy_cert_store":true,"safety_buffer":60}`,
	// Roles and leaves.
	`GET roles/none`,
	`PATCH roles/none {"ttl":"1h"}`,
	`POST roles/.x {}`,
	`POST roles/x {"key_type":"dsa"}`,
	`POST roles/x {"ttl":"2h","max_ttl":"1h"}`,
	`POST roles/x {"ttl":"1500ms"}`,
	`POST roles/x {"allowed_domains":"*.com","allow_glob_domains":true}`,
	`POST roles/x {"server_flag":false,"client_flag":false}`,
	`POST roles/x {"not_before_bound":"forbid"}`,
	`POST roles/x {"policy_identifiers":"[1]"}`,
	`POST roles/x {"policy_identifiers":["x"]}`,
	`POST roles/x {"allow_any":true}`,
	`POST issue/none {"common_name":"a.example"}`,
	`POST issue/web {}`,
	`POST issue/web {"common_name":"a.other"}`,
	`POST issue/web {"common_name":"a.example","ttl":"1000h"}`,
	`POST issue/web {"common_name":"a.example","ttl":"1h","not_after":"2099-01-01T00:00:00Z"}`,
	`POST issue/web {"common_name":"a.example","uri_sans":"relative"}`,
	`POST issue/web {"common_name":"a.example","uri_sans":"spiffe://a.example/x"}`,
	`POST issue/web {"common_name":"a.example","other_sans":"text"}`,
	`POST issue/web {"common_name":"a.example","serial_number":"7"}`,
	`POST issue/web {"common_name":"a.example","issuer_ref":"default"}`,
	`POST issue/web {"common_name":"a.example","cert_metadata":"x"}`,
	`POST issuer/none/issue/web {"common_name":"a.example"}`,
	`POST issue/any {"common_name":"a.example"}`,
	`POST sign/web {}`,
	`POST sign/web {"csr":"text"}`,
	`POST sign/web {"csr":"<CSR> <CSR>"}`,
	`POST sign-verbatim {"csr":"<CSR>"}`,
	// Certificates.
	`GET cert/zz`,
	`GET cert/01:02`,
	`GET cert/01:02/raw`,
	`POST revoke {}`,
	`POST revoke {"serial_number":"01","certificate":"<LEAF>"}`,
	`POST revoke {"serial_number":"01:02"}`,
	`POST revoke {"serial_number":"nothing"}`,
	`POST revoke {"serial_number":"<SERIAL>","reason":"boredom"}`,
	`POST revoke {"serial_number":"<SERIAL>","reason":8}`,
	`POST revoke {"certificate":"<CERT>"}`,
	`POST revoke {"certificate":"<LEAF> <LEAF>"}`,
	`POST revoke-with-key {"serial_number":"<SERIAL>"}`,
	`POST revoke-with-key {"serial_number":"<SERIAL>","private_key":"<PRIVATE>"}`,
	`LIST certs?after=zz`,
	`LIST certs?limit=many`,
	`LIST certs?limit=1&limit=2`,
	// Paths.
	`GET nothing/here`,
	`GET root`,
	`POST ca {}`,
	`DELETE roles`,
	`PATCH issue/web {}`,
}

// TestRefusals: every wrong request is answered with the same status and text as ever, and changes nothing.
func TestRefusals(t *testing.T) {
	g := newRig(t, nil)
	root := g.root("root")
	g.must(200, "POST", "pki/roles/web", fields{"allowed_domains": "example", "allow_subdomains": true, "key_type": "ec", "max_ttl": "100h"})
	g.must(200, "POST", "pki/roles/any", fields{"allow_any_name": true, "key_type": "any"})
	leaf := g.must(200, "POST", "pki/issue/web", fields{"common_name": "a.example"})
	other := g.must(200, "POST", "pki/issue/web", fields{"common_name": "a.example"})
	request, _ := csr(t, &x509.CertificateRequest{Subject: pkix.Name{CommonName: "a.example"}})
	quote := func(text string) string {
		data, err := json.Marshal(text)
		require.NoError(t, err)
		return strings.Trim(string(data), `"`)
	}
	put := strings.NewReplacer("<CSR> <CSR>", quote(request+request), "<CSR>", quote(request), "<CERT>", quote(root.str("certificate")),
		"<LEAF> <LEAF>", quote(leaf.str("certificate")+"\n"+other.str("certificate")), "<LEAF>", quote(leaf.str("certificate")),
		"<SERIAL>", leaf.str("serial_number"), "<KEY>", root.str("key_id"), "<PRIVATE>", quote(other.str("private_key")))
	state := func() string {
		var all []string
		for _, path := range []string{"certs", "issuers", "keys", "roles", "certs/revoked"} {
			all = append(all, fmt.Sprint(g.do("LIST", "pki/"+path, rootToken, nil).data))
		}
		for _, path := range []string{"config/urls", "config/crl", "config/cluster", "config/auto-tidy", "config/issuers", "config/keys", "issuer/default"} {
			all = append(all, fmt.Sprint(g.do("GET", "pki/"+path, rootToken, nil).data))
		}
		return strings.Join(all, "\n")
	}
	before := state()
	// What differs from run to run.
	changing := regexp.MustCompile(`[0-9a-f]{8}-[0-9a-f-]{27}|[0-9a-f]{64}|([0-9a-f]{2}:){15,}[0-9a-f]{2}|20[0-9]{2}-[0-9]{2}-[0-9]{2}T[0-9:]{8}Z`)
	var out bytes.Buffer
	for _, text := range refusals {
		method, rest, _ := strings.Cut(text, " ")
		path, body, _ := strings.Cut(rest, " ")
		var sent any
		if body != "" {
			sent = put.Replace(body)
		}
		a := g.do(method, "pki/"+put.Replace(path), rootToken, sent)
		assert.GreaterOrEqual(t, a.status, 400, text)
		assert.Less(t, a.status, 500, text)
		assert.NotContains(t, string(a.body), "PRIVATE KEY", text)
		fmt.Fprintf(&out, "%s\n    %d %s\n", text, a.status, changing.ReplaceAllString(strings.Join(a.errors, "; "), "…"))
	}
	assert.Equal(t, before, state(), "nothing has changed")
	golden := filepath.Join("testdata", "errors.golden")
	if *updateGolden {
		require.NoError(t, os.WriteFile(golden, out.Bytes(), 0o644))
	}
	want, err := os.ReadFile(golden)
	require.NoError(t, err)
	got, expected := strings.Split(out.String(), "\n"), strings.Split(string(want), "\n")
	for i := range min(len(got), len(expected)) {
		require.Equal(t, expected[i], got[i], "%s, line %d", golden, i+1)
	}
	assert.Len(t, got, len(expected))
}
