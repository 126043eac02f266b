package pkcs11

import (
	"context"
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/managedkeys/managedkeys/backend"
	"github.com/managedkeys/managedkeys/backend/pkcs11/internal/cryptoki"
	"github.com/managedkeys/managedkeys/internal/faultp11"
	"github.com/managedkeys/managedkeys/internal/softhsm"
)

// faulty is a SoftHSM2 token behind a module that misbehaves on demand.
type faulty struct {
	*faultp11.Module
	token *softhsm.Token
}

// newFaulty returns a new token. What a test makes of the module ends with it.
func newFaulty(tb testing.TB) *faulty {
	tb.Helper()
	token := softhsm.Require(tb)
	f := &faulty{faultp11.Require(tb, token.Module), token}
	tb.Cleanup(func() {
		// A backend that knows that others use the module leaves it initialised, and other tests use the same SoftHSM2.
		f.Set()
		f.Insert()
		f.Finalize()
	})
	return f
}

// connect returns a backend over the module with the rest of the stanza, closed when the test ends.
func (f *faulty) connect(tb testing.TB, lib Library) *Backend {
	tb.Helper()
	lib.Path = f.Path()
	return connectWith(tb, lib)
}

// on returns parameters of a key on P-256.
func (f *faulty) on(label string) Params { return withCurve(on(f.token, label, ECDSA), "P256") }

// oaep returns parameters of an RSA key that decrypts.
func (f *faulty) oaep(label string) Params { return withBits(on(f.token, label, RSAPKCSOAEP), 2048) }

// theConn returns the one connection of b.
func theConn(tb testing.TB, b *Backend) *conn {
	tb.Helper()
	b.mu.Lock()
	defer b.mu.Unlock()
	if len(b.held) != 1 {
		tb.Fatalf("the backend has %d connections, want 1", len(b.held))
	}
	return b.held[0]
}

// alive returns how many sessions of the pool the module knows, or -1 while calls run.
func (p *pool) alive() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.running > 0 || p.stuck > 0 {
		return -1
	}
	line, n := p.conn.line.Load(), 0
	count := func(session cryptoki.Handle) {
		if _, err := p.conn.instance.module().LoggedIn(session); err == nil {
			n++
		}
	}
	for _, w := range p.idle {
		if w.open && w.line == line {
			count(w.session)
		}
	}
	if p.spare != nil && p.spare.line == line {
		count(p.spare.session)
	}
	return n
}

// decryptsOnce decrypts with an RSA key.
func decryptsOnce(ctx context.Context, key backend.Key) error {
	message := []byte("a message")
	ciphertext, err := rsa.EncryptOAEP(crypto.SHA1.New(), rand.Reader, key.Public().(*rsa.PublicKey), message, nil)
	if err != nil {
		return err
	}
	plaintext, err := key.(backend.Decrypter).DecryptContext(ctx, ciphertext, &rsa.OAEPOptions{Hash: crypto.SHA1})
	if err != nil {
		return err
	}
	if string(plaintext) != string(message) {
		return fmt.Errorf("got the plaintext %q, want %q", plaintext, message)
	}
	return nil
}

// sentinels are what an error may be for whoever uses a key.
var sentinels = []struct {
	name string
	error
}{
	{"key changed", backend.ErrKeyChanged}, {"key not found", backend.ErrKeyNotFound}, {"ambiguous", backend.ErrAmbiguousKey},
	{"credentials", backend.ErrCredentials}, {"decryption", backend.ErrDecryption}, {"not permitted", backend.ErrNotPermitted},
	{"unsupported", backend.ErrUnsupported}, {"unavailable", backend.ErrUnavailable}, {"invalid params", backend.ErrInvalidParams},
	{"disabled", backend.ErrKeyDisabled},
}

// verdict names what the caller got.
func verdict(err error) string {
	if err == nil {
		return "ok"
	}
	for _, s := range sentinels {
		if errors.Is(err, s.error) {
			return s.name
		}
	}
	return fmt.Sprintf("untyped: %v", err)
}

// patience is how long a test waits for what should take an instant. Test machines are slow.
const patience = 20 * time.Second

// soon is how long recovery may take. It takes up to a second if the machine has time.
const soon = 5 * time.Second

// eventually waits until the condition holds, and fails the test if that takes too long.
func eventually(tb testing.TB, what string, condition func() bool) {
	tb.Helper()
	for end := time.Now().Add(patience); !condition(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			tb.Fatalf("%s: not within %v", what, patience)
		}
	}
}

// heals waits until the operation succeeds, and returns how long that took.
func heals(tb testing.TB, what string, operation func() error) time.Duration {
	tb.Helper()
	began := time.Now()
	var err error
	for time.Since(began) < patience {
		if err = operation(); err == nil {
			return time.Since(began)
		}
		time.Sleep(time.Millisecond)
	}
	tb.Fatalf("%s: still fails after %v: %v", what, patience, err)
	return 0
}

// ruleOnce is a fault that strikes once.
func ruleOnce(function string, code ckr) faultp11.Rule {
	return faultp11.Rule{Function: function, Code: uint64(code), Times: 1}
}
