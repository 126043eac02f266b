package main

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"strconv"
	"syscall"
	"time"

	"golang.org/x/net/netutil"

	"github.com/managedkeys/managedkeys/managedkey/config"
)

// nameOf tells listeners apart.
func nameOf(l *config.Listener) string { return l.Type + " " + l.Address }

func scheme(l *config.Listener) string {
	switch {
	case l.Type == "unix":
		return "unix:"
	case l.TLSCertFile == "":
		return "http://"
	}
	return "https://"
}

// open listens.
func open(l *config.Listener) (net.Listener, error) {
	if l.Type == "unix" {
		removeStale(l.Address)
	}
	listener, err := net.Listen(l.Type, l.Address)
	if err != nil {
		return nil, err
	}
	if l.Type == "unix" {
		mode := uint64(0o600)
		if l.SocketMode != "" {
			mode, _ = strconv.ParseUint(l.SocketMode, 8, 32) // it was checked when the file was loaded
		}
		if err := os.Chmod(l.Address, os.FileMode(mode)); err != nil {
			return nil, errors.Join(err, listener.Close())
		}
	}
	if l.MaxConnections > 0 {
		listener = netutil.LimitListener(listener, l.MaxConnections)
	}
	return listener, nil
}

// removeStale removes the socket of a server that was killed.
func removeStale(path string) {
	info, err := os.Lstat(path)
	if err != nil || info.Mode().Type() != os.ModeSocket {
		return
	}
	conn, err := net.DialTimeout("unix", path, time.Second)
	if err == nil {
		conn.Close() // somebody is there
		return
	}
	if errors.Is(err, syscall.ECONNREFUSED) {
		_ = os.Remove(path) // or listening says why not
	}
}

// setLimits sets what the file says otherwise than httpapi.NewServer.
func setLimits(s *http.Server, l *config.Listener) {
	for to, from := range map[*time.Duration]time.Duration{
		&s.ReadHeaderTimeout: l.ReadHeaderTimeout, &s.ReadTimeout: l.ReadTimeout,
		&s.WriteTimeout: l.WriteTimeout, &s.IdleTimeout: l.IdleTimeout,
	} {
		if from > 0 {
			*to = from
		}
	}
	if l.MaxHeaderSize > 0 {
		s.MaxHeaderBytes = l.MaxHeaderSize
	}
}

// roots are certificates of authorities, by their DER.
type roots map[string]bool

// readRoots returns the authorities of a PEM file, and adds them to a pool.
func readRoots(path string, pool *x509.CertPool) (roots, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	all := make(roots)
	for _, der := range certificatesIn(data) {
		one, err := x509.ParseCertificate(der)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", path, err)
		}
		pool.AddCert(one)
		all[string(der)] = true
	}
	if len(all) == 0 {
		return nil, fmt.Errorf("%s has no certificate in PEM", path)
	}
	return all, nil
}

// port is what a listener needs for TLS.
type port struct {
	tls   *tls.Config // nil without TLS
	roots roots       // of client certificates
}

// newPort reads the certificates of a listener. Clients may also show certificates of the authorities of identities, unless the listener
// wants its own.
func newPort(l *config.Listener, identities []certificate) (port, error) {
	if l.TLSCertFile == "" {
		return port{}, nil
	}
	cert, err := tls.LoadX509KeyPair(l.TLSCertFile, l.TLSKeyFile)
	if err != nil {
		return port{}, err
	}
	c := &tls.Config{Certificates: []tls.Certificate{cert}, MinVersion: tls.VersionTLS12, NextProtos: []string{"h2", "http/1.1"}}
	if l.TLSMinVersion == "tls13" {
		c.MinVersion = tls.VersionTLS13
	}
	if l.TLSClientCAFile == "" {
		return port{tls: c}, nil
	}
	c.ClientCAs, c.ClientAuth = x509.NewCertPool(), tls.VerifyClientCertIfGiven
	own, err := readRoots(l.TLSClientCAFile, c.ClientCAs)
	if err != nil {
		return port{}, err
	}
	if l.TLSRequireClientCert {
		c.ClientAuth = tls.RequireAndVerifyClientCert
		return port{c, own}, nil
	}
	for _, id := range identities {
		for der := range id.roots {
			if one, err := x509.ParseCertificate([]byte(der)); err == nil {
				c.ClientCAs.AddCert(one)
			}
		}
	}
	return port{c, own}, nil
}
