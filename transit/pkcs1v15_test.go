package transit

import (
	"bytes"
	"context"
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"math/big"
	"os"
	"testing"
	"time"

	"github.com/managedkeys/managedkeys/backend"
)

// TestImplicitRejection: right and wrong paddings have the very plaintexts that OpenSSL gives them, so that whoever moves a key
// from one to the other sees no difference, and nobody sees which ones were right.
func TestImplicitRejection(t *testing.T) {
	data, err := os.ReadFile("testdata/pkcs1v15.json")
	if err != nil {
		t.Fatal(err)
	}
	var vectors struct {
		Key   []byte
		Cases []struct {
			Name                  string
			Ciphertext, Plaintext []byte
		}
	}
	if err := json.Unmarshal(data, &vectors); err != nil || len(vectors.Cases) < 10 {
		t.Fatalf("%d cases, %v", len(vectors.Cases), err)
	}
	private, err := x509.ParsePKCS8PrivateKey(vectors.Key)
	if err != nil {
		t.Fatal(err)
	}
	h := newSoftHouse(t)
	h.engine.opts.AllowPKCS1v15 = true
	if err := h.engine.ImportKey(t.Context(), "k", Import{Ciphertext: wrapped(t, h.engine, crypto.SHA256, private)}, KeyOptions{Type: TypeRSA2048}, false); err != nil {
		t.Fatal(err)
	}
	for _, c := range vectors.Cases {
		got, err := h.engine.Decrypt(t.Context(), "k", DecryptRequest{Ciphertext: format(1, c.Ciphertext, base64.StdEncoding), PaddingScheme: PaddingPKCS1v15})
		if err != nil || !bytes.Equal(got, c.Plaintext) {
			t.Errorf("%s: got %x, %v; want %x", c.Name, got, err, c.Plaintext)
		}
	}
}

// TestPKCS1v15: off unless asked for, and for RSA only; what it encrypts the standard library decrypts, and the reverse.
func TestPKCS1v15(t *testing.T) {
	h := newSoftHouse(t)
	e, ctx := h.engine, t.Context()
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	if err := e.ImportKey(ctx, "k", Import{Ciphertext: wrapped(t, e, crypto.SHA256, key)}, KeyOptions{Type: TypeRSA2048}, false); err != nil {
		t.Fatal(err)
	}
	h.create(t, "aes", KeyOptions{Type: TypeAES256})
	h.create(t, "derived", KeyOptions{Type: TypeAES256, Derived: true})
	secret := []byte("secret")
	sealed, err := e.Encrypt(ctx, "k", EncryptRequest{Plaintext: secret, PaddingScheme: PaddingPKCS1v15})
	if err != nil {
		t.Fatal(err)
	}
	_, encoded, _ := parse("ciphertext", sealed)
	raw, _ := decode(encoded, base64.StdEncoding)
	//lint:ignore SA1019 it is what is under test
	if got, err := rsa.DecryptPKCS1v15(nil, key, raw); err != nil || !bytes.Equal(got, secret) {
		t.Errorf("the standard library: got %q, %v", got, err)
	}
	request := DecryptRequest{Ciphertext: sealed, PaddingScheme: PaddingPKCS1v15}
	_, err = e.Decrypt(ctx, "k", request)
	wantError(t, err, backend.ErrUnsupported, "AllowPKCS1v15")
	e.opts.AllowPKCS1v15 = true
	if got, err := e.Decrypt(ctx, "k", request); err != nil || !bytes.Equal(got, secret) {
		t.Errorf("got %q, %v", got, err)
	}

	again, err := e.Rewrap(ctx, "k", RewrapRequest{Ciphertext: sealed, DecryptPaddingScheme: PaddingPKCS1v15})
	if err != nil {
		t.Fatal(err)
	}
	if got, err := e.Decrypt(ctx, "k", DecryptRequest{Ciphertext: again, PaddingScheme: PaddingOAEP}); err != nil || !bytes.Equal(got, secret) {
		t.Errorf("rewrapped to OAEP: got %q, %v", got, err)
	}
	data, err := e.NewDataKey(ctx, "k", DataKeyRequest{PaddingScheme: PaddingPKCS1v15})
	if err != nil {
		t.Fatal(err)
	}
	if got, err := e.Decrypt(ctx, "k", DecryptRequest{Ciphertext: data.Ciphertext, PaddingScheme: PaddingPKCS1v15}); err != nil || !bytes.Equal(got, data.Plaintext) {
		t.Errorf("data key: got %x, %v", got, err)
	}

	for name, c := range map[string]struct {
		key      string
		r        EncryptRequest
		sentinel error
		text     string
	}{
		"other":      {"k", EncryptRequest{PaddingScheme: "none"}, backend.ErrInvalidParams, `padding_scheme "none"; it takes oaep and pkcs1v15`},
		"AES":        {"aes", EncryptRequest{PaddingScheme: PaddingPKCS1v15}, backend.ErrInvalidParams, "it is for RSA keys"},
		"AES, OAEP":  {"aes", EncryptRequest{PaddingScheme: PaddingOAEP}, backend.ErrInvalidParams, "it is for RSA keys"},
		"derived":    {"derived", EncryptRequest{PaddingScheme: PaddingOAEP, Context: secret}, backend.ErrInvalidParams, "it is for RSA keys"},
		"other AES":  {"derived", EncryptRequest{PaddingScheme: "none", Context: secret}, backend.ErrInvalidParams, `padding_scheme "none"`},
		"associated": {"k", EncryptRequest{PaddingScheme: PaddingPKCS1v15, AssociatedData: secret}, backend.ErrInvalidParams, "non-AEAD"},
		"too long":   {"k", EncryptRequest{PaddingScheme: PaddingPKCS1v15, Plaintext: make([]byte, 246)}, backend.ErrInvalidParams, "at most 245"},
	} {
		_, err := e.Encrypt(ctx, c.key, c.r)
		t.Log(name)
		wantError(t, err, c.sentinel, c.text)
	}
	for name, raw := range map[string][]byte{"short": raw[1:], "long": append([]byte{0}, raw...), "modulus": key.N.Bytes()} {
		_, err := e.Decrypt(ctx, "k", DecryptRequest{Ciphertext: format(1, raw, base64.StdEncoding), PaddingScheme: PaddingPKCS1v15})
		t.Log(name)
		wantError(t, err, backend.ErrDecryption)
	}
}

// BenchmarkPKCS1v15 measures how long right and wrong paddings take. It is a measurement to look at: machines are too noisy for more.
func BenchmarkPKCS1v15(b *testing.B) {
	h := newSoftHouse(b)
	e := h.engine
	e.opts.AllowPKCS1v15 = true
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		b.Fatal(err)
	}
	if err := e.ImportKey(b.Context(), "k", Import{Ciphertext: wrapped(b, e, crypto.SHA256, key)}, KeyOptions{Type: TypeRSA2048}, false); err != nil {
		b.Fatal(err)
	}
	encrypt := func(em []byte) string {
		c := new(big.Int).Exp(new(big.Int).SetBytes(em), big.NewInt(int64(key.E)), key.N)
		return format(1, c.FillBytes(make([]byte, 256)), base64.StdEncoding)
	}
	right := append([]byte{0, 2}, bytes.Repeat([]byte{7}, 254)...)
	right[200] = 0
	wrong := bytes.Clone(right)
	wrong[1] = 1
	early := bytes.Clone(right)
	early[5] = 0
	texts := []string{encrypt(right), encrypt(wrong), encrypt(early)}
	times := make([]time.Duration, len(texts)) // in turns, so that what else the machine does hits all alike
	for b.Loop() {
		for i, text := range texts {
			begin := time.Now()
			if _, err := e.Decrypt(context.Background(), "k", DecryptRequest{Ciphertext: text, PaddingScheme: PaddingPKCS1v15}); err != nil {
				b.Fatal(err)
			}
			times[i] += time.Since(begin)
		}
	}
	for i, name := range []string{"ns/right", "ns/type1", "ns/early-zero"} {
		b.ReportMetric(float64(times[i].Nanoseconds())/float64(b.N), name)
	}
}
