package transitmatrix

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	_ "crypto/sha1" // hashes that are used by number
	_ "crypto/sha256"
	_ "crypto/sha3"
	_ "crypto/sha512"
	"crypto/x509"
	"encoding/pem"
	"os"
	"sync"
	"testing"

	"filippo.io/mldsa"
	"github.com/stretchr/testify/require"

	"github.com/managedkeys/managedkeys/backend"
)

// What is imported wherever that can be done, so that results can be checked with the private key as well.
var (
	rsa2048 = sync.OnceValues(func() (*rsa.PrivateKey, error) { return rsa.GenerateKey(rand.Reader, 2048) })
	rsa4096 = sync.OnceValues(readRSA)
	secret  = sync.OnceValue(func() []byte {
		b := make([]byte, 128)
		rand.Read(b)
		return b
	})
)

// readRSA reads a key of 4096 bits, which takes seconds to make.
func readRSA() (*rsa.PrivateKey, error) {
	text, err := os.ReadFile("testdata/rsa-4096.pem")
	if err != nil {
		return nil, err
	}
	block, _ := pem.Decode(text)
	key, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		return nil, err
	}
	return key.(*rsa.PrivateKey), nil
}

// rsaKey is what the fakes make RSA keys with.
func rsaKey(bits int) (*rsa.PrivateKey, error) {
	if bits == 4096 {
		return rsa4096()
	}
	return rsa2048()
}

// private returns a private key of a kind: "rsa-2048", "p256", "ed25519", "ml-dsa-44" and so on.
func private(tb testing.TB, kind string) crypto.Signer {
	tb.Helper()
	var key crypto.Signer
	var err error
	switch kind {
	case "rsa-2048":
		key, err = rsa2048()
	case "rsa-4096":
		key, err = rsa4096()
	case "p224", "p256", "p384", "p521", "secp256k1":
		curves := map[string]elliptic.Curve{
			"p224": elliptic.P224(), "p256": elliptic.P256(), "p384": elliptic.P384(), "p521": elliptic.P521(), "secp256k1": backend.Secp256k1(),
		}
		key, err = ecdsa.GenerateKey(curves[kind], rand.Reader)
	case "ed25519":
		_, key, err = ed25519.GenerateKey(rand.Reader)
	case "ml-dsa-44":
		key, err = mldsa.GenerateKey(mldsa.MLDSA44())
	case "ml-dsa-65":
		key, err = mldsa.GenerateKey(mldsa.MLDSA65())
	case "ml-dsa-87":
		key, err = mldsa.GenerateKey(mldsa.MLDSA87())
	default:
		tb.Fatalf("no private key of kind %q", kind)
	}
	require.NoError(tb, err)
	return key
}

// hashes are those that transit names.
var hashes = map[string]crypto.Hash{
	"sha1":     crypto.SHA1,
	"sha2-224": crypto.SHA224, "sha2-256": crypto.SHA256, "sha2-384": crypto.SHA384, "sha2-512": crypto.SHA512,
	"sha3-224": crypto.SHA3_224, "sha3-256": crypto.SHA3_256, "sha3-384": crypto.SHA3_384, "sha3-512": crypto.SHA3_512,
}

func digest(h crypto.Hash, message []byte) []byte {
	d := h.New()
	d.Write(message)
	return d.Sum(nil)
}
