package backend_test

import (
	"context"
	"crypto"
	"crypto/ecdh"
	"io"
	"testing"

	"github.com/stretchr/testify/assert"

	"github.com/managedkeys/managedkeys/backend"
)

func TestViews(t *testing.T) {
	r := &recorder{key: rsa2048()}
	h := backend.NewHandle(backend.HandleConfig{ID: "k", Public: r.key.Public(), Capabilities: backend.Capabilities{
		Usages: backend.UsageSign | backend.UsageDecrypt, Signatures: []backend.SignatureAlgorithm{pkcs1SHA256}, OAEPHashes: []crypto.Hash{crypto.SHA256}}})
	signs := h.Signing(r.sign)
	decrypts := h.Decrypting(func(context.Context, backend.DecryptRequest) ([]byte, error) { return []byte("plain"), nil })
	private, peer := newECDH(t, ecdh.P256()), newECDH(t, ecdh.P256())
	agrees := agreeWith(private.PublicKey(), backend.UsageDerive, backend.CallContext, func(_ context.Context, peer *ecdh.PublicKey) ([]byte, error) {
		return private.ECDH(peer)
	}).AgreeOps
	for _, test := range []struct {
		name                                  string
		key                                   backend.Key
		signer, messages, decrypters, agreers bool
	}{
		{"sign", signingKey{h, signs}, true, true, false, false},
		{"sign and decrypt", rsaKey{h, signs, decrypts}, true, true, true, false},
		{"decrypt", struct {
			*backend.Handle
			backend.DecryptOps
		}{h, decrypts}, false, false, true, false},
		{"no messages", signerOnly{signingKey{h, signs}}, true, false, false, false},
		{"no messages, decrypts", signerDecrypterOnly{signerOnly{signingKey{h, signs}}, decrypts}, true, false, true, false},
		{"agree", onlyAgrees{h, agrees}, false, false, false, true},
		{"sign and agree", agreeingKey{h, signs, agrees}, true, true, false, true},
		{"no messages, agrees", struct {
			signerOnly
			backend.AgreeOps
		}{signerOnly{signingKey{h, signs}}, agrees}, true, false, false, true},
		{"neither", h, false, false, false, false},
	} {
		t.Run(test.name, func(t *testing.T) {
			ctx, cancel := context.WithCancel(t.Context())
			view, other := backend.WithContext(ctx, test.key), backend.WithContext(t.Context(), test.key)
			s, isSigner := view.(crypto.Signer)
			m, isMessages := view.(crypto.MessageSigner)
			d, isDecrypter := view.(crypto.Decrypter)
			a, isAgreer := view.(ecdh.KeyExchanger)
			assert.Equal(t, []bool{test.signer, test.messages, test.decrypters, test.agreers}, []bool{isSigner, isMessages, isDecrypter, isAgreer})
			assert.Equal(t, test.key.Public(), view.Public())
			assert.Equal(t, "k", view.ID())

			use := map[string]func() error{}
			if isSigner {
				use["sign"] = func() error { _, err := s.Sign(nil, make([]byte, 32), crypto.SHA256); return err }
			}
			if isMessages {
				use["sign message"] = func() error { _, err := m.SignMessage(nil, nil, crypto.SHA256); return err }
			}
			if isDecrypter {
				use["decrypt"] = func() error { _, err := d.Decrypt(nil, make([]byte, 256), oaepSHA256); return err }
			}
			if isAgreer {
				assert.Equal(t, agrees.PublicKey(), a.PublicKey())
				assert.Equal(t, ecdh.P256(), a.Curve())
				use["agree"] = func() error { _, err := a.ECDH(peer.PublicKey()); return err }
			}
			for name, fn := range use {
				assert.NoError(t, fn(), name)
			}
			cancel()
			for name, fn := range use {
				assert.ErrorIs(t, fn(), context.Canceled, name)
			}
			if s, ok := other.(crypto.Signer); ok {
				_, err := s.Sign(nil, make([]byte, 32), crypto.SHA256)
				assert.NoError(t, err, "another view goes on")
			}
		})
	}
}

// signerOnly is a Signer that is no MessageSigner.
type signerOnly struct{ key backend.Signer }

func (s signerOnly) Public() crypto.PublicKey           { return s.key.Public() }
func (s signerOnly) Capabilities() backend.Capabilities { return s.key.Capabilities() }
func (s signerOnly) ID() string                         { return s.key.ID() }
func (s signerOnly) Sign(_ io.Reader, d []byte, o crypto.SignerOpts) ([]byte, error) {
	return s.key.SignContext(context.Background(), d, o)
}
func (s signerOnly) SignContext(ctx context.Context, d []byte, o crypto.SignerOpts) ([]byte, error) {
	return s.key.SignContext(ctx, d, o)
}

type signerDecrypterOnly struct {
	signerOnly
	backend.DecryptOps
}
