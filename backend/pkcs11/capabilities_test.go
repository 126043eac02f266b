package pkcs11

import (
	"crypto"
	"slices"
	"testing"

	"github.com/managedkeys/managedkeys/backend"
)

// TestCapabilities: attributes and mechanism list decide what a key can do, and the mechanism what comes first.
func TestCapabilities(t *testing.T) {
	pss, pkcs1, ec := backend.RSAPSS, backend.RSAPKCS1v15, backend.ECDSA
	sign, decrypt := backend.UsageSign|backend.UsageVerify, backend.UsageDecrypt|backend.UsageEncrypt
	for _, test := range []struct {
		name    string
		spec    keySpec
		prefers Mechanism
		change  func(*fakeModule, *fakeObject)
		schemes []backend.Scheme // in order
		usages  backend.Usage    // but random
	}{
		{"PKCS#1", rsaSpec, RSAPKCS, nil, []backend.Scheme{pkcs1, pss}, sign | decrypt},
		{"PSS", rsaSpec, RSAPKCSPSS, nil, []backend.Scheme{pss, pkcs1}, sign | decrypt},
		{"OAEP", rsaSpec, RSAPKCSOAEP, nil, []backend.Scheme{pss, pkcs1}, sign | decrypt},
		{"no CKA_SIGN", oaepSpec, RSAPKCS, nil, nil, decrypt},
		{"no CKA_DECRYPT", rsaSpec, RSAPKCS, func(_ *fakeModule, o *fakeObject) { o.decrypt = false }, []backend.Scheme{pkcs1, pss}, sign},
		{"token without PSS", rsaSpec, RSAPKCSPSS, func(m *fakeModule, _ *fakeObject) { delete(m.uses, RSAPKCSPSS) }, []backend.Scheme{pkcs1}, sign | decrypt},
		{"PKCS#1 not for signing", rsaSpec, RSAPKCS, func(m *fakeModule, _ *fakeObject) { m.uses[RSAPKCS] = useDecrypt }, []backend.Scheme{pss}, sign | decrypt},
		{"token without OAEP", rsaSpec, RSAPKCS, func(m *fakeModule, _ *fakeObject) { delete(m.uses, RSAPKCSOAEP) }, []backend.Scheme{pkcs1, pss}, sign},
		{"token lies about OAEP", rsaSpec, RSAPKCS, func(m *fakeModule, _ *fakeObject) { m.oaep = nil }, []backend.Scheme{pkcs1, pss}, sign},
		{"allowed mechanisms", rsaSpec, RSAPKCS, func(_ *fakeModule, o *fakeObject) { o.allowed = []Mechanism{RSAPKCSPSS} }, []backend.Scheme{pss}, sign},
		{"EC", ecSpec, ECDSA, nil, []backend.Scheme{ec}, sign},
	} {
		t.Run(test.name, func(t *testing.T) {
			m := newFake()
			o := m.add(test.spec)
			if test.change != nil {
				test.change(m, o)
			}
			p := Params{Library: "lib", TokenLabel: "one", PIN: fakePIN, KeyLabel: test.spec.label, Mechanism: test.prefers}
			key := opened(t, m, p)
			caps := key.Capabilities()
			var schemes []backend.Scheme
			for _, a := range caps.Signatures {
				if !slices.Contains(schemes, a.Scheme) {
					schemes = append(schemes, a.Scheme)
				}
			}
			if !slices.Equal(schemes, test.schemes) {
				t.Errorf("schemes %v, want %v", schemes, test.schemes)
			}
			if got, want := caps.Usages, test.usages|backend.UsageGenerateRandom; got != want {
				t.Errorf("usages %v, want %v", got, want)
			}
			if _, ok := key.(backend.Signer); ok != test.usages.Has(backend.UsageSign) {
				t.Errorf("key is a Signer: %t", ok)
			}
			if _, ok := key.(backend.Decrypter); ok != test.usages.Has(backend.UsageDecrypt) {
				t.Errorf("key is a Decrypter: %t", ok)
			}
		})
	}
	t.Run("hash of the curve first", func(t *testing.T) {
		for curve, want := range map[string]crypto.Hash{"P256": crypto.SHA256, "P384": crypto.SHA384, "P521": crypto.SHA512} {
			m := newFake()
			spec := ecSpec
			spec.curve = curve
			m.add(spec)
			if got := opened(t, m, ecParams).Capabilities().Signatures[0].Hash; got != want {
				t.Errorf("%s: %v first, want %v", curve, got, want)
			}
		}
	})
	t.Run("token without random numbers", func(t *testing.T) {
		m := newFake()
		m.infos[0].random = false
		m.add(ecSpec)
		key := opened(t, m, ecParams)
		if key.Capabilities().Usages.Has(backend.UsageGenerateRandom) {
			t.Error("key claims random numbers")
		}
		_, err := key.(backend.Random).GenerateRandom(t.Context(), 8)
		wants(t, err, backend.ErrUnsupported)
	})
}

// TestDigestsOfECDSA: what is longer than the order of the curve is cut before the token sees it.
func TestDigestsOfECDSA(t *testing.T) {
	m := newFake()
	m.add(ecSpec)
	key := opened(t, m, ecParams).(backend.MessageSigner)
	for _, h := range ecdsaHashes {
		digest := h.New()
		digest.Write([]byte("message"))
		signature, err := key.SignMessage(nil, []byte("message"), h)
		if err == nil {
			err = backend.Verify(key.Public(), digest.Sum(nil), signature, h)
		}
		if err != nil {
			t.Errorf("%v: %v", h, err)
		}
	}
}

// TestTryOAEP: hashes and labels are tried once for each token, and trouble is not taken for a limit.
func TestTryOAEP(t *testing.T) {
	m := newFake()
	m.add(rsaSpec)
	m.add(oaepSpec)
	b := fakeBackend(t, m.shared())
	m.fails("C_Decrypt", 0x0B3) // session handle invalid
	_, err := b.Open(t.Context(), rsaParams)
	wants(t, err, backend.ErrUnavailable, "CKR_SESSION_HANDLE_INVALID")
	m.on("C_Decrypt", nil)

	caps := mustOpen(t, b, rsaParams).Capabilities()
	if want := []crypto.Hash{crypto.SHA256, crypto.SHA1}; !slices.Equal(caps.OAEPHashes, want) || caps.OAEPLabels {
		t.Errorf("hashes %v, labels %t; want %v without labels", caps.OAEPHashes, caps.OAEPLabels, want)
	}
	tried := m.count("C_Decrypt")
	mustOpen(t, b, rsaParams)
	if n := m.count("C_Decrypt"); n != tried {
		t.Errorf("%d more trials", n-tried)
	}
	mustOpen(t, b, oaepParams)
	if n := m.count("C_Decrypt"); n != tried+1 {
		t.Errorf("%d trials for the proof, want 1", n-tried)
	}

	labels := newFake()
	labels.labels = true
	labels.add(oaepSpec)
	if !opened(t, labels, oaepParams).Capabilities().OAEPLabels {
		t.Error("labels are not offered")
	}
	none := newFake()
	none.oaep = nil
	none.add(oaepSpec)
	_, err = fakeBackend(t, none.shared()).Open(t.Context(), oaepParams)
	wants(t, err, backend.ErrUnsupported, "OAEP with none of")
	garbles := newFake()
	garbles.garbles = true
	garbles.add(oaepSpec)
	_, err = fakeBackend(t, garbles.shared()).Open(t.Context(), oaepParams)
	wants(t, err, backend.ErrUnsupported, "OAEP with none of")
}
