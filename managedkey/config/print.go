package config

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"reflect"

	"github.com/managedkeys/managedkeys/backend"
)

// prints makes fingerprints of stanzas, by which a reload sees what has changed. They are keyed, so that they say nothing of the
// secrets in them.
type prints struct{ key [32]byte }

func newPrints() *prints {
	p := new(prints)
	rand.Read(p.key[:]) // never fails
	return p
}

// of returns the fingerprint of what a block says, with the secrets that it refers to as they are now: a file with another
// credential is a change.
func (p *prints) of(s *stanza) (string, error) {
	said := make(map[string]any)
	for name, a := range s.block.args {
		said[name] = a.value
	}
	fields := make(map[string]field)
	if s.value != nil {
		fieldsOf(reflect.ValueOf(s.value).Elem(), fields)
	}
	for name, f := range fields {
		secret, ok := f.value.Interface().(backend.Secret)
		if !ok || !secret.IsReference() {
			continue
		}
		value, err := secret.Resolve()
		if err != nil {
			return "", err
		}
		said[name] = []any{string(secret), value}
	}
	return p.sum(s.block.labels[0], said)
}

func (p *prints) sum(of ...any) (string, error) {
	data, err := json.Marshal(of)
	if err != nil {
		return "", fmt.Errorf("%w: the arguments have no JSON form", backend.ErrInvalidParams)
	}
	mac := hmac.New(sha256.New, p.key[:])
	mac.Write(data)
	return string(mac.Sum(nil)), nil
}

func (p *prints) connection(c *Connection) (string, error) { return p.of(c.stanza) }

// storePrint returns the fingerprint of the store and the seal.
func (c *Config) storePrint(p *prints) (string, error) {
	var parts []any
	if c.Store != nil {
		print, err := p.of(c.Store.stanza)
		if err != nil {
			return "", failAt(c.Store.Pos, err)
		}
		parts = append(parts, []byte(print))
	}
	if c.Seal != nil {
		plain := *c.Seal
		plain.Pos, plain.key, plain.Passphrase = Pos{}, nil, ""
		parts = append(parts, plain, string(c.Seal.Passphrase))
		if c.Seal.key != nil {
			parts = append(parts, c.Seal.key.newest)
		}
	}
	return p.sum(parts...)
}
