package azurekeyvault

import (
	"context"
	"crypto"
	"crypto/sha256"
	"fmt"
	"net/http"
	"sync"
	"testing"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	"github.com/Azure/azure-sdk-for-go/sdk/security/keyvault/azkeys"
	"github.com/stretchr/testify/require"

	"github.com/managedkeys/managedkeys/backend"
)

// BenchmarkAgainstSDK compares a signature through this package, with and without its verification, with the same request
// made with the bare SDK over the same kind of transport. The three take turns, so that what else the machine does meets
// all of them. The metrics are the time of the SDK divided by that of this package: trusted/sdk without verification,
// verified/sdk with it.
func BenchmarkAgainstSDK(b *testing.B) {
	srv := newFake(b, nil)
	client := sdkClient(b, srv, vaultURL)
	digest := sha256.Sum256([]byte("message"))
	own := newHTTPClient(&Options{DialContext: srv.DialContext, RootCAs: srv.RootCAs(), Remote: backendOptions(b)})
	b.Cleanup(func() { own.CloseIdleConnections() })
	bare := bareClient(b, secretCredential(b, srv), own)
	for _, k := range []struct {
		name   string
		params azkeys.CreateKeyParameters
		alg    azkeys.SignatureAlgorithm
	}{
		{"P-256", p256(), azkeys.SignatureAlgorithmES256},
		{"RSA-2048", rsaParams(azkeys.KeyTypeRSA, 2048, nil), azkeys.SignatureAlgorithmRS256},
	} {
		version := makeKey(b, client, k.name, k.params)
		calls := []func(context.Context) error{func(ctx context.Context) error {
			_, err := bare.Sign(ctx, k.name, version, azkeys.SignParameters{Algorithm: &k.alg, Value: digest[:]}, nil)
			return err
		}}
		for _, trust := range []bool{true, false} {
			key := open(b, newBackendAt(b, srv, vaultURL, func(o *Options) { o.Remote.TrustSignatures = trust }), Params{KeyName: k.name}).(backend.Signer)
			calls = append(calls, func(ctx context.Context) error {
				_, err := key.SignContext(ctx, digest[:], crypto.SHA256)
				return err
			})
		}
		for _, n := range []int{1, 8, 64} {
			b.Run(fmt.Sprintf("%s/goroutines=%d", k.name, n), func(b *testing.B) {
				var took [3]time.Duration
				for _, call := range calls { // connections and tokens
					turn(b, n, call)
				}
				for b.Loop() {
					for i, call := range calls {
						took[i] += turn(b, n, call)
					}
				}
				b.ReportMetric(float64(took[0])/float64(took[1]), "trusted/sdk")
				b.ReportMetric(float64(took[0])/float64(took[2]), "verified/sdk")
				b.ReportMetric(float64(took[0])/float64(b.N*turnCalls), "sdk-ns/sign")
			})
		}
	}
}

// turnCalls is how many calls a turn has.
const turnCalls = 128

// turn makes some calls from n goroutines and returns how long they took together.
func turn(b *testing.B, n int, call func(context.Context) error) time.Duration {
	began := time.Now()
	var wg sync.WaitGroup
	for range n {
		wg.Go(func() {
			for range turnCalls / n {
				if err := call(b.Context()); err != nil {
					b.Error(err)
				}
			}
		})
	}
	wg.Wait()
	return time.Since(began)
}

// bareClient is the SDK's client over a transport.
func bareClient(tb testing.TB, cred azcore.TokenCredential, transport *http.Client) *azkeys.Client {
	tb.Helper()
	client, err := azkeys.NewClient(vaultURL, cred, &azkeys.ClientOptions{ClientOptions: azcore.ClientOptions{
		Transport: transport, Retry: policy.RetryOptions{MaxRetries: -1},
	}})
	require.NoError(tb, err)
	return client
}

func BenchmarkOpen(b *testing.B) {
	srv := newFake(b, nil)
	makeKey(b, sdkClient(b, srv, vaultURL), "k", p256())
	backend := newBackendAt(b, srv, vaultURL, nil)
	b.ReportAllocs()
	for b.Loop() {
		open(b, backend, Params{KeyName: "k"})
	}
}
