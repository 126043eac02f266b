package pki

import (
	"bytes"
	"crypto/x509"
	"fmt"
	"math/big"
	"slices"
	"time"

	"golang.org/x/crypto/cryptobyte"
	cbasn1 "golang.org/x/crypto/cryptobyte/asn1"
)

// crlEntry returns a RevokedCertificate in DER. The reason is left out if it is 0 (RFC 5280, Section 5.3.1).
func crlEntry(serial *big.Int, at time.Time, reason int) ([]byte, error) {
	return datedEntry(serial, at, reason, nil)
}

// datedEntry is crlEntry with an invalidityDate, if that isn't nil. The reason is the last extension, where it is looked for.
func datedEntry(serial *big.Int, at time.Time, reason int, invalidity []byte) ([]byte, error) {
	var b cryptobyte.Builder
	b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) {
		b.AddASN1BigInt(serial)
		addTime(b, at)
		if reason == ReasonUnspecified && invalidity == nil {
			return
		}
		b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) {
			if invalidity != nil {
				addExtension(b, oidInvalidityDate, false, func(b *cryptobyte.Builder) { b.AddBytes(invalidity) })
			}
			if reason != ReasonUnspecified {
				addExtension(b, oidReasonCode, false, func(b *cryptobyte.Builder) { b.AddASN1Enum(int64(reason)) })
			}
		})
	})
	der, err := b.Bytes()
	if err != nil {
		return nil, invalid("CRL: entry %x: %w", serial, err)
	}
	return der, nil
}

// nextEntry returns the first RevokedCertificate of entries, and what follows.
func nextEntry(entries []byte) (entry, rest []byte, err error) {
	if len(entries) >= 2 && entries[0] == 0x30 && entries[1] < 0x80 && len(entries) >= 2+int(entries[1]) { // as almost all are
		n := 2 + int(entries[1])
		return entries[:n:n], entries[n:], nil
	}
	in := cryptobyte.String(entries)
	var element cryptobyte.String
	if !in.ReadASN1Element(&element, cbasn1.SEQUENCE) {
		return nil, nil, fmt.Errorf("pki: CRL: an entry is malformed")
	}
	return element, in, nil
}

// entrySerial returns the serial number of an entry without leading zeros.
func entrySerial(entry []byte) []byte {
	if len(entry) > 4 && entry[0] == 0x30 && int(entry[1]) == len(entry)-2 && entry[1] < 0x80 && entry[2] == 2 && entry[3] > 0 && entry[3] < 0x80 &&
		len(entry) >= 4+int(entry[3]) { // as almost all are
		return bytes.TrimLeft(entry[4:4+int(entry[3])], "\x00")
	}
	in := cryptobyte.String(entry)
	var content cryptobyte.String
	var serial []byte
	if !in.ReadASN1(&content, cbasn1.SEQUENCE) || !content.ReadASN1Bytes(&serial, cbasn1.INTEGER) {
		return nil
	}
	return bytes.TrimLeft(serial, "\x00")
}

// compareSerials compares positive numbers without leading zeros.
func compareSerials(a, b []byte) int {
	if len(a) != len(b) {
		return len(a) - len(b)
	}
	return bytes.Compare(a, b)
}

// isRemoval reports whether an entry says removeFromCRL. The reason is at its end; without one, the end is a time's Z.
func isRemoval(entry []byte) bool {
	return bytes.HasSuffix(entry, []byte{0x0a, 1, reasonRemoveFromCRL})
}

// parseEntry returns what an entry says.
func parseEntry(entry []byte) (x509.RevocationListEntry, error) {
	bad := fmt.Errorf("pki: CRL: an entry is malformed")
	var out x509.RevocationListEntry
	in := cryptobyte.String(entry)
	var content, extensions cryptobyte.String
	serial := new(big.Int)
	if !in.ReadASN1(&content, cbasn1.SEQUENCE) || !in.Empty() || !content.ReadASN1Integer(serial) {
		return out, bad
	}
	if content.PeekASN1Tag(cbasn1.UTCTime) {
		if !content.ReadASN1UTCTime(&out.RevocationTime) {
			return out, bad
		}
	} else if !content.ReadASN1GeneralizedTime(&out.RevocationTime) {
		return out, bad
	}
	if out.SerialNumber = serial; content.Empty() {
		return out, nil
	}
	if !content.ReadASN1(&extensions, cbasn1.SEQUENCE) || !content.Empty() || len(entry) < 3 || !slices.Equal(entry[len(entry)-3:len(entry)-1], []byte{0x0a, 1}) {
		return out, bad
	}
	out.ReasonCode = int(entry[len(entry)-1])
	return out, nil
}
