package azurekeyvault

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore/to"
	"github.com/Azure/azure-sdk-for-go/sdk/security/keyvault/azkeys"

	"github.com/managedkeys/managedkeys/backend"
)

// Generate implements [backend.Generator]. params must be of type [Params] and say all of what the key is to be.
//
// A vault makes a new version of a key that exists, and can't be told not to. Without Replace, Generate therefore looks
// first, makes a version that is tagged as pending, waits until a second has passed, and looks again: of programs that made
// the same key in that time, the first keeps its version, and the others disable theirs and get backend.ErrKeyExists. Open
// takes no pending version, so that it finds the same key meanwhile and after a crash; the next Generate cleans up. What
// remains: a program of another kind that asks the vault for the latest version can get one that is about to be disabled;
// and a version whose making the vault begins in one second and shows only in the one after the next is taken for another
// key. Generate takes a second at least, and needs the permissions keys/list, keys/create and keys/update. With Replace, it
// makes one request, and the old version stays: handles of it go on, and it can be opened by its version.
//
// A key that was deleted and can be recovered keeps its name: that is backend.ErrKeyExists, too, with or without Replace.
func (b *Backend) Generate(ctx context.Context, params backend.Params, opts *backend.GenerateOptions) (backend.Key, error) {
	p, err := backend.ParamsAs[Params](params)
	if err != nil {
		return nil, err
	}
	if err := p.complete(); err != nil {
		return nil, err
	}
	return b.create(ctx, "generate", p, opts != nil && opts.Replace, func(ctx context.Context, c *connection, tags map[string]*string) (azkeys.KeyBundle, error) {
		resp, err := c.client.CreateKey(ctx, p.KeyName, p.createParameters(tags), nil)
		return resp.KeyBundle, err
	})
}

// createParameters say what p, which is complete, describes.
func (p Params) createParameters(tags map[string]*string) azkeys.CreateKeyParameters {
	params := azkeys.CreateKeyParameters{Kty: to.Ptr(azkeys.KeyType(p.KeyType)), Tags: tags, KeyOps: p.operations()}
	switch {
	case p.KeyType.isEC():
		params.Curve = to.Ptr(curveInfos[p.Curve].name)
	case p.KeyType == OctHSM:
		params.KeySize = to.Ptr(int32(p.octBits()))
	default:
		params.KeySize = to.Ptr(int32(p.KeyBits))
	}
	return params
}

// octBits is the length of a symmetric key that is made.
func (p Params) octBits() int {
	if p.KeyBits == 0 {
		return 256
	}
	return p.KeyBits
}

// operations returns the key_ops of a key that is made.
func (p Params) operations() []*azkeys.KeyOperation {
	names := p.KeyType.ops()
	if p.KeyType == OctHSM {
		names = keyOps[2:]
	}
	if p.KeyOps != "" {
		names = p.ops()
	}
	ops := make([]*azkeys.KeyOperation, len(names))
	for i, name := range names {
		ops[i] = to.Ptr(azkeys.KeyOperation(name))
	}
	return ops
}

// maker makes a new version of a key with these tags.
type maker func(ctx context.Context, c *connection, tags map[string]*string) (azkeys.KeyBundle, error)

// create makes a key and opens it.
func (b *Backend) create(ctx context.Context, op string, p Params, replace bool, make maker) (backend.Key, error) {
	c, ctx, done, err := b.use(ctx, op, p)
	if err != nil {
		return nil, err
	}
	defer done()
	unlock, err := c.making.lock(ctx, p.KeyName)
	if err != nil {
		return nil, contextError(ctx, op)
	}
	defer unlock()
	state := "done "
	if !replace {
		state = "pending "
		if err := c.free(ctx, p.KeyName, b.settle); err != nil {
			return nil, err
		}
	}
	token := rand.Text()
	tags := map[string]*string{generationTag: to.Ptr(state + token)}
	if p.KeyType == OctHSM {
		tags[bitsTag] = to.Ptr(strconv.Itoa(p.octBits()))
	}
	d, err := c.make(ctx, p.KeyName, token, tags, make)
	if err != nil {
		return nil, err
	}
	if !replace {
		if err := c.first(ctx, op, d, b.settle); err != nil {
			return nil, err
		}
	}
	return b.handle(c, d, p)
}

// free returns an error that wraps ErrKeyExists if there is a key of that name. What generators that crashed have left of it
// is cleaned up as far as the permissions allow it.
func (c *connection) free(ctx context.Context, name string, settle time.Duration) error {
	all, err := c.versions(ctx, name)
	if err != nil || len(all) == 0 {
		return err
	}
	if !inMaking(all, time.Now(), settle) {
		for i, v := range all {
			if pending(v.tags) && time.Since(v.created) > 2*settle+2*time.Second {
				_ = c.finish(ctx, name, v, i == 0) // whoever is next tries again
			}
		}
	}
	return fmt.Errorf("azurekeyvault: key %q has %d versions: %w", c.id(kid{name: name}), len(all), backend.ErrKeyExists)
}

// make makes a version and describes it. If the answer is lost, it looks for the version by its token.
func (c *connection) make(ctx context.Context, name, token string, tags map[string]*string, make maker) (description, error) {
	d, err := call(ctx, c, operation{name: "CreateKey", once: true}, func(ctx context.Context) (description, error) {
		bundle, err := make(ctx, c, tags)
		if err != nil {
			return description{}, err
		}
		return c.describe(bundle, name, "")
	})
	lost := errors.Is(err, backend.ErrUnavailable) || errors.Is(err, backend.ErrIntegrity)
	if err == nil || !lost || ctx.Err() != nil {
		return d, err
	}
	all, listErr := c.versions(ctx, name)
	for _, v := range all {
		if tokenOf(v.tags) == token {
			return c.get(ctx, name, v.id)
		}
	}
	if listErr != nil {
		return description{}, fmt.Errorf("%w; whether it was made is unknown: %w", err, listErr)
	}
	return description{}, err
}

// first waits until nobody can come before the version d any more, and settles who was first. The error wraps ErrKeyExists
// if that was another.
func (c *connection) first(ctx context.Context, op string, d description, settle time.Duration) error {
	left := func(err error) error {
		return fmt.Errorf("azurekeyvault: %s: key %q was made, and whether it was the first of its name is not known yet; opening it will tell: %w", op, d.id, err)
	}
	if pause(ctx, settle) != nil {
		return left(contextError(ctx, op))
	}
	all, err := c.versions(ctx, d.name)
	if err != nil {
		return left(err)
	}
	mine := version{id: d.version, tags: d.tags}
	if len(all) == 0 || all[0].id == mine.id {
		_ = c.finish(ctx, d.name, mine, true) // if that is not permitted, opening the key takes more requests
		return nil
	}
	err = fmt.Errorf("azurekeyvault: key %q was made by another program at the same time: %w", c.id(kid{d.name, all[0].id}), backend.ErrKeyExists)
	if failed := c.finish(ctx, d.name, mine, false); failed != nil {
		return fmt.Errorf("%w; its version %s is of no use and could not be disabled: %w", err, mine.id, failed)
	}
	return err
}
