package pki

import (
	"crypto/x509/pkix"
	"net"
	"net/mail"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"
)

// maxNames bounds the subject alternative names of one certificate.
const maxNames = 256

// altNames are subject alternative names (RFC 5280, Section 4.2.1.6).
type altNames struct {
	dns   []string
	ip    []net.IP
	email []string
	uri   []*url.URL
}

func (n altNames) count() int { return len(n.dns) + len(n.ip) + len(n.email) + len(n.uri) }

// normal returns n with DNS names in lower case and repeated names left out, or an error that names the first entry that
// is not well formed.
func (n altNames) normal() (altNames, error) {
	var out altNames
	if n.count() > maxNames {
		return out, invalid("subject alternative names: got %d; it takes at most %d", n.count(), maxNames)
	}
	for i, name := range n.dns {
		if problem := checkDNS(name, true); problem != "" {
			return out, invalid("DNS name %d, %.80q: %s", i, name, problem)
		}
		if name = strings.ToLower(name); !slices.Contains(out.dns, name) {
			out.dns = append(out.dns, name)
		}
	}
	for i, ip := range n.ip {
		if len(ip) != net.IPv4len && len(ip) != net.IPv6len {
			return out, invalid("IP address %d: got %d bytes; it takes 4 or 16", i, len(ip))
		}
		if ip.IsUnspecified() || ip.IsMulticast() {
			return out, invalid("IP address %d, %s: it is not the address of a host", i, ip)
		}
		if !slices.ContainsFunc(out.ip, ip.Equal) {
			out.ip = append(out.ip, ip)
		}
	}
	for i, email := range n.email {
		if problem := checkEmail(email); problem != "" {
			return out, invalid("email address %d, %.80q: %s", i, email, problem)
		}
		if !slices.Contains(out.email, email) {
			out.email = append(out.email, email)
		}
	}
	for i, uri := range n.uri {
		if problem := checkURI(uri); problem != "" {
			return out, invalid("URI %d, %.80q: %s", i, uri, problem)
		}
		same := func(u *url.URL) bool { return u.String() == uri.String() }
		if !slices.ContainsFunc(out.uri, same) {
			out.uri = append(out.uri, uri)
		}
	}
	return out, nil
}

// covers reports whether name, a common name, is one of the names.
func (n altNames) covers(name string) bool {
	if slices.Contains(n.dns, strings.ToLower(name)) || slices.Contains(n.email, name) {
		return true
	}
	ip := net.ParseIP(name)
	return ip != nil && slices.ContainsFunc(n.ip, ip.Equal)
}

// checkDNS returns what is wrong with a DNS name, or "". It takes the preferred name syntax (RFC 1034, Section 3.5, as
// modified by RFC 1123, Section 2.1) and, if wildcard is set, "*" as the whole first label (RFC 6125, Section 6.4.3).
func checkDNS(name string, wildcard bool) string {
	if name == "" || len(name) > 253 {
		return "it takes 1 to 253 bytes"
	}
	if _, err := netip.ParseAddr(name); err == nil {
		return "it is an IP address"
	}
	rest := name
	if wildcard {
		rest = strings.TrimPrefix(name, "*.")
	}
	for label := range strings.SplitSeq(rest, ".") {
		switch {
		case label == "":
			return "it has an empty label"
		case len(label) > 63:
			return "a label is longer than 63 bytes"
		case label[0] == '-' || label[len(label)-1] == '-':
			return "a label begins or ends with '-'"
		case strings.Contains(label, "*"):
			return "'*' is taken only as the whole first label, with more labels after it"
		}
		for i := range len(label) {
			c := label[i]
			if !('a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' || c == '-') {
				return "it takes letters, digits, '-' and '.'; other scripts as xn--…"
			}
		}
	}
	// No top-level domain is a number (RFC 3696, Section 2): this is meant to be an address.
	if last := rest[strings.LastIndexByte(rest, '.')+1:]; strings.Trim(last, "0123456789") == "" {
		return "its last label is a number"
	}
	return ""
}

// checkEmail returns what is wrong with a mailbox (RFC 5321, Section 4.1.2, without quoting, comments or literals).
func checkEmail(email string) string {
	if len(email) > 254 {
		return "it takes at most 254 bytes"
	}
	at := strings.LastIndexByte(email, '@')
	if at < 1 || at > 64 || !isASCII(email) {
		return "it takes local@domain in ASCII"
	}
	if a, err := mail.ParseAddress(email); err != nil || a.Address != email || strings.ContainsAny(email[:at], "\"() ") {
		return "it takes local@domain in ASCII"
	}
	if problem := checkDNS(email[at+1:], false); problem != "" {
		return "domain: " + problem
	}
	return ""
}

// checkURI returns what is wrong with a URI: RFC 5280, Section 4.2.1.6, wants an absolute one, and a host that is a name
// or an address if it has one.
func checkURI(uri *url.URL) string {
	if uri == nil {
		return "it is nil"
	}
	text := uri.String()
	switch {
	case len(text) > 2048:
		return "it takes at most 2048 bytes"
	case !isASCII(text):
		return "it takes ASCII"
	case uri.Scheme == "":
		return "it is relative; it takes scheme:…"
	case uri.Host == "" && uri.Opaque == "" && uri.Path == "":
		return "it has nothing after the scheme"
	case uri.User != nil:
		return "it has user information"
	}
	if again, err := url.Parse(text); err != nil || again.String() != text {
		return "it is malformed"
	}
	if uri.Host == "" {
		return ""
	}
	host := uri.Hostname()
	if _, err := netip.ParseAddr(host); err == nil {
		return ""
	}
	if problem := checkDNS(host, false); problem != "" {
		return "host: " + problem
	}
	return ""
}

// checkSubject refuses text that shows as something else than it is. Lengths and encodings are linted.
func checkSubject(subject pkix.Name) error {
	for _, attribute := range slices.Concat(subject.ToRDNSequence()...) {
		text, ok := attribute.Value.(string)
		if !ok {
			return invalid("subject: attribute %v is %T; it takes text", attribute.Type, attribute.Value)
		}
		if text == "" || !utf8.ValidString(text) || strings.ContainsFunc(text, unicode.IsControl) || strings.TrimSpace(text) != text {
			return invalid("subject: attribute %v, %.80q: it takes UTF-8 text without control characters or outer spaces", attribute.Type, text)
		}
	}
	return nil
}

// isEmpty reports whether subject has no attribute at all.
func isEmpty(subject pkix.Name) bool { return len(subject.ToRDNSequence()) == 0 }

func isASCII(s string) bool {
	return !strings.ContainsFunc(s, func(r rune) bool { return r <= ' ' || r > '~' })
}

// isCanonical reports whether network has no bit set outside of a mask that is contiguous.
func isCanonical(network *net.IPNet) bool {
	if network == nil || len(network.IP) != len(network.Mask) {
		return false
	}
	_, bits := network.Mask.Size()
	return bits > 0 && network.IP.Mask(network.Mask).Equal(network.IP)
}
