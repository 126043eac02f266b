package pkcs11

import (
	"bytes"
	"context"
	"crypto"
	"encoding/hex"
	"fmt"
	"net/url"
	"strings"
	"sync"

	"github.com/managedkeys/managedkeys/backend"
)

// conn is the one login of this process on one token. All keys of the token and all backends share it.
type conn struct {
	module *sharedModule
	info   tokenInfo
	login  credential // of the PIN that logged in
	refs   int        // backends that use it; guarded by module.busy

	token token
	uses  map[Mechanism]mechanismUse

	// inFlight holds one item for each session of the token that is in use, so that nobody waits inside crypto11, where
	// a context does not reach.
	inFlight semaphore

	// search is held while the methods of token run that exclude each other. It guards oaep and fates.
	search semaphore
	oaep   *oaepSupport     // nil until it was tried
	fates  map[string]*fate // of the objects that handles exist for, by conn.identity
}

// fate is what becomes of an object that handles exist for. A token may give the handle of a removed object to another
// one, so removal takes mu for writing and an operation holds it for reading.
type fate struct {
	mu   sync.RWMutex
	gone bool
}

func newConn(m *sharedModule, info tokenInfo) *conn {
	return &conn{module: m, info: info, search: make(semaphore, 1), fates: make(map[string]*fate)}
}

// connect logs in. The error wraps a sentinel.
func (c *conn) connect(pin string, sessions int) error {
	t, err := c.module.module.open(c.info.slot, pin, sessions)
	if err != nil {
		return c.errorf("%w", classify(err))
	}
	uses, err := t.mechanisms()
	if err != nil {
		t.close()
		return c.errorf("%w", classify(err))
	}
	c.token, c.uses = t, uses
	c.inFlight = make(semaphore, sessions-2) // see Library.MaxSessions
	return nil
}

// errorf returns an error that names the token.
func (c *conn) errorf(format string, args ...any) error {
	return fmt.Errorf("pkcs11: token %q in slot %d: %w", c.info.label, c.info.slot, fmt.Errorf(format, args...))
}

// do calls fn, which uses a session, when there is a free one.
func (c *conn) do(ctx context.Context, fn func() error) error {
	if err := c.inFlight.acquire(ctx, "all sessions are busy"); err != nil {
		return c.errorf("%w", err)
	}
	defer c.inFlight.release()
	return fn()
}

// doResult is do for functions with a result.
func doResult[T any](ctx context.Context, c *conn, fn func() (T, error)) (out T, err error) {
	err = c.do(ctx, func() error {
		out, err = fn()
		return err
	})
	return out, err
}

// identity returns what tells the object o with this public key apart from all others of the token.
func (c *conn) identity(o object, pub crypto.PublicKey) (string, error) {
	fingerprint, err := backend.Fingerprint(pub)
	if err != nil {
		return "", err
	}
	return string(fingerprint[:]) + string(o.id) + "\x00" + o.label, nil
}

// fateOf returns the fate of the object with that identity. search is held.
func (c *conn) fateOf(identity string) *fate {
	f := c.fates[identity]
	if f == nil {
		f = new(fate)
		c.fates[identity] = f
	}
	return f
}

// name returns the object's URI (RFC 7512): what people and other programs know the key by.
func (c *conn) name(o object) string {
	parts := []string{"token=" + escape(c.info.label), "serial=" + escape(c.info.serial)}
	if len(o.id) > 0 {
		// RFC 7512, Section 2.3: ids should be percent-encoded throughout.
		id := strings.ToUpper(hex.EncodeToString(o.id))
		var b strings.Builder
		for i := 0; i < len(id); i += 2 {
			b.WriteString("%" + id[i:i+2])
		}
		parts = append(parts, "id="+b.String())
	}
	if o.label != "" {
		parts = append(parts, "object="+escape(o.label))
	}
	return "pkcs11:" + strings.Join(parts, ";") + ";type=private"
}

func escape(s string) string { return strings.ReplaceAll(url.QueryEscape(s), "+", "%20") }

// describe returns how an error message lists o.
func (o object) describe() string {
	return fmt.Sprintf("%s key with label %q and id 0x%s", o.kind, o.label, hex.EncodeToString(o.id))
}

// pick returns the one object that p names among those found. The error wraps a sentinel.
func (c *conn) pick(found []object, p Params) (object, error) {
	kind, _ := p.Mechanism.keyType()
	var fitting []object
	var there []string
	for _, o := range found {
		there = append(there, o.describe())
		if o.kind == kind {
			fitting = append(fitting, o)
		}
	}
	switch {
	case len(found) == 0:
		hint := ""
		if id, err := hex.DecodeString(p.KeyID); err == nil && len(id) > 0 {
			hint = fmt.Sprintf(" (key_id is text; hexadecimal is written 0x%s)", p.KeyID)
		}
		return object{}, c.errorf("no private key has %s%s: %w", p.wanted(), hint, backend.ErrKeyNotFound)
	case len(fitting) == 0:
		return object{}, c.errorf("mechanism: %s takes an %s key; there is: %s: %w", p.Mechanism, kind, shorten(there), backend.ErrInvalidParams)
	case len(fitting) > 1:
		return object{}, c.errorf("%d private keys have %s: %s: %w", len(fitting), p.wanted(), shorten(there), backend.ErrAmbiguousKey)
	}
	return fitting[0], nil
}

// wanted says which key p names.
func (p Params) wanted() string {
	id, _ := p.keyID() // was validated
	switch {
	case p.KeyID == "":
		return fmt.Sprintf("key_label %q", p.KeyLabel)
	case p.KeyLabel == "":
		return fmt.Sprintf("key_id 0x%x", id)
	}
	return fmt.Sprintf("key_label %q and key_id 0x%x", p.KeyLabel, id)
}

// find returns the object that p names. search is held.
func (c *conn) find(p Params) (object, error) {
	id, _ := p.keyID() // was validated
	found, err := c.token.find(id, p.KeyLabel)
	if err != nil {
		return object{}, c.errorf("%w", classify(err))
	}
	// Tokens compare in their own ways.
	exact := found[:0]
	for _, o := range found {
		if (p.KeyLabel == "" || o.label == p.KeyLabel) && (len(id) == 0 || bytes.Equal(o.id, id)) {
			exact = append(exact, o)
		}
	}
	return c.pick(exact, p)
}

// contain calls fn and turns a panic into an error. crypto11 and miekg/pkcs11 do panic on answers that they don't expect.
func contain[T any](fn func() (T, error)) (out T, err error) {
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("pkcs11: panic: %v: %w", r, backend.ErrUnavailable)
		}
	}()
	return fn()
}
