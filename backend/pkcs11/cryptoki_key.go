//go:build cgo

package pkcs11

import (
	"crypto/rsa"
	"errors"

	"github.com/ThalesGroup/crypto11"
	"github.com/miekg/pkcs11"

	"github.com/managedkeys/managedkeys/backend"
)

// cryptokiKey is a privateKey over crypto11.
type cryptokiKey struct {
	login *login
	key   crypto11.PrivateKey
}

func (k *cryptokiKey) sign(req backend.SignRequest) ([]byte, error) {
	opts := signerOpts(req)
	return k.retry("C_Sign", func() ([]byte, error) { return k.key.Sign(nil, req.Digest, opts) })
}

func (k *cryptokiKey) decrypt(req backend.DecryptRequest) ([]byte, error) {
	decrypter, ok := k.key.(crypto11.RSAPrivateKey)
	if !ok {
		return nil, errors.New("not an RSA key")
	}
	opts := &rsa.OAEPOptions{Hash: req.Hash, Label: req.Label}
	return k.retry("C_Decrypt", func() ([]byte, error) { return decrypter.Decrypt(nil, req.Ciphertext, opts) })
}

// retry calls fn again while its session is one on which an earlier failure has left an operation open: crypto11 puts
// such sessions back into its pool, but hands out another one the next time. Nothing has been done with the key then.
func (k *cryptokiKey) retry(function string, fn func() ([]byte, error)) (out []byte, err error) {
	for range k.login.sessions {
		out, err = fn()
		var e pkcs11.Error
		if !errors.As(err, &e) || ckr(e) != ckrOperationActive {
			break
		}
	}
	return out, failed(function, err)
}

func (l *login) generate(spec keySpec) error {
	public, err := crypto11.NewAttributeSetWithIDAndLabel(spec.id, []byte(spec.label))
	if err != nil {
		return err
	}
	private := public.Copy()
	public.AddIfNotPresent([]*pkcs11.Attribute{
		pkcs11.NewAttribute(pkcs11.CKA_VERIFY, spec.sign),
		pkcs11.NewAttribute(pkcs11.CKA_ENCRYPT, spec.decrypt),
	})
	private.AddIfNotPresent([]*pkcs11.Attribute{
		pkcs11.NewAttribute(pkcs11.CKA_PRIVATE, true),
		pkcs11.NewAttribute(pkcs11.CKA_SENSITIVE, true),
		pkcs11.NewAttribute(pkcs11.CKA_EXTRACTABLE, false),
		pkcs11.NewAttribute(pkcs11.CKA_SIGN, spec.sign),
		pkcs11.NewAttribute(pkcs11.CKA_DECRYPT, spec.decrypt),
		pkcs11.NewAttribute(pkcs11.CKA_UNWRAP, false), // tokens may default it to true
	})
	if spec.kind == keyRSA {
		_, err = l.context.GenerateRSAKeyPairWithAttributes(public, private, spec.bits)
	} else {
		_, err = l.context.GenerateECDSAKeyPairWithAttributes(public, private, curves[spec.curve])
	}
	return failed("C_GenerateKeyPair", err)
}
