package pkcs11

import (
	"crypto"
	"fmt"
	"testing"

	"filippo.io/mldsa"

	"github.com/managedkeys/managedkeys/backend"
	"github.com/managedkeys/managedkeys/backend/backendtest"
)

// mldsaParams are the parameter sets by their name in Params.
var mldsaParams = map[int]mldsa.Parameters{44: mldsa.MLDSA44(), 65: mldsa.MLDSA65(), 87: mldsa.MLDSA87()}

// emulate gives the token a new ML-DSA key pair of each parameter set and returns parameters of them.
func (r *rig) emulate(tb testing.TB) map[int]Params {
	tb.Helper()
	all := make(map[int]Params)
	for set, params := range mldsaParams {
		key, err := mldsa.GenerateKey(params)
		if err != nil {
			tb.Fatal(err)
		}
		label := fmt.Sprintf("ML-DSA-%d", set)
		r.EmulateMLDSA(tb, label, []byte(label), key)
		p := r.with(label, MLDSA)
		p.ParameterSet = set
		all[set] = p
	}
	return all
}

// onlyOpens hides what a backend does besides opening keys: the emulation has no more.
type onlyOpens struct{ backend.Backend }

// TestMLDSAConformance runs the suite with keys of all parameter sets.
func TestMLDSAConformance(t *testing.T) {
	r := newRig(t)
	cfg := backendtest.Config{
		New: func(tb testing.TB) backend.Backend {
			b, err := New(Library{Name: "soft", Path: r.Path()})
			if err != nil {
				tb.Fatal(err)
			}
			return onlyOpens{b}
		},
		Absent:  r.with("absent", MLDSA),
		Invalid: make(map[string]backend.Params),
		Secrets: []string{r.token.PIN},
	}
	for set, p := range r.emulate(t) {
		cfg.Keys = append(cfg.Keys, backendtest.Key{Name: p.KeyLabel, Params: p, Algorithm: p.KeyLabel, SignatureContexts: true, Random: true})
		other := p
		other.ParameterSet = map[int]int{44: 65, 65: 87, 87: 44}[set]
		cfg.Invalid["other parameter set than "+p.KeyLabel] = other
		ec := p
		ec.Mechanism, ec.ParameterSet = ECDSA, 0
		cfg.Invalid["other mechanism than "+p.KeyLabel] = ec
	}
	backendtest.Run(t, cfg)
}

// TestMLDSAContexts: the token signs with the context, and the signature is one of that context only.
func TestMLDSAContexts(t *testing.T) {
	r := newRig(t)
	b := r.client(t)
	for set, p := range r.emulate(t) {
		key := mustOpen(t, b, p)
		message := []byte("message")
		for _, context := range []string{"", "c", string(make([]byte, 255))} {
			opts := &mldsa.Options{Context: context}
			signature, err := key.(crypto.Signer).Sign(nil, message, opts)
			if err != nil {
				t.Errorf("%d: context of %d bytes: %v", set, len(context), err)
				continue
			}
			pub := key.Public().(*mldsa.PublicKey)
			if err := mldsa.Verify(pub, message, signature, opts); err != nil {
				t.Errorf("%d: context of %d bytes: %v", set, len(context), err)
			}
			if mldsa.Verify(pub, message, signature, &mldsa.Options{Context: "other"}) == nil {
				t.Errorf("%d: the signature is good for another context than one of %d bytes", set, len(context))
			}
		}
		r.ResetCounts()
		_, err := key.(crypto.Signer).Sign(nil, message, &mldsa.Options{Context: string(make([]byte, 256))})
		wants(t, err, backend.ErrInvalidParams)
		if counts := r.Counts(); len(counts) > 0 {
			t.Errorf("%d: the module was called with too long a context: %v", set, counts)
		}
	}
}

// TestMLDSARefusals: what the token says of its keys is compared with what they are.
func TestMLDSARefusals(t *testing.T) {
	r := newRig(t)
	b := r.client(t)
	all := r.emulate(t)
	p := all[65]
	p.ParameterSet = 44
	_, err := b.Open(t.Context(), p)
	wants(t, err, backend.ErrInvalidParams, "parameter_set: got 44", "ML-DSA-65")
	_, err = b.Open(t.Context(), r.with("ML-DSA-65", EdDSA))
	wants(t, err, backend.ErrInvalidParams, "CKM_EDDSA takes an EdDSA key", "ML-DSA key")

	p.KeyLabel, p.ParameterSet = "new", 65
	_, err = b.Generate(t.Context(), p, nil)
	wants(t, err, backend.ErrUnsupported, "CKM_ML_DSA_KEY_PAIR_GEN")

	for name, change := range map[string]func(){
		"set of another":    func() { r.SetAttribute("ML-DSA-65", uint64(classPublic), attrParameterSet, ulongs(1)) },
		"set 0":             func() { r.SetAttribute("ML-DSA-65", uint64(classPublic), attrParameterSet, ulongs(0)) },
		"no set":            func() { r.HideAttribute("ML-DSA-65", uint64(classPublic), attrParameterSet) },
		"no value":          func() { r.HideAttribute("ML-DSA-65", uint64(classPublic), attrValue) },
		"short value":       func() { r.SetAttribute("ML-DSA-65", uint64(classPublic), attrValue, make([]byte, 1951)) },
		"absurd value":      func() { r.AbsurdLength("ML-DSA-65", uint64(classPublic), attrValue, 1<<40) },
		"no public key":     func() { r.SetAttribute("ML-DSA-65", uint64(classPublic), attrID, []byte("elsewhere")) },
		"may not sign":      func() { r.SetAttribute("ML-DSA-65", uint64(classPrivate), attrSign, []byte{0}) },
		"somebody else's":   func() { r.SetAttribute("ML-DSA-65", uint64(classPublic), attrValue, otherMLDSA(t)) },
		"other class alone": func() { r.SetAttribute("ML-DSA-65", uint64(classPrivate), attrClass, ulongs(uint(classPublic))) },
	} {
		r.RestoreAttributes()
		change()
		connectionTo(t, b, all[65]).epoch.Add(1)
		key, err := b.Open(t.Context(), all[65])
		if err == nil || !isSentinel(err) {
			t.Errorf("%s: key %v, error %v", name, key, err)
		}
	}
	r.RestoreAttributes()
	connectionTo(t, b, all[65]).epoch.Add(1)
	signsWell(t, mustOpen(t, b, all[65]))
}

func otherMLDSA(tb testing.TB) []byte {
	tb.Helper()
	key, err := mldsa.GenerateKey(mldsa.MLDSA65())
	if err != nil {
		tb.Fatal(err)
	}
	return key.PublicKey().Bytes()
}
