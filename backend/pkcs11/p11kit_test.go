package pkcs11

import (
	"slices"
	"testing"

	"github.com/managedkeys/managedkeys/backend"
	"github.com/managedkeys/managedkeys/backend/backendtest"
	"github.com/managedkeys/managedkeys/internal/p11kit"
	"github.com/managedkeys/managedkeys/internal/softhsm"
)

// remoteLimits is what p11-kit 0.24's protocol leaves of SoftHSM2's mechanisms, whose parameters it must know: neither
// EdDSA nor AES-GCM, CMAC, ECDH or AES key wrap, and no HMAC with SHA-224. So keys are imported in the clear.
var remoteLimits = struct {
	keys, generate, imports []string // that can't be used at all, by the name of the test
	macs                    []backend.MACAlgorithm
}{
	keys:     []string{"ECDH", "Ed25519", "aes-128", "aes-256", "CMAC"},
	generate: []string{"new-ed", "new-aes"},
	imports:  []string{"in-aes"},
	macs:     []backend.MACAlgorithm{backend.HMACSHA224},
}

// remoteAlike are keys that differ from others in what the token computes only, which TestConformance proves.
var remoteAlike = []string{"P384", "P521", "RSAByID"}

// remoteConformance is that of the token behind server.
func remoteConformance(tb testing.TB, token *softhsm.Token, server *p11kit.Server) backendtest.Config {
	cfg := conformanceOn(tb, token)
	cfg.New = func(tb testing.TB) backend.Backend {
		b, err := New(Library{Name: "soft", Path: server.Module(), PlainImport: true})
		if err != nil {
			tb.Fatal(err)
		}
		return b
	}
	cfg.Keys = slices.DeleteFunc(cfg.Keys, func(k backendtest.Key) bool {
		return slices.Contains(remoteLimits.keys, k.Name) || slices.Contains(remoteAlike, k.Name)
	})
	for n := range cfg.Keys {
		k := &cfg.Keys[n]
		k.Agrees = false
		k.MACs = slices.DeleteFunc(slices.Clone(k.MACs), func(m backend.MACAlgorithm) bool { return slices.Contains(remoteLimits.macs, m) })
	}
	cfg.Generate = slices.DeleteFunc(cfg.Generate, func(g backendtest.Generate) bool { return slices.Contains(remoteLimits.generate, g.Name) })
	cfg.Import = slices.DeleteFunc(cfg.Import, func(i backendtest.Import) bool { return slices.Contains(remoteLimits.imports, i.Name) })
	return cfg
}

// TestConformanceOverP11Kit: a token that another process serves is like one of this process.
func TestConformanceOverP11Kit(t *testing.T) {
	token := softhsm.Require(t)
	server := p11kit.Require(t, token)
	backendtest.Run(t, remoteConformance(t, token, server))
}
