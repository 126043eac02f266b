package pki

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"slices"
	"strings"

	"github.com/managedkeys/managedkeys/backend"
	"github.com/managedkeys/managedkeys/managedkey"
)

// RoleError reports that a role doesn't allow what was asked for. It wraps [backend.ErrInvalidParams], and
// [backend.ErrNotPermitted] as well.
type RoleError struct {
	Role  string
	Rule  string // the role's field that decides, such as "allowed_domains"
	Value string // what was refused
	Text  string // why
}

// Error names the role, the rule and the value.
func (e *RoleError) Error() string {
	return fmt.Sprintf("pki: role %s: %s: %.120q: %s: %v", e.Role, e.Rule, e.Value, e.Text, backend.ErrInvalidParams)
}

// Unwrap returns both sentinels.
func (e *RoleError) Unwrap() []error {
	return []error{backend.ErrInvalidParams, backend.ErrNotPermitted}
}

func (r *Role) refuse(rule, value, format string, args ...any) error {
	return &RoleError{r.Name, rule, value, fmt.Sprintf(format, args...)}
}

// identityOf returns what templates may say: what the request says, and who the context says is asking.
func identityOf(ctx context.Context, identity map[string]string) map[string]string {
	out := map[string]string{}
	if actor := managedkey.ActorOf(ctx); actor.ID != "" {
		out["identity.entity.id"] = actor.ID
		if actor.Name != "" {
			out["identity.entity.name"] = actor.Name
		}
	}
	for key, value := range identity {
		out[key] = value
	}
	return out
}

// expand puts values in place of {{identity.…}}. A value that would be more than a name, because it has one of the bad
// characters, is an error, and so is one that is not there. A nil identity checks the templates alone.
func expand(text string, identity map[string]string, bad func(rune) bool) (string, error) {
	var out strings.Builder
	for {
		before, rest, found := strings.Cut(text, "{{")
		out.WriteString(before)
		if !found {
			return out.String(), nil
		}
		name, after, found := strings.Cut(rest, "}}")
		name = strings.TrimSpace(name)
		if !found || !strings.HasPrefix(name, "identity.") {
			return "", fmt.Errorf("template {{%.40s}}: it takes {{identity.…}}", name)
		}
		text = after
		if identity == nil {
			continue
		}
		value := identity[name]
		if value == "" {
			return "", fmt.Errorf("template {{%.80s}}: the caller has no such value", name)
		}
		if strings.ContainsFunc(value, bad) {
			return "", fmt.Errorf("template {{%.80s}}: the caller's value %.80q has characters that would widen the rule", name, value)
		}
		out.WriteString(value)
	}
}

func notInName(c rune) bool {
	return !('a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' || c == '-' || c == '.')
}

func notInURI(c rune) bool { return notInName(c) && c != '_' && c != '~' }

// checkDNSName checks a DNS name, or the host of an email address, against the rules for domains.
func (r *Role) checkDNSName(name string, identity map[string]string) error {
	if problem := checkDNS(name, true); problem != "" {
		return r.refuse("names", name, "%s", problem)
	}
	return r.checkDomain(name, "", identity)
}

// checkEmailName checks an email address: the whole of it may be allowed, or its host.
func (r *Role) checkEmailName(email string, identity map[string]string) error {
	if problem := checkEmail(email); problem != "" {
		return r.refuse("names", email, "%s", problem)
	}
	return r.checkDomain(email[strings.LastIndexByte(email, '@')+1:], email, identity)
}

// checkDomain checks a domain that is well formed, and that may be part of an email address.
func (r *Role) checkDomain(domain, email string, identity map[string]string) error {
	shown, name := domain, strings.ToLower(domain)
	if email != "" {
		shown = email
	}
	base, wildcard := strings.CutPrefix(name, "*.")
	if wildcard && !r.AllowWildcardCertificates {
		return r.refuse("allow_wildcard_certificates", shown, "wildcards are not allowed")
	}
	if r.AllowAnyName {
		return nil
	}
	if r.AllowLocalhost && (name == "localhost" || name == "localdomain") {
		return nil
	}
	var reasons []string
	for _, text := range r.AllowedDomains {
		allowed := strings.ToLower(text)
		if r.AllowedDomainsTemplate {
			expanded, err := expand(text, identity, notInName)
			if err == nil && checkDNS(strings.ReplaceAll(expanded[strings.LastIndexByte(expanded, '@')+1:], "*", "x"), false) != "" {
				err = fmt.Errorf("%.80q is no domain", expanded)
			}
			if err != nil {
				reasons = append(reasons, err.Error())
				continue
			}
			allowed = strings.ToLower(expanded)
		}
		switch {
		case email != "" && strings.EqualFold(email, allowed):
			return nil
		case strings.Contains(allowed, "@"):
			continue
		case strings.Contains(allowed, "*"):
			if r.AllowGlobDomains && matchLabels(allowed, name) {
				return nil
			}
		case name == allowed && r.AllowBareDomains:
			return nil
		case name == allowed:
			reasons = append(reasons, "allow_bare_domains is off")
		case strings.HasSuffix(base, "."+allowed) || wildcard && base == allowed:
			if r.AllowSubdomains {
				return nil
			}
			reasons = append(reasons, "allow_subdomains is off")
		}
	}
	if len(reasons) == 0 {
		reasons = []string{fmt.Sprintf("it is in none of %.200q", []string(r.AllowedDomains))}
	}
	return r.refuse("allowed_domains", shown, "%s", strings.Join(slices.Compact(reasons), "; "))
}

// matchLabels reports whether the name has the pattern's labels, in which "*" is any number of characters. A wildcard,
// as a name, matches only a label "*".
func matchLabels(pattern, name string) bool {
	want, got := strings.Split(pattern, "."), strings.Split(name, ".")
	if len(want) != len(got) {
		return false
	}
	for i := range want {
		if got[i] == "*" && want[i] != "*" || !glob(want[i], got[i]) {
			return false
		}
	}
	return true
}

// glob reports whether text is what pattern says, in which "*" is any number of any characters.
func glob(pattern, text string) bool {
	parts := strings.Split(pattern, "*")
	if len(parts) == 1 {
		return pattern == text
	}
	if !strings.HasPrefix(text, parts[0]) {
		return false
	}
	text = text[len(parts[0]):]
	for _, part := range parts[1 : len(parts)-1] {
		i := strings.Index(text, part)
		if i < 0 {
			return false
		}
		text = text[i+len(part):]
	}
	return strings.HasSuffix(text, parts[len(parts)-1])
}

// globURI is glob for URIs: what a "*" in the host of the pattern matches is part of a host, so that https://*.example.com/ is no
// path of another host. A pattern that ends with "*" in its host takes any path.
func globURI(pattern, text string) bool {
	host, path, ok := splitHost(pattern)
	if !ok {
		return glob(pattern, text)
	}
	got, rest, ok := splitHost(text)
	return ok && glob(host, got) && (path == "" && strings.HasSuffix(host, "*") || glob(path, rest))
}

// splitHost splits a URI behind its host; not ok says that it has none.
func splitHost(uri string) (host, rest string, ok bool) {
	i := strings.Index(uri, "://")
	if i < 0 {
		return uri, "", false
	}
	if j := strings.IndexAny(uri[i+3:], "/?#"); j >= 0 {
		return uri[:i+3+j], uri[i+3+j:], true
	}
	return uri, "", true
}

func globAny(patterns []string, text string) bool {
	return slices.ContainsFunc(patterns, func(p string) bool { return glob(p, text) })
}

func (r *Role) checkIP(ip net.IP) error {
	if !r.AllowIPSANs {
		return r.refuse("allow_ip_sans", ip.String(), "IP addresses are not allowed")
	}
	addr, ok := netip.AddrFromSlice(ip)
	if !ok {
		return r.refuse("allow_ip_sans", ip.String(), "it is no address")
	}
	addr = addr.Unmap()
	for _, text := range r.AllowedIPSANsCIDR {
		if p, err := netip.ParsePrefix(text); err == nil && p.Contains(addr) {
			return nil
		}
	}
	if len(r.AllowedIPSANsCIDR) == 0 {
		return nil
	}
	return r.refuse("allowed_ip_sans_cidr", addr.String(), "it is in none of %.200q", []string(r.AllowedIPSANsCIDR))
}

func (r *Role) checkURIName(uri *url.URL, identity map[string]string) error {
	text := uri.String()
	if problem := checkURI(uri); problem != "" {
		return r.refuse("names", text, "%s", problem)
	}
	var reasons []string
	for _, allowed := range r.AllowedURISANs {
		if r.AllowedURISANsTemplate {
			var err error
			if allowed, err = expand(allowed, identity, notInURI); err != nil {
				reasons = append(reasons, err.Error())
				continue
			}
		}
		if globURI(allowed, text) {
			return nil
		}
	}
	if len(reasons) == 0 {
		reasons = []string{fmt.Sprintf("it matches none of %.200q", []string(r.AllowedURISANs))}
	}
	return r.refuse("allowed_uri_sans", text, "%s", strings.Join(reasons, "; "))
}
