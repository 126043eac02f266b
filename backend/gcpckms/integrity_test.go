package gcpckms

import (
	"context"
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"strings"
	"testing"

	"cloud.google.com/go/kms/apiv1/kmspb"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/managedkeys/managedkeys/backend"
	"github.com/managedkeys/managedkeys/backend/remote"
	"github.com/managedkeys/managedkeys/internal/fakecloud"
)

// operation is one that makes a call.
type operation struct {
	op        string
	alg       Algorithm
	unchecked []protoreflect.Name // fields of the answer that nothing depends on
	prepare   func(key backend.Key) do
}

type do func(context.Context) ([]byte, error)

var operations = []operation{
	{"AsymmetricSign", p256, []protoreflect.Name{"protection_level", "verified_data_crc32c"}, func(key backend.Key) do {
		return func(ctx context.Context) ([]byte, error) { return signError(ctx, key) }
	}},
	{"AsymmetricSign", "EC_SIGN_ED25519", []protoreflect.Name{"protection_level", "verified_digest_crc32c"}, func(key backend.Key) do {
		return func(ctx context.Context) ([]byte, error) {
			return key.(backend.Signer).SignContext(ctx, []byte("message"), crypto.Hash(0))
		}
	}},
	{"AsymmetricDecrypt", "RSA_DECRYPT_OAEP_2048_SHA256", []protoreflect.Name{"protection_level"}, func(key backend.Key) do {
		ciphertext := must(rsa.EncryptOAEP(sha256.New(), rand.Reader, key.Public().(*rsa.PublicKey), []byte("plaintext"), nil))
		return func(ctx context.Context) ([]byte, error) {
			return key.(backend.Decrypter).DecryptContext(ctx, ciphertext, &rsa.OAEPOptions{Hash: crypto.SHA256})
		}
	}},
	{"MacSign", "HMAC_SHA256", []protoreflect.Name{"protection_level"}, func(key backend.Key) do {
		return func(ctx context.Context) ([]byte, error) {
			return key.(backend.MAC).ComputeMAC(ctx, backend.HMACSHA256, []byte("message"))
		}
	}},
	{"Decapsulate", "ML_KEM_768", []protoreflect.Name{"protection_level"}, func(key backend.Key) do {
		_, ciphertext := key.Public().(crypto.Encapsulator).Encapsulate()
		return func(ctx context.Context) ([]byte, error) {
			return key.(backend.Decapsulator).DecapsulateContext(ctx, ciphertext)
		}
	}},
	{"Encrypt", "GOOGLE_SYMMETRIC_ENCRYPTION", []protoreflect.Name{"protection_level"}, sealing},
	{"Decrypt", "GOOGLE_SYMMETRIC_ENCRYPTION", []protoreflect.Name{"protection_level", "used_primary"}, opening},
	{"RawEncrypt", "AES_256_GCM", []protoreflect.Name{"protection_level", "verified_initialization_vector_crc32c"}, sealing},
	{"RawDecrypt", "AES_256_GCM", []protoreflect.Name{"protection_level"}, opening},
	{"GenerateRandomBytes", p256, nil, func(key backend.Key) do {
		return func(ctx context.Context) ([]byte, error) { return key.(backend.Random).GenerateRandom(ctx, 32) }
	}},
}

func sealing(key backend.Key) do {
	return func(ctx context.Context) ([]byte, error) {
		return key.(backend.AEAD).Seal(ctx, []byte("plaintext"), []byte("ad"))
	}
}

func opening(key backend.Key) do {
	sealed := must(sealing(key)(context.Background()))
	return func(ctx context.Context) ([]byte, error) { return key.(backend.AEAD).Open(ctx, sealed, []byte("ad")) }
}

// eachOperation calls fn with every operation, each with a service of its own. Most of the time is pauses before retries.
func eachOperation(t *testing.T, opts *Options, fn func(t *testing.T, r *rig, op operation, key backend.Key, do do)) {
	for _, op := range operations {
		t.Run(op.op+" of "+string(op.alg), func(t *testing.T) {
			t.Parallel()
			r := newRig(t, nil, opts)
			key := r.open(r.add("key", op.alg, Software))
			fn(t, r, op, key, op.prepare(key))
		})
	}
}

// corruptions returns a function for each field of the answer that changes it, and one that leaves it out.
func corruptions(m proto.Message, unchecked []protoreflect.Name) map[string]func(proto.Message) {
	all := make(map[string]func(proto.Message))
	fields := m.ProtoReflect().Descriptor().Fields()
fields:
	for i := range fields.Len() {
		f := fields.Get(i)
		for _, name := range unchecked {
			if f.Name() == name {
				continue fields
			}
		}
		all["without "+string(f.Name())] = func(m proto.Message) { m.ProtoReflect().Clear(f) }
		switch f.Kind() {
		case protoreflect.BytesKind:
			all["changed "+string(f.Name())] = func(m proto.Message) {
				data := append([]byte(nil), m.ProtoReflect().Get(f).Bytes()...)
				data[len(data)/2] ^= 1
				m.ProtoReflect().Set(f, protoreflect.ValueOfBytes(data))
			}
		case protoreflect.StringKind:
			all["changed "+string(f.Name())] = func(m proto.Message) {
				m.ProtoReflect().Set(f, protoreflect.ValueOfString(m.ProtoReflect().Get(f).String()+"0"))
			}
		case protoreflect.MessageKind: // a checksum
			all["changed "+string(f.Name())] = func(m proto.Message) {
				sum := m.ProtoReflect().Mutable(f).Message()
				value := sum.Descriptor().Fields().ByName("value")
				sum.Set(value, protoreflect.ValueOfInt64(sum.Get(value).Int()^1))
			}
		case protoreflect.Int64Kind: // a checksum that is not wrapped
			all["changed "+string(f.Name())] = func(m proto.Message) {
				m.ProtoReflect().Set(f, protoreflect.ValueOfInt64(m.ProtoReflect().Get(f).Int()^1))
			}
		case protoreflect.Int32Kind:
			all["changed "+string(f.Name())] = func(m proto.Message) { m.ProtoReflect().Set(f, protoreflect.ValueOfInt32(12)) }
		}
	}
	return all
}

var answers = map[string]proto.Message{
	"AsymmetricSign": &kmspb.AsymmetricSignResponse{}, "AsymmetricDecrypt": &kmspb.AsymmetricDecryptResponse{},
	"MacSign": &kmspb.MacSignResponse{}, "Encrypt": &kmspb.EncryptResponse{}, "Decrypt": &kmspb.DecryptResponse{},
	"RawEncrypt": &kmspb.RawEncryptResponse{}, "RawDecrypt": &kmspb.RawDecryptResponse{},
	"Decapsulate":         &kmspb.DecapsulateResponse{},
	"GenerateRandomBytes": &kmspb.GenerateRandomBytesResponse{},
}

// No answer with a field that is wrong or missing leaves the backend: it is asked for again, and then is ErrIntegrity.
func TestCorruptAnswers(t *testing.T) {
	opts := &Options{Remote: remote.Options{MaxAttempts: 2, TrustSignatures: true}}
	eachOperation(t, opts, func(t *testing.T, r *rig, op operation, key backend.Key, do do) {
		all := corruptions(answers[op.op], op.unchecked)
		require.Greater(t, len(all), 3)
		for what, corrupt := range all {
			before := r.server.Log.Count(op.op)
			r.server.Script.Add(fakecloud.Fault{Op: op.op, Times: 2, Corrupt: corrupt})
			out, err := do(t.Context())
			assert.ErrorIs(t, err, backend.ErrIntegrity, what)
			assert.ErrorContains(t, err, "2 attempts", what)
			assert.Empty(t, out, "%s: something of the answer left", what)
			assert.Equal(t, 2, r.server.Log.Count(op.op)-before, what)
		}
		for _, corrupt := range all {
			r.server.Script.Add(fakecloud.Fault{Op: op.op, Corrupt: corrupt})
			out, err := do(t.Context())
			assert.NoError(t, err, "the second answer is in order")
			assert.NotEmpty(t, out)
			break
		}
	})
}

// A request that was damaged on its way is made again. The service has no code for it but names the field.
func TestDamagedRequest(t *testing.T) {
	eachOperation(t, nil, func(t *testing.T, r *rig, op operation, key backend.Key, do do) {
		r.server.Script.Add(fault(op.op, damaged))
		out, err := do(t.Context())
		assert.NoError(t, err)
		assert.NotEmpty(t, out)
		r.server.Script.Add(fakecloud.Fault{Op: op.op, Times: 4, Error: damaged})
		_, err = do(t.Context())
		assert.ErrorIs(t, err, backend.ErrIntegrity)
	})
}

// What Open reads is checked as well.
func TestCorruptDescriptions(t *testing.T) {
	r := newRig(t, nil, &Options{Remote: remote.Options{MaxAttempts: 1}})
	ec, other, mac := r.add("ec", p256, Software), r.add("other", "EC_SIGN_P384_SHA384", Software), r.add("mac", "HMAC_SHA256", Software)
	pq := r.add("pq", "PQ_SIGN_ML_DSA_44", Software)
	var otherKey *kmspb.PublicKey
	r.server.Script.Add(fakecloud.Fault{Op: "GetPublicKey", Corrupt: func(m proto.Message) {
		otherKey = proto.Clone(m).(*kmspb.PublicKey)
	}})
	r.open(other)
	public := func(change func(*kmspb.PublicKey)) func(proto.Message) {
		return func(m proto.Message) { change(m.(*kmspb.PublicKey)) }
	}
	for name, test := range map[string]struct {
		p       Params
		op      string
		corrupt func(proto.Message)
	}{
		"the name of another key": {ec, "GetPublicKey", public(func(k *kmspb.PublicKey) { k.Name = otherKey.Name })},
		"no name":                 {ec, "GetPublicKey", public(func(k *kmspb.PublicKey) { k.Name = "" })},
		"another project":         {ec, "GetPublicKey", public(func(k *kmspb.PublicKey) { k.Name = "projects/p-2" + k.Name[len("projects/p-1"):] })},
		"a changed key":           {ec, "GetPublicKey", public(func(k *kmspb.PublicKey) { k.Pem = strings.ToLower(k.Pem) })},
		"another checksum":        {ec, "GetPublicKey", public(func(k *kmspb.PublicKey) { k.PemCrc32C.Value++ })},
		"no checksum":             {ec, "GetPublicKey", public(func(k *kmspb.PublicKey) { k.PemCrc32C = nil })},
		"no key":                  {ec, "GetPublicKey", public(func(k *kmspb.PublicKey) { k.Pem, k.PemCrc32C = "", sum(nil) })},
		"a key of another curve":  {ec, "GetPublicKey", public(func(k *kmspb.PublicKey) { k.Pem, k.PemCrc32C = otherKey.Pem, otherKey.PemCrc32C })},
		"something else after it": {ec, "GetPublicKey", public(func(k *kmspb.PublicKey) { k.Pem += "x"; k.PemCrc32C = sum([]byte(k.Pem)) })},
		"a private key": {ec, "GetPublicKey", public(func(k *kmspb.PublicKey) {
			k.Pem = "-----BEGIN PRIVATE KEY-----\nMAA=\n-----END PRIVATE KEY-----\n"
			k.PemCrc32C = sum([]byte(k.Pem))
		})},
		"a changed post-quantum key": {pq, "GetPublicKey", public(func(k *kmspb.PublicKey) { k.PublicKey.Data[7] ^= 1 })},
		"no post-quantum checksum":   {pq, "GetPublicKey", public(func(k *kmspb.PublicKey) { k.PublicKey.Crc32CChecksum = nil })},
		"a short post-quantum key": {pq, "GetPublicKey", public(func(k *kmspb.PublicKey) {
			k.PublicKey.Data = k.PublicKey.Data[1:]
			k.PublicKey.Crc32CChecksum = sum(k.PublicKey.Data)
		})},
		"another format":              {pq, "GetPublicKey", public(func(k *kmspb.PublicKey) { k.PublicKeyFormat = kmspb.PublicKey_DER })},
		"the name of another version": {mac, "GetCryptoKeyVersion", func(m proto.Message) { m.(*kmspb.CryptoKeyVersion).Name += "2" }},
	} {
		t.Run(name, func(t *testing.T) {
			t.Cleanup(r.server.Script.Clear)
			r.server.Script.Add(fakecloud.Fault{Op: test.op, Corrupt: test.corrupt})
			key, err := r.b.Open(t.Context(), test.p)
			assert.ErrorIs(t, err, backend.ErrIntegrity)
			assert.Nil(t, key)
			assert.Zero(t, r.server.Script.Left())
		})
	}
}

// A signature that is not the key's own does not leave, even if its checksum is right, unless that was switched off.
func TestWrongSignature(t *testing.T) {
	r := newRig(t, nil, nil)
	p := r.add("ec", p256, Software)
	wrong := func(m proto.Message) {
		resp := m.(*kmspb.AsymmetricSignResponse)
		resp.Signature[len(resp.Signature)-1] ^= 1
		resp.SignatureCrc32C = sum(resp.Signature)
	}
	r.server.Script.Add(fakecloud.Fault{Op: "AsymmetricSign", Corrupt: wrong})
	sig, err := signError(t.Context(), r.open(p))
	assert.ErrorIs(t, err, backend.ErrKeyChanged)
	assert.Nil(t, sig)

	trusting := r.client(&Options{Remote: remote.Options{TrustSignatures: true}})
	key, err := trusting.Open(t.Context(), p)
	require.NoError(t, err)
	r.server.Script.Add(fakecloud.Fault{Op: "AsymmetricSign", Corrupt: wrong})
	sig, err = signError(t.Context(), key)
	assert.NoError(t, err)
	assert.NotNil(t, sig)
}
