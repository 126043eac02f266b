package pki

import (
	"bytes"
	"crypto/x509"
	"encoding/asn1"
	"math/big"
	"testing"
	"time"

	"github.com/managedkeys/managedkeys/backend"
)

func crlTemplate() CRLTemplate {
	return CRLTemplate{
		Number: big.NewInt(7), Validity: 10 * day,
		Revoked: []x509.RevocationListEntry{
			{SerialNumber: big.NewInt(2), RevocationTime: noon, ReasonCode: 1},
			{SerialNumber: big.NewInt(1), RevocationTime: noon.Add(-time.Hour)},
		},
	}
}

func TestCRL(t *testing.T) {
	for _, key := range []string{"rsa", "p256", "p384", "p521", "ed25519"} {
		t.Run(key, func(t *testing.T) {
			h := newHouse(t, nil)
			ca := mustRoot(t, h, key, rootTemplate())
			h.signed()
			der, err := ca.CRL(t.Context(), crlTemplate())
			if err != nil {
				t.Fatal(err)
			}
			if n := h.signed(); n != 1 {
				t.Errorf("it took %d signatures; want 1", n)
			}
			crl, err := x509.ParseRevocationList(der)
			if err != nil {
				t.Fatal(err)
			}
			if err := crl.CheckSignatureFrom(ca.Certificate()); err != nil {
				t.Error(err)
			}
			this := noon.Truncate(time.Second)
			if crl.Number.Int64() != 7 || !crl.ThisUpdate.Equal(this) || !crl.NextUpdate.Equal(this.Add(10*day)) || !bytes.Equal(crl.AuthorityKeyId, ca.cert.SubjectKeyId) {
				t.Errorf("number %d, %s to %s", crl.Number, crl.ThisUpdate, crl.NextUpdate)
			}
			first, second := crl.RevokedCertificateEntries[0], crl.RevokedCertificateEntries[1]
			if first.ReasonCode != 1 || first.SerialNumber.Int64() != 2 || len(second.Extensions) != 0 || !second.RevocationTime.Equal(this.Add(-time.Hour)) {
				t.Errorf("entries: %+v", crl.RevokedCertificateEntries)
			}
		})
	}
	t.Run("empty", func(t *testing.T) {
		h := newHouse(t, nil)
		ca := mustRoot(t, h, "p256", rootTemplate())
		template := crlTemplate()
		template.Revoked = nil
		der, err := ca.CRL(t.Context(), template)
		if err != nil {
			t.Fatal(err)
		}
		if crl, err := x509.ParseRevocationList(der); err != nil || len(crl.RevokedCertificateEntries) != 0 {
			t.Errorf("got %v, %v", crl, err)
		}
	})
}

func TestCRLRefused(t *testing.T) {
	h := newHouse(t, nil)
	ca := mustRoot(t, h, "p256", rootTemplate())
	wide := new(big.Int).Lsh(big.NewInt(1), 159)
	entry := func(change func(*x509.RevocationListEntry)) func(*CRLTemplate) {
		return func(t *CRLTemplate) { change(&t.Revoked[1]) }
	}
	for name, c := range map[string]struct {
		change   func(*CRLTemplate)
		sentinel error
		text     string
	}{
		"no number":       {func(t *CRLTemplate) { t.Number = nil }, backend.ErrInvalidParams, "number <nil>"},
		"number 0":        {func(t *CRLTemplate) { t.Number = new(big.Int) }, backend.ErrInvalidParams, "number 0; it takes positive"},
		"negative number": {func(t *CRLTemplate) { t.Number = big.NewInt(-1) }, backend.ErrInvalidParams, "number -1"},
		"wide number":     {func(t *CRLTemplate) { t.Number = wide }, backend.ErrInvalidParams, "159 bits"},
		"no end":          {func(t *CRLTemplate) { t.Validity = 0 }, backend.ErrInvalidParams, "either Validity or NextUpdate"},
		"two ends":        {func(t *CRLTemplate) { t.NextUpdate = noon.Add(day) }, backend.ErrInvalidParams, "either Validity or NextUpdate"},
		"negative":        {func(t *CRLTemplate) { t.Validity = -day }, backend.ErrInvalidParams, "is not after ThisUpdate"},
		"expired":         {func(t *CRLTemplate) { t.ThisUpdate, t.Validity = noon.Add(-20*time.Second), 10*time.Second }, backend.ErrInvalidParams, "NextUpdate 2026-03-01T11:59:50Z has passed"},
		"future":          {func(t *CRLTemplate) { t.ThisUpdate = noon.Add(day) }, backend.ErrInvalidParams, "in the future"},
		"before the CA":   {func(t *CRLTemplate) { t.ThisUpdate = noon.Add(-day) }, backend.ErrInvalidParams, "outside the validity of the CA"},
		"year 10000":      {func(t *CRLTemplate) { t.Validity, t.NextUpdate = 0, noon.AddDate(8000, 0, 0) }, backend.ErrInvalidParams, "year 10026"},
		"no serial":       {entry(func(e *x509.RevocationListEntry) { e.SerialNumber = nil }), backend.ErrInvalidParams, "entry 1: serial number <nil>"},
		"serial 0":        {entry(func(e *x509.RevocationListEntry) { e.SerialNumber = new(big.Int) }), backend.ErrInvalidParams, "entry 1: serial number 0"},
		"negative serial": {entry(func(e *x509.RevocationListEntry) { e.SerialNumber = big.NewInt(-5) }), backend.ErrInvalidParams, "entry 1: serial number -5"},
		"wide serial":     {entry(func(e *x509.RevocationListEntry) { e.SerialNumber = wide }), backend.ErrInvalidParams, "entry 1"},
		"serial twice":    {entry(func(e *x509.RevocationListEntry) { e.SerialNumber = big.NewInt(2) }), backend.ErrInvalidParams, "entry 1: serial number 2 is that of entry 0"},
		"no time":         {entry(func(e *x509.RevocationListEntry) { e.RevocationTime = time.Time{} }), backend.ErrInvalidParams, "no revocation time"},
		"revoked later":   {entry(func(e *x509.RevocationListEntry) { e.RevocationTime = noon.Add(time.Second) }), backend.ErrInvalidParams, "is after ThisUpdate"},
		"linted":          {entry(func(e *x509.RevocationListEntry) { e.RevocationTime = time.Unix(0, 0) }), backend.ErrInvalidParams, "e_crl_revocation_date_too_early"},
		"reason 7":        {entry(func(e *x509.RevocationListEntry) { e.ReasonCode = 7 }), backend.ErrInvalidParams, "reason code 7; it takes one of [0 1 2 3 4 5 6 9 10]"},
		"removeFromCRL":   {entry(func(e *x509.RevocationListEntry) { e.ReasonCode = 8 }), backend.ErrInvalidParams, "reason code 8"},
		"negative reason": {entry(func(e *x509.RevocationListEntry) { e.ReasonCode = -1 }), backend.ErrInvalidParams, "reason code -1"},
		"algorithm":       {func(t *CRLTemplate) { t.SignatureAlgorithm = x509.PureEd25519 }, backend.ErrUnsupported, "it takes ECDSA-SHA256"},
	} {
		t.Run(name, func(t *testing.T) {
			h.signed()
			template := crlTemplate()
			c.change(&template)
			crl, err := ca.CRL(t.Context(), template)
			wantError(t, err, c.sentinel, c.text)
			if crl != nil || h.signed() != 0 {
				t.Error("something was signed")
			}
		})
	}
}

// parseTBSList returns the CRL whose content is tbs, with an empty signature; nil if it is a certificate's.
func parseTBSList(tbs []byte) *x509.RevocationList {
	ed25519 := asn1.RawValue{FullBytes: []byte{0x30, 5, 6, 3, 0x2b, 0x65, 0x70}}
	der, err := asn1.Marshal(signedObject{asn1.RawValue{FullBytes: tbs}, ed25519, asn1.BitString{Bytes: make([]byte, 64), BitLength: 512}})
	if err != nil {
		return nil
	}
	list, err := x509.ParseRevocationList(der)
	if err != nil {
		return nil
	}
	return list
}
