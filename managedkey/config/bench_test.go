package config_test

import (
	"bytes"
	"fmt"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/managedkeys/managedkeys/managedkey/config"
)

// large returns a configuration of n keys and 10 mounts, each of which may use a tenth of them.
func large(n int, store string) []byte {
	var b bytes.Buffer
	b.WriteString(store + soft)
	for i := range n {
		fmt.Fprintf(&b, "managed_key \"software\" \"team-%d/key-%d\" {\n  key_name = \"key-%d\"\n  key_type = \"ECDSA\"\n  curve = \"P256\"\n  allow_generate_key = true\n}\n", i%10, i, i)
	}
	for m := range 10 {
		fmt.Fprintf(&b, "mount \"pki\" \"team-%d/pki\" {\n  allowed_managed_keys = [", m)
		for i := m; i < n; i += 10 {
			fmt.Fprintf(&b, "\"key-%d\", ", i)
		}
		b.WriteString("]\n}\n")
	}
	return b.Bytes()
}

// TestLarge: a configuration of many keys is applied once, and then there is nothing to do.
func TestLarge(t *testing.T) {
	cfg, err := config.Parse("large.hcl", large(1000, ""), builders)
	require.NoError(t, err)
	sys := start(t, cfg)
	assert.Len(t, sys.Registry().List("team-3"), 100)
	m, err := sys.Registry().OpenMount("team-3", "pki")
	require.NoError(t, err)
	assert.Len(t, m.Allowed(), 100)
}

// BenchmarkStart is the start of a program with 10,000 keys, and the steps of which it is made.
func BenchmarkStart(b *testing.B) {
	n := 10_000
	if testing.Short() {
		n = 100
	}
	text := large(n, "")
	cfg, err := config.Parse("large.hcl", text, builders)
	require.NoError(b, err)
	b.Run("Parse", func(b *testing.B) {
		b.SetBytes(int64(len(text)))
		for b.Loop() {
			_, err := config.Parse("large.hcl", text, builders)
			require.NoError(b, err)
		}
	})
	for _, kind := range []string{"memory", "bolt"} {
		config10k := func(b *testing.B) *config.Config {
			if kind == "memory" {
				return cfg
			}
			out, err := config.Parse("large.hcl", large(n, fmt.Sprintf("store \"bolt\" { path = %q }\n", filepath.Join(b.TempDir(), "store"))), builders)
			require.NoError(b, err)
			return out
		}
		b.Run("First/"+kind, func(b *testing.B) { // everything is made
			for b.Loop() {
				b.StopTimer()
				cfg := config10k(b)
				b.StartTimer()
				sys, err := cfg.Open(bg, nil)
				require.NoError(b, err)
				plan, err := cfg.Plan(bg, sys.Registry())
				require.NoError(b, err)
				require.Len(b, plan.Changes, n+10)
				require.NoError(b, config.Apply(bg, plan))
				b.StopTimer()
				require.NoError(b, sys.Close())
				b.StartTimer()
			}
		})
		b.Run("Again/"+kind, func(b *testing.B) { // everything is there
			cfg := config10k(b)
			sys, err := cfg.Open(bg, nil)
			require.NoError(b, err)
			apply(b, sys, cfg)
			if kind == "bolt" {
				require.NoError(b, sys.Close())
			}
			for b.Loop() {
				if kind == "bolt" {
					sys, err = cfg.Open(bg, nil)
					require.NoError(b, err)
				}
				plan, err := cfg.Plan(bg, sys.Registry())
				require.NoError(b, err)
				require.True(b, plan.Empty())
				if kind == "bolt" {
					require.NoError(b, sys.Close())
				}
			}
			require.NoError(b, sys.Close())
		})
	}
}
