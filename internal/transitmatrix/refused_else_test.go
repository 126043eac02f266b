package transitmatrix

// refusedElse are the refusals of what isn't a signature.
var refusedElse = []refusal{
	// Encryption.
	{"types/AES/*cmac types/HMAC/* types/*/derived-ed25519", encryptions, "message encryption not supported for key type"},
	{"types/AES/*cmac types/HMAC/* types/*/derived-ed25519", "context of=encrypt,decrypt", "message encryption not supported for key type"},
	{symmetric + " " + others, "encrypt,decrypt padding=!", "it is for RSA keys; this one is"},
	{others + " */HMAC/* " + signers, encryptions, "message encryption not supported for key type"},
	{"pkcs11/AES/cmac-*", encryptions, "the key (AES) can't do that"},
	{rsaKeys, "encrypt,decrypt,rewrap,datakey associated=!", "associated_data provided for non-AEAD cipher suite rsa-"},
	{"software/RSA/* awskms/RSA/* azurekeyvault/RSA/* managedhsm/RSA/* gcpckms/RSA/*", "decrypt padding=pkcs1v15", "the key manager doesn't decrypt without a padding scheme, so that wrong paddings could not be hidden"},
	{rsaKeys, "encrypt size=5000,70000 padding=pkcs1v15", "RSAES-PKCS1-v1_5 takes at most 245"},
	{"pkcs11/RSA/rsa-oaep gcpckms/RSA/*_sha1", "encrypt size=5000,70000", "OAEP with SHA-1 takes at most 214"},
	{rsaKeys, "encrypt size=5000,70000", "OAEP with SHA-256 takes at most 190"},
	{"awskms/AES/*", "encrypt size=0", "got a plaintext of 0 bytes; it takes at least 1"},
	{"awskms/AES/*", "encrypt size=5000,70000", "it takes at most 4096"},
	{"gcpckms/AES/*", "encrypt size=70000", "it takes at most 65536"},

	// Derived keys, and contexts of others.
	{derived, "context of=encrypt,decrypt", "missing 'context' for key derivation"},
	{"types/*/derived-ed25519", "context", "missing 'context' for key derivation"},
	{symmetric + " " + kems, "context of=sign,verify", "does not support signing"},
	{"types/*/*", "context", "but the key is not a derived one"},
	{managed, "context", "managed keys can't be derived"},

	// MACs.
	{"types/AES/*-cmac", "hmac", "HMAC not supported for key type"},
	{"software/AES/* pkcs11/AES/* awskms/AES/* managedhsm/AES/* gcpckms/AES/*", "hmac", "HMAC not supported for key type"},
	{"software/RSA/* pkcs11/RSA/* awskms/RSA/* azurekeyvault/RSA/* managedhsm/RSA/* gcpckms/RSA/*", "hmac", "the managed key can't compute MACs, and no other key takes its place"},
	{"software/EC/* pkcs11/EC/* awskms/EC/* azurekeyvault/EC/* managedhsm/EC/* gcpckms/EC/*", "hmac", "the managed key can't compute MACs, and no other key takes its place"},
	{"software/Ed25519/* pkcs11/Ed25519/* awskms/Ed25519/* gcpckms/Ed25519/*", "hmac", "the managed key can't compute MACs, and no other key takes its place"},
	{"software/ML-*/* awskms/ML-*/* gcpckms/ML-*/*", "hmac", "the managed key can't compute MACs, and no other key takes its place"},
	{"*/*/*", "hmac hash=none", "invalid hash algorithm \"none\"; it takes sha1"},
	{"*/HMAC/hmac?sha1", "hmac hash=!,sha1", "the key takes HMAC-SHA1"},
	{"*/HMAC/hmac-224 gcpckms/HMAC/hmac_sha224", "hmac hash=!,sha2-224", "the key takes HMAC-SHA224"},
	{"pkcs11/HMAC/hmac-sha256", "hmac hash=sha2-384,sha2-512,sha3-*", "the key takes HMAC-SHA256, HMAC-SHA224, HMAC-SHA1"},
	{"*/HMAC/hmac-256 gcpckms/HMAC/hmac_sha256", "hmac hash=!,sha2-256", "the key takes HMAC-SHA256"},
	{"*/HMAC/hmac-384 gcpckms/HMAC/hmac_sha384", "hmac hash=!,sha2-384", "the key takes HMAC-SHA384"},
	{"pkcs11/HMAC/hmac-sha512", "hmac hash=sha3-*", "the key takes HMAC-SHA256, HMAC-SHA384, HMAC-SHA512, HMAC-SHA224, HMAC-SHA1"},
	{"*/HMAC/hmac-512 gcpckms/HMAC/hmac_sha512", "hmac hash=!,sha2-512", "the key takes HMAC-SHA512"},
	{"managedhsm/HMAC/*", "hmac hash=sha1,sha2-224,sha3-*", "the key takes HMAC-SHA256, HMAC-SHA384, HMAC-SHA512"},
	{"types/*/*gcm96 types/ChaCha20/* types/HMAC/* types/RSA/* types/EC/* types/Ed25519/* types/ML-DSA/*", "cmac", "CMAC not supported for key type"},
	{"software/*/* awskms/*/* azurekeyvault/*/* managedhsm/*/* gcpckms/*/*", "cmac", "CMAC not supported for key type"},
	{"pkcs11/RSA/* pkcs11/EC/* pkcs11/Ed25519/* pkcs11/HMAC/* pkcs11/AES/aes-*", "cmac", "CMAC not supported for key type"},

	// Random bytes.
	{"types/*/*", "random source=managed_key,all", "takes a managed key"},
	{"azurekeyvault/*/*", "random source=managed_key,all", "gives no random bytes"}, // a Managed HSM does

	// Key wrap.
	{derived, "wrap", "is a derived one; those don't wrap"},
	{"types/*/*cmac types/ChaCha20/* types/HMAC/* types/EC/* types/Ed25519/* types/ML-DSA/*", "wrap", "can't wrap keys"},
	{"azurekeyvault/RSA/rsa-signs managedhsm/HMAC/*", "wrap", "can't wrap; its usages are"},
	{others + " */HMAC/* " + signers + " pkcs11/RSA/* pkcs11/AES/* awskms/AES/* gcpckms/AES/* gcpckms/RSA/*_sha1", "wrap", "can't do that"},
	{rsaKeys, "wrap size=1200", "got 1200 bytes; it takes 1 to 190"},

	// Agreement.
	{"*/EC/p224 */EC/*secp256k1*", "derive", "the peer's public key is of type ecdsa-p256; the base key is of type ecdsa-"}, // crypto/ecdh doesn't know them
	{"*/RSA/* */Ed25519/* */ML-*/* " + symmetric, "derive", "does not agree on secrets; an ECDSA key does"},
	{"awskms/EC/p* azurekeyvault/EC/* managedhsm/EC/* gcpckms/EC/* pkcs11/EC/p*", "derive", "can't do that"},
}

const encryptions = "encrypt,decrypt,rewrap,datakey,stream"
