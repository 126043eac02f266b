package pki

import (
	"context"
	"crypto"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/managedkeys/managedkeys/backend"
	"github.com/managedkeys/managedkeys/managedkey/store"
)

type keysRecord struct {
	Default string `json:"default,omitempty"`
}

// CheckKeyName returns what AddKey would say of the name for the key with that public half, and changes nothing: for those who make
// something with the key first.
func (a *Authority) CheckKeyName(ctx context.Context, pub crypto.PublicKey, name string) error {
	if err := checkKeyName(name); name == "" || err != nil {
		return err
	}
	sum, err := backend.Fingerprint(pub)
	if err != nil {
		return invalid("key name %q: %w", name, err)
	}
	return a.freeKeyName(ctx, fmt.Sprintf("%x", sum), name)
}

// freeKeyName refuses a name that another key has.
func (a *Authority) freeKeyName(ctx context.Context, id, name string) error {
	other, err := a.Key(ctx, name)
	switch {
	case errors.Is(err, store.ErrNotFound) || err == nil && other.ID == id:
		return nil
	case err != nil:
		return err
	}
	return invalid("key name %q: there is one already", name)
}

// AddKey makes a managed key known to the authority before it has an issuer or a request, so that [Authority.ImportBundle]
// recognises certificates for it. A name that isn't empty becomes the key's.
func (a *Authority) AddKey(ctx context.Context, key KeyRef, name string) (Key, error) {
	if err := checkKeyName(name); err != nil {
		return Key{}, err
	}
	handle, err := a.engine.keyAt(ctx, key)
	if err != nil {
		return Key{}, err
	}
	sum, err := backend.Fingerprint(handle.Public())
	if err != nil {
		return Key{}, fmt.Errorf("pki: key %q: %w", handle.ID(), err)
	}
	id := fmt.Sprintf("%x", sum)
	if name != "" {
		if err := a.freeKeyName(ctx, id, name); err != nil {
			return Key{}, err
		}
	}
	if err := a.remember(ctx, handle); err != nil || name == "" {
		return Key{id, handle.UUID(), handle.Version(), name}, err
	}
	return a.RenameKey(ctx, id, name)
}

// Key returns a key by id, name, or "default", which "" means as well: that of [Authority.SetDefaultKey], or else the default
// issuer's. The error wraps [store.ErrNotFound] if there is none.
func (a *Authority) Key(ctx context.Context, ref string) (Key, error) {
	id := ref
	switch {
	case ref == "" || ref == defaultRef:
		var c keysRecord
		if _, err := a.readIf(ctx, "config/keys", &c); err != nil {
			return Key{}, err
		}
		if id = c.Default; id == "" {
			issuer, err := a.Issuer(ctx, defaultRef)
			if err != nil {
				return Key{}, fmt.Errorf("pki: key %q: there is no default key: %w", defaultRef, store.ErrNotFound)
			}
			return a.keyOf(ctx, issuer.Certificate())
		}
	case !isKeyID(ref):
		if err := checkName("key", ref); err != nil {
			return Key{}, err
		}
		if _, err := a.read(ctx, "key-names/"+ref, &id); err != nil {
			return Key{}, fmt.Errorf("pki: key %q: %w", ref, cause(err))
		}
	}
	var r keyRecord
	if _, err := a.read(ctx, "keys/"+id, &r); err != nil {
		return Key{}, fmt.Errorf("pki: key %q: %w", ref, cause(err))
	}
	return Key{id, r.UUID, r.Version, r.Name}, nil
}

// isKeyID reports whether ref has the form of a key's id: 64 hexadecimal digits.
func isKeyID(ref string) bool {
	return len(ref) == 64 && strings.Trim(ref, "0123456789abcdef") == ""
}

// RenameKey gives a key a name, in place of the one that it had. An empty name takes it away.
func (a *Authority) RenameKey(ctx context.Context, ref, name string) (Key, error) {
	if err := checkKeyName(name); err != nil {
		return Key{}, err
	}
	key, err := a.Key(ctx, ref)
	if err != nil || key.Name == name {
		return key, err
	}
	var r keyRecord
	version, err := a.read(ctx, "keys/"+key.ID, &r)
	if err != nil {
		return Key{}, err
	}
	old := r.Name
	r.Name = name
	ops := []store.Op{a.put("keys/"+key.ID, store.Expect(version), r)}
	if old != "" {
		ops = append(ops, a.remove("key-names/"+old, store.Any))
	}
	if name != "" {
		if _, err := a.Key(ctx, name); err == nil {
			return Key{}, invalid("key name %q: there is one already", name)
		}
		ops = append(ops, a.put("key-names/"+name, store.Absent, key.ID))
	}
	if _, err := a.apply(ctx, ops...); err != nil {
		return Key{}, fmt.Errorf("pki: key %q: %w", ref, cause(err))
	}
	key.Name = name
	return key, nil
}

func checkKeyName(name string) error {
	if name == "" {
		return nil
	}
	if err := checkName("key name", name); err != nil {
		return err
	}
	if name == defaultRef || isKeyID(name) {
		return invalid("key name %.80q: it would be taken for %q or an id", name, defaultRef)
	}
	return nil
}

// DeleteKey has the authority forget a key, which stays what it is in its key manager and registry; what KeepSoftwareKey has stored of
// it goes. The error wraps
// [backend.ErrNotPermitted], and names the issuer, as long as an issuer, or its delegated OCSP responder, has the key.
func (a *Authority) DeleteKey(ctx context.Context, ref string) error {
	key, err := a.Key(ctx, ref)
	if err != nil {
		return err
	}
	issuers, err := a.Issuers(ctx)
	if err != nil {
		return err
	}
	for _, issuer := range issuers {
		if sum, err := backend.Fingerprint(issuer.Certificate().PublicKey); err == nil && fmt.Sprintf("%x", sum) == key.ID {
			return fmt.Errorf("pki: key %q: the issuer %s has it: %w", ref, issuer.ID, backend.ErrNotPermitted)
		}
		r, err := a.OCSPResponder(ctx, issuer.ID)
		if errors.Is(err, store.ErrNotFound) {
			continue
		}
		if err != nil {
			return err
		}
		if sum, err := backend.Fingerprint(r.Certificate.PublicKey); err == nil && fmt.Sprintf("%x", sum) == key.ID {
			return fmt.Errorf("pki: key %q: the OCSP responder of the issuer %s has it: %w", ref, issuer.ID, backend.ErrNotPermitted)
		}
	}
	ops := []store.Op{a.remove("keys/"+key.ID, store.Any)}
	if key.Name != "" {
		ops = append(ops, a.remove("key-names/"+key.Name, store.Any))
	}
	all, err := a.Keys(ctx)
	if err != nil {
		return err
	}
	if !slices.ContainsFunc(all, func(k Key) bool { return k.UUID == key.UUID && k.ID != key.ID }) {
		ops = append(ops, a.remove("software/"+key.UUID, store.Any))
	}
	if _, err := a.apply(ctx, ops...); err != nil {
		return err
	}
	return update(ctx, a, "config/keys", func(c *keysRecord, _ uint64) error {
		if c.Default != key.ID {
			return errUnchanged
		}
		c.Default = ""
		return nil
	})
}

// SetDefaultKey makes a key the one that "default" refers to.
func (a *Authority) SetDefaultKey(ctx context.Context, ref string) error {
	key, err := a.Key(ctx, ref)
	if err != nil {
		return err
	}
	return update(ctx, a, "config/keys", func(c *keysRecord, _ uint64) error {
		c.Default = key.ID
		return nil
	})
}

// KeyOf returns the key of an issuer's certificate. The error wraps [store.ErrNotFound] if it is not known here.
func (a *Authority) KeyOf(ctx context.Context, issuer *Issuer) (Key, error) {
	if issuer == nil || len(issuer.Chain) == 0 {
		return Key{}, errors.New("pki: the issuer has no certificate")
	}
	return a.keyOf(ctx, issuer.Certificate())
}
