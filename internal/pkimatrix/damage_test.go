package pkimatrix

import (
	"bytes"
	"encoding/pem"
	"os"
	"strings"
	"testing"
)

// damages are what is done to the files of each object, of which one alone must make a check fail.
var damages = []struct {
	object string
	files  []string
	change func(der []byte)
}{
	{chain, []string{"good.der", "good.pem"}, lastByte},
	{chain, []string{"issuing.der", "issuing.pem"}, lastByte},
	{cross, []string{"root-by-other.der", "root-by-other.pem"}, lastByte},
	{cross, []string{"other-by-root.der", "other-by-root.pem"}, lastByte},
	{complete, []string{"issuing.crl", "issuing.crl.pem"}, lastByte},
	{sharded, []string{"shard.crl", "shard.crl.pem"}, lastByte},
	{delta, []string{"shard-delta.crl", "shard-delta.crl.pem"}, lastByte},
	{byIssuer, []string{"good-by-issuer.ocsp"}, lastByte},
	{byIssuer, []string{"gone-by-issuer.ocsp"}, producedAt},
	{delegated, []string{"good-by-delegate.ocsp"}, lastByte}, // of the certificate of the responder
	{delegated, []string{"gone-by-delegate.ocsp"}, producedAt},
}

// lastByte changes the end of the signature.
func lastByte(der []byte) { der[len(der)-1] ^= 1 }

// producedAt changes a digit of the time that comes first in what is signed.
func producedAt(der []byte) { der[bytes.Index(der, []byte{0x18, 15})+16-2] ^= 1 }

// TestDamageIsSeen: each tool refuses what was changed by one bit, so that the matrix says something.
func TestDamageIsSeen(t *testing.T) {
	m := softwareKeys(t)
	t.Cleanup(func() { m.Close() })
	for _, k := range kinds {
		if k.name != "RSA-2048 PKCS#1" && k.name != "RSA-2048 PSS" && k.name != "ECDSA P-256" && k.name != "Ed25519" {
			continue
		}
		t.Run(k.name, func(t *testing.T) {
			t.Parallel()
			f := newFirm(t, m, k)
			for _, d := range damages {
				for _, tool := range tools {
					if f.limit(tool.name, d.object) != nil {
						continue
					}
					if err := tool.checks[d.object](t, f.damaged(t, d.files, d.change)); err == nil {
						t.Errorf("%s: a changed %s passes", tool.name, strings.Join(d.files, ", "))
					}
				}
			}
		})
	}
}

// damaged returns a copy of a firm with changes to some of its files.
func (f *firm) damaged(t *testing.T, files []string, change func(der []byte)) *firm {
	t.Helper()
	out := *f
	out.dir, out.databases = t.TempDir(), make(map[string]error)
	entries, err := os.ReadDir(f.dir)
	must(t, err)
	for _, entry := range entries {
		if !entry.IsDir() {
			out.write(t, entry.Name(), f.read(entry.Name()))
		}
	}
	for _, name := range files {
		data := bytes.Clone(f.read(name))
		if !strings.HasSuffix(name, ".pem") {
			change(data)
			out.write(t, name, data)
			continue
		}
		block, _ := pem.Decode(data)
		change(block.Bytes)
		out.write(t, name, pem.EncodeToMemory(block))
	}
	return &out
}
