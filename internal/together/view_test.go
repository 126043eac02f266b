package together

import (
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/managedkeys/managedkeys/backend"
	"github.com/managedkeys/managedkeys/managedkey"
	"github.com/managedkeys/managedkeys/managedkey/store"
)

// view is what a registry, or the store, says of the namespace, for comparison. Entries and mounts have their versions or
// ids in it, so that two views that are equal mean the same records.
type view map[string]string

// stored returns the view of a store.
func stored(ctx context.Context, st store.Store) (view, error) {
	records, _, err := store.Load(ctx, st, "registry/")
	if err != nil {
		return nil, err
	}
	out := view{}
	var granted []string
	ids := map[string]string{}
	for _, record := range records {
		var content struct {
			ID     string        `json:"id"`
			UUID   string        `json:"uuid"`
			Usages backend.Usage `json:"usages"`
			Pin    string        `json:"public_key_sha256"`
			Grants []string      `json:"grants"`
		}
		if err := json.Unmarshal(record.Value, &content); err != nil {
			return nil, err
		}
		if name, ok := strings.CutPrefix(record.Key, "registry/entries/"+string(team)+"/:/"); ok {
			out["entry "+name] = describe(content.UUID, content.Usages, content.Pin, record.Version)
			if name == shared {
				granted = content.Grants
			}
		} else if path, ok := strings.CutPrefix(record.Key, "registry/mounts/"+string(team)+"/:/"); ok {
			ids[path] = content.ID
		} else {
			return nil, fmt.Errorf("a record %q that nobody wrote", record.Key)
		}
	}
	for path, id := range ids {
		out["mount "+path] = fmt.Sprintf("%s signs %t", id, slices.Contains(granted, id))
	}
	return out, nil
}

func describe(uuid string, usages backend.Usage, pin string, version uint64) string {
	return fmt.Sprintf("%s usages %v pin %.8s version %d", uuid, usages, pin, version)
}

// seen returns the view of a registry. Which mounts sign is not asked but tried. paths are those that mounts may have.
func seen(ctx context.Context, r *managedkey.Registry, paths []string) (view, error) {
	out := view{}
	for _, name := range r.List(team) {
		e, err := r.Entry(named(name))
		if errors.Is(err, backend.ErrKeyNotFound) {
			continue // deleted since
		}
		if err != nil {
			return nil, err
		}
		out["entry "+name] = describe(e.UUID, e.Usages, hex.EncodeToString(e.PublicKeySHA256), e.Version)
	}
	for _, path := range paths {
		m, err := r.OpenMount(team, path)
		if errors.Is(err, backend.ErrKeyNotFound) {
			continue
		}
		if err != nil {
			return nil, err
		}
		err = mountSigns(ctx, m)
		if err != nil && !errors.Is(err, backend.ErrNotPermitted) {
			return nil, err
		}
		out["mount "+path] = fmt.Sprintf("%s signs %t", m.ID(), err == nil)
	}
	return out, nil
}

// mountSigns signs with the shared entry by way of a mount.
func mountSigns(ctx context.Context, m *managedkey.Mount) error {
	key, err := m.Key(ctx, shared)
	if err != nil {
		return err
	}
	return signs(key)
}

// agree waits until all registries see what is in the store, and returns that.
func agree(t *testing.T, st store.Store, views ...func() (view, error)) view {
	t.Helper()
	want, err := stored(t.Context(), st)
	require.NoError(t, err)
	for i, see := range views {
		var got view
		var err error
		same := func() bool {
			got, err = see()
			return err == nil && maps.Equal(got, want)
		}
		if !poll(same) {
			t.Fatalf("registry %d sees, with error %v,\n%s\nand the store has\n%s", i, err, lines(got), lines(want))
		}
	}
	return want
}

func lines(v view) string {
	return strings.ReplaceAll(fmt.Sprintf("%q", map[string]string(v)), `" "`, "\"\n\"")
}
