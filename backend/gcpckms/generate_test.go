package gcpckms

import (
	"context"
	"strings"
	"testing"
	"time"

	"cloud.google.com/go/kms/apiv1/kmspb"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/managedkeys/managedkeys/backend"
	"github.com/managedkeys/managedkeys/backend/remote"
	"github.com/managedkeys/managedkeys/internal/fakecloud"
	"github.com/managedkeys/managedkeys/internal/fakegcp"
)

var replace = &backend.GenerateOptions{Replace: true}

// latest returns p for the newest version.
func latest(p Params) Params {
	p.CryptoKeyVersion = Latest
	return p
}

// A version that is still being generated is waited for, by Generate and by Open.
func TestPendingGeneration(t *testing.T) {
	r := newRig(t, &fakegcp.Options{GenerationReads: 3}, nil)
	key, err := r.b.Generate(t.Context(), r.params("ec", p256), nil)
	require.NoError(t, err)
	signs(t, key)
	assert.GreaterOrEqual(t, r.server.Log.Count("GetCryptoKeyVersion"), 2)

	// A process that ends while it waits leaves a key that another one opens.
	ctx, cancel := context.WithCancel(t.Context())
	r.server.Script.Add(fakecloud.Fault{Op: "GetPublicKey", Delay: time.Hour})
	go func() {
		for r.server.Log.Count("CreateCryptoKey") < 2 && t.Context().Err() == nil {
			time.Sleep(time.Millisecond)
		}
		cancel()
	}()
	_, err = r.b.Generate(ctx, r.params("left", p256), nil)
	require.ErrorIs(t, err, context.Canceled)
	r.server.Script.Clear() // if it was left before it came to that
	key, err = r.client(nil).Open(t.Context(), r.params("left", p256))
	require.NoError(t, err)
	signs(t, key)
}

func TestGenerationTakesTooLong(t *testing.T) {
	t.Parallel() // with others that wait
	r := newRig(t, &fakegcp.Options{GenerationReads: 1 << 20}, nil)
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
	defer cancel()
	_, err := r.b.Generate(ctx, r.params("ec", p256), nil)
	assert.ErrorIs(t, err, context.DeadlineExceeded)
	assert.ErrorIs(t, err, backend.ErrUnavailable)
	assert.Equal(t, 1, r.server.Versions(r.params("ec", p256).key()))
}

// Whatever happens to the call that makes a key, in either order, the key is made once.
func TestGenerateFaults(t *testing.T) {
	for name, f := range map[string]fakecloud.Fault{
		"unavailable": fault("", status.New(codes.Unavailable, "x")), "dropped": {Drop: true}, "internal": fault("", status.New(codes.Internal, "x")),
		"garbage": {Corrupt: fakegcp.Raw("\xff\xff")}, "empty": {Corrupt: fakegcp.Raw{}},
	} {
		for _, after := range []bool{false, true} {
			t.Run(name+map[bool]string{true: " after", false: " before"}[after], func(t *testing.T) {
				t.Parallel()
				r := newRig(t, nil, nil)
				f := f // the subtests run at once
				f.Op, f.After = "CreateCryptoKey", after
				r.server.Script.Add(f)
				key, err := r.b.Generate(t.Context(), r.params("ec", p256), nil)
				require.NoError(t, err)
				signs(t, key)
				assert.Equal(t, 1, r.server.Versions(r.params("ec", p256).key()))

				// A further version has no name that is known before: it must not be asked for twice.
				before := r.server.Log.Count("CreateCryptoKeyVersion")
				f.Op = "CreateCryptoKeyVersion"
				r.server.Script.Add(f)
				key, err = r.b.Generate(t.Context(), latest(r.params("ec", p256)), replace)
				done := after || f.Corrupt != nil
				if done {
					require.NoError(t, err, "the version that was made is found")
					assert.True(t, strings.HasSuffix(key.ID(), "/2"), key.ID())
					signs(t, key)
				} else {
					require.ErrorIs(t, err, backend.ErrUnavailable)
				}
				assert.Equal(t, 1, r.server.Log.Count("CreateCryptoKeyVersion")-before)
				assert.Equal(t, map[bool]int{true: 2, false: 1}[done], r.server.Versions(r.params("ec", p256).key()))
			})
		}
	}
}

// A port that refuses connections is known to have made nothing, so that the call is repeated.
func TestUnreachedIsRepeated(t *testing.T) {
	r := newRig(t, nil, nil)
	r.add("ec", p256, Software)
	address := r.server.Addr()
	key := r.open(latest(r.params("ec", p256)))
	signs(t, key)
	require.NoError(t, r.server.Close())
	_, err := r.b.Generate(t.Context(), r.params("other", p256), nil)
	require.ErrorIs(t, err, backend.ErrUnavailable, address)
	assert.NotZero(t, r.b.given.remote.Retries())
	assert.Equal(t, r.b.given.remote.Retries(), r.b.Load()[0].Retries)
}

// A key without versions is what is left of an import or a plan that was interrupted; a version is added.
func TestGenerateFinishes(t *testing.T) {
	r := newRig(t, nil, nil)
	p := r.params("empty", p256)
	_, err := r.b.given.client.CreateCryptoKey(t.Context(), &kmspb.CreateCryptoKeyRequest{
		Parent: r.ring, CryptoKeyId: "empty", SkipInitialVersionCreation: true,
		CryptoKey: &kmspb.CryptoKey{
			Purpose:         kmspb.CryptoKey_ASYMMETRIC_SIGN,
			VersionTemplate: &kmspb.CryptoKeyVersionTemplate{Algorithm: kmspb.CryptoKeyVersion_EC_SIGN_P256_SHA256},
		},
	})
	require.NoError(t, err)
	_, err = r.b.Open(t.Context(), p)
	require.ErrorIs(t, err, backend.ErrKeyNotFound)
	_, err = r.b.Open(t.Context(), latest(p))
	require.ErrorIs(t, err, backend.ErrKeyNotFound)

	wrong := r.params("empty", "EC_SIGN_P384_SHA384")
	_, err = r.b.Generate(t.Context(), wrong, nil)
	assert.ErrorIs(t, err, backend.ErrInvalidParams, "the key's template makes other versions")
	wrong = r.params("empty", "HMAC_SHA256")
	_, err = r.b.Generate(t.Context(), wrong, nil)
	assert.ErrorIs(t, err, backend.ErrInvalidParams, "the key has another purpose")
	wrong = p
	wrong.ProtectionLevel = HSM
	_, err = r.b.Generate(t.Context(), wrong, nil)
	assert.ErrorIs(t, err, backend.ErrInvalidParams, "the key has another level")
	assert.Zero(t, r.server.Versions(p.key()))

	key, err := r.b.Generate(t.Context(), p, nil)
	require.NoError(t, err)
	signs(t, key)
	assert.True(t, strings.HasSuffix(key.ID(), "/1"))
}

// Of two that add the first version at once, one is undone.
func TestGenerateRace(t *testing.T) {
	r := newRig(t, nil, nil)
	p := r.params("empty", p256)
	_, err := r.b.given.client.CreateCryptoKey(t.Context(), &kmspb.CreateCryptoKeyRequest{
		Parent: r.ring, CryptoKeyId: "empty", SkipInitialVersionCreation: true,
		CryptoKey: &kmspb.CryptoKey{
			Purpose:         kmspb.CryptoKey_ASYMMETRIC_SIGN,
			VersionTemplate: &kmspb.CryptoKeyVersionTemplate{Algorithm: kmspb.CryptoKeyVersion_EC_SIGN_P256_SHA256},
		},
	})
	require.NoError(t, err)
	made := make(chan error, 4)
	for range cap(made) {
		go func() {
			_, err := r.b.Generate(t.Context(), p, nil)
			made <- err
		}()
	}
	var succeeded int
	for range cap(made) {
		err := <-made
		if err == nil {
			succeeded++
			continue
		}
		assert.ErrorIs(t, err, backend.ErrKeyExists)
	}
	assert.Equal(t, 1, succeeded)
	key := r.open(latest(p))
	assert.True(t, strings.HasSuffix(key.ID(), "/1"), "the others' versions are scheduled for destruction: %s", key.ID())
}

func TestGenerateRefused(t *testing.T) {
	r := newRig(t, nil, nil)
	change := func(change func(*Params)) Params {
		p := r.params("new", p256)
		change(&p)
		return p
	}
	for name, test := range map[string]struct {
		p    Params
		want error
	}{
		"no algorithm":     {change(func(p *Params) { p.Algorithm = "" }), backend.ErrInvalidParams},
		"a later version":  {change(func(p *Params) { p.CryptoKeyVersion = "2" }), backend.ErrInvalidParams},
		"outside":          {change(func(p *Params) { p.ProtectionLevel = External }), backend.ErrUnsupported},
		"an external key":  {change(func(p *Params) { p.Algorithm = "EXTERNAL_SYMMETRIC_ENCRYPTION" }), backend.ErrUnsupported},
		"no such key ring": {change(func(p *Params) { p.KeyRing = "absent" }), backend.ErrKeyNotFound},
	} {
		key, err := r.b.Generate(t.Context(), test.p, nil)
		assert.ErrorIs(t, err, test.want, name)
		assert.Nil(t, key, name)
		assert.Zero(t, r.server.Versions(test.p.key()), name)
	}
	p := r.add("old", p256, Software)
	_, err := r.b.Generate(t.Context(), p, replace)
	assert.ErrorIs(t, err, backend.ErrUnsupported)
	assert.ErrorContains(t, err, "latest")
	assert.Equal(t, 1, r.server.Versions(p.key()))
	r.server.Script.Add(fault("CreateCryptoKey", status.New(codes.PermissionDenied, "no")))
	_, err = r.b.Generate(t.Context(), r.params("new", p256), nil)
	assert.ErrorIs(t, err, backend.ErrNotPermitted)
}

// Every algorithm can be generated and used, once each: RSA of all sizes is here.
func TestEveryAlgorithm(t *testing.T) {
	r := newRig(t, nil, nil)
	for _, alg := range Algorithms() {
		if strings.HasPrefix(string(alg), "EXTERNAL_") {
			continue // TestExternal
		}
		key, err := r.b.Generate(t.Context(), r.params(lower(alg), alg), nil)
		require.NoError(t, err, alg)
		caps := key.Capabilities()
		assert.Equal(t, algorithms[alg].describe(), caps.Algorithm)
		if pub := key.Public(); pub != nil {
			assert.Equal(t, backend.Describe(pub), caps.Algorithm)
		}
		useOnce(t, alg, key)
	}
}

// A rotation is seen when the key is opened again, and never by a handle that is open.
func TestLatest(t *testing.T) {
	r := newRig(t, nil, nil)
	p := latest(r.add("ec", p256, Software))
	first := r.open(p)
	assert.True(t, strings.HasSuffix(first.ID(), "/cryptoKeyVersions/1"))
	for range 10 { // version 10 and 11 are newer than 9, though not in the alphabet
		_, err := r.server.AddVersion(p.key())
		require.NoError(t, err)
	}
	newest := r.open(p)
	assert.True(t, strings.HasSuffix(newest.ID(), "/cryptoKeyVersions/11"), newest.ID())
	signs(t, first)
	signs(t, newest)
	assert.NotEqual(t, first.Public(), newest.Public())
	disabled := p
	disabled.CryptoKeyVersion = "11"
	r.setState(disabled, kmspb.CryptoKeyVersion_DISABLED)
	assert.True(t, strings.HasSuffix(r.open(p).ID(), "/cryptoKeyVersions/10"), "the newest one that is enabled")
	_, err := signError(t.Context(), newest)
	assert.ErrorIs(t, err, backend.ErrKeyDisabled)
	for n := range 11 {
		p.CryptoKeyVersion = Version(string("123456789"[min(n, 8)]))
		if n >= 9 {
			p.CryptoKeyVersion = []Version{"10", "11"}[n-9]
		}
		r.setState(p, kmspb.CryptoKeyVersion_DISABLED)
	}
	_, err = r.b.Open(t.Context(), latest(p))
	assert.ErrorIs(t, err, backend.ErrKeyDisabled)
	assert.ErrorContains(t, err, "11 versions")
}

// Replacing gives a further version; the old one lives on for its handles.
func TestReplaceKeepsOld(t *testing.T) {
	r := newRig(t, nil, &Options{Remote: remote.Options{MaxAttempts: 1}})
	p := latest(r.add("ec", p256, Software))
	old := r.open(p)
	failing := fault("CreateCryptoKeyVersion", status.New(codes.ResourceExhausted, "x"))
	r.server.Script.Add(failing)
	_, err := r.b.Generate(t.Context(), p, replace)
	require.ErrorIs(t, err, backend.ErrThrottled)
	assert.Equal(t, old.ID(), r.open(p).ID())
	key, err := r.b.Generate(t.Context(), p, replace)
	require.NoError(t, err)
	signs(t, old)
	signs(t, key)
	assert.NotEqual(t, old.ID(), key.ID())
	assert.Equal(t, key.ID(), r.open(p).ID())
}
