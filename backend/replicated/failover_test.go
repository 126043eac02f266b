package replicated

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/managedkeys/managedkeys/backend"
)

// site is a key manager with one ECDSA key that can fail in every way.
type site struct {
	key     *ecdsa.PrivateKey
	err     atomic.Pointer[error] // what all calls fail with, Ping too
	hangs   atomic.Bool           // calls end with their context only
	opens   atomic.Int64
	signs   atomic.Int64
	pings   atomic.Int64
	closed  bool
	refuses crypto.Hash // a hash that the key doesn't sign
}

func (s *site) fail(err error) { s.err.Store(&err) }

func (s *site) answer(ctx context.Context) error {
	if s.hangs.Load() {
		<-ctx.Done()
		return fmt.Errorf("%w: %w", backend.ErrUnavailable, ctx.Err())
	}
	if err := s.err.Load(); err != nil && *err != nil {
		return *err
	}
	return nil
}

type siteParams struct {
	PIN backend.Secret `json:"pin"`
}

func (siteParams) BackendType() string { return "site" }
func (siteParams) Validate() error     { return nil }

func (*site) Type() string { return "site" }
func (s *site) Close() error {
	s.closed = true
	return nil
}

func (*site) DecodeParams(data []byte) (backend.Params, error) {
	return backend.DecodeParams[siteParams](data)
}

func (s *site) Ping(ctx context.Context) error {
	s.pings.Add(1)
	return s.answer(ctx)
}

func (s *site) Open(ctx context.Context, _ backend.Params) (backend.Key, error) {
	s.opens.Add(1)
	if err := s.answer(ctx); err != nil {
		return nil, err
	}
	caps := backend.Capabilities{Algorithm: "ECDSA P-256", Usages: backend.UsageDefault}
	for _, h := range []crypto.Hash{crypto.SHA256, crypto.SHA384} {
		if h != s.refuses {
			caps.Signatures = append(caps.Signatures, backend.SignatureAlgorithm{Scheme: backend.ECDSA, Hash: h})
		}
	}
	h := backend.NewHandle(backend.HandleConfig{ID: "k", Public: s.key.Public(), Capabilities: caps})
	return &signKey{&replica{Handle: h}, h.Signing(func(ctx context.Context, req backend.SignRequest) ([]byte, error) {
		s.signs.Add(1)
		if err := s.answer(ctx); err != nil {
			return nil, err
		}
		return ecdsa.SignASN1(rand.Reader, s.key, req.Digest)
	}), backend.RandomOps{}}, nil
}

// two returns a backend over two sites with the same key, and the sites.
func two(t *testing.T, opts *Options) (b *Backend, near, far *site) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	near, far = &site{key: key}, &site{key: key}
	b, err = New([]Place{{"near", near}, {"far", far}}, opts)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, b.Close()) })
	return b, near, far
}

var bothPlaces = Params{Places: []At{{"near", siteParams{}}, {"far", siteParams{}}}}

func open(t *testing.T, b *Backend) *signKey {
	t.Helper()
	key, err := b.Open(t.Context(), bothPlaces)
	require.NoError(t, err)
	return key.(*signKey)
}

func sign(ctx context.Context, key backend.Key) error {
	digest := make([]byte, 32)
	signature, err := key.(backend.Signer).SignContext(ctx, digest, crypto.SHA256)
	if err == nil && !ecdsa.VerifyASN1(key.Public().(*ecdsa.PublicKey), digest, signature) {
		return errors.New("the signature does not verify")
	}
	return err
}

var errAway = fmt.Errorf("%w: no route to host", backend.ErrUnavailable)

// TestFailover: what one place can't do now another does, the place that failed is left alone until it has answered a
// Ping, and then preferred again.
func TestFailover(t *testing.T) {
	for _, cause := range []error{
		errAway, backend.ErrThrottled, backend.ErrCredentials, backend.ErrKeyDisabled, backend.ErrKeyChanged,
		backend.ErrNotPermitted, backend.ErrKeyNotFound, backend.ErrIntegrity, backend.ErrClosed,
	} {
		t.Run(cause.Error(), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b, near, far := two(t, nil)
				key := open(t, b)
				require.NoError(t, sign(t.Context(), key))
				assert.Equal(t, []int64{1, 0}, []int64{near.signs.Load(), far.signs.Load()}, "the place listed first is preferred")

				near.fail(cause)
				for range 10 {
					require.NoError(t, sign(t.Context(), key))
				}
				assert.Equal(t, []int64{2, 10}, []int64{near.signs.Load(), far.signs.Load()})
				health := key.Health()
				assert.ErrorIs(t, health[0].Err, cause)
				assert.NoError(t, health[1].Err)
				time.Sleep(time.Minute)
				require.NoError(t, sign(t.Context(), key))
				synctest.Wait()
				assert.Equal(t, int64(2), near.signs.Load(), "a place that does not answer a Ping was asked to sign")
				assert.Positive(t, near.pings.Load())

				near.fail(nil)
				time.Sleep(longestRest)
				require.NoError(t, sign(t.Context(), key)) // has the place probed
				synctest.Wait()
				require.NoError(t, sign(t.Context(), key))
				assert.Equal(t, int64(3), near.signs.Load(), "a place that is back is not preferred")
				assert.NoError(t, key.Health()[0].Err)
			})
		})
	}
}

// TestHungPlace: a place that doesn't answer costs the attempt timeout once, and less if the caller's deadline is near.
func TestHungPlace(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, near, _ := two(t, nil)
		key := open(t, b)
		near.hangs.Store(true)
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		began := time.Now()
		require.NoError(t, sign(ctx, key))
		assert.Equal(t, time.Second/2, time.Since(began))
		began = time.Now()
		require.NoError(t, sign(t.Context(), key))
		assert.Zero(t, time.Since(began))
	})
	synctest.Test(t, func(t *testing.T) {
		b, near, _ := two(t, &Options{AttemptTimeout: 300 * time.Millisecond})
		key := open(t, b)
		near.hangs.Store(true)
		began := time.Now()
		require.NoError(t, sign(t.Context(), key))
		assert.Equal(t, 300*time.Millisecond, time.Since(began))
	})
}

// TestAllAway: if no place can do it, the error has the reason of each.
func TestAllAway(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, near, far := two(t, nil)
		key := open(t, b)
		near.fail(errAway)
		far.fail(backend.ErrThrottled)
		err := sign(t.Context(), key)
		assert.ErrorIs(t, err, backend.ErrUnavailable)
		assert.ErrorIs(t, err, backend.ErrThrottled)
		assert.ErrorContains(t, err, `place "near"`)
		assert.ErrorContains(t, err, `place "far"`)
		far.fail(nil)
		assert.NoError(t, sign(t.Context(), key), "a place that failed is tried when nothing else is left")
		assert.ErrorIs(t, b.Ping(t.Context()), backend.ErrUnavailable)
	})
}

// TestNoFailover: what another place would answer as well is the answer, and whoever leaves says nothing about a place.
func TestNoFailover(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, near, far := two(t, nil)
		key := open(t, b)
		near.fail(backend.ErrInvalidParams)
		assert.ErrorIs(t, sign(t.Context(), key), backend.ErrInvalidParams)
		near.fail(nil)
		near.hangs.Store(true)
		ctx, cancel := context.WithCancel(t.Context())
		time.AfterFunc(time.Second, cancel)
		assert.ErrorIs(t, sign(ctx, key), context.Canceled)
		assert.Zero(t, far.signs.Load())
		assert.NoError(t, key.Health()[0].Err)
	})
}

// TestOpenWhileAway: a place that is away doesn't keep the key from being opened; it joins when it is back.
func TestOpenWhileAway(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, near, _ := two(t, nil)
		near.hangs.Store(true)
		began := time.Now()
		key := open(t, b)
		assert.Equal(t, DefaultAttemptTimeout, time.Since(began))
		assert.False(t, key.Health()[0].Opened)
		require.NoError(t, sign(t.Context(), key))
		near.hangs.Store(false)
		time.Sleep(longestRest)
		require.NoError(t, sign(t.Context(), key))
		synctest.Wait()
		require.NoError(t, sign(t.Context(), key))
		assert.Equal(t, int64(1), near.signs.Load())
		assert.True(t, key.Health()[0].Opened)
	})
	synctest.Test(t, func(t *testing.T) {
		b, near, far := two(t, nil)
		near.fail(errAway)
		far.fail(backend.ErrKeyNotFound)
		_, err := b.Open(t.Context(), bothPlaces)
		assert.ErrorIs(t, err, backend.ErrUnavailable)
		assert.ErrorIs(t, err, backend.ErrKeyNotFound)
	})
}

// TestOtherKey: a place with another key is never used, neither when the key is opened nor when the place comes back.
func TestOtherKey(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, near, _ := two(t, nil)
		other, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		require.NoError(t, err)
		near.key = other
		_, err = b.Open(t.Context(), bothPlaces)
		assert.ErrorIs(t, err, backend.ErrKeyChanged)

		near.fail(errAway)
		key := open(t, b)
		near.fail(nil)
		for range 5 {
			time.Sleep(longestRest)
			require.NoError(t, sign(t.Context(), key))
			synctest.Wait()
		}
		assert.Zero(t, near.signs.Load())
		assert.ErrorIs(t, key.Health()[0].Err, backend.ErrKeyChanged)
	})
}

// TestLesserPlace: the key can do what all places can; one that joins later and can do less is passed over where it can't.
func TestLesserPlace(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, near, far := two(t, nil)
		near.refuses = crypto.SHA384
		assert.Equal(t, []crypto.Hash{crypto.SHA256}, open(t, b).Capabilities().Hashes())
		near.fail(errAway)
		key := open(t, b)
		near.fail(nil)
		time.Sleep(longestRest)
		require.NoError(t, sign(t.Context(), key))
		synctest.Wait()
		_, err := key.SignContext(t.Context(), make([]byte, 48), crypto.SHA384)
		assert.NoError(t, err)
		require.NoError(t, sign(t.Context(), key))
		assert.Equal(t, []int64{1, 2}, []int64{near.signs.Load(), far.signs.Load()})
	})
}

// TestClose: the places' backends stay open, and probes that are under way end.
func TestClose(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, near, far := two(t, nil)
		key := open(t, b)
		near.fail(errAway)
		require.NoError(t, sign(t.Context(), key))
		near.hangs.Store(true)
		time.Sleep(time.Second)
		require.NoError(t, sign(t.Context(), key)) // a probe hangs from now on
		require.NoError(t, b.Close())
		require.NoError(t, b.Close())
		assert.False(t, near.closed || far.closed)
		assert.ErrorIs(t, sign(t.Context(), key), backend.ErrClosed)
		_, err := b.Open(t.Context(), bothPlaces)
		assert.ErrorIs(t, err, backend.ErrClosed)
		assert.ErrorIs(t, b.Ping(t.Context()), backend.ErrClosed)
	})
}

// TestParamsJSON: parameters of all places are written, secrets included, and read back; nothing else shows them.
func TestParamsJSON(t *testing.T) {
	b, _, _ := two(t, nil)
	in := Params{Places: []At{{"near", siteParams{"s3cret-1"}}, {"far", siteParams{"s3cret-2"}}}}
	text, err := backend.EncodeParams(in)
	require.NoError(t, err)
	assert.JSONEq(t, `{"places": [{"place": "near", "params": {"pin": "s3cret-1"}}, {"place": "far", "params": {"pin": "s3cret-2"}}]}`, string(text))
	out, err := b.DecodeParams(text)
	require.NoError(t, err)
	assert.Equal(t, in, out)
	shown, err := json.Marshal(in)
	require.NoError(t, err)
	assert.NotContains(t, string(shown)+fmt.Sprintf("%+v %#v", in, in), "s3cret")
	for _, bad := range []string{
		`{}`, `{"places": [{}, {}]}`, `{"places": [{"place": "near", "params": {"pin": "1"}}]}`,
		`{"places": [{"place": "near", "params": {"pin": "1", "x": 1}}, {"place": "far", "params": {}}]}`,
		`{"places": [{"place": "moon", "params": {}}, {"place": "far", "params": {}}]}`,
	} {
		_, err := b.DecodeParams([]byte(bad))
		assert.ErrorIs(t, err, backend.ErrInvalidParams, bad)
	}
}

// TestNew: what makes no sense is refused.
func TestNew(t *testing.T) {
	s := new(site)
	for name, places := range map[string][]Place{
		"none": nil, "one": {{"a", s}}, "no name": {{"a", s}, {"", s}}, "no backend": {{"a", s}, {"b", nil}}, "twice": {{"a", s}, {"a", s}},
	} {
		_, err := New(places, nil)
		assert.ErrorIs(t, err, backend.ErrInvalidParams, name)
	}
	_, err := New([]Place{{"a", s}, {"b", s}}, &Options{AttemptTimeout: -1})
	assert.ErrorIs(t, err, backend.ErrInvalidParams)
}

// TestManyCallers: places that fail and come back while many sign lose no signature.
func TestManyCallers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, near, far := two(t, nil)
		key := open(t, b)
		var wg sync.WaitGroup
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		for range 16 {
			wg.Go(func() {
				for ctx.Err() == nil {
					assert.NoError(t, sign(t.Context(), key))
					time.Sleep(100 * time.Millisecond)
				}
			})
		}
		for i := range 10 {
			place := []*site{near, far}[i%2]
			place.fail(errAway)
			time.Sleep(3 * time.Second)
			place.fail(nil)
			time.Sleep(2 * longestRest)
		}
		cancel()
		wg.Wait()
		assert.Positive(t, near.signs.Load())
		assert.Positive(t, far.signs.Load())
	})
}
