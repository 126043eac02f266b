package pki

import (
	"context"
	"crypto"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/json"
	"errors"
	"fmt"
	"math/big"
	"reflect"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/managedkeys/managedkeys/managedkey/store"
)

// heldRole is a role as it is stored, with what its certificates have in common. It must not be modified.
type heldRole struct {
	Role
	usage   x509.KeyUsage
	known   []x509.ExtKeyUsage
	unknown []asn1.ObjectIdentifier
	err     error // why there can't be a certificate

	extensions sync.Map // []pkix.Extension by x509.KeyUsage
}

// role returns a role as the store has it now.
func (a *Authority) role(ctx context.Context, name string) (*heldRole, error) {
	if err := checkName("role", name); err != nil {
		return nil, err
	}
	record, err := a.store.Get(ctx, a.prefix+"roles/"+name)
	if err != nil {
		return nil, fmt.Errorf("pki: role %q: %w", name, err)
	}
	return recall(&a.recalled, record, func(record store.Record) (*heldRole, error) {
		role := Role{Name: name}
		if err := json.Unmarshal(record.Value, &role); err != nil {
			return nil, fmt.Errorf("pki: role %q: %w: %w", name, store.ErrCorrupt, err)
		}
		role.Version = record.Version
		return holdRole(role), nil
	})
}

func holdRole(role Role) *heldRole {
	h := &heldRole{Role: role}
	if h.usage, h.err = keyUsages(role.KeyUsage); h.err == nil {
		h.known, h.unknown, h.err = role.extKeyUsages()
	}
	return h
}

// clone returns the role as one that its owner may modify.
func (h *heldRole) clone() Role {
	out := h.Role
	for _, field := range reflect.ValueOf(&out).Elem().Fields() {
		if field.Kind() == reflect.Slice && !field.IsNil() {
			field.Set(reflect.AppendSlice(reflect.MakeSlice(field.Type(), 0, field.Len()), field))
		}
	}
	return out
}

// fixed returns the extensions that all certificates of the role with that key usage have, as crypto/x509 writes them, so that they
// are not encoded for each.
func (h *heldRole) fixed(usage x509.KeyUsage) ([]pkix.Extension, error) {
	if made, ok := h.extensions.Load(usage); ok {
		return made.([]pkix.Extension), nil
	}
	t := &x509.Certificate{
		SerialNumber: big.NewInt(1), NotBefore: time.Unix(0, 0), NotAfter: time.Unix(0, 0),
		BasicConstraintsValid: true, MaxPathLen: -1, KeyUsage: usage, ExtKeyUsage: h.known, UnknownExtKeyUsage: h.unknown,
	}
	if len(h.PolicyIdentifiers) > 0 {
		policies, err := h.PolicyIdentifiers.extension()
		if err != nil {
			return nil, err
		}
		t.ExtraExtensions = []pkix.Extension{policies}
	}
	// Nothing else of this certificate matters, and nobody signs it.
	nobody := ed25519.PublicKey(make([]byte, ed25519.PublicKeySize))
	c := &capture{pub: nobody}
	if _, err := x509.CreateCertificate(rand.Reader, t, t, nobody, c); !errors.Is(err, errCaptured) {
		return nil, invalid("role %s: extensions: %w", h.Name, err)
	}
	cert, err := x509.ParseCertificate(wrapSigned(c.tbs, []byte{0x30, 5, 0x06, 3, 0x2b, 101, 112}, nil)) // id-Ed25519 (RFC 8410, Section 3)
	if err != nil {
		return nil, invalid("role %s: extensions: %w", h.Name, err)
	}
	h.extensions.Store(usage, cert.Extensions)
	return cert.Extensions, nil
}

// template returns the certificate that a leaf will be.
func (l *leaf) template(h *heldRole, pub crypto.PublicKey, urls URLs) (*x509.Certificate, error) {
	if h.err != nil {
		return nil, h.err
	}
	usage := usableWith(h.usage, pub)
	if usage == 0 {
		return nil, h.refuse("key_usage", strings.Join(h.KeyUsage, ","), "a key of this kind can have none of them")
	}
	fixed, err := h.fixed(usage)
	if err != nil {
		return nil, err
	}
	t := &x509.Certificate{
		Subject: l.subject, DNSNames: l.names.dns, IPAddresses: l.names.ip, EmailAddresses: l.names.email, URIs: l.names.uri,
		BasicConstraintsValid: true, MaxPathLen: -1, KeyUsage: usage, ExtKeyUsage: h.known, UnknownExtKeyUsage: h.unknown,
		ExtraExtensions: slices.Clip(fixed),
	}
	urls.into(t)
	if len(l.others) > 0 {
		san, err := sanExtension(l.names, l.others, isEmpty(l.subject))
		if err != nil {
			return nil, err
		}
		t.ExtraExtensions = append(t.ExtraExtensions, san)
	}
	return t, nil
}
