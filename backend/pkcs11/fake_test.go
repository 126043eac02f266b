package pkcs11

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"errors"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/managedkeys/managedkeys/backend"
)

const fakePIN = "right-pin"

// fakeModule is a module in memory, whose functions can be counted and made to fail, hang, panic or lie. Its functions
// have the names of those of PKCS#11 that do the same.
type fakeModule struct {
	mu       sync.Mutex
	infos    []tokenInfo
	objects  []*fakeObject
	uses     map[Mechanism]mechanismUse
	oaep     []crypto.Hash // that it decrypts
	labels   bool
	garbles  bool // decryption gives something else
	loose    bool // the search compares without case, as some tokens do
	calls    map[string]int
	hooks    map[string]func() error // run before the function's effect; an error is its answer
	opened   int                     // tokens open now
	sessions int                     // given to the last open
	handles  uint
}

type fakeObject struct {
	object
	private crypto.Signer
	public  []crypto.PublicKey
}

func newFake() *fakeModule {
	return &fakeModule{
		infos: []tokenInfo{fakeInfo(1, "one")},
		uses: map[Mechanism]mechanismUse{
			RSAPKCS: useSign | useDecrypt, RSAPKCSPSS: useSign, RSAPKCSOAEP: useDecrypt, ECDSA: useSign,
			rsaKeyPairGen: useGenerate, ecKeyPairGen: useGenerate,
		},
		oaep:  []crypto.Hash{crypto.SHA256, crypto.SHA1},
		calls: make(map[string]int),
		hooks: make(map[string]func() error),
	}
}

func fakeInfo(slot uint, label string) tokenInfo {
	return tokenInfo{slot: slot, label: label, serial: "s-" + label, initialized: true, pinSet: true, random: true}
}

// call counts a call of a function and runs its hook.
func (m *fakeModule) call(function string) error {
	m.mu.Lock()
	m.calls[function]++
	hook := m.hooks[function]
	m.mu.Unlock()
	if hook != nil {
		return hook()
	}
	return nil
}

// on sets the hook of a function, nil for none.
func (m *fakeModule) on(function string, hook func() error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.hooks[function] = hook
}

// fails makes a function fail with a return value.
func (m *fakeModule) fails(function string, c ckr) {
	m.on(function, func() error { return &callError{function, c, nil} })
}

func (m *fakeModule) count(function string) int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.calls[function]
}

func (m *fakeModule) tokens() ([]tokenInfo, error) {
	return slices.Clone(m.infos), m.call("C_GetTokenInfo")
}

func (m *fakeModule) open(slot uint, pin string, sessions int) (token, error) {
	if err := m.call("C_Login"); err != nil {
		return nil, err
	}
	if pin != fakePIN {
		return nil, &callError{"C_Login", ckrPINIncorrect, nil}
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.opened++
	m.sessions = sessions
	return &fakeToken{m}, nil
}

// isOpen returns how many tokens are open.
func (m *fakeModule) isOpen() int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.opened
}

type fakeToken struct{ *fakeModule }

func (t *fakeToken) close() {
	t.call("C_Logout")
	t.mu.Lock()
	defer t.mu.Unlock()
	t.opened--
}

func (t *fakeToken) mechanisms() (map[Mechanism]mechanismUse, error) {
	return t.uses, t.call("C_GetMechanismList")
}

func (t *fakeToken) alive() error { return t.call("C_GetSessionInfo") }

func (t *fakeToken) random(b []byte) error {
	rand.Read(b)
	return t.call("C_GenerateRandom")
}

func (t *fakeToken) find(id []byte, label string) ([]object, error) {
	if err := t.call("C_FindObjects"); err != nil {
		return nil, err
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	var found []object
	for _, o := range t.objects {
		if (len(id) == 0 || bytes.Equal(o.id, id)) && (label == "" || o.label == label || t.loose && strings.EqualFold(o.label, label)) {
			found = append(found, o.object)
		}
	}
	return found, nil
}

func (t *fakeToken) get(o object) *fakeObject {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, f := range t.objects {
		if f.handle == o.handle {
			return f
		}
	}
	return nil
}

func (t *fakeToken) publicKeys(o object) ([]crypto.PublicKey, error) {
	if err := t.call("C_GetAttributeValue"); err != nil {
		return nil, err
	}
	return t.get(o).public, nil
}

func (t *fakeToken) key(o object) (privateKey, error) {
	return &fakeKey{t, t.get(o)}, t.call("key")
}

func (t *fakeToken) generate(spec keySpec) error {
	if err := t.call("C_GenerateKeyPair"); err != nil {
		return err
	}
	t.add(spec)
	return nil
}

func (t *fakeToken) destroy(o object) error {
	if err := t.call("C_DestroyObject"); err != nil {
		return err
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.objects = slices.DeleteFunc(t.objects, func(f *fakeObject) bool { return f.handle == o.handle })
	return nil
}

// rsaKeys are two keys of 2048 bits, made once.
var rsaKeys = sync.OnceValue(func() (keys [2]*rsa.PrivateKey) {
	for i := range keys {
		keys[i], _ = rsa.GenerateKey(rand.Reader, 2048)
	}
	return keys
})

// add puts a key on the token. RSA keys alternate between two.
func (m *fakeModule) add(spec keySpec) *fakeObject {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.handles++
	var private crypto.Signer = rsaKeys()[m.handles%2]
	if spec.kind != keyRSA {
		curve := curves[spec.curve]
		if curve == nil {
			curve = elliptic.P256()
		}
		private, _ = ecdsa.GenerateKey(curve, rand.Reader)
	}
	o := &fakeObject{
		object:  object{handle: m.handles, id: spec.id, label: spec.label, kind: spec.kind, sign: spec.sign, decrypt: spec.decrypt},
		private: private, public: []crypto.PublicKey{private.Public()},
	}
	m.objects = append(m.objects, o)
	return o
}

type fakeKey struct {
	token *fakeToken
	o     *fakeObject
}

func (k *fakeKey) sign(req backend.SignRequest) ([]byte, error) {
	if err := k.token.call("C_Sign"); err != nil {
		return nil, err
	}
	if ec, ok := k.o.private.(*ecdsa.PrivateKey); ok {
		if len(req.Digest) > (ec.Params().BitSize+7)/8 {
			return nil, &callError{"C_Sign", ckrDataLenRange, nil} // as some tokens do
		}
		return ecdsa.SignASN1(rand.Reader, ec, req.Digest)
	}
	return k.o.private.Sign(rand.Reader, req.Digest, signerOpts(req))
}

func (k *fakeKey) decrypt(req backend.DecryptRequest) ([]byte, error) {
	if err := k.token.call("C_Decrypt"); err != nil {
		return nil, err
	}
	if !slices.Contains(k.token.oaep, req.Hash) || len(req.Label) > 0 && !k.token.labels {
		return nil, &callError{"C_DecryptInit", ckrArgumentsBad, nil}
	}
	plaintext, err := rsa.DecryptOAEP(req.Hash.New(), nil, k.o.private.(*rsa.PrivateKey), req.Ciphertext, req.Label)
	if err != nil {
		return nil, &callError{"C_Decrypt", ckrGeneralError, nil}
	}
	if k.token.garbles {
		plaintext = append([]byte{plaintext[0] ^ 1}, plaintext[1:]...)
	}
	return plaintext, nil
}

// shared returns the module as one that several backends share.
func (m *fakeModule) shared() *sharedModule { return newSharedModule("/fake.so", m) }

// fakeBackend returns a backend over a module, closed when the test ends.
func fakeBackend(tb testing.TB, m *sharedModule) *Backend {
	tb.Helper()
	b := newBackend([]library{{Library{Name: "Lib"}, m}})
	tb.Cleanup(func() {
		if err := b.Close(); err != nil {
			tb.Errorf("Close: %v", err)
		}
	})
	return b
}

var (
	ecSpec   = keySpec{id: []byte{1}, label: "key", kind: keyEC, curve: "P256", sign: true}
	rsaSpec  = keySpec{id: []byte{2}, label: "rsa", kind: keyRSA, bits: 2048, sign: true, decrypt: true}
	oaepSpec = keySpec{id: []byte{3}, label: "oaep", kind: keyRSA, bits: 2048, decrypt: true}

	ecParams   = Params{Library: "lib", TokenLabel: "one", PIN: fakePIN, KeyLabel: "key", Mechanism: ECDSA}
	rsaParams  = Params{Library: "lib", TokenLabel: "one", PIN: fakePIN, KeyLabel: "rsa", Mechanism: RSAPKCS}
	oaepParams = Params{Library: "lib", TokenLabel: "one", PIN: fakePIN, KeyLabel: "oaep", Mechanism: RSAPKCSOAEP}
)

// mustOpen opens a key.
func mustOpen(tb testing.TB, b *Backend, p Params) backend.Key {
	tb.Helper()
	key, err := b.Open(tb.Context(), p)
	if err != nil {
		tb.Fatal(err)
	}
	return key
}

// mustGenerate makes a key.
func mustGenerate(tb testing.TB, b *Backend, p Params) backend.Key {
	tb.Helper()
	key, err := b.Generate(tb.Context(), p, nil)
	if err != nil {
		tb.Fatal(err)
	}
	return key
}

// signsWell signs with the key and checks the signature.
func signsWell(tb testing.TB, key backend.Key) {
	tb.Helper()
	digest := make([]byte, 32)
	signature, err := key.(backend.Signer).SignContext(tb.Context(), digest, crypto.SHA256)
	if err == nil {
		err = backend.Verify(key.Public(), digest, signature, crypto.SHA256)
	}
	if err != nil {
		tb.Error(err)
	}
}

// wants fails the test unless err wraps want and its text has all the words and no PIN.
func wants(tb testing.TB, err, want error, words ...string) {
	tb.Helper()
	if !errors.Is(err, want) {
		tb.Errorf("error = %v, want one that wraps %q", err, want)
		return
	}
	for _, w := range words {
		if !bytes.Contains([]byte(err.Error()), []byte(w)) {
			tb.Errorf("error %q doesn't say %q", err, w)
		}
	}
	for _, pin := range []string{fakePIN, "wrong-pin"} {
		if bytes.Contains([]byte(err.Error()), []byte(pin)) {
			tb.Errorf("error shows the PIN: %v", err)
		}
	}
}
