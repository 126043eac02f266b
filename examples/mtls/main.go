// Command mtls runs an HTTPS server and a client that authenticate each other with managed keys: neither private key, nor
// that of the authority that certified them, ever leaves its key manager. Here that is memory; put another
// backend.Backend in its place and nothing else changes.
package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"time"

	"github.com/managedkeys/managedkeys/backend/software"
	"github.com/managedkeys/managedkeys/managedkey"
	"github.com/managedkeys/managedkeys/namespace"
	"github.com/managedkeys/managedkeys/pki"
)

const team namespace.Path = "team-a"

func main() {
	if err := run(context.Background()); err != nil {
		log.Fatal(err)
	}
}

func run(ctx context.Context) error {
	manager := software.New(nil)
	defer manager.Close()
	keys := managedkey.NewRegistry()
	for _, name := range []string{"ca", "server", "client"} {
		err := keys.Create(ctx, managedkey.Entry{
			Ref:              namespace.Ref{Namespace: team, Name: name},
			AllowGenerateKey: true,
			Backend:          manager,
			Params:           software.Params{KeyName: name, KeyType: software.ECDSA, Curve: software.P256},
		})
		if err != nil {
			return err
		}
	}
	mount, err := keys.Mount(ctx, team, "pki", "ca")
	if err != nil {
		return err
	}
	ca, err := pki.New(mount, nil).CreateRoot(ctx, "ca", pki.CATemplate{
		Subject: pkix.Name{Organization: []string{"Example"}, CommonName: "Example Root"}, Validity: 24 * time.Hour,
	})
	if err != nil {
		return err
	}
	roots := x509.NewCertPool()
	roots.AddCert(ca.Certificate())

	server, err := certificate(ctx, keys, ca, "server", pki.LeafTemplate{IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}})
	if err != nil {
		return err
	}
	client, err := certificate(ctx, keys, ca, "client", pki.LeafTemplate{EmailAddresses: []string{"client@example.com"}})
	if err != nil {
		return err
	}
	listener, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{
		Certificates: []tls.Certificate{server}, ClientCAs: roots, ClientAuth: tls.RequireAndVerifyClientCert,
	})
	if err != nil {
		return err
	}
	greeter := &http.Server{ReadHeaderTimeout: 5 * time.Second, ErrorLog: log.New(io.Discard, "", 0), Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprintf(w, "hello, %s", r.TLS.VerifiedChains[0][0].EmailAddresses[0])
	})}
	defer greeter.Close()
	go greeter.Serve(listener)

	for _, test := range []struct {
		who          string
		certificates []tls.Certificate
	}{{"with the client's key", []tls.Certificate{client}}, {"without a key", nil}} {
		answer, err := get("https://"+listener.Addr().String(), &tls.Config{RootCAs: roots, Certificates: test.certificates})
		if err != nil {
			answer = "refused: " + err.Error()
		}
		fmt.Printf("%s: %s\n", test.who, answer)
	}
	return nil
}

// certificate returns a certificate for a managed key, with the managed key as its private key.
func certificate(ctx context.Context, keys *managedkey.Registry, ca *pki.CA, name string, t pki.LeafTemplate) (tls.Certificate, error) {
	signer, err := keys.Signer(ctx, namespace.Ref{Namespace: team, Name: name})
	if err != nil {
		return tls.Certificate{}, err
	}
	t.Validity = time.Hour
	issued, err := ca.Sign(ctx, signer.Public(), t)
	if err != nil {
		return tls.Certificate{}, err
	}
	return issued.TLS(signer), nil
}

func get(url string, config *tls.Config) (string, error) {
	client := &http.Client{Transport: &http.Transport{TLSClientConfig: config, DisableKeepAlives: true}, Timeout: 10 * time.Second}
	response, err := client.Get(url)
	if err != nil {
		return "", err
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	return string(body), err
}
