//go:build cgo

package cryptoki

import (
	"bytes"
	"crypto/ecdh"
	"crypto/rand"
	"encoding/asn1"
	"fmt"
	"testing"

	"github.com/managedkeys/managedkeys/internal/faultp11"
)

func TestFind(t *testing.T) {
	r := newRig(t)
	const pairs = 7
	for n := range pairs {
		r.generate(t, fmt.Sprint("key-", n%2))
	}
	for _, test := range []struct {
		attributes []Attribute
		want       int
	}{{nil, 2 * pairs}, {[]Attribute{{ckaClass, ckoPrivate}}, pairs}, {[]Attribute{{ckaClass, ckoPublic}, {ckaLabel, "key-1"}}, pairs / 2},
		{[]Attribute{{ckaID, []byte("key-0")}}, pairs/2 + 1}, {[]Attribute{{ckaLabel, "absent"}}, 0}} {
		if found, err := r.m.Find(r.session, test.attributes...); err != nil || len(found) != test.want {
			t.Errorf("%v: %d objects, want %d; error %v", test.attributes, len(found), test.want, err)
		}
	}
	for _, function := range []string{"C_FindObjectsInit", "C_FindObjects", "C_FindObjectsFinal"} {
		r.Set(faultp11.Rule{Function: function, Code: 0x30, Times: 1})
		_, err := r.m.Find(r.session)
		fails(t, err, function, 0x30)
		r.m.Find(r.session) // ends the search that is left open, if there is one
		if found, err := r.m.Find(r.session); function != "C_FindObjectsFinal" && (err != nil || len(found) != 2*pairs) {
			t.Errorf("after %s failed: %d objects, error %v", function, len(found), err)
		}
	}
}

// TestLies: neither a list that never ends nor absurd lengths are believed.
func TestLies(t *testing.T) {
	m, err := Load(compile(t, "liar.c"))
	must(t, err)
	_, err = m.Initialize()
	must(t, err)
	found, err := m.Find(1)
	if err != nil || len(found) != MaxObjects {
		t.Errorf("%d objects, want %d; error %v", len(found), MaxObjects, err)
	}
	for object := range Handle(2) {
		values, err := m.NewReader().Read(1, object+1, ckaClass, ckaLabel, ckaValue)
		if err != nil || len(values) != 3 || values[0] != nil || values[1] != nil || values[2] != nil {
			t.Errorf("object %d: %d values, error %v", object+1, len(values), err)
		}
	}
}

// TestReader: values of any length are read whole, and what there is not, is secret or too long is nil.
func TestReader(t *testing.T) {
	r := newRig(t)
	_, private := r.generate(t, "key")
	reader := r.m.NewReader()
	read := func(types ...uint) [][]byte {
		t.Helper()
		values, err := reader.Read(r.session, private, types...)
		must(t, err)
		if len(values) != len(types) {
			t.Fatalf("%d values, want %d", len(values), len(types))
		}
		return values
	}
	v := read(ckaLabel, ckaValue, ckaClass, 0x8000_0001, ckaID)
	if string(v[0]) != "key" || v[1] != nil || Ulong(v[2]) != uint64(ckoPrivate) || v[3] != nil || string(v[4]) != "key" {
		t.Errorf("%q", v)
	}
	for _, length := range []int{0, 1, 2, attributeRoom - 1, attributeRoom, attributeRoom + 1, 5000, maxAttribute - 1, maxAttribute} {
		value := bytes.Repeat([]byte{'v'}, length)
		r.SetAttribute("key", uint64(ckoPrivate), ckaID, value)
		if v := read(ckaLabel, ckaID, ckaValue, ckaClass); !bytes.Equal(v[1], value) || string(v[0]) != "key" || Ulong(v[3]) != uint64(ckoPrivate) {
			t.Errorf("of %d bytes %d were read, with %q and %x", length, len(v[1]), v[0], v[3])
		}
		if v := read(ckaID); !bytes.Equal(v[0], value) {
			t.Errorf("of %d bytes %d were read alone", length, len(v[0]))
		}
	}
	r.SetAttribute("key", uint64(ckoPrivate), ckaID, make([]byte, maxAttribute+1))
	if v := read(ckaID, ckaLabel); v[0] != nil || string(v[1]) != "key" {
		t.Errorf("too long a value: %d bytes, and %q", len(v[0]), v[1])
	}
	for _, length := range []uint64{attributeRoom, attributeRoom + 1, maxAttribute + 1, 1 << 31, 1 << 32, 1 << 40, 1<<63 - 1, ^uint64(0)} {
		r.AbsurdLength("key", uint64(ckoPrivate), ckaID, length)
		if v := read(ckaID, ckaLabel); v[0] != nil || string(v[1]) != "key" {
			t.Errorf("absurd length %d: %d bytes, and %q", length, len(v[0]), v[1])
		}
	}
	all := make([]uint, maxTogether)
	for i := range all {
		all[i] = ckaLabel
	}
	for i, v := range read(all...) {
		if string(v) != "key" {
			t.Errorf("value %d of many is %q", i, v)
		}
	}
}

// TestReaderFailures: modules that refuse a whole call for one attribute are asked for each alone.
func TestReaderFailures(t *testing.T) {
	r := newRig(t)
	_, private := r.generate(t, "key")
	reader := r.m.NewReader()
	r.Set(faultp11.Rule{Function: "C_GetAttributeValue", Code: rvArgumentsBad, Times: 1})
	v, err := reader.Read(r.session, private, ckaLabel, ckaValue, ckaID)
	if err != nil || string(v[0]) != "key" || v[1] != nil || string(v[2]) != "key" {
		t.Errorf("%q; error %v", v, err)
	}
	r.Set(faultp11.Rule{Function: "C_GetAttributeValue", Code: rvArgumentsBad})
	if v, err = reader.Read(r.session, private, ckaLabel); err != nil || v[0] != nil {
		t.Errorf("%q; error %v", v, err)
	}
	for _, code := range []uint64{0x30, 0xB3, 5} {
		r.Set(faultp11.Rule{Function: "C_GetAttributeValue", Code: code})
		_, err = reader.Read(r.session, private, ckaLabel)
		fails(t, err, "C_GetAttributeValue", code)
	}
	r.Set()
	_, err = reader.Read(r.session, 1<<30, ckaLabel)
	fails(t, err, "C_GetAttributeValue", 0x82)
}

func TestUlong(t *testing.T) {
	for _, b := range [][]byte{nil, {1}, make([]byte, 7), make([]byte, 16)} {
		if got := Ulong(b); got != 0 {
			t.Errorf("%x: %d", b, got)
		}
	}
	var all [8]byte
	for i := range all {
		all[i] = 0xff
	}
	if Ulong(all[:4]) != 1<<32-1 || Ulong(all[:]) != ^uint64(0) {
		t.Error("the largest numbers are read as something else")
	}
}

// TestKeys: making, wrapping, unwrapping, deriving and removing keys.
func TestKeys(t *testing.T) {
	r := newRig(t)
	session := []Attribute{{ckaClass, ckoSecret}, {ckaKeyType, uint(0x10)}, {ckaToken, false}, {ckaSensitive, false}, {ckaExtractable, true}}
	secret := []byte("a secret of 24 bytes....")
	object, err := r.m.Create(r.session, append(session[:5:5], Attribute{ckaValue, secret}))
	must(t, err)
	wrapping, err := r.m.GenerateKey(r.session, ckmAESKeyGen, []Attribute{{ckaValueLen, uint(32)}, {ckaWrap, true}, {ckaUnwrap, true}})
	must(t, err)
	wrapped, err := r.m.Wrap(r.session, ckmKWP, wrapping, object)
	must(t, err)
	must(t, r.m.Destroy(r.session, object))
	fails(t, r.m.Destroy(r.session, object), "C_DestroyObject", 0x82)
	back, err := r.m.Unwrap(r.session, ckmKWP, wrapping, wrapped, session)
	must(t, err)
	value := func(object Handle) []byte {
		t.Helper()
		values, err := r.m.NewReader().Read(r.session, object, ckaValue)
		must(t, err)
		return values[0]
	}
	if got := value(back); !bytes.Equal(got, secret) {
		t.Errorf("unwrapped %q", got)
	}
	wrapped[0] ^= 1
	if _, err := r.m.Unwrap(r.session, ckmKWP, wrapping, wrapped, session); err == nil {
		t.Error("damaged bytes were unwrapped")
	}

	public, private := r.generate(t, "ecdh", Attribute{ckaDerive, true})
	peer, err := ecdh.P256().GenerateKey(rand.Reader)
	must(t, err)
	derived, err := r.m.DeriveECDH(r.session, ckmECDH, private, peer.PublicKey().Bytes(), append(session[:5:5], Attribute{ckaValueLen, uint(32)}))
	must(t, err)
	own, err := r.publicOf(t, public).ECDH()
	must(t, err)
	want, err := peer.ECDH(own)
	must(t, err)
	if got := value(derived); !bytes.Equal(got, want) {
		t.Errorf("derived %x, want %x", got, want)
	}
	der, err := asn1.Marshal([]byte("no point"))
	must(t, err)
	if _, err := r.m.DeriveECDH(r.session, ckmECDH, private, der, session); err == nil {
		t.Error("agreed with what is no point")
	}
	for function, call := range map[string]func() error{
		"C_GenerateKeyPair": func() error { _, _, err := r.m.GenerateKeyPair(r.session, 0, nil, nil); return err },
		"C_GenerateKey":     func() error { _, err := r.m.GenerateKey(r.session, 0, nil); return err },
		"C_CreateObject":    func() error { _, err := r.m.Create(r.session, session); return err },
		"C_WrapKey":         func() error { _, err := r.m.Wrap(r.session, ckmKWP, wrapping, back); return err },
		"C_UnwrapKey":       func() error { _, err := r.m.Unwrap(r.session, ckmKWP, wrapping, wrapped, session); return err },
		"C_DeriveKey":       func() error { _, err := r.m.DeriveECDH(r.session, ckmECDH, private, der, session); return err },
		"C_DestroyObject":   func() error { return r.m.Destroy(r.session, back) },
	} {
		r.Set(faultp11.Rule{Function: function, Code: 0x31})
		fails(t, call(), function, 0x31)
	}
}
