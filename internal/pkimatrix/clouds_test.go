package pkimatrix

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/pem"
	"fmt"
	"math/big"
	"testing"

	gcp "cloud.google.com/go/kms/apiv1"
	"cloud.google.com/go/kms/apiv1/kmspb"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azidentity"
	"github.com/Azure/azure-sdk-for-go/sdk/security/keyvault/azkeys"
	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/kms"

	"github.com/managedkeys/managedkeys/backend"
	"github.com/managedkeys/managedkeys/backend/awskms"
	"github.com/managedkeys/managedkeys/backend/azurekeyvault"
	"github.com/managedkeys/managedkeys/backend/gcpckms"
	"github.com/managedkeys/managedkeys/internal/fakeaws"
	"github.com/managedkeys/managedkeys/internal/fakeazure"
	"github.com/managedkeys/managedkeys/internal/fakegcp"
)

func awsKeys(t *testing.T) manager {
	keys, err := rsaInTurn()
	must(t, err)
	fake, err := fakeaws.New(&fakeaws.Options{NewRSA: keys})
	must(t, err)
	t.Cleanup(func() { fake.Close() })
	b, err := awskms.New(fake.Config(), nil)
	must(t, err)
	params := func(k kind, role string) backend.Params {
		p := awskms.Params{KMSKey: "alias/" + k.material(role), KeyType: awskms.ECDSA, KeyBits: k.bits, ParameterSet: k.set}
		switch {
		case k.bits > 0:
			p.KeyType = awskms.RSA
		case k.set > 0:
			p.KeyType = awskms.MLDSA
		case k.curve == "Ed25519":
			p.KeyType = awskms.Ed25519
		default:
			p.Curve = k.curve
		}
		return p
	}
	client := kms.NewFromConfig(fake.Config())
	return manager{b, params, nil, func(t *testing.T, k kind, role string) []byte {
		out, err := client.GetPublicKey(t.Context(), &kms.GetPublicKeyInput{KeyId: aws.String("alias/" + k.material(role))})
		must(t, err)
		return out.PublicKey
	}}
}

func azureKeys(t *testing.T) manager {
	keys, err := rsaInTurn()
	must(t, err)
	fake, err := fakeazure.New(&fakeazure.Options{GenerateRSA: keys})
	must(t, err)
	t.Cleanup(func() { fake.Close() })
	credential, err := azidentity.NewClientSecretCredential(fakeazure.TenantID, fakeazure.ClientID, fakeazure.ClientSecret,
		&azidentity.ClientSecretCredentialOptions{ClientOptions: azcore.ClientOptions{Transport: fake.Client()}})
	must(t, err)
	const vault = "https://matrix.managedhsm.azure.net"
	b, err := azurekeyvault.New(credential, vault, &azurekeyvault.Options{DialContext: fake.DialContext, RootCAs: fake.RootCAs()})
	must(t, err)
	params := func(k kind, role string) backend.Params {
		p := azurekeyvault.Params{KeyName: k.material(role), KeyType: azurekeyvault.RSAHSM, KeyBits: k.bits}
		if k.bits == 0 {
			curve := map[string]azurekeyvault.Curve{"P256": azurekeyvault.P256, "P384": azurekeyvault.P384, "P521": azurekeyvault.P521}[k.curve]
			if curve == "" {
				curve = azurekeyvault.Curve(k.curve)
			}
			p.KeyType, p.Curve = azurekeyvault.ECHSM, curve
		}
		return p
	}
	client, err := azkeys.NewClient(vault, credential, &azkeys.ClientOptions{ClientOptions: azcore.ClientOptions{Transport: fake.Client()}})
	must(t, err)
	return manager{b, params, nil, func(t *testing.T, k kind, role string) []byte {
		out, err := client.GetKey(t.Context(), k.material(role), "", nil)
		must(t, err)
		var pub any
		if n := new(big.Int).SetBytes(out.Key.N); n.Sign() > 0 {
			pub = &rsa.PublicKey{N: n, E: int(new(big.Int).SetBytes(out.Key.E).Int64())}
		} else {
			curve := map[azkeys.CurveName]elliptic.Curve{"P-256": elliptic.P256(), "P-384": elliptic.P384(), "P-521": elliptic.P521()}[*out.Key.Crv]
			point, size := []byte{4}, (curve.Params().BitSize+7)/8
			for _, coordinate := range [][]byte{out.Key.X, out.Key.Y} {
				point = append(point, new(big.Int).SetBytes(coordinate).FillBytes(make([]byte, size))...)
			}
			pub, err = ecdsa.ParseUncompressedPublicKey(curve, point)
			must(t, err)
		}
		der, err := x509.MarshalPKIXPublicKey(pub)
		must(t, err)
		return der
	}}
}

func googleKeys(t *testing.T) manager {
	fake, err := fakegcp.New(nil)
	must(t, err)
	t.Cleanup(func() { fake.Close() })
	ring := fake.AddKeyRing("matrix", "global", "keys")
	b, err := gcpckms.NewFromOptions(t.Context(), nil, fake.ClientOptions()...)
	must(t, err)
	id := func(k kind, role string) string {
		if k.pss {
			return k.material(role) + "-pss" // there, a key has one algorithm
		}
		return k.material(role)
	}
	params := func(k kind, role string) backend.Params {
		return gcpckms.Params{Project: "matrix", Region: "global", KeyRing: "keys", CryptoKey: id(k, role), Algorithm: googleAlgorithm(k)}
	}
	client, err := gcp.NewKeyManagementClient(t.Context(), fake.ClientOptions()...)
	must(t, err)
	t.Cleanup(func() { client.Close() })
	return manager{b, params, nil, func(t *testing.T, k kind, role string) []byte {
		request := &kmspb.GetPublicKeyRequest{Name: ring + "/cryptoKeys/" + id(k, role) + "/cryptoKeyVersions/1"}
		if k.set > 0 {
			request.PublicKeyFormat = kmspb.PublicKey_NIST_PQC
		}
		out, err := client.GetPublicKey(t.Context(), request)
		must(t, err)
		if k.set == 0 {
			return fromPEM(t, "PUBLIC KEY", []byte(out.Pem))
		}
		return mldsaPublicKey(t, k.set, out.PublicKey.Data)
	}}
}

func googleAlgorithm(k kind) gcpckms.Algorithm {
	hash := "SHA256"
	if k.bits == 4096 {
		hash = "SHA512" // which needs that the issuer doesn't take SHA-256 for granted
	}
	switch {
	case k.pss:
		return gcpckms.Algorithm(fmt.Sprintf("RSA_SIGN_PSS_%d_%s", k.bits, hash))
	case k.bits > 0:
		return gcpckms.Algorithm(fmt.Sprintf("RSA_SIGN_PKCS1_%d_%s", k.bits, hash))
	case k.set > 0:
		return gcpckms.Algorithm(fmt.Sprintf("PQ_SIGN_ML_DSA_%d", k.set))
	}
	return map[string]gcpckms.Algorithm{"P256": "EC_SIGN_P256_SHA256", "P384": "EC_SIGN_P384_SHA384", "P521": "EC_SIGN_P521_SHA512",
		"Ed25519": "EC_SIGN_ED25519"}[k.curve]
}

// mldsaPublicKey returns the SubjectPublicKeyInfo of a key in the encoding of FIPS 204 (RFC 9881, Section 4).
func mldsaPublicKey(t *testing.T, set int, raw []byte) []byte {
	last := map[int]int{44: 17, 65: 18, 87: 19}[set]
	der, err := asn1.Marshal(struct {
		Algorithm pkix.AlgorithmIdentifier
		Key       asn1.BitString
	}{pkix.AlgorithmIdentifier{Algorithm: asn1.ObjectIdentifier{2, 16, 840, 1, 101, 3, 4, 3, last}}, asn1.BitString{Bytes: raw, BitLength: 8 * len(raw)}})
	must(t, err)
	return der
}

// fromPEM returns the one block of that type, whatever stands around it.
func fromPEM(t *testing.T, kind string, data []byte) []byte {
	t.Helper()
	for {
		block, rest := pem.Decode(data)
		if block == nil {
			t.Fatalf("there is no %s in %s", kind, data)
		}
		if block.Type == kind {
			return block.Bytes
		}
		data = rest
	}
}
