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
// A token is named by its slot, its label, its serial number, or label and serial number. A key is found by its label
// (CKA_LABEL), its id (CKA_ID) or both, and by the kind of key that its mechanism is for. Keys of other kinds with the
// same label don't disturb. More than one match is backend.ErrAmbiguousKey. [ParseURI] and [Params.URI] read and write
// PKCS#11 URIs (RFC 7512).
//
// The public key comes from the private key itself, from a public key with the same id, or from a certificate with the
// same id; if the private key has no id, from one with the same label. Since nothing on a token guarantees that these
// belong together, opening a key has the token use it, and checks the result with the public key.
//
// Searching takes a token time in proportion to its objects. So the token is swept once, and what was found serves to open
// keys by for ten times as long as the sweep took, and a second at least; a key that is not found has the token swept
// again.
//
// # What a key can do
//
// A key can do what its attributes (CKA_SIGN, CKA_DECRYPT, CKA_ALLOWED_MECHANISMS and so on) and the mechanism list of the
// token allow, whatever its mechanism is in [Params]: so one RSA key serves PKCS#1 v1.5, PSS and OAEP if the token lets it.
// Where attributes and lists don't tell, or lie, the token is tried when a key is opened. The mechanism chooses what comes
// first in backend.Capabilities.Signatures, and with it what certificates are signed with by default: RSAPKCS prefers
// PKCS#1 v1.5, RSAPKCSPSS and RSAPKCSOAEP prefer PSS. To hold a key to one purpose, generate it here, which sets its
// attributes for its mechanism alone, or restrict its usages in the registry.
//
//	ECDSA           P-224, P-256, P-384, P-521, secp256k1; SHA-2 and SHA-3 digests
//	ECDH            P-256, P-384, P-521; the bare secret
//	EdDSA           Ed25519
//	MLDSA           ML-DSA-44, 65, 87 as in PKCS #11 Version 3.2, with context strings
//	RSAPKCS         PKCS#1 v1.5 with SHA-2 and SHA-3, also where the token doesn't know the hash
//	RSAPKCSPSS      PSS with the hashes and salts that a trial shows
//	RSAPKCSOAEP     OAEP decryption with the hashes and labels that a trial shows; with SHA-256 also key wrapping
//	SHA256HMAC …    HMAC with every hash that the token has for the key
//	AESGCM          AES-GCM with 12-byte nonces, made here or by the token
//	AESCMAC         AES-CMAC
//	AESKeyWrapKWP   AES Key Wrap with Padding (RFC 5649), if a trial shows that it is that
//
// SHA-1 signatures, PKCS#1 v1.5 decryption and RSA keys of less than 2048 bits are refused. Keys that take the PIN for
// each operation (CKA_ALWAYS_AUTHENTICATE) are given it, one operation after the other.
//
// # Sessions
//
// Operations run on sessions that are kept open: not more than [Library].MaxSessions or the token allow, few while
// few are needed, and closed when idle. An operation is two calls into the module, C_SignInit and C_Sign or their like.
// What finds no session free waits in turn, and leaves at once when its context ends. The module is called on goroutines
// of the package's own, so that a call that hangs holds nobody: its caller gets backend.ErrUnavailable at its deadline,
// and the goroutine, its thread and its session are written off and replaced, up to 16 of them, until the module returns
// ([Library].InlineCalls trades that for speed). A session on which anything failed is closed before another call uses it.
//
// # When things go wrong
//
// Keys heal themselves. What a failure calls for follows from its return value: another session; one login, for whoever
// waits; a new lookup of the key, which must prove to be the same; the token, when it comes back in whatever slot; the
// module's initialisation, as a last resort when no call is in it. The operation is then tried again, since signing or
// decrypting twice does no harm; generating, importing and deleting are never done twice. What can't be healed fails at
// once with backend.ErrUnavailable, and is tried again after 50 to 500 milliseconds, by the next call that comes.
//
// A signature of another key does not leave: handles of objects are used only within the login and the life of the module
// that they belong to, since tokens give the same numbers again. Other code of the process that finalises and initialises
// the module can't be seen from here; so a signature is verified if the key's last one is more than 5 milliseconds ago,
// and each second, and all of them are once other code was noticed or if [Library].VerifySignatures says so. What fails is
// backend.ErrKeyChanged.
//
// # Logins
//
// In PKCS#11 the login belongs to the process. All backends of a process therefore share one login for each token, and
// one module for each file, whatever path leads to it; the module is finalised when the last backend that used it is
// closed, unless other code of the process initialised it.
//
// A PIN that the token refused is not tried again until the backend is closed; opening and recovering fail at once with
// backend.ErrCredentials. While a login stands, tokens accept any PIN, so this package compares: another PIN for the same
// token is backend.ErrCredentials, and the token is not asked; so is a token that other code of the process is logged in
// to. A PIN that is a reference (env:, file:) is read again for each login.
package pkcs11
