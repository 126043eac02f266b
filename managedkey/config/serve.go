package config

import (
	"encoding/hex"
	"encoding/json"
	"maps"
	"net"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/managedkeys/managedkeys/backend"
)

// oneOf refuses a value that is none of those that are taken.
func (l *loader) oneOf(pos Pos, what, got string, all ...string) bool {
	if slices.Contains(all, got) {
		return true
	}
	l.add(pos, "%s is %.60q; %s", what, got, takes(got, all))
	return false
}

// mode refuses what is no mode of a file in octal.
func (l *loader) mode(b *block, name, value string) {
	if n, err := strconv.ParseUint(value, 8, 32); value != "" && (err != nil || n > 0o777) {
		l.add(argPos(b, name), "argument %q is %.20q; it takes an octal mode such as \"0600\"", name, value)
	}
}

// hash refuses what is no SHA-256 hash in hexadecimal.
func (l *loader) hash(b *block, name, value string) {
	if data, err := hex.DecodeString(strings.ReplaceAll(value, ":", "")); err != nil || len(data) != 32 {
		l.add(argPos(b, name), "argument %q takes a SHA-256 hash: 64 hexadecimal digits", name)
	}
}

// seal reads the seal.
func (l *loader) seal(b *block) {
	l.once(l.singles, "the", "seal", b.pos)
	s := &Seal{Type: b.labels[0], Pos: b.pos}
	if !l.oneOf(b.pos, "the type of the seal", s.Type, "managed_key", "passphrase") {
		return
	}
	l.cfg.Seal = s
	var both struct {
		EncryptNames bool   `config:"encrypt_names"`
		MaxValues    uint64 `config:"max_values"`
	}
	if s.Type == "passphrase" {
		var in struct {
			Passphrase backend.Secret `config:"passphrase,required"`
			Time       uint32         `config:"time"`
			MemoryKiB  uint32         `config:"memory_kib"`
			Threads    uint8          `config:"threads"`

			EncryptNames bool   `config:"encrypt_names"`
			MaxValues    uint64 `config:"max_values"`
		}
		l.decode(b, &in)
		s.Passphrase, s.Time, s.MemoryKiB, s.Threads, s.EncryptNames, s.MaxValues = in.Passphrase, in.Time, in.MemoryKiB, in.Threads, in.EncryptNames, in.MaxValues
		return
	}
	own := &block{kind: b.kind, labels: b.labels, pos: b.pos, args: make(map[string]*argument)}
	fields := make(map[string]any)
	s.key = &flat{has: make(map[string]Pos)}
	for name, a := range b.args {
		switch name {
		case "encrypt_names", "max_values":
			own.args[name] = a
		case "connection":
			s.Connection, _ = a.value.(string)
		case "public_key_sha256":
			s.KeyPin, _ = a.value.(string)
			l.hash(b, name, s.KeyPin)
		default:
			fields[name] = a.value
			s.key.has[name] = a.pos
		}
	}
	l.decode(own, &both)
	s.EncryptNames, s.MaxValues = both.EncryptNames, both.MaxValues
	var err error
	if s.key.newest, err = json.Marshal(fields); err != nil {
		l.add(b.pos, "%s can't be read as an object", b.describe())
	}
	if s.Connection == "" {
		l.add(argPos(b, "connection"), "%s has no argument \"connection\", which is required", b.describe())
	}
}

// sealRelations checks the seal, and that there is something to seal.
func (l *loader) sealRelations(byName map[string]*Connection) {
	s := l.cfg.Seal
	if s == nil {
		return
	}
	if l.cfg.Store == nil || l.cfg.Store.Type == "memory" {
		l.add(s.Pos, "a seal without a store that lasts: there is nothing to seal in memory")
	}
	if s.key == nil || s.Connection == "" {
		return
	}
	c := byName[s.Connection]
	if c == nil {
		l.add(s.Pos, "unknown connection %.80q; %s", s.Connection, takes(s.Connection, slices.Collect(maps.Keys(byName))))
		return
	}
	if len(c.uses()) > 0 {
		l.add(s.Pos, "connection %q is made of others; a seal key takes one of them", c.Name)
	}
	if l.with == nil || l.with.Backends[c.Type].Params == nil {
		return
	}
	p, err := l.with.Backends[c.Type].Params(s.key.newest)
	if err != nil {
		l.fail(s.Pos, err)
		return
	}
	at := &block{pos: s.Pos, args: make(map[string]*argument)}
	for name, pos := range s.key.has {
		at.args[name] = &argument{pos: pos}
	}
	l.secrets(at, p)
}

// listener reads a listener.
func (l *loader) listener(b *block) {
	in := &Listener{Type: b.labels[0], Pos: b.pos}
	l.decode(b, in)
	if !l.oneOf(b.pos, "the type of a listener", in.Type, "tcp", "unix") {
		return
	}
	l.once(l.singles, "listener", in.Type+" "+in.Address, b.pos)
	l.cfg.Listeners = append(l.cfg.Listeners, in)
	l.mode(b, "socket_mode", in.SocketMode)
	if in.TLSMinVersion != "" {
		l.oneOf(argPos(b, "tls_min_version"), "tls_min_version", in.TLSMinVersion, "tls12", "tls13")
	}
	if in.Type == "unix" {
		if !filepath.IsAbs(in.Address) || len(in.Address) > 100 {
			l.add(argPos(b, "address"), "address of a unix listener is %.120q; it takes an absolute path of at most 100 bytes", in.Address)
		}
		return
	}
	host, port, err := net.SplitHostPort(in.Address)
	if _, bad := strconv.ParseUint(port, 10, 16); err != nil || bad != nil {
		l.add(argPos(b, "address"), "address is %.80q; it takes HOST:PORT, such as \"127.0.0.1:8200\"", in.Address)
		return
	}
	files := map[string]string{"tls_cert_file": in.TLSCertFile, "tls_key_file": in.TLSKeyFile}
	l.regular(b, "tls_client_ca_file", in.TLSClientCAFile)
	for _, name := range slices.Sorted(maps.Keys(files)) {
		l.regular(b, name, files[name])
		switch {
		case in.TLSDisable && files[name] != "":
			l.add(argPos(b, name), "%q together with tls_disable; take one of them out", name)
		case !in.TLSDisable && files[name] == "":
			l.add(b.pos, "%s has no %q; without TLS, it takes tls_disable = true", b.describe(), name)
		}
	}
	if in.TLSDisable && in.TLSClientCAFile != "" || in.TLSRequireClientCert && in.TLSClientCAFile == "" {
		l.add(argPos(b, "tls_client_ca_file"), "client certificates take TLS and tls_client_ca_file")
	}
	if ip := net.ParseIP(host); in.TLSDisable && host != "localhost" && (ip == nil || !ip.IsLoopback()) {
		l.warn(argPos(b, "tls_disable"), "tokens and answers go to %s in the clear", in.Address)
	}
}

// audit reads an audit sink.
func (l *loader) audit(b *block) {
	in := &Audit{Type: b.labels[0], Pos: b.pos}
	l.decode(b, in)
	if !l.oneOf(b.pos, "the type of an audit log", in.Type, "file", "slog") {
		return
	}
	l.once(l.singles, "audit", in.Type+" "+in.Path, b.pos)
	l.cfg.Audit = append(l.cfg.Audit, in)
	l.mode(b, "mode", in.Mode)
	if in.FSync != "" {
		l.oneOf(argPos(b, "fsync"), "fsync", in.FSync, "always", "interval", "never")
	}
	if in.Level != "" {
		l.oneOf(argPos(b, "level"), "level", in.Level, "debug", "info", "warn", "error")
	}
	switch {
	case in.Type == "file" && in.Path == "":
		l.add(b.pos, "%s has no argument \"path\", which is required", b.describe())
	case in.Type == "file" && in.HMACKey == "":
		l.add(b.pos, "%s has no argument \"hmac_key\", which is required: only with its key can a file be continued and verified", b.describe())
	case in.Type == "file" && in.Level != "":
		l.add(argPos(b, "level"), "argument \"level\" is for an audit \"slog\"")
	case in.Type == "slog" && (in.Path != "" || in.AuditRotation != AuditRotation{}):
		l.add(b.pos, "an audit \"slog\" is no file; it takes hmac_key, level and fail_closed")
	}
	if in.RotateBytes < 0 || in.RotateFiles < 0 {
		l.add(b.pos, "rotate_bytes and rotate_max_files take 0 or more")
	}
}

// telemetry reads the telemetry block.
func (l *loader) telemetry(b *block) {
	l.once(l.singles, "the", "telemetry", b.pos)
	in := &Telemetry{Pos: b.pos}
	l.decode(b, in)
	for _, a := range in.Attributes {
		if name, _, ok := strings.Cut(a, "="); !ok || name == "" {
			l.add(argPos(b, "attributes"), "attribute %.60q; it takes \"name=value\"", a)
		}
	}
	l.cfg.Telemetry = in
}

// auth reads who may do something.
func (l *loader) auth(b *block) {
	in := &Auth{Type: b.labels[0], Name: b.labels[1], Pos: b.pos}
	l.decode(b, in)
	if !l.oneOf(b.pos, "the type of an auth block", in.Type, "cert", "token") {
		return
	}
	l.name(b.pos, "name of an identity", in.Name)
	l.once(l.identities, "auth", in.Type+" "+in.Name, b.pos)
	l.cfg.Auth = append(l.cfg.Auth, in)
	certificate := in.CAFile != "" || len(in.AllowedCommonName)+len(in.AllowedDNSSANs)+len(in.AllowedURISANs)+len(in.AllowedSHA256) > 0
	switch {
	case in.Type == "token" && certificate:
		l.add(b.pos, "%s has arguments of an auth \"cert\"", b.describe())
	case in.Type == "token" && (in.Token == "") == (in.TokenSHA256 == ""):
		l.add(b.pos, "%s takes one of token and token_sha256", b.describe())
	case in.Type == "cert" && (in.Token != "" || in.TokenSHA256 != ""):
		l.add(b.pos, "%s has arguments of an auth \"token\"", b.describe())
	case in.Type == "cert" && !certificate:
		l.add(b.pos, "%s lets everyone in whom the listener knows; it takes ca_file or one of the allowed_ lists", b.describe())
	}
	l.regular(b, "ca_file", in.CAFile)
	if in.TokenSHA256 != "" {
		l.hash(b, "token_sha256", in.TokenSHA256)
	}
	for _, h := range in.AllowedSHA256 {
		l.hash(b, "allowed_sha256", h)
	}
	if len(in.Policies) == 0 {
		l.add(argPos(b, "policies"), "%s has no policy, and so may do nothing", b.describe())
	}
}

// accessRelations checks what is said of policies, and that certificates can be shown.
func (l *loader) accessRelations() {
	asked := slices.ContainsFunc(l.cfg.Listeners, func(in *Listener) bool { return in.TLSClientCAFile != "" })
	for _, a := range l.cfg.Auth {
		l.declared(a.Namespace, a.Pos)
		for _, name := range a.Policies {
			if _, ok := l.policies[name]; !ok {
				l.add(a.Pos, "unknown policy %.80q; %s", name, takes(name, slices.Collect(maps.Keys(l.policies))))
			}
		}
		if a.Type == "cert" && len(l.cfg.Listeners) > 0 && !asked {
			l.add(a.Pos, "no listener asks for a client certificate; it takes tls_client_ca_file there")
		}
	}
}
