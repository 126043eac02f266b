package main

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"time"

	"github.com/managedkeys/managedkeys/pki"
)

// handshake issues a leaf and uses it for TLS on loopback.
func (s *story) handshake(ctx context.Context) error {
	leafKey, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	var leaf *pki.Issued
	err = s.step("leaf certificate", "issuing-ca", func() (string, error) {
		leaf, err = s.issuer.Sign(ctx, leafKey.Public(), pki.LeafTemplate{
			DNSNames: []string{"localhost"}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, Validity: 24 * time.Hour,
		})
		if err != nil {
			return "", err
		}
		return fmt.Sprintf("DNS:localhost, serial %x", leaf.Certificate.SerialNumber), nil
	})
	if err != nil {
		return err
	}
	return s.step("TLS handshake", "issuing-ca", func() (string, error) {
		server := &tls.Config{Certificates: []tls.Certificate{leaf.TLS(leafKey)}}
		roots := x509.NewCertPool()
		roots.AddCert(s.root.Certificate())
		return greet(server, &tls.Config{RootCAs: roots, ServerName: "localhost"})
	})
}

// greet makes one TLS connection over loopback and returns what was agreed on.
func greet(server, client *tls.Config) (string, error) {
	listener, err := tls.Listen("tcp", "127.0.0.1:0", server)
	if err != nil {
		return "", err
	}
	defer listener.Close()
	served := make(chan error, 1)
	go func() {
		conn, err := listener.Accept()
		if err == nil {
			_, err = io.WriteString(conn, "hello")
			err = errors.Join(err, conn.Close())
		}
		served <- err
	}()
	conn, err := tls.Dial("tcp", listener.Addr().String(), client)
	if err != nil {
		return "", err
	}
	defer conn.Close()
	hello, err := io.ReadAll(conn)
	if err = errors.Join(err, <-served); err != nil {
		return "", err
	}
	return fmt.Sprintf("%s, chain of %d verified, server said %q", tls.VersionName(conn.ConnectionState().Version), len(conn.ConnectionState().VerifiedChains[0]), hello), nil
}
