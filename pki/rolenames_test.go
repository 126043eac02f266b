package pki

import (
	"regexp"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

var labels = rapid.SampledFrom([]string{"a", "b", "www", "example", "com", "org", "localhost", "xn--bcher-kva", "*", "evil", "1", "A", "Example"})

// names are DNS names, most of them well formed, and some near the domains that roles allow.
var dnsNames = rapid.Custom(func(t *rapid.T) string {
	name := strings.Join(rapid.SliceOfN(labels, 0, 4).Draw(t, "labels"), ".")
	return name + rapid.SampledFrom([]string{"", ".example.com", "example.com", ".example.com.evil.org", ".", ".EXAMPLE.com"}).Draw(t, "end")
})

// TestNameRulesProperty: whatever is allowed is in one of the domains in one of the ways that the role says.
func TestNameRulesProperty(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		r := Role{
			Name: "r", AllowedDomains: rapid.SliceOfN(rapid.SampledFrom([]string{"example.com", "a.example.com", "b.org", "x*.example.com", "*.b.org"}), 0, 3).Draw(t, "domains"),
			AllowBareDomains: rapid.Bool().Draw(t, "bare"), AllowSubdomains: rapid.Bool().Draw(t, "sub"), AllowGlobDomains: rapid.Bool().Draw(t, "glob"),
			AllowWildcardCertificates: rapid.Bool().Draw(t, "wildcard"), AllowLocalhost: rapid.Bool().Draw(t, "localhost"),
		}
		name := dnsNames.Draw(t, "name")
		err := r.checkDNSName(name, map[string]string{})
		lower := strings.ToLower(name)
		want := false
		for _, domain := range r.AllowedDomains {
			switch {
			case strings.Contains(domain, "*"):
				pattern := "^" + strings.ReplaceAll(regexp.QuoteMeta(domain), `\*`, `[^.]*`) + "$"
				star := strings.Contains(lower, "*") && !strings.HasPrefix(domain, "*")
				want = want || r.AllowGlobDomains && !star && regexp.MustCompile(pattern).MatchString(lower)
			default:
				want = want || r.AllowBareDomains && lower == domain || r.AllowSubdomains && strings.HasSuffix(lower, "."+domain)
			}
		}
		want = want || r.AllowLocalhost && lower == "localhost"
		want = want && checkDNS(name, true) == "" && (r.AllowWildcardCertificates || !strings.HasPrefix(name, "*"))
		if want != (err == nil) {
			t.Fatalf("%q with %+v: got %v; want allowed %t", name, r, err, want)
		}
	})
}

// TestTemplateProperty: no value of an identity makes a template allow more than its own domain.
func TestTemplateProperty(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		value := rapid.StringOfN(rapid.RuneFrom([]rune("ab.*/@-{}% é")), 0, 8, -1).Draw(t, "value")
		r := Role{Name: "r", AllowedDomains: Strings{"{{identity.team}}.example.com"}, AllowedDomainsTemplate: true, AllowSubdomains: true,
			AllowBareDomains: true, AllowGlobDomains: true, AllowWildcardCertificates: true}
		name := dnsNames.Draw(t, "name")
		if r.checkDNSName(name, map[string]string{"identity.team": value}) != nil {
			return
		}
		own := strings.ToLower(value) + ".example.com"
		if lower := strings.ToLower(name); strings.ContainsAny(value, "*/@{}% é") || value == "" || lower != own && !strings.HasSuffix(lower, "."+own) {
			t.Fatalf("%q was allowed to %q", name, value)
		}
	})
}

// TestGlobProperty compares glob with regular expressions.
func TestGlobProperty(t *testing.T) {
	texts := rapid.StringOfN(rapid.RuneFrom([]rune("ab*")), 0, 6, -1)
	rapid.Check(t, func(t *rapid.T) {
		pattern, text := texts.Draw(t, "pattern"), texts.Draw(t, "text")
		re := regexp.MustCompile("^" + strings.ReplaceAll(regexp.QuoteMeta(pattern), `\*`, ".*") + "$")
		if glob(pattern, text) != re.MatchString(text) {
			t.Fatalf("glob(%q, %q) is %t", pattern, text, glob(pattern, text))
		}
	})
}

func TestGlobURI(t *testing.T) {
	for pattern, texts := range map[string][2][]string{
		"https://*.example.com/x": {{"https://a.example.com/x"}, {"https://evil.org/.example.com/x", "https://evil.org?.example.com/x", "https://a.example.com/y"}},
		"https://*.example.com":   {{"https://a.example.com"}, {"https://evil.org/.example.com", "https://a.example.com/x"}},
		"spiffe://a.example/*":    {{"spiffe://a.example/", "spiffe://a.example/x/y"}, {"spiffe://a.example", "spiffe://a.example.evil/x"}},
		"spiffe://*":              {{"spiffe://a", "spiffe://a/b"}, {"https://a"}},
		"urn:x:*":                 {{"urn:x:y"}, {"urn:y:x", "https://urn:x:y"}},
		"*":                       {{"https://a/b", "urn:x"}, nil},
	} {
		for i, list := range texts {
			for _, text := range list {
				if globURI(pattern, text) != (i == 0) {
					t.Errorf("globURI(%q, %q) is %t", pattern, text, i != 0)
				}
			}
		}
	}
}
