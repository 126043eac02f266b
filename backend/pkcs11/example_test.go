package pkcs11_test

import (
	"context"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"fmt"
	"log"
	"os"

	"github.com/managedkeys/managedkeys/backend"
	"github.com/managedkeys/managedkeys/backend/pkcs11"
)

func ExampleNew() {
	hsm, err := pkcs11.New(pkcs11.Library{Name: "hsm1", Path: "/usr/lib/softhsm/libsofthsm2.so"})
	if err != nil {
		log.Fatal(err)
	}
	defer hsm.Close()

	key, err := hsm.Open(context.Background(), pkcs11.Params{
		Library: "hsm1", TokenLabel: "team-a", PIN: "env:HSM_PIN", KeyLabel: "tls", Mechanism: pkcs11.ECDSA,
	})
	if err != nil {
		log.Fatal(err)
	}
	request := &x509.CertificateRequest{Subject: pkix.Name{CommonName: "server.example"}}
	csr, err := x509.CreateCertificateRequest(rand.Reader, request, key.(backend.Signer))
	if err != nil {
		log.Fatal(err)
	}
	os.Stdout.Write(csr)
}

func ExampleBackend_Generate() {
	hsm, err := pkcs11.New(pkcs11.Library{Name: "hsm1", Path: "/usr/lib/softhsm/libsofthsm2.so"})
	if err != nil {
		log.Fatal(err)
	}
	defer hsm.Close()

	key, err := hsm.Generate(context.Background(), pkcs11.Params{
		Library: "hsm1", TokenLabel: "team-a", PIN: "file:/run/secrets/hsm-pin",
		KeyLabel: "backup", Mechanism: pkcs11.RSAPKCSOAEP, KeyBits: 3072,
	}, nil)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(key.ID(), key.Capabilities().Algorithm)
}

func ExampleParseMechanism() {
	for _, text := range []string{"0x1041", "4161", "CKM_ECDSA", "ecdsa", "CKM_UNHEARD_OF"} {
		m, err := pkcs11.ParseMechanism(text)
		if err != nil {
			fmt.Println("no mechanism")
			continue
		}
		fmt.Println(m)
	}
	// Output:
	// CKM_ECDSA
	// CKM_ECDSA
	// CKM_ECDSA
	// CKM_ECDSA
	// no mechanism
}
