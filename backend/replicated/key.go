package replicated

import (
	"context"
	"crypto"
	"crypto/ecdh"
	"crypto/ed25519"
	"crypto/rsa"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
	"time"

	"filippo.io/mldsa"

	"github.com/managedkeys/managedkeys/backend"
)

// The kinds of key.
type (
	rsaKey struct {
		*replica
		backend.SignOps
		backend.DecryptOps
		backend.WrapOps
		backend.RandomOps
	}
	agreeKey struct {
		*replica
		backend.SignOps
		backend.AgreeOps
		backend.RandomOps
	}
	signKey struct {
		*replica
		backend.SignOps
		backend.RandomOps
	}
	kemKey struct {
		*replica
		backend.DecapsulateOps
		backend.RandomOps
	}
	secretKey struct {
		*replica
		backend.AEADOps
		backend.MACOps
		backend.WrapOps
		backend.RandomOps
	}
)

// replica is a key at several places.
type replica struct {
	*backend.Handle
	b     *Backend
	seats []*seat
	known backend.Key // at the first place that had it, for comparing; it is bound to its key whatever becomes of the place
}

// Health is how one place is doing.
type Health struct {
	Place  string
	Opened bool  // the place has had the key
	Err    error // the last failure, nil if the place is well
}

// Health returns how the places are doing with this key, in their order. It makes no call.
func (r *replica) Health() []Health {
	all := make([]Health, len(r.seats))
	for i, s := range r.seats {
		all[i] = Health{s.Name, s.handle() != nil, s.failure()}
	}
	return all
}

// newKey returns the key that is at seats; known is one of theirs, and all that are open were compared with it.
func (b *Backend) newKey(seats []*seat, known backend.Key) (backend.Key, error) {
	id, err := identify(seats, known)
	if err != nil {
		return nil, err
	}
	r := &replica{b: b, seats: seats, known: known}
	caps := r.capabilities()
	h := backend.NewHandle(backend.HandleConfig{
		ID: id, Public: known.Public(), Capabilities: caps, Timeout: b.opts.CallTimeout, Gate: &b.gate,
	})
	r.Handle = h
	random := h.Random(r.random)
	switch known.Public().(type) {
	case *rsa.PublicKey:
		return &rsaKey{r, h.Signing(r.sign), h.Decrypting(r.decrypt), h.Wrapping(r.wrap, r.unwrap), random}, nil
	case nil:
		return &secretKey{r, h.AEAD(r.seal, r.open), h.MAC(r.mac), h.Wrapping(r.wrap, r.unwrap), random}, nil
	case crypto.Encapsulator:
		return &kemKey{r, h.Decapsulating(r.decapsulate), random}, nil
	}
	if caps.Usages.Has(backend.UsageDerive) {
		return &agreeKey{r, h.Signing(r.sign), h.Agreeing(r.agree), random}, nil
	}
	return &signKey{r, h.Signing(r.sign), random}, nil
}

// identify returns an identifier that is the same whichever places are there.
func identify(seats []*seat, known backend.Key) (string, error) {
	if known.Public() != nil {
		hash, err := backend.Fingerprint(known.Public())
		return "sha256:" + hex.EncodeToString(hash[:]), err
	}
	ids := make([]string, len(seats))
	for i, s := range seats {
		ids[i] = s.Name + "=" + s.handle().ID()
	}
	return strings.Join(ids, ","), nil
}

// order returns the places in the order in which they are tried, and has those probed that have rested.
func (r *replica) order() []*seat {
	var well, ill []*seat
	for _, s := range r.seats {
		if s.well() {
			well = append(well, s)
		} else {
			ill = append(ill, s)
		}
		if s.due() && !r.b.background(func(ctx context.Context) {
			ctx, cancel := context.WithTimeout(ctx, r.b.opts.AttemptTimeout)
			defer cancel()
			s.probe(ctx, r.known)
		}) {
			break // closed
		}
	}
	return append(well, ill...)
}

// final are the errors that another place would give as well.
var final = []error{backend.ErrInvalidParams, backend.ErrDecryption, backend.ErrInvalidSignature}

// try has the places do fn, one after the other until one has done it.
func try[T any](ctx context.Context, r *replica, fn func(context.Context, backend.Key) (T, error)) (T, error) {
	var none T
	var errs []error
	seats := r.order()
	for i, s := range seats {
		key := s.handle()
		if key == nil {
			errs = append(errs, fmt.Errorf("place %q: %w", s.Name, s.failure()))
			continue
		}
		attempt, cancel := context.WithTimeout(ctx, r.patience(ctx, len(seats)-i))
		out, err := fn(attempt, key)
		cancel()
		if err == nil {
			s.worked()
			return out, nil
		}
		if ctx.Err() != nil && !errors.Is(ctx.Err(), context.DeadlineExceeded) {
			return none, err // the caller has gone, which says nothing about the place
		}
		for _, e := range final {
			if errors.Is(err, e) {
				return none, err
			}
		}
		if !errors.Is(err, backend.ErrUnsupported) { // a place that came later and can do less is well all the same
			s.failed(err)
		}
		errs = append(errs, fmt.Errorf("place %q: %w", s.Name, err))
		if ctx.Err() != nil {
			break
		}
	}
	return none, fmt.Errorf("replicated: no place could do it: %w", errors.Join(errs...))
}

// patience returns how long the next of the places that are left is given.
func (r *replica) patience(ctx context.Context, left int) time.Duration {
	patience := r.b.opts.AttemptTimeout
	deadline, ok := ctx.Deadline()
	if !ok {
		return patience
	}
	rest := time.Until(deadline)
	if left == 1 {
		return rest
	}
	return min(patience, rest/time.Duration(left))
}

// as has a place's key do fn as a T.
func as[T, R any](key backend.Key, fn func(T) (R, error)) (R, error) {
	able, ok := key.(T)
	if !ok {
		var none R
		return none, fmt.Errorf("replicated: key %q can't do that: %w", key.ID(), backend.ErrUnsupported)
	}
	return fn(able)
}

// options returns what the request was made from.
func options(req backend.SignRequest) (input []byte, opts crypto.SignerOpts) {
	switch req.Scheme {
	case backend.RSAPSS:
		return req.Digest, &rsa.PSSOptions{Hash: req.Hash, SaltLength: req.SaltLength}
	case backend.Ed25519:
		if req.Hash != 0 {
			return req.Digest, &ed25519.Options{Hash: req.Hash, Context: req.Context}
		}
		return req.Message, &ed25519.Options{Context: req.Context}
	case backend.MLDSA:
		return req.Message, &mldsa.Options{Context: req.Context}
	}
	if req.Hash == 0 {
		return req.Message, req.Hash
	}
	return req.Digest, req.Hash
}

func (r *replica) sign(ctx context.Context, req backend.SignRequest) ([]byte, error) {
	input, opts := options(req)
	return try(ctx, r, func(ctx context.Context, key backend.Key) ([]byte, error) {
		return as(key, func(s backend.Signer) ([]byte, error) { return s.SignContext(ctx, input, opts) })
	})
}

func (r *replica) decrypt(ctx context.Context, req backend.DecryptRequest) ([]byte, error) {
	var opts crypto.DecrypterOpts = &rsa.OAEPOptions{Hash: req.Hash, Label: req.Label}
	if req.Raw {
		opts = new(backend.RawRSAOptions)
	}
	return try(ctx, r, func(ctx context.Context, key backend.Key) ([]byte, error) {
		return as(key, func(d backend.Decrypter) ([]byte, error) { return d.DecryptContext(ctx, req.Ciphertext, opts) })
	})
}

func (r *replica) agree(ctx context.Context, peer *ecdh.PublicKey) ([]byte, error) {
	return try(ctx, r, func(ctx context.Context, key backend.Key) ([]byte, error) {
		return as(key, func(a backend.KeyAgreer) ([]byte, error) { return a.ECDHContext(ctx, peer) })
	})
}

func (r *replica) decapsulate(ctx context.Context, ciphertext []byte) ([]byte, error) {
	return try(ctx, r, func(ctx context.Context, key backend.Key) ([]byte, error) {
		return as(key, func(d backend.Decapsulator) ([]byte, error) { return d.DecapsulateContext(ctx, ciphertext) })
	})
}

func (r *replica) seal(ctx context.Context, plaintext, additionalData []byte) ([]byte, error) {
	return try(ctx, r, func(ctx context.Context, key backend.Key) ([]byte, error) {
		return as(key, func(a backend.AEAD) ([]byte, error) { return a.Seal(ctx, plaintext, additionalData) })
	})
}

func (r *replica) open(ctx context.Context, ciphertext, additionalData []byte) ([]byte, error) {
	return try(ctx, r, func(ctx context.Context, key backend.Key) ([]byte, error) {
		return as(key, func(a backend.AEAD) ([]byte, error) { return a.Open(ctx, ciphertext, additionalData) })
	})
}

func (r *replica) mac(ctx context.Context, alg backend.MACAlgorithm, message []byte) ([]byte, error) {
	return try(ctx, r, func(ctx context.Context, key backend.Key) ([]byte, error) {
		return as(key, func(m backend.MAC) ([]byte, error) { return m.ComputeMAC(ctx, alg, message) })
	})
}

func (r *replica) wrap(ctx context.Context, material []byte) ([]byte, error) {
	return try(ctx, r, func(ctx context.Context, key backend.Key) ([]byte, error) {
		return as(key, func(w backend.Wrapper) ([]byte, error) { return w.WrapKey(ctx, material) })
	})
}

func (r *replica) unwrap(ctx context.Context, wrapped []byte) ([]byte, error) {
	return try(ctx, r, func(ctx context.Context, key backend.Key) ([]byte, error) {
		return as(key, func(w backend.Wrapper) ([]byte, error) { return w.UnwrapKey(ctx, wrapped) })
	})
}

func (r *replica) random(ctx context.Context, n int) ([]byte, error) {
	return try(ctx, r, func(ctx context.Context, key backend.Key) ([]byte, error) {
		return as(key, func(g backend.Random) ([]byte, error) { return g.GenerateRandom(ctx, n) })
	})
}
