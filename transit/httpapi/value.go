package httpapi

import (
	"encoding/base64"
	"slices"
	"strconv"
)

// store stores a value, which is that of a string if quoted is set.
func (d *decoder) store(it *item, m member, value []byte, quoted bool) error {
	switch m.form {
	case text, named:
		if !quoted {
			return m.wrong()
		}
		d.texts(it, m.slot, string(value))
	case mixed:
		if _, ok := whole(value, false); !ok && !quoted {
			return m.wrong()
		}
		d.texts(it, m.slot, string(value))
	case data:
		if !quoted {
			return m.wrong()
		}
		return d.base64(it, m, value)
	case number:
		n, ok := whole(value, quoted)
		if !ok {
			return m.wrong()
		}
		d.numbers(it, m.slot, n)
	case flag:
		switch string(value) {
		case "true", "1":
			d.flags(m.slot)
		case "false", "0", "":
		default:
			return m.wrong()
		}
	default:
		if !slices.Contains([]string{"", "false", "0"}, string(value)) {
			return m.wrong()
		}
	}
	return nil
}

// whole returns a whole number. In a string it may have leading zeros.
func whole(value []byte, quoted bool) (int, bool) {
	n, err := strconv.Atoi(string(value))
	return n, err == nil && (quoted || strconv.Itoa(n) == string(value))
}

// base64 decodes as others do: standard, padded, and line breaks don't count. What can't be decoded is wrong with the item only.
func (d *decoder) base64(it *item, m member, value []byte) error {
	if d.bytes == nil {
		d.bytes = make([]byte, 0, base64.StdEncoding.DecodedLen(len(d.data)))
	}
	start := len(d.bytes)
	out, err := base64.StdEncoding.AppendDecode(d.bytes, value)
	if err != nil {
		if it.bad == nil {
			it.bad = notBase64(m, err)
		}
		return nil
	}
	d.bytes = out
	decoded := out[start:len(out):len(out)]
	switch m.slot {
	case inputSlot:
		it.input = decoded
	case contextSlot:
		it.context = decoded
	case nonceSlot:
		it.nonce = decoded
	case associatedSlot:
		it.associated = decoded
	case signatureContextSlot:
		d.signatureContext = string(decoded)
	}
	return nil
}

// notBase64 says what clients look for, which is not the same everywhere.
func notBase64(m member, err error) error {
	switch m.name {
	case "input":
		return refuse("unable to decode input as base64: %v", err)
	case "context", "nonce":
		return refuse("failed to base64-decode %s: %v", m.name, err)
	}
	return refuse("%v (field %s)", err, m.name)
}

func (d *decoder) texts(it *item, s slot, value string) {
	switch s {
	case ciphertextSlot, signatureSlot, hmacSlot, cmacSlot:
		it.value = value
	case referenceSlot:
		it.reference = value
	case paddingSlot:
		it.padding = value
	case newPaddingSlot:
		it.newPadding = value
	case hashSlot:
		d.hash = value
	case legacySlot:
		d.legacy = value
	case schemeSlot:
		d.scheme = value
	case saltSlot:
		d.salt = value
	case marshalingSlot:
		d.marshaling = value
	case typeSlot:
		d.keyType = value
	}
}

func (d *decoder) numbers(it *item, s slot, n int) {
	switch s {
	case versionSlot:
		it.version = n
	case statusSlot:
		d.status = n
	case lengthSlot:
		d.length = n
	}
}

func (d *decoder) flags(s slot) {
	switch s {
	case prehashedSlot:
		d.prehashed = true
	case convergentSlot:
		d.convergent = true
	}
}
