package pki_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"fmt"
	"log"
	"math/big"
	"time"

	"github.com/managedkeys/managedkeys/backend/software"
	"github.com/managedkeys/managedkeys/managedkey"
	"github.com/managedkeys/managedkeys/namespace"
	"github.com/managedkeys/managedkeys/pki"
)

// mount returns a mount with grants for newly made keys of these names.
func mount(ctx context.Context, names ...string) *managedkey.Mount {
	keys := managedkey.NewRegistry()
	keeper := software.New(nil)
	for _, name := range names {
		err := keys.Create(ctx, managedkey.Entry{
			Ref:              namespace.Ref{Namespace: "team-a", Name: name},
			Backend:          keeper,
			Params:           software.Params{KeyName: name, KeyType: software.ECDSA, Curve: software.P256},
			AllowGenerateKey: true,
		})
		if err != nil {
			log.Fatal(err)
		}
	}
	m, err := keys.Mount(ctx, "team-a", "pki", names...)
	if err != nil {
		log.Fatal(err)
	}
	return m
}

func Example() {
	ctx := context.Background()
	engine := pki.New(mount(ctx, "root", "issuing"), nil)
	root, err := engine.CreateRoot(ctx, "root", pki.CATemplate{
		Subject:  pkix.Name{Organization: []string{"Example"}, CommonName: "Example Root"},
		Validity: 10 * 365 * 24 * time.Hour,
	})
	if err != nil {
		log.Fatal(err)
	}

	// The intermediate's key is a managed key, too: it makes its request, and the root signs it.
	request, err := engine.CreateCSR(ctx, "issuing", pki.CSRTemplate{
		Subject: pkix.Name{Organization: []string{"Example"}, CommonName: "Example Issuing"},
	})
	if err != nil {
		log.Fatal(err)
	}
	intermediate, err := root.SignIntermediate(ctx, request, pki.CATemplate{Validity: 365 * 24 * time.Hour, MaxPathLen: new(0)})
	if err != nil {
		log.Fatal(err)
	}
	ca, err := engine.LoadCA(ctx, "issuing", append([]*x509.Certificate{intermediate}, root.Chain()...))
	if err != nil {
		log.Fatal(err)
	}

	// A server's request, as openssl req would make it.
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		log.Fatal(err)
	}
	csr, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{DNSNames: []string{"www.example.com"}}, key)
	if err != nil {
		log.Fatal(err)
	}
	issued, err := ca.SignCSR(ctx, csr, pki.LeafTemplate{Validity: 90 * 24 * time.Hour})
	if err != nil {
		log.Fatal(err)
	}
	roots, intermediates := x509.NewCertPool(), x509.NewCertPool()
	roots.AddCert(root.Certificate())
	intermediates.AddCert(ca.Certificate())
	_, err = issued.Certificate.Verify(x509.VerifyOptions{DNSName: "www.example.com", Roots: roots, Intermediates: intermediates})
	fmt.Println(issued.Certificate.Issuer, issued.Certificate.DNSNames, err)
	// Output: CN=Example Issuing,O=Example [www.example.com] <nil>
}

func ExampleCA_CRL() {
	ctx := context.Background()
	root, err := pki.New(mount(ctx, "root"), nil).CreateRoot(ctx, "root", pki.CATemplate{
		Subject:  pkix.Name{CommonName: "Example Root"},
		Validity: 10 * 365 * 24 * time.Hour,
	})
	if err != nil {
		log.Fatal(err)
	}
	der, err := root.CRL(ctx, pki.CRLTemplate{
		Number:   big.NewInt(1),
		Validity: 10 * 24 * time.Hour,
		Revoked:  []x509.RevocationListEntry{{SerialNumber: big.NewInt(4711), RevocationTime: time.Now(), ReasonCode: 1}},
	})
	if err != nil {
		log.Fatal(err)
	}
	crl, err := x509.ParseRevocationList(der)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(crl.Number, crl.RevokedCertificateEntries[0].SerialNumber, crl.CheckSignatureFrom(root.Certificate()))
	// Output: 1 4711 <nil>
}
