package gcpckms

import (
	"context"
	"crypto"
	"crypto/mlkem"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"fmt"
	"slices"

	"cloud.google.com/go/kms/apiv1/kmspb"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/managedkeys/managedkeys/backend"
)

// undecryptable returns the error of a call that decrypts. The service has one code for everything that is wrong with a
// ciphertext.
func (v *version) undecryptable(err error) error {
	if e := read(err); e != nil && e.code == codes.InvalidArgument && !e.checksum() {
		return backend.ErrDecryption
	}
	return v.failed(err)
}

func (v *version) decryptOAEP(ctx context.Context, req backend.DecryptRequest) ([]byte, error) {
	in := &kmspb.AsymmetricDecryptRequest{Name: v.name, Ciphertext: req.Ciphertext, CiphertextCrc32C: sum(req.Ciphertext)}
	return call(ctx, v.conn, v.call("AsymmetricDecrypt"), func(ctx context.Context) ([]byte, error) {
		resp, err := v.conn.client.AsymmetricDecrypt(ctx, in, once)
		if err != nil {
			return nil, v.undecryptable(err)
		}
		a := v.answer().carries("the plaintext", resp.GetPlaintext(), resp.GetPlaintextCrc32C()).
			received("the ciphertext", resp.GetVerifiedCiphertextCrc32C())
		return resp.GetPlaintext(), a.err
	})
}

// decapsulate opens a shared key. The service answers for every ciphertext of the right length (FIPS 203, Section 6.3).
func (v *version) decapsulate(ctx context.Context, ciphertext []byte) ([]byte, error) {
	in := &kmspb.DecapsulateRequest{Name: v.name, Ciphertext: ciphertext, CiphertextCrc32C: sum(ciphertext)}
	return call(ctx, v.conn, v.call("Decapsulate"), func(ctx context.Context) ([]byte, error) {
		resp, err := v.conn.client.Decapsulate(ctx, in, once)
		if err != nil {
			return nil, v.failed(err)
		}
		var got *wrapperspb.Int64Value
		if resp.SharedSecretCrc32C != nil { // which is not wrapped as the other checksums are
			got = wrapperspb.Int64(resp.GetSharedSecretCrc32C())
		}
		a := v.answer().from(resp.GetName()).carries("the shared key", resp.GetSharedSecret(), got).
			received("the ciphertext", resp.GetVerifiedCiphertextCrc32C()).
			length("the shared key", resp.GetSharedSecret(), mlkem.SharedKeySize)
		return resp.GetSharedSecret(), a.err
	})
}

// wrap encrypts key material with the public key, in this process.
func (v *version) wrap(_ context.Context, material []byte) ([]byte, error) {
	pub := v.public.(*rsa.PublicKey)
	// RFC 8017, Section 7.1.1: mLen <= k - 2hLen - 2.
	if longest := pub.Size() - 2*sha256.Size - 2; len(material) < 1 || len(material) > longest {
		return nil, fmt.Errorf("gcpckms: wrap with key %q: got %d bytes; it takes 1 to %d: %w", v.name, len(material), longest, backend.ErrInvalidParams)
	}
	wrapped, err := rsa.EncryptOAEP(sha256.New(), rand.Reader, pub, material, nil)
	if err != nil {
		return nil, fmt.Errorf("gcpckms: wrap with key %q: %w: %w", v.name, backend.ErrUnavailable, err)
	}
	return wrapped, nil
}

func (v *version) unwrap(ctx context.Context, wrapped []byte) ([]byte, error) {
	if len(wrapped) != v.public.(*rsa.PublicKey).Size() {
		return nil, backend.ErrDecryption
	}
	return v.decryptOAEP(ctx, backend.DecryptRequest{Ciphertext: wrapped, Hash: crypto.SHA256})
}

func (v *version) mac(ctx context.Context, _ backend.MACAlgorithm, message []byte) ([]byte, error) {
	in := &kmspb.MacSignRequest{Name: v.name, Data: message, DataCrc32C: sum(message)}
	return call(ctx, v.conn, v.call("MacSign"), func(ctx context.Context) ([]byte, error) {
		resp, err := v.conn.client.MacSign(ctx, in, once)
		if err != nil {
			return nil, v.failed(err)
		}
		a := v.answer().from(resp.GetName()).carries("the MAC", resp.GetMac(), resp.GetMacCrc32C()).
			received("the data", resp.GetVerifiedDataCrc32C()).length("the MAC", resp.GetMac(), v.alg.hash.Size())
		if a.err != nil {
			return nil, a.err
		}
		return resp.GetMac(), nil
	})
}

// random returns random bytes of the location's HSMs.
func (v *version) random(ctx context.Context, n int) ([]byte, error) {
	in := &kmspb.GenerateRandomBytesRequest{
		Location: v.location, LengthBytes: int32(max(n, minRandom)), ProtectionLevel: kmspb.ProtectionLevel_HSM,
	}
	return call(ctx, v.conn, v.call("GenerateRandomBytes"), func(ctx context.Context) ([]byte, error) {
		resp, err := v.conn.client.GenerateRandomBytes(ctx, in, once)
		if err != nil {
			return nil, err
		}
		a := v.answer().carries("the random bytes", resp.GetData(), resp.GetDataCrc32C()).
			length("the random data", resp.GetData(), int(in.LengthBytes))
		if a.err != nil {
			return nil, a.err
		}
		return resp.GetData()[:n:n], nil
	})
}

// checkAdditionalData refuses what the service would refuse: the length of a plaintext alone was checked already.
func (v *version) checkAdditionalData(plaintext, additionalData []byte) error {
	if limit, n := maxData, len(additionalData); !v.hardware() && n > limit {
		return fmt.Errorf("gcpckms: key %q: got %d bytes of additional data; it takes at most %d: %w", v.name, n, limit, backend.ErrInvalidParams)
	}
	if n := len(plaintext) + len(additionalData); v.hardware() && n > maxHSM {
		return fmt.Errorf("gcpckms: key %q: got %d bytes of plaintext and additional data; it takes at most %d together: %w", v.name, n, maxHSM, backend.ErrInvalidParams)
	}
	return nil
}

// seal encrypts. The ciphertext of AES-GCM is nonce ‖ ciphertext ‖ tag, with a nonce that the service has drawn; that of
// GOOGLE_SYMMETRIC_ENCRYPTION has the service's own form, which gcloud and the other libraries take too.
func (v *version) seal(ctx context.Context, plaintext, additionalData []byte) ([]byte, error) {
	if err := v.checkAdditionalData(plaintext, additionalData); err != nil {
		return nil, err
	}
	if v.alg.kind == kindGCM {
		return v.sealRaw(ctx, plaintext, additionalData)
	}
	in := &kmspb.EncryptRequest{
		Name: v.name, Plaintext: plaintext, PlaintextCrc32C: sum(plaintext),
		AdditionalAuthenticatedData: additionalData, AdditionalAuthenticatedDataCrc32C: sum(additionalData),
	}
	return call(ctx, v.conn, v.call("Encrypt"), func(ctx context.Context) ([]byte, error) {
		resp, err := v.conn.client.Encrypt(ctx, in, once)
		if err != nil {
			return nil, v.failed(err)
		}
		a := v.answer().from(resp.GetName()).carries("the ciphertext", resp.GetCiphertext(), resp.GetCiphertextCrc32C()).
			received("the plaintext", resp.GetVerifiedPlaintextCrc32C()).
			received("the additional data", resp.GetVerifiedAdditionalAuthenticatedDataCrc32C())
		if len(resp.GetCiphertext()) < len(plaintext) {
			a.failf("a plaintext of %d bytes gave a ciphertext of %d", len(plaintext), len(resp.GetCiphertext()))
		}
		return resp.GetCiphertext(), a.err
	})
}

func (v *version) sealRaw(ctx context.Context, plaintext, additionalData []byte) ([]byte, error) {
	in := &kmspb.RawEncryptRequest{
		Name: v.name, Plaintext: plaintext, PlaintextCrc32C: sum(plaintext),
		AdditionalAuthenticatedData: additionalData, AdditionalAuthenticatedDataCrc32C: sum(additionalData),
	}
	return call(ctx, v.conn, v.call("RawEncrypt"), func(ctx context.Context) ([]byte, error) {
		resp, err := v.conn.client.RawEncrypt(ctx, in, once)
		if err != nil {
			return nil, v.failed(err)
		}
		iv, ciphertext := resp.GetInitializationVector(), resp.GetCiphertext()
		a := v.answer().from(resp.GetName()).carries("the ciphertext", ciphertext, resp.GetCiphertextCrc32C()).
			carries("the nonce", iv, resp.GetInitializationVectorCrc32C()).
			received("the plaintext", resp.GetVerifiedPlaintextCrc32C()).
			received("the additional data", resp.GetVerifiedAdditionalAuthenticatedDataCrc32C()).
			length("the nonce", iv, ivSize).length("the ciphertext", ciphertext, len(plaintext)+gcmTagSize)
		if resp.GetTagLength() != gcmTagSize {
			a.failf("the tag has %d bytes, want %d", resp.GetTagLength(), gcmTagSize)
		}
		if a.err != nil {
			return nil, a.err
		}
		return slices.Concat(iv, ciphertext), nil
	})
}

// open decrypts what seal returned.
func (v *version) open(ctx context.Context, ciphertext, additionalData []byte) ([]byte, error) {
	if v.alg.kind == kindGCM {
		return v.openRaw(ctx, ciphertext, additionalData)
	}
	// The service finds the version by the ciphertext, and takes no name of one.
	in := &kmspb.DecryptRequest{
		Name: parent(v.name), Ciphertext: ciphertext, CiphertextCrc32C: sum(ciphertext),
		AdditionalAuthenticatedData: additionalData, AdditionalAuthenticatedDataCrc32C: sum(additionalData),
	}
	return call(ctx, v.conn, v.call("Decrypt"), func(ctx context.Context) ([]byte, error) {
		resp, err := v.conn.client.Decrypt(ctx, in, once)
		if err != nil {
			return nil, v.undecryptable(err)
		}
		a := v.answer().carries("the plaintext", resp.GetPlaintext(), resp.GetPlaintextCrc32C())
		return resp.GetPlaintext(), a.err
	})
}

func (v *version) openRaw(ctx context.Context, ciphertext, additionalData []byte) ([]byte, error) {
	if len(ciphertext) < ivSize+gcmTagSize {
		return nil, backend.ErrDecryption
	}
	iv, rest := ciphertext[:ivSize], ciphertext[ivSize:]
	in := &kmspb.RawDecryptRequest{
		Name: v.name, Ciphertext: rest, CiphertextCrc32C: sum(rest),
		InitializationVector: iv, InitializationVectorCrc32C: sum(iv), TagLength: gcmTagSize,
		AdditionalAuthenticatedData: additionalData, AdditionalAuthenticatedDataCrc32C: sum(additionalData),
	}
	return call(ctx, v.conn, v.call("RawDecrypt"), func(ctx context.Context) ([]byte, error) {
		resp, err := v.conn.client.RawDecrypt(ctx, in, once)
		if err != nil {
			return nil, v.undecryptable(err)
		}
		a := v.answer().carries("the plaintext", resp.GetPlaintext(), resp.GetPlaintextCrc32C()).
			received("the ciphertext", resp.GetVerifiedCiphertextCrc32C()).
			received("the nonce", resp.GetVerifiedInitializationVectorCrc32C()).
			received("the additional data", resp.GetVerifiedAdditionalAuthenticatedDataCrc32C()).
			length("the plaintext", resp.GetPlaintext(), len(rest)-gcmTagSize)
		return resp.GetPlaintext(), a.err
	})
}
