package managedkey

import (
	"context"

	"github.com/managedkeys/managedkeys/backend"
)

// Seal is as backend.AEAD has it. It needs the usage encrypt.
func (k *Key) Seal(ctx context.Context, plaintext, additionalData []byte) ([]byte, error) {
	if by := k.observer(); by != nil {
		return k.observe(ctx, by, k.operation("seal", "", plaintext, additionalData), func(ctx context.Context, k *Key) ([]byte, error) {
			return k.Seal(ctx, plaintext, additionalData)
		})
	}
	for {
		aead, err := need[backend.AEAD](k, "seal", backend.UsageEncrypt)
		if err != nil {
			return nil, err
		}
		ciphertext, err := aead.Seal(ctx, plaintext, additionalData)
		if !k.moved(aead, err) {
			return k.result("seal", ciphertext, err)
		}
	}
}

// Open is as backend.AEAD has it: it decrypts what Seal returned. It needs the usage decrypt. Every failed decryption
// gives an error of the same text that wraps backend.ErrDecryption.
func (k *Key) Open(ctx context.Context, ciphertext, additionalData []byte) ([]byte, error) {
	if by := k.observer(); by != nil {
		return k.observe(ctx, by, k.operation("unseal", "", ciphertext, additionalData), func(ctx context.Context, k *Key) ([]byte, error) {
			return k.Open(ctx, ciphertext, additionalData)
		})
	}
	for {
		aead, err := need[backend.AEAD](k, "decrypt", backend.UsageDecrypt)
		if err != nil {
			return nil, err
		}
		plaintext, err := aead.Open(ctx, ciphertext, additionalData)
		if !k.moved(aead, err) {
			return k.decrypted("decrypt", plaintext, err)
		}
	}
}

// ComputeMAC is as backend.MAC has it. It needs the usage mac, of a version that may make something new.
func (k *Key) ComputeMAC(ctx context.Context, alg backend.MACAlgorithm, message []byte) ([]byte, error) {
	if by := k.observer(); by != nil {
		return k.observe(ctx, by, k.operation("mac", string(alg), message), func(ctx context.Context, k *Key) ([]byte, error) {
			return k.ComputeMAC(ctx, alg, message)
		})
	}
	for {
		key, err := need[backend.MAC](k, "mac", backend.UsageMAC|usageNew)
		if err != nil {
			return nil, err
		}
		mac, err := key.ComputeMAC(ctx, alg, message)
		if !k.moved(key, err) {
			return k.result("mac", mac, err)
		}
	}
}

// VerifyMAC is as backend.MAC has it. It needs the usage mac.
func (k *Key) VerifyMAC(ctx context.Context, alg backend.MACAlgorithm, message, mac []byte) error {
	if by := k.observer(); by != nil {
		return k.observeErr(ctx, by, k.operation("verify_mac", string(alg), message, mac), func(ctx context.Context, k *Key) error {
			return k.VerifyMAC(ctx, alg, message, mac)
		})
	}
	key, err := need[backend.MAC](k, "verify mac", backend.UsageMAC)
	if err != nil {
		return err
	}
	err = key.VerifyMAC(ctx, alg, message, mac)
	if k.moved(key, err) {
		return k.VerifyMAC(ctx, alg, message, mac)
	}
	if err != nil {
		return k.fail("verify mac", err)
	}
	return nil
}

// GenerateRandom is as backend.Random has it: it returns n random bytes of the key manager. It needs the usage
// generate_random.
func (k *Key) GenerateRandom(ctx context.Context, n int) ([]byte, error) {
	if by := k.observer(); by != nil {
		return k.observe(ctx, by, k.operation("generate_random", describeBytes(n)), func(ctx context.Context, k *Key) ([]byte, error) {
			return k.GenerateRandom(ctx, n)
		})
	}
	for {
		key, err := need[backend.Random](k, "generate random", backend.UsageGenerateRandom)
		if err != nil {
			return nil, err
		}
		random, err := key.GenerateRandom(ctx, n)
		if !k.moved(key, err) {
			return k.result("generate random", random, err)
		}
	}
}

// WrapKey is as backend.Wrapper has it. It needs the usage wrap.
func (k *Key) WrapKey(ctx context.Context, material []byte) ([]byte, error) {
	if by := k.observer(); by != nil {
		return k.observe(ctx, by, k.operation("wrap", "", material), func(ctx context.Context, k *Key) ([]byte, error) {
			return k.WrapKey(ctx, material)
		})
	}
	for {
		key, err := need[backend.Wrapper](k, "wrap", backend.UsageWrap)
		if err != nil {
			return nil, err
		}
		wrapped, err := key.WrapKey(ctx, material)
		if !k.moved(key, err) {
			return k.result("wrap", wrapped, err)
		}
	}
}

// UnwrapKey is as backend.Wrapper has it. It needs the usage unwrap. Every failure to unwrap gives an error of the same
// text that wraps backend.ErrDecryption.
func (k *Key) UnwrapKey(ctx context.Context, wrapped []byte) ([]byte, error) {
	if by := k.observer(); by != nil {
		return k.observe(ctx, by, k.operation("unwrap", "", wrapped), func(ctx context.Context, k *Key) ([]byte, error) {
			return k.UnwrapKey(ctx, wrapped)
		})
	}
	for {
		key, err := need[backend.Wrapper](k, "unwrap", backend.UsageUnwrap)
		if err != nil {
			return nil, err
		}
		material, err := key.UnwrapKey(ctx, wrapped)
		if !k.moved(key, err) {
			return k.decrypted("unwrap", material, err)
		}
	}
}

// Attest is as backend.Attester has it. It needs no usage, but a handle that was not stopped.
func (k *Key) Attest(ctx context.Context) (backend.Attestation, error) {
	if by := k.observer(); by != nil {
		var out backend.Attestation
		err := k.observeErr(ctx, by, k.operation("attest", ""), func(ctx context.Context, k *Key) (err error) {
			out, err = k.Attest(ctx)
			return err
		})
		if err != nil {
			return backend.Attestation{}, err
		}
		return out, nil
	}
	key, err := need[backend.Attester](k, "attest", 0)
	if err != nil {
		return backend.Attestation{}, err
	}
	attestation, err := key.Attest(ctx)
	if err != nil {
		return backend.Attestation{}, k.fail("attest", err)
	}
	return attestation, nil
}
