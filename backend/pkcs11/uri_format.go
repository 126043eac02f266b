package pkcs11

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/managedkeys/managedkeys/backend"
)

// URI returns the PKCS#11 URI (RFC 7512) of the parameters, as [ParseURI] describes it, in one fixed form. Fields that
// are empty are left out. So is a PIN, unless it is a reference: a URI is no place for secrets, since it ends in logs and
// process lists (Section 6).
//
// If p is valid and its PIN is a reference that ParseURI takes, ParseURI gives p back, with KeyID in lower-case hexadecimal
// and Slot without leading zeros. Other programs ignore the vendor attributes of the query, or reject them.
func (p Params) URI() string {
	var path, query []string
	add := func(list *[]string, name, value string) {
		if value != "" {
			*list = append(*list, name+"="+value)
		}
	}
	add(&path, "token", encodeURI(p.TokenLabel, ""))
	add(&path, "serial", encodeURI(p.TokenSerial, ""))
	slot := p.Slot
	if n, err := p.slot(); err == nil && slot != "" {
		slot = strconv.FormatUint(uint64(n), 10)
	}
	add(&path, "slot-id", encodeURI(slot, ""))
	id, err := p.keyID()
	if err != nil {
		id = []byte(p.KeyID) // not valid, but without it the URI would match more
	}
	add(&path, "id", encodeBytes(id))
	add(&path, "object", encodeURI(p.KeyLabel, ""))
	if p.Mechanism.isAsymmetric() && p.KeyID+p.KeyLabel != "" {
		add(&path, "type", "private")
	}

	add(&query, "module-name", encodeURI(p.Library, ""))
	add(&query, "pin-source", encodeURI(pinSource(p.PIN), ":/"))
	if p.Mechanism != 0 {
		add(&query, "x-mechanism", p.Mechanism.String())
	}
	add(&query, "x-curve", encodeURI(p.Curve, ""))
	if p.ParameterSet != 0 {
		add(&query, "x-parameter-set", strconv.Itoa(p.ParameterSet))
	}
	if p.KeyBits != 0 {
		add(&query, "x-key-bits", strconv.Itoa(p.KeyBits))
	}
	if p.MaxParallel != 0 {
		add(&query, "x-max-parallel", strconv.Itoa(p.MaxParallel))
	}
	if p.ForceRWSession {
		add(&query, "x-force-rw-session", "true")
	}
	uri := "pkcs11:" + strings.Join(path, ";")
	if len(query) > 0 {
		uri += "?" + strings.Join(query, "&")
	}
	return uri
}

// pinSource returns the pin-source that ParseURI reads as pin, or "" if there is none.
func pinSource(pin backend.Secret) string {
	if !pin.IsReference() {
		return ""
	}
	source := string(pin)
	if file, ok := strings.CutPrefix(source, "file://"); ok {
		source = "file:////" + file // with an empty host, so that the path doesn't begin with one
	}
	if parsed, err := parsePINSource(source); err != nil || !parsed.Equal(pin) {
		return ""
	}
	return source
}

// objectURI returns the URI (RFC 7512) of an object: what people and other programs know the key by. The class is private
// or secret-key. The id and the label are left out if they are empty.
func objectURI(token, serial string, id []byte, label, class string) string {
	var b strings.Builder
	b.WriteString("pkcs11:token=" + encodeURI(token, "") + ";serial=" + encodeURI(serial, ""))
	if len(id) > 0 {
		b.WriteString(";id=" + encodeBytes(id))
	}
	if label != "" {
		b.WriteString(";object=" + encodeURI(label, ""))
	}
	b.WriteString(";type=" + class)
	return b.String()
}

// The characters that need no encoding beside letters, digits and "-._~" (RFC 7512, Section 2.3: pk11-path-res-avail,
// pk11-query-res-avail).
const (
	pathChars  = ":[]@!$'()*+,=&"
	queryChars = ":[]@!$'()*+,=/?|"
	anyChars   = "" // no check
)

// encodeURI encodes all but unreserved characters (RFC 3986, Section 2.3) and those to keep. Other programs differ in what
// else they leave as it is.
func encodeURI(text, keep string) string {
	var b strings.Builder
	for i := range len(text) {
		if c := text[i]; isUnreserved(c) || strings.IndexByte(keep, c) >= 0 {
			b.WriteByte(c)
		} else {
			fmt.Fprintf(&b, "%%%02X", c)
		}
	}
	return b.String()
}

// encodeBytes encodes every byte, as ids should be (RFC 7512, Section 2.3).
func encodeBytes(data []byte) string {
	var b strings.Builder
	for _, c := range data {
		fmt.Fprintf(&b, "%%%02X", c)
	}
	return b.String()
}

// decodeURI undoes percent-encoding. Errors name the field and never show the text.
func decodeURI(field, text, chars string) (string, error) {
	var b strings.Builder
	for i := 0; i < len(text); i++ {
		c := text[i]
		switch {
		case c == '%':
			n, err := strconv.ParseUint(text[i+1:min(i+3, len(text))], 16, 8)
			if err != nil || i+3 > len(text) {
				return b.String(), invalid(field, "has a %% at byte %d without two hexadecimal digits", i+1)
			}
			b.WriteByte(byte(n))
			i += 2
			continue
		case chars != anyChars && !isUnreserved(c) && strings.IndexByte(chars, c) < 0:
			return b.String(), invalid(field, "has a character at byte %d that must be percent-encoded", i+1)
		}
		b.WriteByte(c)
	}
	return b.String(), nil
}

func isUnreserved(c byte) bool {
	return 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' || strings.IndexByte("-._~", c) >= 0
}

// isAttributeName takes the names of RFC 7512, Section 2.3: pk11-v-attr-nm-char and those that the RFC gives.
func isAttributeName(name string) bool {
	for i := range len(name) {
		if c := name[i]; !isUnreserved(c) || c == '.' || c == '~' {
			return false
		}
	}
	return name != ""
}
