package httpapi

import (
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"sync"
	"time"

	"github.com/managedkeys/managedkeys/namespace"
)

// Token is a static token of [Tokens]. It holds the hash and not the token, so that a configuration with tokens opens nothing.
type Token struct {
	SHA256    string // of the token, in hexadecimal: see HashToken
	Accessor  string // names the token for Revoke and in records; derived from the hash if it is empty
	Name      string // for people
	Namespace namespace.Path
	Policies  []string
	Created   time.Time // zero if unknown
	Expires   time.Time // zero if never
}

// NewToken returns a new token with 256 bits of randomness, and its hash.
func NewToken() (token, hash string) {
	secret := make([]byte, 32)
	rand.Read(secret) // never fails
	token = "mk." + base64.RawURLEncoding.EncodeToString(secret)
	return token, HashToken(token)
}

// HashToken returns the SHA-256 of a token in hexadecimal. It protects tokens that can't be guessed, such as those of [NewToken].
func HashToken(token string) string {
	sum := sha256.Sum256([]byte(token))
	return hex.EncodeToString(sum[:])
}

// Tokens is an Authenticator of requests with a token in X-Vault-Token or Authorization: Bearer. Its methods are safe for concurrent
// use; what they change holds for the next request.
type Tokens struct {
	now func() time.Time

	mu  sync.RWMutex
	all map[[sha256.Size]byte]*heldToken
}

type heldToken struct {
	hash [sha256.Size]byte
	id   Identity
}

// NewTokens returns an Authenticator that takes these tokens. The error is that of [Tokens.Add].
func NewTokens(all ...Token) (*Tokens, error) {
	t := &Tokens{now: time.Now, all: make(map[[sha256.Size]byte]*heldToken)}
	return t, t.Replace(all...)
}

// Add adds a token. The error names the field that is malformed, or says that there is a token of that hash or accessor.
func (t *Tokens) Add(token Token) error {
	held, err := token.held()
	if err != nil {
		return err
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	return put(t.all, held)
}

// Replace has the tokens be these and no others. If there is an error, nothing changes.
func (t *Tokens) Replace(all ...Token) error {
	next := make(map[[sha256.Size]byte]*heldToken, len(all))
	for i, token := range all {
		held, err := token.held()
		if err == nil {
			err = put(next, held)
		}
		if err != nil {
			return fmt.Errorf("token %d: %w", i, err)
		}
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.all = next
	return nil
}

func put(all map[[sha256.Size]byte]*heldToken, held *heldToken) error {
	if all[held.hash] != nil {
		return fmt.Errorf("httpapi: token %q: there is one with that hash", held.id.ID)
	}
	for _, other := range all {
		if other.id.ID == held.id.ID {
			return fmt.Errorf("httpapi: token %q: there is one with that accessor", held.id.ID)
		}
	}
	all[held.hash] = held
	return nil
}

func (token *Token) held() (*heldToken, error) {
	var held heldToken
	hash, err := hex.DecodeString(token.SHA256)
	if err != nil || len(hash) != sha256.Size {
		return nil, errors.New("httpapi: token: field SHA256 takes 64 hexadecimal digits")
	}
	copy(held.hash[:], hash)
	accessor := token.Accessor
	if accessor == "" { // tells nothing of the hash
		sum := sha256.Sum256(append([]byte("accessor "), hash...))
		accessor = hex.EncodeToString(sum[:12])
	}
	if len(accessor) > 128 || len(token.Name) > 128 {
		return nil, errors.New("httpapi: token: fields Accessor and Name take at most 128 bytes")
	}
	if err := token.Namespace.Validate(); err != nil {
		return nil, fmt.Errorf("httpapi: token %q: field Namespace: %w", accessor, err)
	}
	held.id = Identity{ID: accessor, Name: token.Name, Namespace: token.Namespace, Policies: slices.Clone(token.Policies), Created: token.Created, Expires: token.Expires}
	return &held, nil
}

// Revoke takes away the token with that accessor, and reports whether there was one.
func (t *Tokens) Revoke(accessor string) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	for hash, held := range t.all {
		if held.id.ID == accessor {
			delete(t.all, hash)
			return true
		}
	}
	return false
}

// Authenticate implements [Authenticator]. The token is found by its hash, of which time tells nothing about the token. Beside the error
// about a token that has expired is whose it was.
func (t *Tokens) Authenticate(r *http.Request) (*Identity, error) {
	token, err := tokenOf(r.Header)
	if err != nil {
		return nil, err
	}
	if token == "" {
		return nil, ErrNoCredentials
	}
	hash := sha256.Sum256([]byte(token))
	t.mu.RLock()
	held := t.all[hash]
	t.mu.RUnlock()
	if held == nil || subtle.ConstantTimeCompare(held.hash[:], hash[:]) != 1 {
		return nil, fmt.Errorf("%w: unknown token", ErrDenied)
	}
	if !held.id.Expires.IsZero() && !t.now().Before(held.id.Expires) {
		return &held.id, fmt.Errorf("%w: expired token", ErrDenied)
	}
	return &held.id, nil
}
