package pki

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"errors"
	"fmt"
	"time"

	"github.com/managedkeys/managedkeys/backend"
	"github.com/managedkeys/managedkeys/managedkey/store"
)

// ProveKey returns nil if key is the private key of cert: it signs a random message, which the certificate's public key verifies.
// The error wraps [backend.ErrNotPermitted] if it isn't, and [backend.ErrInvalidParams] if there is none, or one of another kind than
// RSA, ECDSA and Ed25519.
func ProveKey(cert *x509.Certificate, key crypto.Signer) error {
	if key == nil || cert == nil {
		return invalid("private key: there is none")
	}
	message := make([]byte, 32)
	rand.Read(message)
	digest := sha256.Sum256(message)
	input, alg, opts := digest[:], x509.SHA256WithRSA, crypto.SHA256
	switch key.(type) {
	case *rsa.PrivateKey:
	case *ecdsa.PrivateKey:
		alg = x509.ECDSAWithSHA256
	case ed25519.PrivateKey:
		input, alg, opts = message, x509.PureEd25519, 0
	default:
		return invalid("private key: it is %T; it takes RSA, ECDSA and Ed25519", key)
	}
	signature, err := key.Sign(rand.Reader, input, opts)
	if err == nil {
		err = cert.CheckSignature(alg, message, signature)
	}
	if err != nil {
		return fmt.Errorf("pki: private key: it is not that of certificate %s: %w", FormatSerial(cert.SerialNumber), backend.ErrNotPermitted)
	}
	return nil
}

// RevokeIssuer revokes an issuer: it issues nothing from now on, although it goes on signing CRLs and OCSP answers, and its
// certificate is revoked at the issuer that signed it, if that is in this authority. If it isn't, the Revocation is nil, and
// whoever signed the certificate must revoke it there. What the issuer has signed is not revoked by itself.
func (a *Authority) RevokeIssuer(ctx context.Context, ref string, reason int) (*Issuer, *Revocation, error) {
	for try := 0; ; try++ {
		issuer, err := a.Issuer(ctx, ref)
		if err != nil {
			return nil, nil, err
		}
		if issuer.Usage&IssueCertificates != 0 {
			next := *issuer
			next.Usage &^= IssueCertificates
			issuer, err = a.UpdateIssuer(ctx, next)
		}
		if errors.Is(err, store.ErrConflict) && try < maxTries {
			continue
		}
		if err != nil {
			return nil, nil, err
		}
		revocation, err := a.RevokeCertificate(ctx, issuer.Certificate(), reason, time.Time{})
		if errors.Is(err, store.ErrNotFound) {
			return issuer, nil, nil
		}
		return issuer, revocation, err
	}
}
