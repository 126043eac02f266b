package httpapi

import (
	"crypto/ed25519"
	"encoding/base64"
	"strconv"
	"strings"

	"github.com/managedkeys/managedkeys/transit"
)

var (
	inputField = member{"input", data, inputSlot}

	signItem = takes(inputField, contextField, referenceField)
	signAll  = signItem.with(batched...).with(versionField, member{"hash_algorithm", text, hashSlot}, member{"algorithm", text, legacySlot},
		member{"signature_algorithm", text, schemeSlot}, member{"salt_length", mixed, saltSlot}, member{"marshaling_algorithm", text, marshalingSlot},
		member{"signature_context", data, signatureContextSlot}, member{"prehashed", flag, prehashedSlot})

	proofs     = []member{{"signature", text, signatureSlot}, {"hmac", text, hmacSlot}, {"cmac", text, cmacSlot}}
	verifyItem = signItem.with(proofs...)
	verifyAll  = signAll.with(proofs...).with(member{"mac_length", number, lengthSlot})

	hmacItem = takes(inputField, referenceField)
	hmacAll  = hmacItem.with(batched...).with(versionField, member{"hash_algorithm", text, hashSlot}, member{"algorithm", text, legacySlot})

	cmacItem = hmacItem
	cmacAll  = cmacItem.with(batched...).with(versionField, member{"mac_length", number, lengthSlot})
)

// hashName returns the hash that is asked for: by the path, the field, or the field's former name, the first that says something.
func (c *call) hashName(q *request) string {
	for _, name := range []string{c.args[1], q.hash, q.legacy} {
		if name != "" {
			return name
		}
	}
	return ""
}

// inputOf returns an item's input. A request without a batch may leave it out.
func (q *request) inputOf(it *item) ([]byte, error) {
	if q.items != nil && !it.has(inputSlot) {
		return nil, refuse("missing input")
	}
	return it.input, nil
}

// signing returns what an item asks of the version of a key. What others ignore is left out, and notes says so.
func (c *call) signing(q *request, it *item, number int, notes map[string]bool) (r transit.SignRequest, err error) {
	r = transit.SignRequest{
		HashAlgorithm: c.hashName(q), SignatureAlgorithm: q.scheme, SaltLength: q.salt, Prehashed: q.prehashed, Marshaling: q.marshaling,
		SignatureContext: q.signatureContext, Context: it.context, Reference: it.reference, KeyVersion: q.version,
	}
	if r.Input, err = q.inputOf(it); err != nil {
		return r, err
	}
	if r.HashAlgorithm == "" && r.SignatureAlgorithm == "" && r.SaltLength == "" {
		return r, nil
	}
	kind, err := c.engine.Kind(c.r.Context(), c.args[0], number)
	if err != nil {
		return r, nil // the operation says it in its own words
	}
	if !strings.HasPrefix(kind, "rsa-") && (r.SignatureAlgorithm != "" || r.SaltLength != "") {
		r.SignatureAlgorithm, r.SaltLength = "", ""
		notes["signature_algorithm and salt_length are for RSA keys; they were ignored for a key of type "+kind] = true
	}
	message := kind == transit.TypeEd25519 || strings.HasPrefix(kind, "ml-dsa-")
	if message && !r.Prehashed && known(r.HashAlgorithm) {
		r.HashAlgorithm = ""
		notes["hash_algorithm was ignored: a key of type "+kind+" signs the input itself"] = true
	}
	return r, nil
}

// known reports whether there is a hash of that name.
func known(hash string) bool {
	kind, bits, _ := strings.Cut(hash, "-")
	return hash == "sha1" || (kind == "sha2" || kind == "sha3") && (bits == "224" || bits == "256" || bits == "384" || bits == "512")
}

func warnings(notes map[string]bool) (all []string) {
	for note := range notes {
		all = append(all, note)
	}
	return all
}

func sign(c *call) error {
	q, err := c.request(signAll, signItem)
	if err == nil {
		err = q.contexts()
	}
	if err != nil {
		return err
	}
	notes := make(map[string]bool)
	results, err := carry(q.all(), func(it *item) (transit.SignRequest, error) { return c.signing(q, it, q.version, notes) },
		func(requests []transit.SignRequest) ([]transit.Result[string], error) {
			return c.engine.SignBatch(c.r.Context(), c.args[0], requests)
		})
	if err != nil {
		return err
	}
	c.notes = warnings(notes)
	items, own := q.all(), "public_key"
	if q.items != nil {
		own = "publickey"
	}
	return finish(c, q, results, false, func(b []byte, i int, r *transit.Result[string]) []byte {
		if r.Err != nil {
			return b
		}
		b = appendVersion(append(appendString(append(b, `"signature":`...), r.Value), ','), r.KeyVersion)
		if len(items[i].context) == 0 {
			return b
		}
		// Of a derived key nobody else can tell the public key.
		if public, err := c.engine.PublicKey(c.r.Context(), c.args[0], r.KeyVersion, items[i].context); err == nil {
			if raw, ok := public.(ed25519.PublicKey); ok {
				b = appendString(append(appendString(b, own), ':'), base64.StdEncoding.EncodeToString(raw))
				b = append(b, ',')
			}
		}
		return b
	})
}

// proof returns the slot of what an item is to be verified by.
func (it *item) proof() (slot, error) {
	found := none
	for _, m := range proofs {
		switch {
		case !it.has(m.slot):
		case found != none:
			return none, refuse("provide one of 'signature', 'hmac' and 'cmac', and not several")
		default:
			found = m.slot
		}
	}
	return found, nil
}

func verify(c *call) error {
	q, err := c.request(verifyAll, verifyItem)
	if err == nil {
		err = q.contexts()
	}
	if err != nil {
		return err
	}
	items, kind := q.all(), none
	for i := range items {
		own, err := items[i].proof()
		switch {
		case err != nil:
			return err
		case own == none && q.items == nil:
			return refuse("neither a 'signature' nor an 'hmac' nor a 'cmac' was given to verify")
		case own != none && kind != none && own != kind:
			return refuse("elements of batch_input must all provide either 'signature' or 'hmac' or 'cmac'; item %d provides another than those before", i)
		case own != none:
			kind = own
		}
	}
	var results []transit.Result[bool]
	notes := make(map[string]bool)
	switch kind {
	case hmacSlot:
		results, err = carry(items, func(it *item) (r transit.VerifyMACRequest, err error) {
			r = transit.VerifyMACRequest{MAC: it.value, MACRequest: transit.MACRequest{HashAlgorithm: c.hashName(q), Reference: it.reference}}
			r.Input, err = q.verifiable(it)
			return r, err
		}, func(requests []transit.VerifyMACRequest) ([]transit.Result[bool], error) {
			return c.engine.VerifyHMACBatch(c.r.Context(), c.args[0], requests)
		})
	case cmacSlot:
		results, err = carry(items, func(it *item) (r transit.VerifyCMACRequest, err error) {
			r = transit.VerifyCMACRequest{MAC: it.value, CMACRequest: transit.CMACRequest{Reference: it.reference}}
			r.Input, err = q.verifiable(it)
			return r, err
		}, func(requests []transit.VerifyCMACRequest) ([]transit.Result[bool], error) {
			return c.engine.VerifyCMACBatch(c.r.Context(), c.args[0], requests)
		})
	default:
		results, err = carry(items, func(it *item) (transit.VerifyRequest, error) {
			if _, err := q.verifiable(it); err != nil {
				return transit.VerifyRequest{}, err
			}
			r, err := c.signing(q, it, versionOf(it.value), notes)
			return transit.VerifyRequest{SignRequest: r, Signature: it.value}, err
		}, func(requests []transit.VerifyRequest) ([]transit.Result[bool], error) {
			return c.engine.VerifyBatch(c.r.Context(), c.args[0], requests)
		})
	}
	if err != nil {
		return err
	}
	c.notes = warnings(notes)
	return finish(c, q, results, false, func(b []byte, _ int, r *transit.Result[bool]) []byte {
		return append(strconv.AppendBool(append(b, `"valid":`...), r.Value), ',')
	})
}

// verifiable returns the input of an item that has something to verify it by.
func (q *request) verifiable(it *item) ([]byte, error) {
	if slot, _ := it.proof(); slot == none {
		return nil, refuse("missing signature, hmac or cmac to verify")
	}
	return q.inputOf(it)
}
