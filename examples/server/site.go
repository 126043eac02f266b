package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"

	"github.com/managedkeys/managedkeys/backend"
	"github.com/managedkeys/managedkeys/backend/pkcs11"
	"github.com/managedkeys/managedkeys/backend/software"
	"github.com/managedkeys/managedkeys/managedkey"
	"github.com/managedkeys/managedkeys/managedkey/httpapi"
	"github.com/managedkeys/managedkeys/managedkey/store"
	"github.com/managedkeys/managedkeys/managedkey/store/memory"
)

// site is everything that a server needs. It is made from flags by dev; what else makes one, such as a configuration file, takes its
// place in run.
type site struct {
	keys    *managedkey.Registry
	options *httpapi.Options
	listen  string
	tls     *tls.Config          // nil for a server without TLS
	ready   func(address string) // is called once the server listens

	store    store.Store
	backends []backend.Backend
}

// close ends everything in the order in which it depends on each other.
func (s *site) close() error {
	var all []error
	if s.keys != nil {
		all = append(all, s.keys.Close())
	}
	if s.store != nil {
		all = append(all, s.store.Close())
	}
	for _, b := range s.backends {
		all = append(all, b.Close())
	}
	return errors.Join(all...)
}

// engines are the types that mounts may have. Those without an engine can be mounted, and their paths answer 404.
var engines = map[string]httpapi.Engine{"pki": nil, "transit": nil}

// dev returns a site to try things with: all is in memory, and a root token may do everything.
func dev(ctx context.Context, f flags, out io.Writer) (_ *site, err error) {
	s := &site{listen: f.listen, store: memory.New(nil)}
	defer func() {
		if err != nil {
			err = errors.Join(err, s.close())
		}
	}()
	soft := software.New(nil)
	s.backends = append(s.backends, soft)
	conns := []managedkey.Connection{{Backend: soft}}
	for _, m := range f.pkcs11 {
		hsm, err := pkcs11.New(pkcs11.Library{Name: m.name, Path: m.path})
		if err != nil {
			return nil, err
		}
		s.backends = append(s.backends, hsm)
		conns = append(conns, managedkey.Connection{Name: m.name, Backend: hsm})
	}
	if s.keys, err = managedkey.Open(ctx, s.store, conns, nil); err != nil {
		return nil, err
	}
	token, hash := f.token, httpapi.HashToken(f.token)
	if token == "" {
		token, hash = httpapi.NewToken()
	}
	tokens, err := httpapi.NewTokens(httpapi.Token{SHA256: hash, Accessor: "root", Name: "root", Policies: []string{httpapi.RootPolicy}})
	if err != nil {
		return nil, err
	}
	policies, err := httpapi.NewPolicies()
	if err != nil {
		return nil, err
	}
	s.options = &httpapi.Options{
		Authenticator: tokens, Authorizer: policies, Engines: engines, EchoToken: true,
		Limits: httpapi.Limits{ClientRate: f.rate},
	}
	s.ready = func(address string) {
		if host, _, err := net.SplitHostPort(address); err == nil && !net.ParseIP(host).IsLoopback() {
			fmt.Fprintln(out, "Whoever can reach this address can read the root token on its way: -dev is for this machine alone.")
		}
		fmt.Fprintf(out, "Listening on http://%s\n", address)
		if f.token == "" {
			fmt.Fprintf(out, "Root token: %s\n", token)
		}
	}
	return s, nil
}

// module is a PKCS#11 module and the name of its library.
type module struct{ name, path string }

// modules is a flag that may be given several times.
type modules []module

func (m *modules) String() string { return fmt.Sprint(*m) }

// Set implements flag.Value.
func (m *modules) Set(text string) error {
	name, path, ok := strings.Cut(text, "=")
	if !ok || name == "" || path == "" {
		return errors.New("it takes NAME=MODULE, such as hsm1=/usr/lib/softhsm/libsofthsm2.so")
	}
	*m = append(*m, module{name, path})
	return nil
}
