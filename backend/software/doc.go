// Package software is not an HSM: it is a backend whose private keys lie in this process's own memory, where anyone who can
// read the process, a core dump or swapped-out pages can read them. It is meant for trying the library, for tests and for
// laptops, and it is never a fallback for another backend.
//
// [New] keeps keys in memory only, [OpenFile] also in a file that is encrypted under a passphrase:
//
//	keys := software.New(nil)
//	defer keys.Close()
//	key, err := keys.Generate(ctx, software.Params{KeyName: "root", KeyType: software.ECDSA, Curve: software.P256}, nil)
//
// # Keys
//
//	RSA      2048, 3072, 4096 bits; signs PKCS #1 v1.5 and PSS with any salt; decrypts OAEP; wraps with OAEP and SHA-256
//	ECDSA    P-256, P-384, P-521; agrees on secrets (ECDH), too
//	ED25519  signs messages, and digests by SHA-512 (Ed25519ph), with a context string if there is one
//	ML-DSA   44, 65, 87; signs messages, with a context string if there is one
//	ML-KEM   768, 1024; decapsulates (FIPS 203)
//	AES      128, 256 bits; AES-GCM; wraps 16 to 8192 bytes with AES-KWP (RFC 5649)
//	HMAC     256 to 4096 bits in whole bytes; with SHA-1, SHA-2 and SHA-3
//
// RSA and ECDSA sign with SHA-224 to SHA-512 and SHA3-224 to SHA3-512. SHA-1 serves OAEP and HMAC only. Every key gives
// random bytes. The usages of a key are all that its type can do; restricting them is the registry's business.
//
// AES-GCM draws its 12-byte nonce at random, so one key must not seal more than 2³² messages (NIST SP 800-38D,
// Section 8.3). Nothing here counts them.
//
// Generate with Replace, and Import likewise, put a new key in the place of the old one. A key that was opened before
// never signs with the new one: its private operations fail with backend.ErrKeyChanged from then on. Its public key
// stays what it was and still verifies.
//
// # The file
//
// A store is one file, of at most 8 MiB: a line of JSON (without spaces, members in this order), a line feed, and the
// ciphertext.
//
//	{"format":"managedkeys/software","version":1,"kdf":"argon2id","time":3,"memory_kib":65536,"threads":4,
//	 "salt":"…","cipher":"xchacha20-poly1305","nonce":"…"}
//
// Argon2id (RFC 9106) makes the 32-byte key from the passphrase, the 16-byte salt and the three costs. Salt and costs
// stay for the life of the file; every save draws a new 24-byte nonce. XChaCha20-Poly1305 seals the keys with the whole
// line, line feed included, as additional data. The plaintext is
//
//	{"keys":[{"name":"root","id":"0123456789abcdef","type":"ECDSA","material":"…"}]}
//
// sorted by name, with material as PKCS #8 (RFC 5958; RFC 9881 for ML-DSA) or, for AES and HMAC, as it is. Byte strings
// are base64. Sizes, names and types of keys are therefore hidden, except for what the length of the file tells. An old
// copy of the file that somebody puts back can't be recognized as old.
//
// A change is written to a temporary file beside the store (its name plus ".tmp"), synced, renamed over the store, and
// the folder is synced: after a crash the store holds either all of the change or nothing of it. If a step fails, the
// store is left, or put back, as it was, and so are the keys in memory.
//
// Programs may share a file. Changes are made under an advisory lock (flock on the store's name plus ".lock", a file that
// stays); every Open, List, Ping, Generate and Import first looks whether the file has changed and reads it again if so.
// A key that another program replaced is noticed then, and not by the handles alone. Where the system has no flock
// (Windows among them), two programs that change the file in the same instant can undo each other's change.
//
// On Unix a file that others can read, or that the group can write, is refused; new ones are readable by the owner only.
// Reading the store needs no right to write to its folder.
//
// # Closing
//
// Close waits up to 10 seconds for calls in flight, generation included, and then forgets the keys and overwrites those
// copies of them that it can reach. Go's runtime and crypto packages may have made others: treat the memory of a process
// that had keys as secret for as long as the process lives.
package software
