package faultp11

import (
	"crypto"
	"encoding/binary"
	"io"
	"net"
	"os"

	"filippo.io/mldsa"
)

// Numbers of PKCS #11 v2.40 and, where they are about ML-DSA, v3.2, Section 6.67.
const (
	ckaClass            = 0x000
	ckaToken            = 0x001
	ckaPrivate          = 0x002
	ckaLabel            = 0x003
	ckaValue            = 0x011
	ckaKeyType          = 0x100
	ckaSubject          = 0x101
	ckaID               = 0x102
	ckaSensitive        = 0x103
	ckaEncrypt          = 0x104
	ckaDecrypt          = 0x105
	ckaWrap             = 0x106
	ckaUnwrap           = 0x107
	ckaSign             = 0x108
	ckaSignRecover      = 0x109
	ckaVerify           = 0x10a
	ckaVerifyRecover    = 0x10b
	ckaDerive           = 0x10c
	ckaExtractable      = 0x162
	ckaLocal            = 0x163
	ckaNeverExtractable = 0x164
	ckaAlwaysSensitive  = 0x165
	ckaKeyGenMechanism  = 0x166
	ckaModifiable       = 0x170
	ckaAlwaysAuth       = 0x202
	ckaParameterSet     = 0x61d
	ckaSeed             = 0x637

	ckoPublicKey       = 2
	ckoPrivateKey      = 3
	ckkMLDSA           = 0x4a
	ckmMLDSAKeyPairGen = 0x1c
	ckmMLDSA           = 0x1d
	ckfSign            = 0x800

	ckhDeterministicRequired = 2
)

// EmulateMLDSA gives all tokens of the module an ML-DSA key pair: a private and a public key object with that label and
// id, and the mechanism CKM_ML_DSA, with which C_SignInit, C_Sign, C_SignUpdate and C_SignFinal make real signatures.
// Verifying, generating, and changing or destroying the objects are not there. The key signs until the test ends.
//
// The private key is seen and used only by a user who is logged in. Its object handle dies with the initialisation of
// the module.
func (m *Module) EmulateMLDSA(tb TB, label string, id []byte, key *mldsa.PrivateKey) {
	tb.Helper()
	params := key.PublicKey().Parameters()
	set := map[mldsa.Parameters]uint64{mldsa.MLDSA44(): 1, mldsa.MLDSA65(): 2, mldsa.MLDSA87(): 3}[params]

	var private, public attributes
	for _, a := range []*attributes{&private, &public} {
		a.number(ckaKeyType, ckkMLDSA)
		a.bytes(ckaLabel, []byte(label))
		a.bytes(ckaID, id)
		a.bytes(ckaSubject, nil)
		a.number(ckaParameterSet, set)
		a.number(ckaKeyGenMechanism, ckmMLDSAKeyPairGen)
		a.bools(true, ckaToken, ckaLocal)
		a.bools(false, ckaDerive, ckaModifiable)
	}
	private.number(ckaClass, ckoPrivateKey)
	private.bools(true, ckaPrivate, ckaSign, ckaSensitive, ckaAlwaysSensitive, ckaNeverExtractable)
	private.bools(false, ckaDecrypt, ckaUnwrap, ckaSignRecover, ckaExtractable, ckaAlwaysAuth)
	private.secret(ckaValue, ckaSeed)
	public.number(ckaClass, ckoPublicKey)
	public.bools(true, ckaVerify)
	public.bools(false, ckaPrivate, ckaEncrypt, ckaWrap, ckaVerifyRecover)
	public.bytes(ckaValue, key.PublicKey().Bytes())

	m.addMechanism(ckmMLDSA, ckfSign, mldsa.MLDSA44PublicKeySize, mldsa.MLDSA87PublicKeySize)
	m.call("object", public.data, 0)
	number := m.call("object", private.data, uint64(params.SignatureSize()))
	socket := os.NewFile(uintptr(m.call("socket", nil, number)), "faultp11")
	conn, err := net.FileConn(socket)
	socket.Close()
	if err != nil {
		tb.Fatalf("faultp11: %v", err)
		return
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		serve(conn, key)
	}()
	tb.Cleanup(func() {
		m.call("detach", nil, number)
		<-done
	})
}

// attributes are encoded as the control function object takes them.
type attributes struct{ data []byte }

func (a *attributes) bytes(attribute uint64, value []byte) {
	a.data = binary.NativeEndian.AppendUint64(a.data, attribute)
	a.data = binary.NativeEndian.AppendUint64(a.data, uint64(len(value)))
	a.data = append(a.data, value...)
}

func (a *attributes) number(attribute, value uint64) {
	a.bytes(attribute, binary.NativeEndian.AppendUint64(nil, value))
}

func (a *attributes) bools(value bool, list ...uint64) {
	for _, attribute := range list {
		a.bytes(attribute, []byte{byte(flag(value))})
	}
}

// secret is for attributes that exist and are not told.
func (a *attributes) secret(list ...uint64) {
	for _, attribute := range list {
		a.data = binary.NativeEndian.AppendUint64(a.data, attribute)
		a.data = binary.NativeEndian.AppendUint64(a.data, ^uint64(0))
	}
}

// serve signs until the shim closes its end. A request is hedge variant, length of the context, length of the message,
// context and message; a reply is the length of the signature, 0 if there is none, and the signature.
func serve(conn net.Conn, key *mldsa.PrivateKey) {
	defer conn.Close()
	for {
		var head [3]uint64
		if err := binary.Read(conn, binary.NativeEndian, &head); err != nil {
			return
		}
		text := make([]byte, head[1]+head[2])
		if _, err := io.ReadFull(conn, text); err != nil {
			return
		}
		sign := key.SignDeterministic
		if head[0] != ckhDeterministicRequired {
			sign = func(message []byte, opts crypto.SignerOpts) ([]byte, error) { return key.Sign(nil, message, opts) }
		}
		signature, err := sign(text[head[1]:], &mldsa.Options{Context: string(text[:head[1]])})
		if err != nil {
			signature = nil
		}
		reply := binary.NativeEndian.AppendUint64(nil, uint64(len(signature)))
		if _, err := conn.Write(append(reply, signature...)); err != nil {
			return
		}
	}
}
