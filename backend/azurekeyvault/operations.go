package azurekeyvault

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"errors"
	"fmt"
	"net/http"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/to"
	"github.com/Azure/azure-sdk-for-go/sdk/security/keyvault/azkeys"

	"github.com/managedkeys/managedkeys/backend"
)

// rsaAlgorithms are the service's names (RFC 7518, Sections 3.3 and 3.5).
var rsaAlgorithms = map[backend.SignatureAlgorithm]azkeys.SignatureAlgorithm{
	{Scheme: backend.RSAPKCS1v15, Hash: crypto.SHA256}: azkeys.SignatureAlgorithmRS256,
	{Scheme: backend.RSAPKCS1v15, Hash: crypto.SHA384}: azkeys.SignatureAlgorithmRS384,
	{Scheme: backend.RSAPKCS1v15, Hash: crypto.SHA512}: azkeys.SignatureAlgorithmRS512,
	{Scheme: backend.RSAPSS, Hash: crypto.SHA256}:      azkeys.SignatureAlgorithmPS256,
	{Scheme: backend.RSAPSS, Hash: crypto.SHA384}:      azkeys.SignatureAlgorithmPS384,
	{Scheme: backend.RSAPSS, Hash: crypto.SHA512}:      azkeys.SignatureAlgorithmPS512,
}

var macAlgorithms = map[backend.MACAlgorithm]azkeys.SignatureAlgorithm{
	backend.HMACSHA256: azkeys.SignatureAlgorithmHS256,
	backend.HMACSHA384: azkeys.SignatureAlgorithmHS384,
	backend.HMACSHA512: azkeys.SignatureAlgorithmHS512,
}

// operation returns what call is told of one of the key's requests.
func (k *key) operation(name string) operation { return operation{name: name, limiter: k.limiter} }

// signValue has the service sign a value. size is the length of the result in bytes.
func (k *key) signValue(ctx context.Context, alg azkeys.SignatureAlgorithm, value []byte, size int) ([]byte, error) {
	return call(ctx, k.connection, k.operation("Sign"), func(ctx context.Context) ([]byte, error) {
		resp, err := k.client.Sign(withValue(ctx, value), k.name, k.version, azkeys.SignParameters{Algorithm: &alg, Value: value}, nil)
		if err != nil {
			return nil, err
		}
		if err := k.check(resp.KeyOperationResult); err != nil {
			return nil, err
		}
		if len(resp.Result) != size {
			return nil, integrity("the answer to Sign with %s has %d bytes, want %d", alg, len(resp.Result), size)
		}
		return resp.Result, nil
	})
}

// check returns an error unless an answer is about exactly this version of this key.
func (k *key) check(result azkeys.KeyOperationResult) error {
	return checkKID(result.KID, k.name, k.version)
}

func (k *key) sign(ctx context.Context, req backend.SignRequest) ([]byte, error) {
	switch pub := k.public.(type) {
	case *ecdsa.PublicKey:
		raw, err := k.signValue(ctx, k.curve.alg, req.Digest, 2*k.curve.size)
		if err != nil {
			return nil, err
		}
		return backend.ECDSASignature(pub, raw)
	case *rsa.PublicKey:
		alg := rsaAlgorithms[backend.SignatureAlgorithm{Scheme: req.Scheme, Hash: req.Hash}]
		return k.signValue(ctx, alg, req.Digest, pub.Size())
	}
	return nil, fmt.Errorf("azurekeyvault: sign with a symmetric key: %w", backend.ErrUnsupported)
}

// mac sends the message itself, as HMAC has it (RFC 7518, Section 3.2; RFC 2104).
func (k *key) mac(ctx context.Context, alg backend.MACAlgorithm, message []byte) ([]byte, error) {
	return k.signValue(ctx, macAlgorithms[alg], message, alg.Hash().Size())
}

func (k *key) random(ctx context.Context, n int) ([]byte, error) {
	return call(ctx, k.connection, k.operation("GetRandomBytes"), func(ctx context.Context) ([]byte, error) {
		resp, err := k.client.GetRandomBytes(ctx, azkeys.GetRandomBytesParameters{Count: to.Ptr(int32(n))}, nil)
		if err != nil {
			return nil, err
		}
		if len(resp.Value) != n {
			return nil, integrity("the answer to GetRandomBytes has %d bytes, want %d", len(resp.Value), n)
		}
		return resp.Value, nil
	})
}

// keyCall is a method of the SDK's client: Encrypt, Decrypt, WrapKey or UnwrapKey, without their differences.
type keyCall func(context.Context, azkeys.KeyOperationParameters) (azkeys.KeyOperationResult, error)

func (k *key) encryptCall(ctx context.Context, p azkeys.KeyOperationParameters) (azkeys.KeyOperationResult, error) {
	resp, err := k.client.Encrypt(ctx, k.name, k.version, p, nil)
	return resp.KeyOperationResult, err
}

func (k *key) decryptCall(ctx context.Context, p azkeys.KeyOperationParameters) (azkeys.KeyOperationResult, error) {
	resp, err := k.client.Decrypt(ctx, k.name, k.version, p, nil)
	return resp.KeyOperationResult, err
}

func (k *key) wrapCall(ctx context.Context, p azkeys.KeyOperationParameters) (azkeys.KeyOperationResult, error) {
	resp, err := k.client.WrapKey(ctx, k.name, k.version, p, nil)
	return resp.KeyOperationResult, err
}

func (k *key) unwrapCall(ctx context.Context, p azkeys.KeyOperationParameters) (azkeys.KeyOperationResult, error) {
	resp, err := k.client.UnwrapKey(ctx, k.name, k.version, p, nil)
	return resp.KeyOperationResult, err
}

// operate makes a request and checks the answer: that it is the key's, and with validate.
func (k *key) operate(ctx context.Context, name string, do keyCall, p azkeys.KeyOperationParameters, validate func(azkeys.KeyOperationResult) error) (azkeys.KeyOperationResult, error) {
	return call(ctx, k.connection, k.operation(name), func(ctx context.Context) (azkeys.KeyOperationResult, error) {
		result, err := do(withValue(ctx, p.Value), p)
		if err == nil {
			err = k.check(result)
		}
		if err == nil {
			err = validate(result)
		}
		return result, err
	})
}

// failed turns what the service says of a ciphertext that it can't decrypt, which is that a parameter is wrong, into
// backend.ErrDecryption. All that can be wrong with the other parameters was refused before.
func failed(err error) error {
	var response *azcore.ResponseError
	if errors.As(err, &response) && response.StatusCode == http.StatusBadRequest {
		return backend.ErrDecryption
	}
	return err
}

var oaepAlgorithms = map[crypto.Hash]azkeys.EncryptionAlgorithm{
	crypto.SHA1:   azkeys.EncryptionAlgorithmRSAOAEP,
	crypto.SHA256: azkeys.EncryptionAlgorithmRSAOAEP256,
}

func (k *key) decryptOAEP(ctx context.Context, req backend.DecryptRequest) ([]byte, error) {
	if k.decrypts {
		return k.decryptRSA(ctx, "Decrypt", k.decryptCall, req.Hash, req.Ciphertext)
	}
	return k.decryptRSA(ctx, "UnwrapKey", k.unwrapCall, req.Hash, req.Ciphertext)
}

func (k *key) unwrapRSA(ctx context.Context, wrapped []byte) ([]byte, error) {
	if len(wrapped) != k.public.(*rsa.PublicKey).Size() {
		return nil, backend.ErrDecryption
	}
	if k.unwraps {
		return k.decryptRSA(ctx, "UnwrapKey", k.unwrapCall, crypto.SHA256, wrapped)
	}
	return k.decryptRSA(ctx, "Decrypt", k.decryptCall, crypto.SHA256, wrapped)
}

func (k *key) decryptRSA(ctx context.Context, name string, do keyCall, hash crypto.Hash, ciphertext []byte) ([]byte, error) {
	longest := k.public.(*rsa.PublicKey).Size() - 2*hash.Size() - 2 // RFC 8017, Section 7.1.1
	alg := oaepAlgorithms[hash]
	result, err := k.operate(ctx, name, do, azkeys.KeyOperationParameters{Algorithm: &alg, Value: ciphertext}, func(r azkeys.KeyOperationResult) error {
		if len(r.Result) > longest {
			return integrity("the answer to %s has %d bytes; %s has at most %d", name, len(r.Result), alg, longest)
		}
		return nil
	})
	if err != nil {
		return nil, failed(err)
	}
	return result.Result, nil
}

// wrapRSA needs the public key only, and so no request.
func (k *key) wrapRSA(_ context.Context, material []byte) ([]byte, error) {
	pub := k.public.(*rsa.PublicKey)
	if longest := pub.Size() - 2*sha256.Size - 2; len(material) < 1 || len(material) > longest {
		return nil, fmt.Errorf("azurekeyvault: wrap with key %q: got %d bytes; it takes 1 to %d: %w", k.id(k.kid), len(material), longest, backend.ErrInvalidParams)
	}
	wrapped, err := rsa.EncryptOAEP(sha256.New(), rand.Reader, pub, material, nil)
	if err != nil {
		return nil, fmt.Errorf("azurekeyvault: wrap with key %q: %w: %w", k.id(k.kid), backend.ErrUnavailable, err)
	}
	return wrapped, nil
}

// Sizes of AES-GCM in bytes, as the contract and the service have it.
const (
	nonceSize = 12
	tagSize   = 16
)

func (k *key) gcm() *azkeys.EncryptionAlgorithm {
	return to.Ptr(azkeys.EncryptionAlgorithm(fmt.Sprintf("A%dGCM", k.bits)))
}

// seal has the HSM draw the nonce.
func (k *key) seal(ctx context.Context, plaintext, additionalData []byte) ([]byte, error) {
	r, err := k.operate(ctx, "Encrypt", k.encryptCall, azkeys.KeyOperationParameters{
		Algorithm: k.gcm(), Value: plaintext, AdditionalAuthenticatedData: additionalData,
	}, func(r azkeys.KeyOperationResult) error {
		if len(r.IV) != nonceSize || len(r.AuthenticationTag) != tagSize || len(r.Result) != len(plaintext) {
			return integrity("the answer to Encrypt has a nonce of %d bytes, a tag of %d and a ciphertext of %d, want %d, %d and %d",
				len(r.IV), len(r.AuthenticationTag), len(r.Result), nonceSize, tagSize, len(plaintext))
		}
		if len(r.AdditionalAuthenticatedData) > 0 && !bytes.Equal(r.AdditionalAuthenticatedData, additionalData) {
			return integrity("the answer to Encrypt has other additional data")
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	out := make([]byte, 0, nonceSize+len(r.Result)+tagSize)
	return append(append(append(out, r.IV...), r.Result...), r.AuthenticationTag...), nil
}

func (k *key) open(ctx context.Context, ciphertext, additionalData []byte) ([]byte, error) {
	n := len(ciphertext) - nonceSize - tagSize
	if n < 0 {
		return nil, backend.ErrDecryption
	}
	r, err := k.operate(ctx, "Decrypt", k.decryptCall, azkeys.KeyOperationParameters{
		Algorithm: k.gcm(), IV: ciphertext[:nonceSize], Value: ciphertext[nonceSize : nonceSize+n], AuthenticationTag: ciphertext[nonceSize+n:],
		AdditionalAuthenticatedData: additionalData,
	}, func(r azkeys.KeyOperationResult) error {
		if len(r.Result) != n {
			return integrity("the answer to Decrypt has %d bytes, want %d", len(r.Result), n)
		}
		return nil
	})
	if err != nil {
		return nil, failed(err)
	}
	return r.Result, nil
}

// Bounds of what wrapAES takes, in bytes.
const (
	minWrap = 16   // as package software: shorter ones are no keys
	maxWrap = 8192 // as package software
)

var keyWrapPad = azkeys.EncryptionAlgorithmCKMAESKEYWRAPPAD

// wrapAES wraps as RFC 5649 says; the length of the answer shows whether the service did, and not PKCS #5 padding.
func (k *key) wrapAES(ctx context.Context, material []byte) ([]byte, error) {
	if len(material) < minWrap || len(material) > maxWrap {
		return nil, fmt.Errorf("azurekeyvault: wrap with key %q: got %d bytes; it takes %d to %d: %w", k.id(k.kid), len(material), minWrap, maxWrap, backend.ErrInvalidParams)
	}
	want := (len(material)+7)/8*8 + 8
	r, err := k.operate(ctx, "WrapKey", k.wrapCall, azkeys.KeyOperationParameters{Algorithm: &keyWrapPad, Value: material}, func(r azkeys.KeyOperationResult) error {
		if len(r.Result) != want {
			return integrity("the answer to WrapKey has %d bytes, want %d (RFC 5649)", len(r.Result), want)
		}
		return nil
	})
	return r.Result, err
}

func (k *key) unwrapAES(ctx context.Context, wrapped []byte) ([]byte, error) {
	if len(wrapped) < 16 || len(wrapped)%8 != 0 || len(wrapped) > maxWrap+8 {
		return nil, backend.ErrDecryption
	}
	r, err := k.operate(ctx, "UnwrapKey", k.unwrapCall, azkeys.KeyOperationParameters{Algorithm: &keyWrapPad, Value: wrapped}, func(r azkeys.KeyOperationResult) error {
		// RFC 5649, Section 3: at most 7 bytes of padding, after the 8 of the IV.
		if n := len(wrapped) - 8 - len(r.Result); n < 0 || n > 7 {
			return integrity("the answer to UnwrapKey has %d bytes of a wrapped key of %d", len(r.Result), len(wrapped))
		}
		return nil
	})
	if err != nil {
		return nil, failed(err)
	}
	return r.Result, nil
}
