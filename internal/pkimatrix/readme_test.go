package pkimatrix

import (
	"crypto/x509"
	"flag"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "write the table of what verifies into the README")

// families are the rows of the README's table: an example of a kind, and the algorithms that the keys of all backends sign with.
var families = []struct {
	name, kind string
	algorithms []x509.SignatureAlgorithm
}{
	{"RSA-2048, 3072, 4096, PKCS#1 v1.5", "RSA-2048 PKCS#1", []x509.SignatureAlgorithm{x509.SHA256WithRSA, x509.SHA512WithRSA}},
	{"RSA-2048, 3072, 4096, PSS", "RSA-2048 PSS", []x509.SignatureAlgorithm{x509.SHA256WithRSAPSS, x509.SHA512WithRSAPSS}},
	{"ECDSA P-256, P-384, P-521", "ECDSA P-256", nil},
	{"Ed25519", "Ed25519", nil},
	{"ML-DSA-44, 65, 87 (with Go 1.27)", "ML-DSA-44", nil},
}

// TestReadme compares the README's table with the limits, which the matrix proves; with -update it writes the table.
func TestReadme(t *testing.T) {
	var b strings.Builder
	b.WriteString("| |")
	for _, tool := range tools {
		fmt.Fprintf(&b, " %s |", tool.name)
	}
	b.WriteString("\n|---|" + strings.Repeat("---|", len(tools)) + "\n")
	for _, family := range families {
		fmt.Fprintf(&b, "| %s |", family.name)
		for _, tool := range tools {
			cell := "all"
			for _, l := range limits {
				if l.tool != tool.name || !strings.HasPrefix(family.kind, l.kinds) || l.algorithm != 0 && !slices.Contains(family.algorithms, l.algorithm) {
					continue
				}
				if cell = "–"; l.objects == nil {
					break
				}
				cell = "all but " + l.short
			}
			fmt.Fprintf(&b, " %s |", cell)
		}
		b.WriteByte('\n')
	}
	const path, start, end = "../../README.md", "<!-- pkimatrix -->\n", "<!-- /pkimatrix -->"
	readme, err := os.ReadFile(path)
	must(t, err)
	before, rest, ok := strings.Cut(string(readme), start)
	table, after, ok2 := strings.Cut(rest, end)
	if !ok || !ok2 {
		t.Fatalf("the README has no %s", start)
	}
	if *update {
		must(t, os.WriteFile(path, []byte(before+start+b.String()+end+after), 0o644))
	} else if table != b.String() {
		t.Errorf("the README has\n%s\nwant\n%s\nrun: go test ./internal/pkimatrix -run TestReadme -update", table, b.String())
	}
}
