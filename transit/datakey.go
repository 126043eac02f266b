package transit

import (
	"context"
)

// DataKeyRequest asks for a new key to encrypt data with, outside of the engine.
type DataKeyRequest struct {
	Bits                           int    // 128, 256 or 512; 0 is 256
	AssociatedData, Context, Nonce []byte // as in EncryptRequest
	KeyVersion                     int    // as in EncryptRequest
	PaddingScheme                  string // as in EncryptRequest
}

// DataKey is a new key, and its ciphertext by which [Engine.Decrypt] gives it back.
type DataKey struct {
	Plaintext  []byte
	Ciphertext string
}

// NewDataKey returns a data key of random bytes from this process. For a key that comes wrapped only, drop the Plaintext. Errors
// are those of Encrypt.
func (e *Engine) NewDataKey(ctx context.Context, name string, r DataKeyRequest) (DataKey, error) {
	if err := r.check(); err != nil {
		return DataKey{}, err
	}
	encryption := r.encryption()
	ciphertext, err := e.Encrypt(ctx, name, encryption)
	if err != nil {
		return DataKey{}, err
	}
	return DataKey{encryption.Plaintext, ciphertext}, nil
}

func (r *DataKeyRequest) check() error {
	if r.Bits == 0 {
		r.Bits = 256
	}
	if r.Bits != 128 && r.Bits != 256 && r.Bits != 512 {
		return invalid("invalid bit length: %d; it takes 128, 256 and 512", r.Bits)
	}
	return nil
}

// encryption returns the request that encrypts a new data key.
func (r *DataKeyRequest) encryption() EncryptRequest { return r.with(randomBytes(r.Bits / 8)) }

// with returns the request that encrypts a data key.
func (r *DataKeyRequest) with(key []byte) EncryptRequest {
	return EncryptRequest{
		Plaintext: key, AssociatedData: r.AssociatedData, Context: r.Context, Nonce: r.Nonce, KeyVersion: r.KeyVersion,
		PaddingScheme: r.PaddingScheme,
	}
}

// MaxDataKeys is how many data keys one call of NewDataKeys makes.
const MaxDataKeys = 1000

// NewDataKeys returns count data keys, 1 to MaxDataKeys and no more than Options.MaxBatch, each as NewDataKey returns it. All are
// encrypted with the same version of the key; some fail only if all do, and the error is that of the first.
func (e *Engine) NewDataKeys(ctx context.Context, name string, r DataKeyRequest, count int) ([]DataKey, error) {
	if err := r.check(); err != nil {
		return nil, err
	}
	if most := min(MaxDataKeys, e.opts.MaxBatch); count < 1 || count > most {
		return nil, invalid("count of %d data keys; it takes 1 to %d", count, most)
	}
	requests := make([]EncryptRequest, count)
	for i := range requests {
		requests[i] = r.encryption()
	}
	return e.encryptKeys(ctx, name, requests)
}

// encryptKeys returns the data keys that requests encrypt.
func (e *Engine) encryptKeys(ctx context.Context, name string, requests []EncryptRequest) ([]DataKey, error) {
	results, err := e.EncryptBatch(ctx, name, requests)
	if err != nil {
		return nil, err
	}
	keys := make([]DataKey, len(requests))
	for i, result := range results {
		if result.Err != nil {
			return nil, result.Err
		}
		keys[i] = DataKey{requests[i].Plaintext, result.Value}
	}
	return keys, nil
}
