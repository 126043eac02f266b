package azurekeyvault

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/security/keyvault/azkeys"

	"github.com/managedkeys/managedkeys/backend"
)

// A key that this package makes is a version with a tag. The service makes a new version whether or not the name was free,
// and can't be told to do that only if it was. So of programs that make the same key at once, each makes a version, which
// is pending at first; then they look who was first, and those that were not disable theirs. The first is the one with the
// least creation time and, since that has whole seconds, the least version among those. Until a second has passed, others
// can still join that second; so each waits for that long before it looks, and then all see the same.
const (
	generationTag = "managedkeys-generation" // "pending", "done" or "lost", a space, and the generator's token
	bitsTag       = "managedkeys-key-bits"   // of a symmetric key, whose length the service doesn't tell

	// settleTime is the second, and a little more for a clock that is read late.
	settleTime = time.Second + 50*time.Millisecond
)

// pending reports whether a version with these tags is in the making: the generator hasn't looked yet whether it was first,
// or crashed before it did.
func pending(tags map[string]*string) bool {
	tag := tags[generationTag]
	return tag != nil && strings.HasPrefix(*tag, "pending ")
}

// lost reports whether a version with these tags came second.
func lost(tags map[string]*string) bool {
	tag := tags[generationTag]
	return tag != nil && strings.HasPrefix(*tag, "lost ")
}

// tokenOf returns the token of the generator that made a version, or "".
func tokenOf(tags map[string]*string) string {
	if tag := tags[generationTag]; tag != nil {
		_, token, _ := strings.Cut(*tag, " ")
		return token
	}
	return ""
}

// version is one version of a key as a list has it.
type version struct {
	id      string
	created time.Time
	attrs   azkeys.KeyAttributes
	tags    map[string]*string
}

// older orders versions as the choice of the first does.
func older(a, b version) int {
	return cmp.Or(a.created.Compare(b.created), cmp.Compare(a.id, b.id))
}

// maxPages is how many pages are read of a list.
const maxPages = 100_000

// links checks the links to the next page of one list.
type links struct {
	vault string
	seen  map[string]bool
}

// check returns an error if the list doesn't end, or goes on elsewhere: the token would go there, too.
func (l *links) check(link *string) error {
	if link == nil || *link == "" {
		return nil
	}
	if u, err := url.Parse(*link); err != nil || u.Scheme+"://"+strings.ToLower(u.Host) != l.vault || u.User != nil {
		return integrity("the list goes on at %.200q; it takes %s only", *link, l.vault)
	}
	if l.seen[*link] || len(l.seen) == maxPages {
		return integrity("the list doesn't end")
	}
	l.seen[*link] = true
	return nil
}

// links returns the links of a new list.
func (c *connection) links() *links { return &links{c.url, make(map[string]bool)} }

// versions returns all versions of a key, the oldest first, and none if there is no such key.
func (c *connection) versions(ctx context.Context, name string) ([]version, error) {
	all, err := c.pages(ctx, name)
	if errors.Is(err, backend.ErrKeyNotFound) {
		return nil, nil
	}
	slices.SortFunc(all, older)
	return all, err
}

// pages reads the pages of a list of versions.
func (c *connection) pages(ctx context.Context, name string) ([]version, error) {
	var all []version
	links := c.links()
	for pager := c.client.NewListKeyPropertiesVersionsPager(name, nil); pager.More(); {
		page, err := call(ctx, c, operation{name: "ListKeyPropertiesVersions"}, pager.NextPage)
		if err != nil {
			return nil, err
		}
		if err := links.check(page.NextLink); err != nil {
			return nil, fmt.Errorf("azurekeyvault: versions of key %q: %w", name, err)
		}
		for _, item := range page.Value {
			if item == nil {
				continue
			}
			if err := checkKID(item.KID, name, ""); err != nil {
				return nil, fmt.Errorf("azurekeyvault: versions of key %q: %w", name, err)
			}
			at, _ := parseKID(item.KID) // was parsed already
			v := version{id: at.version, tags: item.Tags}
			if item.Attributes != nil {
				v.attrs = *item.Attributes
			}
			if v.attrs.Created != nil {
				v.created = *v.attrs.Created
			}
			all = append(all, v)
		}
	}
	return all, nil
}

// choose returns the version that Open takes of a key whose latest can't be used or is pending: the newest that can be
// used. If none can, it is the newest.
func (c *connection) choose(ctx context.Context, name string, settle time.Duration) (string, error) {
	all, err := c.versions(ctx, name)
	if err == nil && len(all) > 0 && inMaking(all, time.Now(), settle) {
		if err = pause(ctx, settle); err == nil {
			all, err = c.versions(ctx, name)
		} else {
			err = contextError(ctx, "open")
		}
	}
	if err != nil {
		return "", err
	}
	var own []version // those that are the key's
	for i, v := range all {
		// Of pending versions only the first is, whether or not anybody has looked.
		if !lost(v.tags) && (i == 0 || !pending(v.tags)) {
			own = append(own, v)
		}
	}
	if len(own) == 0 {
		return "", fmt.Errorf("azurekeyvault: key %q: %w", c.id(kid{name: name}), backend.ErrKeyNotFound)
	}
	now := time.Now()
	good := slices.DeleteFunc(slices.Clone(own), func(v version) bool { return usable(v.id, &v.attrs, now) != nil })
	if len(good) == 0 {
		return own[len(own)-1].id, nil
	}
	newest := good[len(good)-1]
	if n := len(good); n > 1 && good[n-2].created.Equal(newest.created) {
		return "", fmt.Errorf("azurekeyvault: key %q: the versions %s and %s were made in the same second, and the latest can't be used: %w",
			c.id(kid{name: name}), good[n-2].id, newest.id, backend.ErrAmbiguousKey)
	}
	return newest.id, nil
}

// inMaking reports whether somebody may be making the key right now: there are pending versions only, and one of them is so
// young that its generator may not have looked yet. A clock that is off only costs time, or the wait.
func inMaking(all []version, now time.Time, settle time.Duration) bool {
	for _, v := range all {
		if !pending(v.tags) && !lost(v.tags) {
			return false
		}
	}
	age := now.Sub(all[len(all)-1].created)
	return age > -time.Minute && age < 2*settle+2*time.Second
}

// finish settles a pending version: it is the key's, or it came second and is disabled.
func (c *connection) finish(ctx context.Context, name string, v version, first bool) error {
	tags := make(map[string]*string, len(v.tags))
	for k, value := range v.tags {
		tags[k] = value
	}
	state := "done "
	params := azkeys.UpdateKeyParameters{Tags: tags}
	if !first {
		state = "lost "
		params.KeyAttributes = &azkeys.KeyAttributes{Enabled: &first}
	}
	state += tokenOf(v.tags)
	tags[generationTag] = &state
	_, err := call(ctx, c, operation{name: "UpdateKey"}, func(ctx context.Context) (struct{}, error) {
		resp, err := c.client.UpdateKey(ctx, name, v.id, params, nil)
		if err == nil && resp.Key != nil {
			err = checkKID(resp.Key.KID, name, v.id)
		}
		return struct{}{}, err
	})
	return err
}
