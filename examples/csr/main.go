// Command csr makes a certificate signing request for a managed key, and the key if there is none yet. The keys are in a
// file that is encrypted under a passphrase; put another backend.Backend in its place for an HSM.
//
//	export KEYS_PASSPHRASE='correct horse battery staple'
//	go run ./examples/csr -keys keys.mk -name www -dns www.example.com,example.com > req.pem
//	openssl req -in req.pem -noout -verify -text
package main

import (
	"context"
	"crypto/x509/pkix"
	"errors"
	"flag"
	"fmt"
	"os"
	"strings"

	"github.com/managedkeys/managedkeys/backend"
	"github.com/managedkeys/managedkeys/backend/software"
	"github.com/managedkeys/managedkeys/managedkey"
	"github.com/managedkeys/managedkeys/namespace"
	"github.com/managedkeys/managedkeys/pki"
)

func main() {
	file := flag.String("keys", "keys.mk", "file of the keys; it is made if there is none")
	passphrase := flag.String("passphrase", "env:KEYS_PASSPHRASE", "of the file, better as env:NAME or file:PATH")
	name := flag.String("name", "", "of the key")
	subject := flag.String("cn", "", "common name of the subject, if it shall have one")
	dns := flag.String("dns", "", "DNS names, separated by commas")
	flag.Parse()
	csr, err := request(context.Background(), *file, backend.Secret(*passphrase), *name, *subject, *dns)
	if err != nil {
		fmt.Fprintln(os.Stderr, "csr:", err)
		os.Exit(1)
	}
	os.Stdout.Write(csr)
}

// request returns a certificate signing request in PEM.
func request(ctx context.Context, file string, passphrase backend.Secret, name, subject, dns string) (_ []byte, err error) {
	if name == "" || dns == "" {
		return nil, errors.New("-name and -dns are required")
	}
	store, err := software.OpenFile(file, passphrase, nil)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, store.Close()) }()

	keys := managedkey.NewRegistry()
	err = keys.Create(ctx, managedkey.Entry{
		Ref:              namespace.Ref{Name: name},
		Usages:           backend.UsageSign,
		AllowGenerateKey: true,
		Backend:          store,
		Params:           software.Params{KeyName: name, KeyType: software.ECDSA, Curve: software.P256},
	})
	if err != nil {
		return nil, err
	}
	mount, err := keys.Mount(ctx, namespace.Root, "pki", name)
	if err != nil {
		return nil, err
	}
	template := pki.CSRTemplate{DNSNames: strings.Split(dns, ",")}
	if subject != "" {
		template.Subject = pkix.Name{CommonName: subject}
	}
	der, err := pki.New(mount, nil).CreateCSR(ctx, name, template)
	if err != nil {
		return nil, err
	}
	return pki.EncodeCSR(der), nil
}
