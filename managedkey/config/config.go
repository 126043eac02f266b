package config

import (
	"encoding/json"

	"github.com/managedkeys/managedkeys/backend"
	"github.com/managedkeys/managedkeys/namespace"
)

// Config is what files say, checked. It is not modified once it was loaded, and may be shared.
//
// What the files say of secrets is shown by neither fmt nor JSON.
type Config struct {
	Connections []*Connection // kms_library blocks among them, in the order of the files, as all that follows
	Namespaces  []*Namespace
	Keys        []*Key
	Mounts      []*Mount
	Store       *Store // nil if the files have none: entries are kept in memory then
	Seal        *Seal  // nil if they have none: the store is not sealed

	Listeners []*Listener
	Audit     []*Audit
	Telemetry *Telemetry // nil if the files have none
	Policies  []*Policy
	Auth      []*Auth

	// Warnings are what is taken, and looks like a mistake.
	Warnings []Problem

	builders *Builders
}

// Connection is a connection, or kms_library, block.
type Connection struct {
	Type, Name string
	Namespaces []namespace.Path // whose entries may use it, with all the namespaces in them; nil means every one
	Pos        Pos

	stanza *stanza // never nil
}

// stanza is what a block says for the builder of its type. Behind a pointer, fmt doesn't see it.
type stanza struct {
	block *block
	value any // what the builder decoded it into; nil if there is no builder
}

// Namespace is a namespace block. If there is one, all namespaces that are named must have one.
type Namespace struct {
	Path  namespace.Path
	Prune bool // what is in exactly this namespace and in no file is removed
	Pos   Pos
}

// Key is a managed_key block.
type Key struct {
	Ref        namespace.Ref
	Type       string
	Connection string // empty if the only one that fits is meant
	Pos        Pos

	flat *flat // never nil
}

// flat is what a managed_key block says, in the form that DecodeEntry of package managedkey reads.
type flat struct {
	newest json.RawMessage
	older  []olderFlat // by number
	has    map[string]Pos
}

type olderFlat struct {
	number int
	data   json.RawMessage
	pos    Pos
}

// Mount is a mount block.
type Mount struct {
	Type        string // of the engine, such as "pki"
	Namespace   namespace.Path
	Path        string
	Allowed     []string // names of keys; nil if the block doesn't say, and grants are given elsewhere
	Description string
	Options     map[string]string // for the engine
	Pos         Pos

	described bool // the block says what the description is
}

// Store is a store block.
type Store struct {
	Type string
	Pos  Pos

	stanza *stanza
}

// Seal is a seal block.
type Seal struct {
	Type string // "passphrase" or "managed_key"
	Pos  Pos

	// Passphrase and Argon2id are those of a passphrase. Costs that are 0 are the defaults of package seal.
	Passphrase         backend.Secret
	Time, MemoryKiB    uint32
	Threads            uint8
	EncryptNames       bool   // as seal.Options.EncryptNames
	MaxValues          uint64 // as seal.Options.MaxValues
	Connection, KeyPin string // of a managed key; KeyPin is public_key_sha256 in hexadecimal, or empty

	key *flat // of a managed key
}

// Listener is a listener block. Its type is "tcp" or "unix".
type Listener struct {
	Type    string `config:"-"`
	Pos     Pos    `config:"-"`
	Address string `config:"address,required"` // host and port, or the path of a socket

	TLSDisable      bool   `config:"tls_disable"`
	TLSCertFile     string `config:"tls_cert_file"`
	TLSKeyFile      string `config:"tls_key_file"`
	TLSClientCAFile string `config:"tls_client_ca_file"` // of client certificates, which are asked for if it is set
	// TLSRequireClientCert refuses clients without a certificate of TLSClientCAFile, rather than let them show a token.
	TLSRequireClientCert bool   `config:"tls_require_and_verify_client_cert"`
	TLSMinVersion        string `config:"tls_min_version"` // "tls12", the default, or "tls13"
	SocketMode           string `config:"socket_mode"`     // octal, of a socket; "0600" by default

	ListenerLimits
}

// Audit is an audit block.
type Audit struct {
	Type string `config:"-"` // "file" or "slog"
	Pos  Pos    `config:"-"`

	Path    string         `config:"path"`     // of the file
	HMACKey backend.Secret `config:"hmac_key"` // the audit key; of a "slog", a random one of the process if empty
	AuditRotation
	FailClosed bool   `config:"fail_closed"` // refuse operations that can't be recorded
	Level      string `config:"level"`       // of slog: "debug", "info" (default), "warn" or "error"
}

// Telemetry is the telemetry block.
type Telemetry struct {
	Pos Pos `config:"-"`

	Metrics       bool     `config:"metrics"`      // collect metrics, and serve them at sys/metrics
	MetricsPublic bool     `config:"metrics_open"` // without a token
	Traces        bool     `config:"traces"`       // a span for each operation
	ServiceName   string   `config:"service_name"` // of resources
	OTLPEndpoint  string   `config:"otlp_endpoint"`
	OTLPInsecure  bool     `config:"otlp_insecure"`
	Attributes    []string `config:"attributes"` // further resource attributes, "name=value"
}

// Auth is an auth block: who may do what its policies say.
type Auth struct {
	Type, Name string `config:"-"` // "token" or "cert"; the name is that of the identity in the audit log
	Pos        Pos    `config:"-"`

	Policies  []string       `config:"policies,required"`
	Namespace namespace.Path `config:"namespace"` // that paths of the policies are in, and below which the identity stays

	// Token is a token, or TokenSHA256 its SHA-256 hash in hexadecimal.
	Token       backend.Secret `config:"token"`
	TokenSHA256 string         `config:"token_sha256"`

	// What a client certificate must have, beside a valid chain to CAFile or, if that is empty, to that of the listener: for each
	// of the lists that is not empty, one of its elements. Elements may have "*" in the place of any characters.
	CAFile            string   `config:"ca_file"`
	AllowedCommonName []string `config:"allowed_common_names"`
	AllowedDNSSANs    []string `config:"allowed_dns_sans"`
	AllowedURISANs    []string `config:"allowed_uri_sans"`
	AllowedSHA256     []string `config:"allowed_sha256"` // of the certificate in DER, hexadecimal
}
