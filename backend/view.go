package backend

import (
	"context"
	"crypto"
	"crypto/ecdh"
	"io"
)

// WithContext returns a view of key for APIs that take a crypto.Signer, crypto.Decrypter, ecdh.KeyExchanger or
// crypto.Decapsulator and no context: its Sign, SignMessage, Decrypt, ECDH and Decapsulate are bounded by ctx. The view is
// a crypto.Signer, crypto.MessageSigner, crypto.Decrypter, ecdh.KeyExchanger and crypto.Decapsulator exactly where key is
// a [Signer], [MessageSigner], [Decrypter], [KeyAgreer] and [Decapsulator]; but a key that both decrypts and agrees, or
// decapsulates and does anything else, of which there is no kind, has a view that does the first of these only. The operations
// that take a context are those of key itself and not of the view. When ctx ends, the view fails and key and its other
// views go on.
func WithContext(ctx context.Context, key Key) Key {
	signer, _ := key.(Signer)
	messages, _ := key.(MessageSigner)
	decrypter, _ := key.(Decrypter)
	agreer, _ := key.(KeyAgreer)
	decapsulator, _ := key.(Decapsulator)
	s, m, d, a := signView{ctx, signer}, messageView{ctx, messages}, decryptView{ctx, decrypter}, agreeView{ctx, agreer}
	switch {
	case messages != nil && decrypter != nil:
		return struct {
			Key
			signView
			messageView
			decryptView
		}{key, s, m, d}
	case signer != nil && decrypter != nil:
		return struct {
			Key
			signView
			decryptView
		}{key, s, d}
	case decrypter != nil:
		return struct {
			Key
			decryptView
		}{key, d}
	case messages != nil && agreer != nil:
		return struct {
			Key
			signView
			messageView
			agreeView
		}{key, s, m, a}
	case signer != nil && agreer != nil:
		return struct {
			Key
			signView
			agreeView
		}{key, s, a}
	case agreer != nil:
		return struct {
			Key
			agreeView
		}{key, a}
	case messages != nil:
		return struct {
			Key
			signView
			messageView
		}{key, s, m}
	case signer != nil:
		return struct {
			Key
			signView
		}{key, s}
	case decapsulator != nil:
		return struct {
			Key
			decapsulateView
		}{key, decapsulateView{ctx, decapsulator}}
	}
	return key
}

type signView struct {
	ctx context.Context
	s   Signer
}

func (v signView) Sign(_ io.Reader, digest []byte, opts crypto.SignerOpts) ([]byte, error) {
	return v.s.SignContext(v.ctx, digest, opts)
}

type messageView struct {
	ctx context.Context
	m   MessageSigner
}

func (v messageView) SignMessage(_ io.Reader, message []byte, opts crypto.SignerOpts) ([]byte, error) {
	return v.m.SignMessageContext(v.ctx, message, opts)
}

type decryptView struct {
	ctx context.Context
	d   Decrypter
}

func (v decryptView) Decrypt(_ io.Reader, ciphertext []byte, opts crypto.DecrypterOpts) ([]byte, error) {
	return v.d.DecryptContext(v.ctx, ciphertext, opts)
}

type agreeView struct {
	ctx context.Context
	a   KeyAgreer
}

func (v agreeView) PublicKey() *ecdh.PublicKey { return v.a.PublicKey() }

func (v agreeView) Curve() ecdh.Curve { return v.a.Curve() }

func (v agreeView) ECDH(peer *ecdh.PublicKey) ([]byte, error) { return v.a.ECDHContext(v.ctx, peer) }

type decapsulateView struct {
	ctx context.Context
	d   Decapsulator
}

func (v decapsulateView) Encapsulator() crypto.Encapsulator { return v.d.Encapsulator() }

func (v decapsulateView) Decapsulate(ciphertext []byte) ([]byte, error) {
	return v.d.DecapsulateContext(v.ctx, ciphertext)
}
