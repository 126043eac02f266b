package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"

	"github.com/managedkeys/managedkeys/backend/pkcs11"
	"github.com/managedkeys/managedkeys/backend/software"
	"github.com/managedkeys/managedkeys/managedkey"
	"github.com/managedkeys/managedkeys/managedkey/httpapi"
	"github.com/managedkeys/managedkeys/managedkey/store/memory"
)

// dev returns a site to try things with: all is in memory, and a root token may do everything.
func dev(ctx context.Context, f flags, out io.Writer) (_ *site, err error) {
	s := new(site)
	defer func() {
		if err != nil {
			err = errors.Join(err, s.close())
		}
	}()
	soft := software.New(nil)
	s.later(soft.Close)
	conns := []managedkey.Connection{{Backend: soft}}
	for _, m := range f.pkcs11 {
		hsm, err := pkcs11.New(pkcs11.Library{Name: m.name, Path: m.path})
		if err != nil {
			return nil, err
		}
		s.later(hsm.Close)
		conns = append(conns, managedkey.Connection{Name: m.name, Backend: hsm})
	}
	store := memory.New(nil)
	s.later(store.Close)
	keys, err := managedkey.Open(ctx, store, conns, nil)
	if err != nil {
		return nil, err
	}
	s.later(keys.Close)
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
	engines, err := s.devEngines(store, keys, soft)
	if err != nil {
		return nil, err
	}
	api, err := httpapi.New(keys, &httpapi.Options{
		Authenticator: tokens, Authorizer: policies, Engines: engines, EchoToken: true,
		Limits: httpapi.Limits{ClientRate: f.rate},
	})
	if err != nil {
		return nil, err
	}
	s.later(api.Close)
	listener, err := net.Listen("tcp", f.listen)
	if err != nil {
		return nil, err
	}
	s.later(func() error { closeListener(listener); return nil })
	s.endpoints = append(s.endpoints, &endpoint{listener, httpapi.NewServer(api, nil)})
	s.ready = func() {
		address := listener.Addr().String()
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
