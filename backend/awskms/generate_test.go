package awskms

import (
	"context"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/managedkeys/managedkeys/backend"
	"github.com/managedkeys/managedkeys/backend/remote"
	"github.com/managedkeys/managedkeys/internal/fakeaws"
	"github.com/managedkeys/managedkeys/internal/fakecloud"
)

// once are options with which nothing is tried twice, so that a scripted fault is what the caller sees.
var once = &Options{Remote: remote.Options{MaxAttempts: 1}}

func newKeyParams(srv *fakeaws.Server) Params {
	return at(srv, Params{KMSKey: "alias/team/issuing", KeyType: ECDSA, Curve: "P256"})
}

// enabled returns the ARNs of the keys that cost money, and removed of those that are on their way out.
func enabled(srv *fakeaws.Server) (in, removed []string) {
	for arn, state := range srv.States() {
		if state == "PendingDeletion" {
			removed = append(removed, arn)
		} else {
			in = append(in, arn)
		}
	}
	return in, removed
}

var busy = &fakeaws.Error{Status: 503, Code: "DependencyTimeoutException"}

// TestGenerateFaults: whatever is lost on the way, in both orders, there is one key afterwards, or an error and none that
// the next attempt doesn't find.
func TestGenerateFaults(t *testing.T) {
	for name, test := range map[string]struct {
		fault fakecloud.Fault
		keys  int  // that are left
		fails bool // the first Generate
	}{
		"DescribeKey":               {fakecloud.Fault{Op: "DescribeKey"}, 0, true},
		"ListAliases":               {fakecloud.Fault{Op: "ListAliases"}, 0, true},
		"ListKeys":                  {fakecloud.Fault{Op: "ListKeys"}, 0, true},
		"CreateKey, not done":       {fakecloud.Fault{Op: "CreateKey"}, 0, true},
		"CreateKey, done":           {fakecloud.Fault{Op: "CreateKey", After: true}, 1, false},
		"CreateAlias, not done":     {fakecloud.Fault{Op: "CreateAlias"}, 1, true},
		"CreateAlias, done":         {fakecloud.Fault{Op: "CreateAlias", After: true}, 1, true},
		"UpdateKeyDescription":      {fakecloud.Fault{Op: "UpdateKeyDescription"}, 1, true},
		"GetPublicKey of the new":   {fakecloud.Fault{Op: "GetPublicKey"}, 1, true},
		"CreateKey, another's":      {fakecloud.Fault{Op: "CreateKey", Corrupt: func(a map[string]any) { a["KeyMetadata"].(map[string]any)["KeySpec"] = "RSA_2048" }}, 1, false},
		"CreateKey, without answer": {fakecloud.Fault{Op: "CreateKey", After: true, Drop: true}, 1, false},
	} {
		t.Run(name, func(t *testing.T) {
			srv := serve(t, nil)
			b, p := connect(t, once), newKeyParams(srv)
			if !test.fault.Drop && test.fault.Corrupt == nil {
				test.fault.Error = busy
			}
			srv.Script.Add(test.fault)
			key, err := b.Generate(t.Context(), p, nil)
			require.Zero(t, srv.Script.Left())
			in, _ := enabled(srv)
			assert.Len(t, in, test.keys)
			if !test.fails {
				require.NoError(t, err)
				assert.Equal(t, in[0], key.ID())
				return
			}
			assert.ErrorIs(t, err, backend.ErrUnavailable)
			assert.Nil(t, key)

			// The program starts again.
			again, err := connect(t, nil).Generate(t.Context(), p, nil)
			after, removed := enabled(srv)
			assert.Len(t, after, 1, "an orphan is left")
			assert.Empty(t, removed)
			if slices.Contains([]string{"CreateAlias, done", "UpdateKeyDescription", "GetPublicKey of the new"}, name) {
				assert.ErrorIs(t, err, backend.ErrKeyExists)
			} else {
				require.NoError(t, err)
				assert.Equal(t, after[0], again.ID())
			}
			assert.Equal(t, after[0], open[backend.Signer](t, b, p).ID())
			d, err := b.clients()[0].describe(t.Context(), after[0])
			require.NoError(t, err)
			assert.False(t, d.isMaking(), "it is not marked as complete")
		})
	}
}

// TestGenerateRetries: with the usual attempts no caller notices any of it.
func TestGenerateRetries(t *testing.T) {
	srv := serve(t, nil)
	b := connect(t, nil)
	for _, op := range []string{"DescribeKey", "ListKeys", "ListAliases", "CreateKey", "CreateAlias", "UpdateKeyDescription", "GetPublicKey"} {
		if op != "CreateKey" {
			srv.Script.Add(fakecloud.Fault{Op: op, Error: busy})
		}
		srv.Script.Add(fakecloud.Fault{Op: op, After: true, Error: busy})
	}
	_, err := b.Generate(t.Context(), newKeyParams(srv), nil)
	require.NoError(t, err)
	in, removed := enabled(srv)
	assert.Len(t, in, 1)
	assert.Empty(t, removed)
}

// TestGenerateGivesUp: what can't be completed doesn't stay.
func TestGenerateGivesUp(t *testing.T) {
	srv := serve(t, nil)
	b, p := connect(t, nil), newKeyParams(srv)
	srv.Deny("CreateAlias")
	_, err := b.Generate(t.Context(), p, nil)
	assert.ErrorIs(t, err, backend.ErrNotPermitted)
	in, removed := enabled(srv)
	assert.Empty(t, in)
	assert.Len(t, removed, 1)
	srv.Deny("ScheduleKeyDeletion")
	_, err = b.Generate(t.Context(), p, nil)
	assert.ErrorIs(t, err, backend.ErrNotPermitted)
	in, _ = enabled(srv)
	assert.Len(t, in, 1)
	assert.ErrorContains(t, err, "the key "+in[0]+" is left")
	// Without the permission to look for orphans none is made.
	srv.Allow("CreateAlias")
	srv.Deny("ListKeys")
	_, err = b.Generate(t.Context(), p, nil)
	assert.ErrorIs(t, err, backend.ErrNotPermitted)
	srv.Allow("ListKeys")
	key, err := b.Generate(t.Context(), p, nil)
	require.NoError(t, err)
	assert.Equal(t, in[0], key.ID(), "the key that was left")
}

// TestGenerateRace: if another program is faster, its key stays and the other one goes.
func TestGenerateRace(t *testing.T) {
	srv := serve(t, nil)
	b, p := connect(t, nil), newKeyParams(srv)
	var others string
	srv.Script.Add(fakecloud.Fault{Op: "CreateKey", Corrupt: func(map[string]any) {
		others = add(t, srv, fakeaws.Key{Spec: "ECC_NIST_P256", Usage: signVerify, Alias: "alias/team/issuing"})
	}})
	key, err := b.Generate(t.Context(), p, nil)
	assert.ErrorIs(t, err, backend.ErrKeyExists)
	assert.Nil(t, key)
	in, removed := enabled(srv)
	assert.Equal(t, []string{others}, in)
	assert.Len(t, removed, 1)
	assert.Equal(t, others, open[backend.Signer](t, b, p).ID())
}

// TestOrphans: of the keys that were left, the one that is wanted is completed, old others go, and what may be in the making
// or is not this package's stays.
func TestOrphans(t *testing.T) {
	srv := serve(t, &fakeaws.Options{PageSize: 2})
	b, p := connect(t, nil), newKeyParams(srv)
	old := time.Now().Add(-time.Hour)
	orphaned := func(spec, alias string, made time.Time) string {
		return add(t, srv, fakeaws.Key{Spec: spec, Usage: signVerify, Created: made, Description: making + alias,
			Tags: map[string]string{tagAlias: alias, tagToken: "t"}})
	}
	wanted := orphaned("ECC_NIST_P256", "alias/team/issuing", old)
	goes := []string{orphaned("ECC_NIST_P256", "alias/team/issuing", old.Add(time.Minute)), orphaned("RSA_2048", "alias/team/issuing", old)}
	stays := []string{
		orphaned("RSA_2048", "alias/team/issuing", time.Now()), // may be in the making
		orphaned("ECC_NIST_P256", "alias/team/other", old),     // another alias'
		add(t, srv, fakeaws.Key{Spec: "ECC_NIST_P256", Usage: signVerify, Created: old}),
		// It had its alias once.
		add(t, srv, fakeaws.Key{Spec: "ECC_NIST_P256", Usage: signVerify, Created: old, Description: made + "alias/team/issuing", Tags: map[string]string{tagAlias: "alias/team/issuing"}}),
		add(t, srv, fakeaws.Key{Spec: "ECC_NIST_P256", Usage: signVerify, Created: old, Description: making + "alias/team/issuing"}),
		add(t, srv, fakeaws.Key{Spec: "ECC_NIST_P256", Usage: signVerify, Created: old, Tags: map[string]string{tagAlias: "alias/team/issuing"}, Alias: "alias/in-use", Description: making}),
	}
	key, err := b.Generate(t.Context(), p, nil)
	require.NoError(t, err)
	assert.Equal(t, wanted, key.ID())
	in, removed := enabled(srv)
	assert.ElementsMatch(t, goes, removed)
	assert.ElementsMatch(t, append(stays, wanted), in)

	gone, err := b.RemoveOrphans(t.Context(), at(srv, Params{}))
	require.NoError(t, err)
	assert.Equal(t, []string{stays[1]}, gone)
	gone, err = b.RemoveOrphans(t.Context(), at(srv, Params{}))
	require.NoError(t, err)
	assert.Empty(t, gone)
	_, err = b.RemoveOrphans(t.Context(), otherParams{})
	assert.ErrorIs(t, err, backend.ErrInvalidParams)
}

type otherParams struct{}

func (otherParams) BackendType() string { return "other" }
func (otherParams) Validate() error     { return nil }

// TestReplace: the alias moves, the old key stays what it was, and nothing is made where it can't move.
func TestReplace(t *testing.T) {
	srv := serve(t, nil)
	b, p := connect(t, nil), newKeyParams(srv)
	old, err := b.Generate(t.Context(), p, nil)
	require.NoError(t, err)
	replace := &backend.GenerateOptions{Replace: true}
	other := p
	other.KeyUsage = agreement
	_, err = b.Generate(t.Context(), other, replace)
	assert.ErrorIs(t, err, backend.ErrInvalidParams)
	assert.ErrorContains(t, err, "can't be moved")
	assert.Len(t, srv.States(), 1)
	sealing, err := b.Generate(t.Context(), at(srv, Params{KMSKey: "alias/data", KeyType: AES}), nil)
	require.NoError(t, err)
	_, err = b.Generate(t.Context(), at(srv, Params{KMSKey: "alias/data", KeyType: RSA, KeyBits: 2048, KeyUsage: encrypts}), replace)
	assert.ErrorIs(t, err, backend.ErrInvalidParams, "the alias of a symmetric key")
	assert.Len(t, srv.States(), 2)
	srv.SetState(sealing.ID(), "PendingDeletion")
	for _, fault := range []fakecloud.Fault{{Op: "UpdateAlias", Error: busy}, {Op: "UpdateAlias", After: true, Error: busy}, {}} {
		if fault.Op != "" {
			srv.Script.Add(fault)
		}
		key, err := b.Generate(t.Context(), p, replace)
		require.NoError(t, err)
		assert.NotEqual(t, old.ID(), key.ID())
		assert.Equal(t, key.ID(), open[backend.Signer](t, b, p).ID())
	}
	in, removed := enabled(srv)
	assert.Len(t, in, 4)
	assert.Equal(t, []string{sealing.ID()}, removed)
	signature, err := signOnce(t.Context(), old.(backend.Signer))
	assert.NoError(t, err, "the old handle is of the old key")
	assert.NotEmpty(t, signature)
	_, err = b.Generate(t.Context(), at(srv, Params{KMSKey: "alias/new", KeyType: AES}), replace)
	assert.NoError(t, err, "nothing is there to be replaced")
}

// TestGenerateParams: what a key is made with, and what no key is made of.
func TestGenerateParams(t *testing.T) {
	srv := serve(t, nil)
	b := connect(t, &Options{KeyPolicy: `{"Statement":"mine"}`, Tags: map[string]string{"team": "a", "cost": "b"}})
	p := newKeyParams(srv)
	p.MultiRegion = true
	key, err := b.Generate(t.Context(), p, nil)
	require.NoError(t, err)
	id, err := parseIdentifier(key.ID())
	require.NoError(t, err)
	assert.True(t, strings.HasPrefix(id.key, "mrk-"))
	client := b.clients()[0].client
	tags, err := client.ListResourceTags(t.Context(), &kms.ListResourceTagsInput{KeyId: &id.key})
	require.NoError(t, err)
	seen := make(map[string]string)
	for _, tag := range tags.Tags {
		seen[aws.ToString(tag.TagKey)] = aws.ToString(tag.TagValue)
	}
	assert.Len(t, seen[tagToken], 36)
	delete(seen, tagToken)
	assert.Equal(t, map[string]string{"team": "a", "cost": "b", tagAlias: "alias/team/issuing"}, seen)
	policy, err := client.GetKeyPolicy(t.Context(), &kms.GetKeyPolicyInput{KeyId: &id.key})
	require.NoError(t, err)
	assert.Equal(t, `{"Statement":"mine"}`, aws.ToString(policy.Policy))

	arn := at(srv, Params{KMSKey: "arn:aws:kms:eu-central-1:111122223333:alias/by-arn", KeyType: HMAC, KeyBits: 256})
	_, err = b.Generate(t.Context(), arn, nil)
	require.NoError(t, err)
	others := at(srv, Params{KMSKey: "arn:aws:kms:eu-central-1:999999999999:alias/theirs", KeyType: HMAC, KeyBits: 256})
	_, err = b.Generate(t.Context(), others, nil)
	assert.ErrorIs(t, err, backend.ErrInvalidParams)
	assert.ErrorContains(t, err, "999999999999")
	_, removed := enabled(srv)
	assert.Len(t, removed, 1)
	before := len(srv.States())
	for says, p := range map[string]Params{
		"to make a key it takes alias/NAME": {KMSKey: testID, KeyType: AES},
		"the service's own":                 {KMSKey: "alias/aws/s3", KeyType: AES},
		"key_type: is missing":              {KMSKey: "alias/a"},
		"key_bits: is missing":              {KMSKey: "alias/a", KeyType: RSA},
	} {
		_, err := b.Generate(t.Context(), at(srv, p), nil)
		assert.ErrorIs(t, err, backend.ErrInvalidParams)
		assert.ErrorContains(t, err, says)
	}
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	_, err = b.Generate(ended, newKeyParams(srv), nil)
	assert.ErrorIs(t, err, context.Canceled)
	assert.Len(t, srv.States(), before)
	for _, tags := range []map[string]string{{"": "x"}, {"managedkeys:alias": "x"}, {"AWS:x": "y"}, {strings.Repeat("a", 129): ""}, {"a": strings.Repeat("b", 257)}} {
		assert.ErrorIs(t, checkTags(tags), backend.ErrInvalidParams)
	}
}
