package main

import (
	"strconv"
	"strings"
	"testing"

	"github.com/managedkeys/managedkeys/pki"
)

// TestIssuesBeside: what is filled in is stored as package pki stores certificates, all with numbers of their own, and one more is issued.
func TestIssuesBeside(t *testing.T) {
	ctx := t.Context()
	const n = 50
	csr, _, err := newRequest()
	if err != nil {
		t.Fatal(err)
	}
	smallIssuing(t)
	how, like, closeAll, err := place(t, false).issuesBeside(ctx, n, csr)
	defer closeAll()
	if err != nil {
		t.Fatal(err)
	}
	counts, err := how.authority.Count(ctx)
	if err != nil || counts != (pki.Counts{Issued: n}) {
		t.Errorf("got %+v, %v; want %d that are issued", counts, err, n)
	}
	// The root has another name, and has issued itself.
	for want, query := range map[int]pki.Query{n - 1: {Name: requestedName, Limit: 2 * n}, n: {Issuer: "root", Limit: 2 * n}} {
		page, err := how.authority.Search(ctx, query)
		if err != nil {
			t.Fatal(err)
		}
		serials := make(map[string]bool)
		for _, c := range page.Certificates {
			serials[c.Serial] = true
			if again, err := how.authority.Certificate(ctx, c.Serial); err != nil || again.Certificate.SerialNumber.Cmp(c.Certificate.SerialNumber) != 0 {
				t.Errorf("%s: got %+v, %v", c.Serial, again, err)
			}
		}
		if len(serials) != want {
			t.Errorf("%d are found by %+v; want %d", len(serials), query, want)
		}
	}
	if keys := len(like.records); keys != 4 {
		t.Errorf("a certificate has %d records", keys)
	}
	cert, err := how.sign()
	if err != nil || cert.CheckSignatureFrom(how.ca) != nil {
		t.Errorf("got %v, %v", cert, err)
	}
	if counts, err = how.authority.Count(ctx); err != nil || counts.Issued != n+1 {
		t.Errorf("got %+v, %v; want one more", counts, err)
	}
}

func TestIssuingStoredTable(t *testing.T) {
	little(t)
	smallIssuing(t)
	table := printed(t, place(t, false).issuingStored)
	for _, size := range issuingSizes {
		found := 0
		for line := range strings.Lines(table) {
			if got := strings.Fields(line); len(got) == 11 && got[1] == strconv.Itoa(size) {
				found++
				for i := range got {
					number(t, got, i)
				}
			}
		}
		if found != 1 {
			t.Errorf("%d lines of %d certificates in:\n%s", found, size, table)
		}
	}
}

// smallIssuing makes the tables of issuing do little.
func smallIssuing(t *testing.T) {
	callers, sizes, history := issuingCallers, issuingSizes, issuingHistory
	t.Cleanup(func() { issuingCallers, issuingSizes, issuingHistory = callers, sizes, history })
	issuingCallers, issuingSizes, issuingHistory = []int{3}, []int{10, 40}, 20
}
