package transitmatrix

import (
	"crypto"
	"crypto/ed25519"
	"crypto/hkdf"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"testing"

	mldsax509 "filippo.io/mldsa/x509"
	"github.com/stretchr/testify/require"

	"github.com/managedkeys/managedkeys/backend/software"
	"github.com/managedkeys/managedkeys/transit"
)

// softTypes are transit's own software keys, all exportable.
func softTypes(t *testing.T) *place {
	p := newPlace(t, "types", software.New(nil), nil)
	for _, k := range []struct {
		name, row string
		opts      transit.KeyOptions
	}{
		{"aes128-gcm96", "AES", transit.KeyOptions{Type: transit.TypeAES128}},
		{"aes256-gcm96", "AES", transit.KeyOptions{Type: transit.TypeAES256}},
		{"chacha20-poly1305", "ChaCha20", transit.KeyOptions{Type: transit.TypeChaCha20Poly1305}},
		{"xchacha20-poly1305", "ChaCha20", transit.KeyOptions{Type: transit.TypeXChaCha20Poly1305}},
		{"ed25519", "Ed25519", transit.KeyOptions{Type: transit.TypeEd25519}},
		{"ecdsa-p256", "EC", transit.KeyOptions{Type: transit.TypeP256}},
		{"ecdsa-p384", "EC", transit.KeyOptions{Type: transit.TypeP384}},
		{"ecdsa-p521", "EC", transit.KeyOptions{Type: transit.TypeP521}},
		{"rsa-2048", "RSA", transit.KeyOptions{Type: transit.TypeRSA2048}},
		{"hmac", "HMAC", transit.KeyOptions{Type: transit.TypeHMAC}},
		{"aes128-cmac", "AES", transit.KeyOptions{Type: transit.TypeAES128CMAC}},
		{"aes192-cmac", "AES", transit.KeyOptions{Type: transit.TypeAES192CMAC}},
		{"aes256-cmac", "AES", transit.KeyOptions{Type: transit.TypeAES256CMAC}},
		{"ml-dsa-44", "ML-DSA", transit.KeyOptions{Type: transit.TypeMLDSA44}},
		{"ml-dsa-65", "ML-DSA", transit.KeyOptions{Type: transit.TypeMLDSA65}},
		{"ml-dsa-87", "ML-DSA", transit.KeyOptions{Type: transit.TypeMLDSA87}},
		{"derived-aes128-gcm96", "AES", transit.KeyOptions{Type: transit.TypeAES128, Derived: true}},
		{"derived-chacha20-poly1305", "ChaCha20", transit.KeyOptions{Type: transit.TypeChaCha20Poly1305, Derived: true}},
		{"derived-ed25519", "Ed25519", transit.KeyOptions{Type: transit.TypeEd25519, Derived: true}},
		{"convergent-aes256-gcm96", "AES", transit.KeyOptions{Type: transit.TypeAES256, Derived: true, Convergent: true}},
	} {
		k.opts.Exportable = true
		require.NoError(t, p.engine.CreateKey(t.Context(), k.name, k.opts), k.name)
		p.keys = append(p.keys, p.exported(t, &key{name: k.name, row: k.row, signatures: make(map[manner][]byte)}, k.opts))
	}
	return p
}

// exported completes k with what the engine gives out.
func (p *place) exported(t *testing.T, k *key, opts transit.KeyOptions) *key {
	export := func(what string) string {
		all, err := p.engine.Export(t.Context(), k.name, what, 1)
		require.NoError(t, err, "%s: %s", k.name, what)
		return all[1]
	}
	raw := func(what string) []byte {
		data, err := base64.StdEncoding.DecodeString(export(what))
		require.NoError(t, err)
		return data
	}
	switch k.row {
	case "AES", "ChaCha20":
		what := transit.ExportEncryptionKey
		if opts.Type == transit.TypeAES128CMAC || opts.Type == transit.TypeAES192CMAC || opts.Type == transit.TypeAES256CMAC {
			what = transit.ExportCMACKey
		}
		k.secret = raw(what)
	case "HMAC":
		k.secret = raw(transit.ExportHMACKey)
	case "Ed25519":
		k.private = ed25519.PrivateKey(raw(transit.ExportSigningKey))
	default:
		block, _ := pem.Decode([]byte(export(transit.ExportSigningKey)))
		var parsed any
		var err error
		switch block.Type {
		case "RSA PRIVATE KEY":
			parsed, err = x509.ParsePKCS1PrivateKey(block.Bytes)
		case "EC PRIVATE KEY":
			parsed, err = x509.ParseECPrivateKey(block.Bytes)
		default:
			parsed, err = mldsax509.ParsePKCS8PrivateKey(block.Bytes)
		}
		require.NoError(t, err)
		k.private = parsed.(crypto.Signer)
	}
	if opts.Type != transit.TypeHMAC && k.secret == nil || opts.Type == transit.TypeAES128 || opts.Type == transit.TypeAES256 || k.row == "ChaCha20" {
		k.hmac = raw(transit.ExportHMACKey)
	}
	if opts.Derived {
		k.derive(t)
	}
	if k.private != nil {
		k.public = k.private.Public()
	}
	return k
}

// derive makes of k the key that is derived for a context: HKDF-SHA-256 (RFC 5869) without a salt.
func (k *key) derive(t *testing.T) {
	k.context = []byte("the context")
	from, n := k.secret, len(k.secret)
	if private, ok := k.private.(ed25519.PrivateKey); ok {
		from, n = private, ed25519.SeedSize // seed ‖ public key, as Vault has it
	}
	derived, err := hkdf.Key(sha256.New, from, nil, string(k.context), n)
	require.NoError(t, err)
	if k.private != nil {
		k.private = ed25519.NewKeyFromSeed(derived)
		return
	}
	k.secret = derived
}
