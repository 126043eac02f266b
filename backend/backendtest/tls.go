package backendtest

import (
	"context"
	"crypto"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"time"

	"github.com/managedkeys/managedkeys/backend"
)

// checkTLS makes handshakes with the key on either side, with every signature scheme that Capabilities().TLS offers, in
// every version that has the scheme.
func checkTLS(c *checker, k Key, key backend.Key) {
	schemes := key.Capabilities().TLS(key.Public())
	if len(schemes) == 0 {
		return // that there should be none is checked by checkCapabilities
	}
	pki := newTLSAuthority(c)
	for _, scheme := range schemes {
		for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
			if !schemeFits(scheme, version) {
				continue
			}
			c.sub(strings.ReplaceAll(tls.VersionName(version)+"/"+scheme.String(), " ", ""), func(c *checker) {
				managed := pki.issue(c, key.(crypto.Signer))
				managed.SupportedSignatureAlgorithms = []tls.SignatureScheme{scheme}
				plain := pki.issue(c, newECDSA(c))
				pki.handshake(c, version, "server", managed, plain, managed)
				pki.handshake(c, version, "client", plain, managed, managed)
			})
		}
	}
}

// schemeFits reports whether a TLS version has a scheme: 1.3 has no RSASSA-PKCS1-v1_5 in handshakes (RFC 8446, Section
// 4.2.3) and ML-DSA is defined for 1.3 only.
func schemeFits(s tls.SignatureScheme, version uint16) bool {
	switch s {
	case tls.PKCS1WithSHA256, tls.PKCS1WithSHA384, tls.PKCS1WithSHA512:
		return version < tls.VersionTLS13
	case tls.PSSWithSHA256, tls.PSSWithSHA384, tls.PSSWithSHA512, tls.Ed25519,
		tls.ECDSAWithP256AndSHA256, tls.ECDSAWithP384AndSHA384, tls.ECDSAWithP521AndSHA512:
		return true
	}
	return version >= tls.VersionTLS13
}

// tlsAuthority is a certificate authority in software, so that a key can be tried that can't sign certificates.
type tlsAuthority struct {
	root *x509.Certificate
	key  crypto.Signer
	pool *x509.CertPool
}

func newTLSAuthority(c *checker) *tlsAuthority {
	c.Helper()
	a := &tlsAuthority{key: newECDSA(c), pool: x509.NewCertPool()}
	a.root = c.certificate(rootTemplate(), rootTemplate(), a.key.Public(), softSigner{a.key})
	a.pool.AddCert(a.root)
	return a
}

// softSigner is a signer in software that, as a key manager does, ignores the source of randomness.
type softSigner struct{ crypto.Signer }

func (s softSigner) Sign(_ io.Reader, digest []byte, opts crypto.SignerOpts) ([]byte, error) {
	return s.Signer.Sign(nil, digest, opts)
}

func (a *tlsAuthority) issue(c *checker, key crypto.Signer) tls.Certificate {
	c.Helper()
	leaf := c.certificate(leafTemplate(), a.root, key.Public(), softSigner{a.key})
	return tls.Certificate{Certificate: [][]byte{leaf.Raw}, PrivateKey: key, Leaf: leaf}
}

// handshake connects a client and a server that authenticate each other, and checks that the one whose certificate is
// tested was seen as the peer by the other.
func (a *tlsAuthority) handshake(c *checker, version uint16, side string, server, client, tested tls.Certificate) {
	c.Helper()
	s, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		c.Fatalf("listening on loopback: %v", err)
	}
	defer s.Close()
	ctx, cancel := context.WithTimeout(c.Context(), patience)
	defer cancel()

	type result struct {
		state tls.ConnectionState
		err   error
	}
	served := make(chan result, 1)
	go func() {
		state, err := serve(ctx, s, &tls.Config{
			MinVersion: version, MaxVersion: version, Certificates: []tls.Certificate{server},
			ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: a.pool,
		})
		served <- result{state, err}
	}()
	state, err := connect(ctx, s.Addr().String(), &tls.Config{
		MinVersion: version, MaxVersion: version, Certificates: []tls.Certificate{client},
		RootCAs: a.pool, ServerName: serverName,
	})
	s.Close() // so that the server ends if the client never came
	r := <-served
	if err := errors.Join(err, r.err); err != nil {
		c.scan("handshake", err.Error())
		c.Errorf("handshake with the key as %s: %s", side, c.cfg.mask(err.Error()))
		return
	}
	seen := state
	if side == "client" {
		seen = r.state
	}
	if seen.Version != version || len(seen.PeerCertificates) == 0 || !seen.PeerCertificates[0].Equal(tested.Leaf) {
		c.Errorf("handshake with the key as %s: the peer saw %s and %d certificates, not this key's",
			side, tls.VersionName(seen.Version), len(seen.PeerCertificates))
	}
}

// serve accepts one connection and answers what it reads.
func serve(ctx context.Context, l net.Listener, cfg *tls.Config) (tls.ConnectionState, error) {
	raw, err := l.Accept()
	if err != nil {
		return tls.ConnectionState{}, fmt.Errorf("server: %w", err)
	}
	return talk(ctx, tls.Server(raw, cfg), func(conn io.ReadWriter) error {
		var line [5]byte
		if _, err := io.ReadFull(conn, line[:]); err != nil {
			return fmt.Errorf("server: %w", err)
		}
		_, err := conn.Write(line[:])
		return err
	})
}

func connect(ctx context.Context, addr string, cfg *tls.Config) (tls.ConnectionState, error) {
	raw, err := new(net.Dialer).DialContext(ctx, "tcp", addr)
	if err != nil {
		return tls.ConnectionState{}, fmt.Errorf("client: %w", err)
	}
	return talk(ctx, tls.Client(raw, cfg), func(conn io.ReadWriter) error {
		var line [5]byte
		if _, err := conn.Write([]byte("hello")); err != nil {
			return fmt.Errorf("client: %w", err)
		}
		if _, err := io.ReadFull(conn, line[:]); err != nil {
			return fmt.Errorf("client: %w", err)
		}
		return nil
	})
}

// talk makes the handshake and then runs dialogue, within the context and the suite's patience.
func talk(ctx context.Context, conn *tls.Conn, dialogue func(io.ReadWriter) error) (tls.ConnectionState, error) {
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(patience)); err != nil {
		return tls.ConnectionState{}, err
	}
	if err := conn.HandshakeContext(ctx); err != nil {
		return tls.ConnectionState{}, err
	}
	return conn.ConnectionState(), dialogue(conn)
}
