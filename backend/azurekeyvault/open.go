package azurekeyvault

import (
	"context"
	"crypto"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/security/keyvault/azkeys"

	"github.com/managedkeys/managedkeys/backend"
)

// Open implements [backend.Backend]. params must be of type [Params].
//
// It makes one request, and then the version of the key is fixed: a key that is rotated in the vault is another key, which
// opening again without KeyVersion finds. If the newest version is disabled, expired or not yet valid, or still being made,
// it lists the versions and takes the newest that can be used.
//
// An expired key is refused, although the service still decrypts with it: move its expiry date for that.
func (b *Backend) Open(ctx context.Context, params backend.Params) (backend.Key, error) {
	p, err := backend.ParamsAs[Params](params)
	if err != nil {
		return nil, err
	}
	c, ctx, done, err := b.use(ctx, "open", p)
	if err != nil {
		return nil, err
	}
	defer done()
	d, err := c.find(ctx, p.KeyName, p.KeyVersion, b.settle)
	if err != nil {
		return nil, err
	}
	if err := d.usable(time.Now()); err != nil {
		return nil, err
	}
	return b.handle(c, d, p)
}

// description is what the vault says of one version of a key.
type description struct {
	kid
	id     string
	kind   Params // key type, size and curve; nothing else
	public crypto.PublicKey
	ops    []string
	tags   map[string]*string
	attrs  azkeys.KeyAttributes
}

// describe reads the answer to a request about a key, of the version if that is not empty.
func (c *connection) describe(bundle azkeys.KeyBundle, name, version string) (description, error) {
	if bundle.Key == nil {
		return description{}, integrity("the answer has no key")
	}
	if err := checkKID(bundle.Key.KID, name, version); err != nil {
		return description{}, err
	}
	at, err := parseKID(bundle.Key.KID)
	if err != nil {
		return description{}, err
	}
	d := description{kid: at, id: c.id(at), tags: bundle.Tags}
	if d.public, d.kind, err = publicKey(bundle.Key); err != nil {
		return description{}, fmt.Errorf("key %q: %w", d.id, err)
	}
	if d.kind.KeyType == OctHSM {
		// The service doesn't say how long a symmetric key is, but those that this package made have a tag.
		if bits := d.tags[bitsTag]; bits != nil {
			if n, err := strconv.Atoi(*bits); err == nil && slices.Contains(OctHSM.sizes(), n) {
				d.kind.KeyBits = n
			}
		}
	}
	for _, op := range bundle.Key.KeyOps {
		if op != nil {
			d.ops = append(d.ops, string(*op))
		}
	}
	if bundle.Attributes != nil {
		d.attrs = *bundle.Attributes
	}
	return d, nil
}

// get asks for one version of a key, the latest if version is empty.
func (c *connection) get(ctx context.Context, name, version string) (description, error) {
	return call(ctx, c, operation{name: "GetKey"}, func(ctx context.Context) (description, error) {
		resp, err := c.client.GetKey(ctx, name, version, nil)
		if err != nil {
			return description{}, err
		}
		return c.describe(resp.KeyBundle, name, version)
	})
}

// find returns the version of a key that Open takes.
func (c *connection) find(ctx context.Context, name, version string, settle time.Duration) (description, error) {
	d, err := c.get(ctx, name, version)
	if err != nil {
		return description{}, err
	}
	if version != "" || d.usable(time.Now()) == nil && !pending(d.tags) {
		return d, nil
	}
	chosen, err := c.choose(ctx, name, settle)
	if err != nil {
		return description{}, err
	}
	if chosen == d.version {
		return d, nil
	}
	return c.get(ctx, name, chosen)
}

// usable returns an error unless the key may be used now.
func (d description) usable(now time.Time) error { return usable(d.id, &d.attrs, now) }

// usable returns an error unless a key with these attributes may be used now.
func usable(id string, attrs *azkeys.KeyAttributes, now time.Time) error {
	disabled := func(format string, args ...any) error {
		return fmt.Errorf("azurekeyvault: key %q %s: %w", id, fmt.Sprintf(format, args...), backend.ErrKeyDisabled)
	}
	switch {
	case attrs == nil:
		return nil
	case attrs.Enabled != nil && !*attrs.Enabled:
		return disabled("is disabled")
	case attrs.Expires != nil && !attrs.Expires.After(now):
		return disabled("expired at %s", attrs.Expires.UTC().Format(time.RFC3339))
	case attrs.NotBefore != nil && attrs.NotBefore.After(now):
		return disabled("is not valid before %s", attrs.NotBefore.UTC().Format(time.RFC3339))
	}
	return nil
}

// match returns an error unless everything that p says of a key is true of d.
func (p Params) match(d description) error {
	differ := func(field string, got, has any) error {
		return invalid(field, "got %v, but key %q has %v", got, d.id, has)
	}
	switch has := d.kind; {
	case p.KeyType != "" && p.KeyType != has.KeyType:
		return differ("key_type", p.KeyType, has.KeyType)
	case p.KeyBits != 0 && has.KeyBits != 0 && p.KeyBits != has.KeyBits:
		return differ("key_bits", p.KeyBits, has.KeyBits)
	case p.Curve != "" && p.Curve != has.Curve:
		return differ("curve", p.Curve, has.Curve)
	}
	return nil
}

// opList returns key_ops for people.
func opList(ops []string) string {
	if len(ops) == 0 {
		return "none"
	}
	return strings.Join(ops, ",")
}
