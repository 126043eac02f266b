package httpapi

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"slices"
	"strings"

	api "github.com/managedkeys/managedkeys/managedkey/httpapi"
	"github.com/managedkeys/managedkeys/pki"
)

// format is how an answer has certificates and keys.
type format struct {
	kind  string // pem, der or pem_bundle
	key   string // der, which is the key's own form, or pkcs8
	roots bool   // the chain has its root
}

// take takes the fields of the format. issues says that there can be a private key.
func (o *format) take(f *api.Fields, issues bool) {
	o.kind, o.key, o.roots = "pem", "der", true
	f.String("format", &o.kind)
	if !slices.Contains([]string{"pem", "der", "pem_bundle"}, o.kind) {
		f.Refuse("format", "pem, der or pem_bundle")
	}
	f.String("private_key_format", &o.key)
	if !slices.Contains([]string{"", "der", "pem", "pkcs8"}, o.key) {
		f.Refuse("private_key_format", "der or pkcs8")
	}
	if !issues {
		return
	}
	var without bool
	f.Bool("remove_roots_from_chain", &without)
	o.roots = !without
}

// certificate returns one certificate in the format.
func (o *format) certificate(cert *x509.Certificate) string {
	if o.kind == "der" {
		return base64.StdEncoding.EncodeToString(cert.Raw)
	}
	return text(pki.EncodePEM(cert))
}

// text returns PEM as answers have it: without a line feed at the end.
func text(data []byte) string { return strings.TrimSpace(string(data)) }

// chain returns the certificates above one that was issued.
func (o *format) chain(chain []*x509.Certificate) []string {
	out := []string{}
	for _, cert := range chain {
		if o.roots || !selfSigned(cert) {
			out = append(out, o.certificate(cert))
		}
	}
	return out
}

func selfSigned(cert *x509.Certificate) bool {
	return string(cert.RawIssuer) == string(cert.RawSubject) && cert.CheckSignatureFrom(cert) == nil
}

// issued returns the data of a certificate with the chain above it, and with its key if that was made here.
func (o *format) issued(cert *x509.Certificate, chain []*x509.Certificate, key crypto.Signer) (object, error) {
	data := object{
		"certificate": o.certificate(cert), "serial_number": pki.FormatSerial(cert.SerialNumber), "expiration": cert.NotAfter.Unix(),
	}
	if len(chain) > 0 {
		data["issuing_ca"], data["ca_chain"] = o.certificate(chain[0]), o.chain(chain)
	}
	var bundle []string
	if key != nil {
		if err := o.withKey(data, key); err != nil {
			return nil, err
		}
		bundle = append(bundle, data["private_key"].(string))
	}
	if o.kind == "pem_bundle" {
		bundle = append(append(bundle, text(pki.EncodePEM(cert))), o.chain(chain)...)
		data["certificate"] = strings.Join(bundle, "\n")
	}
	return data, nil
}

// withKey adds a private key to data.
func (o *format) withKey(data object, key crypto.Signer) error {
	block, kind, err := o.private(key)
	if err != nil {
		return err
	}
	data["private_key"], data["private_key_type"] = text(pem.EncodeToMemory(block)), kind
	if o.kind == "der" {
		data["private_key"] = base64.StdEncoding.EncodeToString(block.Bytes)
	}
	return nil
}

// private returns a private key in the format: PKCS #1 and SEC 1, and PKCS #8 where a kind has no form of its own.
func (o *format) private(key crypto.Signer) (block *pem.Block, kind string, err error) {
	switch key := key.(type) {
	case *rsa.PrivateKey:
		kind, block = "rsa", &pem.Block{Type: "RSA PRIVATE KEY", Bytes: x509.MarshalPKCS1PrivateKey(key)}
	case *ecdsa.PrivateKey:
		kind, block = "ec", &pem.Block{Type: "EC PRIVATE KEY"}
		if block.Bytes, err = x509.MarshalECPrivateKey(key); err != nil {
			return nil, "", err
		}
	default:
		kind = kindOf(key.Public())
	}
	if o.key != "pkcs8" && block != nil {
		return block, kind, nil
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	return &pem.Block{Type: "PRIVATE KEY", Bytes: der}, kind, err
}
