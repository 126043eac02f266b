package main

import (
	"bytes"
	"encoding/asn1"
	"strings"
	"testing"
	"time"

	"golang.org/x/crypto/ocsp"

	"github.com/managedkeys/managedkeys/managedkey/store/memory"
)

// nonceID is id-pkix-ocsp-nonce (RFC 9654, Section 2.1).
var nonceID = asn1.ObjectIdentifier{1, 3, 6, 1, 5, 5, 7, 48, 1, 2}

// TestResponders: each contender's answer is a good one, about the certificate that was asked about, and signed by its issuer; only one has a
// nonce, and only that one and the standard one are signed each time.
func TestResponders(t *testing.T) {
	st := memory.New(nil)
	defer st.Close()
	all, closeAll, err := responders(t.Context(), st)
	defer closeAll()
	if err != nil {
		t.Fatal(err)
	}
	if len(all) != 3 {
		t.Errorf("%d contenders; want 3", len(all))
	}
	for _, how := range all {
		t.Run(how.name, func(t *testing.T) {
			first := make(map[string][]byte) // the answer by serial number
			for range ocspAsked + 1 {
				der, cert, err := how.answer()
				if err != nil {
					t.Fatal(err)
				}
				got, err := ocsp.ParseResponseForCert(der, cert, how.signer)
				if err != nil {
					t.Fatal(err)
				}
				if got.Status != ocsp.Good || got.SerialNumber.Cmp(cert.SerialNumber) != 0 || time.Until(got.NextUpdate) < time.Minute {
					t.Errorf("got status %d of %v until %v; want that of %v", got.Status, got.SerialNumber, got.NextUpdate, cert.SerialNumber)
				}
				oid, err := asn1.Marshal(nonceID)
				if err != nil {
					t.Fatal(err)
				}
				if has := bytes.Contains(der, oid); has != (how.name == "with a nonce") {
					t.Errorf("it has a nonce: %v", has)
				}
				before := first[cert.SerialNumber.String()]
				if before != nil && bytes.Equal(before, der) != (how.name == "kept") {
					t.Errorf("the answer is the one before: %v", bytes.Equal(before, der))
				}
				first[cert.SerialNumber.String()] = der
			}
		})
	}
}

func TestOCSPTable(t *testing.T) {
	brief(t)
	clients := ocspClients
	t.Cleanup(func() { ocspClients = clients })
	ocspClients = []int{3}
	table := printed(t, place(t, false).ocsp)
	var found [][]string
	for line := range strings.Lines(table) {
		if fields := strings.Fields(line); len(fields) == 6 && fields[0] == "3" {
			found = append(found, fields)
		}
	}
	if len(found) != 1 {
		t.Fatalf("%d rows; want one of 6 figures:\n%s", len(found), table)
	}
	for i := range found[0] {
		number(t, found[0], i)
	}
}
