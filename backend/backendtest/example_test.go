package backendtest_test

import (
	"crypto"
	"crypto/x509"
	"testing"

	"github.com/managedkeys/managedkeys/backend"
	"github.com/managedkeys/managedkeys/backend/backendtest"
)

// A driver's conformance test declares which keys exist and what they can do. In a driver's own test file the last
// function is TestConformance.
func Example() {
	keys := newKeyManager() // the driver's fake, or a test tenant of the service

	config := backendtest.Config{
		New: func(testing.TB) backend.Backend { return keys.client() },
		Keys: []backendtest.Key{
			{
				Name:      "ec",
				Params:    keys.params("ec"),
				Algorithm: "ECDSA P-256",
				Signs:     []x509.SignatureAlgorithm{x509.ECDSAWithSHA256},
			},
			{
				// This service makes salts as long as the hash only, and takes no OAEP label.
				Name:           "rsa",
				Params:         keys.params("rsa"),
				Algorithm:      "RSA-2048",
				Signs:          []x509.SignatureAlgorithm{x509.SHA512WithRSAPSS},
				SaltEqualsHash: true,
				OAEP:           []crypto.Hash{crypto.SHA256},
			},
		},
		Absent:  keys.params("absent"),
		Invalid: map[string]backend.Params{"no label": keys.params("")},
		Secrets: []string{keys.pin()}, // must not show in anything that the suite meets
	}

	testConformance := func(t *testing.T) { backendtest.Run(t, config) }
	_ = testConformance
}

// newKeyManager stands for what a driver's tests have.
func newKeyManager() keyManager { return keyManager{} }

type keyManager struct{}

func (keyManager) client() backend.Backend            { return &memory{store: new(store)} }
func (keyManager) params(label string) backend.Params { return params{Label: label} }
func (keyManager) pin() string                        { return pin }
