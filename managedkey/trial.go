package managedkey

import (
	"bytes"
	"context"
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"errors"
	"fmt"
	"math/big"
	"time"

	"github.com/managedkeys/managedkeys/backend"
)

// trial is one run of [Key.Test]. Operations go through the handle, so that policy is asked for each.
type trial struct {
	k      *Key
	key    backend.Key // of the handle; for what needs no permission
	caps   backend.Capabilities
	report *TestReport
	over   bool // the context has ended
}

// run tries the usages.
func (t *trial) run(ctx context.Context, usages backend.Usage) {
	if usages&(backend.UsageSign|backend.UsageVerify) != 0 {
		t.signatures(ctx, usages)
	}
	if usages&(backend.UsageEncrypt|backend.UsageDecrypt) != 0 {
		t.encryption(ctx, usages)
	}
	if usages&(backend.UsageWrap|backend.UsageUnwrap) != 0 {
		t.wrapping(ctx, usages)
	}
	if usages.Has(backend.UsageMAC) {
		t.macs(ctx)
	}
	if usages.Has(backend.UsageDerive) {
		t.derivation(ctx)
	}
	if usages.Has(backend.UsageGenerateRandom) {
		t.random(ctx)
	}
}

// step does one step: op is what is timed, and check, which may be nil, says what is wrong with its result. It reports
// whether all was right.
func (t *trial) step(ctx context.Context, usage backend.Usage, algorithm string, op, check func() error) bool {
	if t.over {
		return false
	}
	s := TestStep{Usage: usage, Algorithm: algorithm}
	if err := backend.ContextError(ctx); err != nil {
		s.Err, t.over = err, true
	} else {
		began := time.Now()
		s.Err = op()
		s.Duration = time.Since(began)
		if s.Err == nil && check != nil {
			s.Err = check()
		}
	}
	if typed := (*Error)(nil); s.Err != nil && !errors.As(s.Err, &typed) {
		s.Err = t.k.fail("test", s.Err)
	}
	t.report.Steps = append(t.report.Steps, s)
	return s.Err == nil
}

// none are the steps of usages for which the key names no algorithm.
func (t *trial) none(ctx context.Context, usages backend.Usage) {
	for u := backend.UsageEncrypt; u <= backend.UsageDerive; u <<= 1 {
		if usages.Has(u) {
			t.step(ctx, u, t.caps.Algorithm, func() error {
				return fmt.Errorf("the key has the usage %s but names no algorithm for it: %w", u, backend.ErrUnsupported)
			}, nil)
		}
	}
}

// wrongf says that the key manager's answer is not right.
func wrongf(format string, args ...any) error {
	return fmt.Errorf("%s: %w", fmt.Sprintf(format, args...), backend.ErrIntegrity)
}

// refused returns nil if err is the refusal that is wanted.
func refused(err, want error, what string) error {
	switch {
	case err == nil:
		return wrongf("%s was accepted", what)
	case !errors.Is(err, want):
		return fmt.Errorf("%s was not refused as it should be: %w", what, err)
	}
	return nil
}

// testSize is the length of what is signed, encrypted and drawn, in bytes, where the key takes it.
const testSize = 32

// draw returns so many random bytes as lie between least and limit, of which 0 is none, and are nearest to testSize.
func draw(least, limit int) []byte {
	n := max(testSize, least)
	if limit > 0 {
		n = min(n, limit)
	}
	data := make([]byte, n)
	rand.Read(data)
	return data
}

// altered returns data with its last bit inverted.
func altered(data []byte) []byte {
	data = bytes.Clone(data)
	if len(data) > 0 {
		data[len(data)-1] ^= 1
	}
	return data
}

// options are those that choose a signature algorithm.
func options(a backend.SignatureAlgorithm) crypto.SignerOpts {
	if a.Scheme == backend.RSAPSS {
		return &rsa.PSSOptions{SaltLength: rsa.PSSSaltLengthEqualsHash, Hash: a.Hash}
	}
	return a.Hash
}

// input is what signatures of message are made of and verified with.
func input(a backend.SignatureAlgorithm, message []byte) []byte {
	if a.Hash == 0 {
		return message
	}
	h := a.Hash.New()
	h.Write(message)
	return h.Sum(nil)
}

func (t *trial) signatures(ctx context.Context, usages backend.Usage) {
	if len(t.caps.Signatures) == 0 {
		t.none(ctx, usages&(backend.UsageSign|backend.UsageVerify))
	}
	for _, a := range t.caps.Signatures {
		message := draw(t.caps.MinMessage, t.caps.MaxMessage)
		var signature []byte
		if usages.Has(backend.UsageSign) && !t.sign(ctx, a, message, &signature) || !usages.Has(backend.UsageVerify) {
			continue
		}
		verify := func(message, signature []byte) error {
			return t.k.VerifyContext(ctx, input(a, message), signature, options(a))
		}
		if signature == nil {
			t.step(ctx, backend.UsageVerify, a.String(), func() error {
				return refused(verify(message, message), backend.ErrInvalidSignature, "what is no signature")
			}, nil)
			continue
		}
		t.step(ctx, backend.UsageVerify, a.String(), func() error { return verify(message, signature) }, func() error {
			return refused(verify(altered(message), signature), backend.ErrInvalidSignature, "the signature of another message")
		})
	}
}

// sign signs message and verifies that here.
func (t *trial) sign(ctx context.Context, a backend.SignatureAlgorithm, message []byte, signature *[]byte) bool {
	return t.step(ctx, backend.UsageSign, a.String(), func() (err error) {
		*signature, err = t.k.SignMessageContext(ctx, message, options(a))
		return err
	}, func() error {
		return backend.Verify(t.k.Public(), input(a, message), *signature, options(a))
	})
}

// encryption tries RSA with the key's paddings, or authenticated encryption.
func (t *trial) encryption(ctx context.Context, usages backend.Usage) {
	public, isRSA := t.key.Public().(*rsa.PublicKey)
	if !isRSA {
		t.aead(ctx, usages)
		return
	}
	if len(t.caps.OAEPHashes) == 0 && !t.caps.RawRSA {
		t.none(ctx, usages&(backend.UsageEncrypt|backend.UsageDecrypt))
	}
	for _, h := range t.caps.OAEPHashes {
		opts := &rsa.OAEPOptions{Hash: h}
		// RFC 8017, Section 7.1.1: mLen <= k - 2hLen - 2.
		plaintext := draw(1, max(1, public.Size()-2*h.Size()-2))
		if usages.Has(backend.UsageEncrypt) {
			t.step(ctx, backend.UsageEncrypt, "RSA OAEP with "+h.String(), func() error {
				_, err := t.k.EncryptContext(ctx, plaintext, opts)
				return err
			}, nil)
		}
		if usages.Has(backend.UsageDecrypt) {
			ciphertext, err := encryptOAEP(t.key, plaintext, opts)
			t.back(ctx, backend.UsageDecrypt, "RSA OAEP with "+h.String(), plaintext, ciphertext, func(ciphertext []byte) ([]byte, error) {
				if err != nil {
					return nil, err
				}
				return t.k.DecryptContext(ctx, ciphertext, opts)
			}, nil)
		}
	}
	if t.caps.RawRSA && usages.Has(backend.UsageDecrypt) {
		t.rawRSA(ctx, public)
	}
}

// rawRSA decrypts a random number without a padding. Every ciphertext is one of something there, so that none is refused.
func (t *trial) rawRSA(ctx context.Context, public *rsa.PublicKey) {
	plaintext := draw(public.Size(), 0)
	plaintext[0] = 0 // less than the modulus
	m := new(big.Int).SetBytes(plaintext)
	ciphertext := m.Exp(m, big.NewInt(int64(public.E)), public.N).FillBytes(make([]byte, public.Size()))
	var got []byte
	t.step(ctx, backend.UsageDecrypt, "RSA without padding", func() (err error) {
		got, err = t.k.DecryptContext(ctx, ciphertext, new(backend.RawRSAOptions))
		return err
	}, func() error { return equal(got, plaintext) })
}

func equal(got, want []byte) error {
	if !bytes.Equal(got, want) {
		return wrongf("it decrypts to something else")
	}
	return nil
}

// back is the step of an inverse operation: it must give plaintext for ciphertext, refuse one that was altered, and pass
// more, which may be nil. With nil for a ciphertext, because making one isn't allowed, garbage must be refused.
func (t *trial) back(ctx context.Context, usage backend.Usage, algorithm string, plaintext, ciphertext []byte,
	open func(ciphertext []byte) ([]byte, error), more func() error) {
	if ciphertext == nil {
		t.step(ctx, usage, algorithm, func() error {
			_, err := open(draw(4*testSize, 0))
			return refused(err, backend.ErrDecryption, "garbage")
		}, nil)
		return
	}
	var got []byte
	t.step(ctx, usage, algorithm, func() (err error) {
		got, err = open(ciphertext)
		return err
	}, func() error {
		if err := equal(got, plaintext); err != nil {
			return err
		}
		_, err := open(altered(ciphertext))
		if err = refused(err, backend.ErrDecryption, "a ciphertext that was altered"); err != nil || more == nil {
			return err
		}
		return more()
	})
}
