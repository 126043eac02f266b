package awskms

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/aws/aws-sdk-go-v2/service/kms/types"

	"github.com/managedkeys/managedkeys/backend"
	"github.com/managedkeys/managedkeys/backend/remote"
)

// A key is made in steps: CreateKey, CreateAlias or UpdateAlias, and UpdateKeyDescription. One that is left without an alias
// because the program stopped in between is an orphan. It is known by its tags, and by its description that it was not
// completed: a key that had its alias once is nobody's to delete, wherever the alias is now.
const (
	// tagAlias has the alias that the key was to have, and tagToken what tells this making of it from all others.
	tagAlias = "managedkeys:alias"
	tagToken = "managedkeys:token"

	// making begins the description of a key that is being made, and made that of one that has got its alias. DescribeKey
	// shows descriptions; tags take a request of their own, and the service allows few of these a second.
	making = "managedkeys: making "
	made   = "managedkeys: "

	// patience is how old an orphan must be before it is removed: another program may be making it.
	patience = 15 * time.Minute

	// parallel is how many keys are described at a time. The service takes 2,000 a second of an account.
	parallel = 16

	// deletionWindow is for how many days a key that was removed can be brought back; the shortest that the service has.
	deletionWindow = 7
)

// maxTags is how many tags a key can have, less those of this package.
const maxTags = 50 - 2

// checkTags returns an error unless tags are what the service takes.
func checkTags(tags map[string]string) error {
	if len(tags) > maxTags {
		return invalid("Tags", "got %d; it takes at most %d", len(tags), maxTags)
	}
	for name, value := range tags {
		switch {
		case name == "" || len(name) > 128 || len(value) > 256:
			return invalid("Tags", "the tag %.140q has a name of %d bytes and a value of %d; it takes 1 to 128 and at most 256", name, len(name), len(value))
		case strings.HasPrefix(strings.ToLower(name), "aws:") || strings.HasPrefix(name, "managedkeys:"):
			return invalid("Tags", "the tag %.140q begins with aws: or managedkeys:, which are reserved", name)
		}
	}
	return nil
}

// tags are those of a new key.
func (o *Options) tags(alias, token string) []types.Tag {
	list := []types.Tag{{TagKey: aws.String(tagAlias), TagValue: &alias}, {TagKey: aws.String(tagToken), TagValue: &token}}
	for _, name := range slices.Sorted(maps.Keys(o.Tags)) {
		list = append(list, types.Tag{TagKey: aws.String(name), TagValue: aws.String(o.Tags[name])})
	}
	return list
}

// orphan is a key that was made here and has no alias.
type orphan struct {
	described
	alias, token string
}

// orphans returns the orphans of a Region that were to have an alias, or all if alias is "", the oldest first.
func (c *conn) orphans(ctx context.Context, alias string) ([]orphan, error) {
	named, err := c.named(ctx)
	if err != nil {
		return nil, err
	}
	var nameless []string
	err = c.eachKey(ctx, func(arn string) (bool, error) {
		if id, err := parseIdentifier(arn); err == nil && named[id.key] == "" {
			nameless = append(nameless, arn)
		}
		return true, nil
	})
	if err != nil {
		return nil, err
	}
	found, err := inParallel(nameless, func(arn string) (*orphan, error) { return c.orphan(ctx, arn, alias) })
	slices.SortStableFunc(found, func(a, b orphan) int { return a.since().Compare(b.since()) })
	return found, err
}

// orphan returns a key without an alias if it is an orphan that was to have alias, or any if that is "", and else nil.
func (c *conn) orphan(ctx context.Context, arn, alias string) (*orphan, error) {
	d, err := c.describe(ctx, arn)
	switch {
	case errors.Is(err, backend.ErrNotPermitted) || errors.Is(err, backend.ErrKeyNotFound):
		return nil, nil // another's, or gone since
	case err != nil:
		return nil, err
	case !d.isMaking() || d.KeyState == types.KeyStatePendingDeletion:
		return nil, nil
	}
	o := &orphan{described: d}
	if err := c.readTags(ctx, o); err != nil {
		return nil, err
	}
	if o.alias == "" || alias != "" && o.alias != alias {
		return nil, nil
	}
	return o, nil
}

// inParallel calls fn with each item, some at a time, and returns what it found, in the order of the items, or an error of fn.
func inParallel[In, Out any](items []In, fn func(In) (*Out, error)) ([]Out, error) {
	found, errs := make([]*Out, len(items)), make([]error, len(items))
	slots := make(chan struct{}, parallel)
	var failed atomic.Bool
	var wait sync.WaitGroup
	for i, item := range items {
		slots <- struct{}{}
		if failed.Load() {
			break
		}
		wait.Go(func() {
			defer func() { <-slots }()
			if found[i], errs[i] = fn(item); errs[i] != nil {
				failed.Store(true)
			}
		})
	}
	wait.Wait()
	for _, err := range errs {
		if err != nil {
			return nil, err
		}
	}
	var out []Out
	for _, o := range found {
		if o != nil {
			out = append(out, *o)
		}
	}
	return out, nil
}

// since returns when a key was made.
func (d described) since() time.Time { return aws.ToTime(d.CreationDate) }

// isMaking reports whether a key was not completed, as far as its description says.
func (d described) isMaking() bool { return strings.HasPrefix(aws.ToString(d.Description), making) }

// complete notes in its description that a key has got its alias.
func (c *conn) complete(ctx context.Context, arn, alias string) error {
	_, err := call(ctx, c, remote.Call{Op: "UpdateKeyDescription of " + arn}, (*kms.Client).UpdateKeyDescription,
		&kms.UpdateKeyDescriptionInput{KeyId: &arn, Description: aws.String(made + alias)}, nil)
	if err != nil {
		return fmt.Errorf("the key has its alias, but its description can't be changed: %w", err)
	}
	return nil
}

// readTags reads the tags of a key of this package, which has few.
func (c *conn) readTags(ctx context.Context, o *orphan) error {
	out, err := call(ctx, c, remote.Call{Op: "ListResourceTags of " + o.id.String()}, (*kms.Client).ListResourceTags,
		&kms.ListResourceTagsInput{KeyId: o.Arn}, nil)
	if err != nil {
		return err
	}
	for _, t := range out.Tags {
		switch aws.ToString(t.TagKey) {
		case tagAlias:
			o.alias = aws.ToString(t.TagValue)
		case tagToken:
			o.token = aws.ToString(t.TagValue)
		}
	}
	return nil
}

// remove schedules a key for deletion.
func (c *conn) remove(ctx context.Context, arn string) error {
	_, err := call(ctx, c, remote.Call{Op: "ScheduleKeyDeletion of " + arn}, (*kms.Client).ScheduleKeyDeletion,
		&kms.ScheduleKeyDeletionInput{KeyId: &arn, PendingWindowInDays: aws.Int32(deletionWindow)}, nil)
	if code(err) == "KMSInvalidStateException" {
		return nil // it is scheduled already
	}
	return err
}

// RemoveOrphans schedules the deletion of keys that were being made when a program stopped, and that have no alias
// therefore: those of the Region and account of scope that are older than 15 minutes and that Generate or Import made. It
// returns their ARNs. For seven days they can be brought back (CancelKeyDeletion).
//
// Generate and Import find the orphans of their own alias and need no help. scope is as for List.
func (b *Backend) RemoveOrphans(ctx context.Context, scope backend.Params) ([]string, error) {
	p, err := scopeOf(scope)
	if err != nil {
		return nil, err
	}
	return within(ctx, b, "remove orphans", func(ctx context.Context) ([]string, error) {
		c, err := b.connection(ctx, p)
		if err != nil {
			return nil, err
		}
		found, err := c.orphans(ctx, "")
		if err != nil {
			return nil, err
		}
		var removed []string
		for _, o := range found {
			if time.Since(o.since()) < patience {
				continue
			}
			if err := c.remove(ctx, o.id.String()); err != nil {
				return removed, fmt.Errorf("awskms: remove orphans: %w", err)
			}
			removed = append(removed, o.id.String())
		}
		return removed, nil
	})
}
