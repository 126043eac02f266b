// Package awskms is the backend for keys in AWS Key Management Service.
//
// [Connect] finds credentials and Region as every AWS tool does, and [New] takes a configuration of the SDK:
//
//	keys, err := awskms.Connect(nil)
//	defer keys.Close()
//	key, err := keys.Open(ctx, awskms.Params{KMSKey: "alias/issuing-ca"})
//
// # Keys
//
//	RSA      2048, 3072, 4096 bits; SIGN_VERIFY: PKCS #1 v1.5 and PSS with SHA-256, SHA-384 and SHA-512, the salt as long
//	         as the hash; ENCRYPT_DECRYPT: OAEP with SHA-256 and SHA-1, and wrapping with SHA-256
//	ECDSA    P-256, P-384, P-521 and secp256k1, each with its own hash (SHA-256, SHA-384, SHA-512, SHA-256);
//	         KEY_AGREEMENT, not on secp256k1: ECDH
//	ED25519  signs messages of 1 to 4096 bytes, without a context string
//	ML-DSA   44, 65, 87; signs messages of any length, with a context string if there is one
//	ML-KEM   768, 1024; decapsulates
//	AES      256 bits (SYMMETRIC_DEFAULT); encrypts 1 to 4096 bytes
//	HMAC     224, 256, 384, 512 bits, each with the hash of that size; messages of 1 to 4096 bytes
//
// Every key gives up to 1024 random bytes. A key of the service has one usage, so that one which signs doesn't decrypt.
// Key.ID is the key's ARN, which is also what requests name, whatever Params said: if an alias is moved, an open key stays
// what it was.
//
// The service's ED25519_PH_SHA_512 is refused: it hashes the digest that it is given once more, which is not Ed25519ph of RFC
// 8032. SM2, which only Regions in China have, and ML-KEM-512 are unsupported because Go has neither.
//
// Ed25519 takes no more than 4096 bytes because the service hashes the message. ML-DSA messages that it doesn't take (empty,
// longer than 4096 bytes, or with a context string) are signed by their representative mu (FIPS 204, Algorithm 7), which is
// computed here from the public key and the message.
//
// # Symmetric encryption
//
// A ciphertext of Seal is the service's own, CiphertextBlob as it is: other programs, and the command-line client, can decrypt
// it. Additional data go into the encryption context as {"associatedData": hexadecimal}, as Tink's extension for AWS KMS does,
// and nothing if there are none; at most 4089 bytes fit. An encryption context is no secret: CloudTrail logs it.
//
// # Requests
//
// Opening takes a DescribeKey and, for a key with a public half, a GetPublicKey; every operation after that takes exactly one
// request. Verifying, wrapping and encryption to a public key take none. Each answer must be of the key and the algorithm that
// was asked for and have the right length, and each signature is verified before it leaves, unless Options.Remote says
// otherwise.
//
// The SDK's retries are off. [remote.Options] say how calls are bounded, paced and tried again. Credentials that were refused
// as expired are thrown away once and fetched again, for all callers together.
//
// The quotas of the service are counted per account and Region, in requests per second, and differ by kind of key:
// Options.Remote.ConnectionRate keeps a program below.
//
// # Endpoints
//
// Params.Endpoint comes first, then AWS_ENDPOINT_URL_KMS and AWS_ENDPOINT_URL, and then the Region's own. Plain http is taken,
// for emulators: what is encrypted there can be read on the way. The SDK's own client of Security Token Service, which profiles
// with a role and web identities use, looks at AWS_ENDPOINT_URL_STS only.
//
// # Several Regions
//
// A multi-Region key and its replicas are one key to package replicated, with a [Params] for each Region: an operation that one
// Region can't do now is done by another.
//
// # Permissions
//
// What an identity needs, as actions of IAM on the key (or its alias) unless it says otherwise:
//
//	Open        kms:DescribeKey, kms:GetPublicKey
//	sign        kms:Sign
//	decrypt     kms:Decrypt (RSA and AES; unwrapping too)
//	Seal        kms:Encrypt
//	MAC         kms:GenerateMac
//	agree       kms:DeriveSharedSecret
//	decapsulate kms:Decapsulate
//	random      kms:GenerateRandom on *
//	List        kms:ListKeys and kms:ListAliases on *
//	Ping        kms:ListKeys on * (a refusal is an answer too)
//	Generate    kms:CreateKey, kms:ListKeys and kms:ListAliases on *; kms:TagResource, kms:CreateAlias (on alias and key),
//	            kms:UpdateKeyDescription, kms:ListResourceTags, kms:ScheduleKeyDeletion; kms:UpdateAlias to replace
//	Import      as Generate, and kms:GetParametersForImport, kms:ImportKeyMaterial
package awskms
