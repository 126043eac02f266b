package backendtest

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/hmac"
	"crypto/mlkem"
	"crypto/rand"
	"crypto/rsa"
	"encoding/base64"
	"encoding/hex"
	"slices"

	"filippo.io/mldsa"

	"github.com/managedkeys/managedkeys/backend"
)

// checkImport checks that keys are taken in as they are, and never in place of another by accident.
func checkImport(c *checker) {
	m, ok := c.client().(backend.Importer)
	if len(c.cfg.Import) == 0 {
		if ok {
			// Rule: what a backend can't do is an error that says so, and nothing is made.
			for _, material := range []any{newECDSA(c), random(32)} {
				key, err := m.Import(c.Context(), c.cfg.Absent, material, nil)
				c.noKey("Import, which is not declared", key, err, backend.ErrUnsupported)
			}
			key, err := m.Open(c.Context(), c.cfg.Absent)
			c.noKey("Open after a refused Import", key, err, backend.ErrKeyNotFound)
		}
		return
	}
	if !ok {
		c.Fatal("Config.Import is set, but the backend is no backend.Importer")
	}
	for _, spec := range c.cfg.Import {
		c.sub(spec.Name, func(c *checker) {
			c.guard(spec.Material)
			checkImportRefused(c, m, spec)
			key := checkImported(c, m, spec)
			checkImportExisting(c, m, spec, key)
		})
	}
}

// guard adds material that has a text form to the secrets that no error may show.
func (c *checker) guard(material any) {
	var raw []byte
	switch m := material.(type) {
	case []byte:
		raw = m
	case ed25519.PrivateKey:
		raw = m.Seed()
	case interface{ Bytes() []byte }: // ML-DSA and ML-KEM: the seed
		raw = m.Bytes()
	}
	if len(raw) >= 8 {
		c.cfg.Secrets = slices.Concat(c.cfg.Secrets,
			[]string{string(raw), hex.EncodeToString(raw), base64.StdEncoding.EncodeToString(raw)})
	}
}

// checkImportRefused checks material that is no key or doesn't fit, and contexts that have ended. Nothing is made.
func checkImportRefused(c *checker, m backend.Importer, spec Import) {
	for name, material := range map[string]any{
		"nil": nil, "a string": "not a key", "a public key": newECDSA(c).Public(),
		"nil *mlkem.DecapsulationKey768": (*mlkem.DecapsulationKey768)(nil),
		"no bytes":                       []byte{}, "nil bytes": []byte(nil),
		"nil *rsa.PrivateKey": (*rsa.PrivateKey)(nil), "nil *ecdsa.PrivateKey": (*ecdsa.PrivateKey)(nil),
		"nil *mldsa.PrivateKey": (*mldsa.PrivateKey)(nil), "nil ed25519.PrivateKey": ed25519.PrivateKey(nil),
		"a short ed25519.PrivateKey": ed25519.PrivateKey{1, 2, 3}, "an empty *ecdsa.PrivateKey": new(ecdsa.PrivateKey),
		"an empty *rsa.PrivateKey": new(rsa.PrivateKey),
	} {
		c.refuses(refusal{"Import of " + name, func() error {
			_, err := m.Import(c.Context(), spec.Params, material, nil)
			return err
		}, []error{backend.ErrInvalidParams, backend.ErrUnsupported}})
	}
	for _, ended := range c.endedContexts() {
		key, err := m.Import(ended.ctx, spec.Params, spec.Material, nil)
		c.noKey("Import with a context that is "+ended.name, key, err, ended.want)
	}
	key, err := m.Import(c.Context(), foreignParams{}, spec.Material, nil)
	c.noKey("Import with params of another backend", key, err, backend.ErrInvalidParams)
	key, err = m.Open(c.Context(), spec.Params)
	c.noKey("Open before Import", key, err, backend.ErrKeyNotFound)
}

// checkImported imports the key and compares what it does with the material itself.
func checkImported(c *checker, m backend.Importer, spec Import) backend.Key {
	key, err := m.Import(c.Context(), spec.Params, spec.Material, nil)
	c.must("Import", err)
	checkMaterial(c, key, spec.Material)
	checkMethods(c, key)
	checkPublic(c, key)
	c.isKey("the key, opened again", m, spec.Params, key)
	c.isKey("the key, seen by another client", c.client(), spec.Params, key)
	return key
}

// checkMaterial checks that key is the one that was imported.
func checkMaterial(c *checker, key backend.Key, material any) {
	c.Helper()
	if s, ok := material.(interface{ Public() crypto.PublicKey }); ok {
		if !samePublic(key.Public(), s.Public()) {
			c.Error("the imported key has another public key than its material")
		}
		return
	}
	if d, ok := material.(crypto.Decapsulator); ok {
		if !samePublic(key.Public(), d.Encapsulator()) {
			c.Error("the imported key has another public key than its material")
		}
		return
	}
	raw, ok := material.([]byte)
	if !ok || key.Public() != nil {
		c.Fatalf("the material is %T, but the public key is %T", material, key.Public())
	}
	m, ok := key.(backend.MAC)
	if !ok {
		return
	}
	for _, alg := range key.Capabilities().MACs {
		if alg.Hash() == 0 {
			continue
		}
		message := random(100)
		want := hmac.New(alg.Hash().New, raw)
		want.Write(message)
		mac, err := m.ComputeMAC(c.Context(), alg, message)
		if c.ok("ComputeMAC", err) && !bytes.Equal(mac, want.Sum(nil)) {
			c.Errorf("%s with the imported key is not what crypto/hmac computes (RFC 2104)", alg)
		}
	}
}

// checkImportExisting checks that an existing key is treated as Generate does.
func checkImportExisting(c *checker, m backend.Importer, spec Import, key backend.Key) {
	other := sibling(c, spec.Material)
	for _, opts := range []*backend.ImportOptions{nil, {}} {
		again, err := m.Import(c.Context(), spec.Params, other, opts)
		c.noKey("Import over a key that exists", again, err, backend.ErrKeyExists)
	}
	c.isKey("the key after a refused Import", c.client(), spec.Params, key)
	checkMaterial(c, key, spec.Material)
	before := operations(c, key)
	replaced, err := m.Import(c.Context(), spec.Params, other, &backend.ImportOptions{Replace: true})
	if !spec.Replaces {
		c.noKey("Import with Replace", replaced, err, backend.ErrUnsupported)
		c.isKey("the key after a refused Replace", c.client(), spec.Params, key)
		return
	}
	c.must("Import with Replace", err)
	checkReplaced(c, m, spec.Params, before, key, replaced)
	checkMaterial(c, replaced, other)
}

// sibling returns another key of the kind and size of material.
func sibling(c *checker, material any) any {
	c.Helper()
	var key any
	var err error
	switch m := material.(type) {
	case *rsa.PrivateKey:
		key, err = rsa.GenerateKey(rand.Reader, m.N.BitLen())
	case *ecdsa.PrivateKey:
		key, err = ecdsa.GenerateKey(m.Curve, rand.Reader)
	case ed25519.PrivateKey:
		_, key, err = ed25519.GenerateKey(rand.Reader)
	case *mldsa.PrivateKey:
		key, err = mldsa.GenerateKey(m.PublicKey().Parameters())
	case *mlkem.DecapsulationKey768:
		key, err = mlkem.GenerateKey768()
	case *mlkem.DecapsulationKey1024:
		key, err = mlkem.GenerateKey1024()
	case []byte:
		key = random(len(m))
	default:
		c.Fatalf("Config.Import: %T is no material that backend.Importer takes", material)
	}
	if err != nil {
		c.Fatalf("generating another %T: %v", material, err)
	}
	return key
}
