package backendtest

import (
	"fmt"

	"github.com/managedkeys/managedkeys/backend"
)

// secretKeyRefusals returns what must be refused of AEAD, MAC, random and wrapping.
func secretKeyRefusals(c *checker, k Key, key backend.Key) []refusal {
	caps := key.Capabilities()
	var all []refusal
	refuse := func(name string, call func() error, want error) {
		all = append(all, refusal{name, call, []error{want}})
	}
	if s, ok := key.(backend.AEAD); ok {
		seal := func() error {
			_, err := s.Seal(c.Context(), make([]byte, caps.MaxPlaintext+1), nil)
			return err
		}
		open := func() error {
			_, err := s.Open(c.Context(), make([]byte, 64), nil)
			return err
		}
		if !k.AEAD {
			refuse("Seal, which is not declared", seal, backend.ErrUnsupported)
			refuse("Open, which is not declared", open, backend.ErrUnsupported)
		} else if caps.MaxPlaintext > 0 {
			refuse("Seal of a plaintext that is too long", seal, backend.ErrInvalidParams)
		}
		if k.AEAD && caps.MinPlaintext > 0 {
			refuse("Seal of a plaintext that is too short", func() error {
				_, err := s.Seal(c.Context(), make([]byte, caps.MinPlaintext-1), nil)
				return err
			}, backend.ErrInvalidParams)
		}
	}
	if m, ok := key.(backend.MAC); ok {
		all = append(all, macRefusals(c, k, m)...)
	}
	if r, ok := key.(backend.Random); ok {
		for _, n := range []int{0, -1, -1 << 31, caps.MaxRandom + 1, 1 << 30} {
			call := func() error {
				_, err := r.GenerateRandom(c.Context(), n)
				return err
			}
			want := backend.ErrInvalidParams
			if !k.Random {
				want = backend.ErrUnsupported
			}
			refuse(fmt.Sprintf("GenerateRandom(%d)", n), call, want)
		}
	}
	if w, ok := key.(backend.Wrapper); ok && !k.Wraps {
		refuse("WrapKey, which is not declared", func() error {
			_, err := w.WrapKey(c.Context(), make([]byte, 32))
			return err
		}, backend.ErrUnsupported)
		refuse("UnwrapKey, which is not declared", func() error {
			_, err := w.UnwrapKey(c.Context(), make([]byte, 40))
			return err
		}, backend.ErrUnsupported)
	}
	return all
}
