package readme

import (
	"context"
	"crypto"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"net/http"
	"os"
	"sync"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/managedkeys/managedkeys/backend"
	"github.com/managedkeys/managedkeys/backend/awskms"
	"github.com/managedkeys/managedkeys/backend/azurekeyvault"
	"github.com/managedkeys/managedkeys/backend/backendtest"
	"github.com/managedkeys/managedkeys/backend/gcpckms"
	"github.com/managedkeys/managedkeys/backend/pkcs11"
	"github.com/managedkeys/managedkeys/backend/replicated"
	"github.com/managedkeys/managedkeys/backend/software"
	"github.com/managedkeys/managedkeys/managedkey"
	"github.com/managedkeys/managedkeys/managedkey/audit"
	"github.com/managedkeys/managedkeys/managedkey/store"
	"github.com/managedkeys/managedkeys/managedkey/store/bolt"
	"github.com/managedkeys/managedkeys/managedkey/store/etcd"
	"github.com/managedkeys/managedkeys/managedkey/store/postgres"
	"github.com/managedkeys/managedkeys/managedkey/store/seal"
	"github.com/managedkeys/managedkeys/managedkey/telemetry"
	"github.com/managedkeys/managedkeys/namespace"
	"github.com/managedkeys/managedkeys/pki"
)

// The functions below are the README's code, so that it compiles. They need a token, files or answers that are not
// there, and are not run.
var _ = []any{token, byURI, discovered, byName, fromVault, clouds, cloudParams, twoPlaces, stored, inPostgres, inEtcd, sealing, file, tenants, authority, cryptography, server, bounded, tested, handling, watched, verified, lasting, many, streamed, webToken, issuers, roles, revocations}

func token(ctx context.Context, keys *managedkey.Registry) error {
	hsm, err := pkcs11.New(pkcs11.Library{Name: "hsm1", Path: "/usr/lib/softhsm/libsofthsm2.so"})
	if err != nil {
		return err
	}
	return keys.Create(ctx, managedkey.Entry{
		Ref:              namespace.Ref{Namespace: "team-a", Name: "issuing-ca"},
		AllowGenerateKey: true,
		Backend:          hsm,
		Params: pkcs11.Params{Library: "hsm1", TokenLabel: "team-a", PIN: "env:HSM_PIN",
			KeyLabel: "issuing-ca", Mechanism: pkcs11.ECDSA, Curve: "P256"},
	})
}

func byURI(ctx context.Context, hsm *pkcs11.Backend) (backend.Key, error) {
	params, err := pkcs11.ParseURI("pkcs11:token=team-a;object=issuing-ca?module-name=hsm1&pin-source=file:/run/pin&x-mechanism=CKM_ECDSA")
	if err != nil {
		return nil, err
	}
	return hsm.Open(ctx, params)
}

func discovered(ctx context.Context, keys *managedkey.Registry, hsm backend.Backend) error {
	scope := pkcs11.Params{Library: "hsm1", TokenLabel: "team-a", PIN: "env:HSM_PIN"}
	for found, err := range keys.Discover(ctx, "team-a", managedkey.Connection{Backend: hsm}, scope) {
		if err != nil {
			return err
		}
		if found.Ref.Name != "" {
			continue // an entry points at it already
		}
		fmt.Println(found.Entry.Ref, found.URI) // team-a/issuing-ca pkcs11:token=team-a;serial=…;object=issuing-ca;…
		if err := keys.Create(ctx, found.Entry); err != nil {
			return err
		}
	}
	return nil
}

func byName(ctx context.Context, hsm, cloud backend.Backend) (backend.Key, error) {
	uri, err := managedkey.ParseURI("arn:aws:kms:eu-central-1:111122223333:alias/issuing-ca")
	if err != nil {
		return nil, err
	}
	return uri.Open(ctx, hsm, cloud) // with whichever of them has it
}

func fromVault(ctx context.Context, keys *managedkey.Registry, answers []byte, hsm backend.Backend) error {
	imports, err := keys.ImportManagedKeys(answers, &managedkey.ImportOptions{
		Namespace: "team-a", Backends: []backend.Backend{hsm},
		Fill: func(namespace.Ref, string) (string, error) { return "env:HSM_PIN", nil }, // Vault tells no secrets
	})
	if err != nil {
		return err
	}
	for _, key := range imports.Keys {
		if err := keys.Create(ctx, key.Entry); err != nil {
			return err
		}
	}
	return nil
}

func clouds(ctx context.Context, keys *managedkey.Registry) error {
	cloud, err := awskms.Connect(nil)
	if err != nil {
		return err
	}
	return keys.Create(ctx, managedkey.Entry{
		Ref:              namespace.Ref{Namespace: "team-a", Name: "issuing-ca"},
		AllowGenerateKey: true,
		Backend:          cloud,
		Params:           awskms.Params{KMSKey: "alias/issuing-ca", KeyType: awskms.ECDSA, Curve: "P256"},
	})
}

var cloudParams = []backend.Params{
	azurekeyvault.Params{VaultName: "myvault", KeyName: "issuing-ca", KeyType: azurekeyvault.EC, Curve: azurekeyvault.P256},
	gcpckms.Params{Project: "my-project", Region: "europe-west3", KeyRing: "ca", CryptoKey: "issuing-ca", Algorithm: "EC_SIGN_P256_SHA256"},
}

func twoPlaces(ctx context.Context, keys *managedkey.Registry, ref namespace.Ref, hall1, hall2 *awskms.Backend) error {
	places, err := replicated.New([]replicated.Place{{Name: "hall-1", Backend: hall1}, {Name: "hall-2", Backend: hall2}}, nil)
	if err != nil {
		return err
	}
	return keys.Create(ctx, managedkey.Entry{Ref: ref, Backend: places, Params: replicated.Params{Places: []replicated.At{
		{Place: "hall-1", Params: awskms.Params{KMSKey: "alias/issuing-ca", Region: "eu-central-1"}},
		{Place: "hall-2", Params: awskms.Params{KMSKey: "alias/issuing-ca", Region: "eu-west-1"}},
	}}})
}

func file() error {
	keys, err := software.OpenFile("keys.mk", "env:KEYS_PASSPHRASE", nil)
	if err != nil {
		return err
	}
	return keys.Close()
}

func tenants(ctx context.Context, keys *managedkey.Registry) error {
	mount, err := keys.Mount(ctx, "team-a", "pki", "issuing-ca") // this mount may use this key of team-a
	if err != nil {
		return err
	}
	key, err := mount.Key(ctx, "issuing-ca")
	if err != nil {
		return err
	}
	fmt.Println(key.Capabilities().Usages)
	return keys.Revoke(ctx, mount, "issuing-ca") // and from now on key fails, wherever it was passed
}

func stored(ctx context.Context, hsm, cloud backend.Backend) (*managedkey.Registry, error) {
	file, err := bolt.Open("/var/lib/keys/store", nil)
	if err != nil {
		return nil, err
	}
	return managedkey.Open(ctx, file, []managedkey.Connection{
		{Name: "hall-1", Backend: hsm},
		{Name: "team-a", Backend: cloud, Namespaces: []namespace.Path{"team-a"}}, // and nobody else
	}, nil)
}

func inPostgres(ctx context.Context) (store.Store, error) {
	shared, err := postgres.Connect(ctx, "env:DATABASE_URL", nil) // postgres://keys@db1,db2/keys?target_session_attrs=read-write
	return shared, err
}

func inEtcd(ctx context.Context, config *tls.Config) (store.Store, error) {
	shared, err := etcd.Connect(ctx, clientv3.Config{Endpoints: []string{"etcd1:2379", "etcd2:2379", "etcd3:2379"}, TLS: config}, nil)
	return shared, err
}

func sealing(ctx context.Context, shared store.Store, sealKey backend.Key) (store.Store, error) {
	key, err := seal.Managed(sealKey) // or seal.Passphrase("env:SEAL_PASSPHRASE", nil)
	if err != nil {
		return nil, err
	}
	sealed, err := seal.Open(ctx, shared, key, nil)
	return sealed, err
}

func issuers(ctx context.Context, mount *managedkey.Mount, shared store.Store) error {
	ca, err := pki.OpenAuthority(ctx, mount, shared, nil)
	if err != nil {
		return err
	}
	_, err = ca.GenerateRoot(ctx, pki.KeyRef{Name: "root-ca"}, "root-2026", pki.CATemplate{
		Subject:  pkix.Name{Country: []string{"SE"}, Organization: []string{"Example"}, CommonName: "Example Root"},
		Validity: 10 * 365 * 24 * time.Hour,
	})
	if err != nil {
		return err
	}
	request, err := ca.CreateIntermediateCSR(ctx, pki.KeyRef{Name: "issuing-ca"}, pki.CSRTemplate{
		Subject: pkix.Name{Country: []string{"SE"}, Organization: []string{"Example"}, CommonName: "Example Issuing"},
	})
	if err != nil {
		return err
	}
	signed, err := ca.SignIntermediate(ctx, "root-2026", request, pki.CATemplate{Validity: 365 * 24 * time.Hour, MaxPathLen: new(0)})
	if err != nil {
		return err
	}
	issuing, err := ca.SetSigned(ctx, "issuing-2026", append(signed.Chain, signed.Certificate))
	if err != nil {
		return err
	}
	return ca.SetDefaultIssuer(ctx, issuing.ID)
}

func revocations(ctx context.Context, ca *pki.Authority) error {
	err := ca.SetURLs(ctx, pki.URLs{
		OCSP:     []string{"http://ocsp.example.com"},
		CRL:      []string{"http://crl.example.com/{{issuer_id}}/{{shard}}.crl"},
		DeltaCRL: []string{"http://crl.example.com/{{issuer_id}}/{{shard}}.delta"},
	})
	if err != nil {
		return err
	}
	err = ca.SetCRLConfig(ctx, pki.CRLConfig{AutoRebuild: true, Delta: true, Shards: 64})
	if err != nil {
		return err
	}
	_, err = ca.SetOCSPResponder(ctx, "issuing-2026", pki.KeyRef{Name: "ocsp"}, pki.OCSPResponderTemplate{}) // or the issuer answers itself
	if err != nil {
		return err
	}
	if err := ca.SetOCSPConfig(ctx, pki.OCSPConfig{Store: true}); err != nil {
		return err
	}
	go http.ListenAndServe(":8080", ca.OCSPHandler())
	list, err := ca.ScopedCRL(ctx, "issuing-2026", pki.CRLScope{Shard: 7})
	if err != nil {
		return err
	}
	return os.WriteFile("7.crl", list.DER, 0o644)
}

func roles(ctx context.Context, ca *pki.Authority, csr []byte) error {
	role, err := pki.DecodeRole("web", []byte(`{"allowed_domains": "example.com", "allow_subdomains": true, "key_type": "ec", "max_ttl": "90d"}`))
	if err != nil {
		return err
	}
	if err := ca.PutRole(ctx, role); err != nil {
		return err
	}
	pair, err := ca.Issue(ctx, "web", pki.IssueRequest{CommonName: "www.example.com"}) // a key and its certificate
	if err != nil {
		return err
	}
	issued, err := ca.Sign(ctx, "web", csr, pki.IssueRequest{}) // or for the key of a request
	if err != nil {
		return err
	}
	fmt.Printf("%s%s", pair.PEM(), issued.PEM())
	serial := pki.FormatSerial(pair.Certificate.SerialNumber)
	if _, err := ca.Revoke(ctx, serial, pki.ReasonSuperseded, time.Time{}); err != nil {
		return err
	}
	crl, err := ca.CRL(ctx, "") // made now, since something was revoked
	if err != nil {
		return err
	}
	return os.WriteFile("issuing.crl", crl.DER, 0o644)
}

func authority(ctx context.Context, mount *managedkey.Mount, csr []byte) ([]byte, error) {
	engine := pki.New(mount, nil)
	root, err := engine.CreateRoot(ctx, "issuing-ca", pki.CATemplate{
		Subject:  pkix.Name{Organization: []string{"Example"}, CommonName: "Example Root"},
		Validity: 10 * 365 * 24 * time.Hour,
	})
	if err != nil {
		return nil, err
	}
	leaf, err := root.SignCSR(ctx, csr, pki.LeafTemplate{Validity: 90 * 24 * time.Hour})
	if err != nil {
		return nil, err
	}
	return leaf.PEM(), nil
}

func server(chain *pki.Issued, signer crypto.Signer) *tls.Config {
	return &tls.Config{Certificates: []tls.Certificate{chain.TLS(signer)}}
}

func bounded(ctx context.Context, keys *managedkey.Registry, ref namespace.Ref, ciphertext []byte) ([]byte, error) {
	key, err := keys.Key(ctx, ref)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	return key.DecryptContext(ctx, ciphertext, &rsa.OAEPOptions{Hash: crypto.SHA256})
}

func tested(ctx context.Context, keys *managedkey.Registry, ref namespace.Ref) error {
	report, err := keys.Test(ctx, ref, nil) // makes no key, unless TestOptions say so
	fmt.Print(report)                       // a small table: usage, algorithm, time, and what is wrong
	return err
}

func handling(err error) string {
	var failed *managedkey.Error
	switch {
	case errors.Is(err, backend.ErrNotPermitted):
		return "policy forbids it"
	case errors.Is(err, backend.ErrUnavailable):
		return "the key manager is away; try again later"
	case errors.As(err, &failed):
		return failed.Op + " of " + failed.Ref.String() + " failed"
	}
	return ""
}

// keyManager is what conformance declares: a store with one key, of which each backend is another client.
var keyManager = sync.OnceValue(func() *software.Backend {
	b := software.New(nil)
	if _, err := b.Generate(context.Background(), software.Params{KeyName: "p256", KeyType: software.ECDSA, Curve: software.P256}, nil); err != nil {
		panic(err)
	}
	return b
})

var conformance = backendtest.Config{
	New: func(testing.TB) backend.Backend { return keyManager().Share() },
	Keys: []backendtest.Key{{
		Name: "P-256", Algorithm: "ECDSA P-256", Params: software.Params{KeyName: "p256"},
		Signs:   []x509.SignatureAlgorithm{x509.ECDSAWithSHA256, x509.ECDSAWithSHA384, x509.ECDSAWithSHA512},
		Digests: []crypto.Hash{crypto.SHA224, crypto.SHA3_224, crypto.SHA3_256, crypto.SHA3_384, crypto.SHA3_512},
		Agrees:  true,
		Random:  true,
	}},
	Generate: []backendtest.Generate{{Name: "AES", Algorithm: "AES-256", Replaces: true,
		Params: software.Params{KeyName: "new", KeyType: software.AES, KeyBits: 256}}},
	Import: []backendtest.Import{{Name: "HMAC", Replaces: true, Material: make([]byte, 32),
		Params: software.Params{KeyName: "imported", KeyType: software.HMAC, KeyBits: 256}}},
	Absent:  software.Params{KeyName: "absent"},
	Invalid: map[string]backend.Params{"no name": software.Params{}},
}

func TestConformance(t *testing.T) {
	backendtest.Run(t, conformance)
}

func watched(ctx context.Context, st store.Store, conns []managedkey.Connection) error {
	auditLog, err := audit.New("file:/etc/myapp/audit.key", // at least 32 bytes, as of: head -c 32 /dev/urandom | base64
		[]audit.Sink{audit.File{Path: "/var/log/myapp/audit.log", MaxSize: 100 << 20}, audit.Slog{}},
		&audit.Options{FailClosed: audit.AllSinks}) // without FailClosed, operations go on when nothing can be recorded
	if err != nil {
		return err
	}
	metrics, err := telemetry.New(nil) // of the program's OpenTelemetry SDK
	if err != nil {
		return err
	}
	keys, err := managedkey.Open(ctx, st, conns, &managedkey.Options{Observer: managedkey.Observers(metrics, auditLog)})
	if err != nil {
		return err
	}
	stop, err := metrics.Watch(keys) // sessions, queues, circuit breakers, entries
	if err != nil {
		return err
	}
	return errors.Join(stop(), keys.Close(), auditLog.Close())
}

func verified() error {
	report, err := audit.VerifyFiles("file:/etc/myapp/audit.key", "/var/log/myapp/audit.log")
	if errors.Is(err, audit.ErrTampered) {
		fmt.Println(report.Problems) // which lines were edited, removed, moved or cut
	}
	return err
}
