package readme

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"fmt"
	"maps"
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
	rowAEAD     = "Authenticated encryption"
	rowCMAC     = "AES-CMAC"
	rowHMAC     = "HMAC"
	rowWrap     = "Key wrap"
	rowRandom   = "Random bytes"
	rowGenerate = "Generate"
	rowImport   = "Import"
	rowList     = "List"
	rowAttest   = "Attestation"
)

// rows is their order.
var rows = []string{
	rowPKCS1, rowPSS, rowOAEP, rowECDSA, rowOther, rowECDH, rowEd25519, rowMLDSA, rowMLKEM,
	rowAEAD, rowCMAC, rowHMAC, rowWrap, rowRandom, rowGenerate, rowImport, rowList, rowAttest,
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

// columnOf reads the cells off the keys' capabilities and the backend's optional interfaces, and has a registry test that the
// keys can do what they declare.
func columnOf(t *testing.T, name string, b backend.Backend, keys []backend.Key, imported backend.Params) column {
	passes(t, b, keys, imported)
	c := column{name, map[string]string{}}
	for _, row := range rows {
		c.cells[row] = "–"
	}
	add := func(row, what string) {
		if have := strings.Split(strings.TrimPrefix(c.cells[row], "–"), ", "); !slices.Contains(have, what) {
			c.cells[row] = strings.TrimPrefix(c.cells[row]+", "+what, "–, ")
		}
	}
	hashes := make(map[string][]crypto.Hash) // by row
	curves := make(map[string]string)        // their hashes
	sets := 0
	for _, key := range keys {
		caps := key.Capabilities()
		for _, a := range caps.Signatures {
			switch a.Scheme {
			case backend.RSAPKCS1v15:
				hashes[rowPKCS1] = append(hashes[rowPKCS1], a.Hash)
			case backend.RSAPSS:
				hashes[rowPSS] = append(hashes[rowPSS], a.Hash)
			}
		}
		hashes[rowOAEP] = append(hashes[rowOAEP], caps.OAEPHashes...)
		curve := strings.TrimPrefix(caps.Algorithm, "ECDSA ")
		if signs := hashesOf(caps, backend.ECDSA); signs != "" && strings.Contains(rowECDSA, curve) {
			curves[curve] = signs
		} else if signs != "" {
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
		if caps.Usages.Has(backend.UsageEncrypt|backend.UsageDecrypt) && key.Public() == nil {
			c.cells[rowAEAD] = "yes"
		}
		for _, mac := range caps.MACs {
			if mac == backend.AESCMAC {
				c.cells[rowCMAC] = "yes"
			} else {
				hashes[rowHMAC] = append(hashes[rowHMAC], mac.Hash())
			}
		}
		if caps.Usages.Has(backend.UsageWrap | backend.UsageUnwrap) {
			add(rowWrap, strings.Split(caps.Algorithm, "-")[0])
		}
		if caps.Usages.Has(backend.UsageGenerateRandom) {
			c.cells[rowRandom] = "yes"
		}
		if _, ok := key.(backend.Attester); ok {
			c.cells[rowAttest] = "yes"
		}
	}
	for row, all := range hashes {
		if len(all) > 0 {
			c.cells[row] = names(all)
		}
	}
	labels := slices.ContainsFunc(keys, func(k backend.Key) bool { return k.Capabilities().OAEPLabels })
	if len(hashes[rowOAEP]) > 0 && !labels {
		c.cells[rowOAEP] += "; no label"
	}
	c.cells[rowECDSA] = ofCurves(curves)
	require.Contains(t, []int{0, 3, 6}, sets, "all parameter sets or none")
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

// ofCurves says which hashes each curve goes with, and only that where it is the same for all.
func ofCurves(curves map[string]string) string {
	var parts []string
	same := len(curves) == 3
	for _, curve := range slices.Sorted(maps.Keys(curves)) {
		parts = append(parts, curve+" with "+curves[curve])
		same = same && curves[curve] == curves["P-256"]
	}
	switch {
	case len(parts) == 0:
		return "–"
	case same:
		return curves["P-256"]
	}
	return strings.Join(parts, ", ")
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

// families are the hashes that have a name together.
var families = []struct {
	name   string
	hashes []crypto.Hash
}{
	{"SHA-2", []crypto.Hash{crypto.SHA224, crypto.SHA256, crypto.SHA384, crypto.SHA512}},
	{"SHA-3", []crypto.Hash{crypto.SHA3_224, crypto.SHA3_256, crypto.SHA3_384, crypto.SHA3_512}},
}

// names returns the hashes in the order of their numbers, and families that are complete by their name.
func names(hashes []crypto.Hash) string {
	hashes = slices.Compact(slices.Sorted(slices.Values(hashes)))
	var texts []string
	for _, f := range families {
		if !slices.ContainsFunc(f.hashes, func(h crypto.Hash) bool { return !slices.Contains(hashes, h) }) {
			texts = append(texts, f.name)
			hashes = slices.DeleteFunc(hashes, func(h crypto.Hash) bool { return slices.Contains(f.hashes, h) })
		}
	}
	for _, h := range hashes {
		texts = append(texts, h.String())
	}
	return strings.Join(texts, ", ")
}
