package httpapi

import (
	"crypto/x509/pkix"
	"net"
	"net/url"
	"strings"

	api "github.com/managedkeys/managedkeys/managedkey/httpapi"
)

// subject are the fields that make a subject.
type subject struct {
	commonName, serial                                              string
	unit, organization, country, locality, province, street, postal []string
}

func (s *subject) take(f *api.Fields) {
	f.String("common_name", &s.commonName)
	f.String("serial_number", &s.serial)
	f.Strings("ou", &s.unit)
	f.Strings("organization", &s.organization)
	f.Strings("country", &s.country)
	f.Strings("locality", &s.locality)
	f.Strings("province", &s.province)
	f.Strings("street_address", &s.street)
	f.Strings("postal_code", &s.postal)
}

func (s *subject) name() pkix.Name {
	return pkix.Name{
		CommonName: s.commonName, SerialNumber: s.serial, OrganizationalUnit: s.unit, Organization: s.organization, Country: s.country,
		Locality: s.locality, Province: s.province, StreetAddress: s.street, PostalCode: s.postal,
	}
}

// names are the fields that make subject alternative names.
type names struct {
	dns, email []string
	other      []string
	ip         []net.IP
	uri        []*url.URL
}

func (n *names) take(f *api.Fields) {
	var all, ips, uris []string
	f.Strings("alt_names", &all)
	f.Strings("ip_sans", &ips)
	f.Strings("uri_sans", &uris)
	f.Strings("other_sans", &n.other)
	for _, name := range all {
		if strings.Contains(name, "@") {
			n.email = append(n.email, name)
		} else {
			n.dns = append(n.dns, name)
		}
	}
	for _, text := range ips {
		ip := net.ParseIP(text)
		if ip == nil {
			f.Refuse("ip_sans", "IP addresses")
		}
		n.ip = append(n.ip, ip)
	}
	for _, text := range uris {
		uri, err := url.Parse(text)
		if err != nil || uri.Scheme == "" {
			f.Refuse("uri_sans", "absolute URIs")
			uri = nil
		}
		n.uri = append(n.uri, uri)
	}
}

// none refuses the names of a CA certificate: it names a CA, and verifiers would take it for a host's.
func (n *names) none() error {
	if len(n.dns)+len(n.email)+len(n.other)+len(n.ip)+len(n.uri) > 0 {
		return refuse("fields alt_names, ip_sans, uri_sans and other_sans: a CA certificate has no subject alternative names here; leave them out")
	}
	return nil
}
