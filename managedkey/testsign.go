package managedkey

import (
	"context"
	"crypto"
	"fmt"
	"slices"
	"strings"

	"github.com/managedkeys/managedkeys/backend"
	"github.com/managedkeys/managedkeys/namespace"
)

// TestSignOptions are the options of [Registry.TestSign]. The zero value is fine, and so is nil.
type TestSignOptions struct {
	// UsePSS chooses RSASSA-PSS, with a salt as long as the hash, instead of PKCS #1 v1.5. It is for RSA keys only.
	UsePSS bool

	// HashAlgorithm is sha1, sha2-224, sha2-256, sha2-384, sha2-512, sha3-224, sha3-256, sha3-384, sha3-512 or none. Empty is
	// sha2-256, or the hash that the key prefers if it can't sign with that. Ed25519 and ML-DSA keys sign the message itself:
	// none.
	HashAlgorithm string
}

// hashNames are the hash algorithms as the managed-keys API names them, and in its order.
var hashNames = []struct {
	name string
	hash crypto.Hash
}{
	{"sha1", crypto.SHA1},
	{"sha2-224", crypto.SHA224}, {"sha2-256", crypto.SHA256}, {"sha2-384", crypto.SHA384}, {"sha2-512", crypto.SHA512},
	{"sha3-224", crypto.SHA3_224}, {"sha3-256", crypto.SHA3_256}, {"sha3-384", crypto.SHA3_384}, {"sha3-512", crypto.SHA3_512},
	{"none", 0},
}

// hash returns the hash that o names.
func (o *TestSignOptions) hash() (crypto.Hash, error) {
	var names []string
	for _, h := range hashNames {
		if h.name == o.HashAlgorithm {
			return h.hash, nil
		}
		names = append(names, h.name)
	}
	if o.HashAlgorithm == "" {
		return crypto.SHA256, nil
	}
	return 0, fmt.Errorf("field HashAlgorithm is %.40q; it takes %s: %w", o.HashAlgorithm, strings.Join(names, ", "), backend.ErrInvalidParams)
}

// TestSign has the key sign random data and verifies the signature with the public key in this process; it is the test/sign of
// the managed-keys API. It needs the usage sign, and opens the key as [Registry.Key] does: if that is allowed and the key
// manager doesn't have the key, it is generated. [Registry.Test] does more, and generates nothing unless asked.
//
// The error is that of [Registry.Key]; or, before the key is asked for a signature, it wraps backend.ErrInvalidParams if the
// options make no sense, backend.ErrUnsupported if they don't fit the key and backend.ErrNotPermitted if the entry doesn't
// allow signing; backend.ErrInvalidSignature if the signature doesn't verify; or what the backend returned.
func (r *Registry) TestSign(ctx context.Context, ref namespace.Ref, opts *TestSignOptions) (err error) {
	ctx, done, err := r.begin(ctx, "test", ref, nil)
	if err != nil {
		return err
	}
	defer done(&err)
	if opts == nil {
		opts = new(TestSignOptions)
	}
	if _, err := opts.hash(); err != nil {
		return fail("test", ref, "", err)
	}
	k, err := r.Key(ctx, ref)
	if err != nil {
		return err
	}
	if err := able[backend.Signer](ctx, k, backend.UsageSign); err != nil {
		return err
	}
	caps := k.Capabilities()
	a, err := opts.algorithm(caps)
	if err != nil {
		return k.fail("test", err)
	}
	message := draw(caps.MinMessage, caps.MaxMessage)
	signature, err := k.SignMessageContext(ctx, message, options(a))
	if err != nil {
		return err
	}
	if err := backend.Verify(k.Public(), input(a, message), signature, options(a)); err != nil {
		return k.fail("test", err)
	}
	return nil
}

// algorithm returns what the options choose of that with which a key can sign.
func (o *TestSignOptions) algorithm(caps backend.Capabilities) (backend.SignatureAlgorithm, error) {
	refuse := func(format string, args ...any) (backend.SignatureAlgorithm, error) {
		var names []string
		for _, a := range caps.Signatures {
			names = append(names, a.String())
		}
		return backend.SignatureAlgorithm{}, fmt.Errorf("the key (%s) can't sign %s; it takes %s: %w",
			caps.Algorithm, fmt.Sprintf(format, args...), strings.Join(names, ", "), backend.ErrUnsupported)
	}
	if len(caps.Signatures) == 0 {
		return backend.SignatureAlgorithm{}, fmt.Errorf("the key (%s) has no signature algorithm: %w", caps.Algorithm, backend.ErrUnsupported)
	}
	scheme := caps.Signatures[0].Scheme
	isRSA := scheme == backend.RSAPKCS1v15 || scheme == backend.RSAPSS
	switch {
	case !isRSA && o.UsePSS:
		return refuse("with UsePSS, which is for RSA")
	case caps.SignsMessages() && o.HashAlgorithm != "" && o.HashAlgorithm != "none":
		return refuse("with HashAlgorithm %q, because it signs the message itself: none", o.HashAlgorithm)
	case caps.SignsMessages():
		return caps.Signatures[0], nil
	case isRSA && o.UsePSS:
		scheme = backend.RSAPSS
	case isRSA:
		scheme = backend.RSAPKCS1v15
	}
	hash, err := o.hash()
	if err != nil {
		return backend.SignatureAlgorithm{}, err
	}
	if a, ok := caps.Signature(scheme, hash); ok {
		return a, nil
	}
	i := slices.IndexFunc(caps.Signatures, func(a backend.SignatureAlgorithm) bool { return a.Scheme == scheme })
	switch {
	case i < 0:
		return refuse("with %s, which UsePSS %t chooses", scheme, o.UsePSS)
	case o.HashAlgorithm == "":
		return caps.Signatures[i], nil
	}
	return refuse("with %s and HashAlgorithm %q", scheme, o.HashAlgorithm)
}
