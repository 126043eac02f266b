package transit

import (
	"context"
	"crypto/ecdh"
	"crypto/ecdsa"
	"crypto/hkdf"
	"crypto/sha256"

	"github.com/managedkeys/managedkeys/backend"
)

// DeriveRequest says how a key is derived with [Engine.DeriveKey].
type DeriveRequest struct {
	PeerPublicKey []byte // the other side's, in PEM or DER (SubjectPublicKeyInfo), on the curve of the base key
	Info          []byte // both sides must have the same; it may be empty
	KeyVersion    int    // of the base key; 0 is the latest
}

// DeriveKey makes a transit key of a symmetric software type that the owner of PeerPublicKey can make as well: the secret that
// base, an ECDSA key, and the peer agree on (ECDH; SP 800-56A Rev. 3, Section 5.7.1.2), through HKDF-SHA-256 (RFC 5869) without a
// salt and with Info, as many bytes as the type's key has. A managed base key needs the usage derive and makes one call; the secret
// passes through this process.
//
// Without Info it is the very key that OpenBao derives (derive-key, from 2.2 on). As there, the key counts as imported and
// can't be rotated, because no peer would have its next version. Other than there, all symmetric types are taken and not AEADs
// alone, the base key's minimum versions hold for KeyVersion, and a secret of zeros is refused.
//
// The error is as for [Engine.CreateKey], wraps [backend.ErrInvalidParams] for a peer's key that isn't one of base's curve, and
// [backend.ErrUnsupported] if base can't agree on secrets.
func (e *Engine) DeriveKey(ctx context.Context, name, base string, r DeriveRequest, opts KeyOptions) error {
	if err := validName(name); err != nil {
		return err
	}
	rec, err := e.newRecord(&opts)
	if err != nil {
		return err
	}
	t := softTypes[rec.Type]
	if t == nil || t.public {
		return unsupported("derive: a key of type %s; it takes symmetric software types", rec.Type)
	}
	if rec.AutoRotate != 0 {
		return invalid("auto_rotate_period: a derived key can't be rotated")
	}
	rec.Imported = true
	size := t.size
	if size == 0 {
		size = rec.KeySize
	}
	secret, err := e.agree(ctx, base, &r)
	if err != nil {
		return err
	}
	defer clear(secret)
	material, err := hkdf.Key(sha256.New, secret, nil, string(r.Info), size)
	if err != nil {
		return invalid("derive: %v", err)
	}
	v, err := t.fromSecret(material, rec)
	if err != nil {
		return err
	}
	v.Created = e.now()
	rec.append(v)
	return e.add(ctx, name, rec)
}

// agree returns the secret of a key and a peer.
func (e *Engine) agree(ctx context.Context, base string, r *DeriveRequest) ([]byte, error) {
	k, err := e.usable(ctx, "base key", base)
	if err != nil {
		return nil, err
	}
	k, v, err := e.choose(ctx, k, "derivation", r.KeyVersion)
	if err != nil {
		return nil, err
	}
	own, ok := v.public.(*ecdsa.PublicKey)
	if !ok {
		return nil, unsupported("derive: key type %s does not agree on secrets; an ECDSA key does", v.kind)
	}
	public, err := parsePublic("derive", r.PeerPublicKey)
	if err != nil {
		return nil, err
	}
	peer, ok := public.(*ecdsa.PublicKey)
	if !ok || peer.Curve != own.Curve {
		return nil, invalid("derive: the peer's public key is of type %s; the base key is of type %s", kindOf(public, ""), v.kind)
	}
	point, err := peer.ECDH()
	if err != nil {
		return nil, invalid("derive: the peer's public key: %v", err)
	}
	h, err := e.handle(ctx, k, v)
	if err != nil {
		return nil, err
	}
	secret, err := h.ECDHContext(ctx, point)
	if err != nil {
		return nil, failed("derive", k, v, err)
	}
	return secret, nil
}

func (h *softHandle) ECDHContext(ctx context.Context, peer *ecdh.PublicKey) ([]byte, error) {
	k, err := as[backend.KeyAgreer](h, "agree on secrets")
	if err != nil {
		return nil, err
	}
	return k.ECDHContext(ctx, peer)
}
