package transit

import (
	"context"
	"encoding/binary"

	"github.com/managedkeys/managedkeys/backend"
)

// DerivedKeysRequest asks for data keys that can be made again.
type DerivedKeysRequest struct {
	DataKeyRequest // AssociatedData, Context, Nonce and PaddingScheme are for the ciphertexts alone

	Salt string // what the keys are for; not empty
	Info string // more of that

	From, To int // the indices of the keys: From, From+1, … To-1, from 0
}

// derivedLabel makes what data keys are derived from unlike everything that HMAC computes for somebody by chance. Who may compute
// HMACs with the key can compute the data keys as well.
const derivedLabel = "managedkeys transit derived data key v1"

// DeriveDataKeys returns r.To - r.From data keys, at most MaxDataKeys and no more than Options.MaxBatch: the same plaintexts each
// time for the same key version, Salt, Info, Bits and index. Each is the output of the KDF in Counter Mode with HMAC-SHA-256 (SP
// 800-108 Rev. 1, Section 4.1), whose key is the one that [Engine.HMAC] uses, so that it does not leave the key manager; the label
// and the lengths of Salt and Info, their bytes and the index are bound to it. It is not known how the Enterprise edition of Vault
// derives them, so its keys are others. The ciphertexts are those of Encrypt, with the same version of the key.
//
// It needs the usages mac and encrypt. The error is as for [Engine.HMAC] and [Engine.Encrypt].
func (e *Engine) DeriveDataKeys(ctx context.Context, name string, r DerivedKeysRequest) ([]DataKey, error) {
	if err := r.check(e); err != nil {
		return nil, err
	}
	k, err := e.usable(ctx, encryptionKey, name)
	if err != nil {
		return nil, err
	}
	k, v, err := e.choose(ctx, k, "encryption", r.KeyVersion)
	if err != nil {
		return nil, err
	}
	h, alg, err := e.maccer(ctx, k, v, &MACRequest{HashAlgorithm: "sha2-256"})
	if err != nil {
		return nil, err
	}
	requests := make([]EncryptRequest, 0, r.To-r.From)
	for index := r.From; index < r.To; index++ {
		derived, err := r.derive(ctx, h, alg, index)
		if err != nil {
			return nil, failed("derive data keys", k, v, err)
		}
		encryption := r.with(derived)
		encryption.KeyVersion = v.number
		requests = append(requests, encryption)
	}
	return e.encryptKeys(ctx, name, requests)
}

func (r *DerivedKeysRequest) check(e *Engine) error {
	if err := r.DataKeyRequest.check(); err != nil {
		return err
	}
	if r.Salt == "" {
		return invalid("derived keys: a salt is required")
	}
	// Below zero there is no index, and the difference of two that aren't does not overflow.
	if most := min(MaxDataKeys, e.opts.MaxBatch); r.From < 0 || r.To <= r.From || r.To-r.From > most {
		return invalid("derived keys from %d to %d; it takes indices from 0 of 1 to %d keys", r.From, r.To, most)
	}
	return nil
}

// derive returns the key of that index.
func (r *DerivedKeysRequest) derive(ctx context.Context, h handle, alg backend.MACAlgorithm, index int) ([]byte, error) {
	text := func(b []byte, s string) []byte { return append(binary.BigEndian.AppendUint64(b, uint64(len(s))), s...) }
	// [i]₂ ‖ Label ‖ 0x00 ‖ Context ‖ [L]₂
	input := append(append(make([]byte, 4, 128), derivedLabel...), 0)
	input = binary.BigEndian.AppendUint64(text(text(input, r.Salt), r.Info), uint64(index))
	input = binary.BigEndian.AppendUint32(input, uint32(r.Bits))
	var out []byte
	for i := uint32(1); len(out) < r.Bits/8; i++ {
		binary.BigEndian.PutUint32(input, i)
		block, err := h.ComputeMAC(ctx, alg, input)
		if err != nil {
			return nil, err
		}
		out = append(out, block...)
	}
	return out[:r.Bits/8], nil
}
