package azurekeyvault

import (
	"crypto"
	"encoding/base64"
	"strings"
	"testing"

	"github.com/Azure/azure-sdk-for-go/sdk/security/keyvault/azkeys"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/managedkeys/managedkeys/backend"
	"github.com/managedkeys/managedkeys/internal/fakeazure"
	"github.com/managedkeys/managedkeys/internal/fakecloud"
)

// flip changes a byte of a field in base64url. i counts from the end if it is negative.
func flip(field string, i int) func(map[string]any) {
	return func(answer map[string]any) {
		data, _ := base64.RawURLEncoding.DecodeString(answer[field].(string))
		if i < 0 {
			i += len(data)
		}
		data[i] ^= 1
		answer[field] = base64.RawURLEncoding.EncodeToString(data)
	}
}

func set(field string, value any) func(map[string]any) {
	return func(answer map[string]any) { answer[field] = value }
}

// inKey changes the key of a bundle.
func inKey(change func(map[string]any)) func(map[string]any) {
	return func(answer map[string]any) { change(answer["key"].(map[string]any)) }
}

func replaceKID(from, to string) func(map[string]any) {
	return func(answer map[string]any) { answer["kid"] = strings.Replace(answer["kid"].(string), from, to, 1) }
}

const zeros = "00000000000000000000000000000000"

// wrongKIDs are answers about another key.
var wrongKIDs = map[string]func(map[string]any){
	"no kid":       func(a map[string]any) { delete(a, "kid") },
	"empty kid":    set("kid", ""),
	"another name": replaceKID("/keys/", "/keys/x"),
	"another version": func(a map[string]any) {
		a["kid"] = a["kid"].(string)[:strings.LastIndex(a["kid"].(string), "/")+1] + zeros
	},
	"no version":       func(a map[string]any) { a["kid"] = a["kid"].(string)[:strings.LastIndex(a["kid"].(string), "/")] },
	"a secret":         replaceKID("/keys/", "/secrets/"),
	"not a URL":        set("kid", "::"),
	"more path":        func(a map[string]any) { a["kid"] = a["kid"].(string) + "/sign" },
	"a path with dots": replaceKID("/keys/", "/keys/../keys/"),
}

// corrupted has all answers to op damaged and expects the error and no output; and when only one is, that it is not seen.
func corrupted(t *testing.T, srv *fakeazure.Server, op string, do func() ([]byte, error), changes map[string]func(map[string]any), want error) {
	t.Helper()
	for name, change := range changes {
		t.Run(op+"/"+name, func(t *testing.T) {
			srv.Script.Add(fakecloud.Fault{Op: op, Times: -1, Corrupt: change})
			out, err := do()
			srv.Script.Clear()
			assert.Nil(t, out)
			require.ErrorIs(t, err, want)
			if want == backend.ErrKeyChanged {
				return // the service's own doing, as far as one can see
			}
			assert.ErrorContains(t, err, "request id")
			srv.Script.Add(fakecloud.Fault{Op: op, Corrupt: change})
			out, err = do()
			require.NoError(t, err)
			assert.NotEmpty(t, out)
			assert.Zero(t, srv.Script.Left())
		})
	}
}

// TestCorruptedAnswers: no field of an answer is taken on trust.
func TestCorruptedAnswers(t *testing.T) {
	t.Parallel()
	r := newRig(t, func(o *Options) { o.Remote.MaxAttempts = 2 })
	do := r.ops(t.Context())
	for _, op := range []string{"sign", "decrypt"} {
		corrupted(t, r.srv, op, do[op], wrongKIDs, backend.ErrIntegrity)
	}
	inner := make(map[string]func(map[string]any))
	for name, change := range wrongKIDs {
		if name != "another version" { // which is what the answer is to tell
			inner[name] = inKey(change)
		}
	}
	corrupted(t, r.srv, "get", do["get"], inner, backend.ErrIntegrity)
	corrupted(t, r.srv, "sign", do["sign"], map[string]func(map[string]any){
		"short": set("value", "AAAA"), "empty": set("value", ""), "absent": func(a map[string]any) { delete(a, "value") },
		"null": set("value", nil), "65 bytes": set("value", base64.RawURLEncoding.EncodeToString(make([]byte, 65))),
	}, backend.ErrIntegrity)
	corrupted(t, r.srv, "sign", do["sign"], map[string]func(map[string]any){
		"r changed": flip("value", 5), "s changed": flip("value", -5),
		"zeros": set("value", base64.RawURLEncoding.EncodeToString(make([]byte, 64))),
	}, backend.ErrKeyChanged)
	corrupted(t, r.srv, "decrypt", do["decrypt"], map[string]func(map[string]any){
		"too long": set("value", base64.RawURLEncoding.EncodeToString(make([]byte, 191))),
	}, backend.ErrIntegrity)
	corrupted(t, r.srv, "get", do["get"], map[string]func(map[string]any){
		"no key": func(a map[string]any) { delete(a, "key") }, "null key": set("key", nil),
		"no kty":      inKey(func(a map[string]any) { delete(a, "kty") }),
		"no curve":    inKey(func(a map[string]any) { delete(a, "crv") }),
		"no x":        inKey(func(a map[string]any) { delete(a, "x") }),
		"x changed":   inKey(flip("x", 3)),
		"y changed":   inKey(flip("y", 3)),
		"x too long":  inKey(set("x", base64.RawURLEncoding.EncodeToString(make([]byte, 33)))),
		"other curve": inKey(set("crv", "P-384")),
	}, backend.ErrIntegrity)
}

// TestCorruptedRSA: moduli and exponents that are none.
func TestCorruptedRSA(t *testing.T) {
	t.Parallel()
	r := newRig(t, func(o *Options) { o.Remote.MaxAttempts = 2 })
	openRSA := func() ([]byte, error) {
		key, err := r.b.Open(t.Context(), Params{KeyName: "rsa"})
		if err != nil {
			return nil, err
		}
		return []byte(key.ID()), nil
	}
	corrupted(t, r.srv, "get", openRSA, map[string]func(map[string]any){
		"even modulus":  inKey(flip("n", -1)),
		"no modulus":    inKey(func(a map[string]any) { delete(a, "n") }),
		"small modulus": inKey(set("n", base64.RawURLEncoding.EncodeToString([]byte{0x81}))),
		"exponent 1":    inKey(set("e", "AQ")),
		"even exponent": inKey(set("e", "AQAA")),
		"huge exponent": inKey(set("e", base64.RawURLEncoding.EncodeToString([]byte{0xff, 1, 1, 1, 1}))),
		"no exponent":   inKey(func(a map[string]any) { delete(a, "e") }),
	}, backend.ErrIntegrity)
}

// TestCorruptedSecretKey: the answers of symmetric keys, where a wrong result can't be told from a right one by its value.
func TestCorruptedSecretKey(t *testing.T) {
	t.Parallel()
	srv := newFake(t, nil)
	client := sdkClient(t, srv, hsmURL)
	makeKey(t, client, "aes", octParams(256, nil))
	makeKey(t, client, "hmac", octParams(256, signs))
	b := newBackendAt(t, srv, hsmURL, func(o *Options) { o.Remote.MaxAttempts = 2 })
	aes := open(t, b, Params{KeyName: "aes"}).(*octKey)
	mac := open(t, b, Params{KeyName: "hmac"}).(*octKey)
	ctx, ad := t.Context(), []byte("additional data")
	sealed, err := aes.Seal(ctx, []byte("a plaintext"), ad)
	require.NoError(t, err)
	wrapped, err := aes.WrapKey(ctx, make([]byte, 32))
	require.NoError(t, err)
	short := set("value", "AAAA")
	n := func(n int) string { return base64.RawURLEncoding.EncodeToString(make([]byte, n)) }
	for op, c := range map[string]struct {
		do      func() ([]byte, error)
		changes map[string]func(map[string]any)
	}{
		"encrypt": {func() ([]byte, error) { return aes.Seal(ctx, []byte("a plaintext"), ad) }, map[string]func(map[string]any){
			"short": short, "no iv": set("iv", nil), "iv of 16": set("iv", n(16)), "no tag": set("tag", nil), "tag of 12": set("tag", n(12)),
			"other additional data": set("aad", "AAAA"),
		}},
		"decrypt": {func() ([]byte, error) { return aes.Open(ctx, sealed, ad) }, map[string]func(map[string]any){"short": short, "long": set("value", n(12))}},
		"wrapkey": {func() ([]byte, error) { return aes.WrapKey(ctx, make([]byte, 32)) }, map[string]func(map[string]any){
			"short": short, "PKCS #5 padding": set("value", n(48)),
		}},
		"unwrapkey":   {func() ([]byte, error) { return aes.UnwrapKey(ctx, wrapped) }, map[string]func(map[string]any){"short": short, "long": set("value", n(33))}},
		"sign":        {func() ([]byte, error) { return mac.ComputeMAC(ctx, backend.HMACSHA256, []byte("m")) }, map[string]func(map[string]any){"short": short, "long": set("value", n(64))}},
		"rng":         {func() ([]byte, error) { return aes.GenerateRandom(ctx, 32) }, map[string]func(map[string]any){"short": short, "long": set("value", n(33)), "none": set("value", nil)}},
		"attestation": {func() ([]byte, error) { a, err := aes.Attest(ctx); return a.Statement, err }, map[string]func(map[string]any){"no attributes": set("attributes", nil), "no attestation": set("attributes", map[string]any{})}},
	} {
		corrupted(t, srv, op, c.do, c.changes, backend.ErrIntegrity)
		if op != "rng" && op != "attestation" {
			corrupted(t, srv, op, c.do, wrongKIDs, backend.ErrIntegrity)
		}
	}
}

// TestHostileHost: the host in a key identifier is neither followed nor shown.
func TestHostileHost(t *testing.T) {
	t.Parallel()
	r := newRig(t, nil)
	hostile := replaceKID("test.vault.azure.net", "evil.vault.azure.net")
	r.srv.Script.Add(fakecloud.Fault{Op: "get", Corrupt: inKey(hostile)}, fakecloud.Fault{Op: "sign", Corrupt: hostile})
	key := open(t, r.b, Params{KeyName: "ec"}).(backend.Signer)
	assert.Equal(t, r.ec.ID(), key.ID())
	_, err := key.SignContext(t.Context(), r.digest[:], crypto.SHA256)
	require.NoError(t, err)
	assert.Zero(t, r.srv.Script.Left())
}

// TestUnknownKinds: keys that this library doesn't know are refused as such.
func TestUnknownKinds(t *testing.T) {
	t.Parallel()
	r := newRig(t, nil)
	for name, change := range map[string]func(map[string]any){
		"type":  inKey(set("kty", "OKP-HSM")),
		"curve": inKey(set("crv", "X25519")),
	} {
		t.Run(name, func(t *testing.T) {
			r.srv.Log.Clear()
			r.srv.Script.Add(fakecloud.Fault{Op: "get", Corrupt: change})
			_, err := r.b.Open(t.Context(), Params{KeyName: "ec"})
			assert.ErrorIs(t, err, backend.ErrUnsupported)
			assert.Equal(t, 1, r.srv.Log.Count("get"))
		})
	}
	makeKey(t, sdkClient(t, r.srv, vaultURL), "kek", rsaParams(azkeys.KeyTypeRSAHSM, 2048, []*azkeys.KeyOperation{ptr(azkeys.KeyOperationImport)}))
	_, err := r.b.Open(t.Context(), Params{KeyName: "kek"})
	assert.ErrorIs(t, err, backend.ErrUnsupported)
	assert.ErrorContains(t, err, "import")
}

// TestTrustedSignatures: without verification a wrong signature gets through, which is what the option says.
func TestTrustedSignatures(t *testing.T) {
	r := newRig(t, func(o *Options) { o.Remote.TrustSignatures = true })
	r.srv.Script.Add(fakecloud.Fault{Op: "sign", Corrupt: flip("value", 5)})
	signature, err := r.ec.SignContext(t.Context(), r.digest[:], crypto.SHA256)
	require.NoError(t, err)
	assert.ErrorIs(t, backend.Verify(r.ec.Public(), r.digest[:], signature, crypto.SHA256), backend.ErrInvalidSignature)
}

// TestLeadingZeros: coordinates that come without their leading zeros are the same point.
func TestLeadingZeros(t *testing.T) {
	for range 5000 {
		key, err := pooledEC()
		require.NoError(t, err)
		if key.X[0] != 0 {
			continue
		}
		full, _, err := publicKey(key)
		require.NoError(t, err)
		key.X = key.X[1:]
		short, _, err := publicKey(key)
		require.NoError(t, err)
		assert.Equal(t, full, short)
		return
	}
	t.Fatal("no key with a leading zero was met")
}
