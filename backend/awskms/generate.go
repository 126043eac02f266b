package awskms

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/aws/aws-sdk-go-v2/service/kms/types"
	"github.com/google/uuid"

	"github.com/managedkeys/managedkeys/backend"
	"github.com/managedkeys/managedkeys/backend/remote"
)

// Generate implements backend.Generator. KMSKey of params must be an alias (or the ARN of one), and KeyType and what it has
// of KeyBits, Curve and ParameterSet must be given. The key is made first and then gets the alias, so that nobody sees it
// before it is complete. It has the tags managedkeys:alias and managedkeys:token beside those of [Options], and a
// description that says when it is complete.
//
// If the program stops in between, a key without an alias is left. The next Generate for the alias finds it, and completes
// it if it is of the kind that is wanted, or else has it deleted; see also [Backend.RemoveOrphans]. To find it, that takes a
// request for each key of the Region that has no alias: where there are thousands, ctx needs a later deadline than the usual
// call timeout.
//
// With Replace, the alias is moved to a new key. The old one stays what it was, with its ARN: what it encrypted needs it, and
// deleting a key is for people to decide. The service moves aliases between keys of the same usage only.
func (b *Backend) Generate(ctx context.Context, params backend.Params, opts *backend.GenerateOptions) (backend.Key, error) {
	p, err := backend.ParamsAs[Params](params)
	if err != nil {
		return nil, err
	}
	return b.create(ctx, p, creation{replace: opts != nil && opts.Replace})
}

// creation is a key that is being made.
type creation struct {
	params   Params
	alias    string
	account  string // "" means that of the credentials
	spec     spec
	usage    string
	token    string
	replace  bool
	material *material // nil unless it is imported
}

// create makes the key that p describes and opens it.
func (b *Backend) create(ctx context.Context, p Params, n creation) (backend.Key, error) {
	id, err := parseIdentifier(p.KMSKey)
	if err != nil {
		return nil, err
	}
	switch {
	case id.alias == "":
		return nil, invalid("kms_key", "got %.80q; to make a key it takes alias/NAME", p.KMSKey)
	case strings.HasPrefix(id.alias, "alias/aws/"):
		return nil, invalid("kms_key", "got %.80q; aliases that begin with alias/aws/ are the service's own", id.alias)
	}
	n.params, n.alias, n.account, n.token = p, id.alias, id.account, uuid.NewString()
	if n.spec, n.usage, err = p.specFor(); err != nil {
		return nil, err
	}
	return within(ctx, b, "make key "+n.alias, func(ctx context.Context) (backend.Key, error) {
		c, err := b.connection(ctx, p)
		if err != nil {
			return nil, err
		}
		leave, err := b.alone(ctx, c, n.alias)
		if err != nil {
			return nil, err
		}
		defer leave()
		arn, err := c.create(ctx, &b.opts, n)
		if err != nil {
			return nil, fmt.Errorf("awskms: make key %q: %w", n.alias, err)
		}
		p.KMSKey = arn
		return b.open(ctx, c, p)
	})
}

// alone waits until no other caller in this process makes a key with the alias. leave must be called.
func (b *Backend) alone(ctx context.Context, c *conn, alias string) (leave func(), err error) {
	made, _ := b.making.LoadOrStore(c.region+" "+alias, make(chan struct{}, 1))
	turn := made.(chan struct{})
	select {
	case turn <- struct{}{}:
		return func() { <-turn }, nil
	case <-ctx.Done():
		return nil, fmt.Errorf("awskms: make key %q: %w", alias, backend.ContextError(ctx))
	}
}

// create makes a key with its alias and returns its ARN.
func (c *conn) create(ctx context.Context, o *Options, n creation) (string, error) {
	old, err := c.describe(ctx, n.alias)
	exists := err == nil
	if exists && old.isMaking() && (n.replace || old.KeyState == types.KeyStateEnabled) {
		// The last step was not done. If the alias moves away before it is, the key looks like an orphan.
		if err := c.complete(ctx, old.id.String(), n.alias); err != nil {
			return "", err
		}
	}
	switch {
	case exists && !n.replace:
		return "", fmt.Errorf("it is %s: %w", old.id, backend.ErrKeyExists)
	case exists && string(old.KeyUsage) != n.usage:
		return "", fmt.Errorf("the alias is of a key for %s and can't be moved to one for %s: %w", old.KeyUsage, n.usage, backend.ErrInvalidParams)
	case exists && old.spec.symmetric() != n.spec.symmetric():
		return "", fmt.Errorf("the alias is of a %s key and can't be moved to a %s key: %w", old.KeySpec, n.spec.name, backend.ErrInvalidParams)
	case err != nil && !errors.Is(err, backend.ErrKeyNotFound):
		return "", err
	}
	arn, err := c.recover(ctx, n)
	if err == nil && arn == "" {
		arn, err = c.createKey(ctx, o, n)
	}
	if err != nil {
		return "", err
	}
	if id, err := parseIdentifier(arn); err == nil && n.account != "" && id.account != n.account {
		return "", c.abandon(ctx, arn, invalid("kms_key", "the ARN is of the account %s, and the credentials are of %s", n.account, id.account))
	}
	if n.material != nil {
		if err := c.importMaterial(ctx, arn, n); err != nil {
			return "", c.abandon(ctx, arn, err)
		}
	}
	if err := c.alias(ctx, n, arn, exists); err != nil {
		return "", err
	}
	return arn, c.complete(ctx, arn, n.alias)
}

// recover looks for orphans of the alias. It returns one that is what is wanted, or "", and removes the others if they are
// old enough. An import never goes on with one: its key material may be another's.
func (c *conn) recover(ctx context.Context, n creation) (string, error) {
	found, err := c.orphans(ctx, n.alias)
	if err != nil {
		return "", err
	}
	use := ""
	for _, o := range found {
		fits := n.material == nil && o.Origin == types.OriginTypeAwsKms && o.KeyState == types.KeyStateEnabled &&
			o.spec.name == n.spec.name && string(o.KeyUsage) == n.usage && aws.ToBool(o.MultiRegion) == n.params.MultiRegion
		switch {
		case fits && use == "":
			use = o.id.String()
		case time.Since(o.since()) >= patience:
			if err := c.remove(ctx, o.id.String()); err != nil {
				return "", err
			}
		}
	}
	return use, nil
}

// createKey makes a key without an alias. If it isn't known whether that was done, it looks.
func (c *conn) createKey(ctx context.Context, o *Options, n creation) (string, error) {
	in := &kms.CreateKeyInput{
		KeySpec: n.spec.name, KeyUsage: types.KeyUsageType(n.usage), MultiRegion: &n.params.MultiRegion,
		Description: aws.String(making + n.alias), Tags: o.tags(n.alias, n.token), Origin: types.OriginTypeAwsKms,
	}
	if n.material != nil {
		in.Origin = types.OriginTypeExternal
	}
	if o.KeyPolicy != "" {
		in.Policy = &o.KeyPolicy
	}
	var arn string
	_, err := call(ctx, c, remote.Call{Op: "CreateKey", Once: true}, (*kms.Client).CreateKey, in, func(out *kms.CreateKeyOutput) error {
		if out.KeyMetadata == nil {
			return damaged("has no metadata")
		}
		d, err := newDescribed(out.KeyMetadata, c.region, "")
		if err != nil {
			return err
		}
		if d.KeySpec != n.spec.name || string(d.KeyUsage) != n.usage {
			return damaged("is of a %s key for %s, and %s for %s was asked for", d.KeySpec, d.KeyUsage, n.spec.name, n.usage)
		}
		arn = d.id.String()
		return nil
	})
	if err == nil || !errors.Is(err, backend.ErrUnavailable) && !errors.Is(err, backend.ErrIntegrity) {
		return arn, err
	}
	found, lookErr := c.orphans(ctx, n.alias)
	for _, o := range found {
		if o.token == n.token {
			return o.id.String(), nil
		}
	}
	return "", errors.Join(err, lookErr)
}

// alias gives the key its alias. If another program was faster, the key is removed and the error wraps
// backend.ErrKeyExists.
func (c *conn) alias(ctx context.Context, n creation, arn string, exists bool) error {
	var err error
	if exists {
		_, err = call(ctx, c, remote.Call{Op: "UpdateAlias"}, (*kms.Client).UpdateAlias, &kms.UpdateAliasInput{AliasName: &n.alias, TargetKeyId: &arn}, nil)
	} else {
		_, err = call(ctx, c, remote.Call{Op: "CreateAlias"}, (*kms.Client).CreateAlias, &kms.CreateAliasInput{AliasName: &n.alias, TargetKeyId: &arn}, nil)
	}
	if err == nil {
		return nil
	}
	if errors.Is(err, backend.ErrKeyExists) {
		// It may be this very key: an attempt before whose answer was lost, or another program that found it.
		d, lookErr := c.describe(ctx, n.alias)
		if lookErr == nil && d.id.String() == arn {
			return nil
		}
		if lookErr != nil {
			return errors.Join(err, lookErr)
		}
	}
	if isDefinite(err) {
		return c.abandon(ctx, arn, err)
	}
	return err // what the service did is unknown: the next Generate finds out
}

// isDefinite reports whether err says that the service did nothing.
func isDefinite(err error) bool {
	return !errors.Is(err, backend.ErrUnavailable) && !errors.Is(err, backend.ErrIntegrity) && !errors.Is(err, context.Canceled)
}

// abandon removes a key that can't be completed because of err, which it returns.
func (c *conn) abandon(ctx context.Context, arn string, err error) error {
	// That ctx has ended is no reason to leave a key that costs money.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), closeWait/2)
	defer cancel()
	if removeErr := c.remove(ctx, arn); removeErr != nil {
		return fmt.Errorf("%w; the key %s is left: %w", err, arn, removeErr)
	}
	return err
}
