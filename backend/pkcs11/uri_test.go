package pkcs11

import (
	"strings"
	"testing"

	"github.com/managedkeys/managedkeys/backend"
)

func TestParseURI(t *testing.T) {
	for uri, want := range map[string]Params{
		"pkcs11:":        {},
		"PKCS11:?":       {},
		"pkcs11:token=a": {TokenLabel: "a"},
		"pkcs11:token=a%20b%3B%C3%A9;serial=01;object=a+b&c=d;type=private":                                                                     {TokenLabel: "a b;é", TokenSerial: "01", KeyLabel: "a+b&c=d"},
		"pkcs11:slot-id=007;TYPE=Secret-Key;id=a%00%fF":                                                                                         {Slot: "7", KeyID: "0x6100ff"},
		"pkcs11:slot-id=0;slot-description=;slot-manufacturer=%ff":                                                                              {Slot: "0"},
		"pkcs11:model=SoftHSM%20v2;manufacturer=SoftHSM%20project;serial=b593;library-version=2.6;library-manufacturer=x;library-description=y": {TokenSerial: "b593"},
		"pkcs11:?module-name=HSM-1&pin-source=file:/etc/a%20b%2520c":                                                                            {Library: "HSM-1", PIN: "file:/etc/a b%20c"},
		"pkcs11:?pin-source=/etc/pin":                                                                                                           {PIN: "file:/etc/pin"},
		"pkcs11:?pin-source=FILE:///etc/pin":                                                                                                    {PIN: "file:/etc/pin"},
		"pkcs11:?pin-source=file://localhost/etc/pin":                                                                                           {PIN: "file:/etc/pin"},
		"pkcs11:?pin-source=file:pin":                                                                                                           {PIN: "file:pin"},
		"pkcs11:?pin-source=env:HSM_PIN":                                                                                                        {PIN: "env:HSM_PIN"},
		"pkcs11:?pin-value=%26a:b/?|+%3d":                                                                                                       {PIN: "&a:b/?|+="},
		"pkcs11:?x-mechanism=ecdsa&x-curve=P384":                                                                                                {Mechanism: ECDSA, Curve: "P384"},
		"pkcs11:?x-curve=P384":                                                                                                                  {Curve: "P384"},
		"pkcs11:?x-key-bits=03072&x-max-parallel=5&x-force-rw-session=true":                                                                     {KeyBits: 3072, MaxParallel: 5, ForceRWSession: true},
		"pkcs11:type=private?X-Mechanism=0xD&x-key-bits=2048":                                                                                   {Mechanism: RSAPKCSPSS, KeyBits: 2048},
		"pkcs11:token=" + strings.Repeat("%20", 32) + ";id=" + strings.Repeat("%00", 255):                                                       {TokenLabel: strings.Repeat(" ", 32), KeyID: "0x" + strings.Repeat("00", 255)},
	} {
		if got, err := ParseURI(uri); err != nil || got != want || !got.PIN.Equal(want.PIN) {
			t.Errorf("%s: got %+v, %v; want %+v", uri, got, err, want)
		}
	}
}

// rfcExamples are the URIs of RFC 7512, Section 3, and a few that combine their parts, with the attribute that this
// package refuses in each, if any.
var rfcExamples = map[string]string{
	"pkcs11:":                             "",
	"pkcs11:object=my-pubkey;type=public": "type",
	"pkcs11:object=my-key;type=private?pin-source=file:/etc/token": "",
	"pkcs11:token=The%20Software%20PKCS%2311%20Softtoken;manufacturer=Snake%20Oil,%20Inc.;model=1.0;object=my-certificate;type=cert;id=%69%95%3E%5C%F4%BD%EC%91;serial=?pin-source=file:/etc/token_pin": "type",
	"pkcs11:object=my-sign-key;type=private?module-name=mypkcs11":                                                                "",
	"pkcs11:object=my-sign-key;type=private?module-path=/mnt/libmypkcs11.so.1":                                                   "module-path",
	"pkcs11:token=Software%20PKCS%2311%20softtoken;manufacturer=Snake%20Oil,%20Inc.?pin-value=the-pin":                           "",
	"pkcs11:slot-description=Sun%20Metaslot":                                                                                     "slot-description",
	"pkcs11:library-manufacturer=Snake%20Oil,%20Inc.;library-description=Soft%20Token%20Library;library-version=1.23":            "library-version",
	"pkcs11:token=My%20token%25%20created%20by%20Joe;library-version=3;id=%01%02%03%Ba%dd%Ca%fe%04%05%06":                        "",
	"pkcs11:token=A%20name%20with%20a%20substring%20%25%3B;object=my-certificate;type=cert":                                      "type",
	"pkcs11:token=Name%20with%20a%20small%20A%20with%20acute:%20%C3%A1;object=my-certificate;type=cert":                          "token",
	"pkcs11:token=my-token;object=my-certificate;type=cert;vendor-aaa=value-a?pin-source=file:/etc/token_pin&vendor-bbb=value-b": "type",
	// These are not in the RFC.
	"pkcs11:token=my-token;object=my-key;type=private;vendor-aaa=value-a?pin-source=file:/etc/token_pin": "vendor-aaa",
	"pkcs11:token=my-token;object=my-key;type=private?pin-source=file:/etc/token_pin&vendor-bbb=value-b": "vendor-bbb",
	"pkcs11:object=my-key;type=private?pin-source=|/usr/lib/pinomatic":                                   "pin-source",
}

func TestRFC7512Examples(t *testing.T) {
	for uri, attribute := range rfcExamples {
		_, err := ParseURI(uri)
		if attribute == "" && err != nil {
			t.Errorf("%s: %v", uri, err)
		} else if attribute != "" {
			wants(t, err, backend.ErrInvalidParams, "pkcs11: URI attribute "+attribute+": ")
		}
	}
}

func TestParseURIErrors(t *testing.T) {
	for uri, says := range map[string]string{
		"": "URI: does not begin with pkcs11:", "pkcs11": "does not begin", "http://a": "does not begin", " pkcs11:": "does not begin",
		"pkcs11:" + strings.Repeat(";", maxURI): "has 16391 bytes; it takes at most 16384",
		// The parts.
		"pkcs11:token": "attribute 1 of the path", "pkcs11:token=a;": "attribute 2 of the path", "pkcs11:;token=a": "attribute 1 of the path",
		"pkcs11:=a": "attribute 1", "pkcs11:to%6Ben=a": "attribute 1", "pkcs11:töken=a": "attribute 1", "pkcs11:?&": "attribute 1 of the query",
		"pkcs11://token=a": "attribute 1", "pkcs11:token=a?a.b=c": "attribute 1 of the query",
		// Encoding.
		"pkcs11:token=a b": "token: has a character at byte 2", "pkcs11:token=a/b": "at byte 2", "pkcs11:token=é": "at byte 1", "pkcs11:token=a\x00": "at byte 2",
		"pkcs11:token=a#b": "at byte 2", "pkcs11:token=a%": "% at byte 2", "pkcs11:token=a%1": "% at byte 2", "pkcs11:token=a%1g": "% at byte 2",
		"pkcs11:token=a%+1": "% at byte 2", "pkcs11:?module-name=a;b": "module-name: has a character at byte 2", "pkcs11:model=%;token=a": "model: has a %",
		// Values.
		"pkcs11:token=" + strings.Repeat("a", 33):   "token: has 33 bytes; it takes at most 32",
		"pkcs11:serial=" + strings.Repeat("a", 17):  "serial: has 17 bytes; it takes at most 16",
		"pkcs11:object=" + strings.Repeat("a", 256): "object: has 256 bytes", "pkcs11:id=" + strings.Repeat("a", 256): "has 256 bytes",
		"pkcs11:token=%ff": "token: is not UTF-8", "pkcs11:token=a%00": "token: \"a\\x00\" has control", "pkcs11:object=%0A": "object: ",
		"pkcs11:token=": "token: is empty", "pkcs11:id=": "id: is empty", "pkcs11:type=": "type: is empty", "pkcs11:?module-name=": "module-name: is empty",
		"pkcs11:?pin-value=": "pin-value: is empty", "pkcs11:?pin-source=": "pin-source: is empty", "pkcs11:?x-mechanism=": "x-mechanism: is empty",
		"pkcs11:slot-id=0x1": "slot: \"0x1\" is not a decimal", "pkcs11:slot-id=-1": "slot: ", "pkcs11:slot-id=99999999999999999999": "slot: ",
		"pkcs11:type=data": "type: got \"data\"; it takes private or secret-key", "pkcs11:?module-name=..%2Fx.so": "module-name: \"../x.so\" is not the name",
		"pkcs11:?x-mechanism=rot13": "mechanism: \"rot13\"", "pkcs11:?x-mechanism=0": "mechanism: is missing", "pkcs11:?x-mechanism=CKM_ECDSA_KEY_PAIR_GEN": "makes keys",
		"pkcs11:?x-curve=P-256": "curve: got \"P-256\"", "pkcs11:?x-key-bits=1001": "key_bits: got 1001", "pkcs11:?x-key-bits=0": "x-key-bits: \"0\"",
		"pkcs11:?x-key-bits=-1": "x-key-bits: ", "pkcs11:?x-max-parallel=4097": "x-max-parallel: got 4097", "pkcs11:?x-force-rw-session=yes": "it takes true",
		// PINs.
		"pkcs11:?pin-source=%7C%2Fbin%2Fsh": "is a command", "pkcs11:?pin-source=file:": "names no file", "pkcs11:?pin-source=file://localhost": "names no file",
		"pkcs11:?pin-source=file://nas/pin": "another machine", "pkcs11:?pin-source=env:": "names no environment variable", "pkcs11:?pin-source=pin.txt": "neither",
		"pkcs11:?pin-source=https://pins/": "neither", "pkcs11:?pin-source=/a%00": "control characters", "pkcs11:?pin-source=/" + strings.Repeat("a", 4096): "4097 bytes",
		"pkcs11:?pin-value=env:HOME": "begins like a reference", "pkcs11:?pin-value=file:1": "begins like a reference", "pkcs11:?pin-value=%00": "control characters",
		// Together.
		"pkcs11:token=a;token=a": "token: is given twice", "pkcs11:token=a;Token=b": "token: is given twice", "pkcs11:model=a;token=b;model=a": "model: is given twice",
		"pkcs11:?x-curve=P256&x-curve=P256": "x-curve: is given twice", "pkcs11:?pin-value=a&pin-source=/b": "together with pin-value",
		"pkcs11:slot-id=1;token=a": "slot-id: is given together", "pkcs11:serial=1;slot-id=1": "slot-id: is given together",
		"pkcs11:manufacturer=a;object=b": "manufacturer: describes the token, which nothing names", "pkcs11:library-description=": "library-description: describes",
		"pkcs11:type=secret-key?x-mechanism=ecdsa": "type: is secret-key with mechanism CKM_ECDSA", "pkcs11:?x-mechanism=ecdsa&x-key-bits=2048": "key_bits: got 2048 with",
		// Names.
		"pkcs11:tokn=a": "tokn: is not one of the path; it takes token,", "pkcs11:pin-value=1": "pin-value: is not one of the path",
		"pkcs11:?token=a": "token: is not one of the query; it takes module-name,", "pkcs11:?x-slow=a": "x-slow: is not one of the query",
		"pkcs11:?module-path=/x.so": "module-path: is refused: modules are named in Library only", "pkcs11:?module-path=": "modules are named in Library only",
		"pkcs11:" + strings.Repeat("n", 99) + "=1": "attribute " + strings.Repeat("n", 40) + ":",
	} {
		p, err := ParseURI(uri)
		wants(t, err, backend.ErrInvalidParams, "pkcs11: ", says)
		if p != (Params{}) {
			t.Errorf("%.80s: got parameters beside the error: %+v", uri, p)
		}
		if err != nil && len(err.Error()) > 400 {
			t.Errorf("%.80s: the error has %d bytes", uri, len(err.Error()))
		}
	}
}

// TestParseURIHidesPINs puts a PIN into URIs with one mistake each, such as a wrong separator.
func TestParseURIHidesPINs(t *testing.T) {
	const pin = "hunter2"
	for _, form := range []string{
		"PIN", "http:?pin-value=PIN", "pkcs11:PIN", "pkcs11:pin-value=PIN", "pkcs11:?pin-value:PIN", "pkcs11:?pin-value%3DPIN", "pkcs11:?pin-value-PIN=1",
		"pkcs11:?pin-value=PIN%", "pkcs11:?pin-value=PIN^", "pkcs11:?pin-value=PIN%00", "pkcs11:?pin-value=PIN%ff", "pkcs11:?pin-value=file:PIN", "pkcs11:?pin-value=env:PIN",
		"pkcs11:?pin-value=PIN&pin-value=PIN", "pkcs11:?pin-value=PIN&pin-source=/x", "pkcs11:?pin-value=PIN&x-curve=no", "pkcs11:token=?pin-value=PIN", "pkcs11:?pin-value=PIN#",
		"pkcs11:type=x%3FPin-Value=PIN", "pkcs11:type=cert&pin-value=PIN", "pkcs11:slot-id=1&pin-value=PIN", "pkcs11:token=%0a%3Fpin-value=PIN",
		"pkcs11:?module-name=a%26%70in-value=PIN", "pkcs11:?module-name=a/pin-value=PIN", "pkcs11:?x-mechanism=pin-value=PIN", "pkcs11:?x-curve=+pin-value=PIN",
		"pkcs11:?x-key-bits=1?pin-value=PIN", "pkcs11:?x-max-parallel=1?pin-value=PIN", "pkcs11:?x-force-rw-session=pin-value=PIN", "pkcs11:id=?pin-value=PIN;",
		"pkcs11:?pin-source=PIN", "pkcs11:?pin-source=|PIN", "pkcs11:?pin-source=data:PIN", "pkcs11:?pin-source=PIN%00", "pkcs11:?pin-source=PIN%",
		"pkcs11:?pin-source=file://PIN/x", "pkcs11:slot-id=1;pin-value=PIN",
	} {
		_, err := ParseURI(strings.ReplaceAll(form, "PIN", pin))
		wants(t, err, backend.ErrInvalidParams)
		if err != nil && strings.Contains(strings.ToLower(err.Error()), pin) {
			t.Errorf("%s: the error shows the PIN: %v", form, err)
		}
	}
}
