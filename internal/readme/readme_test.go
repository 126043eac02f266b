// Package readme checks the README against the code.
package readme

import (
	"bytes"
	"flag"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

const root = "../.."

var update = flag.Bool("update", false, "write the support table into the README")

func read(t *testing.T) string {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(root, "README.md"))
	require.NoError(t, err)
	return string(data)
}

// flat returns code without indentation, so that it can be compared wherever it stands.
func flat(code string) string {
	var b strings.Builder
	for line := range strings.Lines(code) {
		b.WriteString(strings.TrimSpace(line) + "\n")
	}
	return b.String()
}

var goBlock = regexp.MustCompile("(?s)```go\n(.*?)```")

// TestCode checks that each piece of Go in the README stands in a file that is compiled.
func TestCode(t *testing.T) {
	var code strings.Builder
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || !strings.HasSuffix(path, ".go") {
			return err
		}
		data, err := os.ReadFile(path)
		code.WriteString(flat(string(data)))
		return err
	})
	require.NoError(t, err)
	blocks := goBlock.FindAllStringSubmatch(read(t), -1)
	require.Greater(t, len(blocks), 5)
	for _, block := range blocks {
		assert.Contains(t, code.String(), flat(block[1]), "this code of the README is in no Go file")
	}
}

// TestProgramIsShort keeps the README's first program a short one.
func TestProgramIsShort(t *testing.T) {
	first := goBlock.FindStringSubmatch(read(t))[1]
	assert.LessOrEqual(t, strings.Count(first, "\n"), 17)
}

// TestSupportTable compares the README's table with what the keys declare; with -update it writes the table.
func TestSupportTable(t *testing.T) {
	var b bytes.Buffer
	columns := []column{softwareColumn(t), tokenColumn(t), awsColumn(t), azureColumn(t), googleColumn(t)}
	fmt.Fprint(&b, "| |")
	for _, c := range columns {
		fmt.Fprintf(&b, " %s |", c.name)
	}
	fmt.Fprintf(&b, "\n|---|%s\n", strings.Repeat("---|", len(columns)))
	for _, row := range rows {
		fmt.Fprintf(&b, "| %s |", row)
		for _, c := range columns {
			fmt.Fprintf(&b, " %s |", c.cells[row])
		}
		b.WriteByte('\n')
	}
	readme := read(t)
	start, end := "<!-- support -->\n", "<!-- /support -->"
	before, rest, ok := strings.Cut(readme, start)
	require.True(t, ok)
	table, after, ok := strings.Cut(rest, end)
	require.True(t, ok)
	if *update {
		require.NoError(t, os.WriteFile(filepath.Join(root, "README.md"), []byte(before+start+b.String()+end+after), 0o644))
		return
	}
	assert.Equal(t, b.String(), table, "run: go test ./internal/readme -run TestSupportTable -update")
}
