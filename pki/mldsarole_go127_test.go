//go:build go1.27

package pki

import (
	"crypto"
	"crypto/x509"
	"errors"
	"testing"
	"time"

	"filippo.io/mldsa"
)

// TestMLDSARoles: roles issue and sign certificates with ML-DSA keys of each parameter set (RFC 9881), under issuers with ML-DSA keys and
// others; a weaker key than the role's is refused, and so is one of another kind.
func TestMLDSARoles(t *testing.T) {
	sets := map[int]mldsa.Parameters{44: mldsa.MLDSA44(), 65: mldsa.MLDSA65(), 87: mldsa.MLDSA87()}
	for _, ca := range []string{"mldsa65", "mldsa87", "p256"} {
		t.Run(ca, func(t *testing.T) {
			f := newFirm(t, nil)
			root := f.root(t, ca, "root")
			for bits, set := range sets {
				r := anyRole("r")
				r.KeyType, r.KeyBits = "ml-dsa", bits
				f.role(t, r)
				pair := f.issue(t, "r", "a.example")
				cert := pair.Certificate
				if pub, ok := cert.PublicKey.(*mldsa.PublicKey); !ok || pub.Parameters() != set || !equalKeys(pair.Key.Public(), cert.PublicKey) {
					t.Errorf("%d: a key of the type %T", bits, cert.PublicKey)
				}
				if cert.KeyUsage != x509.KeyUsageDigitalSignature {
					t.Errorf("%d: key usage %b; RFC 9881, Section 5, has no key encipherment and no key agreement", bits, cert.KeyUsage)
				}
				verify(t, cert, root.Certificate())
				der, err := x509.MarshalPKCS8PrivateKey(pair.Key)
				must(t, err)
				back, err := x509.ParsePKCS8PrivateKey(der)
				must(t, err)
				if !equalKeys(back.(interface{ Public() crypto.PublicKey }).Public(), cert.PublicKey) {
					t.Errorf("%d: the private key reads back as another one", bits)
				}
				for size, made := range sets {
					key, err := mldsa.GenerateKey(made)
					must(t, err)
					issued, err := f.Sign(t.Context(), "r", makeCSR(t, key, nil), cn("b.example"))
					if size == bits {
						must(t, err)
						verify(t, issued.Certificate, root.Certificate())
						if !equalKeys(key.Public(), issued.Certificate.PublicKey) {
							t.Errorf("%d: another key than the request's", bits)
						}
						continue
					}
					var refused *RoleError
					if size < bits && !errors.As(err, &refused) {
						t.Errorf("a role for %d took a key of %d: %v", bits, size, err)
					}
				}
				var refused *RoleError
				if _, err := f.Sign(t.Context(), "r", makeCSR(t, testKeys()["p256-b"], nil), cn("b.example")); !errors.As(err, &refused) {
					t.Errorf("%d: an EC key: %v", bits, err)
				}
				_, err = f.Revoke(t.Context(), serialOf(pair), ReasonSuperseded, time.Time{})
				must(t, err)
				must(t, f.DeleteRole(t.Context(), "r"))
			}
			if list := f.list(t, "root"); len(list.RevokedCertificateEntries) != len(sets) || list.CheckSignatureFrom(root.Certificate()) != nil {
				t.Errorf("%d are revoked", len(list.RevokedCertificateEntries))
			}
		})
	}
}
