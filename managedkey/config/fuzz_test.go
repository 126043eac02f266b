package config_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/managedkeys/managedkeys/managedkey/config"
)

// fuzz checks what holds of every text: it is a configuration, or an *Error with places and of bounded length; and reading it again
// gives the same.
func fuzz(f *testing.F, name string, seeds ...string) {
	for _, s := range seeds {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		cfg, err := config.Parse(name, data, builders)
		if err == nil {
			if cfg == nil || cfg.String() == "" {
				t.Fatal("neither a configuration nor an error")
			}
			return
		}
		e, ok := errors.AsType[*config.Error](err)
		if !ok || len(e.Problems) == 0 || cfg != nil {
			t.Fatalf("%T: %v", err, err)
		}
		for _, p := range e.Problems {
			if p.Pos.File != name {
				t.Errorf("no place: %q", p)
			}
		}
		if _, again := config.Parse(name, data, builders); again == nil || again.Error() != err.Error() {
			t.Errorf("first %v, then %v", err, again)
		}
		if !utf8.ValidString(err.Error()) && utf8.Valid(data) {
			t.Errorf("the error is no UTF-8: %q", err)
		}
	})
}

func FuzzHCL(f *testing.F) {
	readme, err := os.ReadFile(filepath.Join("testdata", "server.hcl"))
	if err != nil {
		f.Fatal(err)
	}
	fuzz(f, "fuzz.hcl", string(readme), soft+strings.Replace(ca, "%s", "version \"1\" {}", 1), soft+soft, `connection "software" "x" { file = ["a", {b = 1}] }`,
		"audit \"file\" {\n path = <<E\n x\nE\n}", `mount "pki" "a/pki" { options = { a = "b" } }`, "x = 1e999999999", "namespace \"a\" { prune = \"true\" }", "telemetry { metrics = [for a in b : c] }",
		"connection \"replicated\" \"r\" { places = [\"r\", \"s\"] }")
}

func FuzzJSON(f *testing.F) {
	fuzz(f, "fuzz.json", `{"connection": {"software": {"soft": {}}}, "managed_key": {"software": {"a/b": {"key_name": "x", "version": {"1": {}}}}}}`,
		`[{"audit": {"file": {"path": "/x"}}}]`, `{"policy": {"p": {"path": {"*": {"capabilities": ["read"]}}}}}`, `{"x": 1e999999999}`, `{"mount": {"pki": [{"a": {}}, {"b": null}]}}`, `{"a":{"a":{"a":{`,
		"{\"telemetry\": {\"attributes\": [\"\\ud800\"]}}")
}
