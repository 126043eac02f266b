package pki

import (
	"bytes"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"errors"
	"math/big"
	"strings"
	"testing"
	"time"

	"github.com/managedkeys/managedkeys/backend"
	"github.com/managedkeys/managedkeys/managedkey/store"
)

func (f *firm) sign(tb testing.TB, issuer string, t CRLTemplate) *x509.RevocationList {
	tb.Helper()
	crl, err := f.SignRevocationList(tb.Context(), issuer, t)
	if err != nil {
		tb.Fatal(err)
	}
	return readList(tb, f, issuer, crl)
}

// readList parses a list and checks that an issuer has signed it.
func readList(tb testing.TB, f *firm, issuer string, crl *CRL) *x509.RevocationList {
	tb.Helper()
	list, err := x509.ParseRevocationList(crl.DER)
	if err != nil {
		tb.Fatal(err)
	}
	i, err := f.Issuer(tb.Context(), issuer)
	if err != nil {
		tb.Fatal(err)
	}
	if err := list.CheckSignatureFrom(i.Certificate()); err != nil {
		tb.Error(err)
	}
	if list.Number.Int64() != crl.Number || len(list.RevokedCertificateEntries) != crl.Entries {
		tb.Errorf("the list says %v and %d entries; %+v", list.Number, len(list.RevokedCertificateEntries), crl)
	}
	return list
}

func entry(serial int64, at time.Time, reason int) x509.RevocationListEntry {
	return x509.RevocationListEntry{SerialNumber: big.NewInt(serial), RevocationTime: at, ReasonCode: reason}
}

// TestSignRevocationList: a list has what it was told and a number of the issuer's sequence, and is kept nowhere.
func TestSignRevocationList(t *testing.T) {
	f := newFirm(t, nil)
	ctx := t.Context()
	f.root(t, "p256", "root")
	first, err := f.CRL(ctx, "root")
	if err != nil {
		t.Fatal(err)
	}
	date, err := asn1.MarshalWithParams(noon.Add(-day), "generalized")
	if err != nil {
		t.Fatal(err)
	}
	private := asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 32473, 7}
	dated := entry(7, noon.Add(-time.Hour), ReasonKeyCompromise)
	dated.ExtraExtensions = []pkix.Extension{{Id: oidInvalidityDate, Value: date}}
	list := f.sign(t, "root", CRLTemplate{Validity: 10 * day, Revoked: []x509.RevocationListEntry{dated, entry(8, noon.Add(-day), 0)},
		Extensions: []pkix.Extension{{Id: private, Value: []byte{5, 0}}}})
	if list.Number.Int64() != first.Number+1 || len(list.RevokedCertificateEntries) != 2 {
		t.Errorf("number %v, %d entries", list.Number, len(list.RevokedCertificateEntries))
	}
	got := list.RevokedCertificateEntries[0]
	if got.ReasonCode != ReasonKeyCompromise || len(got.Extensions) != 2 || !bytes.Equal(got.Extensions[0].Value, date) {
		t.Errorf("got %+v", got)
	}
	if last := list.Extensions[len(list.Extensions)-1]; !last.Id.Equal(private) || last.Critical {
		t.Errorf("got %+v", last)
	}
	// One that is asked for is taken, and the issuer's own lists go on above it.
	if list := f.sign(t, "root", CRLTemplate{Number: big.NewInt(5000), Validity: day}); list.Number.Int64() != 5000 {
		t.Errorf("got %v", list.Number)
	}
	same, err := f.CRL(ctx, "root")
	if err != nil || same.Number != first.Number || same.Entries != 0 {
		t.Errorf("it was published: %+v, %v", same, err)
	}
	next, err := f.RotateCRL(ctx, "root")
	if err != nil || next.Number != 5001 || next.Entries != 0 {
		t.Errorf("got %+v, %v", next, err)
	}
	delta := f.sign(t, "root", CRLTemplate{BaseNumber: big.NewInt(5001), Validity: day, Revoked: []x509.RevocationListEntry{entry(8, noon.Add(-day), reasonRemoveFromCRL)}})
	if delta.Number.Int64() != 5002 || delta.RevokedCertificateEntries[0].ReasonCode != reasonRemoveFromCRL {
		t.Errorf("got %+v", delta)
	}
	// Whoever signs with the same key and name has the same sequence, in every process.
	if _, err := f.Reissue(ctx, "root", "again", 300*day); err != nil {
		t.Fatal(err)
	}
	g := firmOn(t, f.house, f.store, nil)
	if list := g.sign(t, "again", CRLTemplate{Validity: day}); list.Number.Int64() != 5003 {
		t.Errorf("got %v", list.Number)
	}
	// The greatest number leaves room for the issuer's own.
	f.sign(t, "root", CRLTemplate{Number: big.NewInt(maxCRLNumber), Validity: day})
	if next, err := f.RotateCRL(ctx, "root"); err != nil || next.Number != maxCRLNumber+1 {
		t.Errorf("got %+v, %v", next, err)
	}
}

// TestSignRevocationListRefused: what doesn't fit is refused with the rule, and no number is taken and nothing signed for it.
func TestSignRevocationListRefused(t *testing.T) {
	f := newFirm(t, nil)
	ctx := t.Context()
	root := f.root(t, "p256", "root")
	f.sign(t, "root", CRLTemplate{Number: big.NewInt(10), Validity: day})
	f.signed()
	huge := new(big.Int).Lsh(big.NewInt(1), 64)
	one := entry(7, noon.Add(-day), 0)
	ext := func(id asn1.ObjectIdentifier, critical bool, value []byte) []pkix.Extension {
		return []pkix.Extension{{Id: id, Critical: critical, Value: value}}
	}
	odd := one
	odd.ExtraExtensions = ext(asn1.ObjectIdentifier{2, 5, 29, 29}, true, []byte{0x30, 0})
	undated := one
	undated.ExtraExtensions = ext(oidInvalidityDate, false, []byte{5, 0})
	private := asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 32473, 7}
	for name, c := range map[string]struct {
		t    CRLTemplate
		text string
	}{
		"a number that was":     {CRLTemplate{Number: big.NewInt(10), Validity: day}, "10 is taken"},
		"one below":             {CRLTemplate{Number: big.NewInt(9), Validity: day}, "10 is taken"},
		"zero":                  {CRLTemplate{Number: big.NewInt(0), Validity: day}, "number 0"},
		"negative":              {CRLTemplate{Number: big.NewInt(-1), Validity: day}, "number -1"},
		"too great":             {CRLTemplate{Number: huge, Validity: day}, "at most"},
		"no time":               {CRLTemplate{}, "Validity or NextUpdate"},
		"a base above":          {CRLTemplate{Number: big.NewInt(20), BaseNumber: big.NewInt(20), Validity: day}, "base number"},
		"a base above the next": {CRLTemplate{BaseNumber: big.NewInt(11), Validity: day}, "base number"},
		"twice":                 {CRLTemplate{Validity: day, Revoked: []x509.RevocationListEntry{one, one}}, "that of entry 0"},
		"removed":               {CRLTemplate{Validity: day, Revoked: []x509.RevocationListEntry{entry(7, noon.Add(-day), 8)}}, "reason code 8"},
		"in the future":         {CRLTemplate{Validity: day, Revoked: []x509.RevocationListEntry{entry(7, noon.Add(day), 0)}}, "after ThisUpdate"},
		"certificateIssuer":     {CRLTemplate{Validity: day, Revoked: []x509.RevocationListEntry{odd}}, "2.5.29.29"},
		"a wrong date":          {CRLTemplate{Validity: day, Revoked: []x509.RevocationListEntry{undated}}, "GeneralizedTime"},
		"critical":              {CRLTemplate{Validity: day, Extensions: ext(private, true, []byte{5, 0})}, "critical"},
		"no DER":                {CRLTemplate{Validity: day, Extensions: ext(private, false, []byte{5, 0, 0})}, "one element"},
		"too long":              {CRLTemplate{Validity: day, Extensions: ext(private, false, append([]byte{4, 0x82, 0x20, 0}, make([]byte, 0x2000)...))}, "one element"},
		"given twice":           {CRLTemplate{Validity: day, Extensions: append(ext(private, false, []byte{5, 0}), ext(private, false, []byte{5, 0})...)}, "twice"},
		"too many":              {CRLTemplate{Validity: day, Extensions: make([]pkix.Extension, maxCRLExtensions+1)}, "at most 16"},
		"no identifier":         {CRLTemplate{Validity: day, Extensions: ext(nil, false, []byte{5, 0})}, "CRL"},
	} {
		_, err := f.SignRevocationList(ctx, "root", c.t)
		wantError(t, err, backend.ErrInvalidParams)
		if err != nil && !strings.Contains(err.Error(), c.text) {
			t.Errorf("%s: got %v; want %q", name, err, c.text)
		}
	}
	for _, id := range reservedCRLExtensions {
		_, err := f.SignRevocationList(ctx, "root", CRLTemplate{Validity: day, Extensions: ext(id, false, []byte{5, 0})})
		if !errors.Is(err, backend.ErrInvalidParams) || !strings.Contains(err.Error(), "reserved") {
			t.Errorf("%v: %v", id, err)
		}
	}
	must(t, f.house.registry.Revoke(ctx, f.mount, "p256"))
	_, err := f.SignRevocationList(ctx, "root", CRLTemplate{Validity: day})
	wantError(t, err, backend.ErrNotPermitted)
	must(t, f.house.registry.Grant(ctx, f.mount, "p256"))
	if n := f.signed(); n != 0 {
		t.Errorf("%d signatures", n)
	}
	root.Usage = IssueCertificates
	if _, err := f.UpdateIssuer(ctx, *root); err != nil {
		t.Fatal(err)
	}
	_, err = f.SignRevocationList(ctx, "root", CRLTemplate{Validity: day})
	wantError(t, err, backend.ErrNotPermitted)
	root, err = f.Issuer(ctx, "root")
	if err != nil {
		t.Fatal(err)
	}
	root.Usage = AllIssuerUsages
	if _, err := f.UpdateIssuer(ctx, *root); err != nil {
		t.Fatal(err)
	}
	if list := f.sign(t, "root", CRLTemplate{Validity: day}); list.Number.Int64() != 11 {
		t.Errorf("refused lists have taken numbers: %v", list.Number)
	}
}

// TestSignRevocationListBusy: no number is taken while the issuer's own list is being made.
func TestSignRevocationListBusy(t *testing.T) {
	now := noon
	f := newFirm(t, &Options{Now: func() time.Time { return now }})
	root := f.root(t, "p256", "root")
	who := signer(root.Certificate())
	if _, err := f.apply(t.Context(), f.put("crl/"+who, 0, crlRecord{Taken: 3, Owner: "another", Until: now.Add(crlLease)})); err != nil {
		t.Fatal(err)
	}
	_, err := f.SignRevocationList(t.Context(), "root", CRLTemplate{Validity: day})
	wantError(t, err, backend.ErrUnavailable)
	now = now.Add(crlLease) // it has died
	if list := f.sign(t, "root", CRLTemplate{Validity: day}); list.Number.Int64() != 4 {
		t.Errorf("got %v", list.Number)
	}

	wrong := crlRecord{Taken: 4, Owner: "another", Until: now.AddDate(1, 0, 0)} // by its clock, which was wrong
	if _, err := f.apply(t.Context(), f.put("crl/"+who, store.Any, wrong)); err != nil {
		t.Fatal(err)
	}
	if list := f.sign(t, "root", CRLTemplate{Validity: day}); list.Number.Int64() != 5 {
		t.Errorf("got %v", list.Number)
	}
}

// TestTurn: one does something for a while, and the others when that has passed, or when it never could have been so long.
func TestTurn(t *testing.T) {
	now := noon
	f := newFirm(t, &Options{Now: func() time.Time { return now }})
	for _, c := range []struct {
		now  time.Time
		mine bool
	}{
		{noon.AddDate(1, 0, 0), true}, // a clock that is wrong
		{noon, true}, {noon.Add(time.Minute), false}, {noon.Add(-crlSkew), false}, {noon.Add(time.Hour), true},
	} {
		now = c.now
		if mine, err := f.turn(t.Context(), "work", time.Hour); err != nil || mine != c.mine {
			t.Errorf("at %v: got %t, %v", now, mine, err)
		}
	}
}

// TestResignCRLs: lists of several clusters become one, in which what is revoked anywhere is revoked, above all of their numbers.
func TestResignCRLs(t *testing.T) {
	f := newFirm(t, nil)
	ctx := t.Context()
	root := f.root(t, "p256", "root")
	f.root(t, "p384", "other")
	list := func(t CRLTemplate) []byte {
		ca, err := f.engine.LoadCA(ctx, "p256", root.Chain)
		if err != nil {
			panic(err)
		}
		der, err := ca.CRL(ctx, t)
		if err != nil {
			panic(err)
		}
		return der
	}
	hold, gone := entry(2, noon.Add(-3*day), ReasonCertificateHold), entry(2, noon.Add(-day), ReasonKeyCompromise)
	early, late := entry(3, noon.Add(-3*day), ReasonSuperseded), entry(3, noon.Add(-2*day), ReasonSuperseded)
	date, err := asn1.MarshalWithParams(noon.Add(-4*day), "generalized")
	if err != nil {
		t.Fatal(err)
	}
	early.ExtraExtensions = []pkix.Extension{{Id: oidInvalidityDate, Value: date}}
	a := list(CRLTemplate{Number: big.NewInt(100), Validity: day, Revoked: []x509.RevocationListEntry{hold, late, entry(9, noon.Add(-day), 0)}})
	b := list(CRLTemplate{Number: big.NewInt(70), Validity: day, Revoked: []x509.RevocationListEntry{entry(1, noon.Add(-day), 0), early, gone}})
	for _, order := range [][][]byte{{a, b}, {b, a}, {a, b, a}} {
		crl, err := f.ResignCRLs(ctx, "root", order, CRLTemplate{Validity: day})
		if err != nil {
			t.Fatal(err)
		}
		made := readList(t, f, "root", crl)
		if made.Number.Int64() <= 100 || len(made.RevokedCertificateEntries) != 4 {
			t.Errorf("number %v, %d entries", made.Number, len(made.RevokedCertificateEntries))
		}
		for i, want := range []x509.RevocationListEntry{entry(1, noon.Add(-day), 0), gone, early, entry(9, noon.Add(-day), 0)} {
			got := made.RevokedCertificateEntries[i]
			if got.SerialNumber.Cmp(want.SerialNumber) != 0 || !got.RevocationTime.Equal(want.RevocationTime.Truncate(time.Second)) || got.ReasonCode != want.ReasonCode {
				t.Errorf("got %+v; want %+v", got, want)
			}
		}
		if got := made.RevokedCertificateEntries[2]; len(got.Extensions) != 2 {
			t.Errorf("the invalidity date is lost: %+v", got)
		}
	}
	base := CRLTemplate{Number: big.NewInt(60), BaseNumber: big.NewInt(50), Validity: day}
	base.Revoked = []x509.RevocationListEntry{entry(2, noon.Add(-time.Hour), reasonRemoveFromCRL)}
	removed := list(base)
	base.Revoked = []x509.RevocationListEntry{hold}
	held := list(base)
	crl, err := f.ResignCRLs(ctx, "root", [][]byte{removed, held}, CRLTemplate{BaseNumber: big.NewInt(50), Validity: day})
	if err != nil || crl.Base != 50 {
		t.Fatal(crl, err)
	}
	if got := readList(t, f, "root", crl).RevokedCertificateEntries; len(got) != 1 || got[0].ReasonCode != ReasonCertificateHold {
		t.Errorf("a hold counts more than its removal elsewhere: %+v", got)
	}

	foreign, err := f.CRL(ctx, "other")
	if err != nil {
		t.Fatal(err)
	}
	forged := bytes.Clone(a)
	forged[len(forged)-1] ^= 1
	part := list(CRLTemplate{Number: big.NewInt(1), Validity: day, DistributionPoint: []string{"http://x.example/1"}})
	big1 := list(CRLTemplate{Number: new(big.Int).Lsh(big.NewInt(1), 100), Validity: day})
	strange, err := x509.CreateRevocationList(rand.Reader, &x509.RevocationList{Number: big.NewInt(1), ThisUpdate: noon, NextUpdate: noon.Add(day),
		ExtraExtensions: []pkix.Extension{{Id: asn1.ObjectIdentifier{1, 2, 3}, Critical: true, Value: []byte{5, 0}}}}, root.Certificate(), testKeys()["p256"])
	if err != nil {
		t.Fatal(err)
	}
	lossy, err := x509.CreateRevocationList(rand.Reader, &x509.RevocationList{Number: big.NewInt(1), ThisUpdate: noon, NextUpdate: noon.Add(day),
		RevokedCertificateEntries: []x509.RevocationListEntry{{SerialNumber: big.NewInt(1), RevocationTime: noon, ExtraExtensions: []pkix.Extension{
			{Id: asn1.ObjectIdentifier{2, 5, 29, 29}, Critical: true, Value: []byte{0x30, 0}}}}}}, root.Certificate(), testKeys()["p256"])
	if err != nil {
		t.Fatal(err)
	}
	f.signed()
	for name, c := range map[string]struct {
		crls [][]byte
		t    CRLTemplate
		text string
	}{
		"none":               {nil, CRLTemplate{Validity: day}, "0 lists"},
		"too many":           {append([][]byte{a}, make65(a)...), CRLTemplate{Validity: day}, "1 to 64"},
		"no list":            {[][]byte{{0x30, 0}}, CRLTemplate{Validity: day}, "list 0: it is no CRL"},
		"another issuer's":   {[][]byte{a, foreign.DER}, CRLTemplate{Validity: day}, "list 1: it was made by"},
		"forged":             {[][]byte{forged}, CRLTemplate{Validity: day}, "has not signed"},
		"a delta list":       {[][]byte{a, held}, CRLTemplate{Validity: day}, "delta list"},
		"a complete one":     {[][]byte{a}, CRLTemplate{BaseNumber: big.NewInt(50), Validity: day}, "complete list"},
		"of a shard":         {[][]byte{part}, CRLTemplate{Validity: day}, "issuingDistributionPoint"},
		"critical":           {[][]byte{strange}, CRLTemplate{Validity: day}, "1.2.3"},
		"an indirect one":    {[][]byte{lossy}, CRLTemplate{Validity: day}, "2.5.29.29"},
		"a number too great": {[][]byte{big1}, CRLTemplate{Validity: day}, "its number is"},
		"not above theirs":   {[][]byte{a}, CRLTemplate{Number: big.NewInt(100), Validity: day}, "above 100"},
		"with entries":       {[][]byte{a}, CRLTemplate{Revoked: []x509.RevocationListEntry{hold}, Validity: day}, "has entries"},
	} {
		_, err := f.ResignCRLs(ctx, "root", c.crls, c.t)
		wantError(t, err, backend.ErrInvalidParams)
		if err != nil && !strings.Contains(err.Error(), c.text) {
			t.Errorf("%s: got %v; want %q", name, err, c.text)
		}
	}
	if n := f.signed(); n != 0 {
		t.Errorf("%d signatures", n)
	}
}

func make65(der []byte) [][]byte {
	var out [][]byte
	for range MaxResignedCRLs {
		out = append(out, der)
	}
	return out
}
