package software

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/managedkeys/managedkeys/backend"
)

// edit returns the file with one change in its header line.
func edit(t testing.TB, data []byte, old, replacement string) []byte {
	t.Helper()
	line, rest, _ := bytes.Cut(data, []byte("\n"))
	if !bytes.Contains(line, []byte(old)) {
		t.Fatalf("the header %s has no %q", line, old)
	}
	return append(append(bytes.Replace(line, []byte(old), []byte(replacement), 1), '\n'), rest...)
}

func TestFileDamaged(t *testing.T) {
	_, data := storeFile(t)
	n := bytes.IndexByte(data, '\n') + 1
	flip := func(i int) []byte {
		d := bytes.Clone(data)
		d[i] ^= 1
		return d
	}
	change := func(old, replacement string) []byte { return edit(t, data, old, replacement) }
	for _, test := range []struct {
		name string
		data []byte
		want error
		says string
	}{
		{"empty", nil, ErrFormat, "is empty; remove it"},
		{"one byte", []byte("{"), ErrFormat, "a line of at most 1024 bytes"},
		{"no line feed", data[:n-1], ErrFormat, "a line of at most 1024 bytes"},
		{"long line", append(bytes.Repeat([]byte(" "), 1024), data...), ErrFormat, "a line of at most 1024 bytes"},
		{"text", []byte("hello\nworld\n"), ErrFormat, "not the header of a managedkeys/software file"},
		{"PEM", []byte("-----BEGIN PRIVATE KEY-----\nMC4C\n"), ErrFormat, "not the header"},
		{"other JSON", []byte("{\"format\":\"other\",\"version\":1}\n"), ErrFormat, "not the header"},
		{"JSON array", []byte("[1,2]\n"), ErrFormat, "not the header"},
		{"null", []byte("null\n"), ErrFormat, "not the header"},
		{"newer version", change(`"version":1`, `"version":2`), ErrFormat, "version: got 2; it takes 1"},
		{"version 0", change(`"version":1`, `"version":0`), ErrFormat, "version: got 0"},
		{"newer version, other form", []byte("{\"format\":\"managedkeys/software\",\"version\":3,\"x\":[]}\n"), ErrFormat, "version: got 3"},
		{"other kdf", change("argon2id", "scrypt"), ErrFormat, `kdf: got "scrypt"`},
		{"other cipher", change("xchacha20-poly1305", "rot13"), ErrFormat, `cipher: got "rot13"`},
		{"unknown member", change(`{`, `{"x":1,`), ErrFormat, "header is malformed"},
		{"repeated member", change(`"time":1`, `"time":2,"time":1`), ErrFormat, "header is malformed"},
		{"member in upper case", change(`"time"`, `"TIME"`), ErrFormat, "header is malformed"},
		{"space", change(`"time":1`, `"time": 1`), ErrFormat, "header is malformed"},
		{"negative time", change(`"time":1`, `"time":-1`), ErrFormat, "header is malformed"},
		{"fractional time", change(`"time":1`, `"time":1.5`), ErrFormat, "header is malformed"},
		{"time as text", change(`"time":1`, `"time":"1"`), ErrFormat, "header is malformed"},
		{"missing member", change(`"time":1,`, ``), ErrFormat, "header is malformed"},
		{"time 0", change(`"time":1`, `"time":0`), ErrFormat, "argon2id time: got 0; it takes 1 to 64"},
		{"absurd time", change(`"time":1`, `"time":4294967295`), ErrFormat, "argon2id time: got 4294967295"},
		{"overlong time", change(`"time":1`, `"time":4294967296`), ErrFormat, "header is malformed"},
		{"memory 7", change(`"memory_kib":64`, `"memory_kib":7`), ErrFormat, "argon2id memory_kib: got 7"},
		{"absurd memory", change(`"memory_kib":64`, `"memory_kib":4294967295`), ErrFormat, "argon2id memory_kib: got 4294967295"},
		{"absurd product", change(`"time":1,"memory_kib":64`, `"time":64,"memory_kib":1048576`), ErrFormat, "at most 65536 with time 64"},
		{"threads 0", change(`"threads":1`, `"threads":0`), ErrFormat, "argon2id threads: got 0"},
		{"absurd threads", change(`"threads":1`, `"threads":255`), ErrFormat, "argon2id threads: got 255"},
		{"short salt", change(`"salt":"`, `"salt":"","x":"`), ErrFormat, "header is malformed"},
		{"empty salt", change(salt(t, data), ""), ErrFormat, "salt: got 0 bytes; it has 16"},
		{"salt not base64", change(`"salt":"`, `"salt":"!`), ErrFormat, "header is malformed"},
		{"empty nonce", change(nonce(t, data), ""), ErrFormat, "nonce: got 0 bytes; it has 24"},
		{"no ciphertext", data[:n], ErrFormat, "cut off"},
		{"short ciphertext", data[:n+15], ErrFormat, "cut off"},
		{"huge", append(bytes.Clone(data), make([]byte, maxFile)...), ErrFormat, "more than 8388608 bytes"},

		// A file of the right form whose content doesn't fit: nobody can tell why.
		{"last byte cut", data[:len(data)-1], backend.ErrCredentials, "wrong passphrase or damaged file"},
		{"byte added", append(bytes.Clone(data), 0), backend.ErrCredentials, "wrong passphrase or damaged file"},
		{"ciphertext flipped", flip(n + 3), backend.ErrCredentials, "wrong passphrase or damaged file"},
		{"tag flipped", flip(len(data) - 1), backend.ErrCredentials, "wrong passphrase or damaged file"},
		{"other time", change(`"time":1`, `"time":2`), backend.ErrCredentials, "wrong passphrase or damaged file"},
		{"other salt", change(salt(t, data), "AAAAAAAAAAAAAAAAAAAAAA=="), backend.ErrCredentials, "wrong passphrase or damaged file"},
	} {
		t.Run(test.name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "keys")
			if err := os.WriteFile(path, test.data, 0o600); err != nil {
				t.Fatal(err)
			}
			b, err := OpenFile(path, testPassphrase, cheap)
			wantError(t, err, test.want, test.says, path)
			if b != nil || errors.Is(err, ErrFormat) == errors.Is(err, backend.ErrCredentials) {
				t.Errorf("got a Backend, or an error of two kinds: %v", err)
			}
			if got := must(os.ReadFile(path)); !bytes.Equal(got, test.data) {
				t.Error("the file was written to")
			}
		})
	}
}

// salt and nonce return what stands in the header of a sound file.
func salt(t testing.TB, data []byte) string {
	h, _, _, err := parse(data)
	if err != nil {
		t.Fatal(err)
	}
	return base64.StdEncoding.EncodeToString(h.Salt)
}

func nonce(t testing.TB, data []byte) string {
	h, _, _, err := parse(data)
	if err != nil {
		t.Fatal(err)
	}
	return base64.StdEncoding.EncodeToString(h.Nonce)
}

// TestHeaderIsAuthenticated checks, with the right key, that no byte of the header can be changed: with the passphrase, a
// change of salt or costs would already show in another key.
func TestHeaderIsAuthenticated(t *testing.T) {
	_, data := storeFile(t)
	h, line, ciphertext, err := parse(data)
	if err != nil {
		t.Fatal(err)
	}
	key := h.kdf().key(testPassphrase)
	if _, err := decrypt(key, h, line, ciphertext); err != nil {
		t.Fatal(err)
	}
	for i := range line {
		changed := bytes.Clone(line)
		changed[i] ^= 1
		_, err := decrypt(key, h, changed, ciphertext)
		wantError(t, err, backend.ErrCredentials)
	}
}

func TestUnmarshalKeys(t *testing.T) {
	const id = "0123456789abcdef"
	aes := base64.StdEncoding.EncodeToString(make([]byte, 32))
	one := func(name, id, kind, material string) string {
		return fmt.Sprintf(`{"name":%q,"id":%q,"type":%q,"material":%q}`, name, id, kind, material)
	}
	good := `{"keys":[` + one("k", id, "AES", aes) + `]}`
	if entries, err := unmarshalKeys([]byte(good)); err != nil || len(entries) != 1 || entries["k"].id() != "k#"+id {
		t.Fatalf("got %v, %v", entries, err)
	}
	for name, test := range map[string]struct{ data, says string }{
		"empty":            {"", "JSON"},
		"not JSON":         {"keys", "JSON"},
		"cut off":          {good[:20], "JSON"},
		"unknown member":   {`{"keys":[],"more":1}`, "JSON"},
		"trailing":         {good + "x", "follows"},
		"second value":     {good + "{}", "follows"},
		"no name":          {`{"keys":[` + one("", id, "AES", aes) + `]}`, "key_name"},
		"bad name":         {`{"keys":[` + one("a b", id, "AES", aes) + `]}`, "key_name"},
		"twice":            {`{"keys":[` + one("k", id, "AES", aes) + "," + one("k", id, "AES", aes) + `]}`, "twice"},
		"no id":            {`{"keys":[` + one("k", "", "AES", aes) + `]}`, "no proper id"},
		"upper-case id":    {`{"keys":[` + one("k", strings.ToUpper(id), "AES", aes) + `]}`, "no proper id"},
		"long id":          {`{"keys":[` + one("k", id+"0", "AES", aes) + `]}`, "no proper id"},
		"unknown type":     {`{"keys":[` + one("k", id, "DES", aes) + `]}`, "PKCS #8"},
		"type of another":  {`{"keys":[` + one("k", id, "RSA", pkcs8(t, Ed25519)) + `]}`, "of type ED25519"},
		"AES of bad size":  {`{"keys":[` + one("k", id, "AES", "AAAA") + `]}`, "3 bytes"},
		"no material":      {`{"keys":[{"name":"k","id":"` + id + `","type":"HMAC"}]}`, "0 bytes"},
		"damaged PKCS #8":  {`{"keys":[` + one("k", id, "ED25519", aes) + `]}`, "PKCS #8"},
		"null":             {`{"keys":[null]}`, "key_name"},
		"keys of bad type": {`{"keys":{}}`, "JSON"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := unmarshalKeys([]byte(test.data))
			wantError(t, err, ErrFormat, test.says)
			if err != nil && strings.Contains(err.Error(), aes) {
				t.Errorf("the error shows a key: %v", err)
			}
		})
	}
}

func pkcs8(t testing.TB, kind KeyType) string {
	m, err := generateMaterial(Params{KeyType: kind}, nil)
	if err != nil {
		t.Fatal(err)
	}
	return base64.StdEncoding.EncodeToString(m.secret)
}

// TestDocumentedFormat checks a file against the format that the package documentation promises.
func TestDocumentedFormat(t *testing.T) {
	_, data := storeFile(t)
	line, _, _ := bytes.Cut(data, []byte("\n"))
	var h map[string]any
	if err := json.Unmarshal(line, &h); err != nil {
		t.Fatal(err)
	}
	delete(h, "salt")
	delete(h, "nonce")
	want := map[string]any{
		"format": "managedkeys/software", "version": 1.0, "kdf": "argon2id", "time": 1.0, "memory_kib": 64.0,
		"threads": 1.0, "cipher": "xchacha20-poly1305",
	}
	if fmt.Sprint(h) != fmt.Sprint(want) {
		t.Errorf("the header has %v, want %v", h, want)
	}
	prefix := `{"format":"managedkeys/software","version":1,"kdf":"argon2id","time":1,"memory_kib":64,"threads":1,"salt":"`
	if !strings.HasPrefix(string(line), prefix) {
		t.Errorf("the header is %s", line)
	}
}

// TestOldFile opens a file that an earlier run of this program wrote, so that a change of the format is noticed.
func TestOldFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "keys")
	if err := os.WriteFile(path, must(os.ReadFile("testdata/store-v1")), 0o600); err != nil {
		t.Fatal(err)
	}
	b := openTest(t, path)
	wantNames(t, b, "aes", "ecdsa", "ed25519", "hmac", "ml-dsa", "rsa")
	key := must(b.Open(t.Context(), Params{KeyName: "hmac"})).(backend.MAC)
	got := must(key.ComputeMAC(t.Context(), backend.HMACSHA256, []byte("message")))
	if want := "ceb822ce5aae1ff09b7cf2085037ab77b4dc84502b3c4aa6266a665f7753b09a"; fmt.Sprintf("%x", got) != want {
		t.Errorf("got %x, want %s", got, want)
	}
}

// memoryDisk has one file, whose content is data.
type memoryDisk struct {
	disk
	data []byte
}

func (memoryDisk) Resolve(path string) (string, error) { return path, nil }
func (d memoryDisk) Read(string, int64) ([]byte, fs.FileMode, error) {
	return d.data, newFilePerm, nil
}

// FuzzOpenFile checks that no content of a file makes OpenFile panic, and that every refusal is of one of two kinds.
func FuzzOpenFile(f *testing.F) {
	_, data := storeFile(f)
	n := bytes.IndexByte(data, '\n') + 1
	f.Add(data)
	f.Add(data[:n])
	f.Add(data[:n+16])
	f.Add(edit(f, data, `"threads":1`, `"threads":255`))
	f.Add(edit(f, data, `"version":1`, `"version":2`))
	f.Add([]byte("{}\n"))
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, data []byte) {
		h, line, ciphertext, err := parse(data)
		if err != nil {
			wantError(t, err, ErrFormat)
		} else {
			if !bytes.Equal(append(bytes.Clone(line), ciphertext...), data) {
				t.Error("the parts are not the whole")
			}
			if h.MemoryKiB > 128 || h.Time > 4 {
				return // within bounds, but too slow here
			}
		}
		b, err := openFile(memoryDisk{data: data}, "keys", testPassphrase, nil)
		if err == nil {
			wantNames(t, b, "ed") // only the first seed decrypts
			return
		}
		if errors.Is(err, ErrFormat) == errors.Is(err, backend.ErrCredentials) {
			t.Errorf("the error is of no kind or of two: %v", err)
		}
	})
}

// FuzzUnmarshalKeys checks that no decrypted content panics, and that what is accepted is written again the same way.
func FuzzUnmarshalKeys(f *testing.F) {
	const id = "0123456789abcdef"
	f.Add([]byte(`{"keys":[]}`))
	f.Add([]byte(`{"keys":[{"name":"k","id":"` + id + `","type":"AES","material":"AAAAAAAAAAAAAAAAAAAAAA=="}]}`))
	f.Add([]byte(`{"keys":[{"name":"k","id":"` + id + `","type":"ED25519","material":"` + pkcs8(f, Ed25519) + `"}]}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		entries, err := unmarshalKeys(data)
		if err != nil {
			wantError(t, err, ErrFormat)
			return
		}
		again, err := unmarshalKeys(marshalKeys(entries))
		if err != nil || len(again) != len(entries) {
			t.Fatalf("%d keys become %d, %v", len(entries), len(again), err)
		}
		for name, e := range entries {
			if again[name] == nil || !again[name].same(e) {
				t.Errorf("key %q is another", name)
			}
		}
	})
}
