//go:build cgo

package faultp11_test

import (
	"testing"
	"time"

	"github.com/miekg/pkcs11"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/managedkeys/managedkeys/internal/faultp11"
	"github.com/managedkeys/managedkeys/internal/softhsm"
)

func TestBeforeAndAfter(t *testing.T) {
	h := newHSM(t)
	h.Set(faultp11.Rule{Function: "C_GenerateKeyPair", Code: pkcs11.CKR_DEVICE_ERROR})
	_, _, err := h.generate("lost request")
	assert.Equal(t, deviceFail, err)
	assert.Empty(t, h.find(t, label("lost request")))

	h.Set(faultp11.Rule{Function: "C_GenerateKeyPair", When: faultp11.After, Code: pkcs11.CKR_DEVICE_ERROR})
	_, _, err = h.generate("lost reply")
	assert.Equal(t, deviceFail, err)
	assert.Len(t, h.find(t, label("lost reply")), 2)

	h.Set()
	_, _, err = h.generate("no rule")
	assert.NoError(t, err)
	assert.Equal(t, 3, h.Count("C_GenerateKeyPair"))
}

// results calls C_GenerateRandom n times and returns the codes.
func (h *hsm) results(n int) (codes []uint) {
	for range n {
		code := uint(pkcs11.CKR_OK)
		if err := h.random(); err != nil {
			code = uint(err.(pkcs11.Error))
		}
		codes = append(codes, code)
	}
	return codes
}

func TestSkipAndTimes(t *testing.T) {
	const function = "C_GenerateRandom"
	h := newHSM(t)
	for name, test := range map[string]struct {
		rules []faultp11.Rule
		want  []uint
	}{
		"for ever":    {[]faultp11.Rule{{Function: function, Code: 5}}, []uint{5, 5, 5, 5}},
		"twice":       {[]faultp11.Rule{{Function: function, Code: 5, Times: 2}}, []uint{5, 5, 0, 0}},
		"second only": {[]faultp11.Rule{{Function: function, Code: 5, Skip: 1, Times: 1}}, []uint{0, 5, 0, 0}},
		"from third":  {[]faultp11.Rule{{Function: function, Code: 5, Skip: 2}}, []uint{0, 0, 5, 5}},
		"other":       {[]faultp11.Rule{{Function: "C_Sign", Code: 5}}, []uint{0, 0, 0, 0}},
		"all":         {[]faultp11.Rule{{Function: "*", Code: 5, Times: 3}}, []uint{5, 5, 5, 0}},
		// Each rule sees each call, so Skip counts from the moment that Set is called.
		"one after another": {[]faultp11.Rule{{Function: function, Code: 5, Times: 1}, {Function: function, Code: 6, Skip: 1}},
			[]uint{5, 6, 6, 6}},
		"first wins": {[]faultp11.Rule{{Function: function, Code: 5, Skip: 2, Times: 1}, {Function: function, Code: 6}},
			[]uint{6, 6, 5, 6}},
		"code of the vendor": {[]faultp11.Rule{{Function: function, When: faultp11.After, Code: 0x80000001, Times: 1}},
			[]uint{0x80000001, 0, 0, 0}},
	} {
		h.Set(test.rules...)
		assert.Equal(t, test.want, h.results(4), name)
	}
}

func TestRuleOfUnknownFunction(t *testing.T) {
	h := newHSM(t)
	assert.PanicsWithValue(t, `faultp11: PKCS #11 v2.40 has no function "C_Nothing"`, func() {
		h.Set(faultp11.Rule{Function: "C_Nothing"})
	})
	assert.Panics(t, func() { h.Count("sign") })
}

func TestDelays(t *testing.T) {
	const delay = 30 * time.Millisecond
	h := newHSM(t)
	elapsed := func(when faultp11.When, code uint64) time.Duration {
		h.Set(faultp11.Rule{Function: "C_GenerateRandom", When: when, Code: code, Delay: delay})
		start := time.Now()
		err := h.random()
		if code == 0 {
			assert.NoError(t, err)
		} else {
			assert.Equal(t, pkcs11.Error(code), err)
		}
		return time.Since(start)
	}
	for _, when := range []faultp11.When{faultp11.Before, faultp11.After} {
		assert.GreaterOrEqual(t, elapsed(when, 0), delay)
		assert.GreaterOrEqual(t, elapsed(when, pkcs11.CKR_DEVICE_ERROR), delay)
	}
	h.Set()
	h.DelayAll(delay)
	start := time.Now()
	require.NoError(t, h.sign()) // C_SignInit, C_Sign for the size, C_Sign
	assert.GreaterOrEqual(t, time.Since(start), 3*delay)
	h.DelayAll(0)
	assert.Equal(t, 2, h.Count("C_Sign"))
}

func TestHang(t *testing.T) {
	h := newHSM(t)
	for name, test := range map[string]struct {
		rule   faultp11.Rule
		effect int // objects that are there while the call hangs
		ends   func()
		want   error
		after  int
	}{
		"before, released": {faultp11.Rule{}, 0, h.Release, nil, 2},
		"before, rule removed, request lost": {faultp11.Rule{Code: pkcs11.CKR_DEVICE_ERROR}, 0, func() { h.Set() },
			deviceFail, 0},
		"after, released": {faultp11.Rule{When: faultp11.After}, 2, h.Release, nil, 2},
		"after, rule removed, reply lost": {faultp11.Rule{When: faultp11.After, Code: pkcs11.CKR_DEVICE_ERROR}, 2,
			func() { h.Set() }, deviceFail, 2},
	} {
		t.Run(name, func(t *testing.T) {
			test.rule.Function, test.rule.Hang = "C_GenerateKeyPair", true
			h.Set(test.rule)
			done := make(chan error, 1)
			go func() {
				_, _, err := h.generate(name)
				done <- err
			}()
			eventually(t, func() bool { return h.Hanging() == 1 })
			assert.Len(t, h.find(t, label(name)), test.effect, "other calls go on")
			assert.Empty(t, done)
			test.ends()
			assert.Equal(t, test.want, <-done)
			assert.Zero(t, h.Hanging())
			assert.Len(t, h.find(t, label(name)), test.after)
		})
	}
}

// A call that hangs must not hold up what waits for calls to leave the real module.
func TestHangDoesNotBlockTheModule(t *testing.T) {
	h := newHSM(t)
	h.Set(faultp11.Rule{Function: "C_GenerateRandom", Hang: true, Times: 2})
	done := make(chan error, 2)
	for range 2 {
		go func() { done <- h.random() }()
	}
	eventually(t, func() bool { return h.Hanging() == 2 })
	require.NoError(t, h.CloseAllSessions())
	assert.NoError(t, h.ctx.Finalize())
	assert.Equal(t, 1, h.OverlappingFinalizes())
	h.Release()
	for range 2 {
		assert.Equal(t, pkcs11.Error(pkcs11.CKR_CRYPTOKI_NOT_INITIALIZED), <-done)
	}
}

func TestModulesHaveTheirOwnState(t *testing.T) {
	h := newHSM(t)
	other := faultp11.Require(t, h.token.Module)
	assert.NotEqual(t, h.Path(), other.Path())
	other.Set(faultp11.Rule{Function: "*", Code: pkcs11.CKR_DEVICE_ERROR})
	assert.NoError(t, h.random())
	assert.Zero(t, other.Counts()["C_GenerateRandom"])

	other.Set()
	ctx := pkcs11.New(other.Path())
	require.NotNil(t, ctx)
	assert.Equal(t, pkcs11.Error(pkcs11.CKR_CRYPTOKI_NOT_INITIALIZED), ctx.Finalize(), "real module not loaded yet")
	assert.Equal(t, pkcs11.Error(pkcs11.CKR_CRYPTOKI_ALREADY_INITIALIZED), ctx.Initialize(), "one real module")
}

func TestRealModuleMissing(t *testing.T) {
	token := softhsm.Require(t)
	m := faultp11.Require(t, token.Dir+"/absent.so")
	ctx := pkcs11.New(m.Path())
	assert.Equal(t, pkcs11.Error(pkcs11.CKR_GENERAL_ERROR), ctx.Initialize())
	_, err := ctx.GetSlotList(true)
	assert.Equal(t, pkcs11.Error(pkcs11.CKR_CRYPTOKI_NOT_INITIALIZED), err)
	assert.ErrorIs(t, m.Finalize(), pkcs11.Error(pkcs11.CKR_CRYPTOKI_NOT_INITIALIZED))
	assert.ErrorIs(t, m.Reinitialize(), pkcs11.Error(pkcs11.CKR_CRYPTOKI_NOT_INITIALIZED))
	assert.ErrorIs(t, m.CloseAllSessions(), pkcs11.Error(pkcs11.CKR_CRYPTOKI_NOT_INITIALIZED))
	assert.NoError(t, m.Logout())
	assert.NoError(t, m.Remove())
}
