//go:build cgo

package cryptoki

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/sha256"
	"math/big"
	"strings"
	"testing"

	"github.com/managedkeys/managedkeys/internal/faultp11"
)

// publicOf returns the public key of the object.
func (r *rig) publicOf(tb testing.TB, object Handle) *ecdsa.PublicKey {
	tb.Helper()
	values, err := r.m.NewReader().Read(r.session, object, ckaECPoint)
	must(tb, err)
	pub, err := ecdsa.ParseUncompressedPublicKey(elliptic.P256(), values[0][2:])
	must(tb, err)
	return pub
}

func TestRunSigns(t *testing.T) {
	r := newRig(t)
	public, private := r.generate(t, "key")
	digest := sha256.Sum256([]byte("message"))
	op := &Operation{Op: Sign, Mechanism: ckmECDSA, In: digest[:], Out: make([]byte, 64)}
	r.ResetCounts()
	n, err := r.m.Run(r.session, private, op)
	must(t, err)
	if n != 64 || !ecdsa.Verify(r.publicOf(t, public), digest[:], new(big.Int).SetBytes(op.Out[:32]), new(big.Int).SetBytes(op.Out[32:])) {
		t.Errorf("%d bytes: %x", n, op.Out)
	}
	if counts := r.Counts(); counts["C_SignInit"] != 1 || counts["C_Sign"] != 1 {
		t.Errorf("calls: %v, want no size query", counts)
	}
	op.Measure = true
	_, err = r.m.Run(r.session, private, op)
	must(t, err)
	if op.CPU == 0 || op.Wall < op.CPU/2 {
		t.Errorf("took %d ns of %d", op.CPU, op.Wall)
	}
}

// TestRunStages: the error has the function that failed, and the operation where that was.
func TestRunStages(t *testing.T) {
	r := newRig(t)
	_, private := r.generate(t, "key")
	_, always := r.generate(t, "always", Attribute{ckaAlwaysAuth, true})
	for _, test := range []struct {
		function string
		stage    Stage
		key      Handle
		pin      string
	}{{"C_SignInit", AtInit, private, ""}, {"C_Sign", AtOperation, private, ""}, {"C_Login", AtLogin, always, r.token.PIN}, {"C_Sign", AtOperation, always, r.token.PIN}} {
		session, err := r.m.OpenSession(r.slot, false)
		must(t, err)
		op := &Operation{Mechanism: ckmECDSA, In: make([]byte, 32), Out: make([]byte, 64), PIN: test.pin}
		r.Set(faultp11.Rule{Function: test.function, Code: 0x30, Times: 1})
		n, err := r.m.Run(session, test.key, op)
		fails(t, err, test.function, 0x30)
		if n != 0 || op.Stage != test.stage {
			t.Errorf("%s: %d bytes at stage %d, want stage %d", test.function, n, op.Stage, test.stage)
		}
		must(t, r.m.CloseSession(session))
		if n, err := r.m.Run(r.session, test.key, op); err != nil || n != 64 {
			t.Errorf("%s: %d bytes; error %v", test.function, n, err)
		}
	}
	op := &Operation{Mechanism: ckmECDSA, In: make([]byte, 32), Out: make([]byte, 64), PIN: "wrong-pin"}
	_, err := r.m.Run(r.session, always, op)
	fails(t, err, "C_Login", 0xA0)
	if strings.Contains(err.Error(), "wrong-pin") || op.Stage != AtLogin {
		t.Errorf("stage %d, error %v", op.Stage, err)
	}
	op = &Operation{Mechanism: ckmECDSA, In: make([]byte, 32), Out: make([]byte, 63)}
	session, err := r.m.OpenSession(r.slot, false)
	must(t, err)
	_, err = r.m.Run(session, private, op)
	fails(t, err, "C_Sign", rvBufferTooSmall)
	_, err = r.m.Run(session, 1<<30, op)
	fails(t, err, "C_SignInit", 0x90) // the operation before was left in the session
}

// TestRunParameters: each kind of parameter is what the mechanism takes.
func TestRunParameters(t *testing.T) {
	r := newRig(t)
	_, rsa, err := r.m.GenerateKeyPair(r.session, ckmRSAKeyPairGen, []Attribute{{ckaModulusBits, uint(2048)}, {ckaEncrypt, true}},
		[]Attribute{{ckaSign, true}, {ckaDecrypt, true}})
	must(t, err)
	for _, op := range []*Operation{
		{Mechanism: ckmPSS, Kind: PSS, Hash: 0x250, MGF: 2, Number: 32, In: make([]byte, 32)},
		{Mechanism: ckmRSA, In: []byte("anything")},
	} {
		op.Out = make([]byte, 256)
		if n, err := r.m.Run(r.session, rsa, op); err != nil || n != 256 {
			t.Errorf("mechanism 0x%x: %d bytes, error %v", op.Mechanism, n, err)
		}
	}
	op := &Operation{Op: Decrypt, Mechanism: ckmOAEP, Kind: OAEP, Hash: 0x220, MGF: 1, In: make([]byte, 256), Out: make([]byte, 256)}
	_, err = r.m.Run(r.session, rsa, op)
	fails(t, err, "C_Decrypt", 5)
	if op.Stage != AtOperation {
		t.Errorf("OAEP fails at stage %d: %v", op.Stage, err)
	}

	aes, err := r.m.GenerateKey(r.session, ckmAESKeyGen, []Attribute{{ckaValueLen, uint(32)}, {ckaEncrypt, true}, {ckaDecrypt, true}})
	must(t, err)
	for _, message := range []string{"", "message", strings.Repeat("long", 1000)} {
		iv, data := bytes.Repeat([]byte{7}, 12), []byte("data")
		seal := &Operation{Op: Encrypt, Mechanism: ckmAESGCM, Kind: GCM, A: iv, B: data, Number: 128, In: []byte(message), Out: make([]byte, len(message)+16)}
		n, err := r.m.Run(r.session, aes, seal)
		if err != nil || n != len(message)+16 {
			t.Fatalf("sealing %d bytes: %d, error %v", len(message), n, err)
		}
		open := &Operation{Op: Decrypt, Mechanism: ckmAESGCM, Kind: GCM, A: iv, B: data, Number: 128, In: seal.Out[:n], Out: make([]byte, n)}
		if n, err := r.m.Run(r.session, aes, open); err != nil || string(open.Out[:n]) != message {
			t.Errorf("opened %d bytes, error %v", n, err)
		}
		session, err := r.m.OpenSession(r.slot, true)
		must(t, err)
		open.B = []byte("other")
		if _, err := r.m.Run(session, aes, open); err == nil {
			t.Error("opened with other additional data")
		}
		must(t, r.m.CloseSession(session))
	}
}

// TestRunLies: a length that the module claims is not believed.
func TestRunLies(t *testing.T) {
	m, err := Load(compile(t, "liar.c"))
	must(t, err)
	_, err = m.Initialize()
	must(t, err)
	for _, room := range []int{1, 64, 1000} {
		op := &Operation{In: []byte("message"), Out: make([]byte, room, room+10)}
		n, err := m.Run(1, 1, op)
		must(t, err)
		if n != room || !bytes.Equal(op.Out, bytes.Repeat([]byte("x"), room)) || op.Out[:room+1][room] != 0 {
			t.Errorf("%d bytes for room for %d", n, room)
		}
	}
}

// TestRunAllocates nothing, as its documentation says.
func TestRunAllocates(t *testing.T) {
	r := newRig(t)
	_, private := r.generate(t, "key")
	op := &Operation{Mechanism: ckmECDSA, In: make([]byte, 32), Out: make([]byte, 64)}
	allocations := testing.AllocsPerRun(50, func() {
		if _, err := r.m.Run(r.session, private, op); err != nil {
			t.Error(err)
		}
	})
	if allocations != 0 {
		t.Errorf("%v allocations", allocations)
	}
}
