package transitmatrix

import (
	"bytes"
	"context"
	"crypto"
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"crypto/rsa"
	"encoding/base64"
	"io"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"github.com/tink-crypto/tink-go/v2/streamingaead/subtle"
	"golang.org/x/crypto/chacha20poly1305"

	"github.com/managedkeys/managedkeys/transit"
)

var encryption = []dimension{
	{"size", []string{"0", "32", "5000", "70000"}}, {"padding", []string{"", "oaep", "pkcs1v15"}}, {"associated", []string{"", "row 17"}},
}

// aead returns the cipher of a key whose secret is known.
func (k *key) aead() (cipher.AEAD, error) {
	switch {
	case strings.HasPrefix(k.name, "xchacha20"):
		return chacha20poly1305.NewX(k.secret)
	case k.row == "ChaCha20":
		return chacha20poly1305.New(k.secret)
	}
	block, err := aes.NewCipher(k.secret)
	if err != nil {
		return nil, err
	}
	return cipher.NewGCM(block)
}

// oaepHash returns the hash that OAEP has with k.
func (k *key) oaepHash() crypto.Hash {
	if k.oaep != 0 {
		return k.oaep
	}
	return crypto.SHA256
}

// knows tells whether ciphertexts of k can be made and read without the engine.
func (k *key) knows() bool {
	_, isRSA := k.private.(*rsa.PrivateKey)
	return isRSA || k.secret != nil || k.seal != nil
}

// sealable tells whether ciphertexts of k can be made without the engine.
func (k *key) sealable() bool {
	_, isRSA := k.public.(*rsa.PublicKey)
	return isRSA || k.seal != nil || k.secret != nil && k.row != "HMAC"
}

// opens decrypts without the engine.
func (k *key) opens(ctx context.Context, ciphertext, associated []byte, padding string) ([]byte, error) {
	if k.open != nil {
		return k.open(ctx, ciphertext, associated)
	}
	if private, ok := k.private.(*rsa.PrivateKey); ok {
		if padding == "pkcs1v15" {
			//lint:ignore SA1019 it is what is to be checked
			return rsa.DecryptPKCS1v15(nil, private, ciphertext)
		}
		return rsa.DecryptOAEP(k.oaepHash().New(), nil, private, ciphertext, nil)
	}
	aead, err := k.aead()
	if err != nil {
		return nil, err
	}
	return aead.Open(nil, ciphertext[:aead.NonceSize()], ciphertext[aead.NonceSize():], associated)
}

// seals encrypts without the engine.
func (k *key) seals(ctx context.Context, plaintext, associated []byte, padding string) ([]byte, error) {
	if k.seal != nil {
		return k.seal(ctx, plaintext, associated)
	}
	if public, ok := k.public.(*rsa.PublicKey); ok {
		if padding == "pkcs1v15" {
			//lint:ignore SA1019 it is what is to be checked
			return rsa.EncryptPKCS1v15(rand.Reader, public, plaintext)
		}
		return rsa.EncryptOAEP(k.oaepHash().New(), rand.Reader, public, plaintext, nil)
	}
	aead, err := k.aead()
	if err != nil {
		return nil, err
	}
	nonce := make([]byte, aead.NonceSize())
	rand.Read(nonce)
	return aead.Seal(nonce, nonce, plaintext, associated), nil
}

// unwrapped takes data out of its envelope.
func unwrapped(t *testing.T, text string) []byte {
	t.Helper()
	encoded, ok := strings.CutPrefix(text, "vault:v1:")
	require.True(t, ok, "%.40s", text)
	raw, err := base64.StdEncoding.Strict().DecodeString(encoded)
	require.NoError(t, err)
	return raw
}

func envelope(raw []byte) string { return "vault:v1:" + base64.StdEncoding.EncodeToString(raw) }

// agrees checks that a ciphertext of the engine is one of data.
func (k *key) agrees(t *testing.T, c combination, ciphertext string, data, associated []byte, padding string) {
	t.Helper()
	if !k.knows() {
		return
	}
	got, err := k.opens(t.Context(), unwrapped(t, ciphertext), associated, padding)
	assert.NoError(t, err, "%s: without the engine", c)
	assert.True(t, bytes.Equal(data, got), "%s: without the engine", c)
}

func plaintext(c combination) []byte {
	n, err := strconv.Atoi(c.get("size"))
	if err != nil {
		panic(err)
	}
	return bytes.Repeat([]byte{'x'}, n)
}

// doEncrypt encrypts, with no call if there is a public key, and reads it without the engine and with it.
func doEncrypt(t *testing.T, p *place, k *key, c combination) error {
	data, associated := plaintext(c), []byte(c.get("associated"))
	text, err := p.engine.Encrypt(t.Context(), k.name, transit.EncryptRequest{Plaintext: data, AssociatedData: associated, Context: k.context, PaddingScheme: c.get("padding")})
	if err != nil {
		return err
	}
	p.made(t, k.local())
	k.agrees(t, c, text, data, associated, c.get("padding"))
	if c.get("padding") != "" {
		return nil
	}
	got, err := p.engine.Decrypt(t.Context(), k.name, transit.DecryptRequest{Ciphertext: text, AssociatedData: associated, Context: k.context})
	assert.NoError(t, err, "%s: decrypt", c)
	assert.True(t, bytes.Equal(data, got), "%s: decrypt", c)
	return nil
}

// doDecrypt decrypts with one call what was encrypted without the engine, or by it if nobody else can; and nothing else.
func doDecrypt(t *testing.T, p *place, k *key, c combination) error {
	data, associated := plaintext(c), []byte(c.get("associated"))
	r := transit.DecryptRequest{Ciphertext: envelope(make([]byte, 256)), AssociatedData: associated, Context: k.context, PaddingScheme: c.get("padding")}
	if k.sealable() {
		raw, err := k.seals(t.Context(), data, associated, c.get("padding"))
		require.NoError(t, err, "%s", c)
		r.Ciphertext = envelope(raw)
	}
	p.begin()
	got, err := p.engine.Decrypt(t.Context(), k.name, r)
	if err != nil {
		return err
	}
	if !(k.row == "RSA" && r.PaddingScheme == "pkcs1v15") { // which takes two calls more once, for its implicit rejection
		p.made(t, 1)
	}
	assert.True(t, bytes.Equal(data, got), "%s", c)
	raw := unwrapped(t, r.Ciphertext)
	raw[len(raw)-1] ^= 1
	r.Ciphertext = envelope(raw)
	got, err = p.engine.Decrypt(t.Context(), k.name, r)
	assert.False(t, err == nil && bytes.Equal(data, got), "%s: a changed one", c)
	return nil
}

// doRewrap has a ciphertext that was made without the engine encrypted again.
func doRewrap(t *testing.T, p *place, k *key, c combination) error {
	data, associated := []byte("a secret"), []byte(c.get("associated"))
	text := envelope(make([]byte, 256))
	if k.sealable() {
		raw, err := k.seals(t.Context(), data, associated, "")
		require.NoError(t, err)
		text = envelope(raw)
	}
	p.begin()
	again, err := p.engine.Rewrap(t.Context(), k.name, transit.RewrapRequest{Ciphertext: text, AssociatedData: associated, Context: k.context})
	if err != nil {
		return err
	}
	p.made(t, 1+k.local())
	k.agrees(t, c, again, data, associated, "")
	return nil
}

func doDataKey(t *testing.T, p *place, k *key, c combination) error {
	bits, err := strconv.Atoi(c.get("bits"))
	require.NoError(t, err)
	associated := []byte(c.get("associated"))
	made, err := p.engine.NewDataKey(t.Context(), k.name, transit.DataKeyRequest{Bits: bits, AssociatedData: associated, Context: k.context})
	if err != nil {
		return err
	}
	p.made(t, k.local())
	assert.Len(t, made.Plaintext, bits/8)
	k.agrees(t, c, made.Ciphertext, made.Plaintext, associated, "")
	return nil
}

// doStream encrypts a stream with one call or none, has Tink read it, and rewraps and reads it.
func doStream(t *testing.T, p *place, k *key, c combination) error {
	data := bytes.Repeat([]byte("data"), 5000)
	opts := transit.StreamOptions{SegmentSize: 4096, AssociatedData: []byte(c.get("associated")), Context: k.context}
	if c.get("format") == "tink" {
		opts.Format = transit.StreamAESGCMHKDF
	}
	var stream bytes.Buffer
	w, err := p.engine.NewEncryptingWriter(t.Context(), k.name, &stream, opts)
	if err != nil {
		return err
	}
	_, err = w.Write(data)
	require.NoError(t, err)
	require.NoError(t, w.Close())
	p.made(t, k.local())
	if k.knows() {
		// "MKST", version, format, size of a segment (4), length of the wrapped key (2), wrapped key.
		head := 12 + int(stream.Bytes()[10])<<8 + int(stream.Bytes()[11])
		dataKey, err := k.opens(t.Context(), unwrapped(t, string(stream.Bytes()[12:head])), nil, "")
		require.NoError(t, err)
		tink, err := subtle.NewAESGCMHKDF(dataKey, "SHA256", 32, 4096, 0)
		require.NoError(t, err)
		r, err := tink.NewDecryptingReader(bytes.NewReader(stream.Bytes()[head:]), append(bytes.Clone(stream.Bytes()[:10]), opts.AssociatedData...))
		require.NoError(t, err)
		got, err := io.ReadAll(r)
		assert.NoError(t, err, "%s: Tink", c)
		assert.True(t, bytes.Equal(data, got), "%s: Tink", c)
	}
	var again bytes.Buffer
	p.begin()
	require.NoError(t, p.engine.RewrapStream(t.Context(), k.name, &again, &stream, opts))
	p.made(t, 1+k.local())
	p.begin()
	r, err := p.engine.NewDecryptingReader(t.Context(), k.name, &again, opts)
	require.NoError(t, err)
	got, err := io.ReadAll(r)
	assert.NoError(t, err, "%s", c)
	assert.True(t, bytes.Equal(data, got), "%s", c)
	p.made(t, 1)
	return nil
}
