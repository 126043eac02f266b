package awskms

import (
	"context"
	"fmt"
	"iter"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/kms"

	"github.com/managedkeys/managedkeys/backend"
	"github.com/managedkeys/managedkeys/backend/remote"
)

// The sizes of pages, the largest that the service has.
const (
	keysPage    = 1000
	aliasesPage = 100
)

// List implements backend.Lister. It yields the keys of one Region and account, in the service's order, those of other AWS
// services and disabled ones among them; scope is a [Params] with Region and how to connect, or nil for the configured
// Region and credentials. Label is one of the key's aliases, URI its ARN, and Algorithm is empty. It takes a request for each 1,000
// keys and for each 100 aliases.
func (b *Backend) List(ctx context.Context, scope backend.Params) iter.Seq2[backend.KeyInfo, error] {
	return func(yield func(backend.KeyInfo, error) bool) {
		infos, err := b.list(ctx, scope)
		if err != nil {
			yield(backend.KeyInfo{}, err)
			return
		}
		for _, info := range infos {
			if !yield(info, nil) {
				return
			}
		}
	}
}

// scopeOf returns scope as Params, of which only what makes a connection counts.
func scopeOf(scope backend.Params) (Params, error) {
	if scope == nil {
		return Params{}, nil
	}
	p, ok := scope.(Params)
	if !ok {
		return Params{}, fmt.Errorf("awskms: params are %T, want %T: %w", scope, p, backend.ErrInvalidParams)
	}
	if p.KMSKey != "" {
		return p, p.Validate()
	}
	return p, p.validateConnection()
}

// list reads all of it before anything is yielded: the caller may take its time, and call any method.
func (b *Backend) list(ctx context.Context, scope backend.Params) ([]backend.KeyInfo, error) {
	p, err := scopeOf(scope)
	if err != nil {
		return nil, err
	}
	return within(ctx, b, "list", func(ctx context.Context) ([]backend.KeyInfo, error) {
		c, err := b.connection(ctx, p)
		if err != nil {
			return nil, err
		}
		named, err := c.named(ctx)
		if err != nil {
			return nil, err
		}
		var infos []backend.KeyInfo
		err = c.eachKey(ctx, func(arn string) (bool, error) {
			id, err := parseIdentifier(arn)
			if err != nil || id.key == "" || id.region != c.region {
				return false, fmt.Errorf("awskms: ListKeys: %w", damaged("has the key %.100q", arn))
			}
			found := Params{KMSKey: arn, Endpoint: p.Endpoint, AccessKey: p.AccessKey, SecretKey: p.SecretKey, SessionToken: p.SessionToken}
			infos = append(infos, backend.KeyInfo{ID: arn, Label: named[id.key], URI: arn, Params: found})
			return true, nil
		})
		return infos, err
	})
}

// eachKey calls fn with the ARN of each key of the Region, until it returns false.
func (c *conn) eachKey(ctx context.Context, fn func(arn string) (bool, error)) error {
	return pages(func(marker *string) (*string, bool, error) {
		out, err := call(ctx, c, remote.Call{Op: "ListKeys"}, (*kms.Client).ListKeys,
			&kms.ListKeysInput{Limit: aws.Int32(keysPage), Marker: marker}, nil)
		if err != nil {
			return nil, false, err
		}
		for _, k := range out.Keys {
			if more, err := fn(aws.ToString(k.KeyArn)); err != nil || !more {
				return nil, false, err
			}
		}
		return out.NextMarker, out.Truncated, nil
	})
}

// named returns one alias of each key of the Region that has some, by key id: the first in alphabetical order.
func (c *conn) named(ctx context.Context) (map[string]string, error) {
	named := make(map[string]string)
	err := pages(func(marker *string) (*string, bool, error) {
		out, err := call(ctx, c, remote.Call{Op: "ListAliases"}, (*kms.Client).ListAliases,
			&kms.ListAliasesInput{Limit: aws.Int32(aliasesPage), Marker: marker}, nil)
		if err != nil {
			return nil, false, err
		}
		for _, a := range out.Aliases {
			id, name := aws.ToString(a.TargetKeyId), aws.ToString(a.AliasName)
			if id != "" && (named[id] == "" || name < named[id]) {
				named[id] = name
			}
		}
		return out.NextMarker, out.Truncated, nil
	})
	return named, err
}

// pages calls fn with the marker of each page, which returns the next one's and whether there is one.
func pages(fn func(marker *string) (next *string, more bool, err error)) error {
	var marker *string
	for {
		next, more, err := fn(marker)
		if err != nil || !more {
			return err
		}
		// A list that goes round in circles would never end.
		if aws.ToString(next) == "" || aws.ToString(next) == aws.ToString(marker) {
			return fmt.Errorf("awskms: list: %w", damaged("says that there is more, but not where"))
		}
		marker = next
	}
}
