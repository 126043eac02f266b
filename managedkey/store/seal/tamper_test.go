package seal_test

import (
	"bytes"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/managedkeys/managedkeys/backend"
	"github.com/managedkeys/managedkeys/managedkey/store"
	"github.com/managedkeys/managedkeys/managedkey/store/memory"
	"github.com/managedkeys/managedkeys/managedkey/store/seal"
)

// keeper is a store that outlives the sealed ones over it.
type keeper struct{ store.Store }

func (keeper) Close() error { return nil }

// sealed returns an engine and a sealed store over it.
func sealed(t *testing.T, opts *seal.Options) (store.Store, *seal.Store) {
	t.Helper()
	inner := keeper{memory.New(nil)}
	t.Cleanup(func() { inner.Store.Close() })
	return inner, open(t, inner, passphrase(t, "staple"), opts)
}

func apply(t *testing.T, s store.Store, ops ...store.Op) uint64 {
	t.Helper()
	revision, err := s.Apply(t.Context(), ops...)
	if err != nil {
		t.Fatal(err)
	}
	return revision
}

func get(t *testing.T, s store.Store, key string) store.Record {
	t.Helper()
	record, err := s.Get(t.Context(), key)
	if err != nil {
		t.Fatal(err)
	}
	return record
}

// tampered checks that a record is not given out, by whatever way it is read.
func tampered(t *testing.T, s *seal.Store, what, key string, from uint64) {
	t.Helper()
	record, err := s.Get(t.Context(), key)
	if !errors.Is(err, store.ErrCorrupt) {
		t.Errorf("%s: Get gave %q, %v", what, record.Value, err)
	}
	if page, err := s.List(t.Context(), "", "", 10); !errors.Is(err, store.ErrCorrupt) {
		t.Errorf("%s: List gave %d records, %v", what, len(page.Records), err)
	}
	for event, err := range s.Watch(t.Context(), "", from) {
		if !errors.Is(err, store.ErrCorrupt) {
			t.Errorf("%s: Watch gave %+v, %v", what, event, err)
		}
		break
	}
}

// TestTampering does with the engine's records whatever somebody without the data key can.
func TestTampering(t *testing.T) {
	inner, s := sealed(t, nil)
	apply(t, s, store.Op{Key: "a", Value: []byte("first")}, store.Op{Key: "b", Value: []byte("of b")}, store.Op{Key: "dir/a", Value: []byte("of dir")})
	first := get(t, inner, "data/a")
	apply(t, s, store.Op{Key: "a", Value: []byte("second"), Expect: store.Any})
	second := get(t, inner, "data/a")
	put := func(key string, value []byte) uint64 {
		t.Helper()
		return apply(t, inner, store.Op{Key: key, Value: value, Expect: store.Any}) - 1
	}
	if bytes.Contains(second.Value, []byte("second")) {
		t.Fatal("the value is in the clear")
	}

	for at := range second.Value {
		altered := bytes.Clone(second.Value)
		altered[at] ^= 1
		tampered(t, s, fmt.Sprintf("byte %d altered", at), "a", put("data/a", altered))
	}
	for _, n := range []int{0, 1, 5, 32, len(second.Value) - 1} {
		tampered(t, s, fmt.Sprintf("cut off after %d", n), "a", put("data/a", second.Value[:n]))
	}
	tampered(t, s, "made longer", "a", put("data/a", append(bytes.Clone(second.Value), 0)))
	tampered(t, s, "in the clear", "a", put("data/a", []byte("second")))
	tampered(t, s, "an old value of the same key", "a", put("data/a", first.Value))
	tampered(t, s, "the same value once more", "a", put("data/a", second.Value))
	tampered(t, s, "the value of another key", "a", put("data/a", get(t, inner, "data/b").Value))
	tampered(t, s, "the value of the same name elsewhere", "a", put("data/a", get(t, inner, "data/dir/a").Value))
	from := put("data/new", second.Value)
	apply(t, inner, store.Op{Kind: store.Delete, Key: "data/a", Expect: store.Any})
	tampered(t, s, "a value under a key that isn't there", "new", from)
	apply(t, inner, store.Op{Kind: store.Delete, Key: "data/new", Expect: store.Any})
	if record := get(t, s, "b"); string(record.Value) != "of b" {
		t.Errorf("another record: %q", record.Value)
	}
}

// TestKeyringTampering puts old keys back and moves records of this package.
func TestKeyringTampering(t *testing.T) {
	inner, s := sealed(t, &seal.Options{Manual: true})
	apply(t, s, store.Op{Key: "a", Value: []byte("value")})
	old := get(t, inner, "seal/keyring")
	usage := get(t, inner, "seal/usage/1")
	reopen := func() error {
		again, err := seal.Open(t.Context(), inner, passphrase(t, "staple"), quiet(nil))
		if err == nil {
			again.Close()
		}
		return err
	}
	if err := reopen(); err != nil {
		t.Fatal(err)
	}
	apply(t, inner, store.Op{Key: "seal/keyring", Value: old.Value, Expect: store.Any})
	if err := reopen(); !errors.Is(err, seal.ErrKeyring) || !strings.Contains(err.Error(), "put back from another version") {
		t.Errorf("an old keyring: %v", err)
	}
	if _, err := s.Apply(t.Context(), store.Op{Key: "b"}); !errors.Is(err, seal.ErrKeyring) {
		t.Errorf("Apply over an old keyring: %v", err)
	}
	if record := get(t, s, "a"); string(record.Value) != "value" {
		t.Errorf("reading goes on with the keys that are known: %q", record.Value)
	}

	other, s2 := sealed(t, nil)
	apply(t, s2, store.Op{Key: "a"})
	apply(t, other, store.Op{Key: "seal/usage/1", Value: usage.Value, Expect: store.Any})
	third := open(t, other, passphrase(t, "staple"), nil)
	if _, err := third.Apply(t.Context(), store.Op{Key: "b"}); !errors.Is(err, seal.ErrKeyring) || !strings.Contains(err.Error(), "seal/usage/1") {
		t.Errorf("a count of another store: %v", err)
	}
}

// TestOpenFails opens stores that can't be opened with that key, or at all.
func TestOpenFails(t *testing.T) {
	fails := func(t *testing.T, inner store.Store, key seal.Key, opts *seal.Options, want error, says string) {
		t.Helper()
		before, err := inner.List(t.Context(), "", "", 1)
		if err != nil {
			t.Fatal(err)
		}
		s, err := seal.Open(t.Context(), inner, key, quiet(opts))
		if err == nil {
			s.Close()
		}
		if !errors.Is(err, want) || !strings.Contains(err.Error(), says) {
			t.Errorf("error = %v, want %v and %q in it", err, want, says)
		}
		if after, err := inner.List(t.Context(), "", "", 1); err != nil || after.Revision != before.Revision {
			t.Errorf("a failed Open changed the store: %v", err)
		}
	}
	staple := passphrase(t, "staple")
	inner, s := sealed(t, nil)
	apply(t, s, store.Op{Key: "a"})
	fails(t, inner, passphrase(t, "wrong"), nil, seal.ErrSealKey, "does not decrypt the root key")
	fails(t, inner, passphrase(t, "wrong"), nil, backend.ErrCredentials, "passphrase")
	fails(t, inner, managed(t, aes(t)), nil, seal.ErrSealKey, `sealed with a key of the kind "passphrase", got one of the kind "aead`)
	fails(t, inner, staple, &seal.Options{EncryptNames: true}, store.ErrInvalid, "encrypt names")
	fails(t, inner, staple, &seal.Options{MaxValues: 10}, store.ErrInvalid, "max values: got 10; it takes 1000")
	fails(t, inner, staple, &seal.Options{MaxValues: 1 << 33}, store.ErrInvalid, "max values")

	root := get(t, inner, "seal/root")
	edit := func(value string) {
		apply(t, inner, store.Op{Key: "seal/root", Value: []byte(value), Expect: store.Any})
	}
	edit(strings.Replace(string(root.Value), `"version":1`, `"version":2`, 1))
	fails(t, inner, staple, nil, store.ErrForeign, "version of seal/root: got 2; it takes 1")
	edit("something else")
	fails(t, inner, staple, nil, store.ErrForeign, `not of the format "managedkeys/seal"`)
	edit(strings.Replace(string(root.Value), `"time":1`, `"time":1000000`, 1))
	fails(t, inner, staple, nil, seal.ErrSealKey, "")
	edit(string(root.Value))
	open(t, inner, staple, nil).Close()
	apply(t, inner, store.Op{Kind: store.Delete, Key: "seal/root", Expect: store.Any})
	fails(t, inner, staple, nil, seal.ErrKeyring, "one is missing; put it back from a backup")
	apply(t, inner, store.Op{Kind: store.Delete, Key: "seal/keyring", Expect: store.Any})
	apply(t, inner, store.Op{Kind: store.Delete, Key: "seal/usage/1", Expect: store.Any})
	fails(t, inner, staple, nil, seal.ErrKeyring, "there are sealed records")

	foreign := memory.New(nil)
	defer foreign.Close()
	apply(t, foreign, store.Op{Key: "entries/a"})
	fails(t, foreign, staple, nil, seal.ErrNotSealed, `"entries/a"`)

	empty := memory.New(nil)
	defer empty.Close()
	_, err := seal.Open(t.Context(), empty, managed(t, broken{aes(t)}), nil)
	if !errors.Is(err, backend.ErrUnavailable) {
		t.Errorf("a seal key that is away: %v", err)
	}
}

// broken is a key whose key manager is away.
type broken struct{ backend.AEAD }

func (broken) Seal(context.Context, []byte, []byte) ([]byte, error) {
	return nil, backend.ErrUnavailable
}

// TestNames checks that the engine sees no name, that a name is the same each time, and that it can't be moved.
func TestNames(t *testing.T) {
	inner, s := sealed(t, &seal.Options{EncryptNames: true})
	keys := []string{"team/secret", "team/other", "secret/team", "secret/secret", "team/secret/team"}
	for _, key := range keys {
		apply(t, s, store.Op{Key: key, Value: []byte(key)})
	}
	seen := map[string]bool{}
	for record, err := range store.All(t.Context(), inner, "data/") {
		if err != nil {
			t.Fatal(err)
		}
		for _, word := range []string{"team", "secret", "other"} {
			if strings.Contains(record.Key, word) || strings.Contains(record.Key, base64.RawURLEncoding.EncodeToString([]byte(word))) {
				t.Errorf("the engine sees %q", record.Key)
			}
		}
		segments := strings.Split(record.Key, "/")
		seen[segments[1]] = true
	}
	if len(seen) != 2 {
		t.Errorf("%d different first segments, want 2", len(seen))
	}
	page, err := s.List(t.Context(), "team/", "", 10)
	if err != nil || len(page.Records) != 3 {
		t.Errorf("List team/: %d records, %v", len(page.Records), err)
	}
	if _, err := s.Get(t.Context(), "absent/name"); !errors.Is(err, store.ErrNotFound) || !strings.Contains(err.Error(), `"absent/name"`) {
		t.Errorf("Get of nothing: %v", err)
	}
	_, err = s.Apply(t.Context(), store.Op{Key: keys[0]})
	var conflict *store.ConflictError
	if !errors.As(err, &conflict) || conflict.Key != keys[0] {
		t.Errorf("a conflict names %v", err)
	}
	long := strings.Repeat("x/", 60) + "x"
	if _, err := s.Apply(t.Context(), store.Op{Key: long}); !errors.Is(err, store.ErrTooLarge) {
		t.Errorf("a name that is too long when encrypted: %v", err)
	}
	// Moving a whole record, name included, into another folder.
	records, _, err := store.Load(t.Context(), inner, "data/")
	if err != nil {
		t.Fatal(err)
	}
	for _, record := range records {
		if parts := strings.Split(record.Key, "/"); len(parts) == 3 {
			apply(t, inner, store.Op{Key: "data/" + parts[2], Value: record.Value})
			break
		}
	}
	if _, err := s.List(t.Context(), "", "", 100); !errors.Is(err, store.ErrCorrupt) || !strings.Contains(err.Error(), "name") {
		t.Errorf("List with a moved name: %v", err)
	}
}
