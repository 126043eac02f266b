package azurekeyvault

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rsa"
	"errors"
	"fmt"
	"math/big"
	"os"
	"slices"
	"strings"

	"filippo.io/mldsa"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/to"
	"github.com/Azure/azure-sdk-for-go/sdk/security/keyvault/azkeys"
	"github.com/decred/dcrd/dcrec/secp256k1/v4"

	"github.com/managedkeys/managedkeys/backend"
)

// Import implements [backend.Importer]. params must be of type [Params]; a KeyType that ends in HSM has the key imported
// into hardware, which is the only kind that a Managed HSM takes and the default there. The private key is sent to the
// service over TLS as a JSON Web Key, not wrapped by a key of the HSM.
//
// RSA keys have two primes and 2048, 3072 or 4096 bits; EC keys are on P-256, P-384, P-521 or secp256k1; a []byte is an AES
// or HMAC key of 16, 24 or 32 bytes (oct-HSM). An existing key is treated as [Backend.Generate] does, which says what
// that takes.
func (b *Backend) Import(ctx context.Context, params backend.Params, material any, opts *backend.ImportOptions) (backend.Key, error) {
	p, err := backend.ParamsAs[Params](params)
	if err != nil {
		return nil, err
	}
	if p.KeyVersion != "" {
		return nil, invalid("key_version", "is given; the vault chooses the version of a key that is imported")
	}
	jwk, kind, public, err := importable(material)
	if err != nil {
		return nil, err
	}
	if b.gate.Closed() {
		return nil, b.gate.Enter()
	}
	if p, err = b.imported(p, kind); err != nil {
		return nil, err
	}
	jwk.Kty, jwk.KeyOps = to.Ptr(azkeys.KeyType(p.KeyType)), p.operations()
	return b.create(ctx, "import", p, opts != nil && opts.Replace, func(ctx context.Context, c *connection, tags map[string]*string) (azkeys.KeyBundle, error) {
		resp, err := c.client.ImportKey(ctx, p.KeyName, azkeys.ImportKeyParameters{
			Key: jwk, HSM: to.Ptr(strings.HasSuffix(string(p.KeyType), "-HSM")), Tags: tags,
		}, nil)
		if err != nil {
			return azkeys.KeyBundle{}, err
		}
		return resp.KeyBundle, samePublic(resp.KeyBundle, public)
	})
}

// imported returns p with all that is known of the key, and an error if p says otherwise.
func (b *Backend) imported(p, kind Params) (Params, error) {
	hsm := b.single != nil && b.single.hsm
	if at, err := p.place(os.Getenv); b.single == nil && err == nil {
		hsm = isManagedHSM("vault." + at.resource)
	}
	plain, hard := kind.KeyType, KeyType(strings.TrimSuffix(string(kind.KeyType), "-HSM")+"-HSM")
	if p.KeyType == "" {
		if p.KeyType = plain; hsm {
			p.KeyType = hard
		}
	}
	switch {
	case p.KeyType != plain && p.KeyType != hard:
		return p, invalid("key_type", "got %s, but the imported key is %s", p.KeyType, plain)
	case p.KeyBits != 0 && p.KeyBits != kind.KeyBits:
		return p, invalid("key_bits", "got %d, but the imported key has %d", p.KeyBits, kind.KeyBits)
	case p.Curve != "" && p.Curve != kind.Curve:
		return p, invalid("curve", "got %s, but the imported key is on %s", p.Curve, kind.Curve)
	}
	p.KeyBits, p.Curve = kind.KeyBits, kind.Curve
	return p, p.Validate()
}

// samePublic returns an error unless the vault has the public key that was imported; nil is a symmetric key's.
func samePublic(bundle azkeys.KeyBundle, want crypto.PublicKey) error {
	got, _, err := publicKey(bundle.Key)
	if err != nil || want == nil {
		return err
	}
	if k, ok := want.(interface{ Equal(crypto.PublicKey) bool }); !ok || !k.Equal(got) {
		return integrity("the vault has another public key than was imported")
	}
	return nil
}

// importable returns a key as the service takes it, what kind it is, and its public key. The error never shows the key.
func importable(material any) (jwk *azkeys.JSONWebKey, kind Params, public crypto.PublicKey, err error) {
	// A key struct that was filled in by hand can hold anything, and the standard library takes some of it for granted.
	defer func() {
		if recover() != nil {
			jwk, err = nil, unsound(material, errors.New("fields are missing or out of range"))
		}
	}()
	switch k := material.(type) {
	case *rsa.PrivateKey:
		return importableRSA(k)
	case *ecdsa.PrivateKey:
		return importableEC(k)
	case []byte:
		if !slices.Contains(OctHSM.sizes(), 8*len(k)) {
			return nil, kind, nil, unsound(material, fmt.Errorf("got %d bytes; it takes 16, 24 or 32", len(k)))
		}
		return &azkeys.JSONWebKey{K: slices.Clone(k)}, Params{KeyType: OctHSM, KeyBits: 8 * len(k)}, nil, nil
	case ed25519.PrivateKey, *mldsa.PrivateKey:
		return nil, kind, nil, fmt.Errorf("azurekeyvault: import: Key Vault has no keys of the kind %T: %w", material, backend.ErrUnsupported)
	}
	return nil, kind, nil, fmt.Errorf("azurekeyvault: import: got %T; it takes *rsa.PrivateKey, *ecdsa.PrivateKey or []byte: %w", material, backend.ErrUnsupported)
}

func importableRSA(k *rsa.PrivateKey) (*azkeys.JSONWebKey, Params, crypto.PublicKey, error) {
	switch {
	case k == nil || k.N == nil || k.D == nil || len(k.Primes) != 2:
		return nil, Params{}, nil, unsound(k, errors.New("it is nil or has no modulus, exponent or two primes"))
	case !slices.Contains(RSA.sizes(), k.N.BitLen()):
		return nil, Params{}, nil, unsound(k, fmt.Errorf("the modulus has %d bits; it takes 2048, 3072 or 4096", k.N.BitLen()))
	}
	// Precompute writes, and the caller's key is not ours to change.
	own := &rsa.PrivateKey{PublicKey: k.PublicKey, D: k.D, Primes: k.Primes}
	own.Precompute()
	if own.Validate() != nil {
		return nil, Params{}, nil, unsound(k, errors.New("its numbers don't fit each other"))
	}
	return &azkeys.JSONWebKey{
		N: k.N.Bytes(), E: big.NewInt(int64(k.E)).Bytes(), D: k.D.Bytes(), P: k.Primes[0].Bytes(), Q: k.Primes[1].Bytes(),
		DP: own.Precomputed.Dp.Bytes(), DQ: own.Precomputed.Dq.Bytes(), QI: own.Precomputed.Qinv.Bytes(),
	}, Params{KeyType: RSA, KeyBits: k.N.BitLen()}, &own.PublicKey, nil
}

func importableEC(k *ecdsa.PrivateKey) (*azkeys.JSONWebKey, Params, crypto.PublicKey, error) {
	if k == nil || k.Curve == nil {
		return nil, Params{}, nil, unsound(k, errors.New("it is nil or has no curve"))
	}
	for name, info := range curveInfos {
		if info.curve != k.Curve {
			continue
		}
		d, point, err := scalar(k)
		if err != nil {
			return nil, Params{}, nil, unsound(k, errors.New("the public key is not the private key's"))
		}
		return &azkeys.JSONWebKey{Crv: to.Ptr(info.name), D: d, X: point[1 : 1+info.size], Y: point[1+info.size:]},
			Params{KeyType: EC, Curve: name}, &k.PublicKey, nil
	}
	return nil, Params{}, nil, fmt.Errorf("azurekeyvault: import: got a key on %.40q; it takes %s: %w", k.Params().Name, list(curves), backend.ErrUnsupported)
}

var errMismatch = errors.New("the public key does not belong to the private key")

// scalar returns the private key in bytes, as long as the curve's order, and its point in uncompressed form. What the key
// says that its point is must be true.
func scalar(k *ecdsa.PrivateKey) (d, point []byte, err error) {
	if k.Curve == backend.Secp256k1() {
		//lint:ignore SA1019 there is no other access to the key of a curve that crypto/ecdsa doesn't know
		own := secp256k1.PrivKeyFromBytes(k.D.FillBytes(make([]byte, 32)))
		if !own.PubKey().ToECDSA().Equal(&k.PublicKey) || own.Key.IsZero() {
			return nil, nil, errMismatch
		}
		return own.Serialize(), own.PubKey().SerializeUncompressed(), nil
	}
	if d, err = k.Bytes(); err != nil {
		return nil, nil, err
	}
	own, err := ecdsa.ParseRawPrivateKey(k.Curve, d)
	if err != nil {
		return nil, nil, err
	}
	if !own.PublicKey.Equal(&k.PublicKey) {
		return nil, nil, errMismatch
	}
	point, err = own.PublicKey.Bytes()
	return d, point, err
}

func unsound(key any, cause error) error {
	return fmt.Errorf("azurekeyvault: import of %T: %w: %w", key, backend.ErrInvalidParams, cause)
}
