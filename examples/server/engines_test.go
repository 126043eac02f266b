package main

import (
	"bytes"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/managedkeys/managedkeys/internal/requires"
)

// TestReadmeTransit runs the commands of the README's section about transit.
func TestReadmeTransit(t *testing.T) {
	requires.Tool(t, "curl", "curl")
	readme, err := os.ReadFile("../../README.md")
	require.NoError(t, err)
	block := regexp.MustCompile("(?s)## Sign and encrypt over HTTP.*?```sh\n(.*?)```").FindSubmatch(readme)
	require.NotNil(t, block)
	address, _, _ := start(t, flags{token: "demo"})
	script := strings.ReplaceAll(string(block[1]), "127.0.0.1:8200", address)
	require.Contains(t, script, address)
	var errs bytes.Buffer
	sh := exec.CommandContext(t.Context(), "sh", "-e", "-c", script)
	sh.Stderr = &errs
	text, err := sh.Output()
	require.NoError(t, err, "%s", errs.String())
	assert.Contains(t, string(text), `"type":"managed_key"`)
	assert.Contains(t, string(text), `"signature":"vault:v1:`)
	assert.Contains(t, string(text), `"reference":"1"`)
	assert.NotContains(t, string(text), `"errors"`)
}
