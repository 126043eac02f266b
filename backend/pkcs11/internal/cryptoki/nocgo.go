//go:build !cgo

package cryptoki

// Available tells that this build can't load modules.
const Available = false

// Module is never made without cgo; its methods let callers compile.
type Module struct{}

// Reader is never made either.
type Reader struct{}

// Load returns [ErrNoCgo].
func Load(string) (*Module, error) { return nil, ErrNoCgo }

func (*Module) Another() (*Module, error)                             { return nil, ErrNoCgo }
func (*Module) Logout(Handle) error                                   { return ErrNoCgo }
func (*Module) Initialize() (bool, error)                             { return false, ErrNoCgo }
func (*Module) Finalize() error                                       { return ErrNoCgo }
func (*Module) Tokens() ([]TokenInfo, error)                          { return nil, ErrNoCgo }
func (*Module) Mechanisms(uint) ([]MechanismInfo, error)              { return nil, ErrNoCgo }
func (*Module) OpenSession(uint, bool) (Handle, error)                { return 0, ErrNoCgo }
func (*Module) CloseSession(Handle) error                             { return ErrNoCgo }
func (*Module) CloseAllSessions(uint) error                           { return ErrNoCgo }
func (*Module) LoggedIn(Handle) (bool, error)                         { return false, ErrNoCgo }
func (*Module) Login(Handle, string) error                            { return ErrNoCgo }
func (*Module) Random(Handle, []byte) error                           { return ErrNoCgo }
func (*Module) Run(Handle, Handle, *Operation) (int, error)           { return 0, ErrNoCgo }
func (*Module) Find(Handle, ...Attribute) ([]Handle, error)           { return nil, ErrNoCgo }
func (*Module) NewReader() *Reader                                    { return nil }
func (*Reader) Short(Handle, Handle, ...uint) ([][]byte, error)       { return nil, ErrNoCgo }
func (*Reader) Read(Handle, Handle, ...uint) ([][]byte, error)        { return nil, ErrNoCgo }
func (*Module) GenerateKey(Handle, uint, []Attribute) (Handle, error) { return 0, ErrNoCgo }
func (*Module) Create(Handle, []Attribute) (Handle, error)            { return 0, ErrNoCgo }
func (*Module) Destroy(Handle, Handle) error                          { return ErrNoCgo }
func (*Module) Wrap(Handle, uint, Handle, Handle) ([]byte, error)     { return nil, ErrNoCgo }
func (*Module) DeriveECDH(Handle, uint, Handle, []byte, []Attribute) (Handle, error) {
	return 0, ErrNoCgo
}
func (*Module) GenerateKeyPair(Handle, uint, []Attribute, []Attribute) (Handle, Handle, error) {
	return 0, 0, ErrNoCgo
}
func (*Module) Unwrap(Handle, uint, Handle, []byte, []Attribute) (Handle, error) { return 0, ErrNoCgo }
func (*Module) UnwrapOAEP(Handle, uint, uint, uint, Handle, []byte, []Attribute) (Handle, error) {
	return 0, ErrNoCgo
}

// Ulong returns 0.
func Ulong([]byte) uint64 { return 0 }
