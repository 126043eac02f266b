package fakeazure

import (
	"encoding/base64"
	"encoding/json"
	"io"
	"net/http"
	"net/url"
	"strings"
)

// request is one request to a vault.
type request struct {
	op            string // as Server.Script has it
	name, version string
	query         url.Values
	body          []byte
}

// key is how the log names the key.
func (r request) key() string {
	if r.version != "" {
		return r.name + "/" + r.version
	}
	return r.name
}

// cryptoOps are the operations at the end of /keys/{name}/{version}/{op}.
var cryptoOps = map[string]bool{
	"sign": true, "verify": true, "encrypt": true, "decrypt": true, "wrapkey": true, "unwrapkey": true,
}

// maxBody is what a request may have at most, in bytes.
const maxBody = 1 << 20

func parse(r *http.Request) (request, error) {
	req := request{query: r.URL.Query()}
	body, err := io.ReadAll(http.MaxBytesReader(nil, r.Body, maxBody))
	if err != nil {
		return req, &Error{Status: 413, Code: "RequestEntityTooLarge", Message: "the request is too large"}
	}
	req.body = body
	path := strings.Split(strings.TrimLeft(r.URL.Path, "/"), "/")
	at := func(i int) string {
		if i < len(path) {
			return path[i]
		}
		return ""
	}
	req.name, req.version = at(1), at(2)
	switch route := r.Method + " " + path[0]; {
	case route == "GET keys" && len(path) == 1:
		req.op = "list"
	case route == "GET keys" && at(2) == "versions":
		req.op, req.version = "versions", ""
	case route == "GET keys" && at(3) == "attestation":
		req.op = "attestation"
	case route == "GET keys" && len(path) <= 3:
		req.op = "get"
	case route == "POST keys" && at(2) == "create" && len(path) == 3:
		req.op, req.version = "create", ""
	case route == "PUT keys" && len(path) == 2:
		req.op = "import"
	case route == "PATCH keys" && len(path) == 3:
		req.op = "update"
	case route == "DELETE keys" && len(path) == 2:
		req.op = "delete"
	case route == "POST keys" && len(path) == 4 && cryptoOps[at(3)]:
		req.op = at(3)
	case route == "POST keys" && len(path) == 3 && cryptoOps[at(2)]: // the latest version
		req.op, req.version = at(2), ""
	case route == "POST rng":
		req.op = "rng"
	case route == "GET deletedkeys" && len(path) == 2:
		req.op = "deletedkey"
	case route == "POST deletedkeys" && at(2) == "recover":
		req.op, req.version = "recover", ""
	case route == "DELETE deletedkeys":
		req.op = "purge"
	default:
		return req, &Error{Status: 405, Code: "MethodNotAllowed", Message: "no such operation: " + r.Method + " " + r.URL.Path}
	}
	return req, nil
}

// into decodes the body. An absent body is an empty object.
func (r request) into(v any) error {
	if len(r.body) == 0 {
		return &Error{Status: 400, Code: "BadParameter", Message: "the request has no body"}
	}
	if err := json.Unmarshal(r.body, v); err != nil {
		return &Error{Status: 400, Code: "BadParameter", Message: "the body can't be parsed: " + err.Error()}
	}
	return nil
}

// octets are bytes in base64url, as the service has them.
type octets []byte

// MarshalText encodes without padding.
func (o octets) MarshalText() ([]byte, error) {
	return []byte(base64.RawURLEncoding.EncodeToString(o)), nil
}

// UnmarshalText takes padding, too.
func (o *octets) UnmarshalText(text []byte) error {
	data, err := base64.RawURLEncoding.DecodeString(strings.TrimRight(string(text), "="))
	if err != nil {
		return err
	}
	*o = append(octets{}, data...) // not nil, so that "" is told from what is not there
	return nil
}

// jwk is a key as requests and answers have it (RFC 7517).
type jwk struct {
	KID    string   `json:"kid,omitempty"`
	Kty    string   `json:"kty,omitempty"`
	KeyOps []string `json:"key_ops,omitempty"`
	Crv    string   `json:"crv,omitempty"`
	N      octets   `json:"n,omitempty"`
	E      octets   `json:"e,omitempty"`
	D      octets   `json:"d,omitempty"`
	P      octets   `json:"p,omitempty"`
	Q      octets   `json:"q,omitempty"`
	DP     octets   `json:"dp,omitempty"`
	DQ     octets   `json:"dq,omitempty"`
	QI     octets   `json:"qi,omitempty"`
	X      octets   `json:"x,omitempty"`
	Y      octets   `json:"y,omitempty"`
	K      octets   `json:"k,omitempty"`
}

// attributes are those of a key version. Times are in seconds.
type attributes struct {
	Enabled       *bool  `json:"enabled,omitempty"`
	NotBefore     *int64 `json:"nbf,omitempty"`
	Expires       *int64 `json:"exp,omitempty"`
	Created       int64  `json:"created,omitempty"`
	Updated       int64  `json:"updated,omitempty"`
	RecoveryLevel string `json:"recoveryLevel,omitempty"`
	HSMPlatform   string `json:"hsmPlatform,omitempty"`
}

func badParameter(message string) error {
	return &Error{Status: 400, Code: "BadParameter", Message: message}
}
