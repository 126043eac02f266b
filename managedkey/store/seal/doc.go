// Package seal encrypts what a store holds. It wraps any store.Store, and is one: values, and names if wanted, are
// encrypted before the engine, its disks, its backups and its administrators see them.
//
//	data keys     encrypt the values (AES-256-GCM); there are several while one is being replaced
//	root key      encrypts the data keys
//	seal key      wraps the root key: a managed key of any backend that can encrypt or decrypt, or a passphrase
//
// A process that opens the store needs the seal key once; from then on only when the root key has changed.
//
// # What is detected
//
// A value is bound to the path of its key, to the version of its record and to the data key, as additional data. The version
// is known before the value is encrypted, because engines tell it to Op.Encode within the transaction. So it is detected,
// as store.ErrCorrupt, when somebody without the data key alters a value, moves it to another path, or stores an old value
// of the same path again: what is written gets a new version, which the value does not fit. The data keys themselves are
// bound to the version of their record in the same way.
//
// What can't be detected: that a record was deleted, and that somebody who goes around the engine's Store (by SQL, by etcd's
// client, in the file) puts back a row together with the version in it, or all of the storage, as it once was. Nothing in
// a store can tell an old copy of itself. A keyring of this package keeps the number of old copies that are readable
// small: what was under a data key that was dropped can't be read any more.
//
// Nonces are random, 12 bytes. One data key encrypts at most 2³² values, which keeps the probability that a nonce repeats
// below 2⁻³² (NIST SP 800-38D, Section 8.3); all processes count together. When the bound is reached, a new data key is
// made and used.
//
// # Names
//
// With Options.EncryptNames each segment of a key is encrypted deterministically (AES-SIV, RFC 5297), bound to the segments
// before it. So listing by prefix works, and who sees the store learns how many segments there are, how long they are, and
// which keys share a prefix. Lists are in an order that looks random but is always the same. Without it, names can be read.
//
// # Rotation
//
// RotateSealKey wraps the root key anew; nothing else changes, and other processes go on with what they have.
// RotateDataKey makes a new root key and a new data key at once, and encrypts all values anew in the background; when all
// are done, the old data key is dropped. It goes on after a crash: Open resumes it. If a seal key has leaked together with
// a copy of the store, rotate the seal key, restart the processes with it, and then rotate the data key.
//
// Every transaction checks that the data keys are still those that it knows, so that no process writes with an old one.
//
// # The engine's records
//
//	seal/root          JSON: how the root key is wrapped, and by which seal key
//	seal/keyring       the data keys, encrypted under the root key
//	seal/usage/ID      how many values data key ID may have encrypted, encrypted under it
//	data/KEY           format (1 byte) ‖ id of the data key (4 bytes) ‖ nonce (12) ‖ ciphertext ‖ tag (16)
//
// Losing seal/root or seal/keyring loses everything: back them up with the rest.
package seal
