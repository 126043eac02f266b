package managedkey

import (
	"context"
	"crypto"
	"crypto/rsa"
	"testing"

	"github.com/managedkeys/managedkeys/backend"
	"github.com/managedkeys/managedkeys/backend/software"
)

// asked is a key that remembers the options of the last signature.
type asked struct {
	backend.MessageSigner
	opts *crypto.SignerOpts
	caps func(*backend.Capabilities)
}

func (k asked) SignMessageContext(ctx context.Context, message []byte, opts crypto.SignerOpts) ([]byte, error) {
	*k.opts = opts
	return k.MessageSigner.SignMessageContext(ctx, message, opts)
}

func (k asked) Capabilities() backend.Capabilities {
	caps := k.MessageSigner.Capabilities()
	if k.caps != nil {
		k.caps(&caps)
	}
	return caps
}

func TestTestSign(t *testing.T) {
	only := func(algorithms ...backend.SignatureAlgorithm) func(*backend.Capabilities) {
		return func(c *backend.Capabilities) { c.Signatures = algorithms }
	}
	b := software.New(nil)
	defer b.Close()
	for name, c := range map[string]struct {
		kind string
		opts *TestSignOptions
		caps func(*backend.Capabilities)
		hash crypto.Hash
		pss  bool
		want error
		says []string
	}{
		"nil":                  {kind: "ecdsa", hash: crypto.SHA256},
		"default for P-384":    {kind: "p384", opts: &TestSignOptions{}, hash: crypto.SHA256},
		"named":                {kind: "ecdsa", opts: &TestSignOptions{HashAlgorithm: "sha3-512"}, hash: crypto.SHA3_512},
		"PKCS #1":              {kind: "rsa", opts: &TestSignOptions{HashAlgorithm: "sha2-384"}, hash: crypto.SHA384},
		"PSS":                  {kind: "rsa", opts: &TestSignOptions{UsePSS: true}, hash: crypto.SHA256, pss: true},
		"PSS with a hash":      {kind: "rsa", opts: &TestSignOptions{UsePSS: true, HashAlgorithm: "sha2-512"}, hash: crypto.SHA512, pss: true},
		"Ed25519":              {kind: "ed25519"},
		"Ed25519 with none":    {kind: "ed25519", opts: &TestSignOptions{HashAlgorithm: "none"}},
		"ML-DSA":               {kind: "mldsa", opts: &TestSignOptions{}},
		"what the key prefers": {kind: "p384", caps: only(backend.SignatureAlgorithm{Scheme: backend.ECDSA, Hash: crypto.SHA384}), hash: crypto.SHA384},
		"not what it prefers": {kind: "p384", opts: &TestSignOptions{HashAlgorithm: "sha2-256"}, want: backend.ErrUnsupported,
			caps: only(backend.SignatureAlgorithm{Scheme: backend.ECDSA, Hash: crypto.SHA384}), says: []string{`"sha2-256"`, "ECDSA with SHA-384"}},
		"no such hash":      {kind: "ecdsa", opts: &TestSignOptions{HashAlgorithm: "SHA256"}, want: backend.ErrInvalidParams, says: []string{`"SHA256"`, "sha2-256", "none"}},
		"SHA-1":             {kind: "ecdsa", opts: &TestSignOptions{HashAlgorithm: "sha1"}, want: backend.ErrUnsupported, says: []string{`"sha1"`, "ECDSA with SHA-256"}},
		"RSA without hash":  {kind: "rsa", opts: &TestSignOptions{HashAlgorithm: "none"}, want: backend.ErrUnsupported, says: []string{`"none"`}},
		"Ed25519 with hash": {kind: "ed25519", opts: &TestSignOptions{HashAlgorithm: "sha2-256"}, want: backend.ErrUnsupported, says: []string{"the message itself"}},
		"ECDSA with PSS":    {kind: "ecdsa", opts: &TestSignOptions{UsePSS: true}, want: backend.ErrUnsupported, says: []string{"for RSA"}},
		"PSS alone": {kind: "rsa", want: backend.ErrUnsupported, says: []string{"RSA PKCS#1 v1.5", "UsePSS false"},
			caps: only(backend.SignatureAlgorithm{Scheme: backend.RSAPSS, Hash: crypto.SHA256})},
		"nothing": {kind: "ecdsa", caps: only(), want: backend.ErrUnsupported, says: []string{"no signature algorithm"}},
	} {
		t.Run(name, func(t *testing.T) {
			var got crypto.SignerOpts
			r := NewRegistry()
			mustCreate(t, r, softwareEntry(b, c.kind, 0))
			mustKey(t, r, "a/"+c.kind)
			r = NewRegistry()
			mustCreate(t, r, softwareEntry(liar{b, func(k backend.Key) backend.Key {
				return asked{k.(backend.MessageSigner), &got, c.caps}
			}}, c.kind, backend.UsageSign))
			err := r.TestSign(t.Context(), ref("a/"+c.kind), c.opts)
			check(t, err, c.want, c.says...)
			if c.want != nil {
				if got != nil {
					t.Errorf("the key was asked to sign with %v", got)
				}
				return
			}
			pss, isPSS := got.(*rsa.PSSOptions)
			if got.HashFunc() != c.hash || isPSS != c.pss || isPSS && pss.SaltLength != rsa.PSSSaltLengthEqualsHash {
				t.Errorf("signed with %#v, want hash %v, PSS %t", got, c.hash, c.pss)
			}
		})
	}
}

// TestTestSignAsks: test/sign opens and generates as Key does, asks for permission, and verifies.
func TestTestSignAsks(t *testing.T) {
	b := software.New(nil)
	defer b.Close()
	r := NewRegistry()
	in := softwareEntry(b, "ecdsa", backend.UsageVerify)
	in.AllowGenerateKey = false
	mustCreate(t, r, in)
	check(t, r.TestSign(t.Context(), in.Ref, nil), backend.ErrKeyNotFound)
	check(t, r.TestSign(t.Context(), ref("a/nothing"), nil), backend.ErrKeyNotFound)
	in.AllowGenerateKey = true
	check(t, r.Update(t.Context(), in), nil)
	check(t, r.TestSign(t.Context(), in.Ref, nil), backend.ErrNotPermitted, "sign")
	if _, err := b.Open(t.Context(), in.Params); err != nil {
		t.Errorf("the key was not generated: %v", err)
	}
	for _, kind := range []string{"aes", "hmac", "mlkem"} {
		mustCreate(t, r, softwareEntry(b, kind, backend.UsageSign))
		check(t, r.TestSign(t.Context(), ref("a/"+kind), nil), backend.ErrUnsupported)
	}
	r = NewRegistry()
	mustCreate(t, r, softwareEntry(liar{b, lies["signature of another message"].change}, "ecdsa", backend.UsageSign))
	check(t, r.TestSign(t.Context(), in.Ref, nil), backend.ErrInvalidSignature, "test")
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	r = NewRegistry()
	in.Usages = backend.UsageSign
	mustCreate(t, r, in)
	check(t, r.TestSign(ctx, in.Ref, nil), context.Canceled)
	mustKey(t, r, "a/ecdsa")
	check(t, r.TestSign(ctx, in.Ref, nil), context.Canceled)
}
