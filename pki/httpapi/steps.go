package httpapi

import (
	"encoding/json"
	"slices"

	api "github.com/managedkeys/managedkeys/managedkey/httpapi"
)

// An intermediate is made in two steps, and command lines send each step the fields of both, as "pki issue" of the stock ones does:
// the original passes over what it doesn't know. Here the fields of the one step are known to the other, and mean nothing to it.
var (
	ofCertificates = []string{"ttl", "not_after", "not_before", "not_before_duration", "max_path_length", "use_csr_values", "skid", "key_usage",
		"permitted_dns_domains", "permitted_email_addresses", "permitted_uri_domains", "permitted_ip_ranges",
		"excluded_dns_domains", "excluded_email_addresses", "excluded_uri_domains", "excluded_ip_ranges", "issuer_name"}
	ofRequests = []string{"key_type", "key_bits", "key_name", "key_ref", "managed_key_name", "managed_key_id", "add_basic_constraints", "issuer_name"}
)

// readRequest reads the fields of a request for a certificate.
func (c *call) readRequest(in *requestFields) error {
	return c.read(func(f *api.Fields) {
		in.take(f)
		c.pass(f, "of the certificate, and not of the request for it", ofCertificates)
	})
}

// pass passes over fields, and warns of those that say something.
func (c *call) pass(f *api.Fields, what string, names []string) {
	for _, name := range names {
		var value json.RawMessage
		f.Raw(name, &value)
		if value != nil && !slices.Contains([]string{"false", "0", "-1", `""`, `"false"`, `"0"`, `"-1"`, "[]"}, string(value)) {
			c.warn("field %s: it is %s, and was not used", name, what)
		}
	}
}
