package managedkey

import (
	"context"
	"fmt"
	"net/url"
	"regexp"
	"slices"
	"strings"

	"github.com/managedkeys/managedkeys/backend"
	"github.com/managedkeys/managedkeys/namespace"
)

// URI is the canonical name of a key in an external key manager. The zero value names none; others come from [ParseURI]. It is
// immutable.
type URI struct {
	// A pointer, so that package fmt, which can't call methods of unexported fields, shows an address and not a PIN.
	parsed *parsedURI
}

type parsedURI struct {
	kind  string // type of the backend
	text  string // as backends take it
	shown string // without a PIN
	scope backend.Params
}

// maxURI is the length of the longest URI that is read, in bytes.
const maxURI = 16 << 10

// uriKinds are the forms of the URIs that say by themselves what backend they are for. What exactly is valid, backends know.
var uriKinds = []struct {
	kind, takes string
	form        *regexp.Regexp
}{
	{"pkcs11", "pkcs11:token=…;object=… (RFC 7512)", regexp.MustCompile(`^(?i:pkcs11):[^#]*$`)},
	{"awskms", "arn:aws:kms:REGION:ACCOUNT:key/… or …:alias/…", regexp.MustCompile(`^arn:aws[a-z0-9-]*:kms:[a-z0-9-]+:[0-9]{12}:(key|alias)/[^?#]+$`)},
	{"azurekeyvault", "https://VAULT.DOMAIN/keys/NAME[/VERSION]", regexp.MustCompile(`^https://[0-9A-Za-z.-]+(:[0-9]+)?/keys/[0-9A-Za-z-]+(/[0-9A-Fa-f]+)?$`)},
	{"gcpckms", "projects/…/locations/…/keyRings/…/cryptoKeys/…/cryptoKeyVersions/…",
		regexp.MustCompile(`^(//cloudkms\.googleapis\.com/)?projects/[^/?#]+/locations/[^/?#]+/keyRings/[^/?#]+/cryptoKeys/[^/?#]+(/cryptoKeyVersions/[^/?#]+)?$`)},
}

// otherURI is the form of all others: the type of a backend, a colon, and what only the backend knows.
var otherURI = regexp.MustCompile(`^([a-z][a-z0-9]{0,31}):[^?#@]+$`)

// notTypes are schemes that no backend has.
var notTypes = []string{"arn", "file", "ftp", "http", "https", "urn"}

// ParseURI reads the canonical name of a key:
//
//	pkcs11:token=…;object=…           PKCS#11 (RFC 7512)
//	arn:aws:kms:…:key/… or :alias/…   AWS KMS, in every partition
//	https://….vault.azure.net/keys/…  Azure Key Vault and Managed HSM, wherever they are
//	projects/…/cryptoKeyVersions/…    Google Cloud KMS, also behind //cloudkms.googleapis.com/
//	TYPE:…                            a backend of that type, such as software:memory/ca
//
// It recognises whose name it is and links no backend; whether all of it is valid shows when a backend is asked, which
// [URI.Open] and [URI.Entry] do. It takes printable ASCII of at most 16 KiB. The error wraps backend.ErrInvalidParams and
// never shows a PIN.
func ParseURI(uri string) (URI, error) {
	if len(uri) > maxURI {
		return URI{}, badURI("has %d bytes; it takes at most %d", len(uri), maxURI)
	}
	if i := strings.IndexFunc(uri, func(r rune) bool { return r <= ' ' || r > '~' }); i >= 0 {
		return URI{}, badURI("has a character at byte %d that is not printable ASCII; it takes such percent-encoded", i)
	}
	for _, k := range uriKinds {
		if !k.form.MatchString(uri) {
			continue
		}
		p := &parsedURI{kind: k.kind, text: strings.TrimPrefix(uri, "//cloudkms.googleapis.com/")}
		p.shown = p.text
		if k.kind == "pkcs11" {
			var ok bool
			if p.shown, ok = withoutPIN(p.text); !ok {
				return URI{}, badURI("has the text pin-value where no attribute of that name begins, and is not shown")
			}
		}
		return URI{p}, nil
	}
	if m := otherURI.FindStringSubmatch(uri); m != nil && !slices.Contains(notTypes, m[1]) {
		return URI{&parsedURI{kind: m[1], text: uri, shown: uri}}, nil
	}
	var takes []string
	for _, k := range uriKinds {
		takes = append(takes, k.takes)
	}
	scheme, rest, ok := strings.Cut(uri, ":")
	if !ok || len(scheme) > 16 || strings.ContainsAny(scheme, "/@?") {
		scheme, rest = "", uri
	} else {
		scheme += ":"
	}
	return URI{}, badURI("got %q and %d bytes, which is no key's; it takes %s, or a backend's type and a colon before what is its own",
		scheme, len(rest), strings.Join(takes, ", "))
}

func badURI(format string, args ...any) error {
	return fmt.Errorf("managedkey: uri: %s: %w", fmt.Sprintf(format, args...), backend.ErrInvalidParams)
}

// withoutPIN returns a PKCS#11 URI without its PIN, and false if one may be left in it all the same. A pin-source stays if it
// is a reference.
func withoutPIN(uri string) (string, bool) {
	path, query, _ := strings.Cut(uri, "?")
	var kept []string
	for attribute := range strings.SplitSeq(query, "&") {
		name, value, _ := strings.Cut(attribute, "=")
		switch strings.ToLower(name) {
		case "pin-value", "":
			continue
		case "pin-source":
			source, err := url.PathUnescape(value)
			if err != nil || !strings.HasPrefix(source, "/") && !backend.Secret(strings.ToLower(source)).IsReference() {
				continue
			}
		}
		kept = append(kept, attribute)
	}
	if len(kept) > 0 {
		path += "?" + strings.Join(kept, "&")
	}
	plain, err := url.PathUnescape(path)
	if err != nil {
		plain = path
	}
	return path, !strings.Contains(strings.ToLower(plain), "pin-value")
}

// Type returns the type of the backend that the URI is for, such as "pkcs11".
func (u URI) Type() string {
	if u.parsed == nil {
		return ""
	}
	return u.parsed.kind
}

// String returns the URI without a PIN: what ParseURI read, or Google's resource name without the service before it.
func (u URI) String() string {
	if u.parsed == nil {
		return ""
	}
	return u.parsed.shown
}

// GoString returns what String returns.
func (u URI) GoString() string { return u.String() }

// MarshalText returns what String returns.
func (u URI) MarshalText() ([]byte, error) { return []byte(u.String()), nil }

// With returns the URI with what it doesn't say itself from scope, parameters of the backend: the PIN and the mechanism of a
// PKCS#11 key, the credentials of a cloud. What scope says of a key is ignored.
func (u URI) With(scope backend.Params) URI {
	if u.parsed == nil {
		return u
	}
	p := *u.parsed
	p.scope = scope
	return URI{&p}
}

// Params returns the parameters of the key for b. The error wraps backend.ErrUnsupported if b has no URIs, and
// backend.ErrInvalidParams if it can't be a key of b.
func (u URI) Params(b backend.Backend) (backend.Params, error) {
	params, err := u.params(b)
	if err != nil {
		return nil, fmt.Errorf("managedkey: uri %.300s: %w", u, err)
	}
	return params, nil
}

func (u URI) params(b backend.Backend) (backend.Params, error) {
	switch {
	case u.parsed == nil:
		return nil, fmt.Errorf("it is empty: %w", backend.ErrInvalidParams)
	case isNil(b):
		return nil, fmt.Errorf("the backend is nil: %w", backend.ErrInvalidParams)
	case b.Type() != u.parsed.kind:
		return nil, fmt.Errorf("it is of backend %q, but this one is of %q: %w", u.parsed.kind, b.Type(), backend.ErrInvalidParams)
	}
	parser, ok := b.(backend.URIParser)
	if !ok {
		return nil, fmt.Errorf("backend %q takes no URIs: %w", b.Type(), backend.ErrUnsupported)
	}
	params, err := parser.ParseURI(u.parsed.text, u.parsed.scope)
	if err == nil {
		err = matchesBackend(b, params)
	}
	if err != nil {
		return nil, err
	}
	return params, nil
}

// matchesBackend returns an error if b knows that it has no such key.
func matchesBackend(b backend.Backend, params backend.Params) error {
	if m, ok := b.(backend.Matcher); ok {
		return m.Matches(params)
	}
	return nil
}

// Open opens the key with the one of the backends that can have it. It makes no key and needs no registry: policy is not
// checked.
//
// The error wraps backend.ErrInvalidParams if none or several of the backends can have the key, or what the backend's Open
// returned.
func (u URI) Open(ctx context.Context, backends ...backend.Backend) (backend.Key, error) {
	b, params, err := u.choose(backends)
	if err != nil {
		return nil, fmt.Errorf("managedkey: open uri %.300s: %w", u, err)
	}
	key, err := b.Open(ctx, params)
	if err != nil {
		return nil, fmt.Errorf("managedkey: open uri %.300s: %w", u, err)
	}
	return key, nil
}

// choose returns the one backend that can have the key, and the key's parameters.
func (u URI) choose(backends []backend.Backend) (backend.Backend, backend.Params, error) {
	if u.parsed == nil {
		return nil, nil, fmt.Errorf("it is empty: %w", backend.ErrInvalidParams)
	}
	var chosen backend.Backend
	var params backend.Params
	var refusals, types []string
	for i, b := range backends {
		if isNil(b) || b.Type() != u.parsed.kind {
			if !isNil(b) && !slices.Contains(types, b.Type()) {
				types = append(types, b.Type())
			}
			continue
		}
		p, err := u.params(b)
		switch {
		case err != nil:
			refusals = append(refusals, fmt.Sprintf("backend %d: %v", i, err))
		case chosen != nil:
			return nil, nil, fmt.Errorf("more than one %s backend can have the key; it takes one of them alone: %w", u.parsed.kind, backend.ErrInvalidParams)
		default:
			chosen, params = b, p
		}
	}
	switch {
	case chosen != nil:
		return chosen, params, nil
	case len(refusals) > 0:
		return nil, nil, fmt.Errorf("%s: %w", strings.Join(refusals, "; "), backend.ErrInvalidParams)
	case len(types) == 0:
		types = []string{"none"}
	}
	return nil, nil, fmt.Errorf("it takes a backend of type %q; got %s: %w", u.parsed.kind, strings.Join(types, ", "), backend.ErrInvalidParams)
}

// Entry returns an entry for the key, ready for [Registry.Create]; set its Usages and switches before. Errors are those of
// Params.
func (u URI) Entry(ref namespace.Ref, b backend.Backend) (Entry, error) {
	params, err := u.Params(b)
	if err != nil {
		return Entry{}, err
	}
	return Entry{Ref: ref, Backend: b, Params: params}, nil
}
