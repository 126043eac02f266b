package pki

import (
	"bytes"
	"crypto/x509"
	"fmt"
	"math/big"
	"strings"
	"testing"
)

// TestCRLCache: the lists that were used last are kept, as many as there is room for, and the last one whatever its length.
func TestCRLCache(t *testing.T) {
	var c crlCache
	list := func(i int) []byte { return bytes.Repeat([]byte{byte(i)}, maxCachedCRLs/4) }
	for i := range 5 {
		c.put(fmt.Sprint(i), []byte{1}, list(i))
		c.get("0", []byte{1})
	}
	for i, want := range []bool{true, false, true, true, true} {
		if got := c.get(fmt.Sprint(i), []byte{1}); bytes.Equal(got, list(i)) != want {
			t.Errorf("list %d is kept: %v; want %v", i, got != nil, want)
		}
	}
	if c.get("4", []byte{2}) != nil {
		t.Error("a list with another hash was returned")
	}
	c.put("4", []byte{2}, list(4))
	if c.size != maxCachedCRLs {
		t.Errorf("%d bytes; one replaced another", c.size)
	}
	c.put("long", []byte{1}, make([]byte, 2*maxCachedCRLs))
	if c.get("long", []byte{1}) == nil || len(c.lists) != 1 || c.size != 2*maxCachedCRLs {
		t.Errorf("%d lists of %d bytes; want the last one", len(c.lists), c.size)
	}
	c.put("short", []byte{1}, make([]byte, 10, 1000))
	if got := c.get("short", []byte{1}); len(got) != 10 || cap(got) > 100 || len(c.lists) != 1 {
		t.Errorf("%d bytes in %d", len(got), cap(got))
	}
}

// TestEntryList: what surrounds the entries has room whatever their number and its length, and the buffer that was made for a list is the
// one that is returned.
func TestEntryList(t *testing.T) {
	for _, name := range []int{10, 2000} {
		for _, n := range []int{0, 1, 3, 100, 5000} {
			template := rootTemplate()
			h := newHouse(t, nil)
			template.Subject.OrganizationalUnit = nil
			for range name / 50 {
				template.Subject.OrganizationalUnit = append(template.Subject.OrganizationalUnit, strings.Repeat("x", 50))
			}
			ca := mustRoot(t, h, "p256", template)
			list := CRLTemplate{Number: big.NewInt(1), Validity: day}
			for i := range n {
				list.Revoked = append(list.Revoked, x509.RevocationListEntry{SerialNumber: big.NewInt(int64(i + 1)), RevocationTime: noon, ReasonCode: i % 2})
			}
			der, err := ca.CRL(t.Context(), list)
			if err != nil {
				t.Fatal(err)
			}
			crl, err := x509.ParseRevocationList(der)
			if err != nil {
				t.Fatalf("%d entries: %v", n, err)
			}
			if err := crl.CheckSignatureFrom(ca.Certificate()); err != nil || len(crl.RevokedCertificateEntries) != n || !bytes.Equal(crl.RawIssuer, ca.cert.RawSubject) {
				t.Errorf("%d entries; want %d: %v", len(crl.RevokedCertificateEntries), n, err)
			}
			for i, e := range crl.RevokedCertificateEntries {
				if e.SerialNumber.Int64() != int64(i+1) || e.ReasonCode != i%2 {
					t.Fatalf("entry %d is %v", i, e)
				}
			}
		}
	}
	var l entryList
	l.reserve(1000)
	front := &l.buf[0]
	for range 20 {
		l.put(make([]byte, 50), 1)
	}
	der, err := l.wrap([]byte{1}, []byte{2}, []byte{3}, func(tbs []byte) ([]byte, error) { return tbs[:5], nil }, nil)
	if end := func(b []byte) *byte { return &b[:cap(b)][cap(b)-1] }; err != nil || &l.buf[0] != front || end(der) != end(l.buf) {
		t.Error("it was copied", err)
	}
}
