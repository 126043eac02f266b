package gcpckms

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/mlkem"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"math/big"
	"testing"
	"time"

	"cloud.google.com/go/kms/apiv1/kmspb"
	"filippo.io/mldsa"
	"github.com/decred/dcrd/dcrec/secp256k1/v4"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	kwp "github.com/tink-crypto/tink-go/v2/kwp/subtle"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"github.com/managedkeys/managedkeys/backend"
	"github.com/managedkeys/managedkeys/internal/fakecloud"
	"github.com/managedkeys/managedkeys/internal/fakegcp"
)

func newECDSA() *ecdsa.PrivateKey { return must(ecdsa.GenerateKey(elliptic.P256(), rand.Reader)) }

// One import job serves all imports of a day, and its being made is waited for, as the import is.
func TestImportJobs(t *testing.T) {
	r := newRig(t, &fakegcp.Options{GenerationReads: 2}, nil)
	day := time.Date(2026, 11, 26, 23, 0, 0, 0, time.UTC)
	r.b.clock.now = func() time.Time { return day }
	for _, id := range []string{"a", "b"} {
		key, err := r.b.Import(t.Context(), r.params(id, p256), newECDSA(), nil)
		require.NoError(t, err)
		signs(t, key)
	}
	jobs := r.server.Log.Requests("ImportCryptoKeyVersion")
	require.Len(t, jobs, 2)
	assert.Equal(t, 2, r.server.Log.Count("CreateImportJob"))
	assert.Equal(t, r.ring+"/importJobs/managedkeys-software-20261126", r.server.Log.Requests("GetImportJob")[0].Key)
	day = day.Add(2 * time.Hour)
	_, err := r.b.Import(t.Context(), r.params("c", p256), newECDSA(), nil)
	require.NoError(t, err)
	last := r.server.Log.Requests("GetImportJob")
	assert.Equal(t, r.ring+"/importJobs/managedkeys-software-20261127", last[len(last)-1].Key)
	r.server.ExpireJobs(r.ring)
	key, err := r.b.Import(t.Context(), r.params("d", p256), newECDSA(), nil)
	require.NoError(t, err, "a job with another name is made if today's has expired")
	signs(t, key)
}

// What is not key material of the algorithm is refused before anything is made.
func TestImportRefused(t *testing.T) {
	r := newRig(t, nil, nil)
	bad := must(rsa.GenerateKey(rand.Reader, 2048))
	bad.D = big.NewInt(3)
	for name, test := range map[string]struct {
		alg      Algorithm
		material any
		want     error
	}{
		"no algorithm":            {"", newECDSA(), backend.ErrInvalidParams},
		"another curve":           {"EC_SIGN_P384_SHA384", newECDSA(), backend.ErrInvalidParams},
		"another kind":            {p256, ed25519.NewKeyFromSeed(randomBytes(32)), backend.ErrInvalidParams},
		"another size":            {"RSA_SIGN_PSS_3072_SHA256", must(rsa.GenerateKey(rand.Reader, 2048)), backend.ErrInvalidParams},
		"another set":             {"PQ_SIGN_ML_DSA_44", must(mldsa.GenerateKey(mldsa.MLDSA65())), backend.ErrInvalidParams},
		"an inconsistent key":     {"RSA_SIGN_PSS_2048_SHA256", bad, backend.ErrInvalidParams},
		"bytes for a key pair":    {p256, randomBytes(32), backend.ErrInvalidParams},
		"a key pair for bytes":    {"HMAC_SHA256", newECDSA(), backend.ErrInvalidParams},
		"a short secret":          {"HMAC_SHA256", randomBytes(31), backend.ErrInvalidParams},
		"a long secret":           {"AES_128_GCM", randomBytes(32), backend.ErrInvalidParams},
		"secp256k1":               {"EC_SIGN_SECP256K1_SHA256", must(secp256k1.GeneratePrivateKey()).ToECDSA(), backend.ErrUnsupported},
		"ML-KEM":                  {"ML_KEM_768", must(mlkem.GenerateKey768()), backend.ErrUnsupported},
		"outside":                 {"EXTERNAL_SYMMETRIC_ENCRYPTION", randomBytes(32), backend.ErrUnsupported},
		"a public key of its own": {"EC_SIGN_ED25519", append(ed25519.NewKeyFromSeed(randomBytes(32))[:32:32], randomBytes(32)...), backend.ErrInvalidParams},
	} {
		if b, ok := test.material.(ed25519.PrivateKey); ok && name == "a public key of its own" {
			test.material = b
		}
		key, err := r.b.Import(t.Context(), r.params("k", test.alg), test.material, nil)
		assert.ErrorIs(t, err, test.want, name)
		assert.Nil(t, key)
	}
	assert.Zero(t, r.server.Log.Count(""), "all of it is known without a call")
}

// An import that the service could not use is told with its reason, and can be done again over the same version.
func TestImportFailed(t *testing.T) {
	r := newRig(t, nil, nil)
	p := r.params("ec", p256)
	other := must(rsa.GenerateKey(rand.Reader, 3072)) // made beforehand, since an answer that waits for it may come too late
	r.server.Script.Add(fakecloud.Fault{Op: "CreateImportJob", Corrupt: func(m proto.Message) {
		// A wrapping key that the service doesn't have.
		m.(*kmspb.ImportJob).PublicKey.Pem = pemOf(t, &other.PublicKey)
	}})
	_, err := r.b.Import(t.Context(), p, newECDSA(), nil)
	assert.ErrorIs(t, err, backend.ErrInvalidParams)
	assert.ErrorContains(t, err, "IMPORT_FAILED")
	assert.ErrorContains(t, err, "unwrapped", "the service's reason")
	_, err = r.b.Open(t.Context(), p)
	assert.ErrorIs(t, err, backend.ErrKeyDisabled)

	private := newECDSA()
	key, err := r.b.Import(t.Context(), p, private, nil)
	require.NoError(t, err)
	assert.True(t, private.PublicKey.Equal(key.Public()))
	assert.Equal(t, 1, r.server.Versions(p.key()))
	signs(t, key)
}

// Whatever happens to the call that imports, the key is there once or not at all.
func TestImportFaults(t *testing.T) {
	for name, f := range map[string]fakecloud.Fault{
		"unavailable": fault("", status.New(codes.Unavailable, "x")), "dropped": {Drop: true}, "garbage": {Corrupt: fakegcp.Raw("\xff\xff")},
	} {
		for _, after := range []bool{false, true} {
			t.Run(name+map[bool]string{true: " after", false: " before"}[after], func(t *testing.T) {
				t.Parallel()
				r := newRig(t, nil, nil)
				f := f // the subtests run at once
				for _, op := range []string{"CreateImportJob", "CreateCryptoKey", "ListCryptoKeyVersions", "GetPublicKey"} {
					f.Op, f.After = op, after
					r.server.Script.Add(f)
				}
				private := newECDSA()
				key, err := r.b.Import(t.Context(), r.params("a", p256), private, nil)
				require.NoError(t, err)
				assert.True(t, private.PublicKey.Equal(key.Public()))

				f.Op = "ImportCryptoKeyVersion"
				r.server.Script.Add(f)
				key, err = r.b.Import(t.Context(), r.params("b", p256), private, nil)
				if after || f.Corrupt != nil {
					require.NoError(t, err)
					signs(t, key)
					assert.Equal(t, 1, r.server.Versions(r.params("b", p256).key()))
					return
				}
				require.ErrorIs(t, err, backend.ErrUnavailable)
				assert.Zero(t, r.server.Versions(r.params("b", p256).key()))
				// The empty key that is left is used by the next import.
				key, err = r.b.Import(t.Context(), r.params("b", p256), private, nil)
				require.NoError(t, err)
				signs(t, key)
				assert.Equal(t, 1, r.server.Versions(r.params("b", p256).key()))
			})
		}
	}
}

// An import that gave another key than the one that was sent does not count.
func TestImportOfAnotherKey(t *testing.T) {
	r := newRig(t, nil, quick)
	other, small := pemOf(t, &newECDSA().PublicKey), pemOf(t, &must(rsa.GenerateKey(rand.Reader, 2048)).PublicKey)
	r.server.Script.Add(fakecloud.Fault{Op: "GetPublicKey", Corrupt: func(m proto.Message) {
		pub := m.(*kmspb.PublicKey)
		pub.Pem, pub.PemCrc32C = other, sum([]byte(other))
	}})
	_, err := r.b.Import(t.Context(), r.params("ec", p256), newECDSA(), nil)
	assert.ErrorIs(t, err, backend.ErrKeyChanged)

	for name, corrupt := range map[string]func(*kmspb.ImportJob){
		"another name":      func(j *kmspb.ImportJob) { j.Name += "0" },
		"an elliptic key":   func(j *kmspb.ImportJob) { j.PublicKey.Pem = other },
		"a small RSA key":   func(j *kmspb.ImportJob) { j.PublicKey.Pem = small },
		"no key in its PEM": func(j *kmspb.ImportJob) { j.PublicKey.Pem = "" },
	} {
		for _, op := range []string{"CreateImportJob", "GetImportJob"} {
			r.server.Script.Add(fakecloud.Fault{Op: op, Corrupt: func(m proto.Message) { corrupt(m.(*kmspb.ImportJob)) }})
		}
		_, err := r.b.Import(t.Context(), r.params("other", p256), newECDSA(), nil)
		assert.Error(t, err, name)
		r.server.Script.Clear()
	}
	assert.Zero(t, r.server.Log.Count("ImportCryptoKeyVersion")-1)
}

// What leaves the process is what CKM_RSA_AES_KEY_WRAP makes.
func TestWrapMaterial(t *testing.T) {
	wrapping := must(rsa.GenerateKey(rand.Reader, 3072))
	for _, n := range []int{16, 20, 32, 1219} {
		material := randomBytes(n)
		wrapped, err := wrapMaterial(&wrapping.PublicKey, material)
		require.NoError(t, err)
		ephemeral, err := rsa.DecryptOAEP(sha256.New(), nil, wrapping, wrapped[:384], nil)
		require.NoError(t, err)
		w := must(kwp.NewKWP(ephemeral))
		out, err := w.Unwrap(wrapped[384:])
		require.NoError(t, err)
		assert.Equal(t, material, out)
	}
}

// Every kind of material comes out as the key that went in.
func TestImportKinds(t *testing.T) {
	r := newRig(t, nil, nil)
	for alg, material := range map[Algorithm]any{
		"RSA_DECRYPT_OAEP_2048_SHA1": must(rsa.GenerateKey(rand.Reader, 2048)), "PQ_SIGN_ML_DSA_65": must(mldsa.GenerateKey(mldsa.MLDSA65())),
		"EC_SIGN_P384_SHA384": must(ecdsa.GenerateKey(elliptic.P384(), rand.Reader)), "HMAC_SHA512": randomBytes(64),
		"GOOGLE_SYMMETRIC_ENCRYPTION": randomBytes(32),
	} {
		key, err := r.b.Import(t.Context(), r.params(lower(alg), alg), material, nil)
		require.NoError(t, err, alg)
		if s, ok := material.(interface{ Public() crypto.PublicKey }); ok {
			assert.True(t, equal(key.Public(), s.Public()), alg)
		}
		useOnce(t, alg, key)
	}
}
