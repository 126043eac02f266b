package awskms

import (
	"context"
	"crypto"
	"crypto/ecdh"
	"crypto/rand"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/aws/aws-sdk-go-v2/service/kms/types"
	"github.com/aws/smithy-go/middleware"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/managedkeys/managedkeys/backend"
	"github.com/managedkeys/managedkeys/backend/remote"
	"github.com/managedkeys/managedkeys/internal/fakeaws"
	"github.com/managedkeys/managedkeys/internal/fakecloud"
)

// TestNames: a key is the same key by each of its names, and its ID is its ARN.
func TestNames(t *testing.T) {
	srv := serve(t, nil)
	b := connect(t, nil)
	for _, multi := range []bool{false, true} {
		arn := add(t, srv, fakeaws.Key{Spec: "ECC_NIST_P256", Usage: signVerify, Alias: "alias/team/a", MultiRegion: multi})
		id, err := parseIdentifier(arn)
		require.NoError(t, err)
		assert.Equal(t, multi, strings.HasPrefix(id.key, "mrk-"))
		for _, name := range []string{arn, id.key, "alias/team/a", strings.Replace(arn, "key/"+id.key, "alias/team/a", 1)} {
			key := open[backend.Signer](t, b, at(srv, Params{KMSKey: name}))
			assert.Equal(t, arn, key.ID(), name)
		}
	}
}

// TestRequests: opening takes one request, or two for a key with a public half, and every operation exactly one.
func TestRequests(t *testing.T) {
	srv := serve(t, nil)
	b := connect(t, nil)
	peer, err := ecdh.P256().GenerateKey(rand.Reader)
	require.NoError(t, err)
	ctx := t.Context()
	for _, test := range []struct {
		spec, usage string
		opens       int
		op          string
		do          func(k backend.Key) error
	}{
		{"ECC_NIST_P256", signVerify, 2, "Sign", func(k backend.Key) error { _, err := signOnce(ctx, k.(backend.Signer)); return err }},
		{"ML_DSA_44", signVerify, 2, "Sign", func(k backend.Key) error {
			_, err := k.(backend.Signer).SignContext(ctx, make([]byte, 10000), crypto.Hash(0))
			return err
		}},
		{"ECC_NIST_P256", agreement, 2, "DeriveSharedSecret", func(k backend.Key) error {
			_, err := k.(backend.KeyAgreer).ECDHContext(ctx, peer.PublicKey())
			return err
		}},
		{"RSA_2048", encrypts, 2, "Decrypt", func(k backend.Key) error {
			wrapped, err := k.(backend.Wrapper).WrapKey(ctx, []byte("wrapped in this process"))
			if err != nil {
				return err
			}
			_, err = k.(backend.Wrapper).UnwrapKey(ctx, wrapped)
			return err
		}},
		{"SYMMETRIC_DEFAULT", encrypts, 1, "Encrypt", func(k backend.Key) error { _, err := k.(backend.AEAD).Seal(ctx, []byte("a"), []byte("b")); return err }},
		{"HMAC_384", macs, 1, "GenerateMac", func(k backend.Key) error {
			_, err := k.(backend.MAC).ComputeMAC(ctx, backend.HMACSHA384, []byte("a"))
			return err
		}},
		{"HMAC_384", macs, 1, "GenerateRandom", func(k backend.Key) error { _, err := k.(backend.Random).GenerateRandom(ctx, 1); return err }},
	} {
		p := at(srv, Params{KMSKey: add(t, srv, fakeaws.Key{Spec: test.spec, Usage: test.usage})})
		srv.Log.Clear()
		key := open[backend.Key](t, b, p)
		assert.Equal(t, test.opens, srv.Log.Count(""), test.spec)
		srv.Log.Clear()
		for range 3 {
			require.NoError(t, test.do(key))
		}
		assert.Equal(t, 3, srv.Log.Count(test.op), test.spec)
		assert.Equal(t, 3, srv.Log.Count(""), test.spec)
		for _, r := range srv.Log.Requests(test.op) {
			if test.op != "GenerateRandom" {
				assert.Equal(t, key.ID(), r.Key, "which is pinned")
			}
		}
	}
}

// TestStates: a key that can't be used is not opened, and the error says why; the readable public key proves nothing.
func TestStates(t *testing.T) {
	srv := serve(t, nil)
	b := connect(t, &Options{Remote: quick})
	for state, want := range map[string]struct {
		sentinel error
		says     string
	}{
		"Disabled":               {backend.ErrKeyDisabled, "is disabled"},
		"PendingDeletion":        {backend.ErrKeyDisabled, "scheduled for deletion at 20"},
		"PendingReplicaDeletion": {backend.ErrKeyDisabled, "scheduled for deletion"},
		"PendingImport":          {backend.ErrKeyDisabled, "no key material"},
		"Creating":               {backend.ErrUnavailable, "Creating"},
		"Updating":               {backend.ErrUnavailable, "Updating"},
		"Unavailable":            {backend.ErrUnavailable, "Unavailable"},
	} {
		arn := add(t, srv, fakeaws.Key{Spec: "ECC_NIST_P256", Usage: signVerify})
		srv.SetState(arn, state)
		key, err := b.Open(t.Context(), at(srv, Params{KMSKey: arn}))
		assert.ErrorIs(t, err, want.sentinel, state)
		assert.ErrorContains(t, err, want.says)
		assert.ErrorContains(t, err, arn)
		assert.Nil(t, key)
	}
	// While it is open.
	arn := add(t, srv, fakeaws.Key{Spec: "ECC_NIST_P256", Usage: signVerify})
	key := open[backend.Signer](t, b, at(srv, Params{KMSKey: arn}))
	for _, state := range []string{"Disabled", "PendingDeletion"} {
		srv.SetState(arn, state)
		_, err := signOnce(t.Context(), key)
		assert.ErrorIs(t, err, backend.ErrKeyDisabled)
	}
	srv.SetState(arn, "Enabled")
	_, err := signOnce(t.Context(), key)
	assert.NoError(t, err)

	expired := described{KeyMetadata: &types.KeyMetadata{Arn: aws.String(arn), KeyState: types.KeyStateEnabled, ValidTo: aws.Time(time.Unix(1000, 0))}}
	assert.ErrorIs(t, expired.usable(time.Unix(1000, 0)), backend.ErrKeyDisabled)
	assert.NoError(t, expired.usable(time.Unix(999, 0)))
}

// TestUnknownKinds: keys that Go has no cryptography for, and algorithms that this package doesn't know, are unsupported.
func TestUnknownKinds(t *testing.T) {
	srv := serve(t, nil)
	b := connect(t, nil)
	p := at(srv, Params{KMSKey: add(t, srv, fakeaws.Key{Spec: "ECC_NIST_P256", Usage: signVerify})})
	metadata := func(changes map[string]any) {
		srv.Script.Add(fakecloud.Fault{Op: "DescribeKey", Corrupt: func(answer map[string]any) {
			for member, value := range changes {
				answer["KeyMetadata"].(map[string]any)[member] = value
			}
		}})
	}
	for _, spec := range []string{"SM2", "ML_KEM_512", "SLH_DSA_SHA2_128S"} {
		metadata(map[string]any{"KeySpec": spec})
		_, err := b.Open(t.Context(), p)
		assert.ErrorIs(t, err, backend.ErrUnsupported)
		assert.ErrorContains(t, err, spec)
	}
	metadata(map[string]any{"SigningAlgorithms": []string{"ECDSA_SHA3_256"}})
	_, err := b.Open(t.Context(), p)
	assert.ErrorIs(t, err, backend.ErrUnsupported)
	assert.Zero(t, srv.Script.Left())
}

// TestOtherRegion: the ARN of another Region is looked for there.
func TestOtherRegion(t *testing.T) {
	srv := serve(t, nil)
	b := connect(t, nil)
	here := add(t, srv, fakeaws.Key{Spec: "HMAC_256", Alias: "alias/x"})
	there := add(t, srv, fakeaws.Key{Spec: "HMAC_256", Alias: "alias/x", Region: "us-west-2"})
	for _, arn := range []string{here, there} {
		assert.Equal(t, arn, open[backend.MAC](t, b, at(srv, Params{KMSKey: arn})).ID())
	}
	p := at(srv, Params{KMSKey: "alias/x"})
	p.Region = "us-west-2"
	assert.Equal(t, there, open[backend.MAC](t, b, p).ID())
	_, err := b.Open(t.Context(), at(srv, Params{KMSKey: strings.Replace(here, fakeaws.DefaultRegion, "us-west-2", 1)}))
	assert.ErrorIs(t, err, backend.ErrKeyNotFound)
	_, err = b.Open(t.Context(), at(srv, Params{KMSKey: strings.Replace(here, fakeaws.Account, "999999999999", 1)}))
	assert.ErrorIs(t, err, backend.ErrNotPermitted, "another account's key")
}

// TestCheckPermissions: with the option, who may not use a key learns that when it is opened; without, at the first use.
func TestCheckPermissions(t *testing.T) {
	srv := serve(t, nil)
	eager, lazy := connect(t, &Options{CheckPermissions: true}), connect(t, nil)
	for _, k := range kinds {
		if k.p.KeyBits > 2048 {
			continue
		}
		p := at(srv, Params{KMSKey: add(t, srv, fakeaws.Key{Spec: k.spec, Usage: k.usage})})
		srv.Log.Clear()
		open[backend.Key](t, eager, p)
		requests := srv.Log.Requests("")
		op := requests[len(requests)-1].Op
		srv.Deny(op)
		key, err := eager.Open(t.Context(), p)
		assert.ErrorIs(t, err, backend.ErrNotPermitted, "%s, %s", k.Name, op)
		assert.Nil(t, key)
		open[backend.Key](t, lazy, p)
		// A grant that is too new to be known everywhere comes with its token.
		_, err = eager.Open(WithGrantTokens(t.Context(), srv.Grant()), p)
		assert.NoError(t, err, k.Name)
		srv.Allow(op)
	}
	arn := add(t, srv, fakeaws.Key{Spec: "ECC_NIST_P256", Usage: signVerify})
	srv.Script.Add(fakecloud.Fault{Op: "Sign", Error: &fakeaws.Error{Status: 200, Body: []byte(`{"KeyId":"` + arn + `"}`)}})
	_, err := eager.Open(t.Context(), at(srv, Params{KMSKey: arn}))
	assert.ErrorIs(t, err, backend.ErrIntegrity, "what was only to be tried was done")
}

// TestGrantTokens: a context's tokens go with every operation.
func TestGrantTokens(t *testing.T) {
	srv, _, key := signerOf(t, nil)
	srv.Deny("Sign")
	_, err := signOnce(t.Context(), key)
	assert.ErrorIs(t, err, backend.ErrNotPermitted)
	_, err = signOnce(WithGrantTokens(t.Context(), "of nobody", srv.Grant()), key)
	assert.NoError(t, err)
}

// TestPanic: a panic in the SDK is an error of that call.
func TestPanic(t *testing.T) {
	panics := false
	explode := middleware.InitializeMiddlewareFunc("explode", func(ctx context.Context, in middleware.InitializeInput, next middleware.InitializeHandler) (middleware.InitializeOutput, middleware.Metadata, error) {
		if panics {
			panic("index out of range")
		}
		return next.HandleInitialize(ctx, in)
	})
	_, b, key := signerOf(t, &Options{KMS: []func(*kms.Options){func(o *kms.Options) {
		o.APIOptions = append(o.APIOptions, func(s *middleware.Stack) error { return s.Initialize.Add(explode, middleware.Before) })
	}}})
	panics = true
	_, err := signOnce(t.Context(), key)
	assert.ErrorIs(t, err, backend.ErrUnavailable)
	assert.ErrorContains(t, err, "index out of range")
	assert.ErrorIs(t, b.Ping(t.Context()), backend.ErrUnavailable)
	panics = false
	_, err = signOnce(t.Context(), key)
	assert.NoError(t, err)
}

// TestClose: what is in flight ends first, and then nothing works and no connection is left (TestMain).
func TestClose(t *testing.T) {
	srv, b, key := signerOf(t, nil)
	srv.Script.Add(fakecloud.Fault{Op: "Sign", Delay: 200 * time.Millisecond})
	signed := make(chan error, 1)
	go func() {
		_, err := signOnce(t.Context(), key)
		signed <- err
	}()
	require.Eventually(t, func() bool { return srv.Log.Count("Sign") == 1 }, 30*time.Second, time.Millisecond)
	assert.NoError(t, b.Close())
	assert.NoError(t, <-signed)
	_, err := signOnce(t.Context(), key)
	assert.ErrorIs(t, err, backend.ErrClosed)
	for _, err := range []error{b.Ping(t.Context()), second(b.Open(t.Context(), at(srv, Params{KMSKey: "alias/p256"}))),
		second(b.Generate(t.Context(), at(srv, Params{KMSKey: "alias/new", KeyType: AES}), nil)), second(b.RemoveOrphans(t.Context(), nil))} {
		assert.ErrorIs(t, err, backend.ErrClosed)
	}
	for _, err := range b.List(t.Context(), at(srv, Params{})) {
		assert.ErrorIs(t, err, backend.ErrClosed)
	}
	assert.NoError(t, b.Close())
	assert.Equal(t, 1, srv.Log.Count("Sign"))
	_, err = Connect(&Options{Tags: map[string]string{"aws:x": "y"}})
	assert.ErrorIs(t, err, backend.ErrInvalidParams)
	_, err = Connect(&Options{Remote: remote.Options{MaxAttempts: -1}})
	assert.ErrorIs(t, err, backend.ErrInvalidParams)
}

func second[T any](_ T, err error) error { return err }
