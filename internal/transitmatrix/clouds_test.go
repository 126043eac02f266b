package transitmatrix

import (
	"context"
	"encoding/hex"
	"strings"
	"testing"

	"cloud.google.com/go/kms/apiv1"
	"cloud.google.com/go/kms/apiv1/kmspb"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azidentity"
	awssdk "github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/stretchr/testify/require"

	"github.com/managedkeys/managedkeys/backend/awskms"
	"github.com/managedkeys/managedkeys/backend/azurekeyvault"
	"github.com/managedkeys/managedkeys/backend/gcpckms"
	"github.com/managedkeys/managedkeys/internal/fakeaws"
	"github.com/managedkeys/managedkeys/internal/fakeazure"
	"github.com/managedkeys/managedkeys/internal/fakegcp"
)

func aws(t *testing.T) *place {
	p, _ := awsWith(t, awsRequests(t))
	return p
}

func awsWith(t *testing.T, rs []request) (*place, *fakeaws.Server) {
	fake, err := fakeaws.New(&fakeaws.Options{NewRSA: rsaKey})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, fake.Close()) })
	b, err := awskms.New(fake.Config(), nil)
	require.NoError(t, err)
	p := newPlace(t, "awskms", b, rs).counted(&fake.Log)
	client := awssdk.NewFromConfig(fake.Config())
	for _, k := range p.keys {
		if k.row == "AES" {
			id := "alias/" + k.name
			k.seal = func(ctx context.Context, data, associated []byte) ([]byte, error) {
				out, err := client.Encrypt(ctx, &awssdk.EncryptInput{KeyId: &id, Plaintext: data, EncryptionContext: awsContext(associated)})
				if err != nil {
					return nil, err
				}
				return out.CiphertextBlob, nil
			}
			k.open = func(ctx context.Context, data, associated []byte) ([]byte, error) {
				out, err := client.Decrypt(ctx, &awssdk.DecryptInput{KeyId: &id, CiphertextBlob: data, EncryptionContext: awsContext(associated)})
				if err != nil {
					return nil, err
				}
				return out.Plaintext, nil
			}
		}
	}
	return p, fake
}

// awsContext is how Tink gives associated data to AWS.
func awsContext(associated []byte) map[string]string {
	if len(associated) == 0 {
		return nil
	}
	return map[string]string{"associatedData": hex.EncodeToString(associated)}
}

func awsRequests(t *testing.T) []request {
	var rs []request
	add := func(k key, p awskms.Params, material any) {
		p.KMSKey = "alias/" + k.name
		rs = append(rs, request{k, p, material})
	}
	known := private(t, "rsa-2048") // what the fake makes every key of
	add(key{name: "rsa", row: "RSA", private: known}, awskms.Params{KeyType: awskms.RSA, KeyBits: 2048}, nil)
	add(key{name: "rsa-oaep", row: "RSA", private: known}, awskms.Params{KeyType: awskms.RSA, KeyBits: 2048, KeyUsage: "ENCRYPT_DECRYPT"}, nil)
	add(key{name: "p256", row: "EC"}, awskms.Params{KeyType: awskms.ECDSA, Curve: "P256"}, private(t, "p256"))
	add(key{name: "p384", row: "EC", hash: hashes["sha2-384"]}, awskms.Params{KeyType: awskms.ECDSA, Curve: "P384"}, private(t, "p384"))
	add(key{name: "p521", row: "EC", hash: hashes["sha2-512"]}, awskms.Params{KeyType: awskms.ECDSA, Curve: "P521"}, private(t, "p521"))
	add(key{name: "secp256k1", row: "EC"}, awskms.Params{KeyType: awskms.ECDSA, Curve: "SECP256K1"}, nil)
	add(key{name: "ecdh-p256", row: "EC"}, awskms.Params{KeyType: awskms.ECDSA, Curve: "P256", KeyUsage: "KEY_AGREEMENT"}, nil)
	add(key{name: "ed25519", row: "Ed25519"}, awskms.Params{KeyType: awskms.Ed25519}, private(t, "ed25519"))
	for set, name := range map[int]string{44: "ml-dsa-44", 65: "ml-dsa-65", 87: "ml-dsa-87"} {
		add(key{name: name, row: "ML-DSA"}, awskms.Params{KeyType: awskms.MLDSA, ParameterSet: set}, nil)
	}
	add(key{name: "ml-kem-768", row: "ML-KEM"}, awskms.Params{KeyType: awskms.MLKEM, ParameterSet: 768}, nil)
	add(key{name: "aes", row: "AES"}, awskms.Params{KeyType: awskms.AES, KeyBits: 256}, nil)
	for bits, name := range map[int]string{224: "hmac-224", 256: "hmac-256", 384: "hmac-384", 512: "hmac-512"} {
		add(key{name: name, row: "HMAC"}, awskms.Params{KeyType: awskms.HMAC, KeyBits: bits}, secret()[:bits/8])
	}
	return rs
}

// vault is a vault of Azure, and hsm a Managed HSM.
func vault(t *testing.T) *place { p, _ := azureWith(t, "vault", vaultRequests(t)); return p }
func hsm(t *testing.T) *place   { p, _ := azureWith(t, "managedhsm", hsmRequests()); return p }

func azureWith(t *testing.T, domain string, rs []request) (*place, *fakeazure.Server) {
	fake, err := fakeazure.New(&fakeazure.Options{GenerateRSA: rsaKey})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, fake.Close()) })
	credential, err := azidentity.NewClientSecretCredential(fakeazure.TenantID, fakeazure.ClientID, fakeazure.ClientSecret,
		&azidentity.ClientSecretCredentialOptions{ClientOptions: azcore.ClientOptions{Transport: fake.Client()}})
	require.NoError(t, err)
	b, err := azurekeyvault.New(credential, "https://matrix."+domain+".azure.net", &azurekeyvault.Options{DialContext: fake.DialContext, RootCAs: fake.RootCAs()})
	require.NoError(t, err)
	return newPlace(t, map[string]string{"vault": "azurekeyvault", "managedhsm": "managedhsm"}[domain], b, rs).counted(&fake.Log, "challenge", "token"), fake
}

func vaultRequests(t *testing.T) []request {
	var rs []request
	add := func(k key, p azurekeyvault.Params, material any) {
		p.KeyName = k.name
		rs = append(rs, request{k, p, material})
	}
	add(key{name: "rsa", row: "RSA"}, azurekeyvault.Params{KeyType: azurekeyvault.RSA}, private(t, "rsa-2048"))
	add(key{name: "rsa-signs", row: "RSA"}, azurekeyvault.Params{KeyType: azurekeyvault.RSA, KeyBits: 2048, KeyOps: "sign,verify"}, nil)
	add(key{name: "rsa-unwraps", row: "RSA", private: private(t, "rsa-2048")}, azurekeyvault.Params{KeyType: azurekeyvault.RSA, KeyBits: 2048, KeyOps: "wrapKey,unwrapKey"}, nil)
	add(key{name: "p256", row: "EC"}, azurekeyvault.Params{KeyType: azurekeyvault.EC}, private(t, "p256"))
	add(key{name: "p384", row: "EC", hash: hashes["sha2-384"]}, azurekeyvault.Params{KeyType: azurekeyvault.EC}, private(t, "p384"))
	add(key{name: "p521", row: "EC", hash: hashes["sha2-512"]}, azurekeyvault.Params{KeyType: azurekeyvault.EC}, private(t, "p521"))
	add(key{name: "secp256k1", row: "EC"}, azurekeyvault.Params{KeyType: azurekeyvault.EC, Curve: azurekeyvault.P256K}, nil)
	return rs
}

func hsmRequests() []request {
	return []request{
		{key{name: "rsa", row: "RSA"}, azurekeyvault.Params{KeyName: "rsa", KeyType: azurekeyvault.RSAHSM, KeyBits: 2048}, nil},
		{key{name: "p256", row: "EC"}, azurekeyvault.Params{KeyName: "p256", KeyType: azurekeyvault.ECHSM, Curve: azurekeyvault.P256}, nil},
		{key{name: "aes-128", row: "AES"}, azurekeyvault.Params{KeyName: "aes-128", KeyType: azurekeyvault.OctHSM, KeyBits: 128}, secret()[:16]},
		{key{name: "aes-256", row: "AES"}, azurekeyvault.Params{KeyName: "aes-256", KeyType: azurekeyvault.OctHSM}, secret()[:32]},
		{key{name: "hmac", row: "HMAC"}, azurekeyvault.Params{KeyName: "hmac", KeyType: azurekeyvault.OctHSM, KeyOps: "sign,verify"}, secret()[:32]},
	}
}

func google(t *testing.T) *place {
	p, _ := googleWith(t, googleRequests(t))
	return p
}

func googleWith(t *testing.T, rs []request) (*place, *fakegcp.Server) {
	fake, err := fakegcp.New(nil)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, fake.Close()) })
	ring := fake.AddKeyRing("matrix", "global", "keys")
	b, err := gcpckms.NewFromOptions(t.Context(), nil, fake.ClientOptions()...)
	require.NoError(t, err)
	client, err := kms.NewKeyManagementClient(t.Context(), fake.ClientOptions()...)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, client.Close()) })
	p := newPlace(t, "gcpckms", b, rs).counted(&fake.Log)
	for _, k := range p.keys {
		if k.name == "google_symmetric_encryption" {
			name := ring + "/cryptoKeys/" + k.name
			k.seal = func(ctx context.Context, data, associated []byte) ([]byte, error) {
				out, err := client.Encrypt(ctx, &kmspb.EncryptRequest{Name: name, Plaintext: data, AdditionalAuthenticatedData: associated})
				return out.GetCiphertext(), err
			}
			k.open = func(ctx context.Context, data, associated []byte) ([]byte, error) {
				out, err := client.Decrypt(ctx, &kmspb.DecryptRequest{Name: name, Ciphertext: data, AdditionalAuthenticatedData: associated})
				return out.GetPlaintext(), err
			}
		}
	}
	return p, fake
}

func googleRequests(t *testing.T) []request {
	var rs []request
	add := func(algorithm, row string, k key, material any) {
		k.name, k.row = strings.ToLower(algorithm), row
		rs = append(rs, request{k, gcpckms.Params{Project: "matrix", Region: "global", KeyRing: "keys", CryptoKey: k.name, Algorithm: gcpckms.Algorithm(algorithm)}, material})
	}
	rsa := private(t, "rsa-2048")
	add("RSA_SIGN_PSS_2048_SHA256", "RSA", key{}, rsa)
	add("RSA_SIGN_PSS_4096_SHA512", "RSA", key{hash: hashes["sha2-512"]}, private(t, "rsa-4096"))
	add("RSA_SIGN_PKCS1_2048_SHA256", "RSA", key{scheme: transitPKCS1}, rsa)
	add("RSA_SIGN_RAW_PKCS1_2048", "RSA", key{scheme: transitPKCS1}, nil)
	add("RSA_DECRYPT_OAEP_2048_SHA256", "RSA", key{}, rsa)
	add("RSA_DECRYPT_OAEP_2048_SHA1", "RSA", key{oaep: hashes["sha1"]}, rsa)
	add("EC_SIGN_P256_SHA256", "EC", key{}, private(t, "p256"))
	add("EC_SIGN_P384_SHA384", "EC", key{hash: hashes["sha2-384"]}, private(t, "p384"))
	add("EC_SIGN_SECP256K1_SHA256", "EC", key{}, nil)
	add("EC_SIGN_ED25519", "Ed25519", key{}, private(t, "ed25519"))
	add("PQ_SIGN_ML_DSA_44", "ML-DSA", key{}, nil)
	add("PQ_SIGN_ML_DSA_65", "ML-DSA", key{}, nil)
	add("PQ_SIGN_ML_DSA_65_EXTERNAL_MU", "ML-DSA", key{}, nil)
	add("PQ_SIGN_ML_DSA_87", "ML-DSA", key{}, nil)
	add("ML_KEM_768", "ML-KEM", key{}, nil)
	for _, name := range []string{"HMAC_SHA1", "HMAC_SHA224", "HMAC_SHA256", "HMAC_SHA384", "HMAC_SHA512"} {
		size := map[string]int{"HMAC_SHA1": 20, "HMAC_SHA224": 28, "HMAC_SHA256": 32, "HMAC_SHA384": 48, "HMAC_SHA512": 64}[name]
		add(name, "HMAC", key{}, secret()[:size])
	}
	add("GOOGLE_SYMMETRIC_ENCRYPTION", "AES", key{}, nil)
	add("AES_128_GCM", "AES", key{}, secret()[:16])
	add("AES_256_GCM", "AES", key{}, secret()[:32])
	return rs
}

const transitPKCS1 = "pkcs1v15"
