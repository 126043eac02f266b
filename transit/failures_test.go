package transit

import (
	"bytes"
	"crypto"
	"crypto/rsa"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"math/big"
	"strings"
	"testing"

	"github.com/managedkeys/managedkeys/backend"
	"github.com/managedkeys/managedkeys/managedkey"
	"github.com/managedkeys/managedkeys/namespace"
)

// encryptRaw is RSAEP (RFC 8017, Section 5.1.1).
func encryptRaw(public *rsa.PublicKey, message []byte) []byte {
	c := new(big.Int).Exp(new(big.Int).SetBytes(message), big.NewInt(int64(public.E)), public.N)
	return c.FillBytes(make([]byte, public.Size()))
}

// encodeOAEP is EME-OAEP without a label (RFC 8017, Section 7.1.1, step 2) of a message of 6 bytes, with a data block that spoil has changed
// before it was masked, and the first byte.
func encodeOAEP(h crypto.Hash, k int, first byte, spoil func(db []byte)) []byte {
	hLen := h.Size()
	db := make([]byte, k-hLen-1)
	copy(db, digest(h, nil))
	db[len(db)-7] = 1
	copy(db[len(db)-6:], "secret")
	spoil(db)
	seed := bytes.Repeat([]byte{7}, hLen)
	mask := func(of []byte, n int) []byte { // MGF1 (RFC 8017, Appendix B.2.1)
		var out []byte
		for i := uint32(0); len(out) < n; i++ {
			out = append(out, digest(h, binary.BigEndian.AppendUint32(bytes.Clone(of), i))...)
		}
		return out[:n]
	}
	xor := func(dst, with []byte) {
		for i := range dst {
			dst[i] ^= with[i]
		}
	}
	xor(db, mask(seed, len(db)))
	xor(seed, mask(db, hLen))
	return append(append([]byte{first}, seed...), db...)
}

// wrongOAEP are ciphertexts that fail at each step of decoding, and what has no step to come to.
func wrongOAEP(public *rsa.PublicKey, h crypto.Hash) map[string][]byte {
	k, hLen, good := public.Size(), h.Size(), func([]byte) {}
	block := func(first byte, spoil func(db []byte)) []byte {
		return encryptRaw(public, encodeOAEP(h, k, first, spoil))
	}
	right := block(0, good)
	return map[string][]byte{
		"first byte":         block(1, good),
		"hash of the label":  block(0, func(db []byte) { db[0] ^= 1 }),
		"end of that hash":   block(0, func(db []byte) { db[hLen-1] ^= 0x80 }),
		"padding":            block(0, func(db []byte) { db[hLen] = 2 }),
		"end of the padding": block(0, func(db []byte) { db[len(db)-8] = 0xff }),
		"separator":          block(0, func(db []byte) { db[len(db)-7] = 2 }),
		"no separator":       block(0, func(db []byte) { clear(db[hLen:]) }),
		"all":                block(1, func(db []byte) { db[0]++; db[hLen] = 2 }),
		"zero":               make([]byte, k),
		"one":                append(make([]byte, k-1), 1),
		"modulus":            public.N.Bytes(),
		"too large":          bytes.Repeat([]byte{0xff}, k),
		"short":              right[1:],
		"long":               append([]byte{0}, right...),
		"a byte":             {1},
	}
}

// wrongAEAD are ciphertexts that were changed everywhere.
func wrongAEAD(good []byte) map[string][]byte {
	flip := func(i int) []byte {
		bad := bytes.Clone(good)
		bad[i] ^= 1
		return bad
	}
	return map[string][]byte{
		"first byte": flip(0), "byte 12": flip(12), "middle": flip(len(good) / 2), "first byte of the tag": flip(len(good) - 16), "last byte": flip(len(good) - 1),
		"cut": good[:len(good)-1], "without the first": good[1:], "long": append(bytes.Clone(good), 0), "short": good[:27], "nonce": good[:12], "less": good[:11], "a byte": {1},
	}
}

// sentinels are the kinds of errors that a caller can tell from each other.
var sentinels = []error{
	backend.ErrKeyNotFound, backend.ErrKeyExists, backend.ErrAmbiguousKey, backend.ErrUnsupported, errors.ErrUnsupported, backend.ErrNotPermitted, backend.ErrUnavailable,
	backend.ErrThrottled, backend.ErrCredentials, backend.ErrKeyDisabled, backend.ErrKeyChanged, backend.ErrInvalidSignature, backend.ErrInvalidParams,
}

// alike checks that an error is that of every decryption that fails.
func alike(t *testing.T, what string, got []byte, err error) {
	t.Helper()
	if got != nil || !errors.Is(err, backend.ErrDecryption) || err.Error() != "transit: decryption failed" {
		t.Errorf("%s: got %x, %v", what, got, err)
	}
	for _, s := range sentinels {
		if errors.Is(err, s) {
			t.Errorf("%s: the error is %v as well", what, s)
		}
	}
	for e := err; e != nil; e = errors.Unwrap(e) { // what errors.As could find
		if kind := fmt.Sprintf("%T", e); kind != "*fmt.wrapError" && kind != "*errors.errorString" {
			t.Errorf("%s: the error has a %s in it", what, kind)
		}
	}
}

// tryFailures decrypts everything that can be wrong with a key's ciphertexts, one by one and as a batch.
func tryFailures(t *testing.T, e *Engine, name string, r EncryptRequest) {
	t.Helper()
	ctx := t.Context()
	text, err := e.Encrypt(ctx, name, r)
	fatal(t, err)
	request := DecryptRequest{Ciphertext: text, AssociatedData: r.AssociatedData, Context: r.Context}
	if got, err := e.Decrypt(ctx, name, request); err != nil || !bytes.Equal(got, r.Plaintext) {
		t.Fatalf("%s: got %q, %v", name, got, err)
	}
	raw, _ := decode(decoded(text), base64.StdEncoding)
	wrong, v := wrongAEAD(raw), e.known(name).version(1)
	if public, ok := v.public.(*rsa.PublicKey); ok {
		h, herr := e.handle(ctx, e.known(name), v)
		fatal(t, herr)
		pad, perr := v.oaep(h.Capabilities(), nil)
		fatal(t, perr)
		wrong = wrongOAEP(public, pad.oaep.Hash)
		request.Ciphertext = format(1, encryptRaw(public, encodeOAEP(pad.oaep.Hash, public.Size(), 0, func([]byte) {})), base64.StdEncoding)
		if got, err := e.Decrypt(ctx, name, request); err != nil || string(got) != "secret" { // so that the others are wrong in one place only
			t.Fatalf("%s: the encoding of this test: got %q, %v", name, got, err)
		}
	} else {
		other := request
		other.AssociatedData = []byte("other")
		got, err := e.Decrypt(ctx, name, other)
		alike(t, name+", associated data", got, err)
		if r.Context != nil {
			other = request
			other.Context = []byte("other")
			got, err := e.Decrypt(ctx, name, other)
			alike(t, name+", context", got, err)
		}
	}
	var all []DecryptRequest
	for class, raw := range wrong {
		request.Ciphertext = format(1, raw, base64.StdEncoding)
		got, err := e.Decrypt(ctx, name, request)
		alike(t, name+", "+class, got, err)
		got, err = e.DecryptBytes(ctx, name, raw, 1, request)
		alike(t, name+", bytes, "+class, got, err)
		_, err = e.Rewrap(ctx, name, RewrapRequest{Ciphertext: request.Ciphertext, AssociatedData: r.AssociatedData, Context: r.Context})
		alike(t, name+", rewrap, "+class, nil, err)
		all = append(all, request)
	}
	results, err := e.DecryptBatch(ctx, name, all)
	fatal(t, err)
	for _, result := range results {
		alike(t, name+", batch", result.Value, result.Err)
	}
}

// TestFailuresAlike: whatever is wrong with a ciphertext, of whichever key manager, has the very same error, in which nothing else can
// be found.
func TestFailuresAlike(t *testing.T) {
	t.Run("software", func(t *testing.T) {
		h := newSoftHouse(t)
		for _, name := range []string{"aes", "rsa"} {
			h.addManaged(t, name, allUsages)
			h.create(t, name, KeyOptions{ManagedKey: name})
		}
		for _, kind := range []string{TypeAES128, TypeAES256, TypeChaCha20Poly1305, TypeXChaCha20Poly1305, TypeRSA2048} {
			h.create(t, kind, KeyOptions{Type: kind})
			if strings.HasPrefix(kind, "rsa") {
				continue
			}
			h.create(t, kind+"-derived", KeyOptions{Type: kind, Derived: true})
			h.create(t, kind+"-convergent", KeyOptions{Type: kind, Derived: true, Convergent: true})
		}
		for _, name := range h.engine.List() {
			r := EncryptRequest{Plaintext: []byte("secret")}
			if h.engine.known(name).rec.Derived {
				r.Context = []byte("context")
			}
			tryFailures(t, h.engine, name, r)
		}
	})
	for kind, start := range keepers {
		t.Run(kind, func(t *testing.T) {
			k, n := start(t), 0
			defer k.b.Close()
			r := managedkey.NewRegistry()
			mount, err := r.Mount(t.Context(), "", "transit")
			fatal(t, err)
			e := New(mount, nil)
			for _, key := range k.keys {
				if !strings.Contains(key.can, "encrypt") {
					continue
				}
				if key.material != nil {
					_, err := k.b.(backend.Importer).Import(t.Context(), key.params, key.material, nil)
					fatal(t, err)
				}
				fatal(t, r.Create(t.Context(), managedkey.Entry{
					Ref: namespace.Ref{Name: key.name}, Backend: k.b, Params: key.params, AllowGenerateKey: true, AnyMount: true, Usages: allUsages,
				}))
				fatal(t, e.CreateKey(t.Context(), key.name, KeyOptions{ManagedKey: key.name}))
				tryFailures(t, e, key.name, EncryptRequest{Plaintext: []byte("secret")})
				n++
			}
			if n == 0 {
				t.Error("no key encrypts")
			}
		})
	}
}
