package audit

import (
	"bytes"
	"crypto/hkdf"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"hash"
	"strconv"

	"github.com/managedkeys/managedkeys/backend"
	"github.com/managedkeys/managedkeys/managedkey"
)

// MinKey is the shortest audit key, in bytes.
const MinKey = 32

// keys are derived from the audit key: who checks chains need not be able to look for inputs.
type keys struct{ input, chain []byte }

func newKeys(key backend.Secret) (keys, error) {
	text, err := key.Resolve()
	if err != nil {
		return keys{}, fmt.Errorf("audit: key: %w", err)
	}
	if len(text) < MinKey {
		return keys{}, fmt.Errorf("audit: key: got %d bytes; it takes at least %d random ones, or their text: %w", len(text), MinKey, backend.ErrInvalidParams)
	}
	derive := func(what string) (out []byte) {
		if err == nil {
			out, err = hkdf.Key(sha256.New, []byte(text), nil, "managedkeys audit "+what, sha256.Size) // RFC 5869
		}
		return out
	}
	k := keys{derive("input"), derive("chain")}
	return k, err
}

// hmacPrefix is before the HMACs of inputs and outputs.
const hmacPrefix = "hmac-sha256:"

// InputHMAC returns what a log with that key has as the input of an operation with these arguments, or as its output: to find
// the operations in which something went in or came out. The parts are as managedkey.Content.Sum has them: one for an output.
func InputHMAC(key backend.Secret, parts ...[]byte) (string, error) {
	k, err := newKeys(key)
	if err != nil {
		return "", err
	}
	return hmacPrefix + hex.EncodeToString(managedkey.NewContent(parts...).Sum(hmac.New(sha256.New, k.input))), nil
}

// Head is the newest line of a chain.
type Head struct {
	Seq  uint64 // its number; 0 if there is none
	Hash [sha256.Size]byte
}

// chain makes lines. It is used by one goroutine at a time.
type chain struct {
	Head
	mac hash.Hash
	hex [2 * sha256.Size]byte
}

func newChain(k keys) *chain { return &chain{mac: hmac.New(sha256.New, k.chain)} }

// The fixed parts of a line.
const (
	seqPart  = `{"seq":`
	prevPart = `,"prev":"`
	bodyPart = `",`
	macPart  = `,"mac":"`
	endPart  = `"}`
	macLen   = len(macPart) + 2*sha256.Size + len(endPart)
)

// append appends the next line, whose fields are body, and its line break, to out.
func (c *chain) append(out, body []byte) []byte {
	from := len(out)
	out = strconv.AppendUint(append(out, seqPart...), c.Seq+1, 10)
	hex.Encode(c.hex[:], c.Hash[:])
	out = append(append(append(append(out, prevPart...), c.hex[:]...), bodyPart...), body...)
	hex.Encode(c.hex[:], c.sum(out[from:]))
	out = append(append(append(out, macPart...), c.hex[:]...), endPart...)
	c.Head = Head{c.Seq + 1, sha256.Sum256(out[from:])}
	return append(out, '\n')
}

func (c *chain) sum(line []byte) []byte {
	c.mac.Reset()
	c.mac.Write(line)
	return c.mac.Sum(nil)
}

// line is one that was read.
type line struct {
	Head
	prev [sha256.Size]byte
	body []byte // its fields but seq, prev and mac, without braces
}

// parse reads a line without its line break, and checks its form and its MAC. The form admits nothing that append doesn't write.
func (c *chain) parse(text []byte) (l line, err error) {
	rest, ok := bytes.CutPrefix(text, []byte(seqPart))
	digits := bytes.IndexByte(rest, ',')
	if !ok || digits < 1 || digits > 20 || rest[0] == '0' || len(rest) < digits+len(prevPart)+2*sha256.Size+len(bodyPart)+macLen {
		return line{}, errForm
	}
	if l.Seq, err = strconv.ParseUint(string(rest[:digits]), 10, 64); err != nil || rest[0] == '+' {
		return line{}, errForm
	}
	rest = rest[digits:]
	if rest, ok = bytes.CutPrefix(rest, []byte(prevPart)); !ok || !decodeHex(l.prev[:], rest) {
		return line{}, errForm
	}
	if rest, ok = bytes.CutPrefix(rest[2*sha256.Size:], []byte(bodyPart)); !ok || len(rest) < macLen {
		return line{}, errForm
	}
	end := rest[len(rest)-macLen:]
	l.body = rest[:len(rest)-macLen]
	var mac [sha256.Size]byte
	if !bytes.HasPrefix(end, []byte(macPart)) || !decodeHex(mac[:], end[len(macPart):]) || !bytes.HasSuffix(end, []byte(endPart)) {
		return line{}, errForm
	}
	l.Hash = sha256.Sum256(text)
	if !hmac.Equal(mac[:], c.sum(text[:len(text)-macLen])) {
		return l, errMAC
	}
	return l, nil
}

// decodeHex reads lower-case hexadecimal at the beginning of text.
func decodeHex(out, text []byte) bool {
	if len(text) < 2*len(out) {
		return false
	}
	text = text[:2*len(out)]
	_, err := hex.Decode(out, text)
	return err == nil && bytes.Equal(text, bytes.ToLower(text))
}
