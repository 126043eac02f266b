//go:build cgo

package cryptoki

import "github.com/miekg/pkcs11"

func mechanism(m uint, parameter any) []*pkcs11.Mechanism {
	return []*pkcs11.Mechanism{pkcs11.NewMechanism(m, parameter)}
}

// GenerateKeyPair makes a key pair and returns the handles of the public and the private key.
func (m *Module) GenerateKeyPair(session Handle, mech uint, public, private []Attribute) (pub, priv Handle, err error) {
	a, b, err := m.ctx.GenerateKeyPair(pkcs11.SessionHandle(session), mechanism(mech, nil), template(public), template(private))
	return Handle(a), Handle(b), call("C_GenerateKeyPair", err)
}

// GenerateKey makes a secret key.
func (m *Module) GenerateKey(session Handle, mech uint, attributes []Attribute) (Handle, error) {
	h, err := m.ctx.GenerateKey(pkcs11.SessionHandle(session), mechanism(mech, nil), template(attributes))
	return Handle(h), call("C_GenerateKey", err)
}

// Create makes an object of the attributes.
func (m *Module) Create(session Handle, attributes []Attribute) (Handle, error) {
	h, err := m.ctx.CreateObject(pkcs11.SessionHandle(session), template(attributes))
	return Handle(h), call("C_CreateObject", err)
}

// Destroy removes an object.
func (m *Module) Destroy(session, object Handle) error {
	return call("C_DestroyObject", m.ctx.DestroyObject(pkcs11.SessionHandle(session), pkcs11.ObjectHandle(object)))
}

// Wrap returns key, wrapped by another with a mechanism that has no parameter.
func (m *Module) Wrap(session Handle, mech uint, wrapping, key Handle) ([]byte, error) {
	out, err := m.ctx.WrapKey(pkcs11.SessionHandle(session), mechanism(mech, nil), pkcs11.ObjectHandle(wrapping), pkcs11.ObjectHandle(key))
	return out, call("C_WrapKey", err)
}

// Unwrap makes a key of what was wrapped with a mechanism that has no parameter.
func (m *Module) Unwrap(session Handle, mech uint, unwrapping Handle, wrapped []byte, attributes []Attribute) (Handle, error) {
	return m.unwrap(session, mechanism(mech, nil), unwrapping, wrapped, attributes)
}

// UnwrapOAEP makes a key of what was wrapped with CKM_RSA_PKCS_OAEP and a hash, without a label.
func (m *Module) UnwrapOAEP(session Handle, mech, hash, mgf uint, unwrapping Handle, wrapped []byte, attributes []Attribute) (Handle, error) {
	params := pkcs11.NewOAEPParams(hash, mgf, pkcs11.CKZ_DATA_SPECIFIED, nil)
	return m.unwrap(session, mechanism(mech, params), unwrapping, wrapped, attributes)
}

func (m *Module) unwrap(session Handle, mech []*pkcs11.Mechanism, unwrapping Handle, wrapped []byte, attributes []Attribute) (Handle, error) {
	h, err := m.ctx.UnwrapKey(pkcs11.SessionHandle(session), mech, pkcs11.ObjectHandle(unwrapping), wrapped, template(attributes))
	return Handle(h), call("C_UnwrapKey", err)
}

// DeriveECDH makes a key of the secret that base shares with a public key: CKM_ECDH1_DERIVE without a key derivation
// function.
func (m *Module) DeriveECDH(session Handle, mech uint, base Handle, point []byte, attributes []Attribute) (Handle, error) {
	params := pkcs11.NewECDH1DeriveParams(pkcs11.CKD_NULL, nil, point)
	h, err := m.ctx.DeriveKey(pkcs11.SessionHandle(session), mechanism(mech, params), pkcs11.ObjectHandle(base), template(attributes))
	return Handle(h), call("C_DeriveKey", err)
}
