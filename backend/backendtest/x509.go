package backendtest

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"math/big"
	"net"
	"time"

	"github.com/managedkeys/managedkeys/backend"
)

// checkX509 has crypto/x509 sign a root, a leaf, a request and a CRL with every declared algorithm and verify them.
func checkX509(c *checker, k Key, key backend.Key) {
	for _, alg := range k.certificates(key.Public()) {
		c.sub(alg.String(), func(c *checker) { checkCertificates(c, key.(crypto.Signer), alg) })
	}
}

// certificateTemplate returns a template with the given serial number, valid now.
func certificateTemplate(serial int64, name string) *x509.Certificate {
	now := time.Now()
	return &x509.Certificate{
		SerialNumber: big.NewInt(serial),
		Subject:      pkix.Name{CommonName: name},
		NotBefore:    now.Add(-time.Hour),
		NotAfter:     now.Add(time.Hour),
		KeyUsage:     x509.KeyUsageDigitalSignature,
	}
}

func rootTemplate() *x509.Certificate {
	root := certificateTemplate(1, "backendtest root")
	root.IsCA, root.BasicConstraintsValid = true, true
	root.KeyUsage |= x509.KeyUsageCertSign | x509.KeyUsageCRLSign
	return root
}

func leafTemplate() *x509.Certificate {
	leaf := certificateTemplate(2, "backendtest leaf")
	leaf.DNSNames, leaf.IPAddresses = []string{serverName}, []net.IP{net.IPv4(127, 0, 0, 1)}
	leaf.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth}
	return leaf
}

const serverName = "backendtest.example"

// certificate signs a certificate, checks that it was made as asked for, and returns it.
func (c *checker) certificate(
	template, parent *x509.Certificate, pub crypto.PublicKey, signer crypto.Signer,
) *x509.Certificate {
	c.Helper()
	der, err := x509.CreateCertificate(noRandom{}, template, parent, pub, signer)
	if err != nil {
		c.see("x509.CreateCertificate", err)
		c.Fatalf("x509.CreateCertificate: %s", c.cfg.mask(err.Error()))
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		c.Fatalf("x509.ParseCertificate: %v", err)
	}
	if a := template.SignatureAlgorithm; a != 0 && cert.SignatureAlgorithm != a {
		c.Errorf("the certificate is signed with %v, want %v", cert.SignatureAlgorithm, a)
	}
	return cert
}

func checkCertificates(c *checker, signer crypto.Signer, alg x509.SignatureAlgorithm) {
	template := rootTemplate()
	template.SignatureAlgorithm = alg
	root := c.certificate(template, template, signer.Public(), signer)
	if err := root.CheckSignatureFrom(root); err != nil {
		c.Errorf("the root's own signature: %v", err)
	}
	if !samePublic(root.PublicKey, signer.Public()) {
		c.Error("the root has another public key")
	}

	template = leafTemplate()
	template.SignatureAlgorithm = alg
	leaf := c.certificate(template, root, newECDSA(c).Public(), signer)
	roots := x509.NewCertPool()
	roots.AddCert(root)
	if _, err := leaf.Verify(x509.VerifyOptions{Roots: roots, DNSName: serverName}); err != nil {
		c.Errorf("the leaf's chain: %v", err)
	}

	request := &x509.CertificateRequest{
		SignatureAlgorithm: alg, Subject: pkix.Name{CommonName: "backendtest"}, DNSNames: []string{serverName},
	}
	der, err := x509.CreateCertificateRequest(noRandom{}, request, signer)
	c.x509("x509.CreateCertificateRequest", err)
	csr, err := x509.ParseCertificateRequest(der)
	c.x509("x509.ParseCertificateRequest", err)
	c.x509("the request's signature", csr.CheckSignature())
	if csr.SignatureAlgorithm != alg || !samePublic(csr.PublicKey, signer.Public()) {
		c.Errorf("the request is signed with %v by another key or algorithm, want %v", csr.SignatureAlgorithm, alg)
	}

	now := time.Now()
	revoked := []x509.RevocationListEntry{{SerialNumber: leaf.SerialNumber, RevocationTime: now}}
	der, err = x509.CreateRevocationList(noRandom{}, &x509.RevocationList{
		SignatureAlgorithm: alg, Number: big.NewInt(1), ThisUpdate: now, NextUpdate: now.Add(time.Hour),
		RevokedCertificateEntries: revoked,
	}, root, signer)
	c.x509("x509.CreateRevocationList", err)
	crl, err := x509.ParseRevocationList(der)
	c.x509("x509.ParseRevocationList", err)
	c.x509("the CRL's signature", crl.CheckSignatureFrom(root))
	if crl.SignatureAlgorithm != alg || len(crl.RevokedCertificateEntries) != 1 {
		c.Errorf("the CRL is signed with %v and has %d entries, want %v and 1",
			crl.SignatureAlgorithm, len(crl.RevokedCertificateEntries), alg)
	}
}

// x509 ends the test if err, which need not be the backend's, isn't nil.
func (c *checker) x509(op string, err error) {
	c.Helper()
	if err != nil {
		c.scan(op, err.Error())
		c.Fatalf("%s: %s", op, c.cfg.mask(err.Error()))
	}
}

// newECDSA returns a new P-256 key in software.
func newECDSA(c *checker) *ecdsa.PrivateKey {
	c.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		c.Fatalf("ecdsa.GenerateKey: %v", err)
	}
	return key
}
