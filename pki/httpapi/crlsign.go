package httpapi

import (
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/base64"
	"encoding/pem"
	"math/big"
	"strconv"
	"strings"
	"time"

	api "github.com/managedkeys/managedkeys/managedkey/httpapi"
	"github.com/managedkeys/managedkeys/pki"
)

// crlSignRoutes are the paths that sign lists beside the issuer's own. They take sudo: what they sign can say that a certificate is not
// revoked that is.
var crlSignRoutes = []route{
	{path: "issuer/:ref/resign-crls", post: resignCRLs, sudo: true},
	{path: "issuer/:ref/sign-revocation-list", post: signRevocationList, sudo: true},
}

// listFields are the fields of a list that is signed.
type listFields struct {
	number, base int
	validity     time.Duration
	der          bool
}

func (in *listFields) take(f *api.Fields) {
	in.base, in.validity = -1, 72*time.Hour
	f.Int("crl_number", &in.number)
	if in.number < 0 {
		f.Refuse("crl_number", "a positive number, or 0 for the next one")
	}
	f.Int("delta_crl_base_number", &in.base)
	if in.base == 0 || in.base < -1 {
		f.Refuse("delta_crl_base_number", "a positive number, or -1 for a complete list")
	}
	f.Duration("next_update", &in.validity)
	kind := "pem"
	f.String("format", &kind)
	if in.der = kind == "der"; !in.der && kind != "pem" {
		f.Refuse("format", "pem or der")
	}
}

func (in *listFields) template() pki.CRLTemplate {
	t := pki.CRLTemplate{Validity: in.validity}
	if in.number > 0 {
		t.Number = big.NewInt(int64(in.number))
	}
	if in.base > 0 {
		t.BaseNumber = big.NewInt(int64(in.base))
	}
	return t
}

// data is a list that was signed, as answers have it.
func (in *listFields) data(crl *pki.CRL) object {
	encoded := string(pki.EncodeCRL(crl.DER))
	if in.der {
		encoded = base64.StdEncoding.EncodeToString(crl.DER)
	}
	return object{"crl": encoded, "crl_number": crl.Number}
}

// resignCRLs combines lists of the issuer.
func resignCRLs(c *call) (any, error) {
	var in listFields
	var lists []string
	err := c.read(func(f *api.Fields) {
		in.take(f)
		f.Strings("crls", &lists)
	})
	if err != nil {
		return nil, err
	}
	var crls [][]byte
	for i, data := range lists {
		block, rest := pem.Decode([]byte(strings.ReplaceAll(data, `\n`, "\n")))
		if block == nil || block.Type != "X509 CRL" || len(strings.TrimSpace(string(rest))) > 0 {
			return nil, refuse("field crls[%d]: it takes one CRL in PEM", i)
		}
		crls = append(crls, block.Bytes)
	}
	issuer, err := c.issuer()
	if err != nil {
		return nil, err
	}
	crl, err := c.a.ResignCRLs(c.ctx(), issuer.ID, crls, in.template())
	if err != nil {
		return nil, err
	}
	return in.data(crl), nil
}

// signRevocationList signs a list of what the request says.
func signRevocationList(c *call) (any, error) {
	var in listFields
	var entries []x509.RevocationListEntry
	var extensions []pkix.Extension
	err := c.read(func(f *api.Fields) {
		in.take(f)
		f.Objects("revoked_certs", func(one *api.Fields) {
			entries = append(entries, takeEntry(one))
		})
		f.Objects("extensions", func(one *api.Fields) { extensions = append(extensions, takeExtension(one)) })
	})
	if err != nil {
		return nil, err
	}
	issuer, err := c.issuer()
	if err != nil {
		return nil, err
	}
	t := in.template()
	t.Revoked, t.Extensions = entries, extensions
	crl, err := c.a.SignRevocationList(c.ctx(), issuer.ID, t)
	if err != nil {
		return nil, err
	}
	return in.data(crl), nil
}

var oidReasonCode = asn1.ObjectIdentifier{2, 5, 29, 21}

// takeEntry takes an entry: serial_number, revocation_time in RFC 3339 or as seconds since 1970, and its reason, by name or number or among
// the extensions.
func takeEntry(f *api.Fields) x509.RevocationListEntry {
	var e x509.RevocationListEntry
	var serial, at string
	f.String("serial_number", &serial)
	f.Text("revocation_time", &at)
	named := f.Has("reason")
	takeReason(f, &e.ReasonCode)
	var err error
	if e.SerialNumber, err = pki.ParseSerial(serial); err != nil {
		f.Refuse("serial_number", "a serial number such as 17:6a:0e")
	}
	if seconds, err := strconv.ParseInt(at, 10, 64); err == nil && 0 < seconds && seconds < 1<<38 {
		e.RevocationTime = time.Unix(seconds, 0)
	} else if e.RevocationTime, err = time.Parse(time.RFC3339, at); err != nil {
		f.Refuse("revocation_time", "a time such as 2027-01-31T12:00:00Z, or seconds since 1970")
	}
	f.Objects("extensions", func(one *api.Fields) {
		extension := takeExtension(one)
		if !extension.Id.Equal(oidReasonCode) {
			e.ExtraExtensions = append(e.ExtraExtensions, extension)
			return
		}
		var reason asn1.Enumerated
		rest, err := asn1.Unmarshal(extension.Value, &reason)
		if err != nil || len(rest) > 0 || extension.Critical || named {
			one.Refuse("value", "a reason in DER (RFC 5280, Section 5.3.1), once")
		}
		named, e.ReasonCode = true, int(reason)
	})
	return e
}

// takeExtension takes an extension: id, critical, and value in base64.
func takeExtension(f *api.Fields) pkix.Extension {
	var e pkix.Extension
	var id, value string
	f.String("id", &id)
	f.Bool("critical", &e.Critical)
	f.String("value", &value)
	for part := range strings.SplitSeq(id, ".") {
		n, err := strconv.ParseUint(part, 10, 31)
		if err != nil || len(e.Id) == 32 {
			f.Refuse("id", "an object identifier such as 1.3.6.1.4.1.32473.1")
			break
		}
		e.Id = append(e.Id, int(n))
	}
	var err error
	if e.Value, err = base64.StdEncoding.DecodeString(value); err != nil || len(e.Value) == 0 {
		f.Refuse("value", "the extension's value, DER in base64")
	}
	return e
}
