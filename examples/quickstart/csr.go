package main

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"math/big"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/managedkeys/managedkeys/pki"
)

// readCSR returns the content of a file, which must be a good request.
func readCSR(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, pki.MaxCSR+1))
	if err != nil {
		return nil, err
	}
	if _, err := pki.ParseCSR(data); err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return data, nil
}

// signCSR signs a request and writes the leaf, its chain and the revocation lists of both CAs.
func (s *story) signCSR(ctx context.Context, csr []byte, dir string) error {
	var leaf *pki.Issued
	err := s.step("leaf certificate", "issuing-ca", func() (_ string, err error) {
		leaf, err = s.issuer.SignCSR(ctx, csr, pki.LeafTemplate{Validity: 90 * 24 * time.Hour})
		if err != nil {
			return "", err
		}
		return fmt.Sprintf("%s, serial %x", names(leaf.Certificate), leaf.Certificate.SerialNumber), nil
	})
	if err != nil {
		return err
	}
	var crls []byte
	for _, ca := range []struct {
		*pki.CA
		key string
	}{{s.issuer, "issuing-ca"}, {s.root, "root-ca"}} {
		err := s.step("revocation list", ca.key, func() (string, error) {
			crl, err := ca.CRL(ctx, pki.CRLTemplate{Number: big.NewInt(1), Validity: 7 * 24 * time.Hour})
			crls = append(crls, pki.EncodeCRL(crl)...)
			return "of " + ca.Certificate().Subject.CommonName + ", nothing revoked", err
		})
		if err != nil {
			return err
		}
	}
	err = writeAll(dir, map[string][]byte{
		"leaf.pem":         pki.EncodePEM(leaf.Certificate),
		"intermediate.pem": pki.EncodePEM(s.issuer.Certificate()),
		"root.pem":         pki.EncodePEM(s.root.Certificate()),
		"crl.pem":          crls,
	})
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(s.out, `
Wrote leaf.pem, intermediate.pem, root.pem and crl.pem (of both CAs) to %[1]s. To check them:
  openssl verify -CAfile %[1]s/root.pem -untrusted %[1]s/intermediate.pem %[1]s/leaf.pem
  openssl crl -in %[1]s/crl.pem -CAfile %[1]s/intermediate.pem -verify -noout
`, dir)
	return err
}

// writeAll writes each file under another name first, so that nobody sees half of one.
func writeAll(dir string, files map[string][]byte) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	for name, data := range files {
		temporary := filepath.Join(dir, name+".tmp")
		err := os.WriteFile(temporary, data, 0o644)
		if err == nil {
			err = os.Rename(temporary, filepath.Join(dir, name))
		}
		if err != nil {
			return errors.Join(err, os.RemoveAll(temporary))
		}
	}
	return nil
}

// names returns the subject alternative names for people.
func names(cert *x509.Certificate) string {
	var all []string
	for _, dns := range cert.DNSNames {
		all = append(all, "DNS:"+dns)
	}
	for _, ip := range cert.IPAddresses {
		all = append(all, "IP:"+ip.String())
	}
	for _, email := range cert.EmailAddresses {
		all = append(all, "email:"+email)
	}
	for _, uri := range cert.URIs {
		all = append(all, "URI:"+uri.String())
	}
	return strings.Join(all, " ")
}
