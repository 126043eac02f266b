package transit

import (
	"encoding/base64"
	"errors"
	"strings"
	"testing"

	"github.com/managedkeys/managedkeys/backend"
)

func TestParse(t *testing.T) {
	for s, version := range map[string]int{"vault:v1:AAAA": 1, "vault:v42:": 42, "vault:v2147483647:a:b": maxVersion} {
		got, encoded, err := parse("signature", s)
		if err != nil || got != version || !strings.HasSuffix(s, ":"+encoded) {
			t.Errorf("%q: got %d, %q, %v", s, got, encoded, err)
		}
	}
	for s, text := range map[string]string{
		"":                                 "invalid signature: no prefix",
		"AAAA":                             "invalid signature: no prefix",
		"Vault:v1:AAAA":                    "invalid signature: no prefix",
		" vault:v1:AAAA":                   "invalid signature: no prefix",
		"vault:1:AAAA":                     "invalid signature: no prefix",
		"vault:v1":                         "invalid signature: wrong number of fields",
		"vault:v:AAAA":                     "invalid signature: version number could not be decoded",
		"vault:v0:AAAA":                    "version number could not be decoded",
		"vault:v01:AAAA":                   "version number could not be decoded",
		"vault:v+1:AAAA":                   "version number could not be decoded",
		"vault:v-1:AAAA":                   "version number could not be decoded",
		"vault:v1_0:AAAA":                  "version number could not be decoded",
		"vault:v 1:AAAA":                   "version number could not be decoded",
		"vault:v2147483648:AA":             "version number could not be decoded; it takes 1 to 2147483647",
		"vault:v9999999999999:A":           "version number could not be decoded",
		strings.Repeat("a", maxEnvelope+1): "got 33554433 bytes; it takes at most 33554432",
	} {
		version, encoded, err := parse("signature", s)
		wantError(t, err, backend.ErrInvalidParams, text)
		if version != 0 || encoded != "" {
			t.Errorf("%.20q: got %d, %q with the error", s, version, encoded)
		}
	}
}

func TestDecode(t *testing.T) {
	for text, ok := range map[string]bool{
		"AAAA": true, "AA==": true, "+/+/": true,
		"": false, "A": false, "AA": false, "AB==": false, "AA==\n": false, "A\nAAA": false, "A\rAAA": false, "AA= =": false, "-_-_": false, "AAAA=": false,
	} {
		if _, got := decode(text, base64.StdEncoding); got != ok {
			t.Errorf("%q: got %t; want %t", text, got, ok)
		}
	}
}

// The longest plaintext still gives a ciphertext that can be parsed.
func TestLimitsFitTogether(t *testing.T) {
	longest := len(prefix) + len("2147483647:") + base64.StdEncoding.EncodedLen(maxPlaintext+12+16)
	if longest > maxEnvelope {
		t.Errorf("a ciphertext can have %d bytes; %d are parsed", longest, maxEnvelope)
	}
}

// Parsing and formatting are inverse: every accepted text is the only one of its version and data.
func FuzzParse(f *testing.F) {
	for _, s := range []string{"vault:v1:AAAA", "vault:v01:AAAA", "vault:v2147483647:AA==", "vault:v1:AB==", "vault:v1:-_", "vault:v:", "vault:v1:AA\n==", ""} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		version, encoded, err := parse("ciphertext", s)
		if err != nil {
			if !errors.Is(err, backend.ErrInvalidParams) {
				t.Errorf("%q: error %v", s, err)
			}
			return
		}
		for _, encoding := range []*base64.Encoding{base64.StdEncoding, base64.RawURLEncoding} {
			if data, ok := decode(encoded, encoding); ok && format(version, data, encoding) != s {
				t.Errorf("%q: formatting its parts gives %q", s, format(version, data, encoding))
			}
		}
	})
}
