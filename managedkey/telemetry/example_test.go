package telemetry_test

import (
	"context"
	"crypto"
	"crypto/sha256"
	"fmt"

	"go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"

	"github.com/managedkeys/managedkeys/backend/software"
	"github.com/managedkeys/managedkeys/managedkey"
	"github.com/managedkeys/managedkeys/managedkey/telemetry"
	"github.com/managedkeys/managedkeys/namespace"
)

// What happens to keys is in the traces of the program.
func Example() {
	ctx := context.Background()
	spans := tracetest.NewInMemoryExporter() // in a program: that of OTLP
	t, err := telemetry.New(&telemetry.Options{TracerProvider: trace.NewTracerProvider(trace.WithSyncer(spans))})
	if err != nil {
		panic(err)
	}
	keys := managedkey.NewRegistry()
	keys.Observe(t)

	b := software.New(nil)
	defer b.Close()
	ref := namespace.Ref{Namespace: "team-a", Name: "issuing-ca"}
	err = keys.Create(ctx, managedkey.Entry{Ref: ref, Backend: b, AllowGenerateKey: true,
		Params: software.Params{KeyName: "ca", KeyType: software.ECDSA, Curve: software.P256}})
	if err != nil {
		panic(err)
	}
	key, err := keys.Key(ctx, ref)
	if err != nil {
		panic(err)
	}
	digest := sha256.Sum256([]byte("to be signed"))
	if _, err := key.SignContext(ctx, digest[:], crypto.SHA256); err != nil {
		panic(err)
	}
	for _, s := range spans.GetSpans() {
		fmt.Println(s.Name)
	}
	// Output:
	// managedkeys create
	// managedkeys generate
	// managedkeys open
	// managedkeys sign
}
