package transit

import (
	"bytes"
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"encoding/base64"
	"strings"
	"testing"

	"github.com/managedkeys/managedkeys/backend"
)

func TestEncryptDecrypt(t *testing.T) {
	h := newHouse(t, "rsa", "aes")
	for name, c := range map[string]struct {
		key             string
		plaintext, data []byte
		size            int // of the ciphertext
	}{
		"aes":            {"aes", []byte("secret"), nil, 12 + 6 + 16},
		"aes, empty":     {"aes", nil, nil, 12 + 16},
		"aes, with data": {"aes", []byte("secret"), []byte("header"), 12 + 6 + 16},
		"aes, 1 MiB":     {"aes", make([]byte, 1<<20), nil, 12 + 1<<20 + 16},
		"rsa":            {"rsa", []byte("secret"), nil, 256},
		"rsa, empty":     {"rsa", nil, nil, 256},
		"rsa, longest":   {"rsa", make([]byte, 190), nil, 256},
	} {
		t.Run(name, func(t *testing.T) {
			ciphertext, err := h.engine.Encrypt(t.Context(), c.key, EncryptRequest{Plaintext: c.plaintext, AssociatedData: c.data})
			if err != nil {
				t.Fatal(err)
			}
			encoded, ok := strings.CutPrefix(ciphertext, "vault:v1:")
			raw, err := base64.StdEncoding.DecodeString(encoded)
			if !ok || err != nil || len(raw) != c.size {
				t.Errorf("got %.20s of %d bytes, %v; want %d", ciphertext, len(raw), err, c.size)
			}
			plaintext, err := h.engine.Decrypt(t.Context(), c.key, DecryptRequest{Ciphertext: ciphertext, AssociatedData: c.data})
			if err != nil || !bytes.Equal(plaintext, c.plaintext) {
				t.Errorf("got %d bytes, %v", len(plaintext), err)
			}
		})
	}
}

// OAEP is what others make as well: SHA-256, MGF1 with SHA-256, no label.
func TestDecryptForeignOAEP(t *testing.T) {
	h := newHouse(t, "rsa")
	info, err := h.engine.Key("rsa")
	if err != nil {
		t.Fatal(err)
	}
	raw, err := rsa.EncryptOAEP(crypto.SHA256.New(), rand.Reader, info.Versions[0].PublicKey.(*rsa.PublicKey), []byte("secret"), nil)
	if err != nil {
		t.Fatal(err)
	}
	plaintext, err := h.engine.Decrypt(t.Context(), "rsa", DecryptRequest{Ciphertext: format(1, raw, base64.StdEncoding)})
	if err != nil || string(plaintext) != "secret" {
		t.Errorf("got %q, %v", plaintext, err)
	}
}

func TestOAEPHash(t *testing.T) {
	pub := &rsa.PublicKey{}
	for name, c := range map[string]struct {
		hashes []crypto.Hash
		want   crypto.Hash
	}{
		"SHA-256 although not first": {[]crypto.Hash{crypto.SHA512, crypto.SHA256}, crypto.SHA256},
		"the key's first":            {[]crypto.Hash{crypto.SHA1, crypto.SHA512}, crypto.SHA1},
	} {
		oaep, err := (&version{public: pub}).oaep(backend.Capabilities{OAEPHashes: c.hashes}, nil)
		if err != nil || oaep == nil || oaep.oaep.Hash != c.want {
			t.Errorf("%s: got %+v, %v", name, oaep, err)
		}
	}
}

func TestEncryptRefused(t *testing.T) {
	h := newHouse(t, "rsa", "p256", "ed25519", "aes", "hmac")
	for name, c := range map[string]struct {
		key      string
		request  EncryptRequest
		sentinel error
		text     string
	}{
		"ecdsa":         {"p256", EncryptRequest{}, backend.ErrUnsupported, "message encryption not supported for key type ecdsa-p256"},
		"ed25519":       {"ed25519", EncryptRequest{}, backend.ErrUnsupported, "message encryption not supported for key type ed25519"},
		"hmac":          {"hmac", EncryptRequest{}, backend.ErrUnsupported, "message encryption not supported for key type hmac"},
		"rsa with data": {"rsa", EncryptRequest{AssociatedData: []byte("x")}, backend.ErrInvalidParams, "associated_data provided for non-AEAD cipher suite rsa-2048"},
		"rsa too long":  {"rsa", EncryptRequest{Plaintext: make([]byte, 191)}, backend.ErrInvalidParams, "takes at most 190"},
		"too long":      {"aes", EncryptRequest{Plaintext: make([]byte, maxPlaintext+1)}, backend.ErrInvalidParams, "it takes at most"},
	} {
		t.Run(name, func(t *testing.T) {
			ciphertext, err := h.engine.Encrypt(t.Context(), c.key, c.request)
			wantError(t, err, c.sentinel, c.text)
			if ciphertext != "" {
				t.Errorf("got %.20s with the error", ciphertext)
			}
		})
	}
	_, err := h.engine.Decrypt(t.Context(), "p256", DecryptRequest{Ciphertext: "vault:v1:AAAA"})
	wantError(t, err, backend.ErrUnsupported, "message encryption not supported for key type ecdsa-p256")
	_, err = h.engine.Decrypt(t.Context(), "rsa", DecryptRequest{Ciphertext: "vault:v1:AAAA", AssociatedData: []byte("x")})
	wantError(t, err, backend.ErrInvalidParams, "non-AEAD")
}

// Every ciphertext that is well formed and can't be decrypted gives the same error, to the letter.
func TestDecryptionFailuresAreAlike(t *testing.T) {
	h := newHouse(t, "rsa", "aes")
	ctx := t.Context()
	aes, err := h.engine.Encrypt(ctx, "aes", EncryptRequest{Plaintext: []byte("secret"), AssociatedData: []byte("header")})
	if err != nil {
		t.Fatal(err)
	}
	raw, _ := base64.StdEncoding.DecodeString(strings.TrimPrefix(aes, "vault:v1:"))
	change := func(i int) string {
		other := bytes.Clone(raw)
		other[i] ^= 1
		return format(1, other, base64.StdEncoding)
	}
	info, err := h.engine.Key("rsa")
	if err != nil {
		t.Fatal(err)
	}
	pub := info.Versions[0].PublicKey.(*rsa.PublicKey)
	label, err := rsa.EncryptOAEP(crypto.SHA256.New(), rand.Reader, pub, []byte("secret"), []byte("label"))
	if err != nil {
		t.Fatal(err)
	}
	hash, err := rsa.EncryptOAEP(crypto.SHA1.New(), rand.Reader, pub, []byte("secret"), nil)
	if err != nil {
		t.Fatal(err)
	}
	texts := map[string]string{}
	for name, c := range map[string]struct{ key, ciphertext, data string }{
		"other data":    {"aes", aes, "Header"},
		"no data":       {"aes", aes, ""},
		"nonce":         {"aes", change(0), "header"},
		"text":          {"aes", change(13), "header"},
		"tag":           {"aes", change(len(raw) - 1), "header"},
		"short":         {"aes", "vault:v1:AAAA", "header"},
		"rsa, short":    {"rsa", "vault:v1:AAAA", ""},
		"rsa, zero":     {"rsa", format(1, make([]byte, 256), base64.StdEncoding), ""},
		"rsa, too big":  {"rsa", format(1, bytes.Repeat([]byte{0xff}, 256), base64.StdEncoding), ""},
		"rsa, label":    {"rsa", format(1, label, base64.StdEncoding), ""},
		"rsa, hash":     {"rsa", format(1, hash, base64.StdEncoding), ""},
		"rsa, too long": {"rsa", format(1, make([]byte, 257), base64.StdEncoding), ""},
	} {
		plaintext, err := h.engine.Decrypt(ctx, c.key, DecryptRequest{Ciphertext: c.ciphertext, AssociatedData: []byte(c.data)})
		wantError(t, err, backend.ErrDecryption)
		if plaintext != nil {
			t.Errorf("%s: got %d bytes with the error", name, len(plaintext))
		}
		texts[err.Error()] = name
	}
	if len(texts) != 1 {
		t.Errorf("got %d different errors: %v", len(texts), texts)
	}
}

func TestDecryptMalformed(t *testing.T) {
	h := newHouse(t, "aes")
	for ciphertext, text := range map[string]string{
		"":                     "invalid ciphertext: no prefix",
		"AAAA":                 "invalid ciphertext: no prefix",
		"vault:v1":             "invalid ciphertext: wrong number of fields",
		"vault:v0:AAAA":        "invalid ciphertext: version number could not be decoded",
		"vault:v2:AAAA":        "invalid ciphertext: version is too new",
		"vault:v1:":            "invalid ciphertext: could not decode base64",
		"vault:v1:AAAA\n":      "invalid ciphertext: could not decode base64",
		"vault:v1:not base 64": "invalid ciphertext: could not decode base64",
	} {
		_, err := h.engine.Decrypt(t.Context(), "aes", DecryptRequest{Ciphertext: ciphertext})
		wantError(t, err, backend.ErrInvalidParams, text)
	}
}
