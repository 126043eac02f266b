package seal_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/managedkeys/managedkeys/managedkey/store"
	"github.com/managedkeys/managedkeys/managedkey/store/memory"
	"github.com/managedkeys/managedkeys/managedkey/store/seal"
)

// TestRotateSealKey checks that only the root key is wrapped anew, that other processes go on, and which key opens then.
func TestRotateSealKey(t *testing.T) {
	inner, s := sealed(t, nil)
	other := open(t, inner, passphrase(t, "staple"), nil)
	apply(t, s, store.Op{Key: "a", Value: []byte("value")})
	data, ring, root := get(t, inner, "data/a"), get(t, inner, "seal/keyring"), get(t, inner, "seal/root")
	key := aes(t)
	if err := s.RotateSealKey(t.Context(), managed(t, broken{key})); err == nil {
		t.Error("a seal key that is away was taken")
	}
	if got := get(t, inner, "seal/root"); got.Version != root.Version {
		t.Error("a rotation that failed changed the store")
	}
	if err := s.RotateSealKey(t.Context(), managed(t, key)); err != nil {
		t.Fatal(err)
	}
	if st := s.Status(); st.SealKind != "aead" || st.SealID != key.ID() {
		t.Errorf("status: %+v", st)
	}
	if get(t, inner, "data/a").Version != data.Version || get(t, inner, "seal/keyring").Version != ring.Version || get(t, inner, "seal/root").Version == root.Version {
		t.Error("more or less than the root key was written")
	}
	apply(t, other, store.Op{Key: "b", Value: []byte("of other")})
	if record := get(t, s, "b"); string(record.Value) != "of other" {
		t.Errorf("written by a process with the old seal key: %q", record.Value)
	}
	if _, err := seal.Open(t.Context(), inner, passphrase(t, "staple"), quiet(nil)); !errors.Is(err, seal.ErrSealKey) {
		t.Errorf("the old seal key: %v", err)
	}
	open(t, inner, managed(t, key), nil).Close()

	// A process with the old seal key must not make keys that nobody else can read, nor go on once there is a new root key.
	if err := other.RotateDataKey(t.Context()); !errors.Is(err, seal.ErrSealKey) {
		t.Errorf("RotateDataKey with the old seal key: %v", err)
	}
	if err := s.RotateDataKey(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, err := other.Apply(t.Context(), store.Op{Key: "c"}); !errors.Is(err, seal.ErrSealKey) {
		t.Errorf("Apply with the old seal key after the root key was replaced: %v", err)
	}
}

// await polls until a condition holds.
func await(t *testing.T, what string, condition func() bool) {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); !condition(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("%s: it didn't happen", what)
		}
	}
}

// under returns how many values are encrypted with a data key.
func under(t *testing.T, inner store.Store, id byte) (n int) {
	t.Helper()
	for record, err := range store.All(t.Context(), inner, "data/") {
		if err != nil {
			t.Fatal(err)
		}
		if record.Value[4] == id {
			n++
		}
	}
	return n
}

func fill(t *testing.T, s store.Store, n int) {
	t.Helper()
	for i := range n {
		apply(t, s, store.Op{Key: fmt.Sprintf("f/%d", i), Value: fmt.Append(nil, i)})
	}
}

func checkFilled(t *testing.T, s store.Store, n int) {
	t.Helper()
	for i := range n {
		if record := get(t, s, fmt.Sprintf("f/%d", i)); string(record.Value) != fmt.Sprint(i) {
			t.Errorf("%s has value %q", record.Key, record.Value)
		}
	}
}

// TestRotateDataKey checks that values move to the new key in the background, that the old one is dropped, and that an
// old copy of a value is worth nothing then.
func TestRotateDataKey(t *testing.T) {
	inner, s := sealed(t, nil)
	other := open(t, inner, passphrase(t, "staple"), nil)
	fill(t, s, 120)
	from := get(t, s, "f/0").Version - 1
	if err := s.RotateDataKey(t.Context()); err != nil {
		t.Fatal(err)
	}
	await(t, "rotation", func() bool { return slices.Equal(s.Status().DataKeys, []uint32{2}) })
	if n := under(t, inner, 2); n != 120 {
		t.Errorf("%d values are under the new key", n)
	}
	checkFilled(t, other, 120) // which has to read the keys again
	if _, err := inner.Get(t.Context(), "seal/usage/1"); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("the count of the old key: %v", err)
	}
	for _, err := range s.Watch(t.Context(), "", from) {
		if !errors.Is(err, store.ErrCompacted) {
			t.Errorf("Watch of changes under the old key: %v", err)
		}
		break
	}
	records, revision, err := store.Load(t.Context(), s, "f/")
	if err != nil || len(records) != 120 {
		t.Fatalf("Load: %d records, %v", len(records), err)
	}
	version := apply(t, other, store.Op{Key: "f/0", Value: []byte("new"), Expect: store.Any})
	for event, err := range s.Watch(t.Context(), "", revision) {
		if err != nil || event.Revision != version || string(event.Changes[0].Value) != "new" {
			t.Errorf("Watch: %+v, %v", event, err)
		}
		break
	}
}

// failing is an engine whose transactions fail after a number of them.
type failing struct {
	store.Store
	left atomic.Int64
}

var errBroken = errors.New("broken")

func (f *failing) Apply(ctx context.Context, ops ...store.Op) (uint64, error) {
	if f.left.Add(-1) < 0 {
		return 0, fmt.Errorf("%w: %w", errBroken, store.ErrUnavailable)
	}
	return f.Store.Apply(ctx, ops...)
}

// TestRotationGoesOn stops the work after each of its transactions, as a crash does, and goes on with another process.
func TestRotationGoesOn(t *testing.T) {
	const n = 160
	stopped := 0
	for after := 0; ; after++ {
		inner, s := sealed(t, &seal.Options{Manual: true})
		fill(t, s, n)
		if err := s.RotateDataKey(t.Context()); err != nil {
			t.Fatal(err)
		}
		f := &failing{Store: inner}
		f.left.Store(int64(after))
		crashing, err := seal.Open(t.Context(), f, passphrase(t, "staple"), quiet(&seal.Options{Manual: true}))
		if err != nil {
			t.Fatal(err)
		}
		_, err = crashing.Reencrypt(t.Context())
		checkFilled(t, s, n)
		if err == nil {
			break
		}
		if stopped++; !errors.Is(err, errBroken) {
			t.Fatalf("Reencrypt: %v", err)
		}
		resumed := open(t, inner, passphrase(t, "staple"), nil)
		await(t, "rotation", func() bool { return slices.Equal(resumed.Status().DataKeys, []uint32{2}) })
		if got := under(t, inner, 2); got != n {
			t.Errorf("stopped after %d: %d values are under the new key", after, got)
		}
		checkFilled(t, resumed, n)
	}
	if stopped < 3 {
		t.Errorf("it was stopped %d times only", stopped)
	}
}

// TestRotationUnderLoad rotates keys while clients on two handles count up the same records: no count may be lost.
func TestRotationUnderLoad(t *testing.T) {
	inner, s := sealed(t, nil)
	other := open(t, inner, passphrase(t, "staple"), nil)
	fill(t, s, 100)
	handles := []*seal.Store{s, other}
	var counted atomic.Int64
	var clients sync.WaitGroup
	stop := make(chan struct{})
	for i := range 4 {
		clients.Go(func() {
			for n := 0; ; n++ {
				select {
				case <-stop:
					return
				default:
				}
				done, err := count(t.Context(), handles[i%2], fmt.Sprintf("c/%d", n%3))
				if err != nil {
					t.Errorf("count: %v", err)
					return
				}
				if done {
					counted.Add(1)
				}
			}
		})
	}
	for i := range 6 {
		before := counted.Load()
		if err := handles[i%2].RotateDataKey(t.Context()); err != nil {
			t.Error(err)
		}
		await(t, "counting", func() bool { return counted.Load() > before })
	}
	close(stop)
	clients.Wait()
	await(t, "rotation", func() bool {
		_, err := s.Reencrypt(t.Context())
		return err == nil && len(s.Status().DataKeys) == 1
	})
	if st := s.Status(); st.Active != 7 || under(t, inner, 7) != 103 {
		t.Errorf("status: %+v; %d values are under the last key", st, under(t, inner, 7))
	}
	checkFilled(t, other, 100)
	sum := int64(0)
	for i := range 3 {
		n, err := strconv.ParseInt(string(get(t, other, fmt.Sprintf("c/%d", i)).Value), 10, 64)
		if err != nil {
			t.Error(err)
		}
		sum += n
	}
	if sum != counted.Load() {
		t.Errorf("%d counts were acknowledged, the records have %d", counted.Load(), sum)
	}
}

// count adds one to a record, unless others change it at the same time.
func count(ctx context.Context, s store.Store, key string) (done bool, err error) {
	record, err := s.Get(ctx, key)
	if err != nil && !errors.Is(err, store.ErrNotFound) {
		return false, err
	}
	n, _ := strconv.ParseInt(string(record.Value), 10, 64)
	_, err = s.Apply(ctx, store.Op{Key: key, Value: strconv.AppendInt(nil, n+1, 10), Expect: store.Expect(record.Version)})
	if errors.Is(err, store.ErrConflict) {
		return false, nil
	}
	return err == nil, err
}

// TestUsedUp checks that a data key is replaced before it has encrypted too many values, by all processes together.
func TestUsedUp(t *testing.T) {
	var log bytes.Buffer
	opts := &seal.Options{MaxValues: 1000, Manual: true, Logger: slog.New(slog.NewTextHandler(&log, nil))}
	inner, s := sealed(t, opts)
	other := open(t, inner, passphrase(t, "staple"), opts)
	for i := range 1500 {
		apply(t, []*seal.Store{s, other}[i%2], store.Op{Key: fmt.Sprintf("u/%d", i)})
	}
	first, second := under(t, inner, 1), under(t, inner, 2)
	if first > 1000 || first < 700 || second != 1500-first {
		t.Errorf("%d values are under the first key, %d under the second", first, second)
	}
	if !strings.Contains(log.String(), "used up") {
		t.Errorf("the log says %q", log.String())
	}
}

// TestCreatedTogether lets several processes make the keys of a new store.
func TestCreatedTogether(t *testing.T) {
	inner := keeper{memory.New(nil)}
	defer inner.Store.Close()
	key := passphrase(t, "staple")
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			s, err := seal.Open(t.Context(), inner, key, quiet(nil))
			if err != nil {
				t.Error(err)
				return
			}
			defer s.Close()
			if _, err := s.Apply(t.Context(), store.Op{Key: fmt.Sprintf("f/%d", i), Value: fmt.Append(nil, i)}); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	checkFilled(t, open(t, inner, key, nil), 8)
}
