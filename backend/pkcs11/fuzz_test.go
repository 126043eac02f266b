package pkcs11

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rsa"
	"encoding/asn1"
	"encoding/json"
	"errors"
	"fmt"
	"math/big"
	"strings"
	"testing"

	"filippo.io/mldsa"

	"github.com/managedkeys/managedkeys/backend"
)

// FuzzMaterial: whatever a token says of a key, the public key that is made of it is none, or one of the right kind that
// can be verified with.
func FuzzMaterial(f *testing.F) {
	for name, curve := range curves {
		_, point := ecPoint(f, curve)
		params, err := ecParams(name)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(uint64(keyEC), []byte(nil), []byte(nil), params, mustDER(f, point), []byte(nil), []byte(nil), uint64(0))
	}
	f.Add(uint64(keyRSA), anRSAKey().N.Bytes(), []byte{1, 0, 1}, []byte(nil), []byte(nil), []byte(nil), []byte(nil), uint64(0))
	f.Add(uint64(keyEdDSA), []byte(nil), []byte(nil), ed25519Params[0], make([]byte, 32), []byte(nil), []byte(nil), uint64(0))
	key, err := mldsa.GenerateKey(mldsa.MLDSA44())
	if err != nil {
		f.Fatal(err)
	}
	f.Add(uint64(keyMLDSA), []byte(nil), []byte(nil), []byte(nil), []byte(nil), []byte(nil), key.PublicKey().Bytes(), uint64(1))
	info, err := backend.SubjectPublicKeyInfo(anRSAKey().Public())
	if err != nil {
		f.Fatal(err)
	}
	f.Add(uint64(keyRSA), []byte(nil), []byte(nil), []byte(nil), []byte(nil), info, []byte(nil), uint64(0))
	f.Fuzz(func(t *testing.T, kind uint64, modulus, exponent, params, point, info, value []byte, set uint64) {
		m := material{modulus: modulus, exponent: exponent, params: params, point: point, info: info, value: value, set: set}
		pub := m.publicKey(keyType(kind))
		if pub == nil {
			return
		}
		if kindOf(pub) != keyType(kind) {
			t.Fatalf("%T for kind 0x%x", pub, kind)
		}
		switch pub := pub.(type) {
		case *rsa.PublicKey:
			if pub.N.Sign() <= 0 || pub.N.BitLen() > maxModulus || pub.E < 2 {
				t.Errorf("RSA key of %d bits with exponent %d", pub.N.BitLen(), pub.E)
			}
		case *ecdsa.PublicKey:
			der, err := backend.SubjectPublicKeyInfo(pub)
			if err != nil {
				t.Fatal(err)
			}
			if back, err := backend.ParsePublicKey(der); err != nil || !pub.Equal(back) { // which checks the point
				t.Errorf("read back as %v; error %v", back, err)
			}
		case ed25519.PublicKey:
			if len(pub) != ed25519.PublicKeySize {
				t.Errorf("Ed25519 key of %d bytes", len(pub))
			}
		}
		digest := make([]byte, 32)
		var opts crypto.SignerOpts = crypto.SHA256
		if keyType(kind) == keyEdDSA || keyType(kind) == keyMLDSA {
			opts = crypto.Hash(0)
		}
		if backend.Verify(pub, digest, make([]byte, 64), opts) == nil && keyType(kind) != keyEdDSA {
			t.Error("a signature of zeros is valid")
		}
		if _, err := backend.Fingerprint(pub); err != nil {
			t.Error(err)
		}
	})
}

// FuzzECDSASignature: Ecdsa-Sig-Value is what encoding/asn1 makes of the same numbers.
func FuzzECDSASignature(f *testing.F) {
	for n := 1; n <= 66; n++ {
		f.Add(bytes.Repeat([]byte{0x7f}, 2*n))
		f.Add(bytes.Repeat([]byte{0xff}, 2*n))
		f.Add(append(make([]byte, 2*n-1), 1))
		f.Add(append(append(make([]byte, n-1), 0x80), bytes.Repeat([]byte{1}, n)...))
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		if len(raw) == 0 || len(raw)%2 != 0 || len(raw) > 2*66 {
			return
		}
		half := len(raw) / 2
		r, s := new(big.Int).SetBytes(raw[:half]), new(big.Int).SetBytes(raw[half:])
		want, err := asn1.Marshal(struct{ R, S *big.Int }{r, s})
		if err != nil {
			t.Fatal(err)
		}
		got := ecdsaSignature(raw)
		if !bytes.Equal(got, want) {
			t.Errorf("%x: got %x, want %x", raw, got, want)
		}
		var back struct{ R, S *big.Int }
		if rest, err := asn1.Unmarshal(got, &back); err != nil || len(rest) > 0 || back.R.Cmp(r) != 0 || back.S.Cmp(s) != 0 {
			t.Errorf("%x: read back as %v, %v with %x left; error %v", raw, back.R, back.S, rest, err)
		}
		if cap(got) > len(got)+8 {
			t.Errorf("%d bytes have room for %d", len(got), cap(got))
		}
	})
}

// TestECDSASignatureLengths: all lengths, at the boundaries of the length of DER.
func TestECDSASignatureLengths(t *testing.T) {
	for n := 1; n <= (elliptic.P521().Params().N.BitLen()+7)/8; n++ {
		for _, first := range []byte{0, 1, 0x7f, 0x80, 0xff} {
			raw := bytes.Repeat([]byte{0x55}, 2*n)
			raw[0], raw[n] = first, first
			want, err := asn1.Marshal(struct{ R, S *big.Int }{new(big.Int).SetBytes(raw[:n]), new(big.Int).SetBytes(raw[n:])})
			if err != nil {
				t.Fatal(err)
			}
			if got := ecdsaSignature(raw); !bytes.Equal(got, want) {
				t.Errorf("%x: got %x, want %x", raw, got, want)
			}
		}
	}
}

// FuzzParamsJSON: parameters that are valid are read back as they were, and whatever else comes is an error that shows no
// PIN.
func FuzzParamsJSON(f *testing.F) {
	f.Add([]byte(`{"library":"hsm1","token_label":"t","pin":"env:PIN","key_label":"k","mechanism":"CKM_ECDSA","curve":"P256"}`))
	f.Add([]byte(`{"library":"hsm1","slot":"1","pin":"hunter2-pin","key_id":"0x01","mechanism":4161,"key_bits":2048,"max_parallel":4}`))
	f.Add([]byte(`{"library":"hsm1","token_serial":"1","pin":"hunter2-pin","key_id":"0x","mechanism":0,"parameter_set":44,"force_rw_session":true}`))
	f.Fuzz(func(t *testing.T, text []byte) {
		var p Params
		if json.Unmarshal(text, &p) != nil {
			return
		}
		if err := p.Validate(); err != nil {
			if !errors.Is(err, backend.ErrInvalidParams) {
				t.Errorf("error = %v", err)
			}
			if pin := string(p.PIN); len(pin) > 10 && strings.Contains(err.Error(), pin) && !strings.Contains(fmt.Sprint(p.KeyLabel, p.KeyID, p.Library, p.TokenLabel, p.Slot, p.Curve), pin) {
				t.Errorf("the error shows the PIN: %v", err)
			}
			return
		}
		if _, err := p.keyID(); err != nil {
			t.Error(err)
		}
		if _, err := p.slot(); err != nil {
			t.Error(err)
		}
		out, err := json.Marshal(p)
		if err != nil {
			t.Fatal(err)
		}
		var back Params
		if err := json.Unmarshal(out, &back); err != nil {
			t.Fatalf("%s: %v", out, err)
		}
		back.PIN = p.PIN // which JSON may hide
		if back != p {
			t.Errorf("read back as %v, was %v", back, p)
		}
	})
}
