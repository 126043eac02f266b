package transit

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"fmt"
	"slices"
	"strings"

	mldsax509 "filippo.io/mldsa/x509"
	kwp "github.com/tink-crypto/tink-go/v2/kwp/subtle"

	"github.com/managedkeys/managedkeys/backend"
)

// What can be exported, in the words of the HTTP API.
const (
	ExportEncryptionKey    = "encryption-key"
	ExportSigningKey       = "signing-key"
	ExportHMACKey          = "hmac-key"
	ExportCMACKey          = "cmac-key"
	ExportPublicKey        = "public-key"
	ExportCertificateChain = "certificate-chain"
)

// Export returns the keys of all versions that there are, or of the given one if it isn't 0, by version: symmetric keys and
// Ed25519 private keys (seed ‖ public key) in base64, RSA keys as PEM of PKCS #1, ECDSA keys as PEM of SEC 1, others as PEM of
// PKCS #8, public keys as PEM, and certificates as PEM one after the other.
//
// Public keys and certificates are exported of every key, managed ones among them. The error wraps [backend.ErrNotPermitted] for
// other keys that are not exportable, [backend.ErrUnsupported] if the key has nothing of what is asked for, and
// [backend.ErrInvalidParams] if there is no such version or no such thing to export.
func (e *Engine) Export(ctx context.Context, name, what string, version int) (map[int]string, error) {
	k, err := e.usable(ctx, "key", name)
	if err != nil {
		return nil, err
	}
	switch what {
	case ExportPublicKey, ExportCertificateChain:
	case ExportEncryptionKey, ExportSigningKey, ExportHMACKey, ExportCMACKey:
		if err := k.exportable(); err != nil {
			return nil, err
		}
	default:
		return nil, invalid("invalid export type: %.40s", what)
	}
	versions, err := k.only(version)
	if err != nil {
		return nil, err
	}
	out := make(map[int]string, len(versions))
	for _, v := range versions {
		if out[v.number], err = exportVersion(k, v, what); err != nil {
			return nil, err
		}
	}
	return out, nil
}

func (k *key) exportable() error {
	switch {
	case k.rec.managed():
		return fmt.Errorf("transit: private key material is not exportable: key %q is in its key manager: %w", k.name, backend.ErrNotPermitted)
	case !k.rec.Exportable:
		return fmt.Errorf("transit: private key material is not exportable: key %q: %w", k.name, backend.ErrNotPermitted)
	}
	return nil
}

// only returns the version of that number, or all that may be used for 0.
func (k *key) only(number int) ([]*version, error) {
	least := max(k.rec.First, k.rec.MinDecryption)
	switch {
	case number == 0:
		return k.versions[least-k.rec.First:], nil
	case number < least || number > k.latest():
		return nil, invalid("version %d does not exist or cannot be found; there are %d to %d", number, least, k.latest())
	}
	return []*version{k.version(number)}, nil
}

func exportVersion(k *key, v *version, what string) (string, error) {
	rec := k.rec.at(v.number)
	none := unsupported("export: key %q version %d of type %s has no %s", k.name, v.number, v.kind, what)
	switch what {
	case ExportPublicKey:
		if rec.Public == nil {
			return "", none
		}
		return string(pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: rec.Public})), nil
	case ExportCertificateChain:
		if len(rec.Chain) == 0 {
			return "", none
		}
		var out strings.Builder
		for _, der := range rec.Chain {
			pem.Encode(&out, &pem.Block{Type: "CERTIFICATE", Bytes: der})
		}
		return out.String(), nil
	case ExportHMACKey:
		secret := rec.HMAC
		if v.soft.t.name == TypeHMAC {
			secret = rec.Material
		}
		if secret == nil {
			return "", none
		}
		return base64.StdEncoding.EncodeToString(secret), nil
	}
	t := v.soft.t
	fits := map[string]bool{
		ExportCMACKey: t.cmac(), ExportSigningKey: t.public, ExportEncryptionKey: t.nonce > 0 || t.keyType == "RSA",
	}
	if !fits[what] || rec.Material == nil {
		return "", none
	}
	if !t.public {
		return base64.StdEncoding.EncodeToString(rec.Material), nil
	}
	private, err := mldsax509.ParsePKCS8PrivateKey(rec.Material)
	if err != nil {
		return "", none
	}
	block := &pem.Block{Type: "PRIVATE KEY", Bytes: rec.Material}
	switch key := private.(type) {
	case ed25519.PrivateKey:
		return base64.StdEncoding.EncodeToString(key), nil
	case *rsa.PrivateKey:
		block = &pem.Block{Type: "RSA PRIVATE KEY", Bytes: x509.MarshalPKCS1PrivateKey(key)}
	case *ecdsa.PrivateKey:
		der, err := x509.MarshalECPrivateKey(key)
		if err != nil {
			return "", none
		}
		block = &pem.Block{Type: "EC PRIVATE KEY", Bytes: der}
	}
	return string(pem.EncodeToMemory(block)), nil
}

// ExportWrapped returns the key of each version of source as [Import.Ciphertext] for the engine whose wrapping key is the latest
// version of destination, an RSA key, and hash as [Import.HashFunction]. Otherwise it is as Export.
func (e *Engine) ExportWrapped(ctx context.Context, destination, source, hash string, version int) (map[int][]byte, error) {
	k, err := e.usable(ctx, "key", source)
	if err != nil {
		return nil, err
	}
	to, err := e.usable(ctx, "destination key", destination)
	if err != nil {
		return nil, err
	}
	if err := k.exportable(); err != nil {
		return nil, err
	}
	h, ok := importHashes[hash]
	if !ok {
		return nil, invalid("export: unsupported hash function %.40q", hash)
	}
	public, ok := to.version(to.latest()).public.(*rsa.PublicKey)
	if !ok {
		return nil, invalid("export: destination key %q is not of RSA", destination)
	}
	versions, err := k.only(version)
	if err != nil {
		return nil, err
	}
	out := make(map[int][]byte, len(versions))
	for _, v := range versions {
		if v.rec.Material == nil {
			return nil, unsupported("export: key %q version %d has a public key only", source, v.number)
		}
		if out[v.number], err = wrapFor(public, h, v.rec.Material); err != nil {
			return nil, failed("export", k, v, err)
		}
	}
	return out, nil
}

// wrapFor is the reverse of unwrap.
func wrapFor(public *rsa.PublicKey, hash crypto.Hash, material []byte) ([]byte, error) {
	ephemeral := randomBytes(32)
	defer clear(ephemeral)
	wrapper, err := kwp.NewKWP(ephemeral)
	if err != nil {
		return nil, err
	}
	wrapped, err := wrapper.Wrap(material)
	if err != nil {
		return nil, err
	}
	encrypted, err := rsa.EncryptOAEP(hash.New(), rand.Reader, public, ephemeral, nil)
	if err != nil {
		return nil, err
	}
	return slices.Concat(encrypted, wrapped), nil
}
