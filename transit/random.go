package transit

import (
	"context"
	"crypto/subtle"
)

// Where random bytes come from.
const (
	SourcePlatform = "platform"    // this process's generator, crypto/rand
	SourceManaged  = "managed_key" // the key manager of a managed key
	SourceAll      = "all"         // both, by exclusive or: as good as the better one
)

// MaxRandom is the largest number of bytes that one call of Random returns.
const MaxRandom = 128 << 10

// Random returns n random bytes, 1 to MaxRandom. An empty source is SourcePlatform. For the other two, name is that of a transit
// key whose managed key, of the latest version, needs the usage generate_random; one call is made for as many bytes as its key
// manager gives at once. A key that can't is an error.
func (e *Engine) Random(ctx context.Context, n int, source, name string) ([]byte, error) {
	switch {
	case n < 1:
		return nil, invalid("'bytes' cannot be less than 1: %d", n)
	case n > MaxRandom:
		return nil, invalid("'bytes' should be less than %d: %d", MaxRandom, n)
	}
	switch source {
	case "", SourcePlatform:
		return randomBytes(n), nil
	case SourceManaged, SourceAll:
	default:
		return nil, invalid("unsupported entropy source %.40q; it takes %s, %s and %s", source, SourcePlatform, SourceManaged, SourceAll)
	}
	k, err := e.usable(ctx, "random key", name)
	if err != nil {
		return nil, err
	}
	v := k.version(k.latest())
	if v.soft != nil {
		return nil, unsupported("key %q is of type %s; the source %s takes a managed key", name, v.kind, source)
	}
	h, err := e.handle(ctx, k, v)
	if err != nil {
		return nil, err
	}
	most := h.Capabilities().MaxRandom
	if most < 1 {
		return nil, unsupported("random: the key manager of key %q, which is of type %s, gives no random bytes", k.name, v.kind)
	}
	out := make([]byte, 0, n)
	for len(out) < n {
		part, err := h.GenerateRandom(ctx, min(most, n-len(out)))
		if err != nil {
			return nil, failed("random", k, v, err)
		}
		out = append(out, part...)
	}
	if source == SourceAll {
		subtle.XORBytes(out, out, randomBytes(n))
	}
	return out, nil
}

// Hash returns the hash of input by sha2-224, sha2-256, sha2-384, sha2-512, sha3-224, sha3-256, sha3-384 or sha3-512; empty is
// sha2-256.
func Hash(algorithm string, input []byte) ([]byte, error) {
	if algorithm == "" {
		algorithm = "sha2-256"
	}
	h, ok := hashes[algorithm]
	if !ok || algorithm == "sha1" {
		return nil, invalid("unsupported algorithm %.40q; it takes sha2-224 to sha2-512 and sha3-224 to sha3-512", algorithm)
	}
	return digest(h, input), nil
}
