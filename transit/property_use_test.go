package transit

import (
	"bytes"
	"encoding/base64"
	"errors"
	"fmt"
	"io"

	"pgregory.net/rapid"

	"github.com/managedkeys/managedkeys/backend"
)

func (m *keyModel) isRSA() bool { return m.opts.Type == TypeRSA2048 }

// draw draws what shall be encrypted, and how, with the version of that number.
func (m *keyModel) draw(t *rapid.T, number int) sealedText {
	s := sealedText{plaintext: rapid.SliceOfN(rapid.Byte(), 0, 100).Draw(t, "plaintext"), version: number}
	if m.isRSA() {
		s.padding = rapid.SampledFrom([]string{"", PaddingOAEP, PaddingPKCS1v15}).Draw(t, "padding")
	} else {
		s.data = rapid.SliceOfN(rapid.Byte(), 0, 5).Draw(t, "data")
	}
	if m.opts.Derived {
		s.context = rapid.SliceOfN(rapid.Byte(), 1, 2).Draw(t, "context")
	}
	return s
}

// keep notes which version made s.
func (m *keyModel) keep(s *sealedText) {
	if s.version == 0 {
		s.version = m.latest()
	}
	s.key = m.keys[s.version-1]
}

// readable reports whether s is to be decrypted: its version is in the window, and still is the key that it was.
func (m *keyModel) readable(s *sealedText) (window, same bool) {
	window = s.version <= m.latest() && s.version >= max(m.dec, m.first)
	return window, window && m.keys[s.version-1] == s.key
}

func (s *sealedText) request() DecryptRequest {
	return DecryptRequest{Ciphertext: s.text, AssociatedData: s.data, Context: s.context, PaddingScheme: s.padding}
}

// refuses decrypts what must not be decrypted, though the window has nothing against it.
func (m *keyModel) refuses(t *rapid.T, s *sealedText, r DecryptRequest) {
	t.Helper()
	got, err := m.e.Decrypt(t.Context(), m.name, r)
	if s.padding == PaddingPKCS1v15 && err == nil {
		if len(got) > 3 && bytes.Equal(got, s.plaintext) { // what looks random may be equal if it is short
			t.Fatalf("%s is %x as well", r.Ciphertext, got)
		}
		return
	}
	m.check(t, err, false, backend.ErrDecryption)
	if got != nil {
		t.Fatalf("got %x beside the error %v", got, err)
	}
}

// use are the actions that encrypt and decrypt.
func (m *keyModel) use() map[string]func(*rapid.T) {
	choose := func(t *rapid.T, from []sealedText) *sealedText {
		if len(from) == 0 {
			return &sealedText{}
		}
		return &from[rapid.IntRange(0, len(from)-1).Draw(t, "which")]
	}
	return map[string]func(*rapid.T){
		"encrypt": func(t *rapid.T) {
			s := m.draw(t, rapid.IntRange(-1, m.latest()+1).Draw(t, "version"))
			text, err := m.e.Encrypt(t.Context(), m.name, EncryptRequest{Plaintext: s.plaintext, AssociatedData: s.data, Context: s.context, KeyVersion: s.version, PaddingScheme: s.padding})
			m.check(t, err, m.usable(s.version))
			if err != nil {
				return
			}
			s.text = text
			m.keep(&s)
			m.kept = append(m.kept, s)
			if m.opts.Convergent { // what is the same has the same ciphertext, if the associated data is the same too
				id := fmt.Sprintf("%d %x %x %x", s.key, s.plaintext, s.context, s.data)
				if before, ok := m.convergent[id]; ok && before != decoded(text) {
					t.Fatalf("%s was %s", text, before)
				}
				m.convergent[id] = decoded(text)
			}
		},
		"decrypt": func(t *rapid.T) {
			s := choose(t, m.kept)
			window, same := m.readable(s)
			if s.text == "" || m.deleted || window && !same {
				if s.text != "" {
					m.refuses(t, s, s.request())
				}
				return
			}
			got, err := m.e.Decrypt(t.Context(), m.name, s.request())
			m.check(t, err, same)
			if err == nil && !bytes.Equal(got, s.plaintext) {
				t.Fatalf("got %x; want %x", got, s.plaintext)
			}
		},
		"rewrap": func(t *rapid.T) {
			s := choose(t, m.kept)
			if _, same := m.readable(s); !same || s.text == "" {
				return
			}
			number := rapid.IntRange(0, m.latest()).Draw(t, "version")
			r := RewrapRequest{Ciphertext: s.text, AssociatedData: s.data, Context: s.context, KeyVersion: number, DecryptPaddingScheme: s.padding, EncryptPaddingScheme: s.padding}
			if m.isRSA() {
				r.EncryptPaddingScheme = rapid.SampledFrom([]string{"", PaddingPKCS1v15}).Draw(t, "new padding")
			}
			text, err := m.e.Rewrap(t.Context(), m.name, r)
			m.check(t, err, m.usable(number))
			if err == nil {
				s.text, s.version, s.padding = text, number, r.EncryptPaddingScheme
				m.keep(s)
			}
		},
		"tamper": func(t *rapid.T) {
			s := choose(t, m.kept)
			if window, _ := m.readable(s); !window || s.text == "" {
				return
			}
			number, encoded, _ := parse("ciphertext", s.text)
			raw, _ := decode(encoded, base64.StdEncoding)
			raw[rapid.IntRange(0, len(raw)-1).Draw(t, "byte")] ^= 1 << rapid.IntRange(0, 7).Draw(t, "bit")
			r := s.request()
			r.Ciphertext = format(number, raw, base64.StdEncoding)
			m.refuses(t, s, r)
		},
		"other": func(t *rapid.T) { // associated data, or context
			s := choose(t, m.kept)
			if window, _ := m.readable(s); !window || s.text == "" || m.isRSA() {
				return
			}
			r := s.request()
			if m.opts.Derived && rapid.Bool().Draw(t, "context") {
				r.Context = append(bytes.Clone(r.Context), 0)
			} else {
				r.AssociatedData = append(bytes.Clone(r.AssociatedData), 0)
			}
			m.refuses(t, s, r)
		},
		"stream": func(t *rapid.T) {
			s := m.draw(t, rapid.IntRange(0, m.latest()+1).Draw(t, "version"))
			s.padding = ""
			s.plaintext = bytes.Repeat(s.plaintext, rapid.IntRange(0, 100).Draw(t, "times"))
			var out bytes.Buffer
			w, err := m.e.NewEncryptingWriter(t.Context(), m.name, &out, s.stream())
			m.check(t, err, m.usable(s.version))
			if err != nil {
				return
			}
			_, err = w.Write(s.plaintext)
			fatalRapid(t, errors.Join(err, w.Close()))
			s.text = out.String()
			m.keep(&s)
			m.streams = append(m.streams, s)
		},
		"read stream": func(t *rapid.T) {
			s := choose(t, m.streams)
			if s.text == "" {
				return
			}
			window, same := m.readable(s)
			r, err := m.e.NewDecryptingReader(t.Context(), m.name, bytes.NewReader([]byte(s.text)), s.stream())
			if window && !same {
				m.check(t, err, false, backend.ErrDecryption)
				return
			}
			m.check(t, err, same)
			if err != nil {
				return
			}
			if got, err := io.ReadAll(r); err != nil || !bytes.Equal(got, s.plaintext) {
				t.Fatalf("got %d bytes, %v; want %d", len(got), err, len(s.plaintext))
			}
			bad := []byte(s.text)
			at := rapid.IntRange(0, len(bad)-1).Draw(t, "byte")
			bad[at] ^= 1 << rapid.IntRange(0, 7).Draw(t, "bit")
			if r, err = m.e.NewDecryptingReader(t.Context(), m.name, bytes.NewReader(bad), s.stream()); err == nil {
				var got []byte
				if got, err = io.ReadAll(r); !bytes.HasPrefix(s.plaintext, got) {
					t.Fatalf("read what was never written, %v", err)
				}
			}
			m.check(t, err, false, backend.ErrDecryption, backend.ErrInvalidParams, backend.ErrUnsupported)
		},
		"rewrap stream": func(t *rapid.T) {
			s := choose(t, m.streams)
			if _, same := m.readable(s); !same || s.text == "" {
				return
			}
			var out bytes.Buffer
			opts := s.stream()
			opts.KeyVersion = rapid.IntRange(0, m.latest()).Draw(t, "version")
			err := m.e.RewrapStream(t.Context(), m.name, &out, bytes.NewReader([]byte(s.text)), opts)
			m.check(t, err, m.usable(opts.KeyVersion))
			if err == nil {
				s.text, s.version = out.String(), opts.KeyVersion
				m.keep(s)
			}
		},
	}
}

func (s *sealedText) stream() StreamOptions {
	opts := smallStream
	opts.AssociatedData, opts.Context, opts.KeyVersion = s.data, s.context, s.version
	return opts
}

// decoded returns what an envelope has beside the version.
func decoded(text string) string {
	_, encoded, _ := parse("ciphertext", text)
	return encoded
}
