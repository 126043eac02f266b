package transit

import (
	"testing"

	"github.com/managedkeys/managedkeys/backend"
	"github.com/managedkeys/managedkeys/backend/azurekeyvault"
	"github.com/managedkeys/managedkeys/backend/software"
	"github.com/managedkeys/managedkeys/managedkey"
	"github.com/managedkeys/managedkeys/namespace"
)

// A key for encapsulation does nothing here, and that is what the errors say: its public key, which has no method Equal, was taken
// for another one.
func TestKEMKey(t *testing.T) {
	h := newHouse(t)
	for _, set := range []int{768, 1024} {
		name := map[int]string{768: "kem-768", 1024: "kem-1024"}[set]
		fatal(t, h.registry.Create(t.Context(), managedkey.Entry{
			Ref: namespace.Ref{Name: name}, Backend: h.software, Params: software.Params{KeyName: name, KeyType: software.MLKEM, ParameterSet: set},
			AllowGenerateKey: true, AnyMount: true, Usages: allUsages | backend.UsageWrap,
		}))
		fatal(t, h.engine.CreateKey(t.Context(), name, KeyOptions{ManagedKey: name}))
		for op, do := range managedOperations {
			t.Log(name, op)
			wantError(t, do(t, h.engine, name), backend.ErrUnsupported)
		}
		_, err := h.engine.Encrypt(t.Context(), name, EncryptRequest{})
		wantError(t, err, backend.ErrUnsupported, "message encryption not supported for key type ml-kem-")
	}
	a, err := h.engine.PublicKey(t.Context(), "kem-768", 0, nil)
	fatal(t, err)
	b, err := h.engine.PublicKey(t.Context(), "kem-1024", 0, nil)
	fatal(t, err)
	if samePublic(a, b) || samePublic(a, "not a key") || samePublic("not a key", a) || !samePublic(b, b) {
		t.Error("public keys are compared wrongly")
	}
}

// Nothing is encrypted to a key that only signs, whatever the padding: nobody could decrypt it. And a key manager without random
// bytes says so.
func TestEncryptToSigner(t *testing.T) {
	k := keepers["azurekeyvault"](t)
	defer k.b.Close()
	r := managedkey.NewRegistry()
	mount, err := r.Mount(t.Context(), "", "transit")
	fatal(t, err)
	e := New(mount, &Options{AllowPKCS1v15: true})
	fatal(t, r.Create(t.Context(), managedkey.Entry{
		Ref: namespace.Ref{Name: "rsa"}, Backend: k.b, AllowGenerateKey: true, AnyMount: true, Usages: allUsages | backend.UsageGenerateRandom,
		Params: azurekeyvault.Params{KeyName: "signs", KeyType: azurekeyvault.RSA, KeyBits: 2048, KeyOps: "sign,verify"},
	}))
	fatal(t, e.CreateKey(t.Context(), "rsa", KeyOptions{ManagedKey: "rsa"}))
	for _, padding := range []string{"", PaddingOAEP, PaddingPKCS1v15} {
		_, err := e.Encrypt(t.Context(), "rsa", EncryptRequest{Plaintext: []byte("secret"), PaddingScheme: padding})
		wantError(t, err, backend.ErrUnsupported, "message encryption not supported for key type rsa-2048")
		_, err = e.Decrypt(t.Context(), "rsa", DecryptRequest{Ciphertext: "vault:v1:AAAA", PaddingScheme: padding})
		wantError(t, err, backend.ErrUnsupported, "message encryption not supported for key type rsa-2048")
	}
	_, err = e.Random(t.Context(), 16, SourceManaged, "rsa")
	wantError(t, err, backend.ErrUnsupported, "gives no random bytes")
}
