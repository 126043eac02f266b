// Package transit signs, verifies, encrypts, decrypts and authenticates data with managed keys: the private and secret
// keys stay in the HSM or cloud service that holds them, and this package never learns which one that is.
//
// An [Engine] works on one [managedkey.Mount] and reaches only the keys that the mount was granted. A transit key is a
// name with versions, each of them one managed key:
//
//	engine := transit.New(mount, nil)
//	err := engine.CreateKey(ctx, "orders", transit.KeyOptions{ManagedKey: "orders-2026"})
//	signature, err := engine.Sign(ctx, "orders", transit.SignRequest{Input: order}) // "vault:v1:…"
//	valid, err := engine.Verify(ctx, "orders", signature, transit.SignRequest{Input: order})
//
// [Engine.Rotate] appends a version. New work is done with the latest; what an older one signed or encrypted names its
// version, and is verified and decrypted with that. Names and versions live in memory.
//
// # What is done where
//
// Signing, decrypting, AES and HMAC take one call of the key manager. Verifying a signature and encrypting with RSA are
// done in this process, with the public key.
//
// The managed key is looked up in the mount for every operation, which costs next to nothing: revoking the grant,
// deleting the entry or taking back a usage counts at once. A version is bound to the public key that it had when it was
// made. If the managed key has become another one, signing and decrypting fail with [backend.ErrKeyChanged]; signatures
// of the old key still verify, as they also do while the key manager is out of reach.
//
// # Errors
//
// Errors begin with "transit: ". They wrap [backend.ErrInvalidParams] for bad input, [backend.ErrUnsupported] for what a
// key can't do, [backend.ErrKeyNotFound] for an unknown name, [backend.ErrDecryption] for every ciphertext that can't be
// decrypted, with the same text whatever the reason, and otherwise what the managed key returned.
package transit
