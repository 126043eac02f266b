// Command server serves managed keys over the HTTP API that Vault and OpenBao have, so that their clients work with it.
//
//	go run ./examples/server -dev                                           keys in memory; prints address and root token
//	go run ./examples/server -dev -listen 127.0.0.1:8200 -token T           a fixed address and root token
//	go run ./examples/server -dev -pkcs11 hsm1=/usr/lib/softhsm/libsofthsm2.so    and keys on the tokens of a PKCS#11 module
//
// With -dev nothing is kept and nothing is encrypted: it is for trying. SIGINT or SIGTERM ends it, once requests that are under way
// are done.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/managedkeys/managedkeys/managedkey/httpapi"
)

// drain is how long requests that are under way may take when the server is told to end.
const drain = 30 * time.Second

type flags struct {
	dev    bool
	listen string
	token  string
	pkcs11 modules
	rate   float64
}

func main() {
	var f flags
	flag.BoolVar(&f.dev, "dev", false, "keep everything in memory, with one root token and without TLS")
	flag.StringVar(&f.listen, "listen", "127.0.0.1:0", "with -dev: address to listen on")
	flag.StringVar(&f.token, "token", "", "with -dev: the root token; a new one if it is empty")
	flag.Var(&f.pkcs11, "pkcs11", "with -dev: NAME=MODULE, a PKCS#11 module for keys of the library NAME; may be given several times")
	flag.Float64Var(&f.rate, "rate", 1000, "requests per second that one client may make; 0 for any number")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, f, flag.Args(), os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "server:", err)
		os.Exit(1)
	}
}

// run serves until ctx ends.
func run(ctx context.Context, f flags, rest []string, out io.Writer) (err error) {
	if !f.dev || len(rest) > 0 {
		return errors.New("give -dev, and no other arguments; -help lists the flags")
	}
	s, err := dev(ctx, f, out)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.close()) }()
	api, err := httpapi.New(s.keys, s.options)
	if err != nil {
		return err
	}
	defer api.Close()
	listener, err := net.Listen("tcp", s.listen)
	if err != nil {
		return err
	}
	server := httpapi.NewServer(api, s.tls)
	served := make(chan error, 1)
	go func() {
		if s.tls != nil {
			served <- server.ServeTLS(listener, "", "")
		} else {
			served <- server.Serve(listener)
		}
	}()
	s.ready(listener.Addr().String())
	select {
	case err := <-served:
		return err
	case <-ctx.Done():
	}
	fmt.Fprintln(out, "Finishing the requests that are under way …")
	// The context of the program has ended; what is under way has time of its own.
	ending, cancel := context.WithTimeout(context.WithoutCancel(ctx), drain)
	defer cancel()
	err = server.Shutdown(ending)
	if late := <-served; !errors.Is(late, http.ErrServerClosed) {
		err = errors.Join(err, late)
	}
	return err
}
