package pkcs11

import (
	"strings"
	"testing"

	"github.com/managedkeys/managedkeys/backend"
	"github.com/managedkeys/managedkeys/internal/softhsm"
	"github.com/managedkeys/managedkeys/managedkey"
	"github.com/managedkeys/managedkeys/namespace"
)

// TestRegistryTest: what the registry tries passes for every kind of key on a token, with at least one step for each usage
// that the key has, and shows no PIN.
func TestRegistryTest(t *testing.T) {
	token := softhsm.Require(t)
	b := connectTo(t, token)
	all := backend.UsageDerive<<1 - 1
	r := managedkey.NewRegistry()
	for _, key := range softhsmKeys(t, b, token) {
		t.Run(key.Name, func(t *testing.T) {
			ref := namespace.Ref{Namespace: "token", Name: strings.ToLower(key.Name)}
			if err := r.Create(t.Context(), managedkey.Entry{Ref: ref, Backend: b, Params: key.Params, Usages: all}); err != nil {
				t.Fatal(err)
			}
			report, err := r.Test(t.Context(), ref, nil)
			if err != nil {
				t.Fatalf("%v\n%s", err, report)
			}
			var tried backend.Usage
			for _, s := range report.Steps {
				tried |= s.Usage
			}
			if has := report.Capabilities.Usages; tried != has || has == 0 {
				t.Errorf("%s was tried, the key has %s", tried, has)
			}
			if table := report.String(); strings.Contains(table, token.PIN) {
				t.Errorf("the PIN is in the report:\n%s", table)
			}
			if err := r.TestSign(t.Context(), ref, nil); (err == nil) != tried.Has(backend.UsageSign) {
				t.Errorf("test/sign: %v", err)
			}
		})
	}
	absent := namespace.Ref{Name: "absent"}
	if err := r.Create(t.Context(), managedkey.Entry{Ref: absent, Backend: b, Params: withCurve(on(token, "absent", ECDSA), "P256"), AllowGenerateKey: true}); err != nil {
		t.Fatal(err)
	}
	_, err := r.Test(t.Context(), absent, nil)
	wants(t, err, backend.ErrKeyNotFound)
	_, err = b.Open(t.Context(), on(token, "absent", ECDSA))
	wants(t, err, backend.ErrKeyNotFound)
}
