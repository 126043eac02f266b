// Package azurekeyvault is the backend of keys in Azure Key Vault and Azure Managed HSM.
//
// [New] takes a credential of the SDK and the URL of one vault; [Connect] finds both in the [Params] of each key, whose
// fields are those of the managed-keys API. Nothing is dialled before the first key is opened.
//
//	keys, err := azurekeyvault.Connect(nil)
//	key, err := keys.Open(ctx, azurekeyvault.Params{VaultName: "myvault", KeyName: "issuing-ca"})
//
// # Keys
//
//	RSA, RSA-HSM  2048, 3072, 4096 bits; sign PKCS #1 v1.5 and PSS, with SHA-256, SHA-384 and SHA-512 and a salt as long as
//	              the hash; decrypt OAEP with SHA-256 and SHA-1, without a label; wrap and unwrap with OAEP and SHA-256
//	EC, EC-HSM    P-256, P-384, P-521 and secp256k1; sign with SHA-256, SHA-384, SHA-512 and SHA-256
//	oct-HSM       128, 192, 256 bits, in Managed HSM; AES-GCM, AES-KWP (RFC 5649), HMAC with SHA-256, SHA-384 and SHA-512
//
// Keys in a Managed HSM also give random bytes (128 at a time) and can be attested. What a key's key_ops don't allow is
// refused before any request. A key that may decrypt or unwrapKey does both, with the operation that it has.
//
// Encrypting and wrapping with an RSA key, and verifying, need the public key only and make no request. The service has
// neither Ed25519, ML-DSA, key agreement nor OAEP with SHA-384 or SHA-512; RSA1_5, AES-CBC and AES-KW without padding it
// has, but they protect nothing against changes, or take other lengths than the contract of package backend demands.
//
// For AES-GCM the HSM draws the nonce. Seal returns nonce ‖ ciphertext ‖ tag, as that contract has it. HMAC sends the message
// itself. The service doesn't tell how long a symmetric key is: KeyBits says it, or a tag that this package puts on keys
// that it makes, and else it is taken to be 256 bits; the service refuses the wrong algorithm. It names no limit for what
// AES-GCM and HMAC take; what is too much for it is backend.ErrInvalidParams.
//
// # Versions
//
// A key has versions, and an open key is one of them for good: the one that KeyVersion names, or else the newest that is
// enabled and within its dates. A key that is rotated later is not followed: handles go on with the version that they have,
// as long as it is enabled, and opening the key again gives one with another public key, which is backend.ErrKeyChanged
// for who pinned the first. Every answer says which version it is from, and one from another is backend.ErrIntegrity.
//
// [Backend.Generate] and [Backend.Import] say what happens when two programs make the same key.
//
// # Requests
//
// An operation of a key is one request, and so is opening it; the first request to a vault has one more, which the vault
// answers with where to get a token. A vault's own limits are low (2,000 operations in 10 seconds with RSA-2048 in
// hardware, 250 with RSA-4096): Options.Remote paces and retries, and honours Retry-After. The SDK's retries are off.
//
// Answers are not trusted: names and versions, lengths, points and moduli are checked, every signature is verified with
// the public key unless Options.Remote.TrustSignatures is set, nothing but the vault's own host is ever asked, and a
// vault that asks for a token of another domain gets none.
//
// # Permissions
//
// The built-in role Key Vault Crypto User (Managed HSM Crypto User) suffices for keys that exist, and Key Vault Crypto
// Officer for making them. One by one, as access policies and as actions below Microsoft.KeyVault/vaults/keys/:
//
//	Open                  get        read
//	Sign, MAC             sign       sign/action
//	Decrypt, AEAD's Open  decrypt    decrypt/action (unwrapKey, unwrap/action if the key has only that)
//	Seal                  encrypt    encrypt/action
//	WrapKey with AES      wrapKey    wrap/action
//	UnwrapKey             unwrapKey  unwrap/action (decrypt, decrypt/action if the key has only that)
//	Generate              list, create, update, and get after a lost answer   read, create/action, update/action
//	Import                list, import, update, and get after a lost answer   read, create/action, update/action
//	List                  list, get  read
//	Ping                  none
//	GenerateRandom        Microsoft.KeyVault/managedHsm/rng/action
//	Attest                get        Microsoft.KeyVault/managedHsm/keys/read/action
package azurekeyvault
