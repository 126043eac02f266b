package backendtest

import (
	"bytes"
	"context"
	"crypto/ecdh"
	"crypto/ecdsa"
	"crypto/hpke"
	"crypto/rand"
	"errors"
	"fmt"

	"github.com/managedkeys/managedkeys/backend"
)

// curvesECDH are those that a key or its peer may be on.
var curvesECDH = []ecdh.Curve{ecdh.P256(), ecdh.P384(), ecdh.P521(), ecdh.X25519()}

// publicECDH returns the key's public key as crypto/ecdh has it.
func publicECDH(key backend.Key) (*ecdh.PublicKey, error) {
	pub, ok := key.Public().(*ecdsa.PublicKey)
	if !ok {
		return nil, fmt.Errorf("a key with the public key %T can't agree", key.Public())
	}
	return pub.ECDH()
}

func newPeer(curve ecdh.Curve) (*ecdh.PrivateKey, error) { return curve.GenerateKey(rand.Reader) }

// checkAgree checks key agreement with crypto/ecdh on the other side: the secret is what both sides compute, all of its
// leading zeros included, and crypto/hpke works with it.
func checkAgree(c *checker, k Key, key backend.Key) {
	if !k.Agrees {
		return // that the key is no backend.KeyAgreer is checked by checkCapabilities
	}
	a, ok := key.(backend.KeyAgreer)
	if !ok {
		c.Fatalf("%T is no backend.KeyAgreer", key)
	}
	own, err := publicECDH(key)
	if err != nil {
		c.Fatalf("the key agrees, but its public key doesn't: %v", err)
	}
	// Rule: the key is an ecdh.KeyExchanger with the public key that it signs with.
	if !own.Equal(a.PublicKey()) || a.Curve() != own.Curve() {
		c.Errorf("PublicKey or Curve is another than that of Public(), which is on %v", own.Curve())
	}
	peers := []*ecdh.PrivateKey{shortSecret(c, own)}
	for range 3 {
		peer, err := newPeer(own.Curve())
		if err != nil {
			c.Fatalf("generating a peer's key: %v", err)
		}
		peers = append(peers, peer)
	}
	var secrets [][]byte
	for _, peer := range peers {
		want, err := peer.ECDH(own)
		if err != nil {
			c.Fatalf("the peer's side: %v", err)
		}
		for _, call := range []struct {
			name  string
			agree func() ([]byte, error)
		}{
			{"ECDH", func() ([]byte, error) { return a.ECDH(peer.PublicKey()) }},
			{"ECDHContext", func() ([]byte, error) { return a.ECDHContext(c.Context(), peer.PublicKey()) }},
		} {
			secret, err := call.agree()
			if c.ok(call.name, err) && !bytes.Equal(secret, want) {
				c.Errorf("%s: the secret of %d bytes is not the one that the peer computes", call.name, len(secret))
			}
		}
		secret, err := a.ECDH(peer.PublicKey())
		c.must("ECDH", err)
		secrets = append(secrets, secret)
	}
	// Rule: a result is the caller's own; a later call does not overwrite it.
	for i, peer := range peers {
		if want, err := peer.ECDH(own); err == nil && !bytes.Equal(secrets[i], want) {
			c.Errorf("secret %d was overwritten by a later call", i)
		}
	}
	private, err := hpke.NewDHKEMPrivateKey(a)
	if err != nil {
		c.Fatalf("hpke.NewDHKEMPrivateKey: %v", err)
	}
	checkHPKE(c, private)
}

// checkHPKE has crypto/hpke open a message that was sealed to the key (RFC 9180, Section 4), as programs do.
func checkHPKE(c *checker, private hpke.PrivateKey) {
	c.Helper()
	message := random(50)
	sealed, err := hpke.Seal(private.PublicKey(), hpke.HKDFSHA256(), hpke.AES256GCM(), nil, message)
	if err != nil {
		c.Fatalf("hpke.Seal: %v", err)
	}
	opened, err := hpke.Open(private, hpke.HKDFSHA256(), hpke.AES256GCM(), nil, sealed)
	if err != nil {
		c.scan("hpke.Open", err.Error())
		c.Fatalf("hpke.Open: %s", c.cfg.mask(err.Error()))
	}
	if !bytes.Equal(opened, message) {
		c.Error("hpke.Open: the message is another")
	}
}

// shortSecret returns a peer with which the shared secret begins with a zero byte. (SP 800-56A Rev. 3, Section 5.7.1.2: the
// secret has the length of a field element. Who converts it from a number loses the zero, once in 256 times.)
func shortSecret(c *checker, own *ecdh.PublicKey) *ecdh.PrivateKey {
	c.Helper()
	for range 1 << 14 {
		peer, err := newPeer(own.Curve())
		if err != nil {
			c.Fatalf("generating a peer's key: %v", err)
		}
		if secret, err := peer.ECDH(own); err == nil && secret[0] == 0 {
			return peer
		}
	}
	c.Fatal("no secret begins with a zero byte")
	return nil
}

// agreeing returns ECDHContext.
func agreeing(c *checker, a backend.KeyAgreer) []operation {
	own, err := publicECDH(a)
	if err != nil {
		c.Fatal(err)
	}
	return []operation{{"ECDHContext", func(ctx context.Context) (error, error) {
		peer, err := newPeer(own.Curve())
		if err != nil {
			return nil, err
		}
		want, err := peer.ECDH(own)
		if err != nil {
			return nil, err
		}
		secret, err := a.ECDHContext(ctx, peer.PublicKey())
		return err, wrongIf(err == nil && !bytes.Equal(secret, want), "the secret is not the one that the peer computes")
	}}}
}

// agreeRefusals returns the peers that must be refused: none, and those on another curve.
func agreeRefusals(c *checker, a backend.KeyAgreer) []refusal {
	var all []refusal
	refuse := func(name string, peer *ecdh.PublicKey) {
		want := []error{backend.ErrInvalidParams}
		all = append(all, refusal{"ECDHContext with " + name, func() error {
			_, err := a.ECDHContext(c.Context(), peer)
			return err
		}, want}, refusal{"ECDH with " + name, func() error {
			_, err := a.ECDH(peer)
			return err
		}, want})
	}
	refuse("no peer", nil)
	refuse("an empty public key", new(ecdh.PublicKey))
	for _, curve := range curvesECDH {
		if curve == a.Curve() {
			continue
		}
		peer, err := newPeer(curve)
		if err != nil {
			c.Fatalf("generating a peer's key: %v", err)
		}
		refuse(fmt.Sprintf("a peer on %v", curve), peer.PublicKey())
	}
	return all
}

// checkAgreeView checks the views of a key that agrees. end ends the context of the first.
func checkAgreeView(c *checker, ending, lasting, key backend.Key, end func()) {
	c.Helper()
	own, err := publicECDH(key)
	if err != nil {
		c.Fatal(err)
	}
	agree := func(key backend.Key) error {
		x, ok := key.(ecdh.KeyExchanger)
		if !ok {
			return errors.New("it is no ecdh.KeyExchanger")
		}
		peer, err := newPeer(own.Curve())
		if err != nil {
			return err
		}
		secret, err := x.ECDH(peer.PublicKey())
		if err != nil {
			return err
		}
		if want, err := peer.ECDH(x.PublicKey()); err != nil || !bytes.Equal(secret, want) {
			c.Errorf("ECDH of %T: the secret is not the one that the peer computes", key)
		}
		return nil
	}
	c.ok("ECDH of a view", agree(ending))
	end()
	c.refused("ECDH of a view whose context was cancelled", agree(ending), context.Canceled)
	c.ok("ECDH of another view", agree(lasting))
	c.ok("ECDH of the key itself", agree(key))
}
