package pkcs11

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/rand"
	"errors"
	"fmt"

	"github.com/managedkeys/managedkeys/backend"
	"github.com/managedkeys/managedkeys/backend/pkcs11/internal/cryptoki"
)

// sealCall returns the call that encrypts with AES-GCM. The nonce is its A; a token that makes its own writes it there.
func sealCall(plaintext, additionalData []byte, tokenNonce bool) *call {
	var nonce [gcmNonce]byte
	if !tokenNonce {
		rand.Read(nonce[:]) // never fails
	}
	c := newCall(cryptoki.Encrypt, plaintext, nonce[:], additionalData, len(plaintext)+gcmTag)
	c.Mechanism, c.Kind, c.Number = uint(AESGCM), cryptoki.GCM, 8*gcmTag
	c.form = formNonce
	return c
}

// openCall returns the call that decrypts what sealCall gave, or nil if it is too short.
func openCall(ciphertext, additionalData []byte) *call {
	if len(ciphertext) < gcmNonce+gcmTag {
		return nil
	}
	c := newCall(cryptoki.Decrypt, ciphertext[gcmNonce:], ciphertext[:gcmNonce], additionalData, len(ciphertext)-gcmNonce)
	c.Mechanism, c.Kind, c.Number = uint(AESGCM), cryptoki.GCM, 8*gcmTag
	return c
}

// seal implements backend.CipherFunc.
func (k *liveKey) seal(ctx context.Context, plaintext, additionalData []byte) ([]byte, error) {
	out, err := k.run(ctx, sealCall(plaintext, additionalData, k.conn.lib.TokenNonces))
	if err != nil {
		return nil, err
	}
	if len(out) != gcmNonce+len(plaintext)+gcmTag || bytes.Equal(out[:gcmNonce], make([]byte, gcmNonce)) {
		return nil, k.conn.errorf("C_Encrypt gave %d bytes or no nonce for AES-GCM of %d: %w", len(out), len(plaintext), backend.ErrUnavailable)
	}
	return out, nil
}

// open implements backend.CipherFunc.
func (k *liveKey) open(ctx context.Context, ciphertext, additionalData []byte) ([]byte, error) {
	c := openCall(ciphertext, additionalData)
	if c == nil {
		return nil, backend.ErrDecryption
	}
	return k.run(ctx, c)
}

// macCall returns the call that computes a MAC.
func macCall(m Mechanism, message []byte) *call {
	c := newCall(cryptoki.Sign, message, nil, nil, macSize)
	c.Mechanism = uint(m)
	return c
}

// mac implements backend.MACFunc.
func (k *liveKey) mac(ctx context.Context, alg backend.MACAlgorithm, message []byte) ([]byte, error) {
	out, err := k.run(ctx, macCall(macByAlgorithm[alg], message))
	if err != nil {
		return nil, err
	}
	if len(out) != macLength(alg) {
		return nil, k.conn.errorf("C_Sign gave %d bytes; %s has %d: %w", len(out), alg, macLength(alg), backend.ErrUnavailable)
	}
	return out, nil
}

// macLength is the length of a MAC in bytes.
func macLength(alg backend.MACAlgorithm) int {
	if alg == backend.AESCMAC {
		return 16
	}
	return alg.Hash().Size()
}

// wrapWith and unwrapWith wrap and unwrap bytes, which are the value of a session object for that time.
func (w *worker) wrapWith(m Mechanism, key cryptoki.Handle, material []byte) ([]byte, error) {
	object, err := w.module.Create(w.session, sessionSecret(cryptoki.Attribute{Type: attrValue, Value: material}))
	if err != nil {
		return nil, err
	}
	out, err := w.module.Wrap(w.session, uint(m), key, object)
	if e := w.module.Destroy(w.session, object); err == nil {
		err = e
	}
	return out, err
}

func (w *worker) unwrapWith(m Mechanism, key cryptoki.Handle, wrapped []byte) ([]byte, error) {
	object, err := w.module.Unwrap(w.session, uint(m), key, wrapped, sessionSecret())
	if err != nil {
		return nil, err
	}
	return w.takeValue(object)
}

// sessionSecret is the template of a secret that is to be read or wrapped and lives as long as the session at most.
func sessionSecret(more ...cryptoki.Attribute) []cryptoki.Attribute {
	return append([]cryptoki.Attribute{
		{Type: attrClass, Value: uint(classSecret)}, {Type: attrKeyType, Value: uint(keyGeneric)}, {Type: attrToken, Value: false},
		{Type: attrSensitive, Value: false}, {Type: attrExtractable, Value: true},
	}, more...)
}

// maxWrapped bounds what is wrapped, in bytes.
const maxWrapped = 16 << 10

// wrapAES returns the functions that wrap and unwrap with AES Key Wrap with Padding (RFC 5649) by mechanism m.
func (k *liveKey) wrapAES(m Mechanism) (wrap, unwrap backend.WrapFunc) {
	wrap = func(ctx context.Context, material []byte) ([]byte, error) {
		if len(material) == 0 || len(material) > maxWrapped {
			return nil, k.conn.errorf("got %d bytes to wrap; it takes 1 to %d: %w", len(material), maxWrapped, backend.ErrInvalidParams)
		}
		material = bytes.Clone(material)
		defer clear(material)
		return k.use(ctx, func(w *worker, key cryptoki.Handle) ([]byte, error) { return w.wrapWith(m, key, material) })
	}
	unwrap = func(ctx context.Context, wrapped []byte) ([]byte, error) {
		if len(wrapped) < 16 || len(wrapped)%8 != 0 || len(wrapped) > maxWrapped+16 {
			return nil, backend.ErrDecryption
		}
		wrapped = bytes.Clone(wrapped)
		out, err := k.use(ctx, func(w *worker, key cryptoki.Handle) ([]byte, error) { return w.unwrapWith(m, key, wrapped) })
		if r, ok := code(err); ok && functionOf(err) == "C_UnwrapKey" && r.refusesParameters() {
			return nil, backend.ErrDecryption
		}
		return out, err
	}
	return wrap, unwrap
}

// secretAbilities are what a trial showed that a secret key does, and what it proves itself with later.
type secretAbilities struct {
	aead    bool
	longest int // message in bytes that can be authenticated; 0 if there was no limit to be seen
	macs    []backend.MACAlgorithm
	wraps   Mechanism // 0: it doesn't
	proves  func(ctx context.Context, o handle) error
}

// trySecret finds out what a secret key does. The error wraps a sentinel.
func (c *conn) trySecret(ctx context.Context, o object) (secretAbilities, error) {
	var can secretAbilities
	at := handle{o.handle, o.epoch}
	// Whatever is tried last that works is what the key is recognised by. Each round is another key's with a probability
	// of at most 2^-128.
	steps := []func(context.Context, object, handle, *secretAbilities) error{c.tryMACs, c.tryWrap, c.tryGCM}
	for _, step := range steps {
		if err := step(ctx, o, at, &can); err != nil {
			return can, err
		}
	}
	if can.proves == nil {
		return can, fmt.Errorf("its attributes or the mechanisms of the token allow neither AES-GCM, a MAC nor key wrapping: %w", backend.ErrNotPermitted)
	}
	return can, nil
}

func (c *conn) tryMACs(ctx context.Context, o object, at handle, can *secretAbilities) error {
	mechanisms := macOrder
	if o.kind == keyAES {
		mechanisms = []Mechanism{AESCMAC}
	}
	message := make([]byte, 32)
	rand.Read(message) // never fails
	for _, m := range mechanisms {
		if !o.sign || !c.may(o, m, useSign) {
			continue
		}
		alg := backend.AESCMAC
		if o.kind != keyAES {
			alg = macMechanisms[m]
		}
		want, err := c.try(ctx, at, macCall(m, message), "")
		if refused(err) || err == nil && len(want) != macLength(alg) {
			continue
		}
		if err != nil {
			return err
		}
		can.macs = append(can.macs, alg)
		can.proves = func(ctx context.Context, o handle) error {
			got, err := c.expect(ctx, o, macCall(m, message), "")
			if err == nil && !hmac.Equal(got, want) {
				err = errNotIts
			}
			return err
		}
	}
	if len(can.macs) == 0 {
		return nil
	}
	return c.tryLongMAC(ctx, at, can)
}

// manyBytes is a message that no token takes in one call whose calls have a limit worth mentioning.
const manyBytes = 16 << 10

// tryLongMAC finds out whether messages may be as long as one likes. (tpm2-pkcs11 takes 4,096 bytes.)
func (c *conn) tryLongMAC(ctx context.Context, at handle, can *secretAbilities) error {
	m := macByAlgorithm[can.macs[0]]
	for n := manyBytes; n > 0; n /= 4 {
		_, err := c.try(ctx, at, macCall(m, make([]byte, n)), "")
		if err == nil {
			if n < manyBytes {
				can.longest = n
			}
			return nil
		}
		if _, ok := code(err); !ok || !refused(err) && troubleOf(err) != callersFault {
			return err
		}
	}
	return nil
}

func (c *conn) tryGCM(ctx context.Context, o object, at handle, can *secretAbilities) error {
	if o.kind != keyAES || !o.encrypt || !o.decrypt || !c.may(o, AESGCM, useEncrypt|useDecrypt) {
		return nil
	}
	message := make([]byte, 16)
	rand.Read(message) // never fails
	ciphertext, err := c.try(ctx, at, sealCall(message, nil, c.lib.TokenNonces), "")
	if refused(err) || err == nil && len(ciphertext) != gcmNonce+len(message)+gcmTag {
		return nil
	}
	if err != nil {
		return err
	}
	proves := func(ctx context.Context, o handle) error {
		got, err := c.try(ctx, o, openCall(ciphertext, nil), "")
		if refused(err) || err == nil && !hmac.Equal(got, message) {
			err = errNotIts
		}
		return err
	}
	if err := proves(ctx, at); err == nil {
		can.aead, can.proves = true, proves
	} else if !errors.Is(err, errNotIts) {
		return err
	}
	return nil
}

// tryWrap finds out whether the token wraps by RFC 5649, by which 16 bytes become 24, and 13 come back as 13. With
// CKM_AES_KEY_WRAP_PAD some tokens pad as PKCS#7 before RFC 3394, and SoftHSM2 fills up with zeros that stay.
func (c *conn) tryWrap(ctx context.Context, o object, at handle, can *secretAbilities) error {
	if o.kind != keyAES || !o.wrap || !o.unwrap {
		return nil
	}
	material := make([]byte, 16)
	rand.Read(material) // never fails
	for _, m := range []Mechanism{AESKeyWrapKWP, AESKeyWrapPad} {
		if !c.may(o, m, useWrap|useUnwrap) {
			continue
		}
		var blob []byte // material, wrapped
		proves := func(ctx context.Context, o handle) error {
			got, err := c.tryUse(ctx, o, func(w *worker) ([]byte, error) { return w.unwrapWith(m, o.number, blob) })
			if refused(err) || isUnsupported(err) || err == nil && !hmac.Equal(got, material) {
				err = errNotIts
			}
			return err
		}
		wrapped, err := c.tryUse(ctx, at, func(w *worker) ([]byte, error) {
			short, err := w.wrapWith(m, at.number, material[:13])
			if err != nil {
				return nil, err
			}
			back, err := w.unwrapWith(m, at.number, short)
			if err != nil || !hmac.Equal(back, material[:13]) {
				return nil, err
			}
			return w.wrapWith(m, at.number, material)
		})
		if err == nil && len(wrapped) == 24 {
			blob = wrapped
			err = proves(ctx, at)
			if err == nil {
				can.wraps, can.proves = m, proves
				return nil
			}
		}
		if err != nil && !refused(err) && !isUnsupported(err) && !errors.Is(err, errNotIts) {
			return err
		}
	}
	return nil
}

// tryUse is try for functions of several calls.
func (c *conn) tryUse(ctx context.Context, o handle, fn func(*worker) ([]byte, error)) ([]byte, error) {
	call := newCall(0, nil, nil, nil, 0)
	call.fn = func(w *worker) error {
		out, err := fn(w)
		call.Out, call.n = out, len(out)
		return err
	}
	return c.try(ctx, o, call, "")
}
