package main

import (
	"context"
	"crypto/x509"
	"crypto/x509/pkix"
	"fmt"
	"io"
	"time"

	"github.com/managedkeys/managedkeys/backend"
	"github.com/managedkeys/managedkeys/managedkey"
	"github.com/managedkeys/managedkeys/namespace"
	"github.com/managedkeys/managedkeys/pki"
	"github.com/managedkeys/managedkeys/transit"
)

// story is two teams: team-a has a certificate authority and transit keys; team-b has nothing and tries to use them.
type story struct {
	place        *place
	keys         *managedkey.Registry
	out          io.Writer
	pki          *pki.Engine
	transit      *transit.Engine
	root, issuer *pki.CA
}

// step does one thing and prints what was done, with which key of team-a, and how long it took.
func (s *story) step(what, key string, do func() (string, error)) error {
	start := time.Now()
	detail, err := do()
	if err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	took := time.Since(start).Round(time.Microsecond)
	fmt.Fprintf(s.out, "  %-25s %-18s %10s  %s\n", what, "team-a/"+key, took, detail)
	return nil
}

// key makes an entry of team-a and its key.
func (s *story) key(ctx context.Context, name string, k kind, usages backend.Usage) error {
	return s.step("key", name, func() (string, error) {
		ref := namespace.Ref{Namespace: "team-a", Name: name}
		err := s.keys.Create(ctx, managedkey.Entry{
			Ref: ref, Backend: s.place.backend, Params: s.place.params(name, k), Usages: usages, AllowGenerateKey: true,
		})
		if err != nil {
			return "", err
		}
		key, err := s.keys.Key(ctx, ref)
		if err != nil {
			return "", err
		}
		return key.Capabilities().Algorithm + " for " + usages.String(), nil
	})
}

// authorities makes a root and an intermediate.
func (s *story) authorities(ctx context.Context) error {
	for _, name := range []string{"root-ca", "issuing-ca"} {
		if err := s.key(ctx, name, caKey, backend.UsageSign); err != nil {
			return err
		}
	}
	mount, err := s.keys.Mount(ctx, "team-a", "pki", "root-ca", "issuing-ca")
	if err != nil {
		return err
	}
	s.pki = pki.New(mount, nil)
	err = s.step("root certificate", "root-ca", func() (string, error) {
		s.root, err = s.pki.CreateRoot(ctx, "root-ca", pki.CATemplate{
			Subject:  pkix.Name{Country: []string{"CH"}, Organization: []string{"Example"}, CommonName: "Example Root"},
			Validity: 10 * 365 * 24 * time.Hour,
		})
		if err != nil {
			return "", err
		}
		return s.root.Certificate().Subject.String(), nil
	})
	if err != nil {
		return err
	}
	return s.step("intermediate certificate", "root-ca", func() (string, error) {
		csr, err := s.pki.CreateCSR(ctx, "issuing-ca", pki.CSRTemplate{
			Subject: pkix.Name{Country: []string{"CH"}, Organization: []string{"Example"}, CommonName: "Example Issuing CA"},
		})
		if err != nil {
			return "", err
		}
		cert, err := s.root.SignIntermediate(ctx, csr, pki.CATemplate{Validity: 5 * 365 * 24 * time.Hour, MaxPathLen: new(0)})
		if err != nil {
			return "", err
		}
		s.issuer, err = s.pki.LoadCA(ctx, "issuing-ca", append([]*x509.Certificate{cert}, s.root.Chain()...))
		if err != nil {
			return "", err
		}
		return cert.Subject.String() + ", of the key team-a/issuing-ca", nil
	})
}
