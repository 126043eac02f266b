package pki

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"fmt"
	"math/big"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"filippo.io/mldsa"

	"github.com/managedkeys/managedkeys/backend"
	"github.com/managedkeys/managedkeys/managedkey"
)

// km is a key manager in memory that counts what it signs and can be told to misbehave.
type km struct {
	mu    sync.Mutex
	keys  map[string]crypto.Signer
	algs  map[string][]backend.SignatureAlgorithm // limits of a key; the usual ones if absent
	signs atomic.Int64
	spoil func(signature []byte) []byte // changes what is returned; nil changes nothing
	seen  func(message []byte)          // is told what was signed before the signature is returned; nil is not
	hang  string                        // a key that never answers
}

type kmParams string

func (kmParams) BackendType() string { return "test" }
func (p kmParams) Validate() error   { return nil }

func (*km) Type() string { return "test" }
func (*km) Close() error { return nil }

type signKey struct {
	*backend.Handle
	backend.SignOps
}

func (m *km) Open(_ context.Context, params backend.Params) (backend.Key, error) {
	p, err := backend.ParamsAs[kmParams](params)
	if err != nil {
		return nil, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	key := m.keys[string(p)]
	if key == nil && p != "symmetric" {
		return nil, fmt.Errorf("test: %q: %w", p, backend.ErrKeyNotFound)
	}
	if key == nil {
		return backend.NewHandle(backend.HandleConfig{ID: "symmetric", Capabilities: backend.Capabilities{Algorithm: "AES-256"}}), nil
	}
	algs, ok := m.algs[string(p)]
	if !ok {
		algs = usualAlgorithms(key.Public())
	}
	h := backend.NewHandle(backend.HandleConfig{
		ID: "km:" + string(p), Public: key.Public(), Mode: backend.CallLocal,
		Capabilities: backend.Capabilities{Algorithm: backend.Describe(key.Public()), Usages: backend.UsageSign | backend.UsageVerify, Signatures: algs},
	})
	return signKey{h, h.Signing(func(ctx context.Context, req backend.SignRequest) ([]byte, error) {
		if m.hang != "" && m.hang == string(p) {
			<-ctx.Done()
			return nil, ctx.Err()
		}
		m.signs.Add(1)
		opts := crypto.SignerOpts(req.Hash)
		data := req.Digest
		switch req.Scheme {
		case backend.RSAPSS:
			opts = &rsa.PSSOptions{SaltLength: req.SaltLength, Hash: req.Hash}
		case backend.Ed25519, backend.MLDSA:
			data = req.Message
		}
		signature, err := key.Sign(rand.Reader, data, opts)
		if m.seen != nil {
			m.seen(req.Message)
		}
		if m.spoil != nil {
			signature = m.spoil(signature)
		}
		return signature, err
	})}, nil
}

func usualAlgorithms(pub crypto.PublicKey) []backend.SignatureAlgorithm {
	var algs []backend.SignatureAlgorithm
	hashes := []crypto.Hash{crypto.SHA256, crypto.SHA384, crypto.SHA512}
	switch pub.(type) {
	case *rsa.PublicKey:
		for _, scheme := range []backend.Scheme{backend.RSAPKCS1v15, backend.RSAPSS} {
			for _, h := range hashes {
				algs = append(algs, backend.SignatureAlgorithm{Scheme: scheme, Hash: h})
			}
		}
	case *ecdsa.PublicKey:
		for _, h := range hashes {
			algs = append(algs, backend.SignatureAlgorithm{Scheme: backend.ECDSA, Hash: h})
		}
	case ed25519.PublicKey:
		algs = append(algs, backend.SignatureAlgorithm{Scheme: backend.Ed25519})
	case *mldsa.PublicKey:
		algs = append(algs, backend.SignatureAlgorithm{Scheme: backend.MLDSA})
	}
	return algs
}

// testKeys are made once; RSA keys are slow to make.
var testKeys = sync.OnceValue(func() map[string]crypto.Signer {
	keys := map[string]crypto.Signer{}
	add := func(name string, key crypto.Signer, err error) {
		if err != nil {
			panic(err)
		}
		keys[name] = key
	}
	for _, name := range []string{"rsa", "rsa-b"} {
		key, err := rsa.GenerateKey(rand.Reader, 2048)
		add(name, key, err)
	}
	for name, curve := range map[string]elliptic.Curve{
		"p256": elliptic.P256(), "p256-b": elliptic.P256(), "p256-c": elliptic.P256(), "p256-d": elliptic.P256(),
		"p384": elliptic.P384(), "p521": elliptic.P521(), "p224": elliptic.P224(),
	} {
		key, err := ecdsa.GenerateKey(curve, rand.Reader)
		add(name, key, err)
	}
	_, ed, err := ed25519.GenerateKey(rand.Reader)
	add("ed25519", ed, err)
	ml, err := mldsa.GenerateKey(mldsa.MLDSA65())
	add("mldsa65", ml, err)
	ml, err = mldsa.GenerateKey(mldsa.MLDSA87())
	add("mldsa87", ml, err)
	add("rsa1024", weakRSA(1024), nil)
	return keys
})

// weakRSA makes a key that crypto/rsa refuses to make.
func weakRSA(bits int) *rsa.PrivateKey {
	for {
		p, err1 := rand.Prime(rand.Reader, bits/2)
		q, err2 := rand.Prime(rand.Reader, bits/2)
		if err1 != nil || err2 != nil {
			panic("no primes")
		}
		one := big.NewInt(1)
		phi := new(big.Int).Mul(new(big.Int).Sub(p, one), new(big.Int).Sub(q, one))
		n := new(big.Int).Mul(p, q)
		d := new(big.Int).ModInverse(big.NewInt(65537), phi)
		if d != nil && n.BitLen() == bits {
			key := &rsa.PrivateKey{PublicKey: rsa.PublicKey{N: n, E: 65537}, D: d, Primes: []*big.Int{p, q}}
			key.Precompute()
			return key
		}
	}
}

// house is a registry with one mount, all keys of a km granted, and an engine on it.
type house struct {
	km       *km
	registry *managedkey.Registry
	mount    *managedkey.Mount
	engine   *Engine
}

// noon is what the clock of a house says.
var noon = time.Date(2026, 3, 1, 12, 0, 0, 500, time.UTC)

func newHouse(tb testing.TB, opts *Options) *house {
	tb.Helper()
	if opts == nil {
		opts = &Options{}
	}
	if opts.Now == nil {
		opts.Now = func() time.Time { return noon }
	}
	h := &house{km: &km{keys: map[string]crypto.Signer{}, algs: map[string][]backend.SignatureAlgorithm{}}, registry: managedkey.NewRegistry()}
	names := []string{"symmetric", "absent"}
	for name, key := range testKeys() {
		h.km.keys[name] = key
		names = append(names, name)
	}
	for _, name := range names {
		entry := managedkey.Entry{Backend: h.km, Params: kmParams(name)}
		entry.Ref.Name = name
		if err := h.registry.Create(tb.Context(), entry); err != nil {
			tb.Fatal(err)
		}
	}
	mount, err := h.registry.Mount(tb.Context(), "", "pki", names...)
	if err != nil {
		tb.Fatal(err)
	}
	h.mount, h.engine = mount, New(mount, opts)
	return h
}

// signed returns how many signatures the key manager made since the last call.
func (h *house) signed() int64 { return h.km.signs.Swap(0) }
