// Package gcpckms is the backend for keys in Google Cloud Key Management Service, in software, in Cloud HSM and in external
// key managers behind it (Cloud EKM).
//
// A [Backend] comes from [Connect], which makes clients from the fields of [Params] and Google's default credential chain
// (files, gcloud, workload identity federation, impersonation, the identity of the machine), from [New], which takes the
// SDK's own client, or from [NewFromOptions], which takes the SDK's options:
//
//	keys, err := gcpckms.Connect(nil)
//	…
//	key, err := keys.Open(ctx, gcpckms.Params{
//		Project: "my-project", Region: "europe-west3", KeyRing: "ca", CryptoKey: "issuing", CryptoKeyVersion: "1"})
//
// # What keys do
//
// An algorithm of the service is a property of the key version, and fixes scheme, hash and salt; [backend.Capabilities] say
// what a key takes, and everything else is refused without a call.
//
//	RSA_SIGN_PSS_*, RSA_SIGN_PKCS1_*      sign digests of the one hash; PSS with a salt as long as the hash
//	RSA_SIGN_RAW_PKCS1_*                  sign digests of every hash: the DigestInfo is made here
//	RSA_DECRYPT_OAEP_*                    decrypt, without labels; with SHA-256 also wrap and unwrap
//	EC_SIGN_P256_SHA256, …P384, …SECP256K1, EC_SIGN_ED25519
//	PQ_SIGN_ML_DSA_*                      sign messages of 1 byte to 64 KiB, without a context
//	PQ_SIGN_ML_DSA_*_EXTERNAL_MU          sign messages of any length, with or without a context: mu is computed here
//	ML_KEM_768, ML_KEM_1024               decapsulate
//	HMAC_*                                compute and verify MACs of messages of 1 byte to 64 KiB
//	GOOGLE_SYMMETRIC_ENCRYPTION, EXTERNAL_SYMMETRIC_ENCRYPTION
//	                                      encrypt with additional data, in the service's own form of ciphertexts
//	AES_*_GCM                             encrypt with additional data: nonce ‖ ciphertext ‖ tag, with the service's nonce
//
// Every key is a [backend.Random] that asks the HSMs of its location, and keys in an HSM are each a [backend.Attester]. Keys
// in external key managers hash messages themselves, so that the elliptic-curve and RSA keys among them sign with SignMessage
// and not with Sign; crypto/x509 and crypto/tls do so by themselves.
//
// Not supported: AES-CBC and AES-CTR, which don't authenticate; SLH-DSA, which nothing in Go can verify; X-Wing, which
// crypto/mlkem doesn't have; AES_256_KWP, whose keys wrap other keys inside a single-tenant HSM only.
//
// A key of GOOGLE_SYMMETRIC_ENCRYPTION encrypts with its own version, but decrypts what any version of the same key has
// encrypted: the service finds the version by the ciphertext, and doesn't tell which it was.
//
// # What is checked
//
// Each call carries CRC32C checksums of what it sends, and each answer must say that they were compared, carry right
// checksums of its own and name the very key version that was asked. What doesn't is asked for again a few times, and then is
// [backend.ErrIntegrity]. Signatures are verified with the public key that was read at Open, unless
// remote.Options.TrustSignatures is set.
//
// # Permissions
//
// Each method says which permissions it needs. On a key, in short (the prefix cloudkms.cryptoKeyVersions is left out):
//
//	signatures             viewPublicKey, useToSign         roles/cloudkms.signerVerifier
//	decryption with RSA    viewPublicKey, useToDecrypt      roles/cloudkms.cryptoKeyDecrypter and .publicKeyViewer
//	ML-KEM                 viewPublicKey, useToDecapsulate  roles/cloudkms.decapsulator
//	MACs                   get, useToSign                   roles/cloudkms.signer and .viewer
//	encryption             get, useToEncrypt, useToDecrypt  roles/cloudkms.cryptoKeyEncrypterDecrypter and .viewer
//	attestation            get                              roles/cloudkms.viewer
//
// The service wants manageRawPKCS1Keys (roles/cloudkms.expertRawPKCS1) beside them for RSA_SIGN_RAW_PKCS1_*, and
// managePqcSign (roles/cloudkms.expertPqcSigner) for PQ_SIGN_*. Random bytes take cloudkms.locations.generateRandomBytes on
// the project. (docs.cloud.google.com/iam/docs/roles-permissions/cloudkms, read in November 2026.)
package gcpckms
