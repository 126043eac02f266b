package httpapi

import (
	"encoding/base64"
	"errors"

	"github.com/managedkeys/managedkeys/backend"
	"github.com/managedkeys/managedkeys/transit"
)

var (
	referenceField  = member{"reference", text, referenceSlot}
	versionField    = member{"key_version", number, versionSlot}
	contextField    = member{"context", data, contextSlot}
	nonceField      = member{"nonce", data, nonceSlot}
	associatedField = member{"associated_data", data, associatedSlot}
	ciphertextField = member{"ciphertext", text, ciphertextSlot}
	paddingField    = member{"padding_scheme", text, paddingSlot}

	// batched are members of every operation that has batches.
	batched = []member{{"batch_input", list, batchSlot}, {"partial_failure_response_code", number, statusSlot}, {"name", named, none}}

	encryptItem = takes(member{"plaintext", data, inputSlot}, associatedField, contextField, nonceField, versionField, referenceField,
		member{"iv", unset, none}, paddingField)
	encryptAll = encryptItem.with(batched...).with(member{"type", text, typeSlot}, member{"convergent_encryption", flag, convergentSlot})

	decryptItem = takes(ciphertextField, associatedField, contextField, nonceField, referenceField, paddingField)
	decryptAll  = decryptItem.with(batched...)

	rewrapItem = takes(ciphertextField, associatedField, contextField, nonceField, versionField, referenceField,
		member{"decrypt_padding_scheme", text, paddingSlot}, member{"encrypt_padding_scheme", text, newPaddingSlot})
	rewrapAll = rewrapItem.with(batched...)
)

func encrypt(c *call) error {
	q, err := c.request(encryptAll, encryptItem)
	if err == nil {
		err = q.contexts()
	}
	if err != nil {
		return err
	}
	work := func() ([]transit.Result[string], error) {
		return carry(q.all(), func(it *item) (r transit.EncryptRequest, err error) {
			if !it.has(inputSlot) {
				return r, refuse("missing plaintext to encrypt")
			}
			return transit.EncryptRequest{Plaintext: it.input, AssociatedData: it.associated, Context: it.context, Nonce: it.nonce,
				Reference: it.reference, KeyVersion: it.version, PaddingScheme: it.padding}, nil
		}, func(requests []transit.EncryptRequest) ([]transit.Result[string], error) {
			return c.engine.EncryptBatch(c.r.Context(), c.args[0], requests)
		})
	}
	results, err := work()
	if errors.Is(err, backend.ErrKeyNotFound) {
		if err = c.upsert(q, err); err == nil {
			results, err = work()
		}
	}
	if err != nil {
		return err
	}
	return finish(c, q, results, true, showCiphertext)
}

func showCiphertext(b []byte, _ int, r *transit.Result[string]) []byte {
	if r.Err != nil {
		return b
	}
	b = appendString(append(b, `"ciphertext":`...), r.Value)
	return appendVersion(append(b, ','), r.KeyVersion)
}

// upsert makes the key that something is to be encrypted with, as missing says that it isn't there, if the mount allows that.
func (c *call) upsert(q *request, missing error) error {
	s, _, err := c.settings(c.r.Context())
	if err != nil {
		return err
	}
	if s.DisableUpsert || c.allowSoftware() != nil {
		return missing
	}
	o := transit.KeyOptions{Type: q.keyType, Convergent: q.convergent}
	for i := range q.all() {
		o.Derived = o.Derived || len(q.all()[i].context) > 0
	}
	if o.Type == "" {
		o.Type = transit.TypeAES256
	}
	if !derives(o.Type) || o.Type == transit.TypeEd25519 {
		return refuse("key type %.40q not supported for this operation: encrypting makes keys of %s, %s, %s and %s", o.Type,
			transit.TypeAES128, transit.TypeAES256, transit.TypeChaCha20Poly1305, transit.TypeXChaCha20Poly1305)
	}
	err = c.engine.CreateKey(c.r.Context(), c.args[0], o)
	if errors.Is(err, backend.ErrKeyExists) { // somebody else was faster
		return nil
	}
	return err
}

func decrypt(c *call) error {
	q, err := c.request(decryptAll, decryptItem)
	if err == nil {
		err = q.contexts()
	}
	if err != nil {
		return err
	}
	results, err := carry(q.all(), func(it *item) (r transit.DecryptRequest, err error) {
		if it.value == "" {
			return r, refuse("missing ciphertext to decrypt")
		}
		return transit.DecryptRequest{Ciphertext: it.value, AssociatedData: it.associated, Context: it.context, Nonce: it.nonce,
			Reference: it.reference, PaddingScheme: it.padding}, nil
	}, func(requests []transit.DecryptRequest) ([]transit.Result[[]byte], error) {
		return c.engine.DecryptBatch(c.r.Context(), c.args[0], requests)
	})
	if err != nil {
		return err
	}
	return finish(c, q, results, true, func(b []byte, _ int, r *transit.Result[[]byte]) []byte {
		b = append(b, `"plaintext":"`...)
		b = base64.StdEncoding.AppendEncode(b, r.Value)
		return append(b, '"', ',')
	})
}

func rewrap(c *call) error {
	q, err := c.request(rewrapAll, rewrapItem)
	if err == nil {
		err = q.contexts()
	}
	if err != nil {
		return err
	}
	results, err := carry(q.all(), func(it *item) (r transit.RewrapRequest, err error) {
		if it.value == "" {
			return r, refuse("missing ciphertext to decrypt")
		}
		return transit.RewrapRequest{Ciphertext: it.value, AssociatedData: it.associated, Context: it.context, Nonce: it.nonce,
			Reference: it.reference, KeyVersion: it.version, DecryptPaddingScheme: it.padding, EncryptPaddingScheme: it.newPadding}, nil
	}, func(requests []transit.RewrapRequest) ([]transit.Result[string], error) {
		return c.engine.RewrapBatch(c.r.Context(), c.args[0], requests)
	})
	if err != nil {
		return err
	}
	return finish(c, q, results, true, showCiphertext)
}
