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

// rows of the support table, in order.
var rows = []string{
	"RSA PKCS#1 v1.5 signature", "RSA PSS signature", "RSA OAEP decryption",
	"ECDSA P-256, P-384, P-521", "Ed25519", "ML-DSA-44, 65, 87",
	"AES-GCM", "HMAC", "Key wrap", "Random bytes",
	"Generate", "Import", "List",
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
		for scheme, row := range map[backend.Scheme]string{backend.RSAPKCS1v15: rows[0], backend.RSAPSS: rows[1]} {
			if hashes := hashesOf(caps, scheme); hashes != "" {
				c.cells[row] = hashes
			}
		}
		if len(caps.OAEPHashes) > 0 {
			c.cells[rows[2]] = names(caps.OAEPHashes)
			if !caps.OAEPLabels {
				c.cells[rows[2]] += "; no label"
			}
		}
		if hashes := hashesOf(caps, backend.ECDSA); hashes != "" {
			curves++
			c.cells[rows[3]] = hashes
		}
		if _, ok := caps.Signature(backend.Ed25519, 0); ok {
			c.cells[rows[4]] = "yes"
		}
		if _, ok := caps.Signature(backend.MLDSA, 0); ok {
			sets++
			c.cells[rows[5]] = "yes"
		}
		if _, ok := key.(backend.AEAD); ok {
			c.cells[rows[6]] = "yes"
		}
		if len(caps.MACs) > 0 {
			var hashes []crypto.Hash
			for _, mac := range caps.MACs {
				hashes = append(hashes, mac.Hash())
			}
			c.cells[rows[7]] = names(hashes)
		}
		if _, ok := key.(backend.Wrapper); ok {
			c.cells[rows[8]] = strings.TrimPrefix(c.cells[rows[8]]+", "+strings.Split(caps.Algorithm, "-")[0], "–, ")
		}
		if _, ok := key.(backend.Random); ok {
			c.cells[rows[9]] = "yes"
		}
	}
	require.Contains(t, []int{0, 3}, curves, "all curves or none")
	require.Contains(t, []int{0, 3}, sets, "all parameter sets or none")
	if _, ok := b.(backend.Generator); ok {
		c.cells[rows[10]] = "yes"
	}
	if i, ok := b.(backend.Importer); ok {
		private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		require.NoError(t, err)
		if _, err := i.Import(t.Context(), imported, private, nil); err == nil {
			c.cells[rows[11]] = "yes"
		} else {
			require.ErrorIs(t, err, backend.ErrUnsupported)
		}
	}
	if _, ok := b.(backend.Lister); ok {
		c.cells[rows[12]] = "yes"
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
