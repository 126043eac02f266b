package azurekeyvault

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/security/keyvault/azkeys"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/managedkeys/managedkeys/backend"
	"github.com/managedkeys/managedkeys/internal/fakeazure"
	"github.com/managedkeys/managedkeys/internal/fakecloud"
)

func ecKeyParams(name string) Params { return Params{KeyName: name, KeyType: EC, Curve: P256} }

// versionsOf returns the versions of a key as the vault has them.
func versionsOf(t *testing.T, b *Backend, name string) []version {
	t.Helper()
	all, err := b.single.versions(t.Context(), name)
	require.NoError(t, err)
	return all
}

// settled checks that of all versions of a key exactly one is enabled and none is pending.
func settled(t *testing.T, b *Backend, name, want string) {
	t.Helper()
	enabled := 0
	for _, v := range versionsOf(t, b, name) {
		assert.False(t, pending(v.tags), "version %s is pending", v.id)
		if *v.attrs.Enabled {
			enabled++
			assert.Contains(t, want, v.id)
		}
	}
	assert.Equal(t, 1, enabled, "versions that are enabled")
}

// TestGeneratorsRace: programs that make the same key at the same time get one key between them.
func TestGeneratorsRace(t *testing.T) {
	t.Parallel()
	srv := newFake(t, nil)
	const programs, keys = 5, 6
	var backends []*Backend
	for range programs {
		backends = append(backends, newBackendAt(t, srv, vaultURL, nil))
	}
	// All look before anybody makes a version, so that all make one.
	var looking sync.WaitGroup
	looking.Add(programs * keys)
	srv.Script.Add(fakecloud.Fault{Op: "versions", Times: programs * keys, Corrupt: func(map[string]any) { looking.Done(); looking.Wait() }})
	var mu sync.Mutex
	won := make(map[string]backend.Key)
	var wg sync.WaitGroup
	for i := range keys {
		name := fmt.Sprintf("race-%d", i)
		for _, b := range backends {
			wg.Go(func() {
				key, err := b.Generate(t.Context(), ecKeyParams(name), nil)
				mu.Lock()
				defer mu.Unlock()
				switch {
				case err != nil:
					assert.ErrorIs(t, err, backend.ErrKeyExists)
				case won[name] != nil:
					t.Errorf("%s was made twice: %s and %s", name, won[name].ID(), key.ID())
				default:
					won[name] = key
				}
			})
		}
	}
	wg.Wait()
	for i := range keys {
		name := fmt.Sprintf("race-%d", i)
		require.NotNil(t, won[name], "nobody made %s", name)
		assert.Len(t, versionsOf(t, backends[0], name), programs, "the race was none")
		settled(t, backends[0], name, won[name].ID())
		for _, b := range backends {
			assert.Equal(t, won[name].ID(), open(t, b, Params{KeyName: name}).ID())
		}
	}
}

// made has the versions that are listed be as if they had been made an hour before.
func made(answer map[string]any) {
	for _, item := range answer["value"].([]any) {
		attributes := item.(map[string]any)["attributes"].(map[string]any)
		attributes["created"] = attributes["created"].(float64) - 3600
	}
}

// TestGeneratorCrashed: a program that stopped after it had made a version leaves a key that opens, and that the next
// generator puts in order.
func TestGeneratorCrashed(t *testing.T) {
	t.Parallel()
	srv := newFake(t, nil)
	b := newBackendAt(t, srv, vaultURL, nil)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error)
	go func() {
		_, err := b.Generate(ctx, ecKeyParams("k"), nil)
		done <- err
	}()
	require.Eventually(t, func() bool { return srv.Log.Count("create") == 1 && len(versionsOf(t, b, "k")) == 1 }, 30*time.Second, 5*time.Millisecond)
	cancel()
	err := <-done
	require.ErrorIs(t, err, context.Canceled)
	assert.ErrorContains(t, err, "k/")
	first := versionsOf(t, b, "k")[0]
	require.True(t, pending(first.tags))

	// Another program had made one as well, and stopped too.
	makeKey(t, sdkClient(t, srv, vaultURL), "k", azkeys.CreateKeyParameters{
		Kty: ptr(azkeys.KeyTypeEC), Tags: map[string]*string{generationTag: ptr("pending other")},
	})
	all := versionsOf(t, b, "k")
	require.Len(t, all, 2)
	want := all[0].id // of the same second, perhaps
	key := open(t, b, Params{KeyName: "k"})
	assert.Equal(t, want, key.(*ecKey).ID()[len(key.ID())-32:])

	srv.Script.Add(fakecloud.Fault{Op: "versions", Corrupt: func(a map[string]any) {
		for _, item := range a["value"].([]any) {
			item.(map[string]any)["attributes"].(map[string]any)["created"] = time.Now().Unix()
		}
	}})
	_, err = b.Generate(t.Context(), ecKeyParams("k"), nil)
	require.ErrorIs(t, err, backend.ErrKeyExists, "somebody may still be at it")
	assert.True(t, pending(versionsOf(t, b, "k")[0].tags))

	srv.Script.Add(fakecloud.Fault{Op: "versions", Corrupt: made})
	_, err = b.Generate(t.Context(), ecKeyParams("k"), nil)
	require.ErrorIs(t, err, backend.ErrKeyExists)
	settled(t, b, "k", key.ID())
	assert.Equal(t, key.ID(), open(t, b, Params{KeyName: "k"}).ID())
}

// TestLoserCrashed: a version of a generator that was not the first, and did not come to disable it, is not taken for the
// key, and is disabled by the next generator.
func TestLoserCrashed(t *testing.T) {
	t.Parallel()
	srv := newFake(t, nil)
	b := newBackendAt(t, srv, vaultURL, nil)
	key, err := b.Generate(t.Context(), ecKeyParams("k"), nil)
	require.NoError(t, err)
	makeKey(t, sdkClient(t, srv, vaultURL), "k", azkeys.CreateKeyParameters{
		Kty: ptr(azkeys.KeyTypeEC), Tags: map[string]*string{generationTag: ptr("pending other")},
	})
	srv.Log.Clear()
	assert.Equal(t, key.ID(), open(t, b, Params{KeyName: "k"}).ID())
	assert.Equal(t, 3, srv.Log.Count(""), "get, versions, get")
	srv.Script.Add(fakecloud.Fault{Op: "versions", Corrupt: made})
	_, err = b.Generate(t.Context(), ecKeyParams("k"), nil)
	require.ErrorIs(t, err, backend.ErrKeyExists)
	settled(t, b, "k", key.ID())
}

// TestWinnerCrashed: the first version is the key even if its generator stopped before it could say so, and another one has
// given way already.
func TestWinnerCrashed(t *testing.T) {
	t.Parallel()
	srv := newFake(t, nil)
	b := newBackendAt(t, srv, vaultURL, nil)
	client := sdkClient(t, srv, vaultURL)
	var ids []string
	for range 2 {
		ids = append(ids, makeKey(t, client, "k", azkeys.CreateKeyParameters{
			Kty: ptr(azkeys.KeyTypeEC), Tags: map[string]*string{generationTag: ptr("pending " + rand.Text())},
		}))
	}
	slices.Sort(ids) // they were made in the same second, or are listed so
	srv.Script.Add(fakecloud.Fault{Op: "versions", Times: -1, Corrupt: func(a map[string]any) {
		for _, item := range a["value"].([]any) {
			item.(map[string]any)["attributes"].(map[string]any)["created"] = 1700000000
		}
	}})
	all := versionsOf(t, b, "k")
	require.NoError(t, b.single.finish(t.Context(), "k", all[1], false))
	for range 2 {
		assert.Contains(t, open(t, b, Params{KeyName: "k"}).ID(), ids[0])
		_, err := b.Generate(t.Context(), ecKeyParams("k"), nil) // which finishes it
		require.ErrorIs(t, err, backend.ErrKeyExists)
		settled(t, b, "k", ids[0])
	}
}

// TestLostAnswers: generating is tried again only if nothing was made, and what was made is found.
func TestLostAnswers(t *testing.T) {
	t.Parallel()
	srv := newFake(t, nil)
	b := newBackendAt(t, srv, vaultURL, nil)
	for name, fault := range map[string]fakecloud.Fault{
		"dropped": {Drop: true},
		"503":     {Error: status(503, "ServiceUnavailable", "")},
		"HTML":    {Error: &fakeazure.Raw{Status: 200, Body: "<html>"}},
	} {
		for _, after := range []bool{false, true} {
			for _, replace := range []bool{false, true} {
				t.Run(fmt.Sprintf("%s/after=%t/replace=%t", name, after, replace), func(t *testing.T) {
					t.Parallel()
					srv := newFake(t, nil)
					b := newBackendAt(t, srv, vaultURL, nil)
					fault := fault // the subtests run at once
					fault.Op, fault.After = "create", after
					srv.Script.Add(fault)
					key, err := b.Generate(t.Context(), ecKeyParams("k"), &backend.GenerateOptions{Replace: replace})
					assert.Equal(t, 1, srv.Log.Count("create"), "a request to make a key was repeated")
					if !after {
						require.Error(t, err)
						assert.True(t, errors.Is(err, backend.ErrUnavailable) || errors.Is(err, backend.ErrIntegrity), "%v", err)
						_, err = b.Open(t.Context(), Params{KeyName: "k"})
						assert.ErrorIs(t, err, backend.ErrKeyNotFound)
						return
					}
					require.NoError(t, err)
					settled(t, b, "k", key.ID())
					assert.Equal(t, key.ID(), open(t, b, Params{KeyName: "k"}).ID())
				})
			}
		}
	}
	srv.Script.Add(fakecloud.Fault{Op: "create", Error: status(429, "Throttled", "")})
	_, err := b.Generate(t.Context(), ecKeyParams("throttled"), nil)
	require.NoError(t, err)
	assert.Equal(t, 2, srv.Log.Count("create"))
	assert.Len(t, versionsOf(t, b, "throttled"), 1)
}

// TestGenerateRefused: what can't be made isn't, and what is missing is named.
func TestGenerateRefused(t *testing.T) {
	t.Parallel()
	srv := newFake(t, nil)
	b := newBackendAt(t, srv, vaultURL, nil)
	for name, p := range map[string]Params{
		"no type": {KeyName: "k"}, "no size": {KeyName: "k", KeyType: RSA}, "no curve": {KeyName: "k", KeyType: EC},
		"version": {KeyName: "k", KeyType: EC, Curve: P256, KeyVersion: zeros},
	} {
		_, err := b.Generate(t.Context(), p, nil)
		assert.ErrorIs(t, err, backend.ErrInvalidParams, name)
	}
	assert.Zero(t, srv.Log.Count(""), "requests were made")
	_, err := b.Generate(t.Context(), Params{KeyName: "k", KeyType: OctHSM}, nil)
	assert.ErrorIs(t, err, backend.ErrInvalidParams, "no vault has such keys, as the service says")

	for _, op := range []string{"versions", "create"} {
		srv.Deny(op)
		_, err := b.Generate(t.Context(), ecKeyParams("k"), nil)
		assert.ErrorIs(t, err, backend.ErrNotPermitted, op)
		assert.ErrorContains(t, err, op)
		srv.Deny()
		_, err = b.Open(t.Context(), Params{KeyName: "k"})
		assert.ErrorIs(t, err, backend.ErrKeyNotFound, op)
	}

	// Without the permission to update, the key is made and stays pending, and opening it takes more requests.
	srv.Deny("update")
	key, err := b.Generate(t.Context(), ecKeyParams("k"), nil)
	require.NoError(t, err)
	assert.Equal(t, key.ID(), open(t, b, Params{KeyName: "k"}).ID())
}

// TestSoftDeleted: a name whose key was deleted is not free as long as that can be recovered.
func TestSoftDeleted(t *testing.T) {
	t.Parallel()
	srv := newFake(t, nil)
	b := newBackendAt(t, srv, vaultURL, nil)
	client := sdkClient(t, srv, vaultURL)
	makeKey(t, client, "k", p256())
	_, err := client.DeleteKey(t.Context(), "k", nil)
	require.NoError(t, err)
	_, err = b.Open(t.Context(), Params{KeyName: "k"})
	assert.ErrorIs(t, err, backend.ErrKeyNotFound)
	for _, replace := range []bool{false, true} {
		_, err = b.Generate(t.Context(), ecKeyParams("k"), &backend.GenerateOptions{Replace: replace})
		assert.ErrorIs(t, err, backend.ErrKeyExists)
		assert.ErrorContains(t, err, "recovered or purged")
	}
	_, err = client.RecoverDeletedKey(t.Context(), "k", nil)
	require.NoError(t, err)
	open(t, b, Params{KeyName: "k"})
}

// TestReplace: the old version stays what it was, and can be opened by its version.
func TestReplace(t *testing.T) {
	t.Parallel()
	srv := newFake(t, nil)
	b := newBackendAt(t, srv, vaultURL, nil)
	old, err := b.Generate(t.Context(), ecKeyParams("k"), &backend.GenerateOptions{Replace: true})
	require.NoError(t, err)
	srv.Log.Clear()
	key, err := b.Generate(t.Context(), ecKeyParams("k"), &backend.GenerateOptions{Replace: true})
	require.NoError(t, err)
	assert.Equal(t, 1, srv.Log.Count(""), "requests")
	assert.NotEqual(t, old.ID(), key.ID())
	assert.Equal(t, key.ID(), open(t, b, Params{KeyName: "k"}).ID())
	again := open(t, b, Params{KeyName: "k", KeyVersion: old.ID()[len(old.ID())-32:]})
	assert.Equal(t, old.ID(), again.ID())
	assert.Equal(t, old.Public(), again.Public())
}
