package readme

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/managedkeys/managedkeys/backend"
	"github.com/managedkeys/managedkeys/backend/pkcs11"
	"github.com/managedkeys/managedkeys/backend/software"
	"github.com/managedkeys/managedkeys/internal/softhsm"
)

// The rows of the support table.
const (
	rowPKCS1    = "RSA PKCS#1 v1.5 signature"
	rowPSS      = "RSA PSS signature"
	rowOAEP     = "RSA OAEP decryption"
	rowECDSA    = "ECDSA P-256, P-384, P-521"
	rowOther    = "ECDSA on other curves"
	rowECDH     = "ECDH"
	rowEd25519  = "Ed25519"
	rowMLDSA    = "ML-DSA-44, 65, 87"
	rowMLKEM    = "ML-KEM decapsulation"
	rowGCM      = "AES-GCM"
	rowCMAC     = "AES-CMAC"
	rowHMAC     = "HMAC"
	rowWrap     = "Key wrap"
	rowRandom   = "Random bytes"
	rowGenerate = "Generate"
	rowImport   = "Import"
	rowList     = "List"
)

// rows is their order.
var rows = []string{
	rowPKCS1, rowPSS, rowOAEP, rowECDSA, rowOther, rowECDH, rowEd25519, rowMLDSA, rowMLKEM,
	rowGCM, rowCMAC, rowHMAC, rowWrap, rowRandom, rowGenerate, rowImport, rowList,
}

// column is a backend's part of the table.
type column struct {
	name  string
	cells map[string]string
}

func softwareColumn(t *testing.T) column {
	b := software.New(nil)
	defer b.Close()
	generate := func(p software.Params) backend.Key {
		p.KeyName = fmt.Sprintf("%s-%d-%s-%d", p.KeyType, p.KeyBits, p.Curve, p.ParameterSet)
		key, err := b.Generate(t.Context(), p, nil)
		require.NoError(t, err)
		return key
	}
	keys := []backend.Key{generate(software.Params{KeyType: software.RSA, KeyBits: 2048})}
	for _, curve := range []software.Curve{software.P256, software.P384, software.P521} {
		keys = append(keys, generate(software.Params{KeyType: software.ECDSA, Curve: curve}))
	}
	keys = append(keys, generate(software.Params{KeyType: software.Ed25519}))
	for _, set := range []int{44, 65, 87} {
		keys = append(keys, generate(software.Params{KeyType: software.MLDSA, ParameterSet: set}))
	}
	for _, set := range []int{768, 1024} {
		keys = append(keys, generate(software.Params{KeyType: software.MLKEM, ParameterSet: set}))
	}
	keys = append(keys, generate(software.Params{KeyType: software.AES, KeyBits: 256}), generate(software.Params{KeyType: software.HMAC, KeyBits: 256}))
	return columnOf(t, "software", b, keys, software.Params{KeyName: "imported"})
}

func tokenColumn(t *testing.T) column {
	token := softhsm.Require(t)
	b, err := pkcs11.New(pkcs11.Library{Name: "hsm", Path: token.Module})
	require.NoError(t, err)
	defer b.Close()
	base := pkcs11.Params{Library: "hsm", TokenLabel: token.Label, PIN: backend.Secret(token.PIN)}
	var keys []backend.Key
	for i, kind := range []pkcs11.Params{
		{Mechanism: pkcs11.RSAPKCS, KeyBits: 2048}, {Mechanism: pkcs11.RSAPKCSOAEP, KeyBits: 2048},
		{Mechanism: pkcs11.ECDSA, Curve: "P256"}, {Mechanism: pkcs11.ECDSA, Curve: "P384"}, {Mechanism: pkcs11.ECDSA, Curve: "P521"},
		{Mechanism: pkcs11.ECDSA, Curve: "P224"}, {Mechanism: pkcs11.ECDSA, Curve: "SECP256K1"},
		{Mechanism: pkcs11.ECDH, Curve: "P256"}, {Mechanism: pkcs11.ECDH, Curve: "P384"}, {Mechanism: pkcs11.ECDH, Curve: "P521"},
		{Mechanism: pkcs11.EdDSA}, {Mechanism: pkcs11.AESGCM, KeyBits: 256}, {Mechanism: pkcs11.AESCMAC, KeyBits: 256},
		{Mechanism: pkcs11.SHA256HMAC, KeyBits: 512}, // SoftHSM2 wants keys as long as the hash
	} {
		p := base
		p.KeyLabel, p.Mechanism, p.KeyBits, p.Curve = fmt.Sprintf("key-%d", i), kind.Mechanism, kind.KeyBits, kind.Curve
		key, err := b.Generate(t.Context(), p, nil)
		require.NoError(t, err)
		keys = append(keys, key)
	}
	imported := base
	imported.KeyLabel, imported.Mechanism = "imported", pkcs11.ECDSA
	return columnOf(t, "PKCS#11 (SoftHSM2)", b, keys, imported)
}

// columnOf reads the cells off the keys' capabilities and the backend's optional interfaces.
func columnOf(t *testing.T, name string, b backend.Backend, keys []backend.Key, imported backend.Params) column {
	c := column{name, map[string]string{}}
	for _, row := range rows {
		c.cells[row] = "–"
	}
	curves, sets := 0, 0
	for _, key := range keys {
		caps := key.Capabilities()
		add := func(row, what string) {
			c.cells[row] = strings.TrimPrefix(c.cells[row]+", "+what, "–, ")
		}
		for scheme, row := range map[backend.Scheme]string{backend.RSAPKCS1v15: rowPKCS1, backend.RSAPSS: rowPSS} {
			if hashes := hashesOf(caps, scheme); hashes != "" {
				c.cells[row] = hashes
			}
		}
		if len(caps.OAEPHashes) > 0 {
			c.cells[rowOAEP] = names(caps.OAEPHashes)
			if !caps.OAEPLabels {
				c.cells[rowOAEP] += "; no label"
			}
		}
		curve := strings.TrimPrefix(caps.Algorithm, "ECDSA ")
		if hashes := hashesOf(caps, backend.ECDSA); hashes != "" && strings.Contains(rowECDSA, curve) {
			curves++
			c.cells[rowECDSA] = hashes
		} else if hashes != "" {
			add(rowOther, curve)
		}
		if _, ok := key.(backend.KeyAgreer); ok {
			add(rowECDH, curve)
		}
		if _, ok := caps.Signature(backend.Ed25519, 0); ok {
			c.cells[rowEd25519] = "yes"
		}
		if _, ok := caps.Signature(backend.MLDSA, 0); ok {
			sets++
			c.cells[rowMLDSA] = "yes"
		}
		if _, ok := key.(backend.Decapsulator); ok {
			add(rowMLKEM, strings.TrimPrefix(caps.Algorithm, "ML-KEM-"))
		}
		if _, ok := key.(backend.AEAD); ok {
			c.cells[rowGCM] = "yes"
		}
		if slices.Contains(caps.MACs, backend.AESCMAC) {
			c.cells[rowCMAC] = "yes"
		} else if len(caps.MACs) > 0 {
			var hashes []crypto.Hash
			for _, mac := range caps.MACs {
				hashes = append(hashes, mac.Hash())
			}
			c.cells[rowHMAC] = names(hashes)
		}
		if _, ok := key.(backend.Wrapper); ok {
			add(rowWrap, strings.Split(caps.Algorithm, "-")[0])
		}
		if _, ok := key.(backend.Random); ok {
			c.cells[rowRandom] = "yes"
		}
	}
	require.Contains(t, []int{0, 3}, curves, "all curves or none")
	require.Contains(t, []int{0, 3}, sets, "all parameter sets or none")
	if _, ok := b.(backend.Generator); ok {
		c.cells[rowGenerate] = "yes"
	}
	if i, ok := b.(backend.Importer); ok {
		private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		require.NoError(t, err)
		if _, err := i.Import(t.Context(), imported, private, nil); err == nil {
			c.cells[rowImport] = "yes"
		} else {
			require.ErrorIs(t, err, backend.ErrUnsupported)
		}
	}
	if _, ok := b.(backend.Lister); ok {
		c.cells[rowList] = "yes"
	}
	return c
}

func hashesOf(caps backend.Capabilities, scheme backend.Scheme) string {
	var hashes []crypto.Hash
	for _, a := range caps.Signatures {
		if a.Scheme == scheme && a.Hash != 0 {
			hashes = append(hashes, a.Hash)
		}
	}
	return names(hashes)
}

// names returns the hashes in the order of their numbers.
func names(hashes []crypto.Hash) string {
	hashes = slices.Sorted(slices.Values(hashes))
	texts := make([]string, len(hashes))
	for i, h := range hashes {
		texts[i] = h.String()
	}
	return strings.Join(texts, ", ")
}
