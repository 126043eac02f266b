package httpapi

import (
	"bytes"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/managedkeys/managedkeys/backend/software"
	"github.com/managedkeys/managedkeys/managedkey"
	"github.com/managedkeys/managedkeys/managedkey/httpapi"
	"github.com/managedkeys/managedkeys/managedkey/store/memory"
	"github.com/managedkeys/managedkeys/transit"
)

// discarded is a ResponseWriter that only counts.
type discarded struct {
	header http.Header
	status int
	bytes  int
}

func (d *discarded) Header() http.Header { return d.header }

func (d *discarded) WriteHeader(status int) { d.status = status }

func (d *discarded) Write(data []byte) (int, error) { d.bytes += len(data); return len(data), nil }

// BenchmarkServe is what the API costs without a network, and beside it the engine alone: HMACs, which take next to no time themselves.
func BenchmarkServe(b *testing.B) {
	st, soft := memory.New(nil), software.New(nil)
	defer soft.Close()
	defer st.Close()
	keys, err := managedkey.Open(b.Context(), st, nil, nil)
	if err != nil {
		b.Fatal(err)
	}
	defer keys.Close()
	mount, err := keys.CreateMount(b.Context(), managedkey.MountSpec{Path: "transit", Type: "transit"})
	if err != nil {
		b.Fatal(err)
	}
	e, err := transit.Open(b.Context(), mount, st, &transit.Options{Software: soft, AllowUnsealed: true})
	if err != nil {
		b.Fatal(err)
	}
	defer e.Close()
	if err := e.CreateKey(b.Context(), "mac", transit.KeyOptions{Type: transit.TypeHMAC}); err != nil {
		b.Fatal(err)
	}
	tokens, err := httpapi.NewTokens(httpapi.Token{SHA256: httpapi.HashToken(rootToken), Policies: []string{"p"}})
	if err != nil {
		b.Fatal(err)
	}
	policies, err := httpapi.NewPolicies(httpapi.Policy{Name: "p", Rules: []httpapi.Rule{{Path: "transit/hmac/*", Capabilities: []string{"update"}}}})
	if err != nil {
		b.Fatal(err)
	}
	api, err := httpapi.New(keys, &httpapi.Options{Authenticator: tokens, Authorizer: policies, Limits: httpapi.Limits{ClientRate: 1e9},
		Engines: map[string]httpapi.Engine{"transit": New(st, &Options{Software: soft, AllowUnsealed: true, RotateEvery: -1})}})
	if err != nil {
		b.Fatal(err)
	}
	defer api.Close()
	item := `{"input":"` + b64(strings.Repeat("x", 256)) + `"}`
	for name, body := range map[string]string{"one": item, "batch": `{"batch_input":[` + strings.Repeat(item+",", 99) + item + `]}`} {
		b.Run("http/"+name, func(b *testing.B) {
			b.ReportAllocs()
			b.SetBytes(int64(len(body)))
			for b.Loop() {
				r := httptest.NewRequest(http.MethodPost, "/v1/transit/hmac/mac", bytes.NewReader([]byte(body)))
				r.Header.Set("X-Vault-Token", rootToken)
				w := &discarded{header: make(http.Header)}
				api.ServeHTTP(w, r)
				if w.status != http.StatusOK {
					b.Fatal(w.status)
				}
			}
		})
	}
	requests := make([]transit.MACRequest, 100)
	for i := range requests {
		requests[i].Input = bytes.Repeat([]byte{'x'}, 256)
	}
	for name, n := range map[string]int{"one": 1, "batch": 100} {
		b.Run("engine/"+name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if _, err := e.HMACBatch(b.Context(), "mac", requests[:n]); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
