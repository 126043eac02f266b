package pkcs11

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/managedkeys/managedkeys/backend"
)

func TestParseMechanism(t *testing.T) {
	for text, want := range map[string]Mechanism{
		"0x1041": ECDSA, "0X1041": ECDSA, "4161": ECDSA, "CKM_ECDSA": ECDSA, "ecdsa": ECDSA, "ckm_Ecdsa": ECDSA,
		"0x000D": RSAPKCSPSS, "0xd": RSAPKCSPSS, "13": RSAPKCSPSS, "CKM_RSA_PKCS_PSS": RSAPKCSPSS,
		"0x0009": RSAPKCSOAEP, "9": RSAPKCSOAEP, "CKM_RSA_PKCS_OAEP": RSAPKCSOAEP,
		"0x0001": RSAPKCS, "001": RSAPKCS, "CKM_RSA_PKCS": RSAPKCS,
		"0x1057": EdDSA, "CKM_AES_GCM": 0x1087, "CKM_SHA256_HMAC": 0x0251, "CKM_ECDSA_KEY_PAIR_GEN": ecKeyPairGen,
		"0": 0, "0x80000042": 0x80000042, "0x100000001": 0x100000001, "4294967297": 0x100000001,
		"0xFFFFFFFFFFFFFFFF": 1<<64 - 1, "18446744073709551615": 1<<64 - 1,
	} {
		got, err := ParseMechanism(text)
		if err != nil || got != want {
			t.Errorf("%q = %v, %v; want %v", text, got, err, want)
		}
	}
	for _, text := range []string{
		"", " ", "0x", "-1", "+1", "1.0", "1e3", "0x1041 ", " 4161", "1_000", "0x1_0", "0b1", "0o7", "ECDSA_", "CKM_", "CKM_CKM_ECDSA",
		"CKM_NO_SUCH", "0x10000000000000000", "18446744073709551616", "1041h", "x1041", "0xx1", "é", strings.Repeat("A", 1000),
	} {
		if m, err := ParseMechanism(text); !errors.Is(err, backend.ErrInvalidParams) || !strings.Contains(err.Error(), "mechanism") {
			t.Errorf("%.30q = %v, %v; want ErrInvalidParams", text, m, err)
		} else if len(err.Error()) > 400 {
			t.Errorf("%.30q: error has %d bytes", text, len(err.Error()))
		}
	}
}

func TestMechanismText(t *testing.T) {
	for m, want := range map[Mechanism][2]string{
		ECDSA: {"CKM_ECDSA", "0x1041"}, RSAPKCS: {"CKM_RSA_PKCS", "0x0001"}, 0x80000042: {"0x80000042", "0x80000042"},
		1<<64 - 1: {"0xFFFFFFFFFFFFFFFF", "0xFFFFFFFFFFFFFFFF"},
	} {
		text, err := m.MarshalText()
		if got := [2]string{m.String(), string(text)}; err != nil || got != want {
			t.Errorf("%d is %v (%v), want %v", uint64(m), got, err, want)
		}
	}
	if len(mechanismNames) != len(mechanismsByName)-1 {
		t.Error("a name is given twice")
	}
	for m, name := range mechanismNames {
		if got, err := ParseMechanism("CKM_" + name); err != nil || got != m {
			t.Errorf("CKM_%s = %v, %v", name, got, err)
		}
	}
}

func FuzzParseMechanism(f *testing.F) {
	for _, s := range []string{"", "0x1041", "4161", "CKM_ECDSA", "ecdsa", "0xFFFFFFFFFFFFFFFF", "-1", "CKM_é"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		m, err := ParseMechanism(text)
		if err != nil {
			if !errors.Is(err, backend.ErrInvalidParams) || m != 0 {
				t.Errorf("%q = %v, %v", text, m, err)
			}
			return
		}
		for _, form := range []string{m.String(), m.hex(), fmt.Sprint(uint64(m)), strings.ToLower(m.String())} {
			if again, err := ParseMechanism(form); err != nil || again != m {
				t.Errorf("%q = %v, and %q = %v, %v", text, m, form, again, err)
			}
		}
	})
}

func TestParamsJSON(t *testing.T) {
	const text = `{"library":"hsm1","key_label":"ca","key_id":"0x0a","mechanism":"0x1041","pin":"1234","slot":"7",` +
		`"token_label":"team","token_serial":"b593","curve":"P256","key_bits":2048,"force_rw_session":true,"max_parallel":3}`
	want := Params{Library: "hsm1", KeyLabel: "ca", KeyID: "0x0a", Mechanism: ECDSA, PIN: "1234", Slot: "7", TokenLabel: "team", TokenSerial: "b593",
		Curve: "P256", KeyBits: 2048, ForceRWSession: true, MaxParallel: 3}
	var got Params
	if err := json.Unmarshal([]byte(text), &got); err != nil || got != want {
		t.Errorf("got %+v, %v", got, err)
	}
	out, err := json.Marshal(got)
	if redacted := strings.Replace(text, "1234", "redacted", 1); err != nil || string(out) != redacted {
		t.Errorf("JSON is %s, %v; want %s", out, err, redacted)
	}
	for _, format := range []string{"%v", "%+v", "%#v", "%s", "%q"} {
		if s := fmt.Sprintf(format, got); strings.Contains(s, "1234") {
			t.Errorf("%s shows the PIN: %s", format, s)
		}
	}
	for text, want := range map[string]Mechanism{`4161`: ECDSA, `"4161"`: ECDSA, `"ECDSA"`: ECDSA, `18446744073709551615`: 1<<64 - 1} {
		var m Mechanism
		if err := json.Unmarshal([]byte(text), &m); err != nil || m != want {
			t.Errorf("%s = %v, %v; want %v", text, m, err, want)
		}
	}
	for _, text := range []string{`-1`, `1.5`, `1e3`, `true`, `[]`, `""`, `"nope"`, `18446744073709551616`} {
		m := RSAPKCS
		if err := json.Unmarshal([]byte(text), &m); !errors.Is(err, backend.ErrInvalidParams) || m != RSAPKCS {
			t.Errorf("%s = %v, %v; want ErrInvalidParams", text, m, err)
		}
	}
}

func TestValidate(t *testing.T) {
	valid := Params{Library: "hsm1", TokenLabel: "team-a", PIN: "env:PIN", KeyLabel: "ca", Mechanism: ECDSA, Curve: "P256"}
	for name, change := range map[string]func(*Params){
		"as it is":       func(*Params) {},
		"slot":           func(p *Params) { p.TokenLabel, p.Slot = "", "12" },
		"serial":         func(p *Params) { p.TokenLabel, p.TokenSerial = "", "0123456789abcdef" },
		"both names":     func(p *Params) { p.TokenSerial = "1" },
		"slot zero":      func(p *Params) { p.TokenLabel, p.Slot = "", "0" },
		"no curve":       func(p *Params) { p.Curve = "" },
		"id":             func(p *Params) { p.KeyLabel, p.KeyID = "", "0x0aFF" },
		"label and id":   func(p *Params) { p.KeyID = "text id" },
		"RSA":            func(p *Params) { p.Mechanism, p.Curve, p.KeyBits = RSAPKCSOAEP, "", 4096 },
		"long":           func(p *Params) { p.KeyLabel = strings.Repeat("x", 255) },
		"other language": func(p *Params) { p.KeyLabel, p.TokenLabel = "schlüssel 鍵", "jetón" },
		"parallel":       func(p *Params) { p.MaxParallel = 4096 },
		"unsupported":    func(p *Params) { p.Mechanism, p.Curve = EdDSA, "" },
	} {
		p := valid
		change(&p)
		if err := p.Validate(); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	for name, test := range map[string]struct {
		field  string
		change func(*Params)
	}{
		"no library":          {"library", func(p *Params) { p.Library = "" }},
		"path":                {"library", func(p *Params) { p.Library = "/usr/lib/softhsm/libsofthsm2.so" }},
		"relative path":       {"library", func(p *Params) { p.Library = "../x.so" }},
		"long library":        {"library", func(p *Params) { p.Library = strings.Repeat("x", 65) }},
		"no token":            {"slot, token_label, token_serial", func(p *Params) { p.TokenLabel = "" }},
		"slot and label":      {"slot", func(p *Params) { p.Slot = "1" }},
		"slot and serial":     {"slot", func(p *Params) { p.TokenLabel, p.TokenSerial, p.Slot = "", "1", "1" }},
		"slot, label, serial": {"slot", func(p *Params) { p.TokenSerial, p.Slot = "1", "1" }},
		"long serial":         {"token_serial", func(p *Params) { p.TokenSerial = strings.Repeat("x", 17) }},
		"serial not UTF-8":    {"token_serial", func(p *Params) { p.TokenSerial = "\xff" }},
		"long token label":    {"token_label", func(p *Params) { p.TokenLabel = strings.Repeat("x", 33) }},
		"hex slot":            {"slot", func(p *Params) { p.TokenLabel, p.Slot = "", "0x1" }},
		"negative slot":       {"slot", func(p *Params) { p.TokenLabel, p.Slot = "", "-1" }},
		"huge slot":           {"slot", func(p *Params) { p.TokenLabel, p.Slot = "", "18446744073709551615" }},
		"no PIN":              {"pin", func(p *Params) { p.PIN = "" }},
		"no key":              {"key_label, key_id", func(p *Params) { p.KeyLabel = "" }},
		"long label":          {"key_label", func(p *Params) { p.KeyLabel = strings.Repeat("x", 256) }},
		"NUL in label":        {"key_label", func(p *Params) { p.KeyLabel = "a\x00b" }},
		"line in label":       {"key_label", func(p *Params) { p.KeyLabel = "a\nb" }},
		"label not UTF-8":     {"key_label", func(p *Params) { p.KeyLabel = "a\xff" }},
		"odd id":              {"key_id", func(p *Params) { p.KeyID = "0x123" }},
		"id without digits":   {"key_id", func(p *Params) { p.KeyID = "0x" }},
		"id with other chars": {"key_id", func(p *Params) { p.KeyID = "0xzz" }},
		"long id":             {"key_id", func(p *Params) { p.KeyID = "0x" + strings.Repeat("00", 256) }},
		"long text id":        {"key_id", func(p *Params) { p.KeyID = strings.Repeat("x", 256) }},
		"no mechanism":        {"mechanism", func(p *Params) { p.Mechanism, p.Curve = 0, "" }},
		"making mechanism":    {"mechanism", func(p *Params) { p.Mechanism = ecKeyPairGen }},
		"curve of RSA":        {"curve", func(p *Params) { p.Mechanism = RSAPKCS }},
		"unknown curve":       {"curve", func(p *Params) { p.Curve = "P-256" }},
		"length of EC":        {"key_bits", func(p *Params) { p.KeyBits = 2048 }},
		"short RSA":           {"key_bits", func(p *Params) { p.Mechanism, p.Curve, p.KeyBits = RSAPKCS, "", 1024 }},
		"negative RSA":        {"key_bits", func(p *Params) { p.Mechanism, p.Curve, p.KeyBits = RSAPKCS, "", -2048 }},
		"negative parallel":   {"max_parallel", func(p *Params) { p.MaxParallel = -1 }},
		"huge parallel":       {"max_parallel", func(p *Params) { p.MaxParallel = 4097 }},
	} {
		p := valid
		test.change(&p)
		err := p.Validate()
		if !errors.Is(err, backend.ErrInvalidParams) || !strings.HasPrefix(err.Error(), "pkcs11: "+test.field+":") {
			t.Errorf("%s: error = %v, want ErrInvalidParams that begins with the field %q", name, err, test.field)
		}
	}
}

func TestValidateLibraries(t *testing.T) {
	ok := Library{Name: "hsm1", Path: "/m.so"}
	for _, test := range []struct {
		name      string
		libraries []Library
		says      string // empty if valid
	}{
		{"one", []Library{ok}, ""},
		{"two", []Library{ok, {Name: "HSM-2.b_c", Path: "/m.so", MaxSessions: 3, CallTimeout: time.Second}}, ""},
		{"none", nil, "no library"},
		{"no name", []Library{{Path: "/m.so"}}, "library Name: is missing"},
		{"bad name", []Library{{Name: "a/b", Path: "/m.so"}}, `library Name: got "a/b"`},
		{"dot", []Library{{Name: ".a", Path: "/m.so"}}, "library Name"},
		{"long name", []Library{{Name: strings.Repeat("x", 65), Path: "/m.so"}}, "library Name"},
		{"other case", []Library{ok, {Name: "HSM1", Path: "/n.so"}}, `"HSM1" is given twice`},
		{"no path", []Library{{Name: "a"}}, "library Path"},
		{"NUL in path", []Library{{Name: "a", Path: "/m\x00.so"}}, "library Path"},
		{"many sessions", []Library{{Name: "a", Path: "/m.so", MaxSessions: 4097}}, "library MaxSessions"},
		{"negative sessions", []Library{{Name: "a", Path: "/m.so", MaxSessions: -1}}, "library MaxSessions"},
		{"negative timeout", []Library{{Name: "a", Path: "/m.so", CallTimeout: -1}}, "library CallTimeout"},
	} {
		t.Run(test.name, func(t *testing.T) {
			err := validateLibraries(test.libraries)
			if test.says == "" && err != nil {
				t.Error(err)
			} else if test.says != "" {
				wants(t, err, backend.ErrInvalidParams, "pkcs11: ", test.says)
			}
		})
	}
}
