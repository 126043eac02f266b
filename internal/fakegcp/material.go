package fakegcp

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/mlkem"
	"crypto/rand"
	"crypto/rsa"
	"math/big"
	"sync"

	"filippo.io/mldsa"

	"github.com/decred/dcrd/dcrec/secp256k1/v4"

	"github.com/managedkeys/managedkeys/backend"
)

// material is the private part of a key version: *rsa.PrivateKey, *ecdsa.PrivateKey, *secp256k1.PrivateKey,
// ed25519.PrivateKey, *mldsa.PrivateKey, *mlkem.DecapsulationKey768, *mlkem.DecapsulationKey1024 or []byte.
type material any

// generate makes the key of an algorithm.
func generate(a algorithm) (material, error) {
	switch {
	case a.mldsa != (mldsa.Parameters{}):
		return mldsa.GenerateKey(a.mldsa)
	case a.kem == 768:
		return mlkem.GenerateKey768()
	case a.kem == 1024:
		return mlkem.GenerateKey1024()
	case a.ed25519:
		_, key, err := ed25519.GenerateKey(rand.Reader)
		return key, err
	case a.curve != nil && a.curve == backend.Secp256k1():
		return secp256k1.GeneratePrivateKey()
	case a.curve != nil:
		return ecdsa.GenerateKey(a.curve, rand.Reader)
	case a.asymmetric() && a.bits > 0:
		return rsaKeys.generate(a.bits)
	case a.asymmetric():
		return randomBytes(32), nil // SLH-DSA, which nothing here signs with
	case a.bits > 0:
		return randomBytes(a.bits / 8), nil
	}
	return randomBytes(a.hash.Size()), nil // HMAC keys are as long as the hash
}

// publicOf returns the public key of material, or nil.
func publicOf(m material) crypto.PublicKey {
	switch key := m.(type) {
	case *secp256k1.PrivateKey:
		return key.PubKey().ToECDSA()
	case *mldsa.PrivateKey:
		return key.PublicKey()
	case interface{ Public() crypto.PublicKey }:
		return key.Public()
	}
	return nil
}

// rawPublic returns the public key in the encoding of its FIPS standard, and random bytes for a key that nothing here can use.
func rawPublic(m material) []byte {
	switch key := m.(type) {
	case *mldsa.PrivateKey:
		return key.PublicKey().Bytes()
	case *mlkem.DecapsulationKey768:
		return key.EncapsulationKey().Bytes()
	case *mlkem.DecapsulationKey1024:
		return key.EncapsulationKey().Bytes()
	}
	return randomBytes(32)
}

func randomBytes(n int) []byte {
	b := make([]byte, n)
	rand.Read(b) // never fails (crypto/rand)
	return b
}

// rsaFactory makes RSA keys out of few primes, since each prime takes as long as a hundred signatures.
type rsaFactory struct {
	mu    sync.Mutex
	sizes map[int]*primes
}

// primes are factors of RSA keys of one size, and the pairs that are not used yet.
type primes struct {
	known []*big.Int
	pairs [][2]int
}

var rsaKeys = rsaFactory{sizes: make(map[int]*primes)}

// generate returns a key with a modulus that no other key has.
func (f *rsaFactory) generate(bits int) (*rsa.PrivateKey, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	p := f.sizes[bits]
	if p == nil {
		p = new(primes)
		f.sizes[bits] = p
	}
	for len(p.pairs) > 0 {
		pair := p.pairs[0]
		p.pairs = p.pairs[1:]
		if key := combine(p.known[pair[0]], p.known[pair[1]], bits); key != nil {
			return key, nil
		}
	}
	key, err := rsa.GenerateKey(rand.Reader, bits)
	if err != nil {
		return nil, err
	}
	for _, prime := range key.Primes {
		for i := range p.known {
			p.pairs = append(p.pairs, [2]int{i, len(p.known)})
		}
		p.known = append(p.known, prime)
	}
	p.pairs = p.pairs[:len(p.pairs)-1] // the last one is key itself
	return key, nil
}

// combine returns the key with two prime factors, or nil if they give none.
func combine(p, q *big.Int, bits int) *rsa.PrivateKey {
	one, e := big.NewInt(1), big.NewInt(65537)
	n := new(big.Int).Mul(p, q)
	totient := new(big.Int).Mul(new(big.Int).Sub(p, one), new(big.Int).Sub(q, one))
	d := new(big.Int).ModInverse(e, totient)
	if n.BitLen() != bits || d == nil {
		return nil
	}
	key := &rsa.PrivateKey{PublicKey: rsa.PublicKey{N: n, E: 65537}, D: d, Primes: []*big.Int{p, q}}
	key.Precompute()
	if key.Validate() != nil {
		return nil
	}
	return key
}
