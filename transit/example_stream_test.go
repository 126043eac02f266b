package transit_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/x509"
	"fmt"
	"io"
	"log"
	"strings"

	"golang.org/x/crypto/ssh"

	"github.com/managedkeys/managedkeys/backend/software"
	"github.com/managedkeys/managedkeys/managedkey"
	"github.com/managedkeys/managedkeys/transit"
)

// newEngine returns an engine with software keys, for examples.
func newEngine(ctx context.Context, store *software.Backend, kinds map[string]string) *transit.Engine {
	mount, err := managedkey.NewRegistry().Mount(ctx, "", "transit")
	if err != nil {
		log.Fatal(err)
	}
	engine := transit.New(mount, &transit.Options{Software: store})
	for name, kind := range kinds {
		if err := engine.CreateKey(ctx, name, transit.KeyOptions{Type: kind}); err != nil {
			log.Fatal(err)
		}
	}
	return engine
}

// A file of any size is encrypted in constant memory, and bound to its name.
func ExampleEngine_NewEncryptingWriter() {
	ctx := context.Background()
	store := software.New(nil)
	defer store.Close()
	engine := newEngine(ctx, store, map[string]string{"backups": transit.TypeAES256})

	var file bytes.Buffer
	opts := transit.StreamOptions{Format: transit.StreamAESGCMHKDF, AssociatedData: []byte("2026-11-26.tar")}
	w, err := engine.NewEncryptingWriter(ctx, "backups", &file, opts)
	if err != nil {
		log.Fatal(err)
	}
	if _, err := io.Copy(w, strings.NewReader("a large archive")); err != nil {
		log.Fatal(err)
	}
	if err := w.Close(); err != nil { // writes the end, without which the stream is not whole
		log.Fatal(err)
	}

	r, err := engine.NewDecryptingReader(ctx, "backups", bytes.NewReader(file.Bytes()), opts)
	if err != nil {
		log.Fatal(err)
	}
	data, err := io.ReadAll(r)
	fmt.Printf("%s %v\n", data, err)

	r, err = engine.NewDecryptingReader(ctx, "backups", bytes.NewReader(file.Bytes()[:file.Len()-1]), opts)
	if err != nil {
		log.Fatal(err)
	}
	_, err = io.ReadAll(r)
	fmt.Println(err)
	// Output:
	// a large archive <nil>
	// transit: stream: decryption failed
}

// An authority for SSH certificates.
func ExampleEngine_Signer() {
	ctx := context.Background()
	store := software.New(nil)
	defer store.Close()
	engine := newEngine(ctx, store, map[string]string{"ssh-ca": transit.TypeEd25519, "alice": transit.TypeP256})

	key, err := engine.Signer(ctx, "ssh-ca", 0)
	if err != nil {
		log.Fatal(err)
	}
	authority, err := ssh.NewSignerFromSigner(key)
	if err != nil {
		log.Fatal(err)
	}
	user, err := engine.Signer(ctx, "alice", 0)
	if err != nil {
		log.Fatal(err)
	}
	public, err := ssh.NewPublicKey(user.Public())
	if err != nil {
		log.Fatal(err)
	}
	certificate := &ssh.Certificate{Key: public, CertType: ssh.UserCert, ValidPrincipals: []string{"alice"}, ValidBefore: ssh.CertTimeInfinity}
	if err := certificate.SignCert(rand.Reader, authority); err != nil {
		log.Fatal(err)
	}
	checker := ssh.CertChecker{IsUserAuthority: func(auth ssh.PublicKey) bool {
		return bytes.Equal(auth.Marshal(), authority.PublicKey().Marshal())
	}}
	fmt.Println(certificate.Type(), checker.CheckCert("alice", certificate))
	// Output: ecdsa-sha2-nistp256-cert-v01@openssh.com <nil>
}

// A detached signature of a file for CMS.
func ExampleEngine_Signer_cms() {
	ctx := context.Background()
	store := software.New(nil)
	defer store.Close()
	engine := newEngine(ctx, store, map[string]string{"releases": transit.TypeP256})
	key, err := engine.Signer(ctx, "releases", 0)
	if err != nil {
		log.Fatal(err)
	}
	certificate, err := selfSigned(key, x509.ExtKeyUsageCodeSigning)
	if err != nil {
		log.Fatal(err)
	}
	signature, err := signCMS(key, certificate, []byte("release 1.0")) // for openssl cms -verify
	fmt.Println(len(signature) > 500, err)
	// Output: true <nil>
}
