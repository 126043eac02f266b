package pkimatrix

import (
	"bytes"
	"crypto/x509"
	"encoding/asn1"
	"errors"
	"fmt"
	"math/big"
	"testing"
	"time"
)

// pool returns certificates of files.
func (f *firm) pool(names ...string) (*x509.CertPool, error) {
	p := x509.NewCertPool()
	for _, name := range names {
		cert, err := x509.ParseCertificate(f.read(name + ".der"))
		if err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
		p.AddCert(cert)
	}
	return p, nil
}

// goVerify verifies a certificate as a TLS client does, or a CA's if host is empty.
func (f *firm) goVerify(name, host, root string, between ...string) error {
	cert, err := x509.ParseCertificate(f.read(name + ".der"))
	if err != nil {
		return err
	}
	roots, err := f.pool(root)
	if err != nil {
		return err
	}
	intermediates, err := f.pool(between...)
	if err != nil {
		return err
	}
	_, err = cert.Verify(x509.VerifyOptions{Roots: roots, Intermediates: intermediates, DNSName: host})
	return err
}

func goChain(_ *testing.T, f *firm) error {
	return f.goVerify("good", "good.example.com", "root", "issuing")
}

func goCross(_ *testing.T, f *firm) error {
	return errors.Join(f.goVerify("good", "good.example.com", "other", "issuing", "root-by-other"), f.goVerify("other-by-root", "", "root"))
}

// goList returns whether a list of the issuing CA has the leaves, in their order.
func (f *firm) goList(name string) (has [3]bool, list *x509.RevocationList, err error) {
	if list, err = x509.ParseRevocationList(f.read(name + ".crl")); err != nil {
		return has, nil, err
	}
	if err := list.CheckSignatureFrom(f.certs["issuing"]); err != nil {
		return has, nil, err
	}
	if now := time.Now(); now.Before(list.ThisUpdate) || now.After(list.NextUpdate) {
		return has, nil, fmt.Errorf("%s: it is from %s to %s", name, list.ThisUpdate, list.NextUpdate)
	}
	for _, entry := range list.RevokedCertificateEntries {
		for i, leaf := range leaves {
			has[i] = has[i] || entry.SerialNumber.Cmp(f.certs[leaf].SerialNumber) == 0
		}
	}
	return has, list, nil
}

func goCRL(_ *testing.T, f *firm) error {
	has, _, err := f.goList("issuing")
	if err == nil && has != [3]bool{false, true, false} {
		return fmt.Errorf("the list has %t", has)
	}
	return err
}

func goShard(_ *testing.T, f *firm) error {
	has, list, err := f.goList("shard")
	if err == nil && (has[0] || has[2] || extension(list, 28) == nil) {
		return fmt.Errorf("the list has %t, and the extensions %v", has, list.Extensions)
	}
	return err
}

func goDelta(_ *testing.T, f *firm) error {
	has, list, err := f.goList("shard-delta")
	if err != nil {
		return err
	}
	base := new(big.Int)
	if _, err := asn1.Unmarshal(extension(list, 27), &base); err != nil {
		return err
	}
	if has != [3]bool{false, false, true} || base.Cmp(f.lists["shard"].Number) != 0 || list.Number.Cmp(base) <= 0 || extension(list, 28) == nil {
		return fmt.Errorf("the list has %t, number %v, base %v", has, list.Number, base)
	}
	return nil
}

// extension returns the value of a critical extension of RFC 5280: 27 is the delta CRL indicator, 28 the issuing distribution point.
func extension(list *x509.RevocationList, number int) []byte {
	for _, e := range list.Extensions {
		if e.Critical && e.Id.Equal(asn1.ObjectIdentifier{2, 5, 29, number}) {
			return e.Value
		}
	}
	return nil
}

// ocspResponse and what is below are of RFC 6960, Section 4.2.1, as far as it is needed here.
type ocspResponse struct {
	Status asn1.Enumerated
	Bytes  struct {
		Type     asn1.ObjectIdentifier
		Response []byte
	} `asn1:"explicit,tag:0"`
}

type basicResponse struct {
	Data         responseData
	Algorithm    asn1.RawValue
	Signature    asn1.BitString
	Certificates []asn1.RawValue `asn1:"explicit,tag:0,optional"`
}

type responseData struct {
	Raw       asn1.RawContent
	Responder asn1.RawValue
	Produced  time.Time `asn1:"generalized"`
	Responses []singleResponse
}

type singleResponse struct {
	ID struct {
		Hash          asn1.RawValue
		Name, KeyHash []byte
		Serial        *big.Int
	}
	Status     asn1.RawValue // tag 0 is good, 1 revoked
	ThisUpdate time.Time     `asn1:"generalized"`
	NextUpdate time.Time     `asn1:"generalized,explicit,tag:0"`
}

// goAnswer reads an answer itself: golang.org/x/crypto/ocsp knows neither RSASSA-PSS nor Ed25519 nor ML-DSA.
func goAnswer(_ *testing.T, f *firm, by, leaf string, revoked bool) error {
	var outer ocspResponse
	var basic basicResponse
	if _, err := asn1.Unmarshal(f.read(leaf+"-by-"+by+".ocsp"), &outer); err != nil {
		return err
	}
	if _, err := asn1.Unmarshal(outer.Bytes.Response, &basic); err != nil {
		return err
	}
	signer, example := f.certs["issuing"], f.certs["good"].SignatureAlgorithm
	if by == "delegate" {
		if len(basic.Certificates) != 1 {
			return fmt.Errorf("the answer has %d certificates", len(basic.Certificates))
		}
		var err error
		if signer, err = x509.ParseCertificate(basic.Certificates[0].FullBytes); err != nil {
			return err
		}
		if err := signer.CheckSignatureFrom(f.certs["issuing"]); err != nil {
			return err
		}
		if len(signer.ExtKeyUsage) != 1 || signer.ExtKeyUsage[0] != x509.ExtKeyUsageOCSPSigning {
			return fmt.Errorf("the responder's extended key usages are %v", signer.ExtKeyUsage)
		}
	}
	if err := signer.CheckSignature(example, basic.Data.Raw, basic.Signature.RightAlign()); err != nil {
		return err
	}
	if want := algorithmOf(f.certs["good"]); !bytes.Equal(basic.Algorithm.FullBytes, want) {
		return fmt.Errorf("the algorithm is %x; that of certificates is %x", basic.Algorithm.FullBytes, want)
	}
	single := basic.Data.Responses[0]
	if now := time.Now(); single.ID.Serial.Cmp(f.certs[leaf].SerialNumber) != 0 || (single.Status.Tag == 1) != revoked || single.Status.Tag > 1 ||
		now.Before(single.ThisUpdate.Add(-time.Second)) || now.After(single.NextUpdate) {
		return fmt.Errorf("the answer is %+v", single)
	}
	return nil
}

// algorithmOf returns the signature's AlgorithmIdentifier in DER.
func algorithmOf(cert *x509.Certificate) []byte {
	var outer struct{ TBS, Algorithm, Signature asn1.RawValue }
	if _, err := asn1.Unmarshal(cert.Raw, &outer); err != nil {
		return nil
	}
	return outer.Algorithm.FullBytes
}
