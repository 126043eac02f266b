package awskms

import (
	"strings"

	"github.com/managedkeys/managedkeys/backend"
)

// ParseURI implements backend.URIParser: it takes the ARN of a key or of an alias, in any partition. scope is a [Params] or
// nil; it gives Endpoint and credentials. A scope of another Region is refused.
func (b *Backend) ParseURI(uri string, scope backend.Params) (backend.Params, error) {
	if !strings.HasPrefix(uri, "arn:") {
		return nil, invalid("URI", "got %.80q; it takes an ARN, such as arn:aws:kms:eu-central-1:111122223333:key/…", uri)
	}
	id, err := parseARN(uri)
	if err != nil {
		return nil, err
	}
	p := Params{KMSKey: uri}
	if scope == nil {
		return p, nil
	}
	s, err := scopeOf(scope)
	if err != nil {
		return nil, err
	}
	if s.Region != "" && s.Region != id.region {
		return nil, invalid("URI", "is an ARN of %s, but the scope is of %s", id.region, s.Region)
	}
	p.Endpoint, p.AccessKey, p.SecretKey, p.SessionToken = s.Endpoint, s.AccessKey, s.SecretKey, s.SessionToken
	return p, nil
}

// Matches implements backend.Matcher: a backend of [New] has keys of one Region, and takes neither endpoint nor credentials.
func (b *Backend) Matches(params backend.Params) error {
	p, err := backend.ParamsAs[Params](params)
	if err != nil || b.fixed == nil {
		return err
	}
	return b.fixed.agrees(p)
}

// agrees returns an error if p asks for another connection than c, which the program configured.
func (c *conn) agrees(p Params) error {
	switch region := p.region(); {
	case region != "" && region != c.region:
		return invalid("region", "got %s, but the backend was made with a configuration of %s", region, c.region)
	case p.Endpoint != "":
		return invalid("endpoint", "is given, but the backend was made with a configuration of its own; leave it out")
	case p.AccessKey != "":
		return invalid("access_key", "is given, but the backend was made with a configuration of its own; leave it out")
	}
	return nil
}

// region returns the Region that p names, or "".
func (p Params) region() string {
	if id, err := parseIdentifier(p.KMSKey); err == nil && id.region != "" {
		return id.region
	}
	return p.Region
}
