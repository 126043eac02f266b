package transitmatrix

import (
	"flag"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

var update = flag.Bool("update", false, "write the table of transit into the README")

// columns are the places and what the README calls them.
var columns = []struct{ place, name string }{
	{"types", "transit's software keys"}, {"software", "software backend"}, {"pkcs11", "PKCS#11 (SoftHSM2)"}, {"awskms", "AWS KMS"},
	{"azurekeyvault", "Azure Key Vault"}, {"managedhsm", "Azure Managed HSM"}, {"gcpckms", "Google Cloud KMS"},
}

// kindOrder is the order of the kinds of keys in a cell.
var kindOrder = []string{"RSA", "EC", "Ed25519", "ML-DSA", "AES", "ChaCha20", "HMAC", "ML-KEM"}

// table returns the README's table: for each operation and place, the kinds of keys with which it works.
func (r *results) table() string {
	var b strings.Builder
	b.WriteString("| |")
	for _, c := range columns {
		fmt.Fprintf(&b, " %s |", c.name)
	}
	b.WriteString("\n|---|" + strings.Repeat("---|", len(columns)) + "\n")
	for _, row := range tableRows() {
		fmt.Fprintf(&b, "| %s |", row)
		for _, c := range columns {
			works := r.works[row][c.place]
			var kinds []string
			for _, kind := range kindOrder {
				if works[kind] && !(row == rowRequests && kind == "ML-DSA") { // which depends on the version of Go

					kinds = append(kinds, kind)
				}
			}
			switch {
			case len(kinds) == 0:
				kinds = []string{"–"}
			case len(kinds) == len(r.kinds[c.place]) && row == rowRandom:
				kinds = []string{"all"}
			}
			fmt.Fprintf(&b, " %s |", strings.Join(kinds, ", "))
		}
		b.WriteByte('\n')
	}
	return b.String()
}

// tableRows are the rows of the operations, in their order.
func tableRows() (rows []string) {
	for _, op := range operations {
		if op.row != "" && !slices.Contains(rows, op.row) {
			rows = append(rows, op.row)
		}
		if op.name == "encrypt" {
			rows = append(rows, rowAssociated)
		}
	}
	return rows
}

// Rows that are special.
const (
	rowAssociated = "with associated data"
	rowRequests   = "Certificate requests"
	rowRandom     = "Random bytes of the key manager"
)

// checkTable compares the README's table with what works; with -update it writes the table.
func checkTable(t *testing.T, all *results) {
	t.Helper()
	const file, start, end = "../../README.md", "<!-- transit -->\n", "<!-- /transit -->"
	text, err := os.ReadFile(file)
	require.NoError(t, err)
	before, rest, ok := strings.Cut(string(text), start)
	require.True(t, ok)
	table, after, ok := strings.Cut(rest, end)
	require.True(t, ok)
	if *update {
		require.NoError(t, os.WriteFile(file, []byte(before+start+all.table()+end+after), 0o644))
		return
	}
	assert.Equal(t, all.table(), table, "run: go test ./internal/transitmatrix -run TestMatrix -update")
}
