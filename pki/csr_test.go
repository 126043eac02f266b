package pki

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/pem"
	"errors"
	"math/big"
	"net"
	"net/url"
	"strings"
	"testing"

	"github.com/managedkeys/managedkeys/backend"
)

// makeCSR makes a request outside of this package, as a client would.
func makeCSR(tb testing.TB, key crypto.Signer, change func(*x509.CertificateRequest)) []byte {
	tb.Helper()
	template := &x509.CertificateRequest{Subject: pkix.Name{CommonName: "ignored.example"}, DNSNames: []string{"a.example"}}
	if change != nil {
		change(template)
	}
	der, err := x509.CreateCertificateRequest(rand.Reader, template, key)
	if err != nil {
		tb.Fatal(err)
	}
	return der
}

func extension(tb testing.TB, oid asn1.ObjectIdentifier, critical bool, value any) pkix.Extension {
	tb.Helper()
	der, err := asn1.Marshal(value)
	if err != nil {
		tb.Fatal(err)
	}
	return pkix.Extension{Id: oid, Critical: critical, Value: der}
}

func TestParseCSR(t *testing.T) {
	der := makeCSR(t, testKeys()["p256"], nil)
	for name, data := range map[string][]byte{
		"DER":         der,
		"PEM":         EncodeCSR(der),
		"NEW":         pem.EncodeToMemory(&pem.Block{Type: "NEW CERTIFICATE REQUEST", Bytes: der}),
		"CRLF":        bytes.ReplaceAll(EncodeCSR(der), []byte("\n"), []byte("\r\n")),
		"white space": append([]byte("\n \n"), append(EncodeCSR(der), " \n"...)...),
	} {
		t.Run(name, func(t *testing.T) {
			request, err := ParseCSR(data)
			if err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(request.Raw, der) || request.DNSNames[0] != "a.example" {
				t.Errorf("got another request: %+v", request)
			}
		})
	}
}

func TestParseCSRRefused(t *testing.T) {
	keys := testKeys()
	der := makeCSR(t, keys["p256"], nil)
	text := EncodeCSR(der)
	broken := bytes.Clone(der)
	broken[len(broken)-1] ^= 1
	otherName := bytes.Replace(der, []byte("a.example"), []byte("b.example"), 1)
	san := func(names ...asn1.RawValue) func(*x509.CertificateRequest) {
		return func(r *x509.CertificateRequest) {
			r.DNSNames = nil
			r.ExtraExtensions = []pkix.Extension{extension(t, oidSubjectAltName, false, names)}
		}
	}
	smallExponent := &rsa.PrivateKey{PublicKey: rsa.PublicKey{N: new(big.Int).Set(keys["rsa"].(*rsa.PrivateKey).N), E: 3}}
	for name, c := range map[string]struct {
		data     []byte
		sentinel error
		text     string
	}{
		"empty":            {nil, backend.ErrInvalidParams, "got 0 bytes; it takes 1 to 65536"},
		"huge":             {make([]byte, MaxCSR+1), backend.ErrInvalidParams, "65537"},
		"text":             {[]byte("hello"), backend.ErrInvalidParams, "neither DER nor PEM"},
		"text before":      {append([]byte("Certificate Request:\n"), text...), backend.ErrInvalidParams, "neither DER nor PEM"},
		"text after":       {append(bytes.Clone(text), "x"...), backend.ErrInvalidParams, "1 bytes after the end"},
		"two blocks":       {append(bytes.Clone(text), text...), backend.ErrInvalidParams, "got 2 PEM blocks; it takes one"},
		"certificate":      {EncodePEM(&x509.Certificate{Raw: der}), backend.ErrInvalidParams, `type "CERTIFICATE"`},
		"private key":      {pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: []byte("secret")}), backend.ErrInvalidParams, `type "PRIVATE KEY"`},
		"headers":          {pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Headers: map[string]string{"A": "b"}, Bytes: der}), backend.ErrInvalidParams, "PEM headers"},
		"no end":           {text[:len(text)-20], backend.ErrInvalidParams, "malformed PEM"},
		"PEM of nothing":   {EncodeCSR(nil), backend.ErrInvalidParams, "malformed"},
		"DER cut":          {der[:len(der)-3], backend.ErrInvalidParams, "malformed DER"},
		"DER and more":     {append(bytes.Clone(der), 0), backend.ErrInvalidParams, "malformed DER"},
		"broken signature": {broken, backend.ErrInvalidSignature, "CSR"},
		"changed name":     {otherName, backend.ErrInvalidSignature, "CSR"},
		"RSA-1024":         {makeCSR(t, keys["rsa1024"], nil), backend.ErrInvalidParams, "RSA key of 1024 bits; it takes 2048 to 8192"},
		"P-224":            {makeCSR(t, keys["p224"], nil), backend.ErrInvalidParams, "curve P-224; it takes P-256, P-384 and P-521"},
		"exponent 3":       {forge(t, smallExponent.Public()), backend.ErrInvalidParams, "RSA exponent 3"},
		"ECDSA with SHA-1": {makeCSR(t, keys["p256"], func(r *x509.CertificateRequest) { r.SignatureAlgorithm = x509.ECDSAWithSHA1 }), backend.ErrInvalidParams, "signature algorithm ECDSA-SHA1; it takes RSA, ECDSA"},
		"RSA with SHA-1":   {makeCSR(t, keys["rsa"], func(r *x509.CertificateRequest) { r.SignatureAlgorithm = x509.SHA1WithRSA }), backend.ErrInvalidParams, "signature algorithm SHA1-RSA"},
		"otherName":        {makeCSR(t, keys["p256"], san(asn1.RawValue{Class: 2, Tag: 0, IsCompound: true, Bytes: []byte{6, 1, 42, 0xa0, 0}})), backend.ErrInvalidParams, "name 0 is of kind otherName; it takes DNS"},
		"directoryName":    {makeCSR(t, keys["p256"], san(asn1.RawValue{Class: 2, Tag: 2, Bytes: []byte("a.example")}, asn1.RawValue{Class: 2, Tag: 4, IsCompound: true, Bytes: []byte{0x30, 0}})), backend.ErrInvalidParams, "name 1 is of kind directoryName"},
		"IP of 5 bytes":    {makeCSR(t, keys["p256"], san(asn1.RawValue{Class: 2, Tag: 7, Bytes: []byte{1, 2, 3, 4, 5}})), backend.ErrInvalidParams, "malformed DER"},
		"version":          {bytes.Replace(der, []byte{2, 1, 0}, []byte{2, 1, 0xff}, 1), backend.ErrInvalidParams, "version -1; it takes 0"},
	} {
		t.Run(name, func(t *testing.T) {
			request, err := ParseCSR(c.data)
			wantError(t, err, c.sentinel, c.text)
			if !errors.Is(err, backend.ErrInvalidParams) || request != nil {
				t.Errorf("got %v, %v", request, err)
			}
			if strings.Contains(err.Error(), "secret") {
				t.Error("the content of the block is in the error")
			}
		})
	}
}

// forge returns a request for pub that somebody else signed.
func forge(tb testing.TB, pub crypto.PublicKey) []byte {
	tb.Helper()
	der := makeCSR(tb, testKeys()["rsa-b"], nil)
	own, err1 := x509.MarshalPKIXPublicKey(testKeys()["rsa-b"].Public())
	other, err2 := x509.MarshalPKIXPublicKey(pub)
	if err := errors.Join(err1, err2); err != nil {
		tb.Fatal(err)
	}
	var object struct {
		Info struct {
			Version       int
			Subject, Key  asn1.RawValue
			RawAttributes []asn1.RawValue `asn1:"tag:0,set"`
		}
		Algorithm asn1.RawValue
		Signature asn1.BitString
	}
	if _, err := asn1.Unmarshal(der, &object); err != nil {
		tb.Fatal(err)
	}
	if !bytes.Equal(object.Info.Key.FullBytes, own) {
		tb.Fatal("the public key is not where it was expected")
	}
	object.Info.Key = asn1.RawValue{FullBytes: other}
	der, err := asn1.Marshal(object)
	if err != nil {
		tb.Fatal(err)
	}
	return der
}

func TestPublicKeys(t *testing.T) {
	keys := testKeys()
	good := keys["rsa"].Public().(*rsa.PublicKey)
	offCurve := *keys["p256"].Public().(*ecdsa.PublicKey)
	//lint:ignore SA1019 a point that crypto/ecdsa would not make
	offCurve.Y = new(big.Int).Add(offCurve.Y, big.NewInt(1))
	for name, c := range map[string]struct {
		pub  crypto.PublicKey
		text string
	}{
		"nil":             {nil, "kind <nil> is not supported"},
		"string":          {"key", "kind string is not supported; it takes RSA, ECDSA"},
		"private key":     {keys["rsa"], "kind *rsa.PrivateKey is not supported"},
		"nil RSA":         {(*rsa.PublicKey)(nil), "without a modulus"},
		"negative RSA":    {&rsa.PublicKey{N: new(big.Int).Neg(good.N), E: 65537}, "without a modulus"},
		"RSA too long":    {&rsa.PublicKey{N: new(big.Int).Lsh(good.N, 8192), E: 65537}, "10240 bits"},
		"even modulus":    {&rsa.PublicKey{N: new(big.Int).Sub(good.N, big.NewInt(1)), E: 65537}, "small prime factor"},
		"multiple of 751": {&rsa.PublicKey{N: new(big.Int).Mul(good.N, big.NewInt(751)), E: 65537}, "small prime factor"},
		"exponent 1":      {&rsa.PublicKey{N: good.N, E: 1}, "exponent 1; it takes odd ones from 65537"},
		"even exponent":   {&rsa.PublicKey{N: good.N, E: 65538}, "exponent 65538"},
		"negative":        {&rsa.PublicKey{N: good.N, E: -65537}, "exponent -65537"},
		"nil ECDSA":       {(*ecdsa.PublicKey)(nil), "without a curve"},
		"off the curve":   {&offCurve, "public key"},
		"no point":        {&ecdsa.PublicKey{Curve: elliptic.P256()}, "without a point"},
		"own curve":       {&ecdsa.PublicKey{Curve: &elliptic.CurveParams{Name: "mine"}}, "curve mine"},
		"short Ed25519":   {keys["ed25519"].Public().(ed25519.PublicKey)[:31], "Ed25519 key of 31 bytes; it has 32"},
		"good RSA":        {good, ""},
		"good P-521":      {keys["p521"].Public(), ""},
		"good Ed25519":    {keys["ed25519"].Public(), ""},
	} {
		t.Run(name, func(t *testing.T) {
			err := checkPublicKey(c.pub)
			if c.text == "" {
				if err != nil {
					t.Errorf("a good key is refused: %v", err)
				}
				return
			}
			if !errors.Is(err, backend.ErrInvalidParams) || !strings.Contains(err.Error(), c.text) {
				t.Errorf("got error %v; want one with %q", err, c.text)
			}
		})
	}
}

func TestCreateCSR(t *testing.T) {
	uri, _ := url.Parse("spiffe://trust.example/web")
	for key, alg := range map[string]x509.SignatureAlgorithm{
		"rsa": x509.SHA256WithRSAPSS, "p256": 0, "p384": x509.ECDSAWithSHA512, "p521": 0, "ed25519": 0,
	} {
		t.Run(key, func(t *testing.T) {
			h := newHouse(t, nil)
			der, err := h.engine.CreateCSR(t.Context(), key, CSRTemplate{
				Subject: pkix.Name{CommonName: "Issuing"}, SignatureAlgorithm: alg,
				DNSNames: []string{"A.example", "a.example"}, IPAddresses: []net.IP{net.IPv4(10, 0, 0, 1)},
				EmailAddresses: []string{"a@b.example"}, URIs: []*url.URL{uri},
			})
			if err != nil {
				t.Fatal(err)
			}
			request, err := ParseCSR(der)
			if err != nil {
				t.Fatal(err)
			}
			if alg != 0 && request.SignatureAlgorithm != alg {
				t.Errorf("signed with %s; want %s", request.SignatureAlgorithm, alg)
			}
			if !equalKeys(request.PublicKey, testKeys()[key].Public()) {
				t.Error("the public key is another one")
			}
			if len(request.DNSNames) != 1 || request.DNSNames[0] != "a.example" || len(request.IPAddresses) != 1 || len(request.EmailAddresses) != 1 || len(request.URIs) != 1 {
				t.Errorf("names: %v %v %v %v", request.DNSNames, request.IPAddresses, request.EmailAddresses, request.URIs)
			}
			if n := h.signed(); n != 1 {
				t.Errorf("it took %d signatures; want 1", n)
			}
		})
	}
}

func TestCreateCSRRefused(t *testing.T) {
	h := newHouse(t, nil)
	cancelled, cancel := context.WithCancel(t.Context())
	cancel()
	for name, c := range map[string]struct {
		ctx      context.Context
		key      string
		template CSRTemplate
		sentinel error
		text     string
	}{
		"nothing asked":  {nil, "p256", CSRTemplate{}, backend.ErrInvalidParams, "neither a subject nor"},
		"bad name":       {nil, "p256", CSRTemplate{DNSNames: []string{"a b"}}, backend.ErrInvalidParams, `"a b"`},
		"bad subject":    {nil, "p256", CSRTemplate{Subject: pkix.Name{CommonName: " a"}}, backend.ErrInvalidParams, `" a"`},
		"algorithm":      {nil, "p256", CSRTemplate{DNSNames: []string{"a.example"}, SignatureAlgorithm: x509.PureEd25519}, backend.ErrUnsupported, "can't sign with Ed25519; it takes ECDSA-SHA256"},
		"unknown key":    {nil, "nobody", CSRTemplate{DNSNames: []string{"a.example"}}, backend.ErrKeyNotFound, "nobody"},
		"context ended":  {cancelled, "p256", CSRTemplate{DNSNames: []string{"a.example"}}, context.Canceled, "CSR"},
		"weak key":       {nil, "rsa1024", CSRTemplate{DNSNames: []string{"a.example"}}, backend.ErrInvalidParams, "1024"},
		"symmetric keys": {nil, "symmetric", CSRTemplate{DNSNames: []string{"a.example"}}, backend.ErrUnsupported, "symmetric"},
	} {
		t.Run(name, func(t *testing.T) {
			ctx := c.ctx
			if ctx == nil {
				ctx = t.Context()
			} else if _, err := h.mount.Key(t.Context(), c.key); err != nil { // an open key: the context bounds signing alone
				t.Fatal(err)
			}
			_, err := h.engine.CreateCSR(ctx, c.key, c.template)
			wantError(t, err, c.sentinel, c.text)
			if h.signed() != 0 {
				t.Error("something was signed")
			}
		})
	}
}
