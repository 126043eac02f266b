package pki

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"net"
	"net/url"
	"slices"
	"strings"
	"time"

	"filippo.io/mldsa"
)

// IssueRequest says what a certificate of a role shall be.
type IssueRequest struct {
	CommonName        string
	AltNames          []string // DNS names and email addresses
	IPAddresses       []net.IP
	URIs              []*url.URL
	OtherNames        []string      // "oid;UTF8:text"; beside those of a CSR, whatever the role says of the latter
	TTL               time.Duration // or NotAfter; none is the role's
	NotAfter          time.Time
	ExcludeCNFromSANs bool     // else the common name is one of the subject alternative names
	SerialNumber      string   // of the subject, not of the certificate
	UserIDs           []string // of the subject

	Issuer string // id or name, in place of the role's

	// Identity are the values of templates such as {{identity.entity.metadata.team}}, by the text between the braces.
	// identity.entity.id and identity.entity.name are, unless given here, those of managedkey.ActorOf the context.
	Identity map[string]string
}

// defaultTTL is how long certificates are valid if neither request nor role says.
const defaultTTL = 768 * time.Hour

// leaf is a certificate of a role in the making.
type leaf struct {
	role     *Role
	req      *IssueRequest
	csr      *x509.CertificateRequest // nil if the key is made here
	identity map[string]string
	names    altNames
	others   []otherName
	subject  pkix.Name
}

// newLeaf checks names and subject against the role. Values of a CSR go through the same rules as those of the request.
func newLeaf(ctx context.Context, role *Role, req *IssueRequest, csr *x509.CertificateRequest) (*leaf, error) {
	l := &leaf{role: role, req: req, csr: csr, identity: identityOf(ctx, req.Identity)}
	l.collect()
	if err := l.otherNames(); err != nil {
		return nil, err
	}
	if err := l.commonName(); err != nil {
		return nil, err
	}
	if l.names.count()+len(l.others) > maxNames {
		return nil, invalid("subject alternative names: got %d; it takes at most %d", l.names.count()+len(l.others), maxNames)
	}
	if err := l.checkNames(); err != nil {
		return nil, err
	}
	var err error
	if l.names, err = l.names.normal(); err != nil {
		return nil, err
	}
	if err := l.fillSubject(); err != nil {
		return nil, err
	}
	if isEmpty(l.subject) && l.names.count()+len(l.others) == 0 {
		return nil, invalid("role %s: the certificate would have neither a subject nor a subject alternative name", role.Name)
	}
	return l, nil
}

// collect takes the subject alternative names from the request, or from the CSR.
func (l *leaf) collect() {
	if l.csr != nil && l.role.UseCSRSANs {
		l.names = altNames{
			slices.Clone(l.csr.DNSNames), slices.Clone(l.csr.IPAddresses), slices.Clone(l.csr.EmailAddresses), slices.Clone(l.csr.URIs),
		}
		return
	}
	l.names.ip, l.names.uri = slices.Clone(l.req.IPAddresses), slices.Clone(l.req.URIs)
	for _, name := range l.req.AltNames {
		if strings.Contains(name, "@") {
			l.names.email = append(l.names.email, name)
		} else {
			l.names.dns = append(l.names.dns, name)
		}
	}
}

// commonName finds the common name, checks what kind it is of, and makes it one of the alternative names.
func (l *leaf) commonName() error {
	cn := l.req.CommonName
	if l.csr != nil && l.role.UseCSRCommonName && l.csr.Subject.CommonName != "" {
		cn = l.csr.Subject.CommonName
	}
	l.subject.CommonName = cn
	if cn == "" {
		if l.role.RequireCN {
			return l.role.refuse("require_cn", "", "there is no common name")
		}
		return nil
	}
	email := strings.Contains(cn, "@") && checkEmail(cn) == ""
	ip := net.ParseIP(cn)
	host := checkDNS(cn, true) == ""
	validations := l.role.CNValidations
	if len(validations) == 0 {
		validations = Strings{"email", "hostname"}
	}
	disabled := slices.Contains(validations, "disabled")
	switch {
	case disabled && !email && ip == nil && !host:
		return nil
	case !email && ip == nil && !host && l.role.AllowAnyName && !l.role.EnforceHostnames:
		return nil
	case !email && ip == nil && !host:
		return l.role.refuse("cn_validations", cn, "the common name is neither a host name nor an email address")
	case email && !disabled && !slices.Contains(validations, "email"):
		return l.role.refuse("cn_validations", cn, "the common name is an email address; it takes %s", strings.Join(validations, ", "))
	case !email && !disabled && !slices.Contains(validations, "hostname"):
		return l.role.refuse("cn_validations", cn, "the common name is a host name or address; it takes %s", strings.Join(validations, ", "))
	case l.req.ExcludeCNFromSANs && disabled:
		return nil
	case l.req.ExcludeCNFromSANs:
		return l.checkCN(cn, email, ip)
	case email:
		l.names.email = append(l.names.email, cn)
	case ip != nil:
		l.names.ip = append(l.names.ip, ip)
	default:
		l.names.dns = append(l.names.dns, cn)
	}
	return nil
}

// checkCN checks a common name that is not an alternative name as if it were one.
func (l *leaf) checkCN(cn string, email bool, ip net.IP) error {
	switch {
	case email:
		return l.role.checkEmailName(cn, l.identity)
	case ip != nil:
		return l.role.checkIP(ip)
	}
	return l.role.checkDNSName(cn, l.identity)
}

func (l *leaf) checkNames() error {
	for _, name := range l.names.dns {
		if err := l.role.checkDNSName(name, l.identity); err != nil {
			return err
		}
	}
	for _, email := range l.names.email {
		if err := l.role.checkEmailName(email, l.identity); err != nil {
			return err
		}
	}
	for _, ip := range l.names.ip {
		if err := l.role.checkIP(ip); err != nil {
			return err
		}
	}
	for _, uri := range l.names.uri {
		if uri == nil {
			return invalid("URI: it is nil")
		}
		if err := l.role.checkURIName(uri, l.identity); err != nil {
			return err
		}
	}
	for _, n := range l.others {
		if err := l.role.checkOtherName(n); err != nil {
			return err
		}
	}
	return nil
}

// oidUserID is the attribute userId (RFC 4519, Section 2.39).
var oidUserID = asn1.ObjectIdentifier{0, 9, 2342, 19200300, 100, 1, 1}

func (l *leaf) fillSubject() error {
	r, s := l.role, &l.subject
	s.OrganizationalUnit, s.Organization, s.Country, s.Locality = r.OU, r.Organization, r.Country, r.Locality
	s.Province, s.StreetAddress, s.PostalCode = r.Province, r.StreetAddress, r.PostalCode
	s.SerialNumber = l.req.SerialNumber
	users := l.req.UserIDs
	if l.csr != nil {
		if s.SerialNumber == "" && r.SerialNumberSource != "json" {
			s.SerialNumber = l.csr.Subject.SerialNumber
		}
		for _, attribute := range l.csr.Subject.Names {
			if text, ok := attribute.Value.(string); ok && attribute.Type.Equal(oidUserID) && len(l.req.UserIDs) == 0 {
				users = append(users, text)
			}
		}
	}
	if n := s.SerialNumber; n != "" && !globAny(r.AllowedSerialNumbers, n) {
		return r.refuse("allowed_serial_numbers", n, "it matches none of %.200q", []string(r.AllowedSerialNumbers))
	}
	for _, user := range users {
		if !globAny(r.AllowedUserIDs, user) {
			return r.refuse("allowed_user_ids", user, "it matches none of %.200q", []string(r.AllowedUserIDs))
		}
		s.ExtraNames = append(s.ExtraNames, pkix.AttributeTypeAndValue{Type: oidUserID, Value: user})
	}
	return checkSubject(*s)
}

// checkKey checks the key of a CSR against the role.
func (r *Role) checkKey(pub crypto.PublicKey) error {
	kind, bits := "", 0
	switch pub := pub.(type) {
	case *rsa.PublicKey:
		kind, bits = "rsa", pub.N.BitLen()
	case *ecdsa.PublicKey:
		kind, bits = "ec", pub.Curve.Params().BitSize
	case ed25519.PublicKey:
		kind = "ed25519"
	case *mldsa.PublicKey:
		kind, bits = "ml-dsa", map[string]int{"ML-DSA-44": 44, "ML-DSA-65": 65, "ML-DSA-87": 87}[pub.Parameters().String()]
	}
	want := r.keyType()
	if want == "any" {
		return nil
	}
	if kind != want {
		return r.refuse("key_type", kind, "it takes %s", want)
	}
	least := r.KeyBits
	if least == 0 {
		least = keyBits[want][0]
	}
	if bits < least {
		return r.refuse("key_bits", join([]int{bits}), "it takes %d or more", least)
	}
	return nil
}

// period returns the validity of a certificate.
func (l *leaf) period(now time.Time, issuer *Issuer, parent *x509.Certificate) (first, last time.Time, err error) {
	r := l.role
	ttl, end := l.req.TTL, l.req.NotAfter
	switch {
	case ttl < 0:
		return first, last, invalid("ttl: got %v; it takes a second or more", ttl)
	case ttl != 0 && !end.IsZero():
		return first, last, invalid("ttl: give either ttl or not_after; got both")
	case ttl == 0 && end.IsZero():
		if ttl, end = time.Duration(r.TTL), r.NotAfter; ttl == 0 && end.IsZero() {
			if ttl = defaultTTL; r.MaxTTL != 0 {
				ttl = time.Duration(r.MaxTTL)
			}
		}
	}
	if end.IsZero() {
		end = now.Add(ttl - time.Second)
	}
	if r.MaxTTL != 0 && end.After(now.Add(time.Duration(r.MaxTTL))) {
		return first, last, r.refuse("max_ttl", stamp(end), "the end is more than %v away", r.MaxTTL)
	}
	before := time.Duration(r.NotBeforeDuration)
	if before == 0 {
		before = backdate
	}
	if first = now.Add(-before); first.Before(parent.NotBefore) {
		first = parent.NotBefore
	}
	switch {
	case issuer.LeafNotAfter == NotAfterTruncate && end.After(parent.NotAfter):
		end = parent.NotAfter
	case issuer.LeafNotAfter == NotAfterPermit:
		parent = nil
	}
	return period(now, first, end, 0, parent)
}
