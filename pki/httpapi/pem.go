package httpapi

import (
	"bytes"
	"crypto"
	"crypto/x509"
	"encoding/pem"
	"strings"

	"github.com/managedkeys/managedkeys/internal/rsasize"
)

// maxBundle bounds the blocks of a bundle in PEM.
const maxBundle = 64

// blocks returns the PEM blocks of a field. Between them may stand what people and tools write there, but no line that begins like
// a block and is none.
func blocks(field, data string) ([]*pem.Block, error) {
	rest := []byte(strings.ReplaceAll(data, `\n`, "\n")) // as shells pass it on
	var out []*pem.Block
	begins := bytes.Count(rest, []byte("-----BEGIN "))
	for {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil {
			break
		}
		if out = append(out, block); len(out) > maxBundle {
			return nil, refuse("field %s: it has more than %d PEM blocks", field, maxBundle)
		}
	}
	if len(out) == 0 || len(out) != begins {
		return nil, refuse("field %s: it takes certificates in PEM; %d of %d blocks can be read", field, len(out), begins)
	}
	return out, nil
}

// certificates returns the certificates of a field in PEM. A private key among them is refused: keys are managed.
func certificates(field, data string) ([]*x509.Certificate, error) {
	all, err := blocks(field, data)
	if err != nil {
		return nil, err
	}
	return parseCertificates(field, all)
}

func parseCertificates(field string, all []*pem.Block) ([]*x509.Certificate, error) {
	var out []*x509.Certificate
	for i, block := range all {
		switch {
		case strings.HasSuffix(block.Type, "PRIVATE KEY"):
			return nil, refuse("field %s: block %d is a private key; a CA's key stays in its key manager: import it there, and the certificate here", field, i)
		case strings.HasSuffix(block.Type, "CRL"):
			return nil, refuse("field %s: block %d is a CRL; it takes certificates", field, i)
		case block.Type != "CERTIFICATE" && block.Type != "X509 CERTIFICATE" && block.Type != "TRUSTED CERTIFICATE":
			return nil, refuse("field %s: block %d is of type %.40q; it takes CERTIFICATE", field, i, block.Type)
		}
		cert, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, refuse("field %s: block %d is no certificate: %v", field, i, err)
		}
		out = append(out, cert)
	}
	return out, nil
}

// bundle returns the certificates and private keys of a field in PEM. That the mount allows the latter is made sure before one of them is
// parsed.
func (c *call) bundle(field, data string) (certs []*x509.Certificate, keys []crypto.Signer, err error) {
	all, err := blocks(field, data)
	if err != nil {
		return nil, nil, err
	}
	var rest []*pem.Block
	for _, block := range all {
		if !strings.HasSuffix(block.Type, "PRIVATE KEY") {
			rest = append(rest, block)
			continue
		}
		if err := c.allowSoftware("field " + field + ": private key"); err != nil {
			return nil, nil, err
		}
		if err := c.ctx().Err(); err != nil { // looking at one takes its time
			return nil, nil, err
		}
		key, err := parseKey(field, block)
		if err != nil {
			return nil, nil, err
		}
		keys = append(keys, key)
	}
	certs, err = parseCertificates(field, rest)
	return certs, keys, err
}

// certificate returns the one certificate of a field.
func certificate(field, data string) (*x509.Certificate, error) {
	certs, err := certificates(field, data)
	if err != nil {
		return nil, err
	}
	if len(certs) != 1 {
		return nil, refuse("field %s: it has %d certificates; it takes one", field, len(certs))
	}
	return certs[0], nil
}

// maxPrivateKey bounds a private key in PEM, in bytes, well above RSA with 8192 bits: primes are checked as they are parsed, which takes a
// time that grows faster than the square of their length.
const maxPrivateKey = 16 << 10

// privateKey returns the private key of a field in PEM: PKCS #1, SEC 1 or PKCS #8. No error shows anything of it.
func privateKey(field, data string) (crypto.Signer, error) {
	if len(data) > maxPrivateKey {
		return nil, refuse("field %s: it has %d bytes; it takes at most %d", field, len(data), maxPrivateKey)
	}
	all, err := blocks(field, data)
	if err != nil || len(all) != 1 {
		return nil, refuse("field %s: it takes one private key in PEM", field)
	}
	return parseKey(field, all[0])
}

// parseKey returns the private key of a block.
func parseKey(field string, block *pem.Block) (crypto.Signer, error) {
	der := block.Bytes
	if len(der) > maxPrivateKey {
		return nil, refuse("field %s: a private key has %d bytes; it takes at most %d", field, len(der), maxPrivateKey)
	}
	if err := rsasize.CheckPrivate(der); err != nil {
		return nil, refuse("field %s: %v", field, err)
	}
	var key any
	var err error
	switch block.Type {
	case "RSA PRIVATE KEY":
		key, err = x509.ParsePKCS1PrivateKey(der)
	case "EC PRIVATE KEY":
		key, err = x509.ParseECPrivateKey(der)
	case "PRIVATE KEY":
		key, err = x509.ParsePKCS8PrivateKey(der)
	default:
		return nil, refuse("field %s: it takes a block of type PRIVATE KEY, RSA PRIVATE KEY or EC PRIVATE KEY", field)
	}
	signer, ok := key.(crypto.Signer)
	if err != nil || !ok {
		return nil, refuse("field %s: it is no private key of a kind that signs", field)
	}
	return signer, nil
}
