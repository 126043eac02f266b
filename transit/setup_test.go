package transit

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/managedkeys/managedkeys/backend"
	"github.com/managedkeys/managedkeys/backend/software"
	"github.com/managedkeys/managedkeys/managedkey"
	"github.com/managedkeys/managedkeys/namespace"
)

// house is a registry with a key of each kind, all granted to one mount, and an engine on it. Names of managed keys and
// of transit keys are the same.
type house struct {
	software *software.Backend
	registry *managedkey.Registry
	mount    *managedkey.Mount
	engine   *Engine
}

const allUsages = backend.UsageSign | backend.UsageVerify | backend.UsageEncrypt | backend.UsageDecrypt | backend.UsageMAC

var kinds = map[string]software.Params{
	"rsa":     {KeyType: software.RSA, KeyBits: 2048},
	"p256":    {KeyType: software.ECDSA, Curve: software.P256},
	"p384":    {KeyType: software.ECDSA, Curve: software.P384},
	"p521":    {KeyType: software.ECDSA, Curve: software.P521},
	"ed25519": {KeyType: software.Ed25519},
	"mldsa":   {KeyType: software.MLDSA, ParameterSet: 65},
	"aes":     {KeyType: software.AES, KeyBits: 256},
	"hmac":    {KeyType: software.HMAC, KeyBits: 256},
}

var created = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

// newHouse makes keys of these kinds. A kind may be followed by a slash and anything, to have several of a kind.
func newHouse(tb testing.TB, names ...string) *house {
	tb.Helper()
	h := &house{software: software.New(nil), registry: managedkey.NewRegistry()}
	tb.Cleanup(func() { h.software.Close() })
	mount, err := h.registry.Mount(tb.Context(), "", "transit")
	if err != nil {
		tb.Fatal(err)
	}
	h.mount, h.engine = mount, New(mount, &Options{Now: func() time.Time { return created }})
	for _, name := range names {
		h.addManaged(tb, name, allUsages)
		if err := h.engine.CreateKey(tb.Context(), name, KeyOptions{ManagedKey: name}); err != nil {
			tb.Fatal(err)
		}
	}
	return h
}

// addManaged makes and grants a managed key; what stands before the first dash of its name is its kind.
func (h *house) addManaged(tb testing.TB, name string, usages backend.Usage) {
	tb.Helper()
	kind, _, _ := strings.Cut(name, "-")
	params := kinds[kind]
	params.KeyName = name
	if _, err := h.software.Generate(tb.Context(), params, nil); err != nil {
		tb.Fatal(err)
	}
	entry := managedkey.Entry{Ref: namespace.Ref{Name: name}, Backend: h.software, Params: software.Params{KeyName: name}, Usages: usages}
	if err := h.registry.Create(tb.Context(), entry); err != nil {
		tb.Fatal(err)
	}
	if err := h.registry.Grant(context.Background(), h.mount, name); err != nil {
		tb.Fatal(err)
	}
}

// wantError checks that err wraps sentinel, begins with the package's name and contains all of texts.
func wantError(tb testing.TB, err, sentinel error, texts ...string) {
	tb.Helper()
	if !errors.Is(err, sentinel) {
		tb.Fatalf("got error %v; want one that wraps %v", err, sentinel)
	}
	if !strings.HasPrefix(err.Error(), "transit: ") || strings.Count(err.Error(), "transit: ") != 1 {
		tb.Errorf("error %q: want \"transit: \" at its beginning and nowhere else", err)
	}
	for _, text := range texts {
		if !strings.Contains(err.Error(), text) {
			tb.Errorf("error %q lacks %q", err, text)
		}
	}
}
