package pkcs11

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"fmt"
	"sync"
)

// credential is a keyed hash of a PIN and what it is for, so that PINs can be compared and not be read from memory.
type credential [sha256.Size]byte

var credentialKey = sync.OnceValue(func() []byte {
	key := make([]byte, 32)
	rand.Read(key) // never fails
	return key
})

// newCredential returns the credential of pin for what.
func newCredential(pin string, what ...any) credential {
	h := hmac.New(sha256.New, credentialKey())
	fmt.Fprintf(h, "%q %q", what, pin)
	return credential(h.Sum(nil))
}

// scopeCredential is the credential of pin for the token as p names it, with which a refusal can be found without
// looking at the token.
func scopeCredential(pin string, p Params) credential {
	return newCredential(pin, "scope", p.Slot, p.TokenLabel, p.TokenSerial)
}

// refusal returns why a credential must not be tried, or nil.
func (i *instance) refusal(c credential) error {
	i.mu.Lock()
	defer i.mu.Unlock()
	return i.refused[c]
}

// refuse notes that the token refused the credentials. Trying again could lock it.
func (i *instance) refuse(err error, cs ...credential) {
	i.mu.Lock()
	defer i.mu.Unlock()
	for _, c := range cs {
		if i.refused[c] == nil {
			i.refused[c] = fmt.Errorf("pkcs11: this PIN was refused before and is not tried again until the backend is closed: %w", err)
		}
	}
}

// holds reports whether the login was made with that credential.
func (c *conn) holds(login credential) bool {
	current := c.login.Load()
	return hmac.Equal(current[:], login[:])
}

// hopeless returns why the PIN that logging in would take must not be tried, or nil.
func (c *conn) hopeless() error {
	pin, err := c.pin()
	if err != nil {
		return nil // logging in says why
	}
	return c.instance.refusal(newCredential(pin, c.id))
}

// refuse notes that the token refused a credential, until the connection ends.
func (c *conn) refuse(err error, shown credential) {
	c.instance.refuse(err, shown)
	c.mu.Lock()
	defer c.mu.Unlock()
	c.refused = append(c.refused, shown)
}

func (i *instance) forgive(cs []credential) {
	i.mu.Lock()
	defer i.mu.Unlock()
	for _, c := range cs {
		delete(i.refused, c)
	}
}
