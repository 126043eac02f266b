package backend

import (
	"context"
	"crypto"
	"io"
)

// WithContext returns a view of key for APIs that take a crypto.Signer or crypto.Decrypter and no context: its Sign,
// SignMessage and Decrypt are bounded by ctx. The view is a crypto.Signer, crypto.MessageSigner and crypto.Decrypter
// exactly where key is a [Signer], [MessageSigner] and [Decrypter]; the operations that take a context are those of key
// itself and not of the view. When ctx ends, the view fails and key and its other views go on.
func WithContext(ctx context.Context, key Key) Key {
	signer, _ := key.(Signer)
	messages, _ := key.(MessageSigner)
	decrypter, _ := key.(Decrypter)
	s, m, d := signView{ctx, signer}, messageView{ctx, messages}, decryptView{ctx, decrypter}
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
	case decrypter != nil:
		return struct {
			Key
			decryptView
		}{key, d}
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
