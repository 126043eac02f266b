package httpapi

import (
	"crypto/ed25519"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"slices"
	"strings"

	"github.com/managedkeys/managedkeys/transit"
)

// inForm returns an exported key in the form of the original: nothing for what each kind of key has always had, raw for the bare bytes of
// keys that have such, and der and pem for SubjectPublicKeyInfo (RFC 5280, Section 4.1.2.7) and PKCS #8 (RFC 5958).
func inForm(what, exported, form string) (string, error) {
	if !slices.Contains([]string{"", "raw", "der", "pem"}, form) {
		return "", refuse("parameter format: it takes raw, der or pem")
	}
	block, _ := pem.Decode([]byte(exported))
	if block == nil {
		return bareInForm(what, exported, form)
	}
	switch block.Type {
	case "CERTIFICATE":
		if form != "" && form != "pem" {
			return "", errForm
		}
		return strings.TrimSpace(exported), nil
	case "PUBLIC KEY":
		key, err := x509.ParsePKIXPublicKey(block.Bytes)
		if bare, ok := key.(ed25519.PublicKey); err == nil && ok && (form == "" || form == "raw") {
			return base64.StdEncoding.EncodeToString(bare), nil
		}
		return blockInForm(block, form, isRSA(key))
	}
	var key any
	var err error
	switch block.Type {
	case "RSA PRIVATE KEY":
		key, err = x509.ParsePKCS1PrivateKey(block.Bytes)
	case "EC PRIVATE KEY":
		key, err = x509.ParseECPrivateKey(block.Bytes)
	}
	if key != nil && err == nil && form != "" {
		block.Type = "PRIVATE KEY"
		block.Bytes, err = x509.MarshalPKCS8PrivateKey(key)
	}
	if err != nil {
		return "", err
	}
	return blockInForm(block, form, isRSA(key))
}

// bareInForm is inForm for what is exported in base64: symmetric keys, and private keys of Ed25519.
func bareInForm(what, exported, form string) (string, error) {
	if form == "" || form == "raw" {
		return exported, nil
	}
	key, err := base64.StdEncoding.DecodeString(exported)
	if err != nil || what != transit.ExportSigningKey || len(key) != ed25519.PrivateKeySize {
		return "", errForm
	}
	der, err := x509.MarshalPKCS8PrivateKey(ed25519.PrivateKey(key))
	if err != nil {
		return "", err
	}
	return blockInForm(&pem.Block{Type: "PRIVATE KEY", Bytes: der}, form, false)
}

var errForm = refuse("parameter format: this key has no such form")

// blockInForm returns a block in PEM or DER. That of RSA ends with a line feed in the original, and others don't.
func blockInForm(block *pem.Block, form string, ended bool) (string, error) {
	switch form {
	case "raw":
		return "", errForm
	case "der":
		return base64.StdEncoding.EncodeToString(block.Bytes), nil
	}
	text := string(pem.EncodeToMemory(block))
	if !ended {
		text = strings.TrimSpace(text)
	}
	return text, nil
}

func isRSA(key any) bool {
	switch key.(type) {
	case *rsa.PublicKey, *rsa.PrivateKey:
		return true
	}
	return false
}
