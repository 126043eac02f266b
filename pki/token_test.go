//go:build cgo

package pki

import (
	"bytes"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/hex"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"testing"
	"time"

	"github.com/managedkeys/managedkeys/backend"
	"github.com/managedkeys/managedkeys/backend/pkcs11"
	"github.com/managedkeys/managedkeys/internal/requires"
	"github.com/managedkeys/managedkeys/internal/softhsm"
	"github.com/managedkeys/managedkeys/managedkey"
	"github.com/managedkeys/managedkeys/managedkey/store/memory"
	"github.com/managedkeys/managedkeys/namespace"
)

// TestPublicKeysOfToken: the public key in every request, root, intermediate and cross-certificate is the one that another program,
// OpenSC's pkcs11-tool, reads from the token; and that program made the keys.
func TestPublicKeysOfToken(t *testing.T) {
	program := requires.Tool(t, "opensc", "pkcs11-tool")
	token := softhsm.Require(t)
	run := func(args ...string) string {
		t.Helper()
		args = append([]string{"--module", token.Module, "--token-label", token.Label, "--login", "--pin", token.PIN}, args...)
		out, err := exec.CommandContext(t.Context(), program, args...).CombinedOutput()
		if err != nil {
			t.Fatalf("pkcs11-tool: %v\n%s", err, out)
		}
		return string(out)
	}
	kinds := map[string]pkcs11.Mechanism{"RSA:2048": pkcs11.RSAPKCS, "EC:prime256v1": pkcs11.ECDSA, "EC:secp384r1": pkcs11.ECDSA}
	want := map[string][]byte{} // how SubjectPublicKeyInfo ends
	i := 0
	for kind := range kinds {
		for _, use := range []string{"root", "inter", "other"} {
			i++
			name, id := use+kind[len(kind)-4:], fmt.Sprintf("%02d", i)
			run("--keypairgen", "--label", name, "--id", id, "--key-type", kind)
			if kind == "RSA:2048" {
				path := filepath.Join(t.TempDir(), "key")
				run("--read-object", "--type", "pubkey", "--id", id, "--output-file", path)
				der, err := os.ReadFile(path)
				if err != nil {
					t.Fatal(err)
				}
				want[name] = der
			}
		}
	}
	// Not every version of pkcs11-tool can write keys on P-384 to a file.
	point := regexp.MustCompile(`EC_POINT: +04(?:41|61)([0-9a-f]+)\n +EC_PARAMS: .*\n +label: +(\S+)`)
	for _, found := range point.FindAllStringSubmatch(run("--list-objects", "--type", "pubkey"), -1) {
		der, err := hex.DecodeString(found[1])
		if err != nil {
			t.Fatal(err)
		}
		want[found[2]] = der
	}
	if len(want) != i {
		t.Fatalf("pkcs11-tool shows %d keys of %d", len(want), i)
	}
	hsm, err := pkcs11.New(pkcs11.Library{Name: "softhsm", Path: token.Module})
	if err != nil {
		t.Fatal(err)
	}
	defer hsm.Close()
	registry := managedkey.NewRegistry()
	mount, err := registry.Mount(t.Context(), "", "pki")
	if err != nil {
		t.Fatal(err)
	}
	ca, err := OpenAuthority(t.Context(), mount, memory.New(nil), nil)
	if err != nil {
		t.Fatal(err)
	}
	for kind, mechanism := range kinds {
		t.Run(kind, func(t *testing.T) {
			end := kind[len(kind)-4:]
			for _, use := range []string{"root", "inter", "other"} {
				params := pkcs11.Params{Library: "softhsm", TokenLabel: token.Label, PIN: backend.Secret(token.PIN), KeyLabel: use + end, Mechanism: mechanism}
				err := registry.Create(t.Context(), managedkey.Entry{Ref: namespace.Ref{Name: use + end}, Backend: hsm, Params: params, AnyMount: true})
				if err != nil {
					t.Fatal(err)
				}
			}
			check := func(what, key string, der []byte) {
				t.Helper()
				if len(want[key]) < 65 || !bytes.HasSuffix(der, want[key]) {
					t.Errorf("%s: the public key is %x; the token has %x", what, der, want[key])
				}
			}
			template := func(cn string) CATemplate {
				return CATemplate{Subject: pkix.Name{Organization: []string{"Example"}, CommonName: cn + end}, Validity: 365 * day}
			}
			root, err := ca.GenerateRoot(t.Context(), KeyRef{Name: "root" + end}, "root"+end, template("Root"))
			if err != nil {
				t.Fatal(err)
			}
			check("root", "root"+end, root.Certificate().RawSubjectPublicKeyInfo)
			der, err := ca.CreateIntermediateCSR(t.Context(), KeyRef{Name: "inter" + end, Version: 1}, CSRTemplate{Subject: template("Issuing").Subject, CA: true})
			if err != nil {
				t.Fatal(err)
			}
			csr, err := x509.ParseCertificateRequest(der)
			if err != nil {
				t.Fatal(err)
			}
			check("request", "inter"+end, csr.RawSubjectPublicKeyInfo)
			issued, err := ca.SignIntermediate(t.Context(), "root"+end, der, CATemplate{Validity: 100 * day})
			if err != nil {
				t.Fatal(err)
			}
			check("intermediate", "inter"+end, issued.Certificate.RawSubjectPublicKeyInfo)
			issuer, err := ca.SetSigned(t.Context(), "inter"+end, append(issued.Chain, issued.Certificate))
			if err != nil {
				t.Fatal(err)
			}
			rotation, err := ca.RotateRoot(t.Context(), "root"+end, KeyRef{Name: "other" + end}, "other"+end, template("Next"))
			if err != nil {
				t.Fatal(err)
			}
			check("next root", "other"+end, rotation.Issuer.Certificate().RawSubjectPublicKeyInfo)
			check("next root by the old one", "other"+end, rotation.NewByOld.RawSubjectPublicKeyInfo)
			check("old root by the next one", "root"+end, rotation.OldByNew.RawSubjectPublicKeyInfo)
			r := anyRole("r")
			r.IssuerRef = issuer.ID
			if err := ca.PutRole(t.Context(), r); err != nil {
				t.Fatal(err)
			}
			pair, err := ca.Issue(t.Context(), "r", IssueRequest{CommonName: "a.example", TTL: time.Hour})
			if err != nil {
				t.Fatal(err)
			}
			pool, roots := x509.NewCertPool(), x509.NewCertPool()
			pool.AddCert(issuer.Certificate())
			pool.AddCert(rotation.OldByNew)
			roots.AddCert(rotation.Issuer.Certificate())
			if _, err := pair.Certificate.Verify(x509.VerifyOptions{Roots: roots, Intermediates: pool, DNSName: "a.example"}); err != nil {
				t.Error(err)
			}
		})
	}
}
