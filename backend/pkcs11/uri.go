package pkcs11

import (
	"encoding/hex"
	"fmt"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/managedkeys/managedkeys/backend"
)

// maxURI is the longest PKCS#11 URI that is read, in bytes. What [Params.URI] writes fits, whatever has to be encoded.
const maxURI = 16 << 10

// maxPINSource is the longest reference to a PIN in a URI, in bytes: that of a path on Linux.
const maxPINSource = 4096

// noMechanism stands for the mechanism where a field is checked before it is known. It is
// CK_UNAVAILABLE_INFORMATION, which no mechanism is.
const noMechanism Mechanism = 1<<64 - 1

// ParseURI returns the parameters that a PKCS#11 URI (RFC 7512) holds. The attributes of its path are:
//
//	token, serial       TokenLabel, TokenSerial
//	slot-id             Slot; refused together with token or serial, as in Params
//	object              KeyLabel
//	id                  KeyID, as "0x" and hexadecimal digits
//	type                is private or secret-key; what else an object can be has no operations to offer
//	manufacturer, model, library-manufacturer, library-description, library-version, slot-manufacturer,
//	slot-description    are taken beside token, serial or slot-id, since other programs write them, but not checked
//	                    against the token; alone they don't name one and are refused
//
// and those of its query:
//
//	module-name         Library
//	module-path         is refused: modules are named in Library only, so that an entry can't make the program load a file
//	pin-source          PIN as a reference: file:/path, /path, or env:NAME, which is an extension of this package.
//	                    After the encoding of the attribute no other is undone in the path. Commands ("|program") are
//	                    refused
//	pin-value           PIN itself; refused if it would be taken for a reference, or with pin-source (Section 2.4)
//	x-mechanism         Mechanism, as ParseMechanism takes it
//	x-curve, x-key-bits, x-parameter-set, x-max-parallel, x-force-rw-session=true
//	                    the fields with these names
//
// The names beginning with "x-" are vendor attributes of this package. What the URI doesn't say stays zero, often PIN and
// Mechanism, for the caller to set; [Params.Validate] then says what is still missing. All that is there was checked.
//
// Parsing is strict: empty values, repeated attributes, and characters that must be percent-encoded and are not are
// errors. So is every attribute not listed here: in the path because it selects nothing (RFC 7512, Section 2.5), and in
// the query, where the section lets it be ignored, because it may be a misspelling. A URI has at most 16 KiB. The error
// wraps backend.ErrInvalidParams, names the attribute and never shows a PIN.
func ParseURI(uri string) (Params, error) {
	if len(uri) > maxURI {
		return Params{}, invalid("URI", "has %d bytes; it takes at most %d", len(uri), maxURI)
	}
	rest, ok := cutPrefixFold(uri, "pkcs11:")
	if !ok {
		return Params{}, invalid("URI", "does not begin with pkcs11:")
	}
	pathPart, queryPart, _ := strings.Cut(rest, "?")
	u := uriParser{seen: make(map[string]bool)}
	if err := u.each(pathPart, "path", ";", pathChars, u.pathAttribute); err != nil {
		return Params{}, err
	}
	if err := u.each(queryPart, "query", "&", queryChars, u.queryAttribute); err != nil {
		return Params{}, err
	}
	if err := u.checkAll(); err != nil {
		return Params{}, err
	}
	return u.p, nil
}

// uriParser is the state of ParseURI.
type uriParser struct {
	p     Params
	class string          // value of the attribute type
	about string          // the last attribute that describes the token and can't be checked
	seen  map[string]bool // names of attributes
}

// each passes the attributes of one part of the URI to set.
func (u *uriParser) each(part, partName, separator, chars string, set func(name, value string) error) error {
	if part == "" {
		return nil
	}
	for i, attribute := range strings.Split(part, separator) {
		name, encoded, ok := strings.Cut(attribute, "=")
		if !ok || !isAttributeName(name) {
			// It may be part of a PIN, so it is not shown.
			return invalid("URI", "attribute %d of the %s does not begin with a name and '='", i+1, partName)
		}
		name = strings.ToLower(name) // names are case-insensitive (RFC 5234, Section 2.3)
		if err := u.attribute(name, encoded, chars, set); err != nil {
			if name != "pin-value" && hasPIN(attribute, encoded) {
				return invalid("URI", "attribute %d of the %s is not valid; it is not shown, since it has the text pin-value in it", i+1, partName)
			}
			return err
		}
	}
	return nil
}

func (u *uriParser) attribute(name, encoded, chars string, set func(name, value string) error) error {
	// RFC 7512, Section 2.3: the path must not have duplicates. Of the query only vendors' attributes may be repeated,
	// and none of this package is a list.
	if u.seen[name] {
		return invalid(field(name), "is given twice")
	}
	u.seen[name] = true
	value, err := decodeURI(field(name), encoded, chars)
	if err != nil {
		return err
	}
	return set(name, value)
}

// field returns what an error message calls an attribute.
func field(name string) string { return fmt.Sprintf("URI attribute %.40s", name) }

// hasPIN reports whether an attribute other than pin-value has a pin-value in it, because of a wrong separator.
func hasPIN(attribute, encoded string) bool {
	value, _ := decodeURI("", encoded, anyChars)
	return strings.Contains(strings.ToLower(attribute+" "+value), "pin-value")
}

// pathAttribute takes an attribute of the path.
func (u *uriParser) pathAttribute(name, value string) error {
	switch name {
	case "manufacturer", "model", "library-manufacturer", "library-description", "library-version", "slot-manufacturer", "slot-description":
		u.about = name
		return nil
	case "token", "serial", "slot-id", "object", "id", "type":
	default:
		return invalid(field(name), "is not one of the path; it takes token, serial, slot-id, object, id, type and what describes the token")
	}
	if value == "" {
		return invalid(field(name), "is empty; leave it out to match anything")
	}
	switch name {
	case "token":
		u.p.TokenLabel = value
		return checkText(field(name), value, maxTokenLabel)
	case "serial":
		u.p.TokenSerial = value
		return checkText(field(name), value, maxTokenSerial)
	case "slot-id":
		n, err := Params{Slot: value}.slot()
		u.p.Slot = strconv.FormatUint(uint64(n), 10)
		return err
	case "object":
		u.p.KeyLabel = value
		return checkText(field(name), value, maxLabel)
	case "id":
		u.p.KeyID = "0x" + hex.EncodeToString([]byte(value))
		_, err := u.p.keyID()
		return err
	}
	u.class = strings.ToLower(value)
	if u.class != "private" && u.class != "secret-key" {
		return invalid(field(name), "got %.40q; it takes private or secret-key", value)
	}
	return nil
}

// queryAttribute takes an attribute of the query.
func (u *uriParser) queryAttribute(name, value string) (err error) {
	switch name {
	case "module-path":
		return invalid(field(name), "is refused: modules are named in Library only, which the program configures; it takes module-name")
	case "module-name", "pin-source", "pin-value", "x-mechanism", "x-curve", "x-key-bits", "x-parameter-set", "x-max-parallel", "x-force-rw-session":
	default:
		return invalid(field(name), "is not one of the query; it takes module-name, pin-source, pin-value, x-mechanism, x-curve, x-key-bits, x-parameter-set, x-max-parallel and x-force-rw-session")
	}
	if value == "" {
		return invalid(field(name), "is empty")
	}
	switch name {
	case "module-name":
		u.p.Library = value
		if !isLibraryName(value) {
			return invalid(field(name), "%.80q is not the name of a library; %s", value, libraryNameRule)
		}
	case "pin-source":
		u.p.PIN, err = parsePINSource(value)
	case "pin-value":
		u.p.PIN, err = parsePINValue(value)
	case "x-mechanism":
		if u.p.Mechanism, err = ParseMechanism(value); err == nil {
			err = Params{Mechanism: u.p.Mechanism}.validateKind()
		}
	case "x-curve":
		u.p.Curve = value
		err = Params{Mechanism: noMechanism, Curve: value}.validateKind()
	case "x-parameter-set":
		if u.p.ParameterSet, err = uriNumber(name, value); err == nil {
			err = Params{Mechanism: noMechanism, ParameterSet: u.p.ParameterSet}.validateKind()
		}
	case "x-key-bits":
		if u.p.KeyBits, err = uriNumber(name, value); err == nil {
			err = Params{Mechanism: noMechanism, KeyBits: u.p.KeyBits}.validateKind()
		}
	case "x-max-parallel":
		if u.p.MaxParallel, err = uriNumber(name, value); u.p.MaxParallel > maxParallel {
			err = invalid(field(name), "got %d; it takes 1 to %d", u.p.MaxParallel, maxParallel)
		}
	case "x-force-rw-session":
		u.p.ForceRWSession = true
		if value != "true" {
			err = invalid(field(name), "got %.40q; it takes true", value)
		}
	}
	return err
}

// checkAll checks the attributes together.
func (u *uriParser) checkAll() error {
	named := u.p.TokenLabel != "" || u.p.TokenSerial != ""
	switch {
	case u.p.Slot != "" && named:
		return invalid(field("slot-id"), "is given together with token or serial; it takes one or the other")
	case u.about != "" && u.p.Slot == "" && !named:
		return invalid(field(u.about), "describes the token, which nothing names; it takes token, serial or slot-id beside it")
	case u.seen["pin-source"] && u.seen["pin-value"]:
		return invalid(field("pin-source"), "is given together with pin-value; it takes one of them")
	case u.p.Mechanism == 0:
		return nil
	case u.class == "secret-key" && u.p.Mechanism.isAsymmetric():
		return invalid(field("type"), "is secret-key with mechanism %s, which takes a private key", u.p.Mechanism)
	}
	return u.p.validateKind()
}

// isAsymmetric reports whether the keys that m is for are known to be private keys.
func (m Mechanism) isAsymmetric() bool {
	return m.is(keyRSA) || m.is(keyEC) || m.is(keyEdDSA) || m.is(keyMLDSA)
}

// parsePINSource returns the reference that a pin-source is. Errors don't show it: somebody may have put the PIN there.
func parsePINSource(source string) (backend.Secret, error) {
	const takes = "it takes file:/path, an absolute path or env:NAME"
	if err := checkPIN("pin-source", source); err != nil {
		return "", err
	}
	if len(source) > maxPINSource {
		return "", invalid(field("pin-source"), "has %d bytes; it takes at most %d", len(source), maxPINSource)
	}
	name, isEnv := cutPrefixFold(source, "env:")
	file, isFile := cutPrefixFold(source, "file:")
	switch {
	case strings.HasPrefix(source, "|"):
		return "", invalid(field("pin-source"), "is a command, and none is run; %s", takes)
	case isEnv && name != "":
		return backend.Secret("env:" + name), nil
	case isEnv:
		return "", invalid(field("pin-source"), "names no environment variable; %s", takes)
	case strings.HasPrefix(source, "/"):
		return backend.Secret("file:" + source), nil
	case !isFile:
		return "", invalid(field("pin-source"), "is neither a file nor an environment variable; %s", takes)
	}
	if rest, ok := strings.CutPrefix(file, "//"); ok {
		// RFC 8089, Section 2: file://host/path, where no host and localhost mean this machine.
		host, _, _ := strings.Cut(rest, "/")
		if host != "" && !strings.EqualFold(host, "localhost") {
			return "", invalid(field("pin-source"), "is a file of another machine; %s", takes)
		}
		file = rest[len(host):]
	}
	if file == "" {
		return "", invalid(field("pin-source"), "names no file; %s", takes)
	}
	return backend.Secret("file:" + file), nil
}

// parsePINValue returns the PIN that a pin-value is.
func parsePINValue(value string) (backend.Secret, error) {
	pin := backend.Secret(value)
	if pin.IsReference() {
		return "", invalid(field("pin-value"), "is not shown, but begins like a reference; it takes the PIN itself, and pin-source a reference")
	}
	return pin, checkPIN("pin-value", value)
}

// checkPIN is checkText for what must not be shown.
func checkPIN(name, value string) error {
	if !utf8.ValidString(value) || strings.ContainsFunc(value, unicode.IsControl) {
		return invalid(field(name), "is not shown, but is not UTF-8 or has control characters")
	}
	return nil
}

func uriNumber(name, value string) (int, error) {
	n, err := strconv.ParseUint(value, 10, 31)
	if err != nil || n == 0 {
		return 0, invalid(field(name), "%.40q is not a decimal number from 1", value)
	}
	return int(n), nil
}
