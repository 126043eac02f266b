package transit

import (
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/binary"
	"fmt"

	"filippo.io/bigmod"
	mldsax509 "filippo.io/mldsa/x509"

	"github.com/managedkeys/managedkeys/backend"
)

// RSAES-PKCS1-v1_5 (RFC 8017, Section 7.2) is decrypted with implicit rejection, as draft-irtf-cfrg-rsa-guidance and OpenSSL 3.2
// have it: a ciphertext with a wrong padding has a plaintext that looks random, always the same, and no error, so that nobody
// learns which paddings are right (Bleichenbacher). What the plaintext is of, the caller must find out by other means.

// minPad is the length of the shortest padding string, in bytes (RFC 8017, Section 7.2.1).
const minPad = 8

// rejecter is what decrypting with RSAES-PKCS1-v1_5 needs of a version, beside its handle.
type rejecter struct {
	seed    [sha256.Size]byte // of the plaintexts of wrong ciphertexts; only who has the private key knows it
	modulus *bigmod.Modulus   // nil for a managed key
	private []byte            // exponent, as long as the modulus; nil for a managed key
}

// encryptPKCS1v15 encrypts with the public key.
func (v *version) encryptPKCS1v15(ctx context.Context, h handle, plaintext []byte) ([]byte, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if p, ok := h.(interface{ Permits(backend.Usage) error }); ok {
		if err := p.Permits(backend.UsageEncrypt); err != nil {
			return nil, err
		}
	}
	public := v.public.(*rsa.PublicKey)
	// RFC 8017, Section 7.2.1: mLen <= k - 11.
	if longest := public.Size() - minPad - 3; len(plaintext) > longest {
		return nil, fmt.Errorf("plaintext of %d bytes; RSAES-PKCS1-v1_5 takes at most %d: %w", len(plaintext), longest, backend.ErrInvalidParams)
	}
	//lint:ignore SA1019 the caller has asked for it, and encrypting does no harm
	return rsa.EncryptPKCS1v15(rand.Reader, public, plaintext)
}

// decryptPKCS1v15 decrypts with one call.
func (v *version) decryptPKCS1v15(ctx context.Context, h handle, ciphertext []byte) ([]byte, error) {
	if len(ciphertext) != v.public.(*rsa.PublicKey).Size() {
		return nil, backend.ErrDecryption // everybody can see that
	}
	r, err := v.rejecterOf(ctx, h)
	if err != nil {
		return nil, err
	}
	padded, err := r.raw(ctx, h, ciphertext)
	if err != nil {
		return nil, err
	}
	defer clear(padded)
	return r.unpad(ciphertext, padded), nil
}

// raw is RSADP (RFC 8017, Section 5.1.2).
func (r *rejecter) raw(ctx context.Context, h handle, ciphertext []byte) ([]byte, error) {
	if r.modulus == nil {
		return h.DecryptContext(ctx, ciphertext, new(backend.RawRSAOptions))
	}
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	c, err := bigmod.NewNat().SetBytes(ciphertext, r.modulus)
	if err != nil {
		return nil, backend.ErrDecryption // not less than the modulus, as everybody can see
	}
	return bigmod.NewNat().Exp(c, r.private, r.modulus).Bytes(r.modulus), nil
}

// rejecterOf returns what v needs, and keeps it.
func (v *version) rejecterOf(ctx context.Context, h handle) (*rejecter, error) {
	if r := v.rejecter.Load(); r != nil {
		return r, nil
	}
	public := v.public.(*rsa.PublicKey)
	r := new(rejecter)
	if v.soft == nil {
		// Numbers whose plaintexts nobody can ask for, because they are not padded as any scheme has it.
		hash := sha256.New()
		for n, i := 0, 0; n < 2; i++ {
			plaintext, err := r.raw(ctx, h, number(public, i))
			switch {
			case err != nil:
				return nil, err
			case len(plaintext) != public.Size() || i > 100: // a first byte is zero one time in 256 at most
				return nil, fmt.Errorf("the key manager returned what is no plaintext of RSA: %w", backend.ErrUnavailable)
			case plaintext[0] != 0:
				hash.Write(plaintext)
				n++
			}
		}
		hash.Sum(r.seed[:0])
	} else {
		if _, err := as[backend.Decrypter](h.(*softHandle), "decrypt"); err != nil {
			return nil, err
		}
		private, err := mldsax509.ParsePKCS8PrivateKey(v.rec.Material)
		key, ok := private.(*rsa.PrivateKey)
		if err != nil || !ok {
			return nil, fmt.Errorf("the private key can't be parsed: %w", backend.ErrInvalidParams)
		}
		if r.modulus, err = bigmod.NewModulus(public.N.Bytes()); err != nil {
			return nil, fmt.Errorf("modulus: %w: %w", backend.ErrInvalidParams, err)
		}
		r.private = key.D.FillBytes(make([]byte, public.Size()))
		r.seed = sha256.Sum256(r.private)
	}
	v.rejecter.CompareAndSwap(nil, r)
	return v.rejecter.Load(), nil
}

// number returns a number less than the modulus that only depends on i.
func number(public *rsa.PublicKey, i int) []byte {
	out := expand([]byte("managedkeys transit implicit rejection"), fmt.Sprint(i), public.Size())
	out[0] &= 0x3f // the first byte of a modulus is at least 0x80
	return out
}

// unpad returns the message of padded (RFC 8017, Section 7.2.2), or the one that belongs to a wrong ciphertext. Which one it is
// decides nothing but what is copied from where; the length of the result is seen in any case.
func (r *rejecter) unpad(ciphertext, padded []byte) []byte {
	k := len(padded)
	mac := hmac.New(sha256.New, r.seed[:])
	mac.Write(ciphertext)
	key := mac.Sum(nil)
	other := expand(key, "message", k)
	length := rejectedLength(expand(key, "length", 256), k)

	good := subtle.ConstantTimeByteEq(padded[0], 0) & subtle.ConstantTimeByteEq(padded[1], 2)
	zero, found := 0, 0 // where the first zero is after the padding string
	for i := 2; i < k; i++ {
		is := subtle.ConstantTimeByteEq(padded[i], 0)
		zero = subtle.ConstantTimeSelect(is&^found, i, zero)
		found |= is
	}
	good &= found & subtle.ConstantTimeLessOrEq(2+minPad, zero)
	begin := subtle.ConstantTimeSelect(good, zero+1, k-length)
	for i := range other {
		other[i] = byte(subtle.ConstantTimeSelect(good, int(padded[i]), int(other[i])))
	}
	return other[begin:]
}

// rejectedLength chooses the length of a message: the last of the candidates, two bytes each, that is one of a message that fits.
func rejectedLength(candidates []byte, k int) int {
	most := k - 2 - minPad // exclusive
	mask := most
	for shift := 1; shift < 16; shift *= 2 {
		mask |= mask >> shift
	}
	length := 0
	for i := 0; i < len(candidates); i += 2 {
		c := int(binary.BigEndian.Uint16(candidates[i:])) & mask
		length = subtle.ConstantTimeSelect(subtle.ConstantTimeLessOrEq(c, most-1), c, length)
	}
	return length
}

// expand returns n bytes of a pseudorandom function: HMAC-SHA-256 by key of a counter, the label, and the length in bits.
func expand(key []byte, label string, n int) []byte {
	mac := hmac.New(sha256.New, key)
	out := make([]byte, 0, n+sha256.Size)
	for i := uint16(0); len(out) < n; i++ {
		mac.Reset()
		mac.Write(binary.BigEndian.AppendUint16(nil, i))
		mac.Write([]byte(label))
		mac.Write(binary.BigEndian.AppendUint16(nil, uint16(8*n)))
		out = mac.Sum(out)
	}
	return out[:n]
}

// padding is how RSA encrypts.
type padding struct {
	oaep     *rsa.OAEPOptions
	pkcs1v15 bool
}

// Padding schemes of RSA, in the words of the HTTP API.
const (
	PaddingOAEP     = "oaep"     // RSAES-OAEP (RFC 8017, Section 7.1)
	PaddingPKCS1v15 = "pkcs1v15" // RSAES-PKCS1-v1_5 (RFC 8017, Section 7.2)
)

// paddingOf checks a padding scheme for v, and returns nil for RSAES-OAEP and AEADs.
func (e *Engine) paddingOf(v *version, caps backend.Capabilities, r cipherRequest) (*padding, error) {
	scheme := r.padding
	if scheme != "" && scheme != PaddingOAEP && scheme != PaddingPKCS1v15 {
		return nil, invalid("padding_scheme %.40q; it takes %s and %s", scheme, PaddingOAEP, PaddingPKCS1v15)
	}
	_, isRSA := v.public.(*rsa.PublicKey)
	switch {
	case !isRSA && scheme != "":
		return nil, invalid("padding_scheme %s: it is for RSA keys; this one is %s", scheme, v.kind)
	case scheme != PaddingPKCS1v15:
		return nil, nil
	case len(caps.OAEPHashes) == 0 && !caps.RawRSA: // it only signs: nobody could decrypt what it encrypts
		return nil, noEncryption(v)
	case len(r.associatedData) > 0:
		return nil, noAssociatedData(v)
	case r.decrypting && !e.opts.AllowPKCS1v15:
		return nil, unsupported("padding_scheme %s: decrypting that is off: Options.AllowPKCS1v15 is false", scheme)
	case r.decrypting && v.soft == nil && !caps.RawRSA:
		return nil, unsupported("padding_scheme %s: the key manager doesn't decrypt without a padding scheme, so that wrong paddings could not be hidden", scheme)
	}
	return &padding{pkcs1v15: true}, nil
}

func noEncryption(v *version) error {
	return unsupported("message encryption not supported for key type %s", v.kind)
}

func noAssociatedData(v *version) error {
	return invalid("associated_data provided for non-AEAD cipher suite %s", v.kind)
}
