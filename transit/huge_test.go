package transit

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/base64"
	"encoding/json"
	"errors"
	"math/big"
	"strings"
	"testing"
	"time"

	"github.com/managedkeys/managedkeys/backend"
	"github.com/managedkeys/managedkeys/internal/rsasize"
)

// hugePolicy is a backup of Vault of an RSA key whose numbers have that many digits.
func hugePolicy(tb testing.TB, digits int) string {
	tb.Helper()
	n := json.RawMessage(strings.Repeat("9", digits))
	key := map[string]any{"rsa_key": map[string]any{"N": n, "E": 65537, "D": n, "Primes": []any{n, n}}}
	data, err := json.Marshal(map[string]any{"policy": map[string]any{"name": "k", "type": 3, "latest_version": 1, "keys": map[string]any{"1": key}}})
	if err != nil {
		tb.Fatal(err)
	}
	return base64.StdEncoding.EncodeToString(data)
}

// Numbers that no key has are refused before anything is computed with them: with 10,000 digits that would take a minute, and reading
// one with a million takes seconds.
func TestRestoreHugeNumbers(t *testing.T) {
	e := newSoftHouse(t).engine
	for _, digits := range []int{maxDigits + 1, 10_000, 400_000} {
		err := e.Restore(t.Context(), "k", hugePolicy(t, digits), false)
		wantError(t, err, backend.ErrInvalidParams, "the policy can't be read")
	}
	err := e.Restore(t.Context(), "k", hugePolicy(t, maxDigits), false)
	wantError(t, err, backend.ErrInvalidParams, "not sound")

	ended, cancel := context.WithCancel(t.Context())
	cancel()
	if err := e.Restore(ended, "k", hugePolicy(t, maxDigits), false); !errors.Is(err, context.Canceled) {
		t.Errorf("with a context that has ended: %v", err)
	}
	if IsManagedBackup(hugePolicy(t, maxDigits)) {
		t.Error("a software key counts as managed")
	}
}

// A certificate whose issuer has a key that takes minutes to verify with is refused before that.
func TestCertificateOfHugeKey(t *testing.T) {
	h := newSoftHouse(t)
	h.create(t, "k", KeyOptions{Type: TypeP256})
	info, err := h.engine.Key("k")
	if err != nil {
		t.Fatal(err)
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	modulus := new(big.Int).Lsh(big.NewInt(1), rsasize.Most)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test"}, NotAfter: time.Now().Add(time.Hour), BasicConstraintsValid: true, IsCA: true,
	}
	huge, err := x509.CreateCertificate(rand.Reader, template, template, &rsa.PublicKey{N: modulus.SetBit(modulus, 0, 1), E: 65537}, key)
	if err != nil {
		t.Fatal(err)
	}
	template.IsCA = false
	leaf, err := x509.CreateCertificate(rand.Reader, template, template, info.Versions[0].PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	err = h.engine.SetCertificate(t.Context(), "k", 1, [][]byte{leaf, huge})
	wantError(t, err, backend.ErrInvalidParams, "certificate 1: RSA key of 8193 bits")
}

// As is a private key.
func TestImportHugeKey(t *testing.T) {
	h := newSoftHouse(t)
	modulus := new(big.Int).Lsh(big.NewInt(1), rsasize.Most)
	inner, err := asn1.Marshal(struct{ Version, N, E, D, P, Q, DP, DQ, QI *big.Int }{
		new(big.Int), modulus, big.NewInt(65537), modulus, modulus, modulus, modulus, modulus, modulus,
	})
	if err != nil {
		t.Fatal(err)
	}
	der, err := asn1.Marshal(struct {
		Version   int
		Algorithm pkix.AlgorithmIdentifier
		Key       []byte
	}{0, pkix.AlgorithmIdentifier{Algorithm: asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 1, 1}, Parameters: asn1.NullRawValue}, inner})
	if err != nil {
		t.Fatal(err)
	}
	in := Import{Ciphertext: wrapped(t, h.engine, crypto.SHA256, der)}
	err = h.engine.ImportKey(t.Context(), "k", in, KeyOptions{Type: TypeRSA2048}, false)
	wantError(t, err, backend.ErrInvalidParams, "RSA key with a number")
}
