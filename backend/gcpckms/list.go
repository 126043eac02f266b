package gcpckms

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"strconv"
	"strings"

	"cloud.google.com/go/kms/apiv1/kmspb"
	"google.golang.org/api/iterator"

	"github.com/managedkeys/managedkeys/backend"
	"github.com/managedkeys/managedkeys/backend/remote"
)

// List implements [backend.Lister]. It yields the enabled versions of all keys of the key ring that scope names, by the id of
// the key and the number of the version, while it reads the list page by page: one call for each hundred keys, and one for
// each hundred versions of a key. Changes that are made meanwhile may be seen or not. Of scope, only Credentials, Project,
// Region and KeyRing are looked at. It takes the permissions cloudkms.cryptoKeys.list and cloudkms.cryptoKeyVersions.list.
func (b *Backend) List(ctx context.Context, scope backend.Params) iter.Seq2[backend.KeyInfo, error] {
	return func(yield func(backend.KeyInfo, error) bool) {
		for info, err := range b.list(ctx, scope) {
			if !yield(info, err) || err != nil {
				return
			}
		}
	}
}

func (b *Backend) list(ctx context.Context, scope backend.Params) iter.Seq2[backend.KeyInfo, error] {
	return func(yield func(backend.KeyInfo, error) bool) {
		fail := func(err error) { yield(backend.KeyInfo{}, err) }
		p, ok := scope.(Params)
		if !ok {
			fail(fmt.Errorf("gcpckms: list: scope is %T, want %T: %w", scope, p, backend.ErrInvalidParams))
			return
		}
		if err := p.validateRing(); err != nil {
			fail(err)
			return
		}
		p = p.complete()
		// The gate is held during calls only: the caller's loop may do what it likes, and take its time.
		conn, err := gated(ctx, b, func(ctx context.Context) (*conn, error) { return b.connect(ctx, p) })
		if err != nil {
			fail(err)
			return
		}
		for key, err := range keysOf(ctx, b, conn, p.ring()) {
			if err != nil {
				fail(err)
				return
			}
			for v, err := range versionsOf(ctx, b, conn, key) {
				if err != nil {
					fail(err)
					return
				}
				if v.State == kmspb.CryptoKeyVersion_ENABLED && !yield(info(p, v), nil) {
					return
				}
			}
		}
	}
}

// info returns what the list says of a version.
func info(p Params, v *kmspb.CryptoKeyVersion) backend.KeyInfo {
	key := parent(v.Name)
	p.CryptoKey = key[strings.LastIndexByte(key, '/')+1:]
	p.CryptoKeyVersion = Version(strconv.Itoa(number(v.Name)))
	p.Algorithm, p.ProtectionLevel = "", ""
	info := backend.KeyInfo{ID: v.Name, Label: p.CryptoKey, URI: v.Name}
	if a := byNumber[v.Algorithm]; a != nil {
		info.Algorithm, p.Algorithm = a.describe(), a.name
		info.Usages = description{alg: a}.capabilities().Usages
	}
	info.Params = p
	return info
}

// keysOf yields the names of the keys of a key ring.
func keysOf(ctx context.Context, b *Backend, c *conn, ring string) iter.Seq2[string, error] {
	list := func(ctx context.Context, token string) lister[*kmspb.CryptoKey] {
		return c.client.ListCryptoKeys(ctx, &kmspb.ListCryptoKeysRequest{Parent: ring, PageToken: token}, once)
	}
	return func(yield func(string, error) bool) {
		for key, err := range items(ctx, b, c, "ListCryptoKeys", list) {
			if err == nil {
				under, _, _ := strings.Cut(key.GetName(), "/cryptoKeys/")
				err = within(ring, under, key.GetName())
			}
			if !yield(key.GetName(), err) {
				return
			}
		}
	}
}

// versionsOf yields the versions of a key, whatever their state.
func versionsOf(ctx context.Context, b *Backend, c *conn, key string) iter.Seq2[*kmspb.CryptoKeyVersion, error] {
	list := func(ctx context.Context, token string) lister[*kmspb.CryptoKeyVersion] {
		return c.client.ListCryptoKeyVersions(ctx, &kmspb.ListCryptoKeyVersionsRequest{Parent: key, PageToken: token}, once)
	}
	return func(yield func(*kmspb.CryptoKeyVersion, error) bool) {
		for v, err := range items(ctx, b, c, "ListCryptoKeyVersions", list) {
			if err == nil {
				err = within(key, parent(v.GetName()), v.GetName())
			}
			if err == nil && number(v.GetName()) == 0 {
				err = fmt.Errorf("gcpckms: a version of key %q has the name %.200q: %w", key, v.GetName(), backend.ErrIntegrity)
			}
			if !yield(v, err) {
				return
			}
		}
	}
}

// within returns an error if a list of what is under asked has the name of something that is under got.
func within(asked, got, name string) error {
	if sameResource(asked, got) {
		return nil
	}
	return fmt.Errorf("gcpckms: the list of %q has %.200q: %w", asked, name, backend.ErrIntegrity)
}

// lister is an iterator of Google's SDK.
type lister[T any] interface {
	Next() (T, error)
	PageInfo() *iterator.PageInfo
}

// items yields what a list has, one call for each page.
func items[T any](ctx context.Context, b *Backend, c *conn, op string, list func(ctx context.Context, token string) lister[T]) iter.Seq2[T, error] {
	return func(yield func(T, error) bool) {
		var none T
		for token := ""; ; {
			type page struct {
				items []T
				next  string
			}
			p, err := gated(ctx, b, func(ctx context.Context) (page, error) {
				return call(ctx, c, remote.Call{Op: op}, func(ctx context.Context) (page, error) {
					items, next, err := readPage(list(ctx, token))
					return page{items, next}, err
				})
			})
			if err == nil && p.next == token && token != "" {
				err = fmt.Errorf("gcpckms: %s: the next page is the same again: %w", op, backend.ErrIntegrity)
			}
			if err != nil {
				yield(none, err)
				return
			}
			for _, item := range p.items {
				if !yield(item, nil) {
					return
				}
			}
			if token = p.next; token == "" {
				return
			}
		}
	}
}

// readPage returns one page of a list. The SDK's iterators fetch a page when they have nothing left.
func readPage[T any](l lister[T]) ([]T, string, error) {
	var all []T
	for {
		item, err := l.Next()
		if errors.Is(err, iterator.Done) {
			return all, "", nil
		}
		if err != nil {
			return nil, "", err
		}
		all = append(all, item)
		if l.PageInfo().Remaining() == 0 {
			return all, l.PageInfo().Token, nil
		}
	}
}

// gated calls fn as one call in flight, bounded by the call timeout.
func gated[T any](ctx context.Context, b *Backend, fn func(context.Context) (T, error)) (T, error) {
	var none T
	ctx, leave, err := b.enter(ctx, "list", b.remote.CallTimeout)
	if err != nil {
		return none, err
	}
	defer leave()
	return fn(ctx)
}

// remember keeps how a key was opened, for Ping.
func (c *conn) remember(d description) {
	probe := func(ctx context.Context) error {
		if d.public == nil {
			_, err := c.version(ctx, d.name)
			return err
		}
		_, err := c.publicKey(ctx, d.name, d.alg.format())
		return err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.probe = probe
}

// Ping implements [backend.Pinger]. On each connection it makes the call again with which the key was opened that was opened
// last, and takes the service's word that there is no such key any more, or that it is disabled, for a sign of life.
func (b *Backend) Ping(ctx context.Context) error {
	ctx, leave, err := b.enter(ctx, "ping", b.remote.CallTimeout)
	if err != nil {
		return err
	}
	defer leave()
	conns := []*conn{b.given}
	if b.conns != nil {
		conns = b.conns.Clients()
	}
	var errs []error
	for _, c := range conns {
		c.mu.Lock()
		probe := c.probe
		c.mu.Unlock()
		if probe == nil {
			continue
		}
		if err := probe(ctx); err != nil && !alive(err) {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

// alive reports whether an error is an answer of a service that is in order.
func alive(err error) bool {
	for _, s := range []error{backend.ErrKeyNotFound, backend.ErrKeyDisabled, backend.ErrNotPermitted} {
		if errors.Is(err, s) {
			return true
		}
	}
	return false
}
