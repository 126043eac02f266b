package managedkey

import (
	"context"
	"crypto"
	"crypto/ecdh"
	"crypto/rsa"
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/managedkeys/managedkeys/backend"
	"github.com/managedkeys/managedkeys/backend/software"
)

// softwareKinds are all kinds of keys in software, by name.
var softwareKinds = map[string]software.Params{
	"rsa": {KeyType: software.RSA, KeyBits: 2048}, "ecdsa": {KeyType: software.ECDSA, Curve: software.P256},
	"p384": {KeyType: software.ECDSA, Curve: software.P384}, "p521": {KeyType: software.ECDSA, Curve: software.P521},
	"ed25519": {KeyType: software.Ed25519}, "mldsa": {KeyType: software.MLDSA, ParameterSet: 44},
	"mlkem": {KeyType: software.MLKEM, ParameterSet: 768}, "aes": {KeyType: software.AES, KeyBits: 256},
	"hmac": {KeyType: software.HMAC, KeyBits: 256},
}

// softwareEntry returns an entry for a key of that kind.
func softwareEntry(b backend.Backend, kind string, usages backend.Usage) Entry {
	p := softwareKinds[kind]
	p.KeyName = kind
	return Entry{Ref: ref("a/" + kind), Backend: b, Params: p, Usages: usages, AllowGenerateKey: true}
}

// counts returns how many steps of each usage there are, and fails for those that failed.
func counts(t *testing.T, report *TestReport) map[string]int {
	t.Helper()
	n := map[string]int{}
	for _, s := range report.Steps {
		n[s.Usage.String()]++
		if s.Err != nil {
			t.Errorf("%s with %s: %v", s.Usage, s.Algorithm, s.Err)
		}
		if s.Duration <= 0 {
			t.Errorf("%s with %s took %v", s.Usage, s.Algorithm, s.Duration)
		}
	}
	return n
}

// TestEveryKind: every kind of key passes, with a step for each algorithm of each usage.
func TestEveryKind(t *testing.T) {
	want := map[string]map[string]int{
		"rsa":     {"sign": 16, "verify": 16, "encrypt": 5, "decrypt": 5, "wrap": 1, "unwrap": 1, "generate_random": 1},
		"ecdsa":   {"sign": 8, "verify": 8, "derive": 1, "generate_random": 1},
		"p384":    {"sign": 8, "verify": 8, "derive": 1, "generate_random": 1},
		"p521":    {"sign": 8, "verify": 8, "derive": 1, "generate_random": 1},
		"ed25519": {"sign": 2, "verify": 2, "generate_random": 1}, // of messages and of digests
		"mldsa":   {"sign": 1, "verify": 1, "generate_random": 1},
		"mlkem":   {"derive": 1, "generate_random": 1},
		"aes":     {"encrypt": 1, "decrypt": 1, "wrap": 1, "unwrap": 1, "generate_random": 1},
		"hmac":    {"mac": 9, "generate_random": 1},
	}
	b := software.New(nil)
	defer b.Close()
	for kind := range softwareKinds {
		t.Run(kind, func(t *testing.T) {
			r := NewRegistry()
			mustCreate(t, r, softwareEntry(b, kind, allUsages))
			report, err := r.Test(t.Context(), ref("a/"+kind), &TestOptions{Generate: true})
			check(t, err, nil)
			got := counts(t, report)
			for usage, n := range want[kind] {
				if got[usage] != n {
					t.Errorf("%d steps of %s, want %d", got[usage], usage, n)
				}
			}
			if len(got) != len(want[kind]) {
				t.Errorf("steps of %v, want %v", got, want[kind])
			}
			if report.Lacking != allUsages&^report.Capabilities.Usages || report.Lacking == 0 {
				t.Errorf("lacking %s beside %s", report.Lacking, report.Capabilities.Usages)
			}
			k := mustKey(t, r, "a/"+kind)
			if report.KeyID != k.ID() || report.UUID != k.UUID() || report.Backend != "software" || report.Opening <= 0 ||
				report.Capabilities.Algorithm != k.Capabilities().Algorithm || (k.Public() == nil) != (report.PublicKeySHA256 == nil) {
				t.Errorf("report %+v of key %s", report, k.ID())
			}
		})
	}
}

// TestHalfOfAPair: the usage that undoes is tried with garbage if the one that does isn't allowed, and only what is allowed
// and asked for is tried.
func TestHalfOfAPair(t *testing.T) {
	b := software.New(nil)
	defer b.Close()
	for _, c := range []struct {
		kind         string
		allow, asked backend.Usage
		want         []string
	}{
		{"rsa", backend.UsageUnwrap, 0, []string{"unwrap"}},
		{"rsa", backend.UsageDecrypt, 0, slices.Repeat([]string{"decrypt"}, 5)},
		{"ecdsa", backend.UsageVerify, 0, slices.Repeat([]string{"verify"}, 8)},
		{"ed25519", backend.UsageSign | backend.UsageVerify | backend.UsageGenerateRandom, backend.UsageSign | backend.UsageMAC, []string{"sign", "sign"}},
		{"aes", backend.UsageEncrypt, 0, []string{"encrypt"}},
		{"aes", backend.UsageDecrypt, 0, []string{"decrypt"}},
		{"aes", backend.UsageWrap | backend.UsageDecrypt, backend.UsageWrap, []string{"wrap"}},
		{"hmac", backend.UsageSign, 0, nil},
	} {
		r := NewRegistry()
		mustCreate(t, r, softwareEntry(b, c.kind, c.allow))
		report, err := r.Test(t.Context(), ref("a/"+c.kind), &TestOptions{Generate: true, Usages: c.asked})
		check(t, err, nil)
		var got []string
		for _, s := range report.Steps {
			got = append(got, s.Usage.String())
		}
		if !slices.Equal(got, c.want) {
			t.Errorf("%s that allows %s, asked for %s: steps %q, want %q", c.kind, c.allow, c.asked, got, c.want)
		}
		if len(c.want) == 0 && !strings.Contains(report.String(), "nothing to test") {
			t.Errorf("the report says %q", report)
		}
	}
}

// liar is a software backend whose keys are changed.
type liar struct {
	*software.Backend
	change func(backend.Key) backend.Key
}

func (l liar) Open(ctx context.Context, p backend.Params) (backend.Key, error) {
	k, err := l.Backend.Open(ctx, p)
	if err != nil {
		return nil, err
	}
	return l.change(k), nil
}

// Keys of which one operation is another.
type (
	writes struct {
		backend.MessageSigner
		fn func(s backend.MessageSigner, message []byte, opts crypto.SignerOpts) ([]byte, error)
	}
	verifies struct {
		backend.MessageSigner
		err error
	}
	decrypts struct {
		backend.Decrypter
		fn func(d backend.Decrypter, ciphertext []byte, opts crypto.DecrypterOpts) ([]byte, error)
	}
	seals struct {
		backend.AEAD
		seal func(a backend.AEAD, plaintext, data []byte) ([]byte, error)
		open func(a backend.AEAD, ciphertext, data []byte) ([]byte, error)
	}
	macs struct {
		backend.MAC
		compute func(m backend.MAC, a backend.MACAlgorithm, message []byte) ([]byte, error)
		verify  func(m backend.MAC, a backend.MACAlgorithm, message, mac []byte) error
	}
	wraps struct {
		backend.Wrapper
		wrap, unwrap func(w backend.Wrapper, data []byte) ([]byte, error)
	}
	agrees struct {
		backend.KeyAgreer
		fn func(a backend.KeyAgreer, peer *ecdh.PublicKey) ([]byte, error)
	}
	decapsulates struct {
		backend.Decapsulator
		fn func(d backend.Decapsulator, ciphertext []byte) ([]byte, error)
	}
	draws struct {
		backend.Random
		fn func(r backend.Random, n int) ([]byte, error)
	}
	declares struct {
		backend.Key
		caps func(*backend.Capabilities)
	}
)

func (k writes) SignMessageContext(_ context.Context, message []byte, opts crypto.SignerOpts) ([]byte, error) {
	return k.fn(k.MessageSigner, message, opts)
}

func (k verifies) VerifyContext(context.Context, []byte, []byte, crypto.SignerOpts) error {
	return k.err
}

func (k decrypts) DecryptContext(_ context.Context, ciphertext []byte, opts crypto.DecrypterOpts) ([]byte, error) {
	return k.fn(k.Decrypter, ciphertext, opts)
}

func (k seals) Seal(ctx context.Context, plaintext, data []byte) ([]byte, error) {
	if k.seal == nil {
		return k.AEAD.Seal(ctx, plaintext, data)
	}
	return k.seal(k.AEAD, plaintext, data)
}

func (k seals) Open(ctx context.Context, ciphertext, data []byte) ([]byte, error) {
	if k.open == nil {
		return k.AEAD.Open(ctx, ciphertext, data)
	}
	return k.open(k.AEAD, ciphertext, data)
}

func (k macs) ComputeMAC(ctx context.Context, a backend.MACAlgorithm, message []byte) ([]byte, error) {
	if k.compute == nil {
		return k.MAC.ComputeMAC(ctx, a, message)
	}
	return k.compute(k.MAC, a, message)
}

func (k macs) VerifyMAC(ctx context.Context, a backend.MACAlgorithm, message, mac []byte) error {
	if k.verify == nil {
		return k.MAC.VerifyMAC(ctx, a, message, mac)
	}
	return k.verify(k.MAC, a, message, mac)
}

func (k wraps) WrapKey(ctx context.Context, data []byte) ([]byte, error) {
	if k.wrap == nil {
		return k.Wrapper.WrapKey(ctx, data)
	}
	return k.wrap(k.Wrapper, data)
}

func (k wraps) UnwrapKey(ctx context.Context, data []byte) ([]byte, error) {
	if k.unwrap == nil {
		return k.Wrapper.UnwrapKey(ctx, data)
	}
	return k.unwrap(k.Wrapper, data)
}

func (k agrees) ECDHContext(_ context.Context, peer *ecdh.PublicKey) ([]byte, error) {
	return k.fn(k.KeyAgreer, peer)
}

func (k decapsulates) DecapsulateContext(_ context.Context, ciphertext []byte) ([]byte, error) {
	return k.fn(k.Decapsulator, ciphertext)
}

func (k draws) GenerateRandom(_ context.Context, n int) ([]byte, error) { return k.fn(k.Random, n) }

func (k declares) Capabilities() backend.Capabilities {
	caps := k.Key.Capabilities()
	k.caps(&caps)
	return caps
}

// TestStepsAreRecorded: what fails in one step is in the report, in the error and in the table, and does not end the test.
func TestStepsAreRecorded(t *testing.T) {
	b := software.New(nil)
	defer b.Close()
	away := errors.New("the cable is out")
	r := NewRegistry()
	mustCreate(t, r, softwareEntry(b, "rsa", allUsages))
	mustKey(t, r, "a/rsa")
	r = NewRegistry()
	mustCreate(t, r, softwareEntry(liar{b, func(k backend.Key) backend.Key {
		return writes{k.(backend.MessageSigner), func(s backend.MessageSigner, message []byte, opts crypto.SignerOpts) ([]byte, error) {
			if _, pss := opts.(*rsa.PSSOptions); pss {
				return nil, errors.Join(backend.ErrUnavailable, away)
			}
			return s.SignMessageContext(context.Background(), message, opts)
		}}
	}}, "rsa", backend.UsageSign))
	report, err := r.Test(t.Context(), ref("a/rsa"), nil)
	check(t, err, backend.ErrUnavailable, "8 of 16 steps failed", "sign with RSA PSS with SHA-256", "cable")
	check(t, err, away)
	for _, s := range report.Steps {
		if pss := strings.HasPrefix(s.Algorithm, "RSA PSS"); pss != errors.Is(s.Err, away) || pss == (s.Err == nil) {
			t.Errorf("%s: %v", s.Algorithm, s.Err)
		}
		if s.Err != nil {
			check(t, s.Err, away, "sign")
		}
	}
	table := report.String()
	if strings.Count(table, "FAILED") != 8 || strings.Count(table, " ok\n") != 8 || !strings.Contains(table, "cable is out") ||
		strings.Count(table, "\n") != 18 {
		t.Errorf("the table is\n%s", table)
	}
}
