package transit

import (
	"crypto"
	"crypto/aes"
	"crypto/cipher"
	"crypto/sha256"
	"testing"

	"github.com/managedkeys/managedkeys/backend"
)

// BenchmarkSign is a signature through the engine, and by the bare handle.
func BenchmarkSign(b *testing.B) {
	h := newHouse(b, "p256")
	input := make([]byte, 256)
	b.Run("transit", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if _, err := h.engine.Sign(b.Context(), "p256", SignRequest{Input: input}); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("handle", func(b *testing.B) {
		key, err := h.mount.Key(b.Context(), "p256")
		if err != nil {
			b.Fatal(err)
		}
		b.ReportAllocs()
		for b.Loop() {
			sum := sha256.Sum256(input)
			if _, err := key.SignContext(b.Context(), sum[:], crypto.SHA256); err != nil {
				b.Fatal(err)
			}
		}
	})
}

// BenchmarkEncrypt is AES-256-GCM of 1 KiB through the engine, by the bare handle, and by the bare cipher.
func BenchmarkEncrypt(b *testing.B) {
	h := newSoftHouse(b)
	h.create(b, "k", KeyOptions{Type: TypeAES256})
	plaintext := make([]byte, 1024)
	b.Run("transit", func(b *testing.B) {
		b.ReportAllocs()
		b.SetBytes(1024)
		for b.Loop() {
			if _, err := h.engine.Encrypt(b.Context(), "k", EncryptRequest{Plaintext: plaintext}); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("bytes", func(b *testing.B) {
		b.ReportAllocs()
		b.SetBytes(1024)
		for b.Loop() {
			if _, _, err := h.engine.EncryptBytes(b.Context(), "k", nil, EncryptRequest{Plaintext: plaintext}); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("handle", func(b *testing.B) {
		var key backend.AEAD = h.engine.known("k").version(1).soft.key.Load().key.(backend.AEAD)
		b.ReportAllocs()
		b.SetBytes(1024)
		for b.Loop() {
			if _, err := key.Seal(b.Context(), plaintext, nil); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("cipher", func(b *testing.B) {
		block, err := aes.NewCipher(make([]byte, 32))
		if err != nil {
			b.Fatal(err)
		}
		aead, err := cipher.NewGCMWithRandomNonce(block)
		if err != nil {
			b.Fatal(err)
		}
		b.ReportAllocs()
		b.SetBytes(1024)
		for b.Loop() {
			aead.Seal(nil, nil, plaintext, nil)
		}
	})
}
