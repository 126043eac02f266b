//go:build cgo

package swtpm

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/asn1"
	"math/big"
	"testing"

	"github.com/miekg/pkcs11"
)

// client is the module with a session in which the user is logged in.
type client struct {
	*pkcs11.Ctx
	session pkcs11.SessionHandle
}

// connect initialises the module until the test has ended.
func connect(t *testing.T, token *Token) *client {
	t.Helper()
	ctx := pkcs11.New(token.Module)
	if ctx == nil {
		t.Fatalf("can't load %s", token.Module)
	}
	t.Cleanup(ctx.Destroy)
	if err := ctx.Initialize(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ctx.Finalize() })
	slots, err := ctx.GetSlotList(true)
	if err != nil {
		t.Fatal(err)
	}
	for _, slot := range slots {
		info, err := ctx.GetTokenInfo(slot)
		if err != nil {
			t.Fatal(err)
		}
		if info.Label != token.Label {
			continue
		}
		session, err := ctx.OpenSession(slot, pkcs11.CKF_SERIAL_SESSION|pkcs11.CKF_RW_SESSION)
		if err != nil {
			t.Fatal(err)
		}
		return &client{Ctx: ctx, session: session}
	}
	t.Fatalf("no slot of %d has %v", len(slots), token)
	return nil
}

// find returns the object of class with that label.
func (c *client) find(t *testing.T, class uint, label string) pkcs11.ObjectHandle {
	t.Helper()
	err := c.FindObjectsInit(c.session, []*pkcs11.Attribute{
		pkcs11.NewAttribute(pkcs11.CKA_CLASS, class), pkcs11.NewAttribute(pkcs11.CKA_LABEL, label),
	})
	if err != nil {
		t.Fatal(err)
	}
	found, _, err := c.FindObjects(c.session, 2)
	if err != nil || len(found) != 1 {
		t.Fatalf("found %d objects %q, error %v; want one", len(found), label, err)
	}
	if err := c.FindObjectsFinal(c.session); err != nil {
		t.Fatal(err)
	}
	return found[0]
}

func (c *client) attribute(t *testing.T, object pkcs11.ObjectHandle, kind uint) []byte {
	t.Helper()
	found, err := c.GetAttributeValue(c.session, object, []*pkcs11.Attribute{pkcs11.NewAttribute(kind, nil)})
	if err != nil {
		t.Fatal(err)
	}
	return found[0].Value
}

func (c *client) sign(t *testing.T, key pkcs11.ObjectHandle, mechanism uint, data []byte) []byte {
	t.Helper()
	if err := c.SignInit(c.session, []*pkcs11.Mechanism{pkcs11.NewMechanism(mechanism, nil)}, key); err != nil {
		t.Fatal(err)
	}
	signature, err := c.Sign(c.session, data)
	if err != nil {
		t.Fatal(err)
	}
	return signature
}

// publicKey returns the public key of a P-256 object.
func (c *client) publicKey(t *testing.T, object pkcs11.ObjectHandle) *ecdsa.PublicKey {
	t.Helper()
	var point []byte
	if _, err := asn1.Unmarshal(c.attribute(t, object, pkcs11.CKA_EC_POINT), &point); err != nil {
		t.Fatal(err)
	}
	key, err := ecdsa.ParseUncompressedPublicKey(elliptic.P256(), point)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func verify(key *ecdsa.PublicKey, digest, signature []byte) bool {
	half := len(signature) / 2
	return ecdsa.Verify(key, digest, new(big.Int).SetBytes(signature[:half]), new(big.Int).SetBytes(signature[half:]))
}

func TestToken(t *testing.T) {
	token := Require(t)
	token.AddKey(t, "ecc256", "ec", "id-1")
	token.AddKey(t, "hmac:sha256", "mac", "id-2")
	if err := token.addKey("rot13", "none", "id-3"); err == nil {
		t.Error("a key of an unknown algorithm was made")
	}
	c := connect(t, token)
	if err := c.Login(c.session, pkcs11.CKU_USER, token.PIN+"x"); err != pkcs11.Error(pkcs11.CKR_PIN_INCORRECT) {
		t.Errorf("wrong PIN: error = %v", err)
	}
	if err := c.Login(c.session, pkcs11.CKU_USER, token.PIN); err != nil {
		t.Fatal(err)
	}
	digest := sha256.Sum256([]byte("message"))

	private := c.find(t, pkcs11.CKO_PRIVATE_KEY, "ec")
	if id := c.attribute(t, private, pkcs11.CKA_ID); string(id) != "id-1" {
		t.Errorf("CKA_ID = %q, want id-1", id)
	}
	public := c.publicKey(t, c.find(t, pkcs11.CKO_PUBLIC_KEY, "ec"))
	if signature := c.sign(t, private, pkcs11.CKM_ECDSA, digest[:]); !verify(public, digest[:], signature) {
		t.Error("ECDSA signature is wrong")
	}
	// tpm2_ptool keeps no copy of the HMAC key, so only its use can be compared.
	mac := c.find(t, pkcs11.CKO_SECRET_KEY, "mac")
	first, again := c.sign(t, mac, pkcs11.CKM_SHA256_HMAC, digest[:]), c.sign(t, mac, pkcs11.CKM_SHA256_HMAC, digest[:])
	if other := c.sign(t, mac, pkcs11.CKM_SHA256_HMAC, nil); len(first) != 32 || !hmac.Equal(first, again) || hmac.Equal(first, other) {
		t.Errorf("HMACs %x, %x of one message, %x of another", first, again, other)
	}
}

func TestGenerateKeyPair(t *testing.T) {
	token := Require(t)
	c := connect(t, token)
	if err := c.Login(c.session, pkcs11.CKU_USER, token.PIN); err != nil {
		t.Fatal(err)
	}
	p256, err := asn1.Marshal(asn1.ObjectIdentifier{1, 2, 840, 10045, 3, 1, 7})
	if err != nil {
		t.Fatal(err)
	}
	public, private, err := c.GenerateKeyPair(c.session,
		[]*pkcs11.Mechanism{pkcs11.NewMechanism(pkcs11.CKM_EC_KEY_PAIR_GEN, nil)},
		[]*pkcs11.Attribute{
			pkcs11.NewAttribute(pkcs11.CKA_TOKEN, true), pkcs11.NewAttribute(pkcs11.CKA_VERIFY, true),
			pkcs11.NewAttribute(pkcs11.CKA_EC_PARAMS, p256),
		},
		[]*pkcs11.Attribute{
			pkcs11.NewAttribute(pkcs11.CKA_TOKEN, true), pkcs11.NewAttribute(pkcs11.CKA_SIGN, true),
			pkcs11.NewAttribute(pkcs11.CKA_LABEL, "made"), pkcs11.NewAttribute(pkcs11.CKA_PRIVATE, true),
		})
	if err != nil {
		t.Fatal(err)
	}
	digest := sha256.Sum256([]byte("message"))
	if !verify(c.publicKey(t, public), digest[:], c.sign(t, private, pkcs11.CKM_ECDSA, digest[:])) {
		t.Error("ECDSA signature is wrong")
	}
}

// TestRoom checks what the package documentation says of a small device.
func TestRoom(t *testing.T) {
	token := Require(t)
	for _, label := range []string{"a", "b", "c"} {
		token.AddKey(t, "ecc256", label, label)
	}
	c := connect(t, token)
	use := func(label string) error {
		key := c.find(t, pkcs11.CKO_PRIVATE_KEY, label)
		if err := c.SignInit(c.session, []*pkcs11.Mechanism{pkcs11.NewMechanism(pkcs11.CKM_ECDSA, nil)}, key); err != nil {
			return err
		}
		_, err := c.Sign(c.session, make([]byte, sha256.Size))
		return err
	}
	for range 2 {
		if err := c.Login(c.session, pkcs11.CKU_USER, token.PIN); err != nil {
			t.Fatal(err)
		}
		for _, label := range []string{"c", "b", "c"} {
			if err := use(label); err != nil {
				t.Errorf("key %s: %v", label, err)
			}
		}
		if err := use("a"); err != pkcs11.Error(pkcs11.CKR_GENERAL_ERROR) {
			t.Errorf("third key: error = %v", err)
		}
		if err := c.Logout(c.session); err != nil {
			t.Fatal(err)
		}
	}

	for range 3 {
		if err := c.Login(c.session, pkcs11.CKU_USER, "wrong"); err != pkcs11.Error(pkcs11.CKR_PIN_INCORRECT) {
			t.Errorf("wrong PIN: error = %v", err)
		}
	}
	if err := c.Login(c.session, pkcs11.CKU_USER, token.PIN); err != pkcs11.Error(pkcs11.CKR_PIN_LOCKED) {
		t.Errorf("PIN after three wrong ones: error = %v", err)
	}
}
