package transit

import (
	"context"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rsa"
	"encoding/json"
	"fmt"
	"math/big"
	"strconv"
	"time"

	mldsax509 "filippo.io/mldsa/x509"
)

// vaultBackup is what transit/backup of Vault and OpenBao returns, as far as it is read here.
type vaultBackup struct {
	Policy struct {
		Name                 string              `json:"name"`
		Type                 int                 `json:"type"`
		KDF                  int                 `json:"kdf"`
		Keys                 map[string]vaultKey `json:"keys"`
		Derived              bool                `json:"derived"`
		Convergent           bool                `json:"convergent_encryption"`
		ConvergentVersion    int                 `json:"convergent_version"` // -1: each version has its own
		Exportable           bool                `json:"exportable"`
		MinDecryption        int                 `json:"min_decryption_version"`
		MinEncryption        int                 `json:"min_encryption_version"`
		MinAvailable         int                 `json:"min_available_version"`
		Latest               int                 `json:"latest_version"`
		ArchiveMin           int                 `json:"archive_min_version"`
		DeletionAllowed      bool                `json:"deletion_allowed"`
		AllowPlaintextBackup bool                `json:"allow_plaintext_backup"`
		AutoRotatePeriod     time.Duration       `json:"auto_rotate_period"`
		Imported             bool                `json:"imported_key"`
		AllowRotation        bool                `json:"allow_imported_key_rotation"`
		KeySize              int                 `json:"key_size"`
	} `json:"policy"`
	Archived struct {
		Keys []vaultKey `json:"keys"` // from version ArchiveMin
	} `json:"archived_keys"`
}

// vaultKey is one version.
type vaultKey struct {
	Key        []byte       `json:"key"`
	HMAC       []byte       `json:"hmac_key"`
	Time       time.Time    `json:"time"`
	X          *vaultNumber `json:"ec_x"`
	Y          *vaultNumber `json:"ec_y"`
	D          *vaultNumber `json:"ec_d"`
	Convergent int          `json:"convergent_version"`
	Chain      [][]byte     `json:"certificate_chain"`
	RSA        *struct {
		N      *vaultNumber
		E      int
		D      *vaultNumber
		Primes []*vaultNumber
	} `json:"rsa_key"`
}

// vaultNumber is a number of a key. Longer ones than keys of these types have are refused before they are read: that takes a time that grows
// with the square of their length, and making a key of them one that grows with more than its cube.
type vaultNumber struct{ big.Int }

// maxDigits is how many digits the modulus of RSA with 4096 bits has at most.
const maxDigits = 1234

// UnmarshalJSON implements json.Unmarshaler.
func (n *vaultNumber) UnmarshalJSON(text []byte) error {
	if len(text) > maxDigits {
		return fmt.Errorf("number of %d digits", len(text))
	}
	return n.Int.UnmarshalJSON(text)
}

// vaultTypes are the types by their numbers there.
var vaultTypes = map[int]string{
	0: TypeAES256, 1: TypeP256, 2: TypeEd25519, 3: TypeRSA2048, 4: TypeRSA4096, 5: TypeChaCha20Poly1305, 6: TypeP384, 7: TypeP521,
	8: TypeAES128, 9: TypeRSA3072, 11: TypeHMAC, 12: TypeAES128CMAC, 13: TypeAES256CMAC, 18: TypeAES192CMAC,
}

// vaultHKDF is the only key derivation that is read, HKDF-SHA-256.
const vaultHKDF = 1

// vaultConvergent is the newest of Vault's versions of convergent encryption; those after it are our own.
const vaultConvergent = 3

// readVault reads a backup of Vault or OpenBao.
func readVault(ctx context.Context, data []byte) (*backup, error) {
	var in vaultBackup
	if err := json.Unmarshal(data, &in); err != nil {
		return nil, invalid("restore: the policy can't be read") // the decoder may quote what it read
	}
	p := &in.Policy
	kind := vaultTypes[p.Type]
	switch {
	case kind == "":
		return nil, unsupported("restore: a policy of type %d", p.Type)
	case p.Derived && p.KDF != vaultHKDF:
		return nil, unsupported("restore: key derivation %d; it takes %d, HKDF-SHA-256", p.KDF, vaultHKDF)
	case p.Latest < 1 || p.Latest > maxVersions:
		return nil, invalid("restore: latest version %d; it takes 1 to %d", p.Latest, maxVersions)
	}
	rec := record{
		Format: recordFormat, ID: "restored", Type: kind, Derived: p.Derived, Convergent: p.Convergent, Exportable: p.Exportable,
		PlaintextBackup: p.AllowPlaintextBackup, DeletionAllowed: p.DeletionAllowed, Imported: p.Imported, AllowRotation: p.AllowRotation,
		AutoRotate: int64(p.AutoRotatePeriod / time.Second), MinDecryption: max(p.MinDecryption, 1), MinEncryption: p.MinEncryption,
		MinAvailable: p.MinAvailable, KeySize: p.KeySize, First: max(p.MinAvailable, 1),
	}
	if kind == TypeHMAC && rec.KeySize == 0 {
		rec.KeySize = minHMACKey
	}
	for n := rec.First; n <= p.Latest; n++ {
		if err := ctx.Err(); err != nil { // looking at private keys takes its time
			return nil, fmt.Errorf("transit: restore: %w", err)
		}
		key, ok := p.Keys[strconv.Itoa(n)]
		if i := n - p.ArchiveMin; !ok && i >= 0 && i < len(in.Archived.Keys) {
			key, ok = in.Archived.Keys[i], true
		}
		if !ok {
			return nil, invalid("restore: version %d is missing", n)
		}
		v, err := key.version(kind, &rec)
		if err != nil {
			return nil, err
		}
		v.Created, v.Chain = key.Time.UTC(), key.Chain
		if rec.Convergent {
			v.Convergent = key.Convergent
			if v.Convergent == 0 {
				v.Convergent = max(p.ConvergentVersion, 1)
			}
			if v.Convergent > vaultConvergent {
				return nil, unsupported("restore: convergent encryption %d; it takes 1 to %d", v.Convergent, vaultConvergent)
			}
		}
		rec.append(v)
	}
	if err := rec.check(); err != nil {
		return nil, invalid("restore: the policy makes no sense: %v", err)
	}
	return &backup{backupFormat, p.Name, rec}, nil
}

// version returns k as a version of a key of that type.
func (k *vaultKey) version(kind string, rec *record) (v versionRecord, err error) {
	defer func() {
		if recover() != nil { // numbers that no key has: what makes a key of them takes some for granted
			v, err = versionRecord{}, invalid("restore: a private key is not sound")
		}
	}()
	t := softTypes[kind]
	if !t.public {
		secret := k.Key
		if kind == TypeHMAC && len(secret) == 0 {
			secret = k.HMAC
		}
		v, err = t.fromSecret(secret, rec)
	} else {
		var private any
		if private, err = k.private(kind); err == nil {
			if der, merr := mldsax509.MarshalPKCS8PrivateKey(private); merr == nil {
				if private, merr = mldsax509.ParsePKCS8PrivateKey(der); merr != nil {
					return v, invalid("restore: a private key is not sound")
				}
			}
			v, err = t.fromPrivate(private, rec)
		}
	}
	if err == nil && kind != TypeHMAC {
		v.HMAC = k.HMAC
		if len(v.HMAC) < minHMACKey || len(v.HMAC) > maxHMACKey {
			v.HMAC = nil // an old version without; HMACs are refused then
		}
	}
	return v, err
}

func (k *vaultKey) private(kind string) (any, error) {
	switch {
	case kind == TypeEd25519 && len(k.Key) == ed25519.PrivateKeySize:
		return ed25519.PrivateKey(k.Key), nil
	case softTypes[kind].keyType == "RSA":
		if k.RSA == nil || k.RSA.N == nil || k.RSA.D == nil || len(k.RSA.Primes) != 2 || k.RSA.Primes[0] == nil || k.RSA.Primes[1] == nil {
			break
		}
		key := &rsa.PrivateKey{PublicKey: rsa.PublicKey{N: &k.RSA.N.Int, E: k.RSA.E}, D: &k.RSA.D.Int}
		key.Primes = []*big.Int{&k.RSA.Primes[0].Int, &k.RSA.Primes[1].Int}
		key.Precompute()
		if err := key.Validate(); err != nil {
			return nil, invalid("restore: an RSA key is not sound")
		}
		return key, nil
	case k.D != nil:
		curve := map[string]elliptic.Curve{TypeP256: elliptic.P256(), TypeP384: elliptic.P384(), TypeP521: elliptic.P521()}[kind]
		if curve == nil {
			break
		}
		size := (curve.Params().BitSize + 7) / 8
		if k.D.Sign() <= 0 || k.D.BitLen() > 8*size {
			break
		}
		key, err := ecdsa.ParseRawPrivateKey(curve, k.D.FillBytes(make([]byte, size)))
		if err != nil || k.X == nil || k.Y == nil || key.X.Cmp(&k.X.Int) != 0 || key.Y.Cmp(&k.Y.Int) != 0 {
			break
		}
		return key, nil
	}
	return nil, invalid("restore: a version has no private key of type %s", kind)
}
