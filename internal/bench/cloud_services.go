package main

import (
	"context"
	"fmt"

	kms "cloud.google.com/go/kms/apiv1"
	"cloud.google.com/go/kms/apiv1/kmspb"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azidentity"
	"github.com/Azure/azure-sdk-for-go/sdk/security/keyvault/azkeys"
	awskmssdk "github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/aws/aws-sdk-go-v2/service/kms/types"

	"github.com/managedkeys/managedkeys/backend"
	"github.com/managedkeys/managedkeys/backend/awskms"
	"github.com/managedkeys/managedkeys/backend/azurekeyvault"
	"github.com/managedkeys/managedkeys/backend/gcpckms"
	"github.com/managedkeys/managedkeys/backend/remote"
	"github.com/managedkeys/managedkeys/internal/fakeaws"
	"github.com/managedkeys/managedkeys/internal/fakeazure"
	"github.com/managedkeys/managedkeys/internal/fakegcp"
)

func startAWS(context.Context) (*cloud, error) {
	srv, err := fakeaws.New(nil)
	if err != nil {
		return nil, err
	}
	client := awskmssdk.NewFromConfig(srv.Config())
	var ids []string
	return &cloud{
		name: "AWS KMS",
		add: func(ctx context.Context, rsa bool) (backend.Params, operation, error) {
			spec, alg := types.KeySpecEccNistP256, types.SigningAlgorithmSpecEcdsaSha256
			if rsa {
				spec, alg = types.KeySpecRsa2048, types.SigningAlgorithmSpecRsassaPkcs1V15Sha256
			}
			id, err := srv.AddKey(fakeaws.Key{Spec: string(spec), Usage: string(types.KeyUsageTypeSignVerify)})
			ids = append(ids, id)
			in := &awskmssdk.SignInput{KeyId: &id, Message: digest[:], MessageType: types.MessageTypeDigest, SigningAlgorithm: alg}
			return awskms.Params{KMSKey: id}, func() error {
				_, err := client.Sign(ctx, in)
				return err
			}, err
		},
		connect: func(_ context.Context, o remote.Options) (backend.Backend, error) {
			return awskms.New(srv.Config(), &awskms.Options{Remote: o})
		},
		describe: func(ctx context.Context, n int) error {
			_, err := client.GetPublicKey(ctx, &awskmssdk.GetPublicKeyInput{KeyId: &ids[n]})
			return err
		},
		requests: func() int { return srv.Log.Count("") },
		close:    srv.Close,
	}, nil
}

func startAzure(context.Context) (*cloud, error) {
	srv, err := fakeazure.New(nil)
	if err != nil {
		return nil, err
	}
	const vault = "https://bench.vault.azure.net"
	cred, err := azidentity.NewClientSecretCredential(fakeazure.TenantID, fakeazure.ClientID, fakeazure.ClientSecret,
		&azidentity.ClientSecretCredentialOptions{ClientOptions: azcore.ClientOptions{Transport: srv.Client()}})
	if err != nil {
		return nil, err
	}
	client, err := azkeys.NewClient(vault, cred, &azkeys.ClientOptions{ClientOptions: azcore.ClientOptions{Transport: srv.Client()}})
	if err != nil {
		return nil, err
	}
	var ids []azkeys.ID
	return &cloud{
		name: "Azure Key Vault",
		add: func(ctx context.Context, rsa bool) (backend.Params, operation, error) {
			name, alg := fmt.Sprintf("key-%d", len(ids)), azkeys.SignatureAlgorithmES256
			in := azkeys.CreateKeyParameters{Kty: new(azkeys.KeyTypeEC), Curve: new(azkeys.CurveNameP256)}
			if rsa {
				alg = azkeys.SignatureAlgorithmRS256
				in = azkeys.CreateKeyParameters{Kty: new(azkeys.KeyTypeRSA), KeySize: new(int32(2048))}
			}
			made, err := client.CreateKey(ctx, name, in, nil)
			if err != nil {
				return nil, nil, err
			}
			ids = append(ids, *made.Key.KID)
			version := made.Key.KID.Version()
			return azurekeyvault.Params{KeyName: name}, func() error {
				_, err := client.Sign(ctx, name, version, azkeys.SignParameters{Algorithm: &alg, Value: digest[:]}, nil)
				return err
			}, nil
		},
		connect: func(_ context.Context, o remote.Options) (backend.Backend, error) {
			return azurekeyvault.New(cred, vault, &azurekeyvault.Options{Remote: o, DialContext: srv.DialContext, RootCAs: srv.RootCAs()})
		},
		describe: func(ctx context.Context, n int) error {
			_, err := client.GetKey(ctx, ids[n].Name(), ids[n].Version(), nil)
			return err
		},
		requests: func() int { return srv.Log.Count("") },
		close:    srv.Close,
	}, nil
}

func startGoogle(ctx context.Context) (*cloud, error) {
	srv, err := fakegcp.New(nil)
	if err != nil {
		return nil, err
	}
	client, err := kms.NewKeyManagementClient(ctx, srv.ClientOptions()...)
	if err != nil {
		return nil, err
	}
	ring := srv.AddKeyRing("bench", "global", "ring")
	var ids []string
	return &cloud{
		name: "Google Cloud KMS",
		add: func(ctx context.Context, rsa bool) (backend.Params, operation, error) {
			alg := kmspb.CryptoKeyVersion_EC_SIGN_P256_SHA256
			if rsa {
				alg = kmspb.CryptoKeyVersion_RSA_SIGN_PKCS1_2048_SHA256
			}
			version, err := srv.AddKey(ring, fmt.Sprintf("key-%d", len(ids)), alg, kmspb.ProtectionLevel_SOFTWARE)
			if err != nil {
				return nil, nil, err
			}
			ids = append(ids, version)
			in := &kmspb.AsymmetricSignRequest{Name: version, Digest: &kmspb.Digest{Digest: &kmspb.Digest_Sha256{Sha256: digest[:]}}}
			params, err := gcpckms.ParseName(version)
			return params, func() error {
				_, err := client.AsymmetricSign(ctx, in)
				return err
			}, err
		},
		connect: func(ctx context.Context, o remote.Options) (backend.Backend, error) {
			return gcpckms.NewFromOptions(ctx, &gcpckms.Options{Remote: o}, srv.ClientOptions()...)
		},
		describe: func(ctx context.Context, n int) error {
			_, err := client.GetPublicKey(ctx, &kmspb.GetPublicKeyRequest{Name: ids[n]})
			return err
		},
		requests: func() int { return srv.Log.Count("") },
		close:    closers(client.Close, srv.Close),
	}, nil
}
