package transitmatrix

import "slices"

// Kinds of keys.
const (
	symmetric = "*/AES/* */ChaCha20/* */HMAC/*"
	rsaKeys   = "*/RSA/*"
	curves    = "*/EC/*"
	messages  = "*/Ed25519/* */ML-DSA/*" // they sign messages and not digests
	kems      = "*/ML-KEM/*"
	others    = curves + " " + messages + " " + kems // neither symmetric nor RSA

	derived = "types/*/derived-* types/*/convergent-*"
	managed = "software/*/* pkcs11/*/* awskms/*/* azurekeyvault/*/* managedhsm/*/* gcpckms/*/*"

	// What an RSA key does is decided for life in most key managers.
	signers    = "pkcs11/RSA/rsa-pkcs pkcs11/RSA/rsa-pss awskms/RSA/rsa azurekeyvault/RSA/rsa-signs gcpckms/RSA/rsa_sign_*"
	decrypters = "pkcs11/RSA/rsa-oaep awskms/RSA/rsa-oaep azurekeyvault/RSA/rsa-unwraps gcpckms/RSA/rsa_decrypt_*"
	agreers    = "*/EC/ecdh-*" // they agree on secrets and do nothing else

	// They pad no input but the DigestInfo that they make, or another padding.
	hashedRSA = "awskms/RSA/* azurekeyvault/RSA/* managedhsm/RSA/* gcpckms/RSA/rsa_sign_pkcs1* gcpckms/RSA/rsa_sign_pss*"
)

// refused is everything that is refused, and why. Of refusals that are about the same, the first counts.
var refused = []refusal{
	// What isn't asked of the key.
	{"*/*/*", "cmac length=7,17", "it takes 8 to 16"},
	{"*/*/*", "datakey bits=192", "invalid bit length: 192; it takes 128, 256 and 512"},
	{"*/*/*", "stream format=", "stream format: none is chosen"},
	{"*/*/*", "derive type=ecdsa-p256", "it takes symmetric software types"},
	{"*/*/*", "derive type=managed_key", "no name or UUID is given"},

	// Signatures: what the kind of key doesn't have.
	{symmetric + " " + kems, "sign,sign-context,verify", "does not support signing"},
	{symmetric + " types/*/derived-ed25519", "signer", "does not support signing without a context or at all"},
	{kems + " " + agreers + " " + decrypters, "signer", " can't sign"},
	{symmetric + " " + kems + " " + derived + " " + agreers + " " + decrypters, "csr", "does not support signing requests for certificates"},
	{"*/EC/secp256k1 */EC/*_secp256k1_*", "csr", "does not support signing requests for certificates"}, // crypto/x509 doesn't know them
	{rsaKeys + " " + curves, "sign-context", "takes none"},
	{rsaKeys, "sign,verify hash=none scheme=!pkcs1v15", "hash_algorithm=none requires both prehashed=true and signature_algorithm=pkcs1v15"},
	{rsaKeys, "sign,verify hash=none prehashed=no", "hash_algorithm=none requires both prehashed=true and signature_algorithm=pkcs1v15"},
	{rsaKeys, "sign,verify scheme=pkcs1v15 salt=!", "only signature_algorithm=pss has a salt"},
	{"gcpckms/RSA/rsa_sign_*pkcs1*", "sign,verify scheme= salt=!", "only signature_algorithm=pss has a salt"},
	{rsaKeys, "sign,verify salt=500", "requested salt length 500 is invalid; it takes at most"},
	{curves, "sign,verify hash=none", "hash_algorithm=none requires an RSA key; this one is ecdsa-"},
	{others, "sign,verify scheme=!", "they are for RSA keys; this one is"},
	{others, "sign,verify salt=!", "they are for RSA keys; this one is"},
	{messages, "sign,verify hash=!,none prehashed=no", "signs the input itself"},
	{"*/Ed25519/*", "sign,verify hash=!,sha2-512 prehashed=yes", "signs the input itself"},
	{"*/ML-DSA/*", "sign,verify,sign-context prehashed=yes", "signs the input itself"},

	// Signatures: what the key manager doesn't have.
	{"azurekeyvault/RSA/rsa-unwraps", "sign", "can't sign; its usages are encrypt,decrypt,wrap,unwrap"},
	{agreers + " " + decrypters, "sign", "can't do that"},
	{hashedRSA, "sign hash=none", "can't sign with RSA PKCS#1 v1.5; it takes RSA "},
	{hashedRSA, "signer hash=none scheme=pkcs1v15", "can't sign with RSA PKCS#1 v1.5; it takes RSA "},
	{"gcpckms/RSA/rsa_sign_pkcs1*", "signer hash=none scheme=", "can't sign with RSA PKCS#1 v1.5; it takes RSA "},
	{rsaKeys, "signer hash=none scheme=pss", "can't sign with RSA PSS; it takes RSA "},
	{"types/RSA/* software/RSA/* pkcs11/RSA/* awskms/RSA/* azurekeyvault/RSA/* managedhsm/RSA/* gcpckms/RSA/rsa_sign_pss*", "signer hash=none scheme=", "can't sign with RSA PSS; it takes RSA "},
	{curves, "signer hash=none", "can't sign with ECDSA; it takes ECDSA "},
	{"*/ML-DSA/*", "signer hash=!,none", "can't sign with ML-DSA with {hash}; it takes ML-DSA"},
	{"*/Ed25519/*", "signer hash=!,none,sha2-512", "can't sign with Ed25519 with {hash}; it takes Ed25519"},
	{"pkcs11/Ed25519/* awskms/Ed25519/* gcpckms/Ed25519/*", "sign prehashed=yes", "can't sign with Ed25519 with SHA-512; it takes Ed25519"},
	{"pkcs11/Ed25519/* awskms/Ed25519/* gcpckms/Ed25519/*", "signer hash=sha2-512", "can't sign with Ed25519 with SHA-512; it takes Ed25519"},
	{"types/EC/* software/EC/* pkcs11/EC/*", "sign,signer hash=sha1", "can't sign with ECDSA with SHA-1; it takes ECDSA "},
	{"types/RSA/* software/RSA/* pkcs11/RSA/*", "sign,signer hash=sha1 scheme=pkcs1v15", "can't sign with RSA PKCS#1 v1.5 with SHA-1; it takes RSA "},
	{"types/RSA/* software/RSA/* pkcs11/RSA/*", "sign,signer hash=sha1", "can't sign with RSA PSS with SHA-1; it takes RSA "},
	{"pkcs11/RSA/*", "sign,signer hash=sha3-* scheme=!pkcs1v15", "can't sign with RSA PSS with {hash}; it takes RSA "},
	{"awskms/EC/*256* azurekeyvault/EC/*256* managedhsm/EC/*256* gcpckms/EC/*256*", "sign,signer hash=!,sha2-256", "can't sign with ECDSA with {hash}; it takes ECDSA with SHA-256"},
	{"awskms/EC/p384 azurekeyvault/EC/p384 gcpckms/EC/*_p384_*", "sign,signer hash=!,sha2-384", "can't sign with ECDSA with {hash}; it takes ECDSA with SHA-384"},
	{"awskms/EC/p521 azurekeyvault/EC/p521", "sign,signer hash=!,sha2-512", "can't sign with ECDSA with {hash}; it takes ECDSA with SHA-512"},
	{"awskms/RSA/* azurekeyvault/RSA/* managedhsm/RSA/*", "sign,signer hash=sha1,sha2-224,sha3-* scheme=pkcs1v15", "can't sign with RSA PKCS#1 v1.5 with {hash}; it takes RSA PKCS#1 v1.5 with SHA-256, RSA PKCS#1 v1.5 with SHA-384, RSA PKCS#1 v1.5 with SHA-512"},
	{"awskms/RSA/* azurekeyvault/RSA/* managedhsm/RSA/*", "sign,signer hash=sha1,sha2-224,sha3-*", "can't sign with RSA PSS with {hash}; it takes RSA "},
	{"awskms/RSA/* azurekeyvault/RSA/* managedhsm/RSA/*", "sign,signer salt=20", "can't make a PSS salt of 20 bytes; with {hash} it takes "},

	// Google pins scheme and hash.
	{"gcpckms/RSA/rsa_sign_raw_pkcs1_2048", "sign,signer scheme=pss", "can't sign with RSA PSS with {hash}; it takes RSA PKCS#1 v1.5 with SHA-256, "},
	{"gcpckms/RSA/rsa_sign_pkcs1_2048_sha256", "sign,signer scheme=pss", "can't sign with RSA PSS with {hash}; it takes RSA PKCS#1 v1.5 with SHA-256"},
	{"gcpckms/RSA/rsa_sign_pkcs1_2048_sha256", "sign,signer hash=!,sha2-256", "can't sign with RSA PKCS#1 v1.5 with {hash}; it takes RSA PKCS#1 v1.5 with SHA-256"},
	{"gcpckms/RSA/rsa_sign_pss_2048_sha256", "sign,signer scheme=pkcs1v15", "can't sign with RSA PKCS#1 v1.5 with {hash}; it takes RSA PSS with SHA-256 (salt as long as the hash)"},
	{"gcpckms/RSA/rsa_sign_pss_2048_sha256", "sign,signer hash=!,sha2-256", "can't sign with RSA PSS with {hash}; it takes RSA PSS with SHA-256 (salt as long as the hash)"},
	{"gcpckms/RSA/rsa_sign_pss_4096_sha512", "sign,signer scheme=pkcs1v15", "can't sign with RSA PKCS#1 v1.5 with {hash}; it takes RSA PSS with SHA-512 (salt as long as the hash)"},
	{"gcpckms/RSA/rsa_sign_pss_4096_sha512", "sign,signer hash=!,sha2-512", "can't sign with RSA PSS with {hash}; it takes RSA PSS with SHA-512 (salt as long as the hash)"},
	{"gcpckms/RSA/rsa_sign_pss_*", "sign,signer salt=20", "can't make a PSS salt of 20 bytes; with {hash} it takes "},

	// Signature contexts.
	{"pkcs11/Ed25519/* awskms/Ed25519/* gcpckms/Ed25519/*", "sign-context prehashed=yes", "can't sign with Ed25519 with SHA-512; it takes Ed25519"},
	{"pkcs11/Ed25519/* awskms/Ed25519/* gcpckms/Ed25519/* gcpckms/ML-DSA/pq_sign_ml_dsa_??", "sign-context", "context"},
}

func init() { refused = slices.Concat(refused, refusedElse, refusedByGo) }
