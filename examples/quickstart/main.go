// Command quickstart shows managed keys at work: it makes keys for two namespaces, runs a small certificate authority
// and transit cryptography on them, and shows that one namespace can't use the keys of the other.
//
//	go run ./examples/quickstart                     keys in software; needs nothing
//	go run ./examples/quickstart -softhsm            the same on a SoftHSM2 token in a temporary folder
//	go run ./examples/quickstart -fake aws           the same with AWS KMS's backend, against a fake; also azure, gcp
//	go run ./examples/quickstart -pkcs11-module /usr/lib/vendor.so -token LABEL -pin env:HSM_PIN
//	go run ./examples/quickstart -softhsm -csr req.pem -out DIR
//
// On your own token it makes the keys quickstart-root-ca, quickstart-issuing-ca, quickstart-documents and
// quickstart-data, or uses them if they are there; it deletes nothing.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"

	"github.com/managedkeys/managedkeys/backend"
	"github.com/managedkeys/managedkeys/managedkey"
)

type flags struct {
	softhsm       bool
	fake          string
	module, token string
	pin           backend.Secret
	csr, out      string
	rest          []string
}

func main() {
	var f flags
	flag.BoolVar(&f.softhsm, "softhsm", false, "keep the keys on a new SoftHSM2 token in a temporary folder")
	flag.StringVar(&f.fake, "fake", "", "keep the keys in a fake of a cloud's key manager: aws, azure or gcp")
	flag.StringVar(&f.module, "pkcs11-module", "", "keep the keys on a token of this PKCS#11 module")
	flag.StringVar(&f.token, "token", "", "label of the token")
	pin := flag.String("pin", "", "PIN of the token, or env:NAME or file:PATH")
	flag.StringVar(&f.csr, "csr", "", "sign this certificate signing request (PEM or DER) and nothing else")
	flag.StringVar(&f.out, "out", "", "with -csr: folder for leaf.pem, intermediate.pem, root.pem and crl.pem")
	flag.Parse()
	f.pin, f.rest = backend.Secret(*pin), flag.Args()

	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := run(ctx, f, os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "quickstart:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, f flags, out io.Writer) (err error) {
	if (f.csr == "") != (f.out == "") || len(f.rest) > 0 {
		return errors.New("give -csr FILE and -out DIR together, and no other arguments")
	}
	var csr []byte
	if f.csr != "" {
		if csr, err = readCSR(f.csr); err != nil { // before any key is made
			return err
		}
	}
	p, err := openPlace(ctx, f)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, p.close()) }()
	fmt.Fprintf(out, "Keys live in: %s\n\n", p.name)
	s := &story{place: p, keys: managedkey.NewRegistry(), out: out}
	if err := s.authorities(ctx); err != nil {
		return err
	}
	if csr != nil {
		return s.signCSR(ctx, csr, f.out)
	}
	for _, chapter := range []func(context.Context) error{s.handshake, s.documents, s.data, s.denied} {
		if err := chapter(ctx); err != nil {
			return err
		}
	}
	return nil
}
