package backendtest_test

import (
	"crypto"
	"crypto/x509"
	"testing"

	"github.com/managedkeys/managedkeys/backend"
	"github.com/managedkeys/managedkeys/backend/backendtest"
)

// emptied are configurations that the suite must refuse.
var emptied = []struct {
	name   string
	change func(*backendtest.Config)
}{
	{"params-show-pin", func(c *backendtest.Config) { c.Invalid["plain"] = plainParams{Password: pin} }},
	{"no-New", func(c *backendtest.Config) { c.New = nil }},
	{"no-keys", func(c *backendtest.Config) { c.Keys = nil }},
	{"no-absent", func(c *backendtest.Config) { c.Absent = nil }},
	{"no-invalid", func(c *backendtest.Config) { c.Invalid = nil }},
	{"nil-invalid", func(c *backendtest.Config) { c.Invalid["nil"] = nil }},
	{"short-secret", func(c *backendtest.Config) { c.Secrets = []string{"abc"} }},
	{"no-name", func(c *backendtest.Config) { c.Keys[0].Name = "" }},
	{"same-name", func(c *backendtest.Config) { c.Keys = append(c.Keys, c.Keys[0]) }},
	{"no-params", func(c *backendtest.Config) { c.Keys[0].Params = nil }},
	{"no-algorithm", func(c *backendtest.Config) { c.Keys[0].Algorithm = "" }},
	{"signs-sha1", func(c *backendtest.Config) { c.Keys[0].Signs = []x509.SignatureAlgorithm{x509.ECDSAWithSHA1} }},
	{"digest-of-x509", func(c *backendtest.Config) { c.Keys[0].Digests = []crypto.Hash{crypto.SHA512} }},
	{"digests-alone", func(c *backendtest.Config) { c.Keys[0].Signs, c.Keys[0].Digests = nil, []crypto.Hash{crypto.SHA1} }},
	{"schemes-alone", func(c *backendtest.Config) { c.Keys[0].Schemes = []backend.Scheme{backend.ECDSA} }},
	{"schemes-of-messages", func(c *backendtest.Config) {
		c.Keys[0].Schemes, c.Keys[0].Digests = []backend.Scheme{backend.Ed25519}, []crypto.Hash{crypto.SHA3_256}
	}},
	{"schemes-for-signs", func(c *backendtest.Config) {
		c.Keys[0].Signs, c.Keys[0].Schemes, c.Keys[0].Digests = nil, []backend.Scheme{backend.ECDSA}, []crypto.Hash{crypto.SHA256}
	}},
	{"missing-agreement", func(c *backendtest.Config) { c.Keys[0].Agrees = true }},
	{"digest-not-linked", func(c *backendtest.Config) { c.Keys[0].Digests = []crypto.Hash{crypto.MD4} }},
	{"does-nothing", func(c *backendtest.Config) { c.Keys[0].Signs = nil }},
	{"generate-undeclared", func(c *backendtest.Config) { c.Generate = nil }},
	{"import-undeclared", func(c *backendtest.Config) { c.Import = nil }},
	{"generate-no-algorithm", func(c *backendtest.Config) { c.Generate[0].Algorithm = "" }},
	{"generate-no-params", func(c *backendtest.Config) { c.Generate[0].Params = nil }},
	{"generate-exists", func(c *backendtest.Config) { c.Generate[0].Params = c.Keys[0].Params }},
	{"import-no-material", func(c *backendtest.Config) { c.Import[0].Material = nil }},
	{"import-no-params", func(c *backendtest.Config) { c.Import[0].Params = nil }},
	{"absent-exists", func(c *backendtest.Config) { c.Absent = c.Keys[0].Params }},
	{"ambiguous-is-one", func(c *backendtest.Config) { c.Ambiguous = c.Keys[0].Params }},
	{"valid-invalid", func(c *backendtest.Config) { c.Invalid["valid"] = c.Keys[0].Params }},
	{"not-a-generator", func(c *backendtest.Config) { hideOptional(c) }},
	{"missing-signature", func(c *backendtest.Config) { c.Keys[0].Signs = append(c.Keys[0].Signs, x509.ECDSAWithSHA384) }},
	{"missing-pkcs1-digest", func(c *backendtest.Config) { c.Keys[0].PKCS1Digests = []crypto.Hash{crypto.SHA3_256} }},
	{"missing-digest", func(c *backendtest.Config) { c.Keys[0].Digests = []crypto.Hash{crypto.SHA3_256} }},
	{"missing-aead", func(c *backendtest.Config) { c.Keys[0].AEAD = true }},
	{"missing-mac", func(c *backendtest.Config) { c.Keys[0].MACs = []backend.MACAlgorithm{backend.AESCMAC} }},
	{"missing-oaep", func(c *backendtest.Config) { c.Keys[0].OAEP = []crypto.Hash{crypto.SHA256} }},
	{"missing-wrap", func(c *backendtest.Config) { c.Keys[0].Wraps = true }},
	{"missing-random", func(c *backendtest.Config) { c.Keys[0].Random = true }},
	{"missing-contexts", func(c *backendtest.Config) { c.Keys[0].SignatureContexts = true }},
	{"missing-labels", func(c *backendtest.Config) { c.Keys[0].OAEPLabels = true }},
}

func hideOptional(c *backendtest.Config) {
	newMemory := c.New
	c.New = func(tb testing.TB) backend.Backend { return minimal{newMemory(tb)} }
}

// plainParams are parameters whose author forgot that a password needs a type of its own.
type plainParams struct{ Password string }

func (plainParams) BackendType() string { return "memory" }
func (plainParams) Validate() error     { return backend.ErrInvalidParams }
