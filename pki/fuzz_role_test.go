package pki

import (
	"bytes"
	"encoding/json"
	"errors"
	"os"
	"strings"
	"testing"

	"github.com/managedkeys/managedkeys/backend"
)

// Whatever the JSON, DecodeRole returns an error of this package or a role that says the same again, and that allows no name that is
// not well formed.
func FuzzDecodeRole(f *testing.F) {
	golden, err := os.ReadFile("testdata/roles.golden")
	if err != nil {
		f.Fatal(err)
	}
	for line := range strings.Lines(string(golden)) {
		if strings.HasPrefix(line, "{") {
			f.Add([]byte(line), "www.example.com")
		}
	}
	f.Add([]byte(`{"policy_identifiers": "1.2.3,1.2.4", "ttl": "9999999999d", "not_after": "2027-01-01T00:00:00Z", "ou": null}`), "*.a.*")
	f.Fuzz(func(t *testing.T, data []byte, name string) {
		r, err := DecodeRole("r", data)
		if err != nil {
			if !errors.Is(err, backend.ErrInvalidParams) || !strings.HasPrefix(err.Error(), "pki: ") {
				t.Errorf("got %v", err)
			}
			return
		}
		first, err := json.Marshal(r)
		if err != nil {
			t.Fatal(err)
		}
		again, err := DecodeRole("r", first)
		if err != nil {
			t.Fatalf("%s was taken, and %s is refused: %v", data, first, err)
		}
		if second, err := json.Marshal(again); err != nil || !bytes.Equal(first, second) {
			t.Errorf("%s became %s, %v", first, second, err)
		}
		l, err := newLeaf(t.Context(), &r, &IssueRequest{CommonName: name, AltNames: []string{name}, OtherNames: []string{"1.2.3;UTF8:" + name}}, nil)
		if err != nil {
			return
		}
		for _, dns := range l.names.dns {
			if checkDNS(dns, true) != "" {
				t.Errorf("%q was allowed", dns)
			}
		}
	})
}
