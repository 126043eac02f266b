package pki

import (
	"bytes"
	"crypto"
	"encoding/asn1"
	"encoding/hex"
	"math/big"
	"strings"
	"testing"

	"golang.org/x/crypto/cryptobyte"
	cbasn1 "golang.org/x/crypto/cryptobyte/asn1"
	"golang.org/x/crypto/ocsp"

	"github.com/managedkeys/managedkeys/backend"
)

// seq returns a constructed element with that tag and content, each part in hexadecimal.
func seq(tag cbasn1.Tag, parts ...string) string {
	var b cryptobyte.Builder
	b.AddASN1(tag, func(b *cryptobyte.Builder) {
		for _, part := range parts {
			der, err := hex.DecodeString(part)
			if err != nil {
				panic(err)
			}
			b.AddBytes(der)
		}
	})
	return hex.EncodeToString(b.BytesOrPanic())
}

// Parts of requests in hexadecimal.
var (
	hexSHA1   = "300906052b0e03021a0500"
	hexName   = seq(cbasn1.OCTET_STRING, strings.Repeat("aa", 20))
	hexKey    = seq(cbasn1.OCTET_STRING, strings.Repeat("bb", 20))
	hexID     = seq(cbasn1.SEQUENCE, hexSHA1, hexName, hexKey, "020105")
	hexOne    = seq(cbasn1.SEQUENCE, hexID)
	hexList   = seq(cbasn1.SEQUENCE, hexOne)
	hexNonce  = "06092b0601050507300102"
	hexOdd    = "06032a0304"
	hexAccept = "06092b0601050507300104"
)

func hexExtension(oid, critical, value string) string {
	return seq(cbasn1.SEQUENCE, oid, critical, seq(cbasn1.OCTET_STRING, value))
}

func hexRequest(parts ...string) string {
	return seq(cbasn1.SEQUENCE, seq(cbasn1.SEQUENCE, parts...))
}

func hexWith(extensions ...string) string {
	return hexRequest(hexList, seq(context2, seq(cbasn1.SEQUENCE, extensions...)))
}

// TestParseOCSPRequest: what is taken, and what is refused and why.
func TestParseOCSPRequest(t *testing.T) {
	nonce := func(n int) string { return seq(cbasn1.OCTET_STRING, strings.Repeat("0c", n)) }
	signature := seq(cbasn1.SEQUENCE, hexSHA1, "030100")
	long := strings.Repeat("ff", 80)
	for name, c := range map[string]struct{ request, problem string }{
		"plain":                 {hexRequest(hexList), ""},
		"version":               {hexRequest("a003020100", hexList), ""},
		"requestor":             {hexRequest("a1038201"+"61", hexList), ""},
		"signed":                {seq(cbasn1.SEQUENCE, seq(cbasn1.SEQUENCE, hexList), seq(context0, signature)), ""},
		"signed with certs":     {seq(cbasn1.SEQUENCE, seq(cbasn1.SEQUENCE, hexList), seq(context0, seq(cbasn1.SEQUENCE, hexSHA1, "030100", "a0023000"))), ""},
		"absent parameters":     {hexRequest(seq(cbasn1.SEQUENCE, seq(cbasn1.SEQUENCE, seq(cbasn1.SEQUENCE, seq(cbasn1.SEQUENCE, "06052b0e03021a"), hexName, hexKey, "020105")))), ""},
		"another hash":          {hexRequest(seq(cbasn1.SEQUENCE, seq(cbasn1.SEQUENCE, seq(cbasn1.SEQUENCE, seq(cbasn1.SEQUENCE, hexOdd), hexName, hexKey, "020105")))), ""},
		"negative serial":       {hexRequest(seq(cbasn1.SEQUENCE, seq(cbasn1.SEQUENCE, seq(cbasn1.SEQUENCE, hexSHA1, hexName, hexKey, "0201ff")))), ""},
		"unknown extension":     {hexWith(hexExtension(hexOdd, "", "0500")), ""},
		"single extension":      {hexRequest(seq(cbasn1.SEQUENCE, seq(cbasn1.SEQUENCE, hexID, seq(context0, seq(cbasn1.SEQUENCE, hexExtension(hexOdd, "", "0500")))))), ""},
		"nonce":                 {hexWith(hexExtension(hexNonce, "", nonce(1))), ""},
		"longest nonce":         {hexWith(hexExtension(hexNonce, "", nonce(128))), ""},
		"critical nonce":        {hexWith(hexExtension(hexNonce, "0101ff", nonce(16))), ""},
		"basic responses":       {hexWith(hexExtension(hexAccept, "0101ff", seq(cbasn1.SEQUENCE, hexOdd, "06092b0601050507300101"))), ""},
		"nothing":               {"", "no DER sequence"},
		"bytes after it":        {hexRequest(hexList) + "00", "bytes follow"},
		"cut off":               {hexRequest(hexList)[:40], "no DER sequence"},
		"indefinite length":     {"3080" + hexRequest(hexList)[4:] + "0000", "no DER sequence"},
		"long length":           {"3081" + hexRequest(hexList)[2:], "no DER sequence"},
		"empty":                 {"3000", "OCSPRequest is malformed"},
		"odd signature":         {seq(cbasn1.SEQUENCE, seq(cbasn1.SEQUENCE, hexList), seq(context0, "0500")), "optionalSignature"},
		"more after it":         {seq(cbasn1.SEQUENCE, seq(cbasn1.SEQUENCE, hexList), seq(context0, signature), "0500"), "OCSPRequest is malformed"},
		"version 2":             {hexRequest("a003020101", hexList), "it takes v1"},
		"no version":            {hexRequest("a000", hexList), "it takes v1"},
		"no list":               {hexRequest(), "TBSRequest is malformed"},
		"empty list":            {hexRequest("3000"), "about no certificate"},
		"too many":              {hexRequest(seq(cbasn1.SEQUENCE, strings.Repeat(hexOne, MaxOCSPSerials+1))), "more than 64"},
		"order":                 {hexRequest(seq(context2, "3000"), hexList), "TBSRequest is malformed"},
		"short hash":            {hexRequest(seq(cbasn1.SEQUENCE, seq(cbasn1.SEQUENCE, seq(cbasn1.SEQUENCE, hexSHA1, "0401aa", hexKey, "020105")))), "request 0 is malformed"},
		"no serial":             {hexRequest(seq(cbasn1.SEQUENCE, seq(cbasn1.SEQUENCE, seq(cbasn1.SEQUENCE, hexSHA1, hexName, hexKey)))), "request 0 is malformed"},
		"serial with zeros":     {hexRequest(seq(cbasn1.SEQUENCE, seq(cbasn1.SEQUENCE, seq(cbasn1.SEQUENCE, hexSHA1, hexName, hexKey, "02020005")))), "request 0 is malformed"},
		"long serial":           {hexRequest(seq(cbasn1.SEQUENCE, seq(cbasn1.SEQUENCE, seq(cbasn1.SEQUENCE, hexSHA1, hexName, hexKey, seq(cbasn1.INTEGER, "7f"+long))))), "request 0 is malformed"},
		"odd parameters":        {hexRequest(seq(cbasn1.SEQUENCE, seq(cbasn1.SEQUENCE, seq(cbasn1.SEQUENCE, "300b06052b0e03021a05020000", hexName, hexKey, "020105")))), "request 0 is malformed"},
		"second is odd":         {hexRequest(seq(cbasn1.SEQUENCE, hexOne, "0500")), "request 1 is malformed"},
		"no extensions":         {hexWith(), "malformed, or none"},
		"critical extension":    {hexWith(hexExtension(hexOdd, "0101ff", "0500")), "critical extension 1.2.3.4 is not known"},
		"critical single one":   {hexRequest(seq(cbasn1.SEQUENCE, seq(cbasn1.SEQUENCE, hexID, seq(context0, seq(cbasn1.SEQUENCE, hexExtension(hexOdd, "0101ff", "0500")))))), "request 0 has the critical extension"},
		"twice":                 {hexWith(hexExtension(hexOdd, "", "0500"), hexExtension(hexOdd, "", "0500")), "comes twice"},
		"odd boolean":           {hexWith(hexExtension(hexOdd, "010101", "0500")), "extension 0 is malformed"},
		"no nonce":              {hexWith(hexExtension(hexNonce, "", nonce(0))), "1 to 128 bytes"},
		"long nonce":            {hexWith(hexExtension(hexNonce, "", nonce(129))), "1 to 128 bytes"},
		"bare nonce":            {hexWith(hexExtension(hexNonce, "", "0c0c0c0c")), "1 to 128 bytes"},
		"bytes after the nonce": {hexWith(hexExtension(hexNonce, "", nonce(8)+"00")), "1 to 128 bytes"},
		"other responses":       {hexWith(hexExtension(hexAccept, "", seq(cbasn1.SEQUENCE, hexOdd))), "doesn't accept basic"},
		"odd responses":         {hexWith(hexExtension(hexAccept, "", "0500")), "acceptable responses are malformed"},
		"too large":             {seq(cbasn1.SEQUENCE, strings.Repeat("00", MaxOCSPRequest)), "it takes at most 16384"},
	} {
		t.Run(name, func(t *testing.T) {
			der, err := hex.DecodeString(c.request)
			if err != nil {
				t.Fatal(err)
			}
			request, err := parseOCSPRequest(der)
			if c.problem != "" {
				wantError(t, err, backend.ErrInvalidParams, "OCSP request", c.problem)
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if len(request.ids) != 1 || len(request.ids[0].key) != 20 || (request.nonce != nil) != strings.Contains(name, "nonce") {
				t.Errorf("got %+v", request)
			}
		})
	}
}

// TestOtherOCSPRequests: requests that another implementation makes are read as it meant them.
func TestOtherOCSPRequests(t *testing.T) {
	keys := testKeys()
	issuer := certificate(t, "ca", "ca", keys["p256"].Public(), keys["p256"], nil)
	leaf := certificate(t, "leaf", "ca", keys["p384"].Public(), keys["p256"], nil)
	for _, hash := range []crypto.Hash{crypto.SHA1, crypto.SHA256, crypto.SHA384, crypto.SHA512} {
		der, err := ocsp.CreateRequest(leaf, issuer, &ocsp.RequestOptions{Hash: hash})
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(der, question(t, issuer, hash, nil, leaf.SerialNumber)) {
			t.Errorf("%v: requests are written in another way", hash)
		}
		request, err := parseOCSPRequest(der)
		if err != nil {
			t.Fatal(err)
		}
		id, want := request.ids[0], idsOf(issuer)
		if id.hash != hash || id.serial.Cmp(leaf.SerialNumber) != 0 || !id.null || id.form() == "" {
			t.Errorf("%v: got %+v", hash, id)
		}
		found := false
		for _, w := range want {
			found = found || w == issuerID{id.hash, id.name, id.key}
		}
		if !found {
			t.Errorf("%v: it is about another issuer", hash)
		}
	}
}

// FuzzOCSPRequest: no request makes the parser panic, what it takes is DER that encoding/asn1 takes too, and the responder answers.
func FuzzOCSPRequest(f *testing.F) {
	for _, text := range []string{hexRequest(hexList), hexWith(hexExtension(hexNonce, "", "040101")), hexWith(hexExtension(hexOdd, "0101ff", "0500")), "", "3000"} {
		der, err := hex.DecodeString(text)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(der)
	}
	firm := newFirm(f, nil)
	root := firm.root(f, "ed25519", "root")
	f.Add(question(f, root.Certificate(), crypto.SHA256, []byte("nonce"), big.NewInt(1), big.NewInt(2)))
	f.Fuzz(func(t *testing.T, der []byte) {
		request, err := parseOCSPRequest(der)
		answer := firm.AnswerOCSP(t.Context(), der)
		if (err != nil) != (answer.Status == OCSPMalformedRequest) || answer.Status == OCSPInternalError || len(answer.DER) < 5 {
			t.Errorf("%x: %v, and %s: %v", der, err, answer.Status, answer.Err)
		}
		if err != nil {
			wantError(t, err, backend.ErrInvalidParams)
			return
		}
		var raw asn1.RawValue
		if rest, err := asn1.Unmarshal(der, &raw); err != nil || len(rest) != 0 || len(request.ids) > MaxOCSPSerials || len(request.nonce) > MaxOCSPNonce {
			t.Errorf("%x was taken: %v", der, err)
		}
		for _, id := range request.ids {
			if !bytes.Contains(der, []byte(id.raw)) {
				t.Errorf("%x: an id is not in it", der)
			}
		}
	})
}
