package gcpckms

import (
	"errors"
	"net/http"
	"net/http/httptest"
	"testing"

	"cloud.google.com/go/kms/apiv1/kmspb"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/oauth2"
	"google.golang.org/api/option"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/status"

	"github.com/managedkeys/managedkeys/backend"
	"github.com/managedkeys/managedkeys/backend/remote"
	"github.com/managedkeys/managedkeys/internal/fakecloud"
	"github.com/managedkeys/managedkeys/internal/fakegcp"
)

// What names no key is ErrKeyNotFound, whichever part of it is wrong, and nothing is made.
func TestWrongPlaces(t *testing.T) {
	r := newRig(t, nil, nil)
	good := r.add("ec", p256, Software)
	for what, change := range map[string]func(*Params){
		"project": func(p *Params) { p.Project = "p-2" }, "region": func(p *Params) { p.Region = "us-east1" },
		"key ring": func(p *Params) { p.KeyRing = "other" }, "key": func(p *Params) { p.CryptoKey = "other" },
		"version": func(p *Params) { p.CryptoKeyVersion = "2" }, "newest version of no key": func(p *Params) { p.CryptoKey = "other"; p.CryptoKeyVersion = Latest },
		"kind": func(p *Params) { p.Algorithm = "HMAC_SHA256"; p.CryptoKey = "other" },
	} {
		p := good
		change(&p)
		key, err := r.b.Open(t.Context(), p)
		assert.ErrorIs(t, err, backend.ErrKeyNotFound, what)
		assert.ErrorContains(t, err, "NOT_FOUND", what)
		assert.ErrorContains(t, err, "request id", what)
		assert.Nil(t, key)
	}
	assert.Zero(t, r.server.Log.Count("CreateCryptoKey"))
	wrong := good
	wrong.Algorithm = "HMAC_SHA256" // of a key that exists and does something else
	_, err := r.b.Open(t.Context(), wrong)
	assert.ErrorIs(t, err, backend.ErrInvalidParams)
	assert.ErrorContains(t, err, string(p256))
	wrong.Algorithm = "PQ_SIGN_ML_DSA_44"
	_, err = r.b.Open(t.Context(), wrong)
	assert.ErrorIs(t, err, backend.ErrInvalidParams)
}

// A missing permission is told with the service's reason.
func TestMissingPermissions(t *testing.T) {
	r := newRig(t, nil, nil)
	r.add("ec", p256, Software)
	for _, op := range []string{"GetPublicKey", "ListCryptoKeyVersions"} {
		r.server.Script.Add(fault(op, status.Error(codes.PermissionDenied, "Permission 'cloudkms.x' denied on resource (or it may not exist).")))
	}
	_, err := r.b.Open(t.Context(), r.params("ec", p256))
	assert.ErrorIs(t, err, backend.ErrNotPermitted)
	assert.ErrorContains(t, err, "cloudkms.x")
	_, err = r.b.Open(t.Context(), latest(r.params("ec", p256)))
	assert.ErrorIs(t, err, backend.ErrNotPermitted)
}

// A server that is not the service gives errors, whatever it says.
func TestNotTheService(t *testing.T) {
	for what, handler := range map[string]http.HandlerFunc{
		"HTML": func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "text/html")
			w.Write([]byte("<html>captive portal</html>"))
		},
		"nothing":  func(http.ResponseWriter, *http.Request) {},
		"an error": func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusBadGateway) },
		"a redirect": func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, "https://example.com", http.StatusFound)
		},
		"a gRPC header and rubbish": func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "application/grpc")
			w.Write([]byte("rubbish that is no frame"))
		},
	} {
		t.Run(what, func(t *testing.T) {
			server := httptest.NewUnstartedServer(handler)
			server.EnableHTTP2 = true
			server.StartTLS()
			defer server.Close()
			pool := server.Client().Transport.(*http.Transport).TLSClientConfig.RootCAs
			b, err := NewFromOptions(t.Context(), quick, option.WithEndpoint(server.Listener.Addr().String()), bearerToken,
				option.WithGRPCDialOption(grpc.WithTransportCredentials(credentials.NewClientTLSFromCert(pool, ""))))
			require.NoError(t, err)
			defer b.Close()
			key, err := b.Open(t.Context(), testParams("k", p256))
			require.Error(t, err)
			assert.Nil(t, key)
			one := false
			for _, s := range []error{backend.ErrUnavailable, backend.ErrUnsupported, backend.ErrNotPermitted} {
				one = one || errors.Is(err, s)
			}
			assert.True(t, one, err)
		})
	}
}

var bearerToken = option.WithTokenSource(oauth2.StaticTokenSource(&oauth2.Token{AccessToken: "token"}))

// Of answers that are not what was asked for nothing is used.
func TestTruncatedAnswers(t *testing.T) {
	r := newRig(t, nil, &Options{Remote: remote.Options{MaxAttempts: 1}})
	p := r.add("ec", p256, Software)
	for what, raw := range map[string]string{
		"empty": "", "an open string": "\x0a\xff", "text": "{\"error\": {\"code\": 500}}", "zeros": "\x00\x00\x00",
	} {
		for _, op := range []string{"GetPublicKey", "ListCryptoKeyVersions"} {
			r.server.Script.Add(fakecloud.Fault{Op: op, Corrupt: fakegcp.Raw(raw)})
			use := p
			if op == "ListCryptoKeyVersions" {
				use = latest(p)
			}
			_, err := r.b.Open(t.Context(), use)
			require.Error(t, err, what)
			want := errors.Is(err, backend.ErrIntegrity) || errors.Is(err, backend.ErrUnavailable) || errors.Is(err, backend.ErrKeyNotFound)
			assert.True(t, want, "%s: %v", what, err)
		}
	}
}

// No public key makes the parser fail in another way than with an error.
func FuzzPublicKey(f *testing.F) {
	f.Add("", uint8(0))
	f.Add("-----BEGIN PUBLIC KEY-----\nMAA=\n-----END PUBLIC KEY-----\n", uint8(0))
	f.Add(pemOf(f, &newECDSA().PublicKey), uint8(0))
	f.Add(string(make([]byte, 1312)), uint8(3))
	f.Add(string(make([]byte, 1184)), uint8(3))
	f.Fuzz(func(t *testing.T, data string, format uint8) {
		for _, a := range algorithms {
			pub := &kmspb.PublicKey{Name: "n", Algorithm: a.pb, Pem: data, PemCrc32C: sum([]byte(data)),
				PublicKeyFormat: kmspb.PublicKey_PublicKeyFormat(format % 5),
				PublicKey:       &kmspb.ChecksummedData{Data: []byte(data), Crc32CChecksum: sum([]byte(data))}}
			d, err := readPublicKey("n", pub, pub.PublicKeyFormat)
			if err == nil {
				require.True(t, d.alg.fits(d.public))
				continue
			}
			require.ErrorIs(t, err, backend.ErrIntegrity)
		}
	})
}
