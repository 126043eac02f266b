package main

import (
	"bytes"
	"io"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/managedkeys/managedkeys/internal/requires"
)

// TestReadmeConfiguration runs the commands that the README has for a configuration file, but for the server's own, whose part run has.
func TestReadmeConfiguration(t *testing.T) {
	requires.Tool(t, "curl", "curl")
	requires.Tool(t, "openssl", "openssl")
	readme, err := os.ReadFile("../../README.md")
	require.NoError(t, err)
	block := regexp.MustCompile("(?s)```sh\n(umask 077.*?)go run ./examples/server -config \\$d/server.hcl &\n(.*?)go run ./examples/server -config \\$d/server.hcl -verify\n```").FindSubmatch(readme)
	require.NotNil(t, block)
	g := newRig(t)
	shell := func(script string) string {
		var errs bytes.Buffer
		sh := exec.CommandContext(t.Context(), "sh", "-e", "-c", script)
		sh.Env = append(os.Environ(), "TMPDIR="+g.folder)
		sh.Stderr = &errs
		text, err := sh.Output()
		require.NoError(t, err, "%s", errs.String())
		return string(text)
	}
	prepare := strings.Replace(string(block[1]), "127.0.0.1:8201", "127.0.0.1:0", 1)
	require.NotEqual(t, string(block[1]), prepare)
	g.folder = strings.TrimSpace(shell(prepare + "\necho $d"))
	g.start()
	use := strings.Replace(string(block[2]), "127.0.0.1:8201", g.address, 1)
	require.Contains(t, use, g.address)
	text := shell("d=" + g.folder + "\n" + use)
	assert.Regexp(t, `managedkeys_operation="test",[^}]*\} 1\n`, text)
	assert.Equal(t, 2, strings.Count(text, `"actor":"token:alice"`), "a request and an outcome")

	var out bytes.Buffer
	require.NoError(t, run(t.Context(), flags{config: g.path("server.hcl"), verify: true}, nil, &out))
	assert.Contains(t, out.String(), "lines, 0 rotated files: nothing was edited, removed or moved\n  newest line: ")
	require.NoError(t, g.end())

	// What was known is missed, what is edited is found, and the place is said.
	_, head, _ := strings.Cut(strings.TrimSpace(out.String()), "newest line: ")
	verify := func(head string) (string, error) {
		var out bytes.Buffer
		err := run(t.Context(), flags{config: g.path("server.hcl"), verify: true, head: head}, nil, &out)
		return out.String(), err
	}
	_, err = verify(head)
	require.NoError(t, err)
	log, err := os.ReadFile(g.path("audit.log"))
	require.NoError(t, err)
	first := bytes.IndexByte(log, '\n') + 1
	g.write("audit.log", string(log[:first]))
	text, err = verify(head)
	assert.ErrorContains(t, err, "1 problems")
	assert.Contains(t, text, "which is known, is missing")
	g.write("audit.log", strings.Replace(string(log), "alice", "malice", 1))
	text, err = verify("")
	require.Error(t, err)
	assert.Contains(t, text, "BROKEN")
	assert.Contains(t, text, "its MAC is wrong")
}

// TestVerifyRefusals: what can't be checked is an error.
func TestVerifyRefusals(t *testing.T) {
	g := newRig(t)
	g.write("server.hcl", `connection "software" "soft" {}`)
	assert.ErrorContains(t, run(t.Context(), flags{config: g.path("server.hcl"), verify: true}, nil, io.Discard), "0 audit files")
	g.write("server.hcl", strings.ReplaceAll("audit \"file\" {\n path = \"FOLDER/none.log\"\n hmac_key = \"file:FOLDER/audit.key\"\n}", "FOLDER", g.folder))
	assert.ErrorContains(t, run(t.Context(), flags{config: g.path("server.hcl"), verify: true}, nil, io.Discard), "none.log")
	assert.ErrorContains(t, run(t.Context(), flags{config: g.path("server.hcl"), verify: true, head: "x"}, nil, io.Discard), "head")
	assert.Error(t, run(t.Context(), flags{dev: true, verify: true}, nil, io.Discard))
	assert.Error(t, run(t.Context(), flags{config: "x", head: "1:a"}, nil, io.Discard))
}
