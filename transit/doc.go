// Package transit signs, verifies, encrypts, decrypts and authenticates data with named keys that have versions. The keys are
// managed keys, which stay in the HSM or cloud service that holds them; this package never learns which one that is. Where a
// program allows it, there are software keys as well.
//
// An [Engine] works on one [managedkey.Mount] and reaches only the keys that the mount was granted. A transit key is a
// name with versions, each of them one version of a managed key:
//
//	engine := transit.New(mount, nil)
//	err := engine.CreateKey(ctx, "orders", transit.KeyOptions{ManagedKey: "orders-2026"})
//	signature, err := engine.Sign(ctx, "orders", transit.SignRequest{Input: order}) // "vault:v1:…"
//	valid, err := engine.Verify(ctx, "orders", signature, transit.SignRequest{Input: order})
//
// [Engine.Rotate] appends a version. New work is done with the latest; what an older one signed or encrypted names its
// version, and is verified and decrypted with that, for as long as the window that [Engine.Configure] sets allows it.
// [Engine.Rewrap] turns old ciphertexts into new ones.
//
// # Where keys are kept
//
// [New] keeps names and versions in memory, [Open] in a store that several processes may share. Each follows what the others change;
// a version that one has made can be used in all others at once. Operations with keys that are known don't ask the store.
//
// # What is done where
//
// Signing, decrypting, AES and MACs with a managed key take one call of the key manager. Verifying a signature and encrypting with
// RSA are done in this process, with the public key. What a managed key can't do is an error; no software key takes its place.
//
// The managed key is looked up in the mount for every operation, which costs next to nothing: revoking the grant,
// deleting the entry or taking back a usage counts at once. A version is bound to the public key that it had when it was
// made. If the managed key has become another one, signing and decrypting fail with [backend.ErrKeyChanged]; signatures
// of the old key still verify, as they also do while the key manager is out of reach. After a restart in that state the usage
// verify can't be looked up, and is taken as given.
//
// # Software keys
//
// With Options.Software there are keys of the software types, such as [TypeAES256]. Their secrets are in the records of the store, which
// must be sealed, and in the memory of the process. Private keys, AES-GCM and HMACs are used in the backend that the program hands in;
// ChaCha20-Poly1305, AES-CMAC and derived keys in this package. Each version of a key that encrypts or signs also has a key for HMACs.
//
// AEADs draw their nonces at random, so one version must not encrypt more than 2³² messages (NIST SP 800-38D, Section 8.3); nothing
// here counts them. KeyOptions.AutoRotatePeriod with [Engine.Run] keeps the number small.
//
// Derived keys (KeyOptions.Derived) are others for each context; convergent ones give equal plaintexts equal ciphertexts. Keys
// come in wrapped ([Engine.ImportKey]), and go out if they are exportable.
//
// # Batches
//
// EncryptBatch, SignBatch and the like do many requests at once, with the key as it is at the beginning. Results are in the order of
// the requests, each with its own error. Items run in parallel up to Options.BatchParallel, and end with the context.
//
// # Formats
//
// Ciphertexts, signatures and MACs are vault:v<version>:<base64>, as Vault and OpenBao have them, and there is one way to write
// each: padded base64, or base64url without padding for the marshaling jws. An AEAD's ciphertext is nonce ‖ ciphertext ‖ tag with a nonce
// of 12 bytes, except where a cloud service has a form of its own; RSA's is RSAES-OAEP without label, with SHA-256 unless the key takes
// others only. Backups are base64 of JSON; those of Vault and OpenBao can be restored.
//
// # Errors
//
// Errors begin with "transit: ". They wrap [backend.ErrInvalidParams] for bad input, [backend.ErrUnsupported] for what a
// key can't do, [backend.ErrKeyNotFound] for an unknown name, [backend.ErrNotPermitted] for what policy or the key's configuration
// forbids, [backend.ErrDecryption] for every ciphertext that can't be decrypted, with the same text whatever the reason, and otherwise
// what the managed key or the store returned.
package transit
