package managedkey

import (
	"crypto"
	"crypto/ed25519"
	"crypto/rsa"
	"strconv"

	"filippo.io/mldsa"

	"github.com/managedkeys/managedkeys/backend"
)

// describeSign says in words with which options a signature is asked for or checked, whatever they are.
func describeSign(opts crypto.SignerOpts) string {
	if isNil(opts) {
		return ""
	}
	switch o := opts.(type) {
	case *rsa.PSSOptions:
		text := "RSASSA-PSS with " + o.Hash.String()
		if o.SaltLength > 0 {
			text += ", salt of " + strconv.Itoa(o.SaltLength)
		}
		return text
	case *ed25519.Options:
		if o.Hash == crypto.SHA512 {
			return "Ed25519ph"
		}
		return ""
	case *mldsa.Options:
		return ""
	}
	if h := opts.HashFunc(); h != 0 {
		return h.String()
	}
	return ""
}

// describeDecrypt does the same for decryption with a key pair.
func describeDecrypt(opts crypto.DecrypterOpts) string {
	if isNil(opts) {
		return ""
	}
	switch o := opts.(type) {
	case *rsa.OAEPOptions:
		return "RSAES-OAEP with " + o.Hash.String()
	case *backend.RawRSAOptions:
		return "RSA without padding"
	}
	return ""
}

// describeBytes says how many bytes are asked for.
func describeBytes(n int) string { return strconv.Itoa(n) + " bytes" }
