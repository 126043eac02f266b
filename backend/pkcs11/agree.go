package pkcs11

import (
	"context"
	"crypto/ecdh"
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/subtle"
	"encoding/asn1"
	"fmt"

	"github.com/managedkeys/managedkeys/backend"
	"github.com/managedkeys/managedkeys/backend/pkcs11/internal/cryptoki"
)

// derive returns what ECDH with the object gives for a peer: a session object, whose value is read and which is removed.
func (w *worker) derive(key cryptoki.Handle, peer *ecdh.PublicKey) ([]byte, error) {
	m := w.module
	size := (len(peer.Bytes()) - 1) / 2 // 04 ‖ x ‖ y
	template := sessionSecret(cryptoki.Attribute{Type: attrValueLen, Value: uint(size)})
	// The standard lets tokens choose between the bare point and a DER OCTET STRING of it (Version 3.1, Section 6.3.17).
	secret, err := m.DeriveECDH(w.session, uint(ECDH), key, peer.Bytes(), template)
	if err != nil && troubleOf(err) == callersFault {
		der, e := asn1.Marshal(peer.Bytes())
		if e != nil {
			return nil, e
		}
		secret, err = m.DeriveECDH(w.session, uint(ECDH), key, der, template)
	}
	if err != nil {
		return nil, err
	}
	return w.takeValue(secret)
}

// takeValue returns the value of a session object and removes it.
func (w *worker) takeValue(object cryptoki.Handle) ([]byte, error) {
	m := w.module
	v, err := w.attributes().Read(w.session, object, attrValue)
	if e := m.Destroy(w.session, object); err == nil {
		err = e
	}
	if err != nil {
		return nil, err
	}
	if v[0] == nil {
		return nil, fmt.Errorf("the token doesn't show the value of a session object: %w", backend.ErrUnsupported)
	}
	return append([]byte(nil), v[0]...), nil
}

// use runs fn, which is given the key's handle, and returns its result.
func (k *liveKey) use(ctx context.Context, fn func(w *worker, key cryptoki.Handle) ([]byte, error)) ([]byte, error) {
	c := newCall(0, nil, nil, nil, 0)
	c.fn = func(w *worker) error {
		out, err := fn(w, c.key)
		c.Out, c.n = out, len(out)
		return err
	}
	return k.run(ctx, c)
}

// agree implements backend.AgreeFunc.
func (k *liveKey) agree(ctx context.Context, peer *ecdh.PublicKey) ([]byte, error) {
	return k.use(ctx, func(w *worker, key cryptoki.Handle) ([]byte, error) { return w.derive(key, peer) })
}

// tryAgree reports whether the object agrees with a fresh key on the secret that pub does. The error says that the token
// didn't come to try.
func (c *conn) tryAgree(ctx context.Context, o handle, pub *ecdsa.PublicKey) (valid bool, refusal, err error) {
	public, err := pub.ECDH()
	if err != nil {
		return false, err, nil // a curve that crypto/ecdh doesn't have
	}
	peer, err := public.Curve().GenerateKey(rand.Reader)
	if err != nil {
		return false, nil, err
	}
	want, err := peer.ECDH(public)
	if err != nil {
		return false, nil, err
	}
	got, err := c.tryUse(ctx, o, func(w *worker) ([]byte, error) { return w.derive(o.number, peer.PublicKey()) })
	if refused(err) || isUnsupported(err) {
		return false, err, nil
	}
	if err != nil {
		return false, nil, err
	}
	return subtle.ConstantTimeCompare(got, want) == 1, nil, nil
}
