package transit

import (
	"context"
	"crypto"
	"crypto/cipher"
	"crypto/rand"
	"crypto/rsa"
	"fmt"
	"strings"
	"sync/atomic"

	mldsax509 "filippo.io/mldsa/x509"
	"github.com/google/uuid"

	"github.com/managedkeys/managedkeys/backend"
	"github.com/managedkeys/managedkeys/internal/softkey"
)

// softHandle is an open software key. It is immutable once others have it.
type softHandle struct {
	key    backend.Key  // of the software backend, or of this package; nil if there is a public key only
	aead   backend.AEAD // key, if it is one; the others are slow enough to ask
	name   string       // in the software backend, or ""
	kind   string
	public crypto.PublicKey
}

func newSoftHandle(s *softKey, k backend.Key) *softHandle {
	aead, _ := k.(backend.AEAD)
	return &softHandle{key: k, aead: aead, kind: s.t.name}
}

// software returns what works with the key of v, which is opened when it is first used.
func (e *Engine) software(ctx context.Context, k *key, v *version) (handle, error) {
	if err := ctx.Err(); err != nil {
		return nil, fmt.Errorf("transit: key %q version %d: %w", k.name, v.number, err)
	}
	if h := v.soft.key.Load(); h != nil {
		return h, nil
	}
	h, err := e.openSoft(ctx, v.soft)
	if err != nil {
		return nil, fmt.Errorf("transit: key %q version %d: %w", k.name, v.number, err)
	}
	return e.keep(v, &v.soft.key, h, k.name)
}

// macKey is software for the key of HMACs of v, which is a key of its own unless the type is hmac.
func (e *Engine) macKey(ctx context.Context, k *key, v *version) (handle, error) {
	if v.rec.HMAC == nil {
		return e.software(ctx, k, v)
	}
	if err := ctx.Err(); err != nil {
		return nil, fmt.Errorf("transit: key %q version %d: %w", k.name, v.number, err)
	}
	if h := v.soft.hmac.Load(); h != nil {
		return h, nil
	}
	h, err := e.importKey(ctx, v.soft, "hmac", "HMAC", v.rec.HMAC)
	if err != nil {
		return nil, fmt.Errorf("transit: key %q version %d: %w", k.name, v.number, err)
	}
	return e.keep(v, &v.soft.hmac, h, k.name)
}

// keep notes what was opened, unless somebody else was faster, or the version was deleted or trimmed since the operation began.
func (e *Engine) keep(v *version, p *atomic.Pointer[softHandle], h *softHandle, name string) (handle, error) {
	for !p.CompareAndSwap(nil, h) {
		if first := p.Load(); first != nil {
			e.discard(h, name)
			return first, nil
		}
	}
	if v.soft.gone.Load() { // whoever deleted it may have looked before this was there
		e.discard(p.Swap(nil), name)
		return nil, fmt.Errorf("transit: key %q version %d was deleted meanwhile: %w", name, v.number, backend.ErrKeyNotFound)
	}
	return h, nil
}

func (e *Engine) openSoft(ctx context.Context, s *softKey) (*softHandle, error) {
	switch {
	case s.rec.Material == nil:
		return &softHandle{kind: s.t.name, public: s.public}, nil
	case s.t.name == TypeChaCha20Poly1305, s.t.name == TypeXChaCha20Poly1305:
		aead, err := s.t.newAEAD(s.rec.Material)
		if err != nil {
			return nil, err
		}
		return s.here(backend.Capabilities{Algorithm: strings.Replace(s.t.name, "chacha20-poly", "ChaCha20-Poly", 1), Usages: backend.UsageEncrypt | backend.UsageDecrypt}, aead, nil)
	case s.t.cmac():
		return s.here(backend.Capabilities{Algorithm: fmt.Sprintf("AES-%d", 8*s.t.size), Usages: backend.UsageMAC, MACs: []backend.MACAlgorithm{backend.AESCMAC}}, nil, s.rec.Material)
	case !s.t.public:
		return e.importKey(ctx, s, "key", s.t.keyType, s.rec.Material)
	}
	private, err := mldsax509.ParsePKCS8PrivateKey(s.rec.Material)
	if err != nil {
		return nil, fmt.Errorf("the private key can't be parsed: %w", backend.ErrInvalidParams) // the parser may quote what it read
	}
	return e.importKey(ctx, s, "key", s.t.keyType, private)
}

// here returns a key whose operations are done in this package, since software backends don't have them.
func (s *softKey) here(caps backend.Capabilities, aead cipher.AEAD, mac []byte) (*softHandle, error) {
	h := backend.NewHandle(backend.HandleConfig{ID: s.id, Capabilities: caps, Mode: backend.CallLocal})
	if aead != nil {
		seal := func(_ context.Context, data, additional []byte) ([]byte, error) {
			return sealRandom(aead, data, additional), nil
		}
		open := func(_ context.Context, data, additional []byte) ([]byte, error) {
			return openPrefixed(aead, data, additional)
		}
		return newSoftHandle(s, struct {
			*backend.Handle
			backend.AEADOps
		}{h, h.AEAD(seal, open)}), nil
	}
	c, err := newCMAC(mac)
	if err != nil {
		return nil, err
	}
	return newSoftHandle(s, struct {
		*backend.Handle
		backend.MACOps
	}{h, h.MAC(func(_ context.Context, _ backend.MACAlgorithm, message []byte) ([]byte, error) {
		return c.sum(message), nil
	})}), nil
}

// importKey puts a key into the software backend, under a name that nothing else ever has: a discarded key must never be taken
// for another one.
func (e *Engine) importKey(ctx context.Context, s *softKey, use, keyType string, material any) (*softHandle, error) {
	b := e.opts.Software
	if b == nil {
		return nil, fmt.Errorf("software keys are not allowed here: Options.Software is nil: %w", backend.ErrUnsupported)
	}
	name := fmt.Sprintf("transit/%s/%d/%s/%s", s.id, s.number, use, uuid.NewString())
	params, err := softkey.Params(b, name, keyType)
	if err != nil {
		return nil, err
	}
	k, err := b.(backend.Importer).Import(ctx, params, material, nil)
	if err != nil {
		return nil, err
	}
	h := newSoftHandle(s, k)
	h.name, h.public = name, k.Public()
	if use == "key" && s.public != nil && !samePublic(h.public, s.public) {
		e.discard(h, s.id)
		return nil, fmt.Errorf("the private key is not that of the public key: %w", backend.ErrKeyChanged)
	}
	return h, nil
}

// forget takes the keys of versions that now doesn't have any more out of the software backend, as far as the contract goes: a
// key that nobody knows takes their place. Operations in flight with them fail, as they do when a key is deleted.
func (e *Engine) forget(before, now *key) {
	if before == nil || before.broken != nil {
		return
	}
	for _, v := range before.versions {
		if v.soft == nil || now != nil && now.broken == nil && now.rec.ID == before.rec.ID && v.number >= now.rec.First {
			continue
		}
		v.rejecter.Store(nil)
		v.soft.gone.Store(true)
		for _, h := range []*softHandle{v.soft.key.Swap(nil), v.soft.hmac.Swap(nil)} {
			e.discard(h, before.name)
		}
	}
}

// discard takes a key out of the software backend: one that nobody knows takes its place. h may be nil.
func (e *Engine) discard(h *softHandle, name string) {
	if h == nil || h.name == "" {
		return
	}
	if err := softkey.Discard(context.Background(), e.opts.Software, h.name); err != nil {
		e.opts.Logger.Warn("transit: a deleted key stays in the software backend until that is closed", "key", name, "error", err)
	}
}

func (h *softHandle) Capabilities() backend.Capabilities {
	if h.key == nil {
		return backend.Capabilities{Algorithm: h.kind, Usages: backend.UsageVerify | backend.UsageEncrypt, OAEPHashes: []crypto.Hash{crypto.SHA256}}
	}
	return h.key.Capabilities()
}

// as returns the key as T, which has the operation.
func as[T any](h *softHandle, op string) (T, error) {
	t, ok := h.key.(T)
	switch {
	case h.key == nil:
		return t, fmt.Errorf("can't %s: only the public key was imported: %w", op, backend.ErrUnsupported)
	case !ok:
		return t, fmt.Errorf("a key of type %s can't %s: %w", h.kind, op, backend.ErrUnsupported)
	}
	return t, nil
}

func (h *softHandle) SignContext(ctx context.Context, digest []byte, opts crypto.SignerOpts) ([]byte, error) {
	k, err := as[backend.Signer](h, "sign")
	if err != nil {
		return nil, err
	}
	return k.SignContext(ctx, digest, opts)
}

func (h *softHandle) SignMessageContext(ctx context.Context, message []byte, opts crypto.SignerOpts) ([]byte, error) {
	if k, ok := h.key.(backend.MessageSigner); ok {
		return k.SignMessageContext(ctx, message, opts)
	}
	if opts.HashFunc() != 0 {
		message = digest(opts.HashFunc(), message)
	}
	return h.SignContext(ctx, message, opts)
}

func (h *softHandle) VerifyContext(ctx context.Context, digest, signature []byte, opts crypto.SignerOpts) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	return backend.Verify(h.public, digest, signature, opts)
}

func (h *softHandle) EncryptContext(_ context.Context, plaintext []byte, opts *rsa.OAEPOptions) ([]byte, error) {
	pub, ok := h.public.(*rsa.PublicKey)
	if !ok {
		return nil, fmt.Errorf("a key of type %s can't encrypt: %w", h.kind, backend.ErrUnsupported)
	}
	// RFC 8017, Section 7.1.1: mLen <= k - 2hLen - 2.
	if longest := pub.Size() - 2*opts.Hash.Size() - 2; len(plaintext) > longest {
		return nil, fmt.Errorf("plaintext of %d bytes; OAEP with %v takes at most %d: %w", len(plaintext), opts.Hash, longest, backend.ErrInvalidParams)
	}
	return rsa.EncryptOAEP(opts.Hash.New(), rand.Reader, pub, plaintext, opts.Label)
}

func (h *softHandle) DecryptContext(ctx context.Context, ciphertext []byte, opts crypto.DecrypterOpts) ([]byte, error) {
	k, err := as[backend.Decrypter](h, "decrypt")
	if err != nil {
		return nil, err
	}
	return k.DecryptContext(ctx, ciphertext, opts)
}

func (h *softHandle) Seal(ctx context.Context, plaintext, additionalData []byte) ([]byte, error) {
	if h.aead == nil {
		_, err := as[backend.AEAD](h, "encrypt")
		return nil, err
	}
	return h.aead.Seal(ctx, plaintext, additionalData)
}

func (h *softHandle) Open(ctx context.Context, ciphertext, additionalData []byte) ([]byte, error) {
	if h.aead == nil {
		_, err := as[backend.AEAD](h, "decrypt")
		return nil, err
	}
	return h.aead.Open(ctx, ciphertext, additionalData)
}

func (h *softHandle) ComputeMAC(ctx context.Context, alg backend.MACAlgorithm, message []byte) ([]byte, error) {
	k, err := as[backend.MAC](h, "compute a MAC")
	if err != nil {
		return nil, err
	}
	return k.ComputeMAC(ctx, alg, message)
}

func (h *softHandle) VerifyMAC(ctx context.Context, alg backend.MACAlgorithm, message, mac []byte) error {
	k, err := as[backend.MAC](h, "verify a MAC")
	if err != nil {
		return err
	}
	return k.VerifyMAC(ctx, alg, message, mac)
}

func (h *softHandle) GenerateRandom(ctx context.Context, n int) ([]byte, error) {
	k, err := as[backend.Random](h, "generate random bytes")
	if err != nil {
		return nil, err
	}
	return k.GenerateRandom(ctx, n)
}

func (h *softHandle) WrapKey(ctx context.Context, material []byte) ([]byte, error) {
	k, err := as[backend.Wrapper](h, "wrap keys")
	if err != nil {
		return nil, err
	}
	return k.WrapKey(ctx, material)
}

func (h *softHandle) UnwrapKey(ctx context.Context, wrapped []byte) ([]byte, error) {
	k, err := as[backend.Wrapper](h, "unwrap keys")
	if err != nil {
		return nil, err
	}
	return k.UnwrapKey(ctx, wrapped)
}

func digest(h crypto.Hash, message []byte) []byte {
	d := h.New()
	d.Write(message)
	return d.Sum(nil)
}
