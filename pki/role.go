package pki

import (
	"crypto/x509"
	"encoding/asn1"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/net/publicsuffix"
)

// Role says which certificates may be issued under its name. Its JSON has the field names of Vault's roles; [NewRole] and
// [DecodeRole] begin with their defaults, and the zero value, which allows no name at all, with none.
//
// Names are compared without regard to case. In a pattern, "*" is any number of characters: of one label, that is, without
// a dot, in domain names; of the host, where it stands in that of a URI; and of any characters otherwise.
type Role struct {
	Name string `json:"-"`

	// Version is the version of the role in the store, which changes whenever it is stored; 0 of one that was not read there. PutRole
	// with a Version that isn't 0 fails if the role has another one by then.
	Version uint64 `json:"-"`

	IssuerRef string `json:"issuer_ref"` // "" is "default"

	// TTL is how long certificates are valid where the request doesn't say; 0 is MaxTTL, or 768 hours. MaxTTL bounds that; 0 is
	// no bound. NotBeforeDuration is how long before its issue a certificate is valid; 0 is 30 seconds. NotAfter is a fixed
	// end instead of TTL.
	TTL               Duration  `json:"ttl"`
	MaxTTL            Duration  `json:"max_ttl"`
	NotBeforeDuration Duration  `json:"not_before_duration"`
	NotAfter          time.Time `json:"not_after,omitzero"`

	// AllowedDomains are the domains that names are in: they themselves (AllowBareDomains), what is below them
	// (AllowSubdomains), or what matches them as patterns (AllowGlobDomains). With AllowedDomainsTemplate they may have
	// {{identity.…}}, see IssueRequest.Identity.
	AllowLocalhost            bool    `json:"allow_localhost"`
	AllowedDomains            Strings `json:"allowed_domains"`
	AllowedDomainsTemplate    bool    `json:"allowed_domains_template"`
	AllowBareDomains          bool    `json:"allow_bare_domains"`
	AllowSubdomains           bool    `json:"allow_subdomains"`
	AllowGlobDomains          bool    `json:"allow_glob_domains"`
	AllowWildcardCertificates bool    `json:"allow_wildcard_certificates"`
	AllowAnyName              bool    `json:"allow_any_name"`
	EnforceHostnames          bool    `json:"enforce_hostnames"` // of common names; DNS names always are host names

	AllowIPSANs            bool    `json:"allow_ip_sans"`
	AllowedIPSANsCIDR      Strings `json:"allowed_ip_sans_cidr"` // networks that addresses are in, wherever they come from; none is any
	AllowedURISANs         Strings `json:"allowed_uri_sans"`     // patterns
	AllowedURISANsTemplate bool    `json:"allowed_uri_sans_template"`
	AllowedOtherSANs       Strings `json:"allowed_other_sans"`     // "oid;UTF8:pattern", or "*"
	AllowedSerialNumbers   Strings `json:"allowed_serial_numbers"` // patterns for the subject's serialNumber
	AllowedUserIDs         Strings `json:"allowed_user_ids"`       // patterns for the subject's userId

	ServerFlag          bool `json:"server_flag"`
	ClientFlag          bool `json:"client_flag"`
	CodeSigningFlag     bool `json:"code_signing_flag"`
	EmailProtectionFlag bool `json:"email_protection_flag"`

	KeyType       string `json:"key_type"`       // rsa, ec, ed25519, or any, which Issue doesn't take; with Go 1.27 ml-dsa
	KeyBits       int    `json:"key_bits"`       // at least, for rsa; 0 is 2048 and 256. ml-dsa takes 44, 65, 87
	SignatureBits int    `json:"signature_bits"` // of the issuer's hash: 256, 384, 512, or 0 for the best
	UsePSS        bool   `json:"use_pss"`

	// KeyUsage are names as in crypto/x509 without "KeyUsage"; those that a key of the certificate's kind can't have are left out
	// (RFC 5480, RFC 8813). None is what fits the key.
	KeyUsage        Strings `json:"key_usage"`
	ExtKeyUsage     Strings `json:"ext_key_usage"` // beside the flags, names as in crypto/x509 without "ExtKeyUsage"
	ExtKeyUsageOIDs Strings `json:"ext_key_usage_oids"`

	UseCSRCommonName bool `json:"use_csr_common_name"`
	UseCSRSANs       bool `json:"use_csr_sans"`

	OU            Strings `json:"ou"`
	Organization  Strings `json:"organization"`
	Country       Strings `json:"country"`
	Locality      Strings `json:"locality"`
	Province      Strings `json:"province"`
	StreetAddress Strings `json:"street_address"`
	PostalCode    Strings `json:"postal_code"`

	NoStore            bool     `json:"no_store"` // certificates are not stored, and can be neither found nor revoked by number
	GenerateLease      bool     `json:"generate_lease"`
	RequireCN          bool     `json:"require_cn"`
	CNValidations      Strings  `json:"cn_validations"` // email and hostname, or disabled; none is the former
	PolicyIdentifiers  Policies `json:"policy_identifiers"`
	SerialBits         int      `json:"serial_bits"`          // random bits of serial numbers, 64 to 158; 0 is 142
	SerialNumberSource string   `json:"serial_number_source"` // of the subject's serialNumber: json-csr or json

	BasicConstraintsValidForNonCA bool `json:"basic_constraints_valid_for_non_ca"` // CA:FALSE, which every certificate has

	LintProfile   string `json:"lint_profile"` // see LintProfile
	LintOffReason string `json:"lint_off_reason"`
}

// NewRole returns a role with the defaults of Vault's, except for key usages, which fit the key, and for the policy
// "domain validated" (2.23.140.1.2.1), which server certificates have.
func NewRole(name string) Role {
	return Role{
		Name: name, IssuerRef: defaultRef, NotBeforeDuration: Duration(backdate), AllowLocalhost: true, AllowWildcardCertificates: true,
		EnforceHostnames: true, AllowIPSANs: true, ServerFlag: true, ClientFlag: true, KeyType: "rsa", UseCSRCommonName: true, UseCSRSANs: true,
		PolicyIdentifiers: Policies{{OID: "2.23.140.1.2.1"}}, RequireCN: true, CNValidations: Strings{"email", "hostname"}, SerialNumberSource: "json-csr", LintProfile: LintRFC5280,
	}
}

// Validate returns nil if nothing in the role contradicts itself. The error names the field, what it has and what it takes.
func (r *Role) Validate() error {
	if err := checkName("role name", r.Name); err != nil {
		return err
	}
	switch {
	case r.TTL < 0 || r.MaxTTL < 0:
		return invalid("role %s: ttl %v, max_ttl %v; they take no negative time", r.Name, r.TTL, r.MaxTTL)
	case r.MaxTTL != 0 && r.TTL > r.MaxTTL:
		return invalid("role %s: ttl %v is more than max_ttl, %v", r.Name, r.TTL, r.MaxTTL)
	case !r.NotAfter.IsZero() && r.TTL != 0:
		return invalid("role %s: give either ttl or not_after; got both", r.Name)
	case r.NotAfter.Year() > 9999: // the range of GeneralizedTime
		return invalid("role %s: not_after is in the year %d; it takes at most 9999", r.Name, r.NotAfter.Year())
	case r.NotBeforeDuration < 0 || r.NotBeforeDuration >= Duration(24*time.Hour):
		return invalid("role %s: not_before_duration %v; it takes less than 24h", r.Name, r.NotBeforeDuration)
	case r.SerialBits != 0 && (r.SerialBits < 64 || r.SerialBits > 158):
		return invalid("role %s: serial_bits %d; it takes 64 to 158", r.Name, r.SerialBits)
	case !slices.Contains([]string{"", "json", "json-csr"}, r.SerialNumberSource):
		return invalid("role %s: serial_number_source %.40q; it takes json-csr or json", r.Name, r.SerialNumberSource)
	case !slices.Contains([]int{0, 256, 384, 512}, r.SignatureBits):
		return invalid("role %s: signature_bits %d; it takes 0, 256, 384 or 512", r.Name, r.SignatureBits)
	}
	for _, check := range []func() error{r.checkKeys, r.checkDomains, r.checkSANs, r.checkUsages, r.checkValidations} {
		if err := check(); err != nil {
			return invalid("role %s: %w", r.Name, plain(err))
		}
	}
	return r.profile().check()
}

func (r *Role) profile() LintProfile { return LintProfile{r.LintProfile, r.LintOffReason} }

// keyBits are what the kinds of keys take, the default first.
var keyBits = map[string][]int{"rsa": {2048, 3072, 4096, 8192}, "ec": {256, 384, 521}, "ed25519": {0}, "any": {0}, "ml-dsa": {65, 44, 87}}

func (r *Role) checkKeys() error {
	bits, ok := keyBits[r.keyType()]
	switch {
	case !ok:
		return invalid("key_type %.40q: it takes rsa, ec, ed25519, ml-dsa or any", r.KeyType)
	case r.keyType() == "ml-dsa" && !x509HasMLDSA:
		return invalid("key_type ml-dsa: it needs a program built with Go 1.27 or later")
	case r.KeyBits != 0 && !slices.Contains(bits, r.KeyBits):
		return invalid("key_bits %d: key_type %s takes %s", r.KeyBits, r.keyType(), join(bits))
	}
	return nil
}

func (r *Role) keyType() string {
	if r.KeyType == "" {
		return "rsa"
	}
	return r.KeyType
}

func join(numbers []int) string {
	texts := make([]string, len(numbers))
	for i, n := range numbers {
		texts[i] = strconv.Itoa(n)
	}
	return strings.Join(texts, ", ")
}

// checkDomains refuses patterns that a whole public suffix matches: "*.com" is everybody's.
func (r *Role) checkDomains() error {
	for i, domain := range r.AllowedDomains {
		if domain == "" || len(domain) > 253 || !isASCII(domain) {
			return invalid("allowed_domains %d, %.80q: it takes 1 to 253 bytes of ASCII; other scripts as xn--…", i, domain)
		}
		if strings.Contains(domain, "{{") {
			if !r.AllowedDomainsTemplate {
				return invalid("allowed_domains %d, %.80q: it has a template, and allowed_domains_template is off", i, domain)
			}
			if _, err := expand(domain, nil, nil); err != nil {
				return invalid("allowed_domains %d, %.80q: %w", i, domain, err)
			}
			continue
		}
		if !strings.Contains(domain, "*") {
			if problem := checkDNS(domain[strings.LastIndexByte(domain, '@')+1:], false); problem != "" {
				return invalid("allowed_domains %d, %.80q: %s", i, domain, problem)
			}
			continue
		}
		if !r.AllowGlobDomains {
			return invalid("allowed_domains %d, %.80q: it is a pattern, and allow_glob_domains is off", i, domain)
		}
		fixed := domain[strings.LastIndexByte(domain, '*')+1:]
		if at := strings.IndexByte(fixed, '.'); at < 0 {
			return invalid("allowed_domains %d, %.80q: a pattern ends with a domain", i, domain)
		} else {
			fixed = strings.ToLower(fixed[at+1:])
		}
		if suffix, icann := publicsuffix.PublicSuffix(fixed); fixed == "" || suffix == fixed && (icann || strings.Contains(suffix, ".")) {
			return invalid("allowed_domains %d, %.80q: it matches below the public suffix %q, which is nobody's alone", i, domain, fixed)
		}
	}
	return nil
}

func (r *Role) checkSANs() error {
	for i, text := range r.AllowedIPSANsCIDR {
		if p, err := netip.ParsePrefix(text); err != nil || p != p.Masked() {
			return invalid("allowed_ip_sans_cidr %d, %.80q: it takes a network such as 10.0.0.0/8", i, text)
		}
	}
	for i, text := range r.AllowedURISANs {
		if !isASCII(text) || text == "" {
			return invalid("allowed_uri_sans %d, %.80q: it takes ASCII", i, text)
		}
		if strings.Contains(text, "{{") && !r.AllowedURISANsTemplate {
			return invalid("allowed_uri_sans %d, %.80q: it has a template, and allowed_uri_sans_template is off", i, text)
		}
		if _, err := expand(text, nil, nil); err != nil {
			return invalid("allowed_uri_sans %d, %.80q: %w", i, text, err)
		}
	}
	for i, text := range r.AllowedOtherSANs {
		if text == "*" {
			continue
		}
		if _, err := parseOtherName(text); err != nil {
			return invalid("allowed_other_sans %d, %.80q: %w", i, text, plain(err))
		}
	}
	return nil
}

func (r *Role) checkUsages() error {
	if _, err := keyUsages(r.KeyUsage); err != nil {
		return err
	}
	known, unknown, err := r.extKeyUsages()
	if err != nil {
		return err
	}
	if len(known)+len(unknown) == 0 {
		return invalid("ext_key_usage: there is none, which would be every usage; set a flag or a usage")
	}
	return checkExtKeyUsage(known)
}

func (r *Role) checkValidations() error {
	for i, v := range r.CNValidations {
		if v != "email" && v != "hostname" && v != "disabled" || v == "disabled" && len(r.CNValidations) > 1 {
			return invalid("cn_validations %d, %.40q: it takes email and hostname, or disabled alone", i, v)
		}
	}
	return r.PolicyIdentifiers.check()
}

func parseOID(text string) (asn1.ObjectIdentifier, error) {
	var oid asn1.ObjectIdentifier
	for part := range strings.SplitSeq(text, ".") {
		n, err := strconv.ParseInt(part, 10, 31)
		if err != nil || n < 0 || part[0] == '+' || len(part) > 1 && part[0] == '0' || len(oid) > 30 {
			return nil, invalid("object identifier %.80q: it takes numbers with dots between them", text)
		}
		oid = append(oid, int(n))
	}
	if len(oid) < 2 || oid[0] > 2 || oid[0] < 2 && oid[1] > 39 {
		return nil, invalid("object identifier %.80q: its first numbers are out of range (X.660)", text)
	}
	return oid, nil
}

// usageNames are key usages by the names that roles have for them.
var usageNames = map[string]x509.KeyUsage{
	"digitalsignature": x509.KeyUsageDigitalSignature, "contentcommitment": x509.KeyUsageContentCommitment, "nonrepudiation": x509.KeyUsageContentCommitment,
	"keyencipherment": x509.KeyUsageKeyEncipherment, "dataencipherment": x509.KeyUsageDataEncipherment, "keyagreement": x509.KeyUsageKeyAgreement,
	"encipheronly": x509.KeyUsageEncipherOnly, "decipheronly": x509.KeyUsageDecipherOnly,
}

func keyUsages(names []string) (x509.KeyUsage, error) {
	var usage x509.KeyUsage
	for i, name := range names {
		bit, ok := usageNames[strings.ToLower(strings.TrimPrefix(name, "KeyUsage"))]
		if !ok {
			return 0, invalid("key_usage %d, %.40q: it takes DigitalSignature, ContentCommitment, KeyEncipherment, DataEncipherment, KeyAgreement, "+
				"EncipherOnly and DecipherOnly; CertSign and CRLSign are for CAs", i, name)
		}
		usage |= bit
	}
	return usage, nil
}
