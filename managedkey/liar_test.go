package managedkey

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ecdh"
	"crypto/rsa"
	"errors"
	"fmt"
	"math/big"
	"testing"

	"github.com/managedkeys/managedkeys/backend"
	"github.com/managedkeys/managedkeys/backend/software"
)

// never returns what fn does, without its error.
func never(fn func() ([]byte, error)) ([]byte, error) {
	out, err := fn()
	if err != nil {
		return []byte("as if nothing had happened"), nil
	}
	return out, nil
}

// lies are wrong answers of a key manager, and the usage whose step must find each.
var lies = map[string]struct {
	kind   string
	found  backend.Usage
	want   error
	change func(backend.Key) backend.Key
}{
	"signature of another message": {"ecdsa", backend.UsageSign, backend.ErrInvalidSignature, func(k backend.Key) backend.Key {
		return writes{k.(backend.MessageSigner), func(s backend.MessageSigner, m []byte, opts crypto.SignerOpts) ([]byte, error) {
			return s.SignMessageContext(context.Background(), altered(m), opts)
		}}
	}},
	"signature of another scheme": {"rsa", backend.UsageSign, backend.ErrInvalidSignature, func(k backend.Key) backend.Key {
		return writes{k.(backend.MessageSigner), func(s backend.MessageSigner, m []byte, opts crypto.SignerOpts) ([]byte, error) {
			return s.SignMessageContext(context.Background(), m, opts.HashFunc())
		}}
	}},
	"no signature": {"ed25519", backend.UsageSign, backend.ErrInvalidSignature, func(k backend.Key) backend.Key {
		return writes{k.(backend.MessageSigner), func(backend.MessageSigner, []byte, crypto.SignerOpts) ([]byte, error) { return nil, nil }}
	}},
	"verifies nothing": {"mldsa", backend.UsageVerify, backend.ErrInvalidSignature, func(k backend.Key) backend.Key {
		return verifies{k.(backend.MessageSigner), backend.ErrInvalidSignature}
	}},
	"verifies everything": {"ecdsa", backend.UsageVerify, backend.ErrIntegrity, func(k backend.Key) backend.Key {
		return verifies{k.(backend.MessageSigner), nil}
	}},
	"declares no signature algorithm": {"ecdsa", backend.UsageSign, backend.ErrUnsupported, func(k backend.Key) backend.Key {
		return declares{k, func(c *backend.Capabilities) { c.Signatures = nil }}
	}},
	"declares encryption that it hasn't": {"ecdsa", backend.UsageEncrypt, backend.ErrUnsupported, func(k backend.Key) backend.Key {
		return declares{k, func(c *backend.Capabilities) { c.Usages |= backend.UsageEncrypt }}
	}},
	"declares no padding": {"rsa", backend.UsageDecrypt, backend.ErrUnsupported, func(k backend.Key) backend.Key {
		return declares{k, func(c *backend.Capabilities) { c.OAEPHashes = nil }}
	}},
	"decrypts to something else": {"rsa", backend.UsageDecrypt, backend.ErrIntegrity, func(k backend.Key) backend.Key {
		return decrypts{k.(backend.Decrypter), func(d backend.Decrypter, c []byte, opts crypto.DecrypterOpts) ([]byte, error) {
			p, err := d.DecryptContext(context.Background(), c, opts)
			return altered(p), err
		}}
	}},
	"decrypts everything": {"rsa", backend.UsageDecrypt, backend.ErrIntegrity, func(k backend.Key) backend.Key {
		return decrypts{k.(backend.Decrypter), func(d backend.Decrypter, c []byte, opts crypto.DecrypterOpts) ([]byte, error) {
			return never(func() ([]byte, error) { return d.DecryptContext(context.Background(), c, opts) })
		}}
	}},
	"says why it doesn't decrypt": {"rsa", backend.UsageDecrypt, backend.ErrInvalidParams, func(k backend.Key) backend.Key {
		return decrypts{k.(backend.Decrypter), func(d backend.Decrypter, c []byte, opts crypto.DecrypterOpts) ([]byte, error) {
			p, err := d.DecryptContext(context.Background(), c, opts)
			if err != nil {
				err = fmt.Errorf("bad padding: %w", backend.ErrInvalidParams)
			}
			return p, err
		}}
	}},
	"encrypts nothing": {"aes", backend.UsageEncrypt, backend.ErrIntegrity, func(k backend.Key) backend.Key {
		return seals{k.(backend.AEAD), func(_ backend.AEAD, p, _ []byte) ([]byte, error) { return bytes.Clone(p), nil }, nil}
	}},
	"encrypts to nothing": {"aes", backend.UsageEncrypt, backend.ErrIntegrity, func(k backend.Key) backend.Key {
		return seals{k.(backend.AEAD), func(backend.AEAD, []byte, []byte) ([]byte, error) { return nil, nil }, nil}
	}},
	"opens to something else": {"aes", backend.UsageDecrypt, backend.ErrIntegrity, func(k backend.Key) backend.Key {
		return seals{k.(backend.AEAD), nil, func(a backend.AEAD, c, d []byte) ([]byte, error) {
			p, err := a.Open(context.Background(), c, d)
			return altered(p), err
		}}
	}},
	"opens everything": {"aes", backend.UsageDecrypt, backend.ErrIntegrity, func(k backend.Key) backend.Key {
		return seals{k.(backend.AEAD), nil, func(a backend.AEAD, c, d []byte) ([]byte, error) {
			return never(func() ([]byte, error) { return a.Open(context.Background(), c, d) })
		}}
	}},
	"ignores additional data": {"aes", backend.UsageDecrypt, backend.ErrIntegrity, func(k backend.Key) backend.Key {
		return seals{k.(backend.AEAD),
			func(a backend.AEAD, p, _ []byte) ([]byte, error) { return a.Seal(context.Background(), p, nil) },
			func(a backend.AEAD, c, _ []byte) ([]byte, error) { return a.Open(context.Background(), c, nil) }}
	}},
	"a MAC of nothing": {"hmac", backend.UsageMAC, backend.ErrIntegrity, func(k backend.Key) backend.Key {
		return macs{k.(backend.MAC),
			func(m backend.MAC, a backend.MACAlgorithm, _ []byte) ([]byte, error) {
				return m.ComputeMAC(context.Background(), a, nil)
			},
			func(m backend.MAC, a backend.MACAlgorithm, _, mac []byte) error {
				return m.VerifyMAC(context.Background(), a, nil, mac)
			}}
	}},
	"a short MAC": {"hmac", backend.UsageMAC, backend.ErrIntegrity, func(k backend.Key) backend.Key {
		return macs{k.(backend.MAC), func(m backend.MAC, a backend.MACAlgorithm, message []byte) ([]byte, error) {
			mac, err := m.ComputeMAC(context.Background(), a, message)
			return mac[:8], err
		}, func(backend.MAC, backend.MACAlgorithm, []byte, []byte) error { return nil }}
	}},
	"another MAC": {"hmac", backend.UsageMAC, backend.ErrInvalidSignature, func(k backend.Key) backend.Key {
		return macs{k.(backend.MAC), func(m backend.MAC, a backend.MACAlgorithm, message []byte) ([]byte, error) {
			return m.ComputeMAC(context.Background(), a, altered(message))
		}, nil}
	}},
	"a MAC of which not all counts": {"hmac", backend.UsageMAC, backend.ErrIntegrity, func(k backend.Key) backend.Key {
		return macs{k.(backend.MAC), nil, func(m backend.MAC, a backend.MACAlgorithm, message, mac []byte) error {
			want, _ := m.ComputeMAC(context.Background(), a, message)
			if !bytes.Equal(mac[:4], want[:4]) {
				return backend.ErrInvalidSignature
			}
			return nil
		}}
	}},
	"wraps nothing": {"aes", backend.UsageWrap, backend.ErrIntegrity, func(k backend.Key) backend.Key {
		return wraps{k.(backend.Wrapper), func(_ backend.Wrapper, d []byte) ([]byte, error) { return append([]byte{1}, d...), nil }, nil}
	}},
	"unwraps to something else": {"rsa", backend.UsageUnwrap, backend.ErrIntegrity, func(k backend.Key) backend.Key {
		return wraps{k.(backend.Wrapper), nil, func(w backend.Wrapper, d []byte) ([]byte, error) {
			m, err := w.UnwrapKey(context.Background(), d)
			return append(m, 0), err
		}}
	}},
	"unwraps everything": {"aes", backend.UsageUnwrap, backend.ErrIntegrity, func(k backend.Key) backend.Key {
		return wraps{k.(backend.Wrapper), nil, func(w backend.Wrapper, d []byte) ([]byte, error) {
			return never(func() ([]byte, error) { return w.UnwrapKey(context.Background(), d) })
		}}
	}},
	"agrees on something else": {"p384", backend.UsageDerive, backend.ErrIntegrity, func(k backend.Key) backend.Key {
		return agrees{k.(backend.KeyAgreer), func(a backend.KeyAgreer, _ *ecdh.PublicKey) ([]byte, error) {
			return a.ECDHContext(context.Background(), a.PublicKey())
		}}
	}},
	"decapsulates to something else": {"mlkem", backend.UsageDerive, backend.ErrIntegrity, func(k backend.Key) backend.Key {
		return decapsulates{k.(backend.Decapsulator), func(d backend.Decapsulator, c []byte) ([]byte, error) {
			return d.DecapsulateContext(context.Background(), altered(c))
		}}
	}},
	"derives without a way": {"ed25519", backend.UsageDerive, backend.ErrUnsupported, func(k backend.Key) backend.Key {
		return declares{k, func(c *backend.Capabilities) { c.Usages |= backend.UsageDerive }}
	}},
	"random bytes that repeat": {"hmac", backend.UsageGenerateRandom, backend.ErrIntegrity, func(k backend.Key) backend.Key {
		return draws{k.(backend.Random), func(_ backend.Random, n int) ([]byte, error) { return make([]byte, n), nil }}
	}},
	"too few random bytes": {"aes", backend.UsageGenerateRandom, backend.ErrIntegrity, func(k backend.Key) backend.Key {
		return draws{k.(backend.Random), func(r backend.Random, n int) ([]byte, error) {
			return r.GenerateRandom(context.Background(), n-1)
		}}
	}},
}

// TestFindsLies: a key manager that answers wrongly is found, in the right step.
func TestFindsLies(t *testing.T) {
	b := software.New(nil)
	defer b.Close()
	for kind := range softwareKinds {
		r := NewRegistry()
		mustCreate(t, r, softwareEntry(b, kind, 0))
		mustKey(t, r, "a/"+kind)
	}
	for lie, c := range lies {
		t.Run(lie, func(t *testing.T) {
			r := NewRegistry()
			mustCreate(t, r, softwareEntry(liar{b, c.change}, c.kind, allUsages))
			report, err := r.Test(t.Context(), ref("a/"+c.kind), nil)
			check(t, err, c.want)
			found := false
			for _, s := range report.Steps {
				found = found || s.Usage == c.found && errors.Is(s.Err, c.want)
			}
			if !found {
				t.Errorf("no step of %s failed with %q:\n%s", c.found, c.want, report)
			}
		})
	}
}

// raw is an RSA key that decrypts without a padding.
type raw struct {
	backend.Decrypter
	private *rsa.PrivateKey
	wrong   byte
}

func (k raw) Capabilities() backend.Capabilities {
	return backend.Capabilities{Algorithm: "RSA-2048", Usages: backend.UsageDecrypt, RawRSA: true}
}

func (k raw) Public() crypto.PublicKey { return k.private.Public() }

func (k raw) DecryptContext(_ context.Context, ciphertext []byte, opts crypto.DecrypterOpts) ([]byte, error) {
	if _, ok := opts.(*backend.RawRSAOptions); !ok {
		return nil, backend.ErrUnsupported
	}
	c := new(big.Int).SetBytes(ciphertext)
	plaintext := c.Exp(c, k.private.D, k.private.N).FillBytes(make([]byte, k.private.Size()))
	plaintext[5] ^= k.wrong
	return plaintext, nil
}

func TestRawRSA(t *testing.T) {
	private, err := rsa.GenerateKey(nil, 2048)
	if err != nil {
		t.Fatal(err)
	}
	for wrong, want := range []error{nil, backend.ErrIntegrity} {
		v := newVault()
		v.set("a/rsa", withID{raw{private: private, wrong: byte(wrong)}})
		r := NewRegistry()
		mustCreate(t, r, entryOf(newClient(v), "a/rsa", backend.UsageDecrypt|backend.UsageEncrypt))
		report, err := r.Test(t.Context(), ref("a/rsa"), nil)
		check(t, err, want)
		if len(report.Steps) != 1 || report.Steps[0].Algorithm != "RSA without padding" {
			t.Errorf("the steps are %+v", report.Steps)
		}
	}
}

type withID struct{ raw }

func (withID) ID() string { return "raw" }
