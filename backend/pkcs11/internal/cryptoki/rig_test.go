//go:build cgo

package cryptoki

import (
	"errors"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/managedkeys/managedkeys/internal/faultp11"
	"github.com/managedkeys/managedkeys/internal/requires"
	"github.com/managedkeys/managedkeys/internal/softhsm"
)

// rig is a SoftHSM2 token behind a module that misbehaves on demand, with a session of a user who is logged in.
type rig struct {
	*faultp11.Module
	m       *Module
	token   *softhsm.Token
	slot    uint
	session Handle
}

// Numbers of the standard that the tests need.
const (
	ckaClass, ckaToken, ckaLabel, ckaValue, ckaKeyType, ckaID       = 0x000, 0x001, 0x003, 0x011, 0x100, 0x102
	ckaSensitive, ckaSign, ckaDerive, ckaExtractable                = 0x103, 0x108, 0x10C, 0x162
	ckaModulusBits, ckaECParams, ckaECPoint, ckaAlwaysAuth          = 0x121, 0x180, 0x181, 0x202
	ckaValueLen, ckaEncrypt, ckaDecrypt, ckaWrap, ckaUnwrap         = 0x161, 0x104, 0x105, 0x106, 0x107
	ckmECDSA, ckmECKeyPairGen, ckmAESKeyGen, ckmAESGCM              = 0x1041, 0x1040, 0x1080, 0x1087
	ckmRSA, ckmRSAKeyPairGen, ckmPSS, ckmOAEP, ckmECDH, ckmKWP      = 0x0001, 0x0000, 0x000D, 0x0009, 0x1050, 0x210A
	ckoData, ckoPublic, ckoPrivate, ckoSecret                  uint = 0, 2, 3, 4
)

var p256 = []byte{0x06, 0x08, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07}

func newRig(tb testing.TB) *rig {
	tb.Helper()
	token := softhsm.Require(tb)
	r := &rig{Module: faultp11.Require(tb, token.Module), token: token}
	slot, err := strconv.ParseUint(token.Slot, 10, 64)
	must(tb, err)
	r.slot = uint(slot)
	r.m, err = Load(r.Path())
	must(tb, err)
	already, err := r.m.Initialize()
	must(tb, err)
	if already {
		tb.Fatal("the module was initialised")
	}
	tb.Cleanup(func() {
		r.Set()
		r.m.Finalize()
	})
	r.session, err = r.m.OpenSession(r.slot, true)
	must(tb, err)
	must(tb, r.m.Login(r.session, token.PIN))
	return r
}

func must(tb testing.TB, err error) {
	tb.Helper()
	if err != nil {
		tb.Fatal(err)
	}
}

// generate makes an ECDSA key pair.
func (r *rig) generate(tb testing.TB, label string, more ...Attribute) (pub, priv Handle) {
	tb.Helper()
	pub, priv, err := r.m.GenerateKeyPair(r.session, ckmECKeyPairGen,
		[]Attribute{{ckaECParams, p256}, {ckaLabel, label}, {ckaToken, true}},
		append([]Attribute{{ckaLabel, label}, {ckaID, []byte(label)}, {ckaToken, true}, {ckaSign, true}}, more...))
	must(tb, err)
	return pub, priv
}

// fails checks that err is the failure of a function.
func fails(tb testing.TB, err error, function string, code uint64) {
	tb.Helper()
	var failure *Error
	if !errors.As(err, &failure) || failure.Function != function || failure.Code != code {
		tb.Errorf("error = %v, want that %s fails with 0x%X", err, function, code)
	}
}

// compile compiles a file of testdata as a shared object and returns its path.
func compile(tb testing.TB, source string, flags ...string) string {
	tb.Helper()
	compiler := requires.Tool(tb, "cc", "cc")
	headers, err := exec.Command("go", "list", "-m", "-f", "{{.Dir}}", "github.com/miekg/pkcs11").Output()
	must(tb, err)
	path := filepath.Join(tb.TempDir(), "module.so")
	args := append([]string{"-shared", "-fPIC", "-Wall", "-Wextra", "-fvisibility=hidden", "-I" + strings.TrimSpace(string(headers)), "-o", path,
		filepath.Join("testdata", source)}, flags...)
	if out, err := exec.Command(compiler, args...).CombinedOutput(); err != nil {
		tb.Fatalf("%s: %v\n%s", source, err, out)
	}
	return path
}
