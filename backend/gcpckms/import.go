package gcpckms

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/mlkem"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"strings"
	"time"

	"cloud.google.com/go/kms/apiv1/kmspb"
	"filippo.io/mldsa"
	mldsax509 "filippo.io/mldsa/x509"
	"github.com/googleapis/gax-go/v2"
	kwp "github.com/tink-crypto/tink-go/v2/kwp/subtle"
	"google.golang.org/grpc/codes"

	"github.com/managedkeys/managedkeys/backend"
	"github.com/managedkeys/managedkeys/backend/remote"
)

// Import implements [backend.Importer]. params must be of type [Params], as for [Backend.Generate]; material must be of its
// Algorithm. The material is wrapped in this process with the public key of an import job of the key ring
// (RSA_OAEP_3072_SHA256_AES_256), which is made if there is none of today; it costs nothing and expires after three days.
//
// It takes the permissions cloudkms.importJobs.create, .get and .useToImport, cloudkms.cryptoKeys.create and .get,
// cloudkms.cryptoKeyVersions.create and .list, and those of Open.
func (b *Backend) Import(ctx context.Context, params backend.Params, material any, opts *backend.ImportOptions) (backend.Key, error) {
	p, err := backend.ParamsAs[Params](params)
	if err != nil {
		return nil, err
	}
	if p.Algorithm == "" {
		return nil, invalid("algorithm", "is required to import a key; it takes %v", Algorithms())
	}
	encoded, public, err := encode(algorithms[p.Algorithm], material)
	if err != nil {
		return nil, err
	}
	defer clear(encoded)
	m, leave, err := b.maker(ctx, p, "import")
	if err != nil {
		return nil, err
	}
	defer leave()
	versions, last, failed, err := m.target(opts != nil && opts.Replace)
	if err != nil {
		return nil, err
	}
	name, err := m.importVersion(encoded, public, last, failed)
	if err != nil {
		return nil, err
	}
	if failed == "" {
		if err := m.first(versions, name); err != nil {
			return nil, err
		}
	}
	if _, err := b.ready(m.ctx, m.conn, name); errors.Is(err, backend.ErrKeyDisabled) {
		return nil, fmt.Errorf("%w: %w", backend.ErrInvalidParams, err) // the service could not use the material
	}
	key, err := m.finish(name)
	if err != nil {
		return nil, err
	}
	if public != nil && !equal(key.Public(), public) {
		return nil, fmt.Errorf("gcpckms: key %q is not the one that was imported: %w", key.ID(), backend.ErrKeyChanged)
	}
	return key, nil
}

// target finds or makes the key that a version is imported into. failed is the name of a version whose import has failed
// before, which is then imported again.
func (m *maker) target(replace bool) (versions, last int, failed string, err error) {
	for v, err := range versionsOf(m.ctx, m.b, m.conn, m.p.key()) {
		if errors.Is(err, backend.ErrKeyNotFound) {
			return 0, 0, "", m.createKey(true)
		}
		if err != nil {
			return 0, 0, "", err
		}
		versions, last, failed = versions+1, max(last, number(v.Name)), ""
		if v.State == kmspb.CryptoKeyVersion_IMPORT_FAILED {
			failed = v.Name
		}
	}
	if versions == 1 && failed != "" {
		return versions, last, failed, m.matches(false)
	}
	if versions > 0 {
		if err := m.mayReplace(replace, last); err != nil {
			return 0, 0, "", err
		}
	}
	return versions, last, "", m.matches(false)
}

// importVersion wraps and imports the material, and returns the name of the version.
func (m *maker) importVersion(encoded []byte, public crypto.PublicKey, last int, failed string) (string, error) {
	job, wrapping, err := m.importJob()
	if err != nil {
		return "", err
	}
	wrapped, err := wrapMaterial(wrapping, encoded)
	if err != nil {
		return "", fmt.Errorf("gcpckms: import: wrapping the material: %w: %w", backend.ErrUnavailable, err)
	}
	req := &kmspb.ImportCryptoKeyVersionRequest{
		Parent: m.p.key(), CryptoKeyVersion: failed, Algorithm: m.alg.pb, ImportJob: job, WrappedKey: wrapped,
	}
	v, err := callOnce(m.ctx, m.conn, "ImportCryptoKeyVersion", func(ctx context.Context, opts ...gax.CallOption) (*kmspb.CryptoKeyVersion, error) {
		v, err := m.conn.client.ImportCryptoKeyVersion(ctx, req, opts...)
		if err != nil {
			return nil, err
		}
		return v, within(m.p.key(), parent(v.GetName()), v.GetName())
	})
	if err == nil {
		return v.GetName(), nil
	}
	if public == nil || failed != "" {
		return "", err // nothing would tell whose version it is that is found
	}
	return m.lost(err, last, func(v *kmspb.CryptoKeyVersion) bool { return v.ImportJob == job })
}

// importJob returns the import job of today for the protection level, and its public key.
func (m *maker) importJob() (string, *rsa.PublicKey, error) {
	id := fmt.Sprintf("managedkeys-%s-%s", strings.ToLower(string(m.p.ProtectionLevel)), m.b.clock.now().UTC().Format("20060102"))
	job, err := m.jobOf(id)
	if err == nil && job.State == kmspb.ImportJob_EXPIRED {
		// The clock here is days behind, or somebody has had the job expire.
		suffix := make([]byte, 4)
		rand.Read(suffix)
		job, err = m.jobOf(id + "-" + hex.EncodeToString(suffix))
	}
	for pause := m.b.clock.pause; err == nil && job.State == kmspb.ImportJob_PENDING_GENERATION; pause = min(2*pause, longestPause) {
		timer := time.NewTimer(pause)
		select {
		case <-timer.C:
			job, err = m.getJob(job.Name)
		case <-m.ctx.Done():
			timer.Stop()
			err = contextError(m.ctx, "wait for an import job")
		}
	}
	if err != nil {
		return "", nil, err
	}
	block, _ := pem.Decode([]byte(job.GetPublicKey().GetPem()))
	if job.State != kmspb.ImportJob_ACTIVE || block == nil {
		return "", nil, fmt.Errorf("gcpckms: import job %q is %v and has no public key: %w", job.Name, job.State, backend.ErrUnavailable)
	}
	pub, err := backend.ParsePublicKey(block.Bytes)
	if wrapping, ok := pub.(*rsa.PublicKey); ok && wrapping.N.BitLen() == 3072 {
		return job.Name, wrapping, nil
	}
	return "", nil, fmt.Errorf("gcpckms: import job %q has the public key %T, want RSA-3072 (error %v): %w", job.Name, pub, err, backend.ErrIntegrity)
}

// jobOf makes the import job with the id, or reads it if there is one.
func (m *maker) jobOf(id string) (*kmspb.ImportJob, error) {
	name := m.p.ring() + "/importJobs/" + id
	job, err := call(m.ctx, m.conn, remote.Call{Op: "CreateImportJob"}, func(ctx context.Context) (*kmspb.ImportJob, error) {
		job, err := m.conn.client.CreateImportJob(ctx, &kmspb.CreateImportJobRequest{
			Parent: m.p.ring(), ImportJobId: id,
			ImportJob: &kmspb.ImportJob{
				ImportMethod: kmspb.ImportJob_RSA_OAEP_3072_SHA256_AES_256, ProtectionLevel: m.p.ProtectionLevel.pb(),
			},
		}, once)
		return checkJob(name, job, err)
	})
	if codeOf(err) == codes.AlreadyExists {
		return m.getJob(name)
	}
	return job, err
}

func (m *maker) getJob(name string) (*kmspb.ImportJob, error) {
	return call(m.ctx, m.conn, remote.Call{Op: "GetImportJob"}, func(ctx context.Context) (*kmspb.ImportJob, error) {
		job, err := m.conn.client.GetImportJob(ctx, &kmspb.GetImportJobRequest{Name: name}, once)
		return checkJob(name, job, err)
	})
}

func checkJob(name string, job *kmspb.ImportJob, err error) (*kmspb.ImportJob, error) {
	if err != nil {
		return nil, err
	}
	a := answer{name: name}
	if !sameResource(name, job.GetName()) {
		a.from(job.GetName())
	}
	return job, a.err
}

// wrapMaterial encrypts key material as CKM_RSA_AES_KEY_WRAP does (PKCS #11 v3.1, Section 6.1.26): an ephemeral AES key with
// RSAES-OAEP, and the material with that key (RFC 5649).
func wrapMaterial(wrapping *rsa.PublicKey, material []byte) ([]byte, error) {
	ephemeral := make([]byte, 32)
	rand.Read(ephemeral)
	defer clear(ephemeral)
	first, err := rsa.EncryptOAEP(sha256.New(), rand.Reader, wrapping, ephemeral, nil)
	if err != nil {
		return nil, err
	}
	w, err := kwp.NewKWP(ephemeral)
	if err != nil {
		return nil, err
	}
	second, err := w.Wrap(material)
	return append(first, second...), err
}

// encode returns material in the form in which it is wrapped (PKCS #8, or the bytes of a symmetric key) and its public key,
// if it has one. The error wraps backend.ErrInvalidParams or backend.ErrUnsupported.
func encode(a *algorithm, material any) ([]byte, crypto.PublicKey, error) {
	public, err := checkMaterial(a, material)
	if err != nil {
		return nil, nil, err
	}
	if secret, ok := material.([]byte); ok {
		return append([]byte(nil), secret...), nil, nil
	}
	if !a.fits(public) {
		return nil, nil, invalid("material", "got a private key of %s; the algorithm is %s", backend.Describe(public), a.name)
	}
	encoded, err := mldsax509.MarshalPKCS8PrivateKey(material)
	if err != nil {
		return nil, nil, fmt.Errorf("gcpckms: material: a %T can't be imported: %w", material, backend.ErrUnsupported)
	}
	return encoded, public, nil
}

// checkMaterial returns the public key of material, or nil if it is symmetric.
func checkMaterial(a *algorithm, material any) (crypto.PublicKey, error) {
	malformed := invalid("material", "got a %T that is empty or malformed", material)
	switch key := material.(type) {
	case *rsa.PrivateKey:
		if key == nil || key.N == nil || key.D == nil || len(key.Primes) != 2 || key.Validate() != nil {
			return nil, malformed
		}
		return &key.PublicKey, nil
	case *ecdsa.PrivateKey:
		if key == nil || key.Curve == nil {
			return nil, malformed
		}
		if key.Curve == backend.Secp256k1() {
			return nil, fmt.Errorf("gcpckms: material: keys on secp256k1 can't be imported: %w", backend.ErrUnsupported)
		}
		if _, err := x509.MarshalPKCS8PrivateKey(key); err != nil {
			return nil, malformed
		}
		return &key.PublicKey, nil
	case ed25519.PrivateKey:
		if len(key) != ed25519.PrivateKeySize || !key.Equal(ed25519.NewKeyFromSeed(key.Seed())) {
			return nil, malformed
		}
		return key.Public(), nil
	case *mldsa.PrivateKey:
		if key == nil {
			return nil, malformed
		}
		return key.PublicKey(), nil
	case *mlkem.DecapsulationKey768, *mlkem.DecapsulationKey1024:
		return nil, fmt.Errorf("gcpckms: material: got %T; ML-KEM keys can't be imported: %w", material, backend.ErrUnsupported)
	case []byte:
		want := a.bits / 8
		if a.kind == kindMAC {
			want = a.hash.Size()
		}
		if a.asymmetric() || len(key) != want {
			return nil, invalid("material", "got %d bytes; the algorithm %s takes %s", len(key), a.name, a.takes(want))
		}
		return nil, nil
	}
	return nil, invalid("material", "got %T; it takes a private key of crypto/rsa, crypto/ecdsa, crypto/ed25519 or filippo.io/mldsa, or bytes", material)
}

// takes says what material an algorithm takes.
func (a *algorithm) takes(size int) string {
	if a.asymmetric() {
		return "a private key of " + a.describe()
	}
	return fmt.Sprintf("%d bytes", size)
}

func equal(a, b crypto.PublicKey) bool {
	k, ok := a.(interface{ Equal(crypto.PublicKey) bool })
	return ok && k.Equal(b)
}
