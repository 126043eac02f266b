package config_test

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/managedkeys/managedkeys/managedkey"
	"github.com/managedkeys/managedkeys/managedkey/config"
	"github.com/managedkeys/managedkeys/managedkey/config/all"
	"github.com/managedkeys/managedkeys/namespace"
)

var bg = context.Background()

var builders = all.Builders()

// parse returns the configuration that is written in text.
func parse(t testing.TB, text string, args ...any) *config.Config {
	t.Helper()
	cfg, err := config.Parse("test.hcl", fmt.Appendf(nil, text, args...), builders)
	require.NoError(t, err)
	return cfg
}

// refusal returns the problems of a configuration that must have some.
func refusal(t testing.TB, name, text string) *config.Error {
	t.Helper()
	_, err := config.Parse(name, []byte(text), builders)
	require.Error(t, err, text)
	e, ok := errors.AsType[*config.Error](err)
	require.True(t, ok, "%T", err)
	require.NotEmpty(t, e.Problems)
	return e
}

// start opens a configuration and makes it so.
func start(t testing.TB, cfg *config.Config) *config.System {
	t.Helper()
	sys, err := cfg.Open(bg, nil)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, sys.Close()) })
	apply(t, sys, cfg)
	return sys
}

// apply makes a registry what a configuration says, and proves that there is nothing left to do.
func apply(t testing.TB, sys *config.System, cfg *config.Config) *config.Plan {
	t.Helper()
	plan, err := cfg.Plan(bg, sys.Registry())
	require.NoError(t, err)
	require.NoError(t, config.Apply(bg, plan))
	again, err := cfg.Plan(bg, sys.Registry())
	require.NoError(t, err)
	require.Equal(t, "nothing to do\n", again.String())
	return plan
}

func ref(s string) namespace.Ref {
	r, err := namespace.ParseRef(s)
	if err != nil {
		panic(err)
	}
	return r
}

// sign makes a signature and checks it.
func sign(key *managedkey.Key) error {
	digest := make([]byte, 32)
	signature, err := key.SignContext(bg, digest, crypto.SHA256)
	if err == nil && !ecdsa.VerifyASN1(key.Public().(*ecdsa.PublicKey), digest, signature) {
		err = errors.New("the signature does not verify")
	}
	return err
}

// write makes a file of that mode.
func write(t testing.TB, path string, mode os.FileMode, text string) string {
	t.Helper()
	require.NoError(t, os.WriteFile(path, []byte(text), 0o600))
	require.NoError(t, os.Chmod(path, mode))
	return path
}

// softwareFile is a connection to a software backend in a file, whose passphrase is "pass".
func softwareFile(name, folder string) string {
	return fmt.Sprintf("connection %q %q {\n file = %q\n passphrase = \"pass\"\n time = 1\n memory_kib = 64\n threads = 1\n}\n", "software", name, filepath.Join(folder, name))
}

// lines joins lines.
func lines(all ...string) string { return strings.Join(all, "\n") + "\n" }
