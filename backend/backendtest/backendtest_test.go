package backendtest_test

import (
	"bufio"
	"bytes"
	"context"
	"crypto"
	"crypto/x509"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/managedkeys/managedkeys/backend"
	"github.com/managedkeys/managedkeys/backend/backendtest"
)

// declared are the kinds of keys of the memory backend.
var declared = []backendtest.Key{
	{
		Name: "rsa", Algorithm: "RSA-2048", Signs: []x509.SignatureAlgorithm{x509.SHA256WithRSA, x509.SHA256WithRSAPSS},
		Digests: []crypto.Hash{crypto.SHA1}, OAEP: []crypto.Hash{crypto.SHA1, crypto.SHA256}, OAEPLabels: true, Wraps: true,
	},
	{
		Name: "pss", Algorithm: "RSA-2048", Signs: []x509.SignatureAlgorithm{x509.SHA512WithRSAPSS}, SaltEqualsHash: true,
		OAEP: []crypto.Hash{crypto.SHA256},
	},
	{Name: "p256", Algorithm: "ECDSA P-256", Signs: []x509.SignatureAlgorithm{x509.ECDSAWithSHA256}},
	{Name: "agree", Algorithm: "ECDSA P-256", Signs: []x509.SignatureAlgorithm{x509.ECDSAWithSHA256}, Agrees: true},
	{
		Name: "p384", Algorithm: "ECDSA P-384", Signs: []x509.SignatureAlgorithm{x509.ECDSAWithSHA384},
		Digests: []crypto.Hash{crypto.SHA3_384}, Agrees: true,
	},
	{
		Name: "secp256k1", Algorithm: "ECDSA secp256k1", Schemes: []backend.Scheme{backend.ECDSA},
		Digests: []crypto.Hash{crypto.SHA1, crypto.SHA256, crypto.SHA512},
	},
	{Name: "ed25519", Algorithm: "Ed25519", Signs: []x509.SignatureAlgorithm{x509.PureEd25519}, SignatureContexts: true},
	{Name: "mldsa", Algorithm: "ML-DSA-44", SignatureContexts: true},
	{Name: "mlkem", Algorithm: "ML-KEM-768", Decapsulates: true},
	{Name: "aes", Algorithm: "AES-256", AEAD: true, Wraps: true, Random: true},
	{Name: "hmac", Algorithm: "HMAC", MACs: []backend.MACAlgorithm{backend.HMACSHA512, backend.HMACSHA256}},
}

// materials are made once, because RSA keys take long.
var materials = sync.OnceValue(func() map[string]any {
	all := make(map[string]any)
	for _, k := range declared {
		all[k.Name] = material(k.Name)
	}
	return all
})

// config returns the configuration of a new key manager that has the named keys, or all.
func config(fault string, kinds ...string) backendtest.Config {
	s := new(store)
	cfg := backendtest.Config{
		New: func(testing.TB) backend.Backend {
			m := &memory{store: s, fault: fault}
			if fault == "client-shows-pin" {
				m.pin = pin
			}
			return m
		},
		Absent:    params{Label: "absent", Kind: "p256", PIN: pin},
		Ambiguous: params{Label: "twice", PIN: pin},
		Invalid:   map[string]backend.Params{"no label": params{Kind: "rsa", PIN: pin}},
		Secrets:   []string{pin},
	}
	for _, k := range declared {
		if len(kinds) > 0 && !slices.Contains(kinds, k.Name) {
			continue
		}
		k.Params = params{Label: k.Name, PIN: pin}
		cfg.Keys = append(cfg.Keys, k)
		s.entries = append(s.entries, &entry{k.Name, 0, k.Name, materials()[k.Name]})
	}
	for version := range 2 {
		s.entries = append(s.entries, &entry{"twice", version, "p256", materials()["p256"]})
	}
	generates, imports := []string{"p256", "hmac"}, []string{"p256", "hmac"}
	if len(kinds) == 0 { // no fault shows with the others, which take longest
		generates = append(generates, "p384") // which can't be replaced
		imports = append(imports, "ed25519", "mldsa", "mlkem", "aes", "rsa")
	}
	for _, kind := range generates {
		k := declared[slices.IndexFunc(declared, func(k backendtest.Key) bool { return k.Name == kind })]
		cfg.Generate = append(cfg.Generate, backendtest.Generate{
			Name: "generate-" + kind, Params: params{Label: "new-" + kind, Kind: kind, PIN: pin}, Algorithm: k.Algorithm,
			Replaces: kind != "p384",
		})
	}
	for _, kind := range imports {
		cfg.Import = append(cfg.Import, backendtest.Import{
			Name: "import-" + kind, Params: params{Label: "imported-" + kind, Kind: kind, PIN: pin},
			Material: material(kind), Replaces: true,
		})
	}
	return cfg
}

func TestConformance(t *testing.T) { backendtest.Run(t, config("")) }

// minimal hides every optional interface of a backend.
type minimal struct{ backend.Backend }

// refusing is a backend.Importer that takes nothing.
type refusing struct{ backend.Backend }

func (refusing) Import(context.Context, backend.Params, any, *backend.ImportOptions) (backend.Key, error) {
	return nil, fmt.Errorf("memory: import: %w", backend.ErrUnsupported)
}

// TestConformanceMinimal runs the suite on a backend that only opens keys.
func TestConformanceMinimal(t *testing.T) {
	cfg := config("", "p256")
	newMemory := cfg.New
	cfg.Generate, cfg.Import, cfg.Ambiguous, cfg.Secrets = nil, nil, nil, nil
	for name, hide := range map[string]func(backend.Backend) backend.Backend{
		"nothing else":   func(b backend.Backend) backend.Backend { return minimal{b} },
		"import refused": func(b backend.Backend) backend.Backend { return refusing{b} },
	} {
		t.Run(name, func(t *testing.T) {
			cfg.New = func(tb testing.TB) backend.Backend { return hide(newMemory(tb)) }
			backendtest.Run(t, cfg)
		})
	}
}

func BenchmarkSign(b *testing.B)    { backendtest.BenchmarkSign(b, config("", "p256", "ed25519")) }
func BenchmarkDecrypt(b *testing.B) { backendtest.BenchmarkDecrypt(b, config("", "pss")) }

// faulty names a variable that makes TestFaulty run the suite on broken drivers and empty configurations.
const faulty = "BACKENDTEST_FAULTY"

// TestFaulty is run by TestFaults in a process of its own, where it must fail.
func TestFaulty(t *testing.T) {
	if os.Getenv(faulty) == "" {
		return
	}
	for _, f := range faults {
		t.Run(f.name, func(t *testing.T) { backendtest.Run(t, config(f.name, strings.Split(f.keys, ",")...)) })
	}
	for _, f := range emptied {
		t.Run(f.name, func(t *testing.T) {
			cfg := config("", "p256")
			f.change(&cfg)
			backendtest.Run(t, cfg)
		})
	}
	t.Run("control", func(t *testing.T) { backendtest.Run(t, config("", "p256")) })
}

// TestFaults proves that the suite can fail: it catches every broken driver, in the case that is about the rule which the
// driver breaks, and every configuration that would check nothing.
func TestFaults(t *testing.T) {
	failed, output := runFaulty(t)
	t.Run("control", func(t *testing.T) {
		if failed["TestFaulty/control"] {
			t.Errorf("the correct driver fails as well:\n%s", output["TestFaulty/control"])
		}
	})
	for _, f := range faults {
		t.Run(f.name, func(t *testing.T) {
			for _, want := range f.fails {
				if name := "TestFaulty/" + f.name + "/" + want; !failed[name] {
					t.Errorf("%s passes on a driver that is broken; it fails in %q", want, failures(failed, f.name))
				}
			}
		})
	}
	for _, f := range emptied {
		t.Run(f.name, func(t *testing.T) {
			if !failed["TestFaulty/"+f.name] {
				t.Error("the suite passes")
			}
		})
	}
	t.Run("secrets", func(t *testing.T) {
		// The suite itself must not print the secret that it finds.
		for name, text := range output {
			if strings.Contains(text, pin) {
				t.Errorf("the output of %s shows the PIN", name)
			}
		}
	})
}

// runFaulty runs TestFaulty in another process of this binary and returns which tests failed and their output.
func runFaulty(t *testing.T) (failed map[string]bool, output map[string]string) {
	t.Helper()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	limit := time.Duration(0) // if there is none
	if end, ok := t.Deadline(); ok {
		limit = max(time.Until(end)-10*time.Second, time.Second) // so that it says itself where it hangs
	}
	cmd := exec.CommandContext(t.Context(), exe, "-test.run=^TestFaulty$", "-test.v", "-test.timeout="+limit.String())
	cmd.Env = append(os.Environ(), faulty+"=1")
	out, err := cmd.CombinedOutput()
	if err == nil {
		t.Fatal("the suite passes on broken drivers")
	}
	failed, output = make(map[string]bool), make(map[string]string)
	if bytes.Contains(out, []byte("\npanic: ")) || bytes.Contains(out, []byte("\nfatal error: ")) {
		t.Fatalf("the suite crashed:\n%s", out[max(0, len(out)-4000):])
	}
	current := ""
	lines := bufio.NewScanner(bytes.NewReader(out))
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		line := strings.TrimSpace(lines.Text())
		if name, ok := strings.CutPrefix(line, "=== RUN "); ok {
			current = strings.TrimSpace(name)
		}
		if name, ok := strings.CutPrefix(line, "--- FAIL: "); ok {
			name, _, _ = strings.Cut(name, " ")
			failed[name] = true
		}
		parts := strings.SplitN(current, "/", 3)
		if len(parts) > 1 {
			output[parts[0]+"/"+parts[1]] += line + "\n"
		}
	}
	if err := lines.Err(); err != nil {
		t.Fatal(err)
	}
	return failed, output
}

// failures lists where the suite failed for a fault.
func failures(failed map[string]bool, fault string) []string {
	var names []string
	for name := range failed {
		if rest, ok := strings.CutPrefix(name, "TestFaulty/"+fault+"/"); ok {
			names = append(names, rest)
		}
	}
	slices.Sort(names)
	return names
}
