//go:build cgo

package pkcs11

import (
	"os"
	"os/exec"
	"regexp"
	"strings"
	"testing"

	"github.com/managedkeys/managedkeys/internal/requires"
	"github.com/managedkeys/managedkeys/internal/softhsm"
)

// TestURIsOfP11Tool: URIs that p11tool prints are read, and it finds the same key by those that are written here.
func TestURIsOfP11Tool(t *testing.T) {
	token := softhsm.Require(t)
	const label = "ca key;x=1?y#z/ü~%"
	tool(t, token)("--keypairgen", "--label", label, "--id", "0a00ff2f", "--key-type", "EC:prime256v1")
	tool(t, token)("--keypairgen", "--label", "other", "--id", "01", "--key-type", "EC:prime256v1")
	program := requires.Tool(t, "gnutls-bin", "p11tool")
	uris := func(p Params) []string {
		t.Helper()
		cmd := exec.Command(program, "--batch", "--provider", token.Module, "--login", "--list-privkeys", p.URI())
		cmd.Env = append(os.Environ(), "GNUTLS_PIN="+token.PIN)
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Fatalf("p11tool %s: %v\n%s", p.URI(), err, out)
		}
		var found []string
		for _, match := range regexp.MustCompile(`(?m)^\s*URL: (pkcs11:.*)$`).FindAllStringSubmatch(string(out), -1) {
			found = append(found, match[1])
		}
		return found
	}

	var p Params
	for _, uri := range uris(Params{TokenLabel: token.Label}) {
		got, err := ParseURI(uri)
		if err != nil {
			t.Errorf("%s: %v", uri, err)
		}
		if got.KeyLabel == label {
			p = got
		}
	}
	if p.TokenLabel != token.Label || len(p.TokenSerial) != 16 || p.KeyID != "0x0a00ff2f" {
		t.Fatalf("got %+v", p)
	}
	// p11tool ignores the attributes of this package. It takes a pin-source only as a bare path, so it gets the PIN apart.
	for _, q := range []Params{
		{TokenLabel: p.TokenLabel, TokenSerial: p.TokenSerial, KeyID: p.KeyID, KeyLabel: label, PIN: "file:/no such/pin%41", Mechanism: ECDSA, Curve: "P256", MaxParallel: 2},
		{TokenSerial: p.TokenSerial, KeyID: p.KeyID},
		{TokenLabel: p.TokenLabel, KeyLabel: label},
	} {
		if found := uris(q); len(found) != 1 || !strings.Contains(found[0], "id=%0A%00%FF%2F") {
			t.Errorf("%s: p11tool found %q", q.URI(), found)
		}
	}
}
