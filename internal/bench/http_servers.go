package main

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/http"
	"path/filepath"

	"github.com/prometheus/client_golang/prometheus"
	exporter "go.opentelemetry.io/otel/exporters/prometheus"
	"go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/trace/noop"

	"github.com/managedkeys/managedkeys/backend/software"
	"github.com/managedkeys/managedkeys/managedkey"
	"github.com/managedkeys/managedkeys/managedkey/audit"
	"github.com/managedkeys/managedkeys/managedkey/httpapi"
	"github.com/managedkeys/managedkeys/managedkey/store/memory"
	"github.com/managedkeys/managedkeys/managedkey/telemetry"
	"github.com/managedkeys/managedkeys/namespace"
)

const benchToken = "mk.bench"

// ourServer returns the API of a registry with a key and a mount that signs with it; audited to a file, and with metrics, if file is
// not nil.
func (w *workplace) ourServer(ctx context.Context, file *audit.File) (_ *httpapi.API, end func(), err error) {
	st, b := memory.New(nil), software.New(nil)
	ends := []func() error{b.Close, st.Close}
	end = func() {
		for i := len(ends) - 1; i >= 0; i-- {
			ends[i]()
		}
	}
	defer func() {
		if err != nil {
			end()
		}
	}()
	opts := new(managedkey.Options)
	if file != nil {
		log, metrics, err := w.auditAndMetrics(*file)
		if err != nil {
			return nil, nil, err
		}
		ends = append(ends, log.Close)
		opts.Observer = managedkey.Observers(metrics, log)
	}
	keys, err := managedkey.Open(ctx, st, []managedkey.Connection{{Backend: b}}, opts)
	if err != nil {
		return nil, nil, err
	}
	ends = append(ends, keys.Close)
	err = keys.Create(ctx, managedkey.Entry{Ref: namespace.Ref{Name: "ca"}, Backend: b, AllowGenerateKey: true,
		Params: software.Params{KeyName: "ca", KeyType: software.ECDSA, Curve: software.P256}})
	if err != nil {
		return nil, nil, err
	}
	_, err = keys.CreateMount(ctx, managedkey.MountSpec{Path: "signer", Type: "signer", Allowed: []string{"ca"}})
	if err != nil {
		return nil, nil, err
	}
	tokens, err := httpapi.NewTokens(httpapi.Token{SHA256: httpapi.HashToken(benchToken), Policies: []string{"signer"}})
	if err != nil {
		return nil, nil, err
	}
	policies, err := httpapi.NewPolicies(httpapi.Policy{Name: "signer", Rules: []httpapi.Rule{
		{Path: "signer/sign/*", Capabilities: []string{"update"}}, {Path: "signer/+/other", Capabilities: []string{"deny"}}}})
	if err != nil {
		return nil, nil, err
	}
	api, err := httpapi.New(keys, &httpapi.Options{Authenticator: tokens, Authorizer: policies,
		Limits: httpapi.Limits{ClientRate: 1e9}, Engines: map[string]httpapi.Engine{"signer": newSigningEngine}})
	if err != nil {
		return nil, nil, err
	}
	ends = append(ends, api.Close)
	return api, end, nil
}

// auditAndMetrics returns what looks on at a server as examples/server has it.
func (w *workplace) auditAndMetrics(file audit.File) (*audit.Log, *telemetry.Telemetry, error) {
	reader, err := exporter.New(exporter.WithRegisterer(prometheus.NewRegistry()))
	if err != nil {
		return nil, nil, err
	}
	metrics, err := telemetry.New(&telemetry.Options{MeterProvider: metric.NewMeterProvider(metric.WithReader(reader)), TracerProvider: noop.NewTracerProvider()})
	if err != nil {
		return nil, nil, err
	}
	file.Path = filepath.Join(w.dir, fmt.Sprintf("http-%d.log", file.Sync))
	file.MaxSize, file.Keep = 64<<20, 1
	log, err := audit.New(auditKey, []audit.Sink{file}, &audit.Options{FailClosed: audit.AllSinks})
	return log, metrics, err
}

// signingEngine signs with the key ca of its mount.
type signingEngine struct{ mount *managedkey.Mount }

func newSigningEngine(_ context.Context, m *managedkey.Mount) (httpapi.Handler, error) {
	return signingEngine{m}, nil
}

func (signingEngine) Close() error { return nil }

func (e signingEngine) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	signature, err := e.sign(r)
	if err != nil {
		httpapi.WriteError(w, r, err)
		return
	}
	httpapi.WriteData(w, r, map[string]string{"signature": base64.StdEncoding.EncodeToString(signature)})
}

func (e signingEngine) sign(r *http.Request) ([]byte, error) {
	f, err := httpapi.ReadFields(r)
	if err != nil {
		return nil, err
	}
	var input string
	f.String("input", &input)
	if err := f.Done(); err != nil {
		return nil, err
	}
	data, err := base64.StdEncoding.DecodeString(input)
	if err != nil {
		return nil, err
	}
	key, err := e.mount.Key(r.Context(), "ca")
	if err != nil {
		return nil, err
	}
	digest := sha256.Sum256(data)
	return key.SignContext(r.Context(), digest[:], crypto.SHA256)
}

// bareHandler does the same with net/http, encoding/json and crypto/ecdsa, and knows nobody.
func bareHandler() (http.Handler, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var in struct {
			Input []byte `json:"input"`
		}
		if err := json.NewDecoder(r.Body).Decode(&in); err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		digest := sha256.Sum256(in.Input)
		signature, err := key.Sign(rand.Reader, digest[:], crypto.SHA256)
		if err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
			return
		}
		w.Header().Set("Content-Type", "application/json")
		json.NewEncoder(w).Encode(map[string]any{"data": map[string]string{"signature": base64.StdEncoding.EncodeToString(signature)}})
	}), nil
}
