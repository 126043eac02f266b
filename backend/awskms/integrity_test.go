package awskms

import (
	"crypto"
	"crypto/ecdh"
	"crypto/mlkem"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/asn1"
	"math/big"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/managedkeys/managedkeys/backend"
	"github.com/managedkeys/managedkeys/backend/remote"
	"github.com/managedkeys/managedkeys/internal/fakeaws"
	"github.com/managedkeys/managedkeys/internal/fakecloud"
)

// corruption is something that is wrong with an answer.
type corruption struct {
	op, what string
	change   func(answer map[string]any)
}

func set(member string, value any) func(map[string]any) {
	return func(answer map[string]any) { answer[member] = value }
}

func without(member string) func(map[string]any) {
	return func(answer map[string]any) { delete(answer, member) }
}

// shorter takes the last byte of a member away.
func shorter(member string) func(map[string]any) {
	return func(answer map[string]any) {
		b := answer[member].([]byte)
		answer[member] = b[:len(b)-1]
	}
}

func longer(member string) func(map[string]any) {
	return func(answer map[string]any) {
		answer[member] = append(answer[member].([]byte)[:len(answer[member].([]byte)):len(answer[member].([]byte))], 0)
	}
}

// TestCorruptedAnswers: an answer of which a single field is wrong is never used, whatever the operation. A signature that
// was damaged beyond that is noticed because it doesn't verify (TestDamagedSignature).
func TestCorruptedAnswers(t *testing.T) {
	srv := serve(t, nil)
	b := connect(t, &Options{Remote: remote.Options{MaxAttempts: 1}})
	key := func(spec, usage string) Params {
		return at(srv, Params{KMSKey: add(t, srv, fakeaws.Key{Spec: spec, Usage: usage})})
	}
	other := add(t, srv, fakeaws.Key{Spec: "HMAC_256"})
	p256 := open[backend.MessageSigner](t, b, key("ECC_NIST_P256", signVerify))
	ed := open[backend.MessageSigner](t, b, key("ECC_NIST_EDWARDS25519", signVerify))
	mldsa := open[backend.MessageSigner](t, b, key("ML_DSA_44", signVerify))
	rsaKey := open[backend.MessageSigner](t, b, key("RSA_2048", signVerify))
	aes := open[backend.AEAD](t, b, key("SYMMETRIC_DEFAULT", encrypts))
	oaep := open[backend.Decrypter](t, b, key("RSA_2048", encrypts))
	hmac := open[backend.MAC](t, b, key("HMAC_256", macs))
	agrees := open[backend.KeyAgreer](t, b, key("ECC_NIST_P256", agreement))
	kem := open[backend.Decapsulator](t, b, key("ML_KEM_768", encapsulates))
	sealed, err := aes.Seal(t.Context(), []byte("plaintext"), nil)
	require.NoError(t, err)
	ciphertext, err := rsa.EncryptOAEP(sha256.New(), rand.Reader, oaep.Public().(*rsa.PublicKey), []byte("plaintext"), nil)
	require.NoError(t, err)
	peer, err := ecdh.P256().GenerateKey(rand.Reader)
	require.NoError(t, err)
	_, capsule := kem.Public().(*mlkem.EncapsulationKey768).Encapsulate()

	ctx := t.Context()
	for _, test := range []struct {
		name        string
		do          func() ([]byte, error)
		corruptions []corruption
	}{
		{"P-256", func() ([]byte, error) { return signOnce(ctx, p256) }, []corruption{
			{"Sign", "key", set("KeyId", other)}, {"Sign", "no key", without("KeyId")}, {"Sign", "algorithm", set("SigningAlgorithm", "ECDSA_SHA_384")},
			{"Sign", "no signature", without("Signature")}, {"Sign", "short", shorter("Signature")}, {"Sign", "long", longer("Signature")},
			{"Sign", "zero", set("Signature", must(asn1.Marshal(struct{ R, S *big.Int }{big.NewInt(0), big.NewInt(1)})))},
			{"Sign", "raw", set("Signature", make([]byte, 64))}}},
		{"Ed25519", func() ([]byte, error) { return ed.SignContext(ctx, []byte("m"), crypto.Hash(0)) }, []corruption{
			{"Sign", "key", set("KeyId", other)}, {"Sign", "algorithm", set("SigningAlgorithm", "ED25519_PH_SHA_512")}, {"Sign", "short", shorter("Signature")}}},
		{"ML-DSA", func() ([]byte, error) { return mldsa.SignContext(ctx, []byte("m"), crypto.Hash(0)) }, []corruption{
			{"Sign", "key", set("KeyId", other)}, {"Sign", "short", shorter("Signature")}, {"Sign", "long", longer("Signature")}}},
		{"RSA", func() ([]byte, error) { return signOnce(ctx, rsaKey) }, []corruption{
			{"Sign", "key", set("KeyId", other)}, {"Sign", "short", shorter("Signature")}, {"Sign", "algorithm", set("SigningAlgorithm", "RSASSA_PSS_SHA_256")}}},
		{"seal", func() ([]byte, error) { return aes.Seal(ctx, []byte("plaintext"), nil) }, []corruption{
			{"Encrypt", "key", set("KeyId", other)}, {"Encrypt", "nothing", without("CiphertextBlob")}, {"Encrypt", "the plaintext", set("CiphertextBlob", []byte("plaintext"))},
			{"Encrypt", "algorithm", set("EncryptionAlgorithm", "RSAES_OAEP_SHA_1")}}},
		{"open", func() ([]byte, error) { return aes.Open(ctx, sealed, nil) }, []corruption{
			{"Decrypt", "key", set("KeyId", other)}, {"Decrypt", "nothing", without("Plaintext")}, {"Decrypt", "too much", set("Plaintext", make([]byte, 5000))},
			{"Decrypt", "algorithm", set("EncryptionAlgorithm", "RSAES_OAEP_SHA_1")}}},
		{"decrypt", func() ([]byte, error) {
			return oaep.DecryptContext(ctx, ciphertext, &rsa.OAEPOptions{Hash: crypto.SHA256})
		}, []corruption{
			{"Decrypt", "key", set("KeyId", other)}, {"Decrypt", "too much", set("Plaintext", make([]byte, 191))}, {"Decrypt", "algorithm", set("EncryptionAlgorithm", "RSAES_OAEP_SHA_1")}}},
		{"MAC", func() ([]byte, error) { return hmac.ComputeMAC(ctx, backend.HMACSHA256, []byte("m")) }, []corruption{
			{"GenerateMac", "key", set("KeyId", p256.ID())}, {"GenerateMac", "short", shorter("Mac")}, {"GenerateMac", "algorithm", set("MacAlgorithm", "HMAC_SHA_512")}}},
		{"agree", func() ([]byte, error) { return agrees.ECDHContext(ctx, peer.PublicKey()) }, []corruption{
			{"DeriveSharedSecret", "key", set("KeyId", other)}, {"DeriveSharedSecret", "short", shorter("SharedSecret")}, {"DeriveSharedSecret", "algorithm", without("KeyAgreementAlgorithm")}}},
		{"decapsulate", func() ([]byte, error) { return kem.DecapsulateContext(ctx, capsule) }, []corruption{
			{"Decapsulate", "key", set("KeyId", other)}, {"Decapsulate", "short", shorter("SharedSecret")}, {"Decapsulate", "algorithm", without("EncapsulationAlgorithm")}}},
		{"random", func() ([]byte, error) { return p256.(backend.Random).GenerateRandom(ctx, 16) }, []corruption{
			{"GenerateRandom", "short", shorter("Plaintext")}, {"GenerateRandom", "long", longer("Plaintext")}, {"GenerateRandom", "nothing", without("Plaintext")}}},
	} {
		for _, c := range test.corruptions {
			srv.Script.Add(fakecloud.Fault{Op: c.op, Corrupt: c.change})
			out, err := test.do()
			assert.ErrorIs(t, err, backend.ErrIntegrity, "%s: %s", test.name, c.what)
			assert.Nil(t, out, "%s: %s", test.name, c.what)
			requests := srv.Log.Requests(c.op)
			assert.ErrorContains(t, err, requests[len(requests)-1].ID)
			_, err = test.do()
			require.NoError(t, err, "%s after %s", test.name, c.what)
		}
	}
	require.Zero(t, srv.Script.Left())
}

// TestDamagedOnce: damage that doesn't come again is not seen by the caller.
func TestDamagedOnce(t *testing.T) {
	srv, b, key := signerOf(t, nil)
	srv.Script.Add(fakecloud.Fault{Op: "Sign", Corrupt: set("KeyId", "arn:aws:kms:eu-central-1:111122223333:key/"+testID)})
	_, err := signOnce(t.Context(), key)
	require.NoError(t, err)
	assert.Equal(t, int64(1), b.Retries())
}

// TestDamagedSignature: a signature that has the right form and is not one of the key never leaves, unless the program said
// that it trusts the service.
func TestDamagedSignature(t *testing.T) {
	forged := func(answer map[string]any) {
		answer["Signature"] = must(asn1.Marshal(struct{ R, S *big.Int }{big.NewInt(1), big.NewInt(1)}))
	}
	for _, trust := range []bool{false, true} {
		srv, _, key := signerOf(t, &Options{Remote: remote.Options{TrustSignatures: trust}})
		srv.Script.Add(fakecloud.Fault{Op: "Sign", Corrupt: forged})
		signature, err := signOnce(t.Context(), key)
		if trust {
			assert.NoError(t, err)
			continue
		}
		assert.ErrorIs(t, err, backend.ErrKeyChanged)
		assert.Nil(t, signature)
	}
}

// TestCorruptedDescription: nothing is opened by a description or a public key of another key.
func TestCorruptedDescription(t *testing.T) {
	srv := serve(t, nil)
	b := connect(t, &Options{Remote: remote.Options{MaxAttempts: 1}})
	arn := add(t, srv, fakeaws.Key{Spec: "ECC_NIST_P256", Usage: signVerify, Alias: "alias/p256"})
	other := add(t, srv, fakeaws.Key{Spec: "RSA_2048", Usage: signVerify})
	der, err := backend.SubjectPublicKeyInfo(open[backend.Signer](t, b, at(srv, Params{KMSKey: other})).Public())
	require.NoError(t, err)
	metadata := func(member string, value any) func(map[string]any) {
		return func(answer map[string]any) { answer["KeyMetadata"].(map[string]any)[member] = value }
	}
	for _, c := range []corruption{
		{"DescribeKey", "nothing", without("KeyMetadata")},
		{"DescribeKey", "another key", metadata("Arn", other)},
		{"DescribeKey", "another Region", metadata("Arn", strings.Replace(arn, "eu-central-1", "us-west-2", 1))},
		{"DescribeKey", "no ARN", metadata("Arn", testID)},
		{"DescribeKey", "an alias", metadata("Arn", "arn:aws:kms:eu-central-1:111122223333:alias/p256")},
		{"GetPublicKey", "another key", set("KeyId", other)},
		{"GetPublicKey", "another spec", set("KeySpec", "ECC_NIST_P384")},
		{"GetPublicKey", "another usage", set("KeyUsage", "KEY_AGREEMENT")},
		{"GetPublicKey", "another kind of public key", set("PublicKey", der)},
		{"GetPublicKey", "no public key", without("PublicKey")},
		{"GetPublicKey", "a short public key", shorter("PublicKey")},
	} {
		srv.Script.Add(fakecloud.Fault{Op: c.op, Corrupt: c.change})
		key, err := b.Open(t.Context(), at(srv, Params{KMSKey: arn}))
		assert.ErrorIs(t, err, backend.ErrIntegrity, c.what)
		assert.Nil(t, key)
	}
	require.Zero(t, srv.Script.Left())
}
