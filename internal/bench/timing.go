package main

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"
	"math/big"
	mathrand "math/rand/v2"
	"os"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/managedkeys/managedkeys/backend"
	"github.com/managedkeys/managedkeys/backend/software"
	"github.com/managedkeys/managedkeys/managedkey"
	"github.com/managedkeys/managedkeys/transit"
)

// ciphertexts are of how many different ciphertexts a class has.
const ciphertexts = 64

// distinct is Welch's t above which two classes are held to take different times, as in Reparaz, Balasch and Verbauwhede, "Dude, is my
// code constant time?" (2017).
const distinct = 4.5

// timedKey is a key and the classes of ciphertexts whose times are compared with those of the first.
type timedKey struct {
	name, key, padding string
	fails              bool // every class but "right" is refused
	classes            []timedClass
}

type timedClass struct {
	name string
	make func() []byte // a ciphertext

	texts []string
	times []float64 // in µs
}

// timing prints how long decrypting takes, for ciphertexts that are wrong in different ways.
func (w *workplace) timing() error {
	b := software.New(nil)
	defer b.Close()
	subjects, e, err := newTimed(context.Background(), b)
	if err != nil {
		return err
	}
	limit := 8 * time.Duration(*rounds) * *window
	fmt.Printf("Decrypting, in µs, with ciphertexts of each class in random order for %v; the slowest quarter of all is left out. t is Welch's, for the\n"+
		"class and the first one; above %.1f they differ. The second class is the first again, and shows the noise. \"right\" may differ where\n"+
		"the others are refused.\n\n", limit, distinct)
	out := tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(out, "key\tclass\tsamples\tmedian\tmean\tt\t\t")
	for _, s := range subjects {
		if err := s.measure(e, limit); err != nil {
			return fmt.Errorf("%s: %w", s.name, err)
		}
		s.print(out)
	}
	return out.Flush()
}

// newTimed makes the keys and their ciphertexts.
func newTimed(ctx context.Context, b *software.Backend) ([]*timedKey, *transit.Engine, error) {
	mount, err := managedkey.NewRegistry().Mount(ctx, "", "transit")
	if err != nil {
		return nil, nil, err
	}
	e := transit.New(mount, &transit.Options{Software: b, AllowPKCS1v15: true})
	for _, kind := range []string{transit.TypeAES256, transit.TypeChaCha20Poly1305, transit.TypeRSA2048} {
		if err := e.CreateKey(ctx, kind, transit.KeyOptions{Type: kind}); err != nil {
			return nil, nil, err
		}
	}
	info, err := e.Key(transit.TypeRSA2048)
	if err != nil {
		return nil, nil, err
	}
	public := info.Versions[0].PublicKey.(*rsa.PublicKey)
	subjects := []*timedKey{
		{name: "AES-256-GCM 1 KiB", key: transit.TypeAES256, fails: true, classes: wrongAEAD(ctx, e, transit.TypeAES256)},
		{name: "ChaCha20-Poly1305 1 KiB", key: transit.TypeChaCha20Poly1305, fails: true, classes: wrongAEAD(ctx, e, transit.TypeChaCha20Poly1305)},
		{name: "RSA-2048 OAEP", key: transit.TypeRSA2048, padding: transit.PaddingOAEP, fails: true, classes: wrongOAEP(public)},
		{name: "RSA-2048 PKCS #1 v1.5", key: transit.TypeRSA2048, padding: transit.PaddingPKCS1v15, classes: wrongPKCS1v15(public)},
	}
	for _, s := range subjects {
		again := s.classes[0]
		again.name += ", again"
		s.classes = append([]timedClass{s.classes[0], again}, s.classes[1:]...)
		for i := range s.classes {
			c := &s.classes[i]
			for range ciphertexts {
				c.texts = append(c.texts, "vault:v1:"+base64.StdEncoding.EncodeToString(c.make()))
			}
		}
	}
	return subjects, e, nil
}

// measure decrypts for so long, and an error unless what was right is decrypted and the rest is not.
func (s *timedKey) measure(e *transit.Engine, limit time.Duration) error {
	order := make([]int, len(s.classes))
	for i := range order {
		order[i] = i
	}
	ctx := context.Background()
	for begin := time.Now(); time.Since(begin) < limit || len(s.classes[0].times) < 2; {
		mathrand.Shuffle(len(order), func(i, j int) { order[i], order[j] = order[j], order[i] })
		for _, i := range order {
			c := &s.classes[i]
			r := transit.DecryptRequest{Ciphertext: c.texts[mathrand.IntN(len(c.texts))], PaddingScheme: s.padding}
			if !strings.HasPrefix(s.name, "RSA") {
				r.PaddingScheme = ""
			}
			start := time.Now()
			_, err := e.Decrypt(ctx, s.key, r)
			took := time.Since(start)
			if fails := s.fails && c.name != "right"; fails != errors.Is(err, backend.ErrDecryption) {
				return fmt.Errorf("class %s: %w", c.name, err)
			}
			c.times = append(c.times, float64(took.Nanoseconds())/1e3)
		}
	}
	return nil
}

// print adds a row for each class.
func (s *timedKey) print(out io.Writer) {
	var all []float64
	for _, c := range s.classes {
		all = append(all, c.times...)
	}
	most := quantile(all, 0.75)
	first := below(s.classes[0].times, most)
	for i, c := range s.classes {
		times, t, verdict := below(c.times, most), math.NaN(), ""
		if i > 0 {
			t = welch(times, first)
		}
		if math.Abs(t) > distinct {
			verdict = "differs"
		}
		fmt.Fprintf(out, "%s\t%s\t%d\t%.2f\t%.2f\t%s\t%s\t\n", s.name, c.name, len(times), median(times), mean(times), cell("%+.1f", t), verdict)
	}
}

// wrongAEAD are classes of ciphertexts of an AEAD.
func wrongAEAD(ctx context.Context, e *transit.Engine, key string) []timedClass {
	spoil := func(at func(c []byte) int) func() []byte {
		return func() []byte {
			c, _, err := e.EncryptBytes(ctx, key, nil, transit.EncryptRequest{Plaintext: message})
			if err != nil {
				panic(err) // not reached: the key was just made
			}
			if i := at(c); i >= 0 {
				c[i] ^= byte(1 + mathrand.IntN(255))
			}
			return c
		}
	}
	return []timedClass{
		{name: "first byte of the tag", make: spoil(func(c []byte) int { return len(c) - 16 })},
		{name: "last byte of the tag", make: spoil(func(c []byte) int { return len(c) - 1 })},
		{name: "first byte", make: spoil(func([]byte) int { return 12 })},
		{name: "last byte", make: spoil(func(c []byte) int { return len(c) - 17 })},
		{name: "nonce", make: spoil(func([]byte) int { return 0 })},
		{name: "right", make: spoil(func([]byte) int { return -1 })},
	}
}

// raise is RSAEP (RFC 8017, Section 5.1.1).
func raise(public *rsa.PublicKey, message []byte) []byte {
	c := new(big.Int).Exp(new(big.Int).SetBytes(message), big.NewInt(int64(public.E)), public.N)
	return c.FillBytes(make([]byte, public.Size()))
}

// wrongOAEP are classes of ciphertexts of RSAES-OAEP with SHA-256, of a message of 32 bytes.
func wrongOAEP(public *rsa.PublicKey) []timedClass {
	const hLen = sha256.Size
	encode := func(first byte, spoil func(db []byte)) func() []byte {
		return func() []byte { // RFC 8017, Section 7.1.1, step 2
			em := make([]byte, public.Size())
			em[0] = first
			seed, db := em[1:1+hLen], em[1+hLen:]
			rand.Read(seed)
			label := sha256.Sum256(nil)
			copy(db, label[:])
			rand.Read(db[len(db)-32:])
			db[len(db)-33] = 1
			spoil(db)
			mask(db, seed)
			mask(seed, db)
			return raise(public, em)
		}
	}
	nothing := func([]byte) {}
	return []timedClass{
		{name: "first byte", make: encode(1, nothing)},
		{name: "hash of the label", make: encode(0, func(db []byte) { db[0] ^= 1 })},
		{name: "end of that hash", make: encode(0, func(db []byte) { db[hLen-1] ^= 1 })},
		{name: "padding", make: encode(0, func(db []byte) { db[hLen] = 2 })},
		{name: "separator", make: encode(0, func(db []byte) { db[len(db)-33] = 2 })},
		{name: "no separator", make: encode(0, func(db []byte) { clear(db[hLen:]) })},
		{name: "right", make: encode(0, nothing)},
	}
}

// mask is MGF1 with SHA-256 (RFC 8017, Appendix B.2.1) of a seed, added to dst.
func mask(dst, seed []byte) {
	for i := uint32(0); len(dst) > 0; i++ {
		sum := sha256.Sum256(binary.BigEndian.AppendUint32(bytes.Clone(seed), i))
		n := min(len(dst), len(sum))
		for j := range n {
			dst[j] ^= sum[j]
		}
		dst = dst[n:]
	}
}

// wrongPKCS1v15 are classes of ciphertexts of RSAES-PKCS1-v1_5, of a message of 32 bytes.
func wrongPKCS1v15(public *rsa.PublicKey) []timedClass {
	encode := func(spoil func(em []byte)) func() []byte {
		return func() []byte { // RFC 8017, Section 7.2.1, step 2
			em := make([]byte, public.Size())
			rand.Read(em)
			for i := range em {
				em[i] |= 1 // no zero
			}
			separator := len(em) - 33
			em[0], em[1], em[separator] = 0, 2, 0
			spoil(em)
			return raise(public, em)
		}
	}
	return []timedClass{
		{name: "right", make: encode(func([]byte) {})},
		{name: "first byte", make: encode(func(em []byte) { em[0] = 1 })},
		{name: "type 1", make: encode(func(em []byte) { em[1] = 1 })},
		{name: "short padding", make: encode(func(em []byte) { em[5] = 0 })},
		{name: "no separator", make: encode(func(em []byte) { em[len(em)-33] = 1 })},
		{name: "separator at the end", make: encode(func(em []byte) { em[len(em)-33], em[len(em)-1] = 1, 0 })},
	}
}
