// Package pkimatrix proves what package pki signs to programs and libraries of others: certificates, CRLs and OCSP answers of every
// kind of key, from every backend.
package pkimatrix

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"fmt"
	"sync"
	"testing"

	"filippo.io/mldsa"
)

// kind is a kind of key, and how it signs.
type kind struct {
	name       string
	bits       int    // of an RSA modulus
	pss        bool   // RSASSA-PSS, and PKCS#1 v1.5 otherwise
	curve      string // "P256", "P384", "P521", "Ed25519"
	set        int    // of ML-DSA
	algorithms []x509.SignatureAlgorithm
}

// kinds are all that certificates can have; what depends on the version of Go is in mldsaKinds.
var kinds = append([]kind{
	{name: "RSA-2048 PKCS#1", bits: 2048, algorithms: []x509.SignatureAlgorithm{x509.SHA256WithRSA}},
	{name: "RSA-3072 PKCS#1", bits: 3072, algorithms: []x509.SignatureAlgorithm{x509.SHA256WithRSA}},
	{name: "RSA-4096 PKCS#1", bits: 4096, algorithms: []x509.SignatureAlgorithm{x509.SHA256WithRSA, x509.SHA512WithRSA}},
	{name: "RSA-2048 PSS", bits: 2048, pss: true, algorithms: []x509.SignatureAlgorithm{x509.SHA256WithRSAPSS}},
	{name: "RSA-3072 PSS", bits: 3072, pss: true, algorithms: []x509.SignatureAlgorithm{x509.SHA256WithRSAPSS}},
	{name: "RSA-4096 PSS", bits: 4096, pss: true, algorithms: []x509.SignatureAlgorithm{x509.SHA256WithRSAPSS, x509.SHA512WithRSAPSS}},
	{name: "ECDSA P-256", curve: "P256", algorithms: []x509.SignatureAlgorithm{x509.ECDSAWithSHA256}},
	{name: "ECDSA P-384", curve: "P384", algorithms: []x509.SignatureAlgorithm{x509.ECDSAWithSHA384}},
	{name: "ECDSA P-521", curve: "P521", algorithms: []x509.SignatureAlgorithm{x509.ECDSAWithSHA512}},
	{name: "Ed25519", curve: "Ed25519", algorithms: []x509.SignatureAlgorithm{x509.PureEd25519}},
}, mldsaKinds...)

// The roles of keys in the hierarchy that is made of each kind. The last one is that of another root, of a delegated OCSP responder
// and of leaves, so that there need not be more keys.
const (
	rootKey    = "root"
	issuingKey = "issuing"
	otherKey   = "other"
)

var keyRoles = []string{rootKey, issuingKey, otherKey}

// material is what the key of a role is called, wherever it is. An RSA key signs in both ways.
func (k kind) material(role string) string {
	switch {
	case k.bits > 0:
		return fmt.Sprintf("rsa-%d-%s", k.bits, role)
	case k.set > 0:
		return fmt.Sprintf("ml-dsa-%d-%s", k.set, role)
	}
	return k.curve + "-" + role
}

// pool has the keys of key managers in this process, by what the material is called.
var pool struct {
	sync.Mutex
	keys map[string]crypto.Signer
}

// private returns the private key of a role for key managers that keep keys in this process. RSA keys are slow to make, and made once.
func (k kind) private(role string) (crypto.Signer, error) {
	pool.Lock()
	defer pool.Unlock()
	name := k.material(role)
	if key := pool.keys[name]; key != nil {
		return key, nil
	}
	var key crypto.Signer
	var err error
	switch {
	case k.bits > 0:
		key, err = rsa.GenerateKey(rand.Reader, k.bits)
	case k.set > 0:
		key, err = mldsa.GenerateKey(map[int]mldsa.Parameters{44: mldsa.MLDSA44(), 65: mldsa.MLDSA65(), 87: mldsa.MLDSA87()}[k.set])
	case k.curve == "Ed25519":
		_, key, err = ed25519.GenerateKey(rand.Reader)
	default:
		key, err = ecdsa.GenerateKey(map[string]elliptic.Curve{"P256": elliptic.P256(), "P384": elliptic.P384(), "P521": elliptic.P521()}[k.curve], rand.Reader)
	}
	if err != nil {
		return nil, err
	}
	if pool.keys == nil {
		pool.keys = make(map[string]crypto.Signer)
	}
	pool.keys[name] = key
	return key, nil
}

// rsaInTurn returns what makes RSA keys for a fake: those of the pool, a different one at each call. They are there when it returns,
// since clients don't wait for long.
func rsaInTurn() (func(bits int) (*rsa.PrivateKey, error), error) {
	keys := make(map[int][]*rsa.PrivateKey)
	for _, k := range kinds {
		if k.bits == 0 || k.pss {
			continue
		}
		for _, role := range keyRoles {
			key, err := k.private(role)
			if err != nil {
				return nil, err
			}
			keys[k.bits] = append(keys[k.bits], key.(*rsa.PrivateKey))
		}
	}
	var mu sync.Mutex
	return func(bits int) (*rsa.PrivateKey, error) {
		mu.Lock()
		defer mu.Unlock()
		if len(keys[bits]) == 0 {
			return nil, fmt.Errorf("pkimatrix: there is no further key of %d bits", bits)
		}
		next := keys[bits][0]
		keys[bits] = keys[bits][1:]
		return next, nil
	}, nil
}

func must(tb testing.TB, err error) {
	tb.Helper()
	if err != nil {
		tb.Fatal(err)
	}
}
