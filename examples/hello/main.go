// Command hello is the program of the README: a self-signed certificate by a managed key.
package main

import (
	"context"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"fmt"
	"log"
	"math/big"
	"time"

	"github.com/managedkeys/managedkeys/backend/software"
	"github.com/managedkeys/managedkeys/managedkey"
	"github.com/managedkeys/managedkeys/namespace"
)

func main() {
	ctx := context.Background()
	keys := managedkey.NewRegistry()
	ref := namespace.Ref{Namespace: "team-a", Name: "issuing-ca"}
	err := keys.Create(ctx, managedkey.Entry{
		Ref: ref, AllowGenerateKey: true,
		Backend: software.New(nil), // or a PKCS#11 token: pkcs11.New(…)
		Params:  software.Params{KeyName: "issuing-ca", KeyType: software.ECDSA, Curve: software.P256},
	})
	check(err)
	signer, err := keys.Signer(ctx, ref) // a crypto.Signer; the key stays where it is
	check(err)
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "hello"}, NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, signer.Public(), signer)
	check(err)
	fmt.Println(len(der) > 0)
}

func check(err error) {
	if err != nil {
		log.Fatal(err)
	}
}
