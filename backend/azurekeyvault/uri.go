package azurekeyvault

import (
	"fmt"
	"strings"

	"github.com/managedkeys/managedkeys/backend"
)

// maxURI is the longest key identifier that is read, in bytes.
const maxURI = 1000

// parseURI returns the base URL of a vault and what of it a key identifier names: "https://HOST/keys/NAME" and then "/VERSION"
// or nothing. The host is in lower case; there is nothing in a URI that would have to be encoded.
func parseURI(uri string) (vault string, key kid, err error) {
	refuse := func() (string, kid, error) {
		shown := uri
		if strings.ContainsAny(uri, "@?#") { // somebody may have put a secret there
			shown = backend.Redacted
		}
		return "", kid{}, invalid("URI", "got %.200q; it takes https://VAULT.DOMAIN/keys/NAME, and then /VERSION or nothing", shown)
	}
	rest, ok := strings.CutPrefix(uri, "https://")
	parts := strings.Split(rest, "/")
	if !ok || len(uri) > maxURI || len(parts) < 3 || len(parts) > 4 || parts[1] != "keys" || !keyNames.MatchString(parts[2]) {
		return refuse()
	}
	key.name = parts[2]
	if len(parts) == 4 {
		if key.version = parts[3]; !keyVersions.MatchString(key.version) {
			return refuse()
		}
	}
	u, err := parseVaultURL("https://" + parts[0])
	if err != nil || u.Host != strings.ToLower(parts[0]) {
		return refuse()
	}
	return u.String(), key, nil
}

// ParseURI implements [backend.URIParser]: it takes the identifier of a key, with its version or without. scope is a [Params] or
// nil; it gives Environment and the credential.
//
// A backend of [New] takes identifiers of its own vault only, at whatever host and port that is. One of [Connect] takes those
// of vaults and Managed HSMs in Azure's clouds, or in the domain that scope has as its Resource: the domain decides where
// tokens are sent, and a URI alone must not. A scope of another vault is refused.
func (b *Backend) ParseURI(uri string, scope backend.Params) (backend.Params, error) {
	s, ok := scope.(Params)
	if !ok && scope != nil {
		return nil, fmt.Errorf("azurekeyvault: scope is %T, want %T: %w", scope, s, backend.ErrInvalidParams)
	}
	if err := s.validateScope(); err != nil {
		return nil, err
	}
	vault, key, err := parseURI(uri)
	if err != nil {
		return nil, err
	}
	p := Params{
		KeyName: key.name, KeyVersion: key.version, Environment: s.Environment,
		TenantID: s.TenantID, ClientID: s.ClientID, ClientSecret: s.ClientSecret,
	}
	if b.single != nil {
		if vault != b.single.url {
			return nil, invalid("URI", "is of the vault %s, but this backend is for %s", vault, b.single.url)
		}
		return p, nil
	}
	name, domain, _ := strings.Cut(strings.TrimPrefix(vault, "https://"), ".")
	known := false
	for _, e := range environments {
		known = known || domain == e.vault || domain == e.hsm
	}
	if s.Resource != "" {
		at, _ := s.place(noEnv) // was validated
		if known = domain == at.resource; !known {
			return nil, invalid("URI", "is of the domain %s, but the scope is of %s", domain, at.resource)
		}
	}
	switch {
	case !known:
		return nil, invalid("URI", "is of the domain %s, which is none of Azure's; a scope with that resource admits it", domain)
	case s.VaultName != "" && !strings.EqualFold(s.VaultName, name):
		return nil, invalid("URI", "is of the vault %s, but the scope is of %s", name, s.VaultName)
	}
	p.VaultName, p.Resource = name, domain
	if err := p.Validate(); err != nil {
		return nil, err
	}
	return p, nil
}

// Matches implements [backend.Matcher]: a backend of [New] has keys of one vault.
func (b *Backend) Matches(params backend.Params) error {
	p, err := backend.ParamsAs[Params](params)
	if err != nil || b.single == nil {
		return err
	}
	return b.single.agrees(p)
}

var (
	_ backend.ParamsDecoder = (*Backend)(nil)
	_ backend.URIParser     = (*Backend)(nil)
	_ backend.Matcher       = (*Backend)(nil)
)
