package transit

import (
	"encoding/base64"
	"fmt"
	"strconv"
	"strings"

	"github.com/managedkeys/managedkeys/backend"
)

// prefix begins every ciphertext, signature and MAC: vault:v<version>:<base64>.
const prefix = "vault:v"

// maxEnvelope bounds what is parsed, in bytes: as much as a request of the HTTP API may have.
const maxEnvelope = 32 << 20

// maxVersion is the largest version of a key.
const maxVersion = 1<<31 - 1

// format returns data as the envelope of a version.
func format(version int, data []byte, encoding *base64.Encoding) string {
	var text strings.Builder
	text.Grow(len(prefix) + len("2147483647:") + encoding.EncodedLen(len(data)))
	var piece [1024]byte // so that the text itself is all that is allocated
	text.WriteString(prefix)
	text.Write(append(strconv.AppendInt(piece[:0], int64(version), 10), ':'))
	for whole := len(piece) / 4 * 3; len(data) > whole; data = data[whole:] { // no padding but at the end
		encoding.Encode(piece[:], data[:whole])
		text.Write(piece[:])
	}
	text.Write(encoding.AppendEncode(piece[:0], data))
	return text.String()
}

// parse splits an envelope into the version and the text that encodes the data. kind, "signature" or "ciphertext", is
// for the error. There is one way to write an envelope: for every accepted s, formatting the result gives s again.
func parse(kind, s string) (version int, encoded string, err error) {
	if len(s) > maxEnvelope {
		return 0, "", invalid("invalid %s: got %d bytes; it takes at most %d", kind, len(s), maxEnvelope)
	}
	rest, ok := strings.CutPrefix(s, prefix)
	if !ok {
		return 0, "", invalid("invalid %s: no prefix; it takes %s<version>:<base64>", kind, prefix)
	}
	digits, encoded, ok := strings.Cut(rest, ":")
	if !ok {
		return 0, "", invalid("invalid %s: wrong number of fields; it takes %s<version>:<base64>", kind, prefix)
	}
	n, err := strconv.ParseUint(digits, 10, 31)
	if err != nil || n == 0 || digits != strconv.FormatUint(n, 10) {
		return 0, "", invalid("invalid %s: version number could not be decoded; it takes 1 to %d without leading zeros", kind, maxVersion)
	}
	return int(n), encoded, nil
}

// decode returns the data of an envelope. Unlike encoding/base64 alone it takes no line breaks and no stray bits.
func decode(encoded string, encoding *base64.Encoding) ([]byte, bool) {
	if strings.ContainsAny(encoded, "\r\n") {
		return nil, false
	}
	data, err := encoding.Strict().DecodeString(encoded)
	return data, err == nil && len(data) > 0
}

// invalid returns an error that says what is wrong with what the caller passed.
func invalid(format string, args ...any) error {
	return fmt.Errorf("transit: "+format+": %w", append(args, backend.ErrInvalidParams)...)
}
