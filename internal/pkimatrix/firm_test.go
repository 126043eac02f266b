package pkimatrix

import (
	"bytes"
	"crypto/x509"
	"crypto/x509/pkix"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/crypto/ocsp"

	"github.com/managedkeys/managedkeys/managedkey"
	"github.com/managedkeys/managedkeys/managedkey/store/memory"
	"github.com/managedkeys/managedkeys/namespace"
	"github.com/managedkeys/managedkeys/pki"
)

// leaves are the names of the end-entity certificates of a firm.
var leaves = []string{"good", "gone", "late"}

const day = 24 * time.Hour

// firm is what an authority has signed with keys of one kind, as files in a folder, for programs to verify.
//
// The root has signed the issuing CA, which has signed the leaves "good", "gone" (revoked in all lists) and "late" (revoked since the
// complete lists were made). The other root has certified the root's key, and the root that of the other root.
type firm struct {
	kind  kind
	ca    *pki.Authority
	dir   string
	certs map[string]*x509.Certificate    // by name of the file, without ".pem" or ".der"
	lists map[string]*x509.RevocationList // by name of the file, without ".crl.pem" or ".crl"

	databases map[string]error // of NSS, in the folder, and why they could not be made
}

// newFirm makes everything that there is with keys of a kind.
func newFirm(t *testing.T, m manager, k kind) *firm {
	ctx := t.Context()
	f := &firm{kind: k, dir: t.TempDir(), certs: map[string]*x509.Certificate{}, lists: map[string]*x509.RevocationList{}, databases: map[string]error{}}
	registry := managedkey.NewRegistry()
	for _, role := range keyRoles {
		if m.prepare != nil {
			must(t, m.prepare(k, role))
		}
		must(t, registry.Create(ctx, entryOf(m, k, role)))
	}
	mount, err := registry.Mount(ctx, "", "pki")
	must(t, err)
	store := memory.New(nil)
	t.Cleanup(func() { store.Close() })
	// What is revoked after the complete lists goes into delta lists, which are due a while later.
	now := time.Now().Add(-time.Hour)
	f.ca, err = pki.OpenAuthority(ctx, mount, store, &pki.Options{PSS: k.pss, Now: func() time.Time { return now }})
	must(t, err)
	must(t, f.ca.SetCRLConfig(ctx, pki.CRLConfig{AutoRebuild: true, Delta: true, Shards: 2}))
	must(t, f.ca.SetURLs(ctx, pki.URLs{
		Issuer: []string{"http://pki.example.com/{{issuer_id}}.crt"}, OCSP: []string{"http://ocsp.example.com"},
		CRL: []string{"http://pki.example.com/{{issuer_id}}/{{shard}}.crl"}, DeltaCRL: []string{"http://pki.example.com/{{issuer_id}}/{{shard}}.delta"},
	}))
	f.hierarchy(t, m)
	f.revoke(t, "gone", pki.ReasonKeyCompromise)
	must(t, f.ca.Maintain(ctx))
	for _, issuer := range []string{rootKey, issuingKey, otherKey} {
		f.list(t, issuer, issuer, pki.CRLScope{})
	}
	f.list(t, "shard", issuingKey, pki.CRLScope{Shard: f.shard(t, "late")})
	now = time.Now()
	f.revoke(t, "late", pki.ReasonSuperseded)
	must(t, f.ca.Maintain(ctx))
	f.list(t, "shard-delta", issuingKey, pki.CRLScope{Shard: f.shard(t, "late"), Delta: true})
	f.answers(t, "issuer")
	responder, err := f.ca.SetOCSPResponder(ctx, issuingKey, pki.KeyRef{Name: otherKey}, pki.OCSPResponderTemplate{})
	must(t, err)
	f.keep(t, "responder", responder.Certificate)
	f.answers(t, "delegate")
	return f
}

// entryOf is the entry of a key, which is generated when it is first opened unless something else puts it there.
func entryOf(m manager, k kind, role string) managedkey.Entry {
	return managedkey.Entry{Ref: namespace.Ref{Name: role}, Backend: m.Backend, Params: m.params(k, role), AnyMount: true, AllowGenerateKey: m.prepare == nil}
}

func subject(name string) pkix.Name {
	return pkix.Name{Country: []string{"SE"}, Organization: []string{"Example"}, CommonName: "Example " + name}
}

// hierarchy makes the certificates. Each public key on the way is compared with what the key manager itself tells of the key.
func (f *firm) hierarchy(t *testing.T, m manager) {
	ctx := t.Context()
	published := make(map[string][]byte)
	same := func(what, role string, der []byte) {
		t.Helper()
		if published[role] == nil {
			published[role] = m.published(t, f.kind, role)
		}
		for other, want := range published {
			if bytes.Equal(want, der) != (other == role) {
				t.Errorf("%s: the public key is %x; that of %s in the key manager is %x", what, der, other, want)
			}
		}
	}
	root, err := f.ca.GenerateRoot(ctx, pki.KeyRef{Name: rootKey}, rootKey, pki.CATemplate{Subject: subject("Root"), Validity: 3650 * day})
	must(t, err)
	rotation, err := f.ca.RotateRoot(ctx, rootKey, pki.KeyRef{Name: otherKey}, otherKey, pki.CATemplate{Subject: subject("Other Root"), Validity: 3650 * day})
	must(t, err)
	request, err := f.ca.CreateIntermediateCSR(ctx, pki.KeyRef{Name: issuingKey}, pki.CSRTemplate{Subject: subject("Issuing"), CA: true})
	must(t, err)
	same("request", issuingKey, keyOfRequest(t, request))
	signed, err := f.ca.SignIntermediate(ctx, rootKey, request, pki.CATemplate{Validity: 365 * day, MaxPathLen: new(0)})
	must(t, err)
	issuing, err := f.ca.SetSigned(ctx, issuingKey, append(signed.Chain, signed.Certificate))
	must(t, err)
	for _, c := range []struct {
		name, role string
		cert       *x509.Certificate
	}{
		{"root", rootKey, root.Certificate()}, {"other", otherKey, rotation.Issuer.Certificate()}, {"issuing", issuingKey, issuing.Certificate()},
		{"root-by-other", rootKey, rotation.OldByNew}, {"other-by-root", otherKey, rotation.NewByOld},
	} {
		f.keep(t, c.name, c.cert)
		same(c.name, c.role, c.cert.RawSubjectPublicKeyInfo)
	}
	role := pki.NewRole("r")
	role.IssuerRef, role.KeyType, role.AllowedDomains, role.AllowSubdomains, role.UsePSS = issuingKey, "any", pki.Strings{"example.com"}, true, f.kind.pss
	must(t, f.ca.PutRole(ctx, role))
	csr, err := f.ca.Engine().CreateCSR(ctx, otherKey, pki.CSRTemplate{DNSNames: []string{"good.example.com"}})
	must(t, err)
	same("request of a leaf", otherKey, keyOfRequest(t, csr))
	for _, leaf := range leaves {
		issued, err := f.ca.Sign(ctx, "r", csr, pki.IssueRequest{CommonName: leaf + ".example.com"})
		must(t, err)
		f.keep(t, leaf, issued.Certificate)
	}
}

// keyOfRequest returns the public key of a request that verifies.
func keyOfRequest(t *testing.T, der []byte) []byte {
	request, err := x509.ParseCertificateRequest(der)
	must(t, err)
	must(t, request.CheckSignature())
	return request.RawSubjectPublicKeyInfo
}

// keep writes a certificate to files.
func (f *firm) keep(t *testing.T, name string, cert *x509.Certificate) {
	f.certs[name] = cert
	f.write(t, name+".pem", pki.EncodePEM(cert))
	f.write(t, name+".der", cert.Raw)
}

// list writes a CRL of an issuer to files.
func (f *firm) list(t *testing.T, name, issuer string, scope pki.CRLScope) {
	crl, err := f.ca.ScopedCRL(t.Context(), issuer, scope)
	must(t, err)
	list, err := x509.ParseRevocationList(crl.DER)
	must(t, err)
	f.lists[name] = list
	f.write(t, name+".crl.pem", pki.EncodeCRL(crl.DER))
	f.write(t, name+".crl", crl.DER)
}

func (f *firm) shard(t *testing.T, name string) int {
	cert, err := f.ca.Certificate(t.Context(), pki.FormatSerial(f.certs[name].SerialNumber))
	must(t, err)
	return cert.Shard
}

func (f *firm) revoke(t *testing.T, name string, reason int) {
	_, err := f.ca.Revoke(t.Context(), pki.FormatSerial(f.certs[name].SerialNumber), reason, time.Time{})
	must(t, err)
}

func (f *firm) write(t *testing.T, name string, data []byte) {
	must(t, os.WriteFile(filepath.Join(f.dir, name), data, 0o600))
}

// read returns a file of the firm, or nothing.
func (f *firm) read(name string) []byte {
	data, err := os.ReadFile(filepath.Join(f.dir, name))
	if err != nil {
		return nil
	}
	return data
}

// join writes files in PEM into one, and returns its name.
func (f *firm) join(t *testing.T, names ...string) string {
	var all []byte
	for _, name := range names {
		all = append(all, f.read(name)...)
	}
	joined := strings.Join(names, "+")
	f.write(t, joined, all)
	return joined
}

// answers writes an OCSP answer about each leaf to files.
func (f *firm) answers(t *testing.T, by string) {
	for _, leaf := range leaves {
		request, err := ocsp.CreateRequest(f.certs[leaf], f.certs["issuing"], nil)
		must(t, err)
		answer := f.ca.AnswerOCSP(t.Context(), request)
		must(t, answer.Err)
		f.write(t, leaf+"-by-"+by+".ocsp", answer.DER)
	}
}
