package backendtest

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/rsa"
	"encoding/asn1"
	"math/big"

	"github.com/managedkeys/managedkeys/backend"
)

// checkSign checks every declared signature algorithm, by digest and by message, and that signatures are verified with
// software of another origin.
func checkSign(c *checker, k Key, key backend.Key) {
	algs := k.signatures(key.Public())
	if len(algs) == 0 {
		return // that the key refuses to sign is checked by checkRefused
	}
	s, ok := key.(backend.MessageSigner)
	if !ok {
		c.Fatalf("%T is no backend.MessageSigner", key)
	}
	for _, a := range algs {
		c.sub(a.String(), func(c *checker) { checkAlgorithm(c, s, a) })
	}
	if key.Capabilities().SignsMessages() {
		c.sub("Lengths", func(c *checker) { checkLengths(c, s) })
	}
	if key.Capabilities().UnhashedPKCS1v15 {
		c.sub("Unhashed", func(c *checker) { checkUnhashed(c, s) })
	}
}

// checkUnhashed checks RSASSA-PKCS1-v1_5 without a hash. (Rule: the input is padded as it is, whatever its length; one byte more than
// fits is refused.)
func checkUnhashed(c *checker, s backend.MessageSigner) {
	pub, ok := s.Public().(*rsa.PublicKey)
	if !ok {
		c.Fatalf("Capabilities().UnhashedPKCS1v15 of a key whose public key is %T", s.Public())
	}
	longest := pub.Size() - 11 // RFC 8017, Section 9.2
	for _, n := range []int{1, 20, 51, longest} {
		in := random(n)
		for name, sign := range map[string]func([]byte) ([]byte, error){
			"SignContext":        func(in []byte) ([]byte, error) { return s.SignContext(c.Context(), in, crypto.Hash(0)) },
			"SignMessageContext": func(in []byte) ([]byte, error) { return s.SignMessageContext(c.Context(), in, crypto.Hash(0)) },
		} {
			sig, err := sign(bytes.Clone(in))
			if !c.ok(name, err) {
				continue
			}
			if err := rsa.VerifyPKCS1v15(pub, 0, in, sig); err != nil {
				c.Errorf("%s of %d bytes: %v", name, n, err)
			}
		}
	}
	_, err := s.SignContext(c.Context(), make([]byte, longest+1), crypto.Hash(0))
	c.refused("SignContext of an input that is too long", err, backend.ErrInvalidParams)
}

// checkAlgorithm signs with one algorithm in all four ways, each time another message: a signature that took the place of
// an earlier one would verify otherwise.
func checkAlgorithm(c *checker, s backend.MessageSigner, a backend.SignatureAlgorithm) {
	opts, salt := options(a), saltOf(a)
	// Rule: no local randomness signs; what is passed as the source must not be read, and nil will do.
	var signatures []pair
	for _, call := range []struct {
		name string
		sign func(in, message []byte) ([]byte, error)
	}{
		{"Sign", func(in, _ []byte) ([]byte, error) { return s.Sign(noRandom{}, in, opts) }},
		{"Sign without a source of randomness", func(in, _ []byte) ([]byte, error) { return s.Sign(nil, in, opts) }},
		{"SignContext", func(in, _ []byte) ([]byte, error) { return s.SignContext(c.Context(), in, opts) }},
		{"SignMessage", func(_, m []byte) ([]byte, error) { return s.SignMessage(noRandom{}, m, opts) }},
		{"SignMessageContext", func(_, m []byte) ([]byte, error) { return s.SignMessageContext(c.Context(), m, opts) }},
	} {
		message := random(100)
		in := input(a, message)
		inCopy, messageCopy := bytes.Clone(in), bytes.Clone(message)
		sig, err := call.sign(inCopy, messageCopy)
		if !c.ok(call.name, err) {
			continue
		}
		if err := verify(s.Public(), a, salt, "", in, sig); err != nil {
			c.Errorf("%s: %v", call.name, err)
		}
		if !bytes.Equal(in, inCopy) || !bytes.Equal(message, messageCopy) {
			c.Errorf("%s: modified its input", call.name)
		}
		if verify(s.Public(), a, salt, "", input(a, random(100)), sig) == nil {
			c.Errorf("%s: the signature verifies for another message too", call.name)
		}
		checkDER(c, s, sig)
		signatures = append(signatures, pair{in, sig})
	}
	// Rule: a result is the caller's own; a later call does not overwrite it.
	for i, p := range signatures {
		if err := verify(s.Public(), a, salt, "", p.in, p.out); err != nil {
			c.Errorf("signature %d was overwritten by a later call: %v", i, err)
		}
	}
}

// saltOf returns the salt length that options asks for with a.
func saltOf(a backend.SignatureAlgorithm) int {
	if a.Hash == 0 {
		return 0
	}
	return a.Hash.Size()
}

// checkDER checks that an ECDSA signature is ASN.1 DER, and in its only form (RFC 3279, Section 2.2.3): parsed and
// written again, it is the same.
func checkDER(c *checker, key backend.Key, sig []byte) {
	c.Helper()
	if _, ok := key.Public().(*ecdsa.PublicKey); !ok {
		return
	}
	var rs struct{ R, S *big.Int }
	rest, err := asn1.Unmarshal(sig, &rs)
	if err != nil || len(rest) != 0 {
		c.Errorf("the ECDSA signature is not one ASN.1 structure: %d bytes left, error %v", len(rest), err)
		return
	}
	if again, err := asn1.Marshal(rs); err != nil || !bytes.Equal(again, sig) {
		c.Errorf("the ECDSA signature is not DER (error %v)", err)
	}
}

// checkLengths checks messages of unusual lengths. (Rule: Ed25519 and ML-DSA sign the message itself, whatever its
// length, from Capabilities().MinMessage up to MaxMessage; one byte less or more is refused.)
func checkLengths(c *checker, s backend.MessageSigner) {
	a := s.Capabilities().Signatures[0]
	least, limit := s.Capabilities().MinMessage, s.Capabilities().MaxMessage
	for _, n := range []int{least, 0, 1, 20, 32, 64, 4096, limit} {
		if limit > 0 && n > limit || n < least {
			continue
		}
		message := random(n)
		sig, err := s.SignContext(c.Context(), bytes.Clone(message), options(a))
		if !c.ok("SignContext", err) {
			continue
		}
		if err := verify(s.Public(), a, 0, "", message, sig); err != nil {
			c.Errorf("message of %d bytes: %v", n, err)
		}
	}
	if limit > 0 {
		_, err := s.SignContext(c.Context(), make([]byte, limit+1), options(a))
		c.refused("SignContext of a message that is too long", err, backend.ErrInvalidParams)
	}
	if least > 0 {
		_, err := s.SignContext(c.Context(), make([]byte, least-1), options(a))
		c.refused("SignContext of a message that is too short", err, backend.ErrInvalidParams)
	}
}

// checkVerify checks that a key accepts its own signatures and nothing else. (Rule: verification is local and fails with
// ErrInvalidSignature.)
func checkVerify(c *checker, k Key, key backend.Key) {
	if len(k.signatures(key.Public())) == 0 {
		return
	}
	s, v := key.(backend.MessageSigner), key.(backend.Verifier)
	for _, a := range k.signatures(key.Public()) {
		message := random(50)
		in, opts := input(a, message), options(a)
		sig, err := s.SignContext(c.Context(), in, opts)
		c.must("SignContext", err)
		check := func(in, sig []byte) error { return v.VerifyContext(c.Context(), in, sig, opts) }
		c.ok("VerifyContext", check(in, sig))
		for name, wrong := range tampered(sig) {
			c.refused("VerifyContext of a signature that is "+name, check(in, wrong), backend.ErrInvalidSignature)
		}
		other := input(a, random(50))
		c.refused("VerifyContext of another message", check(other, sig), backend.ErrInvalidSignature)
		if a.Hash != 0 {
			c.refused("VerifyContext of a short digest", check(in[1:], sig), backend.ErrInvalidParams)
		}
		err = v.VerifyContext(c.Context(), in, sig, nil)
		c.refused("VerifyContext without options", err, backend.ErrInvalidParams, backend.ErrUnsupported)
		for _, ended := range c.endedContexts() {
			err := v.VerifyContext(ended.ctx, in, sig, opts)
			c.refused("VerifyContext with a context that is "+ended.name, err, ended.want)
		}
	}
}
