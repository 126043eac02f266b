package awskms

import (
	"context"
	"crypto"
	"fmt"
	"net/http"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/aws/aws-sdk-go-v2/service/kms/types"

	"github.com/managedkeys/managedkeys/backend"
	"github.com/managedkeys/managedkeys/backend/remote"
	"github.com/managedkeys/managedkeys/internal/fakeaws"
)

// BenchmarkSingleSign compares a signature through this package, verified before it leaves and not, with the same single
// request of the SDK's client on an equal HTTP transport, all against one fake.
func BenchmarkSingleSign(b *testing.B) {
	for _, spec := range []struct {
		name, spec string
		algorithm  types.SigningAlgorithmSpec
	}{
		{"P-256", "ECC_NIST_P256", types.SigningAlgorithmSpecEcdsaSha256},
		{"RSA-2048", "RSA_2048", types.SigningAlgorithmSpecRsassaPkcs1V15Sha256},
	} {
		srv := serve(b, nil)
		arn := add(b, srv, fakeaws.Key{Spec: spec.spec, Usage: signVerify})
		transport := httpTransport(http.DefaultTransport.(*http.Transport), remote.DefaultMaxInFlight)
		b.Cleanup(transport.CloseIdleConnections)
		bare := kms.NewFromConfig(srv.Config(), func(o *kms.Options) {
			o.HTTPClient, o.Retryer = &http.Client{Transport: transport}, aws.NopRetryer{}
		})
		digest := make([]byte, 32)
		ways := map[string]func(context.Context) error{"sdk": func(ctx context.Context) error {
			_, err := bare.Sign(ctx, &kms.SignInput{KeyId: &arn, Message: digest, MessageType: types.MessageTypeDigest, SigningAlgorithm: spec.algorithm})
			return err
		}}
		for name, trust := range map[string]bool{"trusting": true, "verifying": false} {
			key := open[backend.Signer](b, connect(b, &Options{Remote: remote.Options{TrustSignatures: trust}}), at(srv, Params{KMSKey: arn}))
			ways[name] = func(ctx context.Context) error {
				_, err := key.SignContext(ctx, digest, crypto.SHA256)
				return err
			}
		}
		for _, goroutines := range []int{1, 8, 64} {
			for _, way := range []string{"sdk", "trusting", "verifying"} {
				b.Run(fmt.Sprintf("%s/%d/%s", spec.name, goroutines, way), func(b *testing.B) {
					b.ReportAllocs()
					run(b, goroutines, ways[way])
				})
			}
		}
	}
}

// run has goroutines share b.N calls.
func run(b *testing.B, goroutines int, do func(context.Context) error) {
	b.Helper()
	turns := make(chan struct{})
	errs := make(chan error, goroutines)
	for range goroutines {
		go func() {
			var failed error
			for range turns {
				if err := do(b.Context()); err != nil {
					failed = err
				}
			}
			errs <- failed
		}()
	}
	b.ResetTimer()
	for range b.N {
		turns <- struct{}{}
	}
	close(turns)
	for range goroutines {
		if err := <-errs; err != nil {
			b.Error(err)
		}
	}
}

// BenchmarkOpen opens 1,000 keys of one account: two requests each.
func BenchmarkOpen(b *testing.B) {
	srv := serve(b, nil)
	client := connect(b, nil)
	params := make([]Params, 1000)
	for i := range params {
		params[i] = at(srv, Params{KMSKey: add(b, srv, fakeaws.Key{Spec: "ECC_NIST_P256", Usage: signVerify})})
	}
	for b.Loop() {
		srv.Log.Clear()
		for _, p := range params {
			if _, err := client.Open(b.Context(), p); err != nil {
				b.Fatal(err)
			}
		}
		b.ReportMetric(float64(srv.Log.Count("")), "requests/op")
	}
}
