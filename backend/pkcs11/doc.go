// Package pkcs11 is the backend for keys on PKCS#11 tokens: hardware security modules, smart cards, TPMs, and SoftHSM2.
//
//	hsm, err := pkcs11.New(pkcs11.Library{Name: "hsm1", Path: "/usr/lib/softhsm/libsofthsm2.so"})
//	key, err := hsm.Open(ctx, pkcs11.Params{Library: "hsm1", TokenLabel: "team-a", PIN: "env:HSM_PIN",
//		KeyLabel: "issuing-ca", Mechanism: pkcs11.ECDSA})
//
// Modules are named in [Library] only, which the program configures; [Params], which may come from a tenant, refer to
// them by name and can't make the program load a file. The package needs cgo: without it, it compiles, and [New] says
// why it fails.
//
// # Which key
//
// A private key is found by its label (CKA_LABEL), its id (CKA_ID) or both, and by the kind of key that its mechanism is
// for. Keys of other kinds with the same label don't disturb. More than one match is backend.ErrAmbiguousKey.
//
// The public key comes from the private key itself (RSA), from a public key with the same id, or from a certificate
// with the same id; if the private key has no id, from one with the same label. Since nothing on a token guarantees
// that these belong together, opening a key makes a trial signature or decryption and checks it. After that, each
// signature is verified before it is returned, which takes tens of microseconds: handles of objects can come to stand
// for other objects without notice, and a wrong RSA signature can betray the key. What fails is backend.ErrKeyChanged.
//
// # What a key can do
//
// A key can do what its attributes (CKA_SIGN, CKA_DECRYPT, CKA_ALLOWED_MECHANISMS) and the mechanism list of the token
// allow, whatever its mechanism is in [Params]: so one RSA key serves PKCS#1 v1.5, PSS and OAEP if the token lets it. The
// mechanism chooses what comes first in backend.Capabilities.Signatures, and with it what certificates are signed with by
// default: RSAPKCS prefers PKCS#1 v1.5, RSAPKCSPSS and RSAPKCSOAEP prefer PSS. To hold a key to one purpose, generate it
// here, which sets its attributes for its mechanism alone, or restrict its usages in the registry.
//
//	ECDSA         P-256, P-384, P-521; SHA-224 to SHA-512, SHA-512/256 and SHA-3 digests
//	RSAPKCS       PKCS#1 v1.5 with SHA-224 to SHA-512
//	RSAPKCSPSS    PSS with SHA-224 to SHA-512 and any salt
//	RSAPKCSOAEP   OAEP decryption; hashes and labels as a trial shows when the first such key of a token is opened,
//	              since mechanism lists don't tell (SoftHSM2 has SHA-1 without labels only)
//
// SHA-1 signatures, PKCS#1 v1.5 decryption and RSA keys of less than 2048 bits are refused. Keys of other mechanisms,
// and keys that take the PIN for each operation, can't be opened yet.
//
// # Logins
//
// In PKCS#11 the login belongs to the process. All backends of a process therefore share one login for each token, and
// one module for each file, whatever path leads to it; the module is finalised when the last backend that used it is
// closed. Other code of the program must not initialise the same module.
//
// A PIN that the token refused is not tried again until the backend is closed; opening fails at once with
// backend.ErrCredentials. While a login stands, tokens accept any PIN, so this package compares: another PIN for the same
// token is backend.ErrCredentials, and the token is not asked. A token must allow at least three sessions; all of
// them are read/write.
//
// A login or session that the token loses is not yet re-established: keys then fail with backend.ErrUnavailable until
// all backends that use the token are closed, and the key is opened with a new one.
package pkcs11
