package pki

import (
	"bytes"
	"errors"
	"strings"
	"testing"

	"github.com/managedkeys/managedkeys/backend"
)

// retagged returns der with the first byte of the nth element that a path leads to replaced: the first number counts the elements of the outermost
// one, and so on.
func retagged(t *testing.T, der []byte, tag byte, path ...int) []byte {
	t.Helper()
	header := func(at int) (begin, end int) {
		length, n := int(der[at+1]), 2
		if length >= 0x80 {
			n += length & 0x7f
			length = 0
			for _, b := range der[at+2 : at+n] {
				length = length<<8 | int(b)
			}
		}
		return at + n, at + n + length
	}
	at := 0
	for _, n := range path {
		at, _ = header(at)
		for range n {
			_, at = header(at)
		}
	}
	out := bytes.Clone(der)
	out[at] = tag
	return out
}

// TestRequestFaults: an error names the part of a request that is malformed.
func TestRequestFaults(t *testing.T) {
	der := makeCSR(t, testKeys()["p256"], nil)
	for name, c := range map[string]struct {
		der  []byte
		want string
	}{
		"cut":           {der[:len(der)-3], "its length is malformed, or it is cut off after"},
		"one byte":      {der[:1], "its length is malformed, or it is cut off after 1 bytes"},
		"more":          {append(bytes.Clone(der), 0, 0), "2 bytes after its end"},
		"no info":       {retagged(t, der, 0x04, 0), "the part that is signed is no SEQUENCE"},
		"no version":    {retagged(t, der, 0x04, 0, 0), "the version is no INTEGER"},
		"no subject":    {retagged(t, der, 0x04, 0, 1), "the subject is malformed"},
		"no name":       {retagged(t, der, 0x04, 0, 1, 0), "the subject is malformed"},
		"no key":        {retagged(t, der, 0x04, 0, 2), "the public key is malformed"},
		"no algorithm":  {retagged(t, der, 0x04, 0, 2, 0), "the public key is malformed"},
		"no bits":       {retagged(t, der, 0x04, 0, 2, 1), "the public key is malformed"},
		"no attributes": {retagged(t, der, 0x04, 0, 3), "the attributes are missing or malformed"},
		"no extensions": {retagged(t, der, 0x31, 0, 3, 0, 1, 0), "the extensions that attribute 0 asks for are malformed"},
		"no extension":  {retagged(t, der, 0x04, 0, 3, 0, 1, 0, 0), "the extensions that attribute 0 asks for are malformed"},
		"no signer":     {retagged(t, der, 0x04, 1), "the signature algorithm is malformed"},
		"no signature":  {retagged(t, der, 0x04, 2), "the signature is no BIT STRING"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := ParseCSR(c.der)
			if err == nil || !errors.Is(err, backend.ErrInvalidParams) || !strings.Contains(err.Error(), "CSR: malformed DER: "+c.want) {
				t.Errorf("got %v; want %s", err, c.want)
			}
		})
	}
}

// TestRequestErrorsAreForPeople: whichever byte is wrong, an error is a line without the words of package asn1.
func TestRequestErrorsAreForPeople(t *testing.T) {
	der := makeCSR(t, testKeys()["p256"], nil)
	for i := range der {
		for _, b := range []byte{0, 0x05, 0x30, 0x80, 0xff, der[i] ^ 1} {
			wrong := bytes.Clone(der)
			wrong[i] = b
			if b == der[i] || wrong[0] != 0x30 {
				continue // of others ParseCSR says that they are neither DER nor PEM
			}
			_, err := ParseCSR(wrong)
			if err == nil {
				t.Fatalf("byte %d as %#x is taken", i, b)
			}
			if text := err.Error(); strings.Contains(text, "asn1") || strings.ContainsAny(text, "\n\r{}") || len(text) > 300 {
				t.Errorf("byte %d as %#x: %s", i, b, text)
			}
		}
	}
}
