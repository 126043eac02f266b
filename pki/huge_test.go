package pki

import (
	"crypto/rsa"
	"crypto/x509"
	"math/big"
	"testing"

	"github.com/managedkeys/managedkeys/backend"
	"github.com/managedkeys/managedkeys/internal/rsasize"
)

// A CA's certificate that claims to be issued by a key that takes minutes to verify with is refused before that, and such a key is no
// link of a chain that a bundle is put together to.
func TestHugeIssuer(t *testing.T) {
	f := newFirm(t, nil)
	modulus := new(big.Int).Lsh(big.NewInt(1), rsasize.Most)
	long := &rsa.PublicKey{N: modulus.SetBit(modulus, 0, 1), E: 65537}
	root := certificate(t, "root", "root", long, testKeys()["rsa-b"], nil)
	ca := certificate(t, "ca", "root", testKeys()["p256"].Public(), testKeys()["rsa-b"], nil)
	_, err := f.Import(t.Context(), KeyRef{Name: "p256"}, "ca", []*x509.Certificate{ca, root})
	wantError(t, err, backend.ErrInvalidParams, "RSA key of 8193 bits")
	wantError(t, invalid("%w", signedBy(ca, root)), backend.ErrInvalidParams, "RSA key of 8193 bits")
	if chain := inOrder(ca, []*x509.Certificate{root, ca}); len(chain) != 1 {
		t.Errorf("a chain of %d", len(chain))
	}
}
