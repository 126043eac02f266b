package audit

import (
	"encoding/hex"
	"strconv"
	"time"
	"unicode/utf8"

	"github.com/managedkeys/managedkeys/managedkey"
)

// MaxText is how many bytes of a text are recorded: longer ones are cut off.
const MaxText = 1024

// The types of records.
const (
	TypeOperation = "operation" // what was done and how it went
	TypeRequest   = "request"   // what is about to be done
	TypeOutcome   = "outcome"   // how it went
	TypeRefused   = "refused"   // it was not done, because it could not be recorded everywhere
	TypeDenied    = "denied"    // a request was refused because of who made it
)

// Record is what a [Func] gets. The package documentation says what the fields mean.
type Record struct {
	Time                                   time.Time
	Type, ID                               string
	Actor                                  managedkey.Actor
	Namespace, Name, Key                   string
	Version                                int
	Mount, MountID, Path                   string
	Backend, Operation, Algorithm, Options string
	Duration                               time.Duration
	Error                                  string
	Input, Output                          string
	Omitted                                uint64 // denials that were not recorded

	body []byte // the fields in JSON, without braces
}

// JSON returns the record as a JSON object of one line, without a line break and without the fields of a chain.
func (r *Record) JSON() []byte {
	body := r.body
	if body == nil {
		body = r.append(nil)
	}
	return append(append([]byte{'{'}, body...), '}')
}

// append appends the fields in JSON.
func (r *Record) append(b []byte) []byte {
	b = appendHead(b, r.Time, r.Type)
	for _, f := range [...]struct{ name, value string }{
		{`,"id":`, r.ID},
		{`,"actor":`, r.Actor.ID}, {`,"actor_name":`, r.Actor.Name}, {`,"address":`, r.Actor.Address}, {`,"request":`, r.Actor.RequestID},
		{`,"namespace":`, r.Namespace}, {`,"name":`, r.Name}, {`,"key":`, r.Key},
	} {
		b = appendField(b, f.name, f.value)
	}
	if r.Version != 0 {
		b = strconv.AppendInt(append(b, `,"version":`...), int64(r.Version), 10)
	}
	for _, f := range [...]struct{ name, value string }{
		{`,"mount":`, r.Mount}, {`,"mount_id":`, r.MountID}, {`,"path":`, r.Path},
		{`,"backend":`, r.Backend}, {`,"operation":`, r.Operation}, {`,"algorithm":`, r.Algorithm}, {`,"options":`, r.Options},
		{`,"input":`, r.Input},
	} {
		b = appendField(b, f.name, f.value)
	}
	if r.Type == TypeOperation || r.Type == TypeOutcome {
		b = strconv.AppendInt(append(b, `,"duration_ns":`...), int64(r.Duration), 10)
	}
	if r.Omitted != 0 {
		b = strconv.AppendUint(append(b, `,"omitted":`...), r.Omitted, 10)
	}
	return appendField(appendField(b, `,"error":`, r.Error), `,"output":`, r.Output)
}

func appendHead(b []byte, at time.Time, kind string) []byte {
	b = at.UTC().AppendFormat(append(b, `"time":"`...), "2006-01-02T15:04:05.000000000Z")
	return appendText(append(b, `","type":`...), kind)
}

// appendField appends a field that has a value.
func appendField(b []byte, name, value string) []byte {
	if value == "" {
		return b
	}
	return appendText(append(b, name...), value)
}

// appendText appends a JSON string of printable ASCII: RFC 8259, Section 7.
func appendText(b []byte, text string) []byte {
	const digits = "0123456789abcdef"
	unit := func(r rune) {
		b = append(b, '\\', 'u', digits[r>>12&15], digits[r>>8&15], digits[r>>4&15], digits[r&15])
	}
	if simple(text) {
		return append(append(append(b, '"'), text...), '"')
	}
	cut := len(text) > MaxText
	if cut {
		text = text[:MaxText]
		for range utf8.UTFMax { // not within a rune
			if r, n := utf8.DecodeLastRuneInString(text); r == utf8.RuneError && n == 1 {
				text = text[:len(text)-1]
			}
		}
	}
	b = append(b, '"')
	for _, r := range text { // bytes that are not UTF-8 are U+FFFD
		switch {
		case r == '"' || r == '\\':
			b = append(b, '\\', byte(r))
		case r >= ' ' && r < 0x7f:
			b = append(b, byte(r))
		case r > 0xffff:
			r -= 0x10000
			unit(0xd800 + r>>10)
			unit(0xdc00 + r&0x3ff)
		default:
			unit(r)
		}
	}
	if cut {
		unit('…')
	}
	return append(b, '"')
}

// simple reports whether text stands in JSON as it is.
func simple(text string) bool {
	for i := range len(text) {
		if c := text[i]; c < ' ' || c > '~' || c == '"' || c == '\\' {
			return false
		}
	}
	return len(text) <= MaxText
}

// hmacText returns a sum as it is recorded.
func hmacText(sum []byte) string {
	if sum == nil {
		return ""
	}
	return hmacPrefix + hex.EncodeToString(sum)
}
