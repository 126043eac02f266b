package transit

import (
	"context"
	"crypto"
	"encoding/base64"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/managedkeys/managedkeys/backend"
)

// MACRequest is what shall be authenticated, and how.
type MACRequest struct {
	Input []byte // it may be empty

	// HashAlgorithm is one of sha1, sha2-224, sha2-256, sha2-384, sha2-512, sha3-224, sha3-256, sha3-384 and sha3-512.
	// Empty is sha2-256, or the first that the key has if it doesn't have that.
	HashAlgorithm string

	KeyVersion int // the version to authenticate with; 0 is the latest. Verifying takes it from the MAC.
}

// HMAC returns an HMAC (RFC 2104) as vault:v<version>:<base64>. It needs the usage mac and makes one call. The error is
// as for [Engine.Sign].
func (e *Engine) HMAC(ctx context.Context, name string, r MACRequest) (string, error) {
	v, err := e.choose("HMAC key", "HMAC", name, r.KeyVersion)
	if err != nil {
		return "", err
	}
	handle, err := e.handle(ctx, name, v)
	if err != nil {
		return "", err
	}
	alg, err := r.algorithm(v, handle.Capabilities())
	if err != nil {
		return "", err
	}
	mac, err := handle.ComputeMAC(ctx, alg, r.Input)
	if err != nil {
		return "", fmt.Errorf("transit: HMAC with key %q version %d: %w", name, v.number, err)
	}
	return format(v.number, mac, base64.StdEncoding), nil
}

// VerifyHMAC reports whether mac is the HMAC of r.Input by the version of the key that it names; r.KeyVersion is
// ignored. It needs the usage mac and makes one call. Errors are as for [Engine.Verify].
func (e *Engine) VerifyHMAC(ctx context.Context, name, mac string, r MACRequest) (bool, error) {
	number, encoded, err := parse("HMAC", mac)
	if err != nil {
		return false, err
	}
	v, err := e.made("HMAC key", "HMAC", name, number)
	if err != nil {
		return false, err
	}
	raw, ok := decode(encoded, base64.StdEncoding)
	if !ok {
		return false, invalid("invalid HMAC: could not decode base64")
	}
	handle, err := e.handle(ctx, name, v)
	if err != nil {
		return false, err
	}
	alg, err := r.algorithm(v, handle.Capabilities())
	if err != nil {
		return false, err
	}
	err = handle.VerifyMAC(ctx, alg, r.Input, raw)
	if errors.Is(err, backend.ErrInvalidSignature) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("transit: verify HMAC with key %q version %d: %w", name, v.number, err)
	}
	return true, nil
}

// algorithm returns the HMAC that r asks for, if the key has it.
func (r *MACRequest) algorithm(v *version, caps backend.Capabilities) (backend.MACAlgorithm, error) {
	isHMAC := func(a backend.MACAlgorithm) bool { return a.Hash() != 0 }
	first := slices.IndexFunc(caps.MACs, isHMAC)
	if v.public != nil || first < 0 {
		return "", unsupported("HMAC not supported for key type %s", v.kind())
	}
	want := crypto.SHA256
	if r.HashAlgorithm != "" {
		hash, ok := hashes[r.HashAlgorithm]
		if !ok {
			return "", invalid("invalid hash algorithm %.40q; it takes %s", r.HashAlgorithm, hashNames)
		}
		want = hash
	}
	names := make([]string, 0, len(caps.MACs))
	for _, a := range caps.MACs {
		if a.Hash() == want {
			return a, nil
		}
		names = append(names, string(a))
	}
	if r.HashAlgorithm == "" {
		return caps.MACs[first], nil
	}
	return "", unsupported("hash algorithm %s: the key takes %s", r.HashAlgorithm, strings.Join(names, ", "))
}
