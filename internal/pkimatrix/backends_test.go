package pkimatrix

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"

	"github.com/managedkeys/managedkeys/backend"
	"github.com/managedkeys/managedkeys/backend/pkcs11"
	"github.com/managedkeys/managedkeys/backend/replicated"
	"github.com/managedkeys/managedkeys/backend/software"
	"github.com/managedkeys/managedkeys/internal/softhsm"
)

// manager is a key manager that has keys of most kinds.
type manager struct {
	backend.Backend
	params  func(k kind, role string) backend.Params
	prepare func(k kind, role string) error // puts a key there that the backend shall not generate; nil if it generates all

	// published returns the SubjectPublicKeyInfo of a key as something else than the backend reads it there.
	published func(t *testing.T, k kind, role string) []byte
}

// managers are the backends by name, the kinds that they don't have, by the beginning of the kind's name, and how they are started.
var managers = []struct {
	name  string
	lacks []string
	start func(t *testing.T) manager
}{
	{"software", nil, softwareKeys},
	{"replicated", nil, replicatedKeys},
	{"SoftHSM2", []string{"ML-DSA"}, tokenKeys},
	{"AWS KMS", nil, awsKeys},
	{"Azure Managed HSM", []string{"Ed25519", "ML-DSA"}, azureKeys},
	{"Google Cloud KMS", []string{"ECDSA P-521"}, googleKeys},
}

func lacks(missing []string, k kind) bool {
	for _, prefix := range missing {
		if strings.HasPrefix(k.name, prefix) {
			return true
		}
	}
	return false
}

// imported is the public key that was put into a key manager of this process, which nothing else can look into.
func imported(t *testing.T, k kind, role string) []byte {
	key, err := k.private(role)
	must(t, err)
	der, err := backend.SubjectPublicKeyInfo(key.Public())
	must(t, err)
	return der
}

// shared is the software store of all tests, which imports a key once: that takes a while, because it looks at the primes of RSA keys.
var shared = struct {
	sync.Mutex
	*software.Backend
	has map[string]bool
}{Backend: software.New(nil), has: make(map[string]bool)}

// put has the store import a key unless it is there already.
func put(k kind, role string) error {
	shared.Lock()
	defer shared.Unlock()
	name := k.material(role)
	if shared.has[name] {
		return nil
	}
	key, err := k.private(role)
	if err != nil {
		return err
	}
	if _, err := shared.Import(context.Background(), software.Params{KeyName: name}, key, nil); err != nil {
		return err
	}
	shared.has[name] = true
	return nil
}

func softwareKeys(*testing.T) manager {
	params := func(k kind, role string) backend.Params { return software.Params{KeyName: k.material(role)} }
	return manager{shared.Share(), params, put, imported}
}

// replicatedKeys are in two places: for this, two clients of one store are as good as two stores.
func replicatedKeys(t *testing.T) manager {
	one, two := shared.Share(), shared.Share()
	t.Cleanup(func() { one.Close(); two.Close() })
	b, err := replicated.New([]replicated.Place{{Name: "one", Backend: one}, {Name: "two", Backend: two}}, nil)
	must(t, err)
	params := func(k kind, role string) backend.Params {
		at := software.Params{KeyName: k.material(role)}
		return replicated.Params{Places: []replicated.At{{Place: "one", Params: at}, {Place: "two", Params: at}}}
	}
	return manager{b, params, put, imported}
}

func tokenKeys(t *testing.T) manager {
	token := softhsm.Require(t)
	b, err := pkcs11.New(pkcs11.Library{Name: "softhsm", Path: token.Module})
	must(t, err)
	params := func(k kind, role string) backend.Params {
		p := pkcs11.Params{Library: "softhsm", TokenLabel: token.Label, PIN: backend.Secret(token.PIN), KeyLabel: k.material(role)}
		switch {
		case k.set > 0:
			p.Mechanism, p.ParameterSet = pkcs11.MLDSA, k.set
		case k.curve == "Ed25519":
			p.Mechanism = pkcs11.EdDSA
		case k.curve != "":
			p.Mechanism, p.Curve = pkcs11.ECDSA, k.curve
		case k.pss:
			p.Mechanism, p.KeyBits = pkcs11.RSAPKCSPSS, k.bits
		default:
			p.Mechanism, p.KeyBits = pkcs11.RSAPKCS, k.bits
		}
		return p
	}
	return manager{b, params, nil, onToken(token)}
}

// onToken has GnuTLS's p11tool read public keys.
func onToken(token *softhsm.Token) func(*testing.T, kind, string) []byte {
	return func(t *testing.T, k kind, role string) []byte {
		uri := fmt.Sprintf("pkcs11:token=%s;object=%s;type=public", token.Label, k.material(role))
		t.Helper()
		out, err := command(t, "gnutls-bin", "p11tool", t.TempDir(), "--provider", token.Module, "--login", "--set-pin", token.PIN, "--export", uri)
		if err != nil {
			t.Fatalf("p11tool: %v\n%s", err, out)
		}
		return fromPEM(t, "PUBLIC KEY", out)
	}
}
