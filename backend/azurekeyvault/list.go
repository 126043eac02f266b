package azurekeyvault

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/security/keyvault/azkeys"

	"github.com/managedkeys/managedkeys/backend"
)

// List implements [backend.Lister]. It yields the keys of the vault in the order in which the service lists them, each as
// [Backend.Open] would find it without KeyVersion. scope says which vault; it may be nil where [New] was told.
//
// A page is one request, and each key another. A key that nothing can be used of is listed with its newest version, and a
// key of a kind that this library doesn't know, or that was deleted meanwhile, is left out. Keys that belong to
// certificates are listed, too.
func (b *Backend) List(ctx context.Context, scope backend.Params) iter.Seq2[backend.KeyInfo, error] {
	return func(yield func(backend.KeyInfo, error) bool) {
		p, ok := scope.(Params)
		var err error
		if !ok && scope != nil {
			err = fmt.Errorf("azurekeyvault: list: scope is %T, want %T: %w", scope, p, backend.ErrInvalidParams)
		} else if err = p.validateScope(); err == nil {
			err = b.list(ctx, p, yield)
		}
		if err != nil && !errors.Is(err, errStopped) {
			yield(backend.KeyInfo{}, err)
		}
	}
}

// errStopped says that the caller wants no more keys.
var errStopped = errors.New("stopped")

// list calls yield with each key. No call is counted in while it does, since the caller may then call any method.
func (b *Backend) list(ctx context.Context, p Params, yield func(backend.KeyInfo, error) bool) error {
	c, _, done, err := b.use(ctx, "list", p)
	if err != nil {
		return err
	}
	done()
	pager := c.client.NewListKeyPropertiesPager(nil)
	links := c.links()
	for pager.More() {
		page, err := b.page(ctx, c, p, pager.NextPage)
		if err != nil {
			return err
		}
		// The keys of this page are good; whether there is a next one is seen after them.
		next := links.check(page.NextLink)
		for _, item := range page.Value {
			info, listed, err := b.info(ctx, p, item)
			if err != nil {
				return err
			}
			if listed && !yield(info, nil) {
				return errStopped
			}
		}
		if next != nil {
			return fmt.Errorf("azurekeyvault: list: %w", next)
		}
	}
	return nil
}

// page asks for the next page of the list.
func (b *Backend) page(ctx context.Context, c *connection, p Params, next func(context.Context) (azkeys.ListKeyPropertiesResponse, error)) (azkeys.ListKeyPropertiesResponse, error) {
	_, ctx, done, err := b.use(ctx, "list", p)
	if err != nil {
		return azkeys.ListKeyPropertiesResponse{}, err
	}
	defer done()
	return call(ctx, c, operation{name: "ListKeyProperties"}, next)
}

// info looks at one key of the list, and reports whether it is to be listed.
func (b *Backend) info(ctx context.Context, p Params, item *azkeys.KeyProperties) (backend.KeyInfo, bool, error) {
	c, ctx, done, err := b.use(ctx, "list", p)
	if err != nil || item == nil {
		return backend.KeyInfo{}, false, err
	}
	defer done()
	at, err := parseKID(item.KID)
	if err != nil {
		return backend.KeyInfo{}, false, fmt.Errorf("azurekeyvault: ListKeyProperties: %w", err)
	}
	d, err := c.find(ctx, at.name, "", b.settle)
	switch {
	case errors.Is(err, backend.ErrKeyNotFound), errors.Is(err, backend.ErrUnsupported):
		return backend.KeyInfo{}, false, nil
	case errors.Is(err, backend.ErrKeyDisabled), errors.Is(err, backend.ErrAmbiguousKey):
		d, err = c.newest(ctx, at.name)
	}
	if err != nil || d.version == "" {
		return backend.KeyInfo{}, false, err
	}
	params := p
	params.KeyName, params.KeyVersion, params.KeyOps = d.name, d.version, ""
	params.KeyType, params.KeyBits, params.Curve = d.kind.KeyType, d.kind.KeyBits, d.kind.Curve
	info := backend.KeyInfo{ID: d.id, Label: d.name, URI: d.id, Params: params}
	if d.kind.KeyType != "" && (d.kind.KeyType != OctHSM || d.kind.KeyBits != 0) {
		caps := d.capabilities(c.hsm)
		info.Algorithm, info.Usages = caps.Algorithm, caps.Usages
	}
	return info, true, nil
}

// newest describes the newest version of a key that can't be read as far as a list of versions does; without a version if
// there is none.
func (c *connection) newest(ctx context.Context, name string) (description, error) {
	all, err := c.versions(ctx, name)
	if err != nil || len(all) == 0 {
		return description{}, err
	}
	at := kid{name, all[len(all)-1].id}
	return description{kid: at, id: c.id(at)}, nil
}

// pingName is a key that no vault need have.
const pingName = "managedkeys-ping"

// Ping implements [backend.Pinger]: it asks each vault that is connected for a key that need not exist. A vault that knows
// who asks is in order, whether or not it lets them read keys.
func (b *Backend) Ping(ctx context.Context) error {
	if ctx.Err() != nil {
		return contextError(ctx, "ping")
	}
	if err := b.gate.Enter(); err != nil {
		return err
	}
	defer b.gate.Leave()
	connections := []*connection{b.single}
	if b.single == nil {
		connections = b.shared.Clients()
	}
	var errs []error
	for _, c := range connections {
		if err := c.ping(ctx); err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", c.url, err))
		}
	}
	return errors.Join(errs...)
}

func (c *connection) ping(ctx context.Context) error {
	ctx, cancel := c.bounded(ctx)
	defer cancel()
	_, err := call(ctx, c, operation{name: "GetKey"}, func(ctx context.Context) (time.Time, error) {
		_, err := c.client.GetKey(ctx, pingName, "", nil)
		return time.Time{}, err
	})
	switch {
	case errors.Is(err, backend.ErrKeyNotFound), errors.Is(err, backend.ErrKeyDisabled):
		return nil
	case errors.Is(err, backend.ErrNotPermitted):
		var s *serviceError
		if errors.As(err, &s) && !s.firewall() {
			return nil
		}
		return fmt.Errorf("%w: %w", backend.ErrUnavailable, err)
	}
	return err
}
