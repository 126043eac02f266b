package pki_test

import (
	"context"
	"crypto/x509"
	"crypto/x509/pkix"
	"fmt"
	"log"
	"time"

	"github.com/managedkeys/managedkeys/managedkey/store/memory"
	"github.com/managedkeys/managedkeys/pki"
)

// An authority keeps its issuers, roles, certificates and revocations in a store.
func ExampleOpenAuthority() {
	ctx := context.Background()
	ca, err := pki.OpenAuthority(ctx, mount(ctx, "root"), memory.New(nil), nil) // in production bolt, postgres or etcd
	if err != nil {
		log.Fatal(err)
	}
	_, err = ca.GenerateRoot(ctx, pki.KeyRef{Name: "root"}, "root-2026", pki.CATemplate{
		Subject:  pkix.Name{Country: []string{"SE"}, Organization: []string{"Example"}, CommonName: "Example Root"},
		Validity: 10 * 365 * 24 * time.Hour,
	})
	if err != nil {
		log.Fatal(err)
	}

	role, err := pki.DecodeRole("web", []byte(`{"allowed_domains": "example.com", "allow_subdomains": true, "key_type": "ec", "ttl": "30d"}`))
	if err != nil {
		log.Fatal(err)
	}
	if err := ca.PutRole(ctx, role); err != nil {
		log.Fatal(err)
	}
	pair, err := ca.Issue(ctx, "web", pki.IssueRequest{CommonName: "www.example.com"}) // ca.Sign for a CSR
	if err != nil {
		log.Fatal(err)
	}
	_, err = ca.Issue(ctx, "web", pki.IssueRequest{CommonName: "www.example.org"})
	fmt.Println(err)

	serial := pki.FormatSerial(pair.Certificate.SerialNumber)
	if _, err := ca.Revoke(ctx, serial, pki.ReasonSuperseded, time.Time{}); err != nil {
		log.Fatal(err)
	}
	crl, err := ca.CRL(ctx, "root-2026")
	if err != nil {
		log.Fatal(err)
	}
	list, err := x509.ParseRevocationList(crl.DER)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(crl.Number, pki.FormatSerial(list.RevokedCertificateEntries[0].SerialNumber) == serial)
	// Output:
	// pki: role web: allowed_domains: "www.example.org": it is in none of ["example.com"]: invalid parameters
	// 1 true
}

func ExampleAuthority_Search() {
	ctx := context.Background()
	ca, err := pki.OpenAuthority(ctx, mount(ctx, "root"), memory.New(nil), nil)
	if err != nil {
		log.Fatal(err)
	}
	root := pki.CATemplate{Subject: pkix.Name{CommonName: "Example Root"}, Validity: 10 * 365 * 24 * time.Hour}
	if _, err := ca.GenerateRoot(ctx, pki.KeyRef{Name: "root"}, "", root); err != nil {
		log.Fatal(err)
	}
	role := pki.NewRole("any")
	role.KeyType, role.AllowAnyName = "ed25519", true
	if err := ca.PutRole(ctx, role); err != nil {
		log.Fatal(err)
	}
	for _, name := range []string{"a.example.com", "b.example.com", "c.example.org"} {
		if _, err := ca.Issue(ctx, "any", pki.IssueRequest{CommonName: name}); err != nil {
			log.Fatal(err)
		}
	}
	page, err := ca.Search(ctx, pki.Query{Name: ".example.com"})
	if err != nil {
		log.Fatal(err)
	}
	for _, cert := range page.Certificates {
		fmt.Println(cert.Certificate.DNSNames, cert.State)
	}
	// Output:
	// [a.example.com] issued
	// [b.example.com] issued
}
