package readme

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/managedkeys/managedkeys/managedkey/config"
	"github.com/managedkeys/managedkeys/managedkey/config/all"
)

// TestConfiguration: the README's configuration is the one that the tests of package config load.
func TestConfiguration(t *testing.T) {
	data, err := os.ReadFile(filepath.Join(root, "managedkey", "config", "testdata", "server.hcl"))
	require.NoError(t, err)
	_, block, ok := strings.Cut(read(t), "```hcl\n")
	require.True(t, ok)
	block, _, _ = strings.Cut(block, "```")
	assert.Equal(t, string(data), block)
}

var _ = configured // it is compiled, as all of the README is

func configured(ctx context.Context) error {
	cfg, err := config.Load("/etc/managedkeys/server.hcl", all.Builders()) // a file or a folder
	if err != nil {
		return err // every mistake, as file:line:column, and what was probably meant
	}
	sys, err := cfg.Open(ctx, nil) // connections, store, seal and registry
	if err != nil {
		return err
	}
	defer sys.Close()
	plan, err := cfg.Plan(ctx, sys.Registry())
	if err != nil {
		return err
	}
	fmt.Print(plan) // + create team-a/issuing-ca …
	if err := config.Apply(ctx, plan); err != nil {
		return err
	}
	return nil
}
