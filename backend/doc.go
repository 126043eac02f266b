// Package backend is the contract between this library and the systems that hold private keys: PKCS#11 tokens, cloud
// key management services, and keys in software.
//
// A [Backend] is a client of one key manager and opens keys. A [Key] is one open key. What a backend or a key can do
// beyond that minimum is found by type assertion on the optional interfaces:
//
//	of a Backend   Generator, Importer, Lister, Pinger, Meter, ParamsDecoder, URIParser, Matcher
//	of a Key       Signer, MessageSigner, Decrypter, Verifier, KeyAgreer, Decapsulator, AEAD, MAC, Random,
//	             Wrapper, Attester
//
// What exactly a key takes (hashes, salt lengths, labels, message sizes) is data: see [Capabilities]. Choose from it
// before calling; a key refuses everything else without a remote call.
//
// # Writing a backend
//
// A driver has a constructor, a Params type, and for each kind of key a small struct that embeds a [Handle] and the
// operations that the kind has:
//
//	type rsaKey struct {
//		*backend.Handle
//		backend.SignOps
//		backend.DecryptOps
//	}
//
// The operations are made from the driver's functions by [Handle.Signing], [Handle.Decrypting], [Handle.Agreeing] and their like. They do
// what every key must do alike and no driver should write again: check digest length, hash, salt and label before any
// call; bound each call by its context and by a call timeout; let a caller go at once when its context ends, even if the
// driver's function can't be interrupted; keep crypto.MessageSigner; give one error for every failed decryption; and
// refuse calls after Close ([Gate]). Prove the driver with package backendtest.
//
// Every error wraps one of the sentinels of this package and the key manager's own error.
//
// The package depends on the standard library; on filippo.io/mldsa, whose types are those of crypto/mldsa from Go 1.27 on;
// and on github.com/decred/dcrd/dcrec/secp256k1/v4, for the one curve of key managers that the standard library doesn't
// have ([Secp256k1]).
package backend
