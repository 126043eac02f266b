package pkcs11

import (
	"bytes"
	"crypto/rsa"
	"encoding/binary"
	"fmt"
	"strings"
	"testing"

	"github.com/managedkeys/managedkeys/backend"
	"github.com/managedkeys/managedkeys/internal/faultp11"
)

// ulongs is an attribute of CK_ULONGs as the token gives it.
func ulongs(numbers ...uint) (b []byte) {
	for _, n := range numbers {
		if ulongSize == 4 {
			b = binary.NativeEndian.AppendUint32(b, uint32(n))
		} else {
			b = binary.NativeEndian.AppendUint64(b, uint64(n))
		}
	}
	return b
}

// TestSearch: label, id and kind of key choose; what is left over is ambiguous.
func TestSearch(t *testing.T) {
	r := newRig(t)
	b := r.client(t)
	rsaKey := withBits(r.with("same", RSAPKCS), 2048)
	for id, p := range map[string]Params{
		"\x01": r.p256("same"), "\x02": r.p256("same"), "\x03": rsaKey, "\x04": r.with("same", EdDSA), "text": r.p256("other"),
		"\x05": r.p256("SAME"), "": r.p256("no id"),
	} {
		makeObject(t, b, p, id)
	}
	for _, test := range []struct {
		name, label, id string
		mechanism       Mechanism
		want            error
		says            []string
	}{
		{"two", "same", "", ECDSA, backend.ErrAmbiguousKey, []string{"2 keys", `EC key with label "same" and id 0x01`, "0x02"}},
		{"label and id", "same", "0x02", ECDSA, nil, nil},
		{"label and kind", "same", "", RSAPKCS, nil, nil},
		{"label and other kind", "same", "", EdDSA, nil, nil},
		{"id", "", "0x01", ECDSA, nil, nil},
		{"id as text", "", "text", ECDSA, nil, nil},
		{"label without id", "no id", "", ECDSA, nil, nil},
		{"label in other case", "SAME", "", ECDSA, nil, nil},
		{"label that nothing has", "Same", "", ECDSA, backend.ErrKeyNotFound, []string{`key_label "Same"`}},
		{"id of another label", "other", "0x01", ECDSA, backend.ErrKeyNotFound, []string{`key_label "other" and key_id 0x01`}},
		{"id without prefix", "", "02", ECDSA, backend.ErrKeyNotFound, []string{"hexadecimal is written 0x02"}},
		{"id of another kind", "", "0x04", ECDSA, backend.ErrInvalidParams, []string{"takes an EC key", "EdDSA key"}},
		{"part of the id", "", "0x74657874ff", ECDSA, backend.ErrKeyNotFound, nil},
	} {
		t.Run(test.name, func(t *testing.T) {
			p := r.with(test.label, test.mechanism)
			p.KeyID = test.id
			key, err := b.Open(t.Context(), p)
			if test.want != nil {
				wants(t, err, test.want, append(test.says, r.token.Label, "slot "+r.token.Slot)...)
			} else if err != nil {
				t.Error(err)
			} else {
				signsWell(t, key)
			}
		})
	}
}

// TestUnrelatedPublicKey: the public key of one pair beside the private key of another is found out.
func TestUnrelatedPublicKey(t *testing.T) {
	r := newRig(t)
	b := r.client(t)
	own := mustGenerate(t, b, r.p256("a"))
	mustGenerate(t, b, r.p256("b"))
	ofRSA := mustGenerate(t, b, withBits(r.with("rsa", RSAPKCS), 2048))
	r.SetAttribute("a", uint64(classPrivate), attrID, []byte("same"))
	r.SetAttribute("b", uint64(classPublic), attrID, []byte("same"))
	r.SetAttribute("rsa", uint64(classPublic), attrModulus, bytes.Repeat([]byte{0xff}, 256))
	connectionTo(t, b, r.p256("a")).epoch.Add(1) // what was found before is forgotten
	_, err := b.Open(t.Context(), r.p256("a"))
	wants(t, err, backend.ErrKeyChanged, "not its own", `label "a"`)

	// If both stand beside it, its own is the one that counts.
	r.SetAttribute("a", uint64(classPublic), attrID, []byte("same"))
	connectionTo(t, b, r.p256("a")).epoch.Add(1)
	if key := mustOpen(t, b, r.p256("a")); !same(key.Public(), own.Public()) {
		t.Error("opened with another public key")
	}
	// The private key of RSA knows its modulus.
	if key := mustOpen(t, b, r.with("rsa", RSAPKCS)); !same(key.Public(), ofRSA.Public()) {
		t.Error("RSA: opened with another public key")
	}
	r.HideAttribute("rsa", uint64(classPrivate), attrModulus)
	_, err = b.Open(t.Context(), r.with("rsa", RSAPKCS))
	if err == nil {
		t.Error("RSA: opened with a modulus that is not its own")
	}
}

// TestNoPermission: what the key's attributes don't allow is not tried.
func TestNoPermission(t *testing.T) {
	r := newRig(t)
	b := r.client(t)
	ec, oaep, both := r.p256("ec"), withBits(r.with("oaep", RSAPKCSOAEP), 2048), withBits(r.with("both", RSAPKCS), 2048)
	makeObject(t, b, ec, "ec", Attribute{attrSign, false})
	makeObject(t, b, oaep, "oaep", Attribute{attrDecrypt, false})
	makeObject(t, b, both, "both", Attribute{attrDecrypt, true})
	secret := withBits(r.with("secret", SHA256HMAC), 256)
	makeObject(t, b, secret, "secret", Attribute{attrSign, false})
	before := len(objectsOf(t, b, ec))
	for _, p := range []Params{ec, oaep, secret} {
		_, err := b.Open(t.Context(), p)
		wants(t, err, backend.ErrNotPermitted, fmt.Sprintf("%q", p.KeyLabel), r.token.Label)
	}
	for name, test := range map[string]struct {
		allowed []byte
		schemes []backend.Scheme
		usages  backend.Usage
	}{
		"no list":        {nil, []backend.Scheme{backend.RSAPKCS1v15, backend.RSAPSS}, backend.UsageSign | backend.UsageDecrypt},
		"PKCS#1 only":    {ulongs(uint(RSAPKCS)), []backend.Scheme{backend.RSAPKCS1v15}, backend.UsageSign},
		"PSS only":       {ulongs(uint(RSAPKCSPSS)), []backend.Scheme{backend.RSAPSS}, backend.UsageSign},
		"OAEP only":      {ulongs(uint(RSAPKCSOAEP)), nil, backend.UsageDecrypt},
		"OAEP and PSS":   {ulongs(uint(RSAPKCSOAEP), uint(RSAPKCSPSS)), []backend.Scheme{backend.RSAPSS}, backend.UsageSign | backend.UsageDecrypt},
		"half an ulong":  {append(ulongs(uint(RSAPKCSPSS)), 1, 2), []backend.Scheme{backend.RSAPSS}, backend.UsageSign},
		"something else": {ulongs(0x40), nil, 0},
	} {
		t.Run(name, func(t *testing.T) {
			r.RestoreAttributes()
			if test.allowed != nil {
				r.SetAttribute("both", uint64(classPrivate), attrAllowedMechanisms, test.allowed)
			}
			key, err := b.Open(t.Context(), both)
			if test.usages == 0 {
				wants(t, err, backend.ErrNotPermitted, "neither signing")
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			caps := key.Capabilities()
			if got := schemesOf(caps); fmt.Sprint(got) != fmt.Sprint(test.schemes) {
				t.Errorf("schemes %v, want %v", got, test.schemes)
			}
			if got := caps.Usages & (backend.UsageSign | backend.UsageDecrypt); got != test.usages {
				t.Errorf("usages %v, want %v", got, test.usages)
			}
		})
	}
	has(t, b, ec, before)
}

// schemesOf returns the signature schemes of a key in order.
func schemesOf(caps backend.Capabilities) (schemes []backend.Scheme) {
	for _, a := range caps.Signatures {
		if n := len(schemes); n == 0 || schemes[n-1] != a.Scheme {
			schemes = append(schemes, a.Scheme)
		}
	}
	return schemes
}

// TestMechanismsRemoved: a token that lacks a mechanism doesn't get keys for it, and makes none.
func TestMechanismsRemoved(t *testing.T) {
	for name, test := range map[string]struct {
		removed Mechanism
		open    Mechanism // of a key that is there
		want    error
	}{
		"ECDSA":       {ECDSA, ECDSA, backend.ErrNotPermitted},
		"EdDSA":       {EdDSA, EdDSA, backend.ErrNotPermitted},
		"OAEP":        {RSAPKCSOAEP, RSAPKCSOAEP, backend.ErrNotPermitted},
		"GCM":         {AESGCM, AESGCM, backend.ErrNotPermitted},
		"EC key pair": {ecKeyPairGen, ECDSA, nil},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t)
			b := r.client(t)
			p := map[Mechanism]Params{ECDSA: r.p256("key"), EdDSA: r.with("key", EdDSA), RSAPKCSOAEP: withBits(r.with("key", RSAPKCSOAEP), 2048),
				AESGCM: withBits(r.with("key", AESGCM), 256)}[test.open]
			makeObject(t, b, p, "key")
			if err := b.Close(); err != nil {
				t.Fatal(err)
			}
			r.RemoveMechanism(uint64(test.removed))
			b = r.client(t)
			_, err := b.Open(t.Context(), p)
			if test.want != nil {
				wants(t, err, test.want, "mechanisms of the token", `label "key"`)
			} else if err != nil {
				t.Error(err)
			}
			before := len(objectsOf(t, b, p))
			p.KeyLabel = "new"
			_, err = b.Generate(t.Context(), p, nil)
			if err == nil {
				t.Error("a key was made that can't be used")
			}
			has(t, b, p, before)
		})
	}
}

// TestHostileAttributes: nothing that a token says of a key makes a handle of anything but that key, or a panic.
func TestHostileAttributes(t *testing.T) {
	r := newRig(t)
	b := r.client(t)
	ec, rsaParams, ed, aes := r.p256("ec"), withBits(r.with("rsa", RSAPKCS), 2048), r.with("ed", EdDSA), withBits(r.with("aes", AESGCM), 256)
	for _, p := range []Params{ec, rsaParams, ed, aes} {
		mustGenerate(t, b, p)
	}
	before := len(objectsOf(t, b, ec))
	n := mustOpen(t, b, rsaParams).Public().(*rsa.PublicKey).N
	p256, err := ecParams("P256")
	if err != nil {
		t.Fatal(err)
	}
	huge := bytes.Repeat([]byte{0xff}, 60000)
	values := map[uint][][]byte{
		attrECParams:       {{}, {6}, {6, 200, 1}, {5, 0}, p256[:len(p256)-1], append(p256[:len(p256):len(p256)], 0), huge, {6, 5, 0x2b, 0x81, 4, 0, 34}},
		attrECPoint:        {{}, {4}, {4, 0}, {4, 1, 0}, bytes.Repeat([]byte{4}, 65), append([]byte{4, 65, 4}, make([]byte, 64)...), huge, make([]byte, 32)},
		attrModulus:        {{1}, {0}, make([]byte, 256), {2}, bytes.Repeat([]byte{0xff}, 256), bytes.Repeat([]byte{0xff}, 4096), n.Bytes()[1:], append([]byte{1}, n.Bytes()...), huge},
		attrPublicExponent: {{}, {0}, {1}, {2}, {3}, {1, 0, 0, 0, 0, 0, 0, 0, 1}, huge},
		attrKeyType:        {{}, {1}, ulongs(0x99), ulongs(uint(keyMLDSA)), huge},
		attrClass:          {{}, ulongs(99), ulongs(uint(classCertificate)), huge},
		attrPublicKeyInfo:  {{1, 2, 3}, huge},
		attrValueLen:       {ulongs(1 << 30), ulongs(^uint(0)), {1}, huge},
		attrSign:           {{}, {2, 2}, huge},
		attrID:             {huge},
		attrLabel:          {{}, huge, {0xff, 0xfe}},
	}
	for _, p := range []Params{ec, rsaParams, ed, aes} {
		public := mustOpen(t, b, p).Public()
		try := func(what string) {
			t.Helper()
			connectionTo(t, b, p).epoch.Add(1)
			key, err := b.Open(t.Context(), p)
			switch {
			case err == nil && public != nil && !same(key.Public(), public):
				t.Errorf("%s: %s: opened as another key", p.KeyLabel, what)
			case err != nil && (!isSentinel(err) || strings.Contains(err.Error(), "panic")):
				t.Errorf("%s: %s: %v", p.KeyLabel, what, err)
			case err != nil && len(err.Error()) > 2000:
				t.Errorf("%s: %s: the error has %d bytes", p.KeyLabel, what, len(err.Error()))
			}
			r.RestoreAttributes()
		}
		for attribute, list := range values {
			for _, class := range []class{classPublic, classPrivate, classSecret} {
				for i, value := range list {
					r.SetAttribute(p.KeyLabel, uint64(class), uint64(attribute), value)
					try(fmt.Sprintf("%v attribute 0x%x as value %d", class, attribute, i))
				}
				for _, length := range []uint64{1 << 40, 1<<63 - 1, 65537, 1032} {
					r.AbsurdLength(p.KeyLabel, uint64(class), uint64(attribute), length)
					try(fmt.Sprintf("%v attribute 0x%x of length %d", class, attribute, length))
				}
				r.HideAttribute(p.KeyLabel, uint64(class), uint64(attribute))
				try(fmt.Sprintf("%v attribute 0x%x hidden", class, attribute))
			}
		}
		connectionTo(t, b, p).epoch.Add(1)
		mustOpen(t, b, p)
	}
	has(t, b, ec, before)
}

// TestForbiddenMeanwhile: a token that says once that a key may not sign is asked again, after the key was looked up; one that
// means it is believed.
func TestForbiddenMeanwhile(t *testing.T) {
	r := newRig(t)
	b := r.client(t)
	key := mustGenerate(t, b, r.p256("key"))
	for _, function := range []string{"C_SignInit", "C_Sign"} {
		r.ResetCounts()
		r.Set(faultp11.Rule{Function: function, Code: uint64(ckrKeyFunctionNotPermitted), Times: 1})
		signsWell(t, key)
		if n := r.Count("C_FindObjectsInit"); n != 1 {
			t.Errorf("%s: %d searches, want 1", function, n)
		}
		r.failing(function, ckrKeyFunctionNotPermitted)
		for range 3 {
			r.ResetCounts()
			wants(t, signOnce(t.Context(), key), backend.ErrNotPermitted, function, "CKR_KEY_FUNCTION_NOT_PERMITTED", r.token.Label)
			if n := r.Count("C_SignInit"); n > 4 {
				t.Errorf("%s: %d signatures were begun for one", function, n)
			}
		}
		r.Set()
		signsWell(t, key)
	}
	if n := r.Count("C_Login"); n != 0 {
		t.Errorf("%d logins", n)
	}
}
