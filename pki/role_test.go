package pki

import (
	"bytes"
	"encoding/json"
	"flag"
	"fmt"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/managedkeys/managedkeys/backend"
	"github.com/managedkeys/managedkeys/managedkey"
)

var updateGolden = flag.Bool("update", false, "write the golden files")

// roleCase is a request that a role answers, or refuses.
type roleCase struct {
	role string // JSON
	req  IssueRequest
}

func cn(name string) IssueRequest { return IssueRequest{CommonName: name} }

func alt(names ...string) IssueRequest {
	return IssueRequest{CommonName: "ok.example.com", AltNames: names}
}

func uris(texts ...string) (out []*url.URL) {
	for _, text := range texts {
		out = append(out, mustURL(text))
	}
	return out
}

// example is the role of most cases.
const example = `"allowed_domains": ["example.com"], "allow_bare_domains": true, "allow_subdomains": true`

// roleCases are the rules, each with what it takes and what it refuses. Those of the reference's list of traps are among them.
var roleCases = []roleCase{
	{`{}`, cn("example.com")},
	{`{}`, cn("localhost")},
	{`{"allow_localhost": false}`, cn("localhost")},
	{`{"allowed_domains": "example.com"}`, cn("example.com")},
	{`{"allowed_domains": "example.com"}`, cn("www.example.com")},
	{`{"allowed_domains": "example.com", "allow_bare_domains": true}`, cn("EXAMPLE.com")},
	{`{"allowed_domains": "example.com", "allow_subdomains": true}`, cn("a.b.example.com")},
	{`{"allowed_domains": "example.com", "allow_subdomains": true}`, cn("example.com")},
	{`{"allowed_domains": "example.com", "allow_subdomains": true}`, cn("badexample.com")},
	{`{"allowed_domains": "example.com", "allow_subdomains": true}`, cn("example.com.evil.org")},
	{`{"allowed_domains": "example.com", "allow_subdomains": true}`, cn("*.example.com")},
	{`{"allowed_domains": "example.com", "allow_subdomains": true}`, cn("*.a.example.com")},
	{`{"allowed_domains": "example.com", "allow_subdomains": true, "allow_wildcard_certificates": false}`, cn("*.example.com")},
	{`{"allow_any_name": true, "allow_wildcard_certificates": false}`, cn("*.example.com")},
	{`{"allow_any_name": true}`, cn("*.foo.*.com")},
	{`{"allow_any_name": true}`, cn("a*.example.com")},
	{`{"allow_any_name": true}`, cn("*")},
	{`{"allow_any_name": true}`, cn("www.example.com.")},
	{`{"allow_any_name": true}`, cn("bücher.example.com")},
	{`{"allow_any_name": true}`, cn("xn--bcher-kva.example.com")},
	{`{"allow_any_name": true}`, cn("a_b.example.com")},
	{`{"allow_any_name": true}`, cn("www..example.com")},
	{`{"allow_any_name": true}`, cn("user one")},
	{`{"allow_any_name": true, "enforce_hostnames": false}`, cn("user one")},
	{`{"allow_any_name": true}`, cn("")},
	{`{"allow_any_name": true, "require_cn": false}`, cn("")},
	{`{"allow_any_name": true, "require_cn": false}`, IssueRequest{AltNames: []string{"www.example.com"}}},
	{`{"allow_glob_domains": true, "allowed_domains": "ftp*.example.com"}`, cn("ftp1.example.com")},
	{`{"allow_glob_domains": true, "allowed_domains": "ftp*.example.com"}`, cn("ftp.evil.org.example.com")},
	{`{"allow_glob_domains": true, "allowed_domains": "*.example.com"}`, cn("a.b.example.com")},
	{`{"allow_glob_domains": true, "allowed_domains": "*.example.com"}`, cn("*.example.com")},
	{`{"allow_glob_domains": true, "allowed_domains": "a*.example.com"}`, cn("*.example.com")},
	{`{"allow_glob_domains": true, "allowed_domains": "*.com"}`, cn("example.com")},
	{`{"allow_glob_domains": true, "allowed_domains": "*.co.uk"}`, cn("example.co.uk")},
	{`{"allow_glob_domains": true, "allowed_domains": "*"}`, cn("example.com")},
	{`{"allow_glob_domains": true, "allowed_domains": "example.*"}`, cn("example.com")},
	{`{"allowed_domains": "*.example.com"}`, cn("a.example.com")},
	{`{` + example + `}`, alt("a@example.com")},
	{`{` + example + `}`, alt("a@example.org")},
	{`{` + example + `}`, alt("a@b@example.com")},
	{`{"allowed_domains": ["me@example.org", "ok.example.com"], "allow_bare_domains": true}`, alt("me@example.org")},
	{`{"allowed_domains": ["me@example.org", "ok.example.com"], "allow_bare_domains": true}`, alt("you@example.org")},
	{`{` + example + `}`, alt("www.example.com", "www.example.org")},
	{`{` + example + `}`, cn("192.0.2.1")},
	{`{` + example + `, "allow_ip_sans": false}`, cn("192.0.2.1")},
	{`{` + example + `, "allow_ip_sans": false}`, IssueRequest{CommonName: "ok.example.com", IPAddresses: []net.IP{net.IPv4(192, 0, 2, 1)}}},
	{`{` + example + `, "allowed_ip_sans_cidr": "192.0.2.0/24"}`, IssueRequest{CommonName: "ok.example.com", IPAddresses: []net.IP{net.IPv4(192, 0, 2, 1)}}},
	{`{` + example + `, "allowed_ip_sans_cidr": "192.0.2.0/24"}`, IssueRequest{CommonName: "ok.example.com", IPAddresses: []net.IP{net.IPv4(198, 51, 100, 1)}}},
	{`{` + example + `}`, IssueRequest{CommonName: "ok.example.com", URIs: uris("spiffe://example.com/x")}},
	{`{` + example + `, "allowed_uri_sans": "spiffe://example.com/*"}`, IssueRequest{CommonName: "ok.example.com", URIs: uris("spiffe://example.com/x/y")}},
	{`{` + example + `, "allowed_uri_sans": "spiffe://example.com/*"}`, IssueRequest{CommonName: "ok.example.com", URIs: uris("spiffe://example.org/x")}},
	{`{` + example + `, "allowed_other_sans": "1.3.6.1.4.1.311.20.2.3;UTF8:*@example.com"}`, IssueRequest{CommonName: "ok.example.com", OtherNames: []string{"1.3.6.1.4.1.311.20.2.3;UTF8:me@example.com"}}},
	{`{` + example + `, "allowed_other_sans": "1.3.6.1.4.1.311.20.2.3;UTF8:*@example.com"}`, IssueRequest{CommonName: "ok.example.com", OtherNames: []string{"1.3.6.1.4.1.311.20.2.3;UTF8:me@example.org"}}},
	{`{` + example + `, "allowed_other_sans": "*"}`, IssueRequest{CommonName: "ok.example.com", OtherNames: []string{"1.2;IA5:x"}}},
	{`{` + example + `, "cn_validations": "email"}`, cn("www.example.com")},
	{`{` + example + `, "cn_validations": "email"}`, cn("me@example.com")},
	{`{` + example + `, "cn_validations": "hostname"}`, cn("me@example.com")},
	{`{` + example + `, "cn_validations": "disabled"}`, cn("Jane Doe")},
	{`{` + example + `}`, cn("Jane Doe")},
	{`{` + example + `, "cn_validations": "disabled"}`, cn("www.example.org")},
	{`{` + example + `}`, IssueRequest{CommonName: "www.example.org", ExcludeCNFromSANs: true, AltNames: []string{"www.example.com"}}},
	{`{` + example + `}`, IssueRequest{CommonName: "ok.example.com", SerialNumber: "4711"}},
	{`{` + example + `, "allowed_serial_numbers": "47*"}`, IssueRequest{CommonName: "ok.example.com", SerialNumber: "4711"}},
	{`{` + example + `}`, IssueRequest{CommonName: "ok.example.com", UserIDs: []string{"jane"}}},
	{`{` + example + `, "allowed_user_ids": ["jane"]}`, IssueRequest{CommonName: "ok.example.com", UserIDs: []string{"jane"}}},
	{`{` + example + `, "max_ttl": "1h"}`, IssueRequest{CommonName: "ok.example.com", TTL: 2 * time.Hour}},
	{`{` + example + `, "max_ttl": "1h"}`, IssueRequest{CommonName: "ok.example.com", NotAfter: noon.Add(2 * time.Hour)}},
	{`{` + example + `}`, IssueRequest{CommonName: "ok.example.com", TTL: time.Hour, NotAfter: noon.Add(2 * time.Hour)}},
	{`{` + example + `}`, IssueRequest{CommonName: "ok.example.com", TTL: 10000 * day}},
	{`{` + example + `}`, IssueRequest{CommonName: "ok.example.com", TTL: -time.Hour}},
	{`{` + example + `, "key_type": "any"}`, cn("ok.example.com")},
	{`{` + example + `, "key_type": "ed25519", "key_usage": ["KeyAgreement"]}`, cn("ok.example.com")},
	{`{"allowed_domains_template": true, "allow_subdomains": true, "allowed_domains": "{{identity.entity.metadata.team}}.example.com"}`, cn("www.red.example.com")},
	{`{"allowed_domains_template": true, "allow_subdomains": true, "allowed_domains": "{{identity.entity.metadata.team}}.example.com"}`, cn("www.blue.example.com")},
	{`{"allowed_domains_template": true, "allow_glob_domains": true, "allowed_domains": "{{identity.entity.metadata.star}}.example.com"}`, cn("www.example.com")},
	{`{"allowed_domains_template": true, "allow_subdomains": true, "allowed_domains": "{{identity.entity.metadata.slash}}.example.com"}`, cn("www.a/b.example.com")},
	{`{"allowed_domains_template": true, "allow_subdomains": true, "allowed_domains": "{{identity.entity.metadata.none}}.example.com"}`, cn("www.example.com")},
	{`{"allowed_domains_template": true, "allow_bare_domains": true, "allowed_domains": "{{identity.entity.name}}.example.com"}`, cn("jane.example.com")},
	{`{` + example + `, "allowed_uri_sans_template": true, "allowed_uri_sans": "spiffe://example.com/{{identity.entity.metadata.slash}}"}`, IssueRequest{CommonName: "ok.example.com", URIs: uris("spiffe://example.com/a/b")}},

	// What the role itself refuses.
	{`{"allowed_domain": "example.com"}`, cn("")},
	{`{"ttl": "1h", "ttl": "2h"}`, cn("")},
	{`{"ttl": "2h", "max_ttl": "1h"}`, cn("")},
	{`{"ttl": "an hour"}`, cn("")},
	{`{"ttl": -1}`, cn("")},
	{`{"allow_ip_sans": "yes"}`, cn("")},
	{`[]`, cn("")},
	{`{} {}`, cn("")},
	{`{"key_type": "dsa"}`, cn("")},
	{`{"key_type": "rsa", "key_bits": 1024}`, cn("")},
	{`{"key_type": "ec", "key_bits": 224}`, cn("")},
	{`{"signature_bits": 160}`, cn("")},
	{`{"key_usage": "CertSign"}`, cn("")},
	{`{"ext_key_usage": "Any"}`, cn("")},
	{`{"ext_key_usage_oids": "2.5.29.37.0"}`, cn("")},
	{`{"server_flag": false, "client_flag": false}`, cn("")},
	{`{"policy_identifiers": ["1.2.x"]}`, cn("")},
	{`{"policy_identifiers": [{"oid": "1.2.3", "cps": "ldap://x"}]}`, cn("")},
	{`{"allowed_ip_sans_cidr": "10.0.0.1/8"}`, cn("")},
	{`{"allowed_other_sans": "1.2.3"}`, cn("")},
	{`{"cn_validations": ["disabled", "email"]}`, cn("")},
	{`{"allowed_domains": "{{identity.entity.name}}"}`, cn("")},
	{`{"allowed_domains_template": true, "allowed_domains": "{{sys.secret}}"}`, cn("")},
	{`{"not_before_duration": "48h"}`, cn("")},
	{`{"serial_bits": 32}`, cn("")},
	{`{"lint_profile": "off"}`, cn("")},
}

// TestRoleGolden compares what each case gets with a file that people can read.
func TestRoleGolden(t *testing.T) {
	f := newFirm(t, nil)
	f.root(t, "p256", "root")
	ctx := managedkey.WithActor(t.Context(), managedkey.Actor{ID: "7", Name: "jane"})
	var out bytes.Buffer
	for _, c := range roleCases {
		f.signed()
		result := func() string {
			role, err := DecodeRole("r", []byte(c.role))
			if err != nil {
				return err.Error()
			}
			if !strings.Contains(c.role, "key_type") {
				role.KeyType = "ed25519"
			}
			if err := f.PutRole(ctx, role); err != nil {
				return "stored: " + err.Error()
			}
			c.req.Identity = map[string]string{"identity.entity.metadata.team": "red", "identity.entity.metadata.star": "*", "identity.entity.metadata.slash": "a/b"}
			pair, err := f.Issue(ctx, "r", c.req)
			if err != nil {
				return err.Error()
			}
			cert := pair.Certificate
			var subject []string // Subject.String differs between versions of Go
			for _, attribute := range cert.Subject.Names {
				subject = append(subject, fmt.Sprintf("%v=%v", attribute.Type, attribute.Value))
			}
			return fmt.Sprintf("issued %v %v %v %v %v", subject, cert.DNSNames, cert.EmailAddresses, cert.IPAddresses, cert.URIs)
		}()
		if n := f.signed(); n != 0 != strings.HasPrefix(result, "issued") {
			t.Errorf("%s %+v: %d signatures: %s", c.role, c.req, n, result)
		}
		asked := c.req.CommonName
		for _, more := range []any{c.req.AltNames, c.req.IPAddresses, c.req.URIs, c.req.OtherNames, c.req.UserIDs} {
			if reflect.ValueOf(more).Len() > 0 {
				asked += fmt.Sprint(" ", more)
			}
		}
		fmt.Fprintf(&out, "%s\n    %s\n        %s\n", c.role, asked, result)
	}
	path := filepath.Join("testdata", "roles.golden")
	if *updateGolden {
		if err := os.WriteFile(path, out.Bytes(), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	got, expected := strings.Split(out.String(), "\n"), strings.Split(string(want), "\n")
	for i := range min(len(got), len(expected)) {
		if got[i] != expected[i] {
			t.Fatalf("%s, line %d:\ngot  %s\nwant %s", path, i+1, got[i], expected[i])
		}
	}
	if len(got) != len(expected) {
		t.Errorf("%s: got %d lines, want %d", path, len(got), len(expected))
	}
}

// TestRoleJSON: what a role's JSON says is what it says again, and the defaults are Vault's but for those that would be refused.
func TestRoleJSON(t *testing.T) {
	r, err := DecodeRole("web", []byte(`{"allowed_domains": "a.example, b.example", "ttl": "1h", "max_ttl": 7200, "key_bits": 4096, "policy_identifiers": ["1.2.3", {"oid": "1.2.4", "cps": "http://a.example/cps"}],
		"not_after": "2027-01-01T00:00:00Z", "ou": null, "ttl_": 0}`))
	wantError(t, err, backend.ErrInvalidParams, `unknown field "ttl_"`, "allowed_domains")
	r, err = DecodeRole("web", []byte(`{"allowed_domains": "a.example, b.example", "ttl": "1h", "max_ttl": 7200, "key_bits": 4096, "policy_identifiers": ["1.2.3", {"oid": "1.2.4", "cps": "http://a.example/cps"}], "ou": null}`))
	if err != nil {
		t.Fatal(err)
	}
	if len(r.AllowedDomains) != 2 || r.TTL != Duration(time.Hour) || r.MaxTTL != Duration(2*time.Hour) || !r.AllowLocalhost || !r.ServerFlag || r.PolicyIdentifiers[1].CPS == "" {
		t.Errorf("got %+v", r)
	}
	data, err := json.Marshal(r)
	if err != nil {
		t.Fatal(err)
	}
	again, err := DecodeRole("web", data)
	if err != nil {
		t.Fatalf("%s: %v", data, err)
	}
	if second, _ := json.Marshal(again); !bytes.Equal(data, second) {
		t.Errorf("got %s, then %s", data, second)
	}
	for _, name := range []string{"", "a/b", "..", "a b", strings.Repeat("a", 129)} {
		if _, err := DecodeRole(name, []byte("{}")); err == nil {
			t.Errorf("the name %q was taken", name)
		}
	}
}
