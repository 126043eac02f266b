// Command gcp makes a certificate signing request with a key in Google Cloud KMS, which must exist, and never leaves it:
//
//	gcloud kms keyrings create tls --location europe-west3
//	gcloud kms keys create www --keyring tls --location europe-west3 --purpose asymmetric-signing \
//		--default-algorithm ec-sign-p256-sha256 --protection-level hsm
//	gcloud auth application-default login
//	go run ./examples/gcp projects/P/locations/europe-west3/keyRings/tls/cryptoKeys/www www.example.com > req.pem
//
// It needs these permissions on the key, and no others: roles/cloudkms.signerVerifier has both.
//
//	to open it   cloudkms.cryptoKeyVersions.viewPublicKey
//	to sign      cloudkms.cryptoKeyVersions.useToSign
//
// With a symmetric key opening takes cloudkms.cryptoKeyVersions.get instead, and encrypting and decrypting take .useToEncrypt
// and .useToDecrypt; making a key takes cloudkms.cryptoKeys.create on the key ring.
package main

import (
	"context"
	"crypto"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/managedkeys/managedkeys/backend/gcpckms"
)

func main() {
	if err := run(context.Background(), os.Stdout, os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "gcp:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, out io.Writer, args []string) error {
	if len(args) != 2 {
		return errors.New("it takes the resource name of a key, and a DNS name")
	}
	params, err := gcpckms.ParseName(args[0])
	if err != nil {
		return err
	}
	keys, err := gcpckms.Connect(nil) // with credentials that are found as by all of Google's libraries
	if err != nil {
		return err
	}
	defer keys.Close()
	key, err := keys.Open(ctx, params)
	if err != nil {
		return err
	}
	signer, ok := key.(crypto.Signer)
	if !ok {
		return fmt.Errorf("%s is an %s key, which doesn't sign", key.ID(), key.Capabilities().Algorithm)
	}
	request := &x509.CertificateRequest{Subject: pkix.Name{CommonName: args[1]}, DNSNames: args[1:]}
	if algs := key.Capabilities().X509(key.Public()); len(algs) > 0 {
		request.SignatureAlgorithm = algs[0] // the one that the key has
	}
	der, err := x509.CreateCertificateRequest(rand.Reader, request, signer)
	if err != nil {
		return err
	}
	return pem.Encode(out, &pem.Block{Type: "CERTIFICATE REQUEST", Bytes: der})
}
