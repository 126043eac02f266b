//go:build cgo

package main

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"encoding/asn1"
	"errors"
	"fmt"
	"os"
	"sync"
	"unsafe"

	"github.com/ThalesGroup/crypto11"
	p11 "github.com/miekg/pkcs11"

	"github.com/managedkeys/managedkeys/backend"
	"github.com/managedkeys/managedkeys/backend/pkcs11"
	"github.com/managedkeys/managedkeys/backend/software"
	"github.com/managedkeys/managedkeys/internal/softhsm"
)

// The environment tells a contender's process where the token is.
const (
	envModule = "MANAGEDKEYS_BENCH_MODULE"
	envLabel  = "MANAGEDKEYS_BENCH_TOKEN"
	envPIN    = "MANAGEDKEYS_BENCH_PIN"
)

func tokenEnv(token *softhsm.Token) []string {
	return []string{envModule + "=" + token.Module, envLabel + "=" + token.Label, envPIN + "=" + token.PIN}
}

// contenderNames is the order within a round.
var contenderNames = []string{"stdlib", "software", "miekg", "crypto11", "pkcs11"}

var contenders = map[string]contender{
	"stdlib": stdlibKeys, "software": softwareKeys, "miekg": miekgKeys, "crypto11": crypto11Keys, "pkcs11": pkcs11Keys,
}

// keyParams are the two keys on the token.
func keyParams(label string, pin backend.Secret) (ec, rsaKey pkcs11.Params) {
	ec = pkcs11.Params{Library: "bench", TokenLabel: label, PIN: pin, KeyLabel: "ec", Mechanism: pkcs11.ECDSA, Curve: "P256", MaxParallel: 64}
	rsaKey = pkcs11.Params{Library: "bench", TokenLabel: label, PIN: pin, KeyLabel: "rsa", Mechanism: pkcs11.RSAPKCS, KeyBits: 2048, MaxParallel: 64}
	return ec, rsaKey
}

// makeKeys generates the keys that every contender on the token signs with.
func makeKeys(token *softhsm.Token) error {
	b, err := pkcs11.New(pkcs11.Library{Name: "bench", Path: token.Module})
	if err != nil {
		return err
	}
	ec, rsaKey := keyParams(token.Label, backend.Secret(token.PIN))
	for _, params := range []pkcs11.Params{ec, rsaKey} {
		if _, err := b.Generate(context.Background(), params, nil); err != nil {
			return errors.Join(err, b.Close())
		}
	}
	return b.Close()
}

func stdlibKeys() (map[string]signFunc, error) {
	ec, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	rsaKey, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		return nil, err
	}
	return withSigners(ec, rsaKey), nil
}

func softwareKeys() (map[string]signFunc, error) {
	b := software.New(nil)
	ec, err := signer(b.Generate(context.Background(), software.Params{KeyName: "ec", KeyType: software.ECDSA, Curve: "P256"}, nil))
	if err != nil {
		return nil, err
	}
	rsaKey, err := signer(b.Generate(context.Background(), software.Params{KeyName: "rsa", KeyType: software.RSA, KeyBits: 2048}, nil))
	if err != nil {
		return nil, err
	}
	return withSigners(ec, rsaKey), nil
}

func pkcs11Keys() (map[string]signFunc, error) {
	b, err := pkcs11.New(pkcs11.Library{Name: "bench", Path: os.Getenv(envModule), MaxSessions: 70})
	if err != nil {
		return nil, err
	}
	ecParams, rsaParams := keyParams(os.Getenv(envLabel), "env:"+envPIN)
	ec, err := signer(b.Open(context.Background(), ecParams))
	if err != nil {
		return nil, err
	}
	rsaKey, err := signer(b.Open(context.Background(), rsaParams))
	if err != nil {
		return nil, err
	}
	return withSigners(ec, rsaKey), nil
}

func signer(key backend.Key, err error) (crypto.Signer, error) {
	if err != nil {
		return nil, err
	}
	s, ok := key.(crypto.Signer)
	if !ok {
		return nil, fmt.Errorf("%T is no crypto.Signer", key)
	}
	return s, nil
}

func crypto11Keys() (map[string]signFunc, error) {
	ctx, err := crypto11.Configure(&crypto11.Config{Path: os.Getenv(envModule), TokenLabel: os.Getenv(envLabel), Pin: os.Getenv(envPIN)})
	if err != nil {
		return nil, err
	}
	ec, err := ctx.FindKeyPair(nil, []byte("ec"))
	if err != nil {
		return nil, err
	}
	rsaKey, err := ctx.FindKeyPair(nil, []byte("rsa"))
	if err != nil {
		return nil, err
	}
	return withSigners(ec, rsaKey), nil
}

// digestInfoSHA256 is the DER prefix of a SHA-256 DigestInfo (RFC 8017, Section 9.2, note 1).
var digestInfoSHA256 = func() []byte {
	type algorithm struct {
		OID  asn1.ObjectIdentifier
		Null asn1.RawValue
	}
	der, err := asn1.Marshal(struct {
		Algorithm algorithm
		Digest    []byte
	}{algorithm{asn1.ObjectIdentifier{2, 16, 840, 1, 101, 3, 4, 2, 1}, asn1.NullRawValue}, make([]byte, 32)})
	if err != nil {
		panic(err)
	}
	return der[:len(der)-32]
}()

// miekgKeys signs as a careful program over the bare wrapper would: a session per goroutine, reused.
func miekgKeys() (map[string]signFunc, error) {
	module := p11.New(os.Getenv(envModule))
	if module == nil {
		return nil, errors.New("can't load the module")
	}
	if err := module.Initialize(); err != nil {
		return nil, err
	}
	slot, err := findSlot(module, os.Getenv(envLabel))
	if err != nil {
		return nil, err
	}
	login, err := module.OpenSession(slot, p11.CKF_SERIAL_SESSION)
	if err != nil {
		return nil, err
	}
	if err := module.Login(login, p11.CKU_USER, os.Getenv(envPIN)); err != nil {
		return nil, err
	}
	ec, err := findPrivate(module, login, "ec")
	if err != nil {
		return nil, err
	}
	rsaKey, err := findPrivate(module, login, "rsa")
	if err != nil {
		return nil, err
	}

	var mu sync.Mutex
	var idle []p11.SessionHandle
	sign := func(key p11.ObjectHandle, mechanism *p11.Mechanism, prefix []byte) signFunc {
		mechanisms := []*p11.Mechanism{mechanism}
		return func(digest []byte) error {
			mu.Lock()
			var session p11.SessionHandle
			if n := len(idle); n > 0 {
				session, idle = idle[n-1], idle[:n-1]
			}
			mu.Unlock()
			if session == 0 {
				var err error
				if session, err = module.OpenSession(slot, p11.CKF_SERIAL_SESSION); err != nil {
					return err
				}
			}
			if prefix != nil {
				digest = append(append(make([]byte, 0, 64), prefix...), digest...)
			}
			if err := module.SignInit(session, mechanisms, key); err != nil {
				return err
			}
			if _, err := module.Sign(session, digest); err != nil {
				return err
			}
			mu.Lock()
			idle = append(idle, session)
			mu.Unlock()
			return nil
		}
	}
	// CK_RSA_PKCS_PSS_PARAMS (PKCS#11 v2.40 mechanisms, Section 2.1.8) is three CK_ULONGs.
	params := [3]uint64{p11.CKM_SHA256, p11.CKG_MGF1_SHA256, 32}
	pss := unsafe.Slice((*byte)(unsafe.Pointer(&params[0])), unsafe.Sizeof(params))
	return map[string]signFunc{
		algorithms[0]: sign(ec, p11.NewMechanism(p11.CKM_ECDSA, nil), nil),
		algorithms[1]: sign(rsaKey, p11.NewMechanism(p11.CKM_RSA_PKCS, nil), digestInfoSHA256),
		algorithms[2]: sign(rsaKey, p11.NewMechanism(p11.CKM_RSA_PKCS_PSS, pss), nil),
	}, nil
}

func findSlot(module *p11.Ctx, label string) (uint, error) {
	slots, err := module.GetSlotList(true)
	if err != nil {
		return 0, err
	}
	for _, slot := range slots {
		if info, err := module.GetTokenInfo(slot); err == nil && info.Label == label {
			return slot, nil
		}
	}
	return 0, fmt.Errorf("no token %q", label)
}

func findPrivate(module *p11.Ctx, session p11.SessionHandle, label string) (p11.ObjectHandle, error) {
	template := []*p11.Attribute{p11.NewAttribute(p11.CKA_CLASS, p11.CKO_PRIVATE_KEY), p11.NewAttribute(p11.CKA_LABEL, label)}
	if err := module.FindObjectsInit(session, template); err != nil {
		return 0, err
	}
	objects, _, err := module.FindObjects(session, 2)
	if err := errors.Join(err, module.FindObjectsFinal(session)); err != nil {
		return 0, err
	}
	if len(objects) != 1 {
		return 0, fmt.Errorf("%d private keys with label %q", len(objects), label)
	}
	return objects[0], nil
}
