package pkcs11

import (
	"crypto"

	"github.com/managedkeys/managedkeys/backend"
)

// This file is the seam between what the package promises and the code that talks to a PKCS#11 module. Nothing of
// crypto11 or miekg/pkcs11 passes it. Errors that come from the module carry a ckr.

// module is one module file. It is used by one caller at a time, except that tokens are used while others are opened.
type module interface {
	// tokens returns what is in the slots, in the module's order.
	tokens() ([]tokenInfo, error)

	// open logs in to the token in slot, with exactly one C_Login, and opens at most sessions sessions, at least
	// minSessions.
	open(slot uint, pin string, sessions int) (token, error)
}

// tokenInfo is what a token says of itself before login.
type tokenInfo struct {
	slot        uint
	label       string
	serial      string
	initialized bool // it has been initialised, so that it holds keys
	pinSet      bool // the user's PIN has been set
	pinLocked   bool // no PIN is accepted any more
	random      bool // it has a random number generator
	sessions    int  // read/write sessions that it allows one program; 0 if it has no limit or doesn't say
}

// token is a login on a token.
type token interface {
	// mechanisms returns the mechanisms of the token and what each can be used for.
	mechanisms() (map[Mechanism]mechanismUse, error)

	// find returns the private keys that have the id and the label, if each is not empty. Keys of every type are found.
	// Of find, publicKeys, key, generate, destroy and alive only one is called at a time.
	find(id []byte, label string) ([]object, error)

	// publicKeys returns what the token holds that may be the public half of the private key o, the likeliest first.
	publicKeys(o object) ([]crypto.PublicKey, error)

	// key returns the operations of o, which has an id or a label that no other key of its type has.
	key(o object) (privateKey, error)

	// generate makes a key pair.
	generate(spec keySpec) error

	// destroy removes the private key o, and then the public keys with its id and label, as far as that is possible.
	destroy(o object) error

	// alive returns nil if the login still stands.
	alive() error

	// random fills b. It may be called at any time, as may the methods of privateKey; no more of them than sessions
	// given to open less two at once.
	random(b []byte) error

	// close ends the login. No other method is called then or afterwards.
	close()
}

// privateKey is a private key that can be used.
type privateKey interface {
	// sign signs req.Digest. ECDSA signatures are in ASN.1 DER.
	sign(req backend.SignRequest) ([]byte, error)

	// decrypt decrypts RSAES-OAEP.
	decrypt(req backend.DecryptRequest) ([]byte, error)
}

// mechanismUse is what a mechanism can be used for.
type mechanismUse uint8

const (
	useSign mechanismUse = 1 << iota
	useDecrypt
	useGenerate // of key pairs
)

// object is a private key on a token.
type object struct {
	handle             uint // valid until the connection is closed
	id                 []byte
	label              string
	kind               keyType
	sign, decrypt      bool        // CKA_SIGN, CKA_DECRYPT
	alwaysAuthenticate bool        // CKA_ALWAYS_AUTHENTICATE: each operation needs the PIN
	allowed            []Mechanism // CKA_ALLOWED_MECHANISMS; empty if the key has no such list
}

// keySpec is a key pair to be made. The private key never leaves the token.
type keySpec struct {
	id            []byte
	label         string
	kind          keyType
	bits          int    // of RSA
	curve         string // of EC, as in Params
	sign, decrypt bool
}
