package backendtest

import (
	"cmp"
	"crypto"
	"crypto/ecdh"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/mlkem"
	"crypto/rsa"
	"slices"

	"filippo.io/mldsa"

	"github.com/managedkeys/managedkeys/backend"
)

// checkCapabilities checks that a key's capabilities are exactly what is declared: one that is missing is a promise
// broken, one too many is a limit that was lifted and nobody tests.
func checkCapabilities(c *checker, k Key, key backend.Key) {
	pub, caps := key.Public(), key.Capabilities()
	if caps.Algorithm != k.Algorithm {
		c.Errorf("Capabilities().Algorithm is %q, want %q", caps.Algorithm, k.Algorithm)
	}
	same(c, "Capabilities().Signatures", caps.Signatures, k.signatures(pub))
	same(c, "Capabilities().X509(pub)", caps.X509(pub), k.certificates(pub))
	if got := len(caps.TLS(pub)) > 0; got != k.servesTLS(pub) {
		c.Errorf("Capabilities().TLS(pub) is %v; that there are some is %t, want %t", caps.TLS(pub), got, k.servesTLS(pub))
	}
	same(c, "Capabilities().OAEPHashes", caps.OAEPHashes, k.OAEP)
	same(c, "Capabilities().MACs", caps.MACs, k.MACs)
	if caps.OAEPLabels != k.OAEPLabels {
		c.Errorf("Capabilities().OAEPLabels is %t, want %t", caps.OAEPLabels, k.OAEPLabels)
	}
	if caps.SignatureContexts != k.SignatureContexts {
		c.Errorf("Capabilities().SignatureContexts is %t, want %t", caps.SignatureContexts, k.SignatureContexts)
	}
	if k.Random != (caps.MaxRandom > 0) {
		c.Errorf("Capabilities().MaxRandom is %d; Random is declared as %t", caps.MaxRandom, k.Random)
	}
	for _, u := range []struct {
		usage    backend.Usage
		declared bool
	}{
		{backend.UsageSign, len(k.signatures(pub)) > 0},
		{backend.UsageDecrypt, len(k.OAEP) > 0 || k.AEAD},
		{backend.UsageDerive, k.Agrees || k.Decapsulates},
		{backend.UsageMAC, len(k.MACs) > 0},
		{backend.UsageWrap, k.Wraps},
		{backend.UsageUnwrap, k.Wraps},
		{backend.UsageGenerateRandom, k.Random},
	} {
		if caps.Usages.Has(u.usage) != u.declared {
			c.Errorf("Capabilities().Usages are %s; that %s is among them should be %t", caps.Usages, u.usage, u.declared)
		}
	}
	if caps.Usages == 0 {
		c.Error("the key is declared to do nothing at all, so nothing was checked")
	}
	checkMethods(c, key)
	checkPublic(c, key)
}

// same checks that got and want hold the same elements, each once.
func same[T comparable](c *checker, what string, got, want []T) {
	c.Helper()
	for i, v := range got {
		if !slices.Contains(want, v) {
			c.Errorf("%s has %v, which is not declared", what, v)
		}
		if slices.Contains(got[:i], v) {
			c.Errorf("%s has %v twice", what, v)
		}
	}
	for _, v := range want {
		if !slices.Contains(got, v) {
			c.Errorf("%s lacks %v, which is declared", what, v)
		}
	}
}

// checkMethods checks that a key has the methods of what its usages say. (Rule: optional interfaces are found by type
// assertion; what signs is a MessageSigner, because x509 and TLS hand digests of Ed25519 to keys that aren't, and a
// Verifier; what decrypts with a private key is a Decrypter.)
func checkMethods(c *checker, key backend.Key) {
	caps := key.Capabilities()
	_, signs := key.(backend.MessageSigner)
	_, verifies := key.(backend.Verifier)
	_, decrypts := key.(backend.Decrypter)
	_, aead := key.(backend.AEAD)
	_, mac := key.(backend.MAC)
	_, random := key.(backend.Random)
	_, wraps := key.(backend.Wrapper)
	asymmetric := key.Public() != nil
	for _, m := range []struct {
		name      string
		has, want bool
	}{
		{"MessageSigner", signs, caps.Usages.Has(backend.UsageSign)},
		{"Verifier", verifies, caps.Usages.Has(backend.UsageSign)},
		{"Decrypter", decrypts, caps.Usages.Has(backend.UsageDecrypt) && asymmetric},
		{"AEAD", aead, caps.Usages.Has(backend.UsageEncrypt|backend.UsageDecrypt) && !asymmetric},
		{"MAC", mac, caps.Usages.Has(backend.UsageMAC)},
		{"Random", random, caps.Usages.Has(backend.UsageGenerateRandom)},
		{"Wrapper", wraps, caps.Usages.Has(backend.UsageWrap | backend.UsageUnwrap)},
	} {
		if m.want && !m.has {
			c.Errorf("the key's usages are %s, but %T is no backend.%s", caps.Usages, key, m.name)
		}
	}
	// Rule: a key that can't agree is no ecdh.KeyExchanger, since that is how others see whether it can; and likewise for
	// crypto.Decapsulator.
	_, agrees := key.(backend.KeyAgreer)
	_, exchanges := key.(ecdh.KeyExchanger)
	_, kem := key.Public().(crypto.Encapsulator)
	if want := caps.Usages.Has(backend.UsageDerive) && !kem; agrees != want || exchanges != want {
		c.Errorf("the key's usages are %s; that %T is a backend.KeyAgreer is %t, and an ecdh.KeyExchanger %t",
			caps.Usages, key, agrees, exchanges)
	}
	_, decapsulates := key.(backend.Decapsulator)
	_, opens := key.(crypto.Decapsulator)
	if want := caps.Usages.Has(backend.UsageDerive) && kem; decapsulates != want || opens != want {
		c.Errorf("the key's usages are %s and its public key is %T; that %T is a backend.Decapsulator is %t, and a crypto.Decapsulator %t",
			caps.Usages, key.Public(), key, decapsulates, opens)
	}
	if caps.Usages.Has(backend.UsageSign) != (len(caps.Signatures) > 0) {
		c.Errorf("the key's usages are %s, but its signature algorithms are %v", caps.Usages, caps.Signatures)
	}
}

// checkPublic checks that Public returns one of the contract's types, always the same key, and that ID is set. (Rule: a handle
// is bound to one public key; Public makes no call. That it works without a connection is checked after Close.)
func checkPublic(c *checker, key backend.Key) {
	if key.ID() == "" {
		c.Error("ID() is empty")
	}
	pub := key.Public()
	switch pub := pub.(type) {
	case *rsa.PublicKey, *ecdsa.PublicKey, ed25519.PublicKey, *mldsa.PublicKey, *mlkem.EncapsulationKey768, *mlkem.EncapsulationKey1024:
		if _, err := backend.Fingerprint(pub); err != nil {
			c.Errorf("Public() is not a key that can be marshalled: %v", err)
		}
	case nil:
		if caps := key.Capabilities(); len(caps.Signatures)+len(caps.OAEPHashes) > 0 {
			c.Error("Public() is nil, but the key signs or decrypts with a private key")
		}
	default:
		c.Errorf("Public() returns %T, which is no type of the contract", pub)
	}
	for range 3 {
		if !samePublic(pub, key.Public()) {
			c.Error("Public() returns another key each time")
		}
	}
	if s, ok := key.(crypto.Signer); ok && !samePublic(pub, s.Public()) {
		c.Error("the crypto.Signer has another public key")
	}
}

// checkReopen checks that two opens of the same key, one of them on another client, give the same key in every respect.
func checkReopen(c *checker, b backend.Backend, k Key, key backend.Key) {
	for name, client := range map[string]backend.Backend{"the same client": b, "another client": c.client()} {
		again := c.open(client, k.Params)
		if !samePublic(key.Public(), again.Public()) {
			c.Errorf("opened again with %s, the public key is another", name)
		}
		if again.ID() != key.ID() {
			c.Errorf("opened again with %s, ID() is %q, want %q", name, again.ID(), key.ID())
		}
		a, o := again.Capabilities(), key.Capabilities()
		same(c, "opened again with "+name+": Capabilities().Signatures", a.Signatures, o.Signatures)
		if cmp.Or(cmp.Compare(a.Algorithm, o.Algorithm), cmp.Compare(a.Usages, o.Usages)) != 0 {
			c.Errorf("opened again with %s, the capabilities are others", name)
		}
		for _, op := range operations(c, again) {
			c.perform(op)
		}
	}
}
