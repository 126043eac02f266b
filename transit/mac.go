package transit

import (
	"context"
	"crypto"
	"crypto/subtle"
	"encoding/base64"
	"errors"
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

	KeyVersion int    // the version to authenticate with; 0 is the latest. Verifying takes it from the MAC.
	Reference  string // comes back in the result of a batch
}

func (r MACRequest) reference() string { return r.Reference }
func (r MACRequest) context() []byte   { return nil }

// VerifyMACRequest is a MAC, and what it is to be of.
type VerifyMACRequest struct {
	MACRequest
	MAC string // vault:v<version>:<base64>
}

const hmacKey = "HMAC key"

// HMAC returns an HMAC (RFC 2104) as vault:v<version>:<base64>. A managed key needs the usage mac and makes one call; if it
// can't, that is an error, and no other key takes its place. Each version of a software key that encrypts or signs has a key of
// its own for HMACs, as Vault's have. The error is as for [Engine.Sign].
func (e *Engine) HMAC(ctx context.Context, name string, r MACRequest) (string, error) {
	return one(ctx, e, hmacKey, name, r, e.hmac)
}

// HMACBatch is HMAC for each of requests, as [Engine.SignBatch] is Sign.
func (e *Engine) HMACBatch(ctx context.Context, name string, requests []MACRequest) ([]Result[string], error) {
	return all(ctx, e, hmacKey, name, false, requests, e.hmac)
}

func (e *Engine) hmac(ctx context.Context, k *key, r MACRequest) (string, int, error) {
	k, v, err := e.choose(ctx, k, "HMAC", r.KeyVersion)
	if err != nil {
		return "", 0, err
	}
	h, alg, err := e.maccer(ctx, k, v, &r)
	if err != nil {
		return "", 0, err
	}
	mac, err := h.ComputeMAC(ctx, alg, r.Input)
	if err != nil {
		return "", 0, failed("HMAC", k, v, err)
	}
	return format(v.number, mac, base64.StdEncoding), v.number, nil
}

// VerifyHMAC reports whether mac is the HMAC of r.Input by the version of the key that it names; r.KeyVersion is
// ignored. It needs the usage mac and makes one call. Errors are as for [Engine.Verify].
func (e *Engine) VerifyHMAC(ctx context.Context, name, mac string, r MACRequest) (bool, error) {
	return one(ctx, e, hmacKey, name, VerifyMACRequest{r, mac}, e.verifyHMAC)
}

// VerifyHMACBatch is VerifyHMAC for each of requests, as [Engine.SignBatch] is Sign.
func (e *Engine) VerifyHMACBatch(ctx context.Context, name string, requests []VerifyMACRequest) ([]Result[bool], error) {
	return all(ctx, e, hmacKey, name, false, requests, e.verifyHMAC)
}

func (e *Engine) verifyHMAC(ctx context.Context, k *key, r VerifyMACRequest) (bool, int, error) {
	k, v, raw, err := e.readMAC(ctx, k, "HMAC", r.MAC)
	if err != nil {
		return false, 0, err
	}
	h, alg, err := e.maccer(ctx, k, v, &r.MACRequest)
	if err != nil {
		return false, 0, err
	}
	return verified(k, v, h.VerifyMAC(ctx, alg, r.Input, raw))
}

// readMAC returns the version that made a MAC, and the MAC.
func (e *Engine) readMAC(ctx context.Context, k *key, kind, mac string) (*key, *version, []byte, error) {
	number, encoded, err := parse(kind, mac)
	if err != nil {
		return nil, nil, nil, err
	}
	k, v, err := e.made(ctx, k, kind, number)
	if err != nil {
		return nil, nil, nil, err
	}
	raw, ok := decode(encoded, base64.StdEncoding)
	if !ok {
		return nil, nil, nil, invalid("invalid %s: could not decode base64", kind)
	}
	return k, v, raw, nil
}

// verified turns the error of VerifyMAC into a result.
func verified(k *key, v *version, err error) (bool, int, error) {
	if errors.Is(err, backend.ErrInvalidSignature) {
		return false, v.number, nil
	}
	if err != nil {
		return false, 0, failed("verify MAC", k, v, err)
	}
	return true, v.number, nil
}

// maccer returns what computes HMACs with v, and the algorithm that r asks for.
func (e *Engine) maccer(ctx context.Context, k *key, v *version, r *MACRequest) (h handle, alg backend.MACAlgorithm, err error) {
	switch {
	case v.soft == nil && v.public != nil:
		return nil, "", unsupported("HMAC not supported for key type %s: the managed key can't compute MACs, and no other key takes its place", v.kind)
	case v.soft == nil:
		h, err = e.handle(ctx, k, v)
	case v.rec.HMAC == nil && v.soft.t.name != TypeHMAC:
		return nil, "", unsupported("HMAC not supported for key type %s without a key for it", v.kind)
	default:
		h, err = e.macKey(ctx, k, v)
	}
	if err != nil {
		return nil, "", err
	}
	alg, err = r.algorithm(v, h.Capabilities())
	return h, alg, err
}

// CMACRequest is what shall be authenticated by AES-CMAC (RFC 4493).
type CMACRequest struct {
	Input      []byte // it may be empty
	Length     int    // of the MAC in bytes, 8 to 16 (RFC 4493, Section 2.4); 0 is 16. Verifying takes it from the MAC.
	KeyVersion int    // as in MACRequest
	Reference  string // comes back in the result of a batch
}

func (r CMACRequest) reference() string { return r.Reference }
func (r CMACRequest) context() []byte   { return nil }

// VerifyCMACRequest is a CMAC, and what it is to be of.
type VerifyCMACRequest struct {
	CMACRequest
	MAC string // vault:v<version>:<base64>
}

const (
	cmacKey   = "CMAC key"
	minCMAC   = 8 // a shorter one could be guessed
	cmacBytes = 16
)

// CMAC returns a MAC as vault:v<version>:<base64>. A managed key needs the usage mac and makes one call. The error is as for
// [Engine.Sign].
func (e *Engine) CMAC(ctx context.Context, name string, r CMACRequest) (string, error) {
	return one(ctx, e, cmacKey, name, r, e.cmac)
}

// CMACBatch is CMAC for each of requests, as [Engine.SignBatch] is Sign.
func (e *Engine) CMACBatch(ctx context.Context, name string, requests []CMACRequest) ([]Result[string], error) {
	return all(ctx, e, cmacKey, name, false, requests, e.cmac)
}

func (e *Engine) cmac(ctx context.Context, k *key, r CMACRequest) (string, int, error) {
	if r.Length == 0 {
		r.Length = cmacBytes
	}
	if r.Length < minCMAC || r.Length > cmacBytes {
		return "", 0, invalid("MAC length of %d bytes; it takes %d to %d", r.Length, minCMAC, cmacBytes)
	}
	k, v, err := e.choose(ctx, k, "CMAC", r.KeyVersion)
	if err != nil {
		return "", 0, err
	}
	mac, err := e.computeCMAC(ctx, k, v, r.Input)
	if err != nil {
		return "", 0, err
	}
	return format(v.number, mac[:r.Length], base64.StdEncoding), v.number, nil
}

func (e *Engine) computeCMAC(ctx context.Context, k *key, v *version, input []byte) ([]byte, error) {
	if v.public != nil || v.soft != nil && !v.soft.t.cmac() {
		return nil, unsupported("CMAC not supported for key type %s", v.kind)
	}
	h, err := e.handle(ctx, k, v)
	if err != nil {
		return nil, err
	}
	if caps := h.Capabilities(); !slices.Contains(caps.MACs, backend.AESCMAC) {
		return nil, unsupported("CMAC not supported for key type %s: the key manager offers %v", v.kind, caps.MACs)
	}
	mac, err := h.ComputeMAC(ctx, backend.AESCMAC, input)
	if err != nil {
		return nil, failed("CMAC", k, v, err)
	}
	return mac, nil
}

// VerifyCMAC reports whether mac is the CMAC of r.Input by the version of the key that it names. It needs the usage mac and
// makes one call. Errors are as for [Engine.Verify].
func (e *Engine) VerifyCMAC(ctx context.Context, name, mac string, r CMACRequest) (bool, error) {
	return one(ctx, e, cmacKey, name, VerifyCMACRequest{r, mac}, e.verifyCMAC)
}

// VerifyCMACBatch is VerifyCMAC for each of requests, as [Engine.SignBatch] is Sign.
func (e *Engine) VerifyCMACBatch(ctx context.Context, name string, requests []VerifyCMACRequest) ([]Result[bool], error) {
	return all(ctx, e, cmacKey, name, false, requests, e.verifyCMAC)
}

func (e *Engine) verifyCMAC(ctx context.Context, k *key, r VerifyCMACRequest) (bool, int, error) {
	k, v, raw, err := e.readMAC(ctx, k, "CMAC", r.MAC)
	if err != nil {
		return false, 0, err
	}
	if len(raw) < minCMAC || len(raw) > cmacBytes {
		return false, 0, invalid("invalid CMAC: got %d bytes; it takes %d to %d", len(raw), minCMAC, cmacBytes)
	}
	mac, err := e.computeCMAC(ctx, k, v, r.Input)
	if err != nil {
		return false, 0, err
	}
	return subtle.ConstantTimeCompare(mac[:len(raw)], raw) == 1, v.number, nil
}

// algorithm returns the HMAC that r asks for, if the key has it.
func (r *MACRequest) algorithm(v *version, caps backend.Capabilities) (backend.MACAlgorithm, error) {
	isHMAC := func(a backend.MACAlgorithm) bool { return a.Hash() != 0 }
	first := slices.IndexFunc(caps.MACs, isHMAC)
	if first < 0 {
		return "", unsupported("HMAC not supported for key type %s", v.kind)
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
