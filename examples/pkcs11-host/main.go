// Command pkcs11-host signs with a PKCS#11 module that runs in a process of its own, so that a module that crashes, leaks or
// hangs doesn't take the program along: `p11-kit server` loads the vendor's module, and this program loads p11-kit's small
// client in its place. When the module's process dies another is started, and the same handles sign again.
//
//	go run ./examples/pkcs11-host -softhsm                    on a SoftHSM2 token in a temporary folder
//	go run ./examples/pkcs11-host -module /usr/lib/vendor.so -token LABEL -pin env:HSM_PIN -key LABEL
//
// While it runs, kill -9 the process whose number it prints, or one of its children, which have the module, and watch. It
// needs p11-kit: `apt-get install p11-kit p11-kit-modules` on Debian and Ubuntu, `dnf install p11-kit-server` on Fedora.
package main

import (
	"cmp"
	"context"
	"crypto"
	"crypto/sha256"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"time"

	"github.com/managedkeys/managedkeys/backend"
	"github.com/managedkeys/managedkeys/backend/pkcs11"
	"github.com/managedkeys/managedkeys/internal/p11kit"
	"github.com/managedkeys/managedkeys/internal/softhsm"
)

func main() {
	var p pkcs11.Params
	soft := flag.Bool("softhsm", false, "use a new SoftHSM2 token in a temporary folder")
	module := flag.String("module", "", "the vendor's PKCS#11 module")
	flag.StringVar(&p.TokenLabel, "token", "", "label of the token")
	pin := flag.String("pin", "", "PIN of the token, or env:NAME or file:PATH")
	flag.StringVar(&p.KeyLabel, "key", "pkcs11-host", "label of an ECDSA key; it is made on P-256 if there is none")
	length := flag.Duration("for", time.Minute, "how long to sign")
	flag.Parse()
	p.PIN = backend.Secret(*pin)

	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	ctx, cancel := context.WithTimeout(ctx, *length)
	defer cancel()
	if err := run(ctx, *soft, *module, p, &host{out: os.Stdout}); err != nil {
		fmt.Fprintln(os.Stderr, "pkcs11-host:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, soft bool, module string, p pkcs11.Params, h *host) error {
	if soft == (module != "") || !soft && (p.TokenLabel == "" || p.PIN == "") {
		return errors.New("give either -softhsm, or -module, -token and -pin")
	}
	client, err := p11kit.Module()
	if err != nil {
		return err
	}
	dir, err := os.MkdirTemp("", "pkcs11-host-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	if soft {
		token, err := softhsm.New(dir, "pkcs11-host")
		if err != nil {
			return err
		}
		module, p.TokenLabel, p.PIN = token.Module, token.Label, backend.Secret(token.PIN)
	}
	if err := h.start(cmp.Or(h.socket, filepath.Join(dir, "socket")), module, p.TokenLabel); err != nil {
		return err
	}
	defer h.close()
	hsm, err := pkcs11.New(pkcs11.Library{Name: "hosted", Path: client, CallTimeout: 5 * time.Second})
	if err != nil {
		return err
	}
	defer hsm.Close()
	p.Library, p.Mechanism = "hosted", pkcs11.ECDSA
	key, err := hsm.Open(ctx, p)
	if errors.Is(err, backend.ErrKeyNotFound) {
		p.Curve = "P256"
		key, err = hsm.Generate(ctx, p, nil)
	}
	if err != nil {
		return err
	}
	return h.sign(ctx, key)
}

// sign signs until ctx ends, and tells how it went and when service was away.
func (h *host) sign(ctx context.Context, key backend.Key) error {
	digest := sha256.Sum256([]byte("document"))
	away := time.Time{}
	fmt.Fprintln(h.out, "signing with", key.ID())
	for {
		signature, err := key.(backend.Signer).SignContext(ctx, digest[:], crypto.SHA256)
		switch {
		case ctx.Err() != nil:
			fmt.Fprintf(h.out, "made %d signatures\n", h.signatures.Load())
			return nil
		case errors.Is(err, backend.ErrUnavailable) && away.IsZero():
			away = time.Now()
			fmt.Fprintln(h.out, "service is away:", err)
		case err != nil && !errors.Is(err, backend.ErrUnavailable):
			return err
		case err == nil && backend.Verify(key.Public(), digest[:], signature, crypto.SHA256) != nil:
			return errors.New("a signature doesn't verify")
		case err == nil && !away.IsZero():
			fmt.Fprintf(h.out, "service is back after %v\n", time.Since(away).Round(time.Millisecond))
			away = time.Time{}
		}
		if err == nil {
			h.signatures.Add(1)
		}
		time.Sleep(5 * time.Millisecond) // so that it stays a demonstration
	}
}
