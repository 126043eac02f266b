//go:build cgo

package main

import (
	"crypto/rand"
	"encoding/asn1"
	"errors"
	"fmt"
	"os"
	"sync"
	"unsafe"

	p11 "github.com/miekg/pkcs11"
)

// digestInfo is the DER form of a SHA-256 DigestInfo (RFC 8017, Section 9.2, note 1).
var digestInfo = func() []byte {
	type algorithm struct {
		OID  asn1.ObjectIdentifier
		Null asn1.RawValue
	}
	der, err := asn1.Marshal(struct {
		Algorithm algorithm
		Digest    []byte
	}{algorithm{asn1.ObjectIdentifier{2, 16, 840, 1, 101, 3, 4, 2, 1}, asn1.NullRawValue}, digest[:]})
	if err != nil {
		panic(err)
	}
	return der
}()

// miekgToken is used as a careful program over the bare wrapper would: a session for each goroutine, reused.
type miekgToken struct {
	*p11.Ctx
	slot  uint
	login p11.SessionHandle

	mu   sync.Mutex
	idle []p11.SessionHandle
}

func miekgConnect() (*miekgToken, error) {
	t := &miekgToken{Ctx: p11.New(os.Getenv(envModule))}
	if t.Ctx == nil {
		return nil, errors.New("can't load the module")
	}
	if err := t.Initialize(); err != nil {
		return nil, err
	}
	slots, err := t.GetSlotList(true)
	if err != nil {
		return nil, err
	}
	label := os.Getenv(envLabel)
	for _, slot := range slots {
		info, err := t.GetTokenInfo(slot)
		if err != nil || info.Label != label {
			continue
		}
		t.slot = slot
		if t.login, err = t.OpenSession(slot, p11.CKF_SERIAL_SESSION); err != nil {
			return nil, err
		}
		return t, t.Login(t.login, p11.CKU_USER, os.Getenv(envPIN))
	}
	return nil, fmt.Errorf("no token %q", label)
}

func (t *miekgToken) find(class uint, label string) (p11.ObjectHandle, error) {
	template := []*p11.Attribute{p11.NewAttribute(p11.CKA_CLASS, class), p11.NewAttribute(p11.CKA_LABEL, label)}
	if err := t.FindObjectsInit(t.login, template); err != nil {
		return 0, err
	}
	objects, _, err := t.FindObjects(t.login, 2)
	if err := errors.Join(err, t.FindObjectsFinal(t.login)); err != nil {
		return 0, err
	}
	if len(objects) != 1 {
		return 0, fmt.Errorf("%d keys with label %q", len(objects), label)
	}
	return objects[0], nil
}

// do calls fn with a session that nobody else uses. After an error the session is not used again.
func (t *miekgToken) do(fn func(p11.SessionHandle) error) error {
	t.mu.Lock()
	var session p11.SessionHandle
	if n := len(t.idle); n > 0 {
		session, t.idle = t.idle[n-1], t.idle[:n-1]
	}
	t.mu.Unlock()
	if session == 0 {
		var err error
		if session, err = t.OpenSession(t.slot, p11.CKF_SERIAL_SESSION); err != nil {
			return err
		}
	}
	if err := fn(session); err != nil {
		return err
	}
	t.mu.Lock()
	t.idle = append(t.idle, session)
	t.mu.Unlock()
	return nil
}

func (t *miekgToken) sign(key p11.ObjectHandle, mechanism *p11.Mechanism, input []byte) operation {
	mechanisms := []*p11.Mechanism{mechanism}
	return func() error {
		return t.do(func(session p11.SessionHandle) error {
			if err := t.SignInit(session, mechanisms, key); err != nil {
				return err
			}
			_, err := t.Sign(session, input)
			return err
		})
	}
}

func (t *miekgToken) seal(key p11.ObjectHandle) operation {
	return func() error {
		return t.do(func(session p11.SessionHandle) error {
			nonce := make([]byte, 12)
			rand.Read(nonce)
			params := p11.NewGCMParams(nonce, nil, 128)
			defer params.Free()
			if err := t.EncryptInit(session, []*p11.Mechanism{p11.NewMechanism(p11.CKM_AES_GCM, params)}, key); err != nil {
				return err
			}
			_, err := t.Encrypt(session, message)
			return err
		})
	}
}

func (t *miekgToken) decrypt(key, public p11.ObjectHandle) (operation, error) {
	params := p11.NewOAEPParams(p11.CKM_SHA_1, p11.CKG_MGF1_SHA1, p11.CKZ_DATA_SPECIFIED, nil)
	mechanisms := []*p11.Mechanism{p11.NewMechanism(p11.CKM_RSA_PKCS_OAEP, params)}
	if err := t.EncryptInit(t.login, mechanisms, public); err != nil {
		return nil, err
	}
	ciphertext, err := t.Encrypt(t.login, digest[:])
	if err != nil {
		return nil, err
	}
	return func() error {
		return t.do(func(session p11.SessionHandle) error {
			if err := t.DecryptInit(session, mechanisms, key); err != nil {
				return err
			}
			_, err := t.Decrypt(session, ciphertext)
			return err
		})
	}, nil
}

func miekgKeys() (map[string]operation, error) {
	t, err := miekgConnect()
	if err != nil {
		return nil, err
	}
	keys := make(map[string]p11.ObjectHandle)
	for label, class := range map[string]uint{"ec": p11.CKO_PRIVATE_KEY, "rsa": p11.CKO_PRIVATE_KEY, "oaep": p11.CKO_PRIVATE_KEY,
		"hmac": p11.CKO_SECRET_KEY, "aes": p11.CKO_SECRET_KEY} {
		if keys[label], err = t.find(class, label); err != nil {
			return nil, err
		}
	}
	public, err := t.find(p11.CKO_PUBLIC_KEY, "oaep")
	if err != nil {
		return nil, err
	}
	decrypt, err := t.decrypt(keys["oaep"], public)
	if err != nil {
		return nil, err
	}
	// CK_RSA_PKCS_PSS_PARAMS (PKCS#11 v2.40 mechanisms, Section 2.1.8) is three CK_ULONGs.
	params := [3]uint{p11.CKM_SHA256, p11.CKG_MGF1_SHA256, 32}
	pss := unsafe.Slice((*byte)(unsafe.Pointer(&params[0])), unsafe.Sizeof(params))
	return map[string]operation{
		algorithms[0]: t.sign(keys["ec"], p11.NewMechanism(p11.CKM_ECDSA, nil), digest[:]),
		algorithms[1]: t.sign(keys["rsa"], p11.NewMechanism(p11.CKM_RSA_PKCS, nil), digestInfo),
		algorithms[2]: t.sign(keys["rsa"], p11.NewMechanism(p11.CKM_RSA_PKCS_PSS, pss), digest[:]),
		algorithms[3]: decrypt,
		algorithms[4]: t.sign(keys["hmac"], p11.NewMechanism(p11.CKM_SHA256_HMAC, nil), message),
		algorithms[5]: t.seal(keys["aes"]),
	}, nil
}
