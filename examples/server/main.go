// Command server serves managed keys over the HTTP API that Vault and OpenBao have, so that their clients work with it.
//
//	go run ./examples/server -dev                                           keys in memory; prints address and root token
//	go run ./examples/server -dev -listen 127.0.0.1:8200 -token T           a fixed address and root token
//	go run ./examples/server -dev -pkcs11 hsm1=/usr/lib/softhsm/libsofthsm2.so    and keys on the tokens of a PKCS#11 module
//	go run ./examples/server -config /etc/managedkeys                       what a configuration file, or a folder of them, says
//	go run ./examples/server -config /etc/managedkeys -verify               check its audit files, and serve nothing
//
// With -dev nothing is kept and nothing is encrypted: it is for trying. SIGINT or SIGTERM ends it, once requests that are under way
// are done.
//
// With -config, everything is as package managedkey/config has it, and the server prints what it changes. SIGHUP has it read the file
// again: connections, keys, mounts, tokens, policies and certificates are exchanged under the requests that are under way. A file
// with a mistake in it changes nothing. Listeners, audit logs, telemetry, store and seal take a restart. Metrics are at sys/metrics,
// in the form of Prometheus.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"
	"time"
)

// drain is how long requests that are under way may take when the server is told to end.
const drain = 30 * time.Second

type flags struct {
	dev    bool
	config string
	verify bool
	head   string
	listen string
	token  string
	pkcs11 modules
	rate   float64
}

func main() {
	var f flags
	flag.BoolVar(&f.dev, "dev", false, "keep everything in memory, with one root token and without TLS")
	flag.StringVar(&f.config, "config", "", "configuration file, or folder of such files: listeners, store, keys, audit and who may do what")
	flag.BoolVar(&f.verify, "verify", false, "with -config: check the audit files, also while a server writes to them, and end")
	flag.StringVar(&f.head, "head", "", "with -verify: the newest line as an earlier -verify has printed it, which must be there still")
	flag.StringVar(&f.listen, "listen", "127.0.0.1:0", "with -dev: address to listen on")
	flag.StringVar(&f.token, "token", "", "with -dev: the root token; a new one if it is empty")
	flag.Var(&f.pkcs11, "pkcs11", "with -dev: NAME=MODULE, a PKCS#11 module for keys of the library NAME; may be given several times")
	flag.Float64Var(&f.rate, "rate", 1000, "with -dev: requests per second that one client may make; 0 for any number")
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
	if f.dev == (f.config != "") || len(rest) > 0 {
		return errors.New("give -dev or -config FILE, and no other arguments; -help lists the flags")
	}
	if f.verify && f.config == "" || f.head != "" && !f.verify {
		return errors.New("-verify goes with -config, and -head with -verify")
	}
	if f.verify {
		return verify(f.config, f.head, out)
	}
	var s *site
	if f.dev {
		s, err = dev(ctx, f, out)
	} else {
		// From the beginning: by default, the signal ends a program.
		hangups := make(chan os.Signal, 1)
		signal.Notify(hangups, syscall.SIGHUP)
		defer signal.Stop(hangups)
		s, err = configured(ctx, f.config, hangups, out)
	}
	if err != nil {
		return err
	}
	return errors.Join(s.serve(ctx, out), s.close())
}
