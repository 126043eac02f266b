package main

import (
	"context"
	"errors"
	"fmt"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azidentity"

	"github.com/managedkeys/managedkeys/backend"
	"github.com/managedkeys/managedkeys/backend/awskms"
	"github.com/managedkeys/managedkeys/backend/azurekeyvault"
	"github.com/managedkeys/managedkeys/backend/gcpckms"
	"github.com/managedkeys/managedkeys/internal/fakeaws"
	"github.com/managedkeys/managedkeys/internal/fakeazure"
	"github.com/managedkeys/managedkeys/internal/fakegcp"
)

// openFake starts a fake of a cloud's key manager in this process. The backend that talks to it is the real one.
func openFake(ctx context.Context, cloud string) (*place, error) {
	open := map[string]func(context.Context) (*place, error){"aws": openAWS, "azure": openAzure, "gcp": openGoogle}[cloud]
	if open == nil {
		return nil, fmt.Errorf("-fake takes aws, azure or gcp, not %q", cloud)
	}
	return open(ctx)
}

func openAWS(context.Context) (*place, error) {
	fake, err := fakeaws.New(nil)
	if err != nil {
		return nil, err
	}
	keys, err := awskms.New(fake.Config(), nil) // in earnest: config.LoadDefaultConfig(ctx)
	if err != nil {
		return nil, errors.Join(err, fake.Close())
	}
	return &place{
		backend: keys,
		name:    "a fake of AWS KMS at " + fake.URL(),
		params: func(label string, k kind) backend.Params {
			p := awskms.Params{KMSKey: "alias/" + label, KeyType: awskms.ECDSA, Curve: "P256"}
			if k == encryptionKey {
				p.KeyType, p.Curve, p.KeyBits = awskms.AES, "", 256
			}
			return p
		},
		close: func() error { return errors.Join(keys.Close(), fake.Close()) },
	}, nil
}

func openAzure(context.Context) (*place, error) {
	fake, err := fakeazure.New(nil)
	if err != nil {
		return nil, err
	}
	// In earnest: azidentity.NewDefaultAzureCredential(nil), and nil options below.
	credential, err := azidentity.NewClientSecretCredential(fakeazure.TenantID, fakeazure.ClientID, fakeazure.ClientSecret,
		&azidentity.ClientSecretCredentialOptions{ClientOptions: azcore.ClientOptions{Transport: fake.Client()}})
	if err != nil {
		return nil, errors.Join(err, fake.Close())
	}
	const vault = "https://quickstart.vault.azure.net"
	keys, err := azurekeyvault.New(credential, vault, &azurekeyvault.Options{DialContext: fake.DialContext, RootCAs: fake.RootCAs()})
	if err != nil {
		return nil, errors.Join(err, fake.Close())
	}
	return &place{
		backend: keys,
		name:    "a fake of Azure Key Vault, dialled as " + vault,
		params: func(label string, k kind) backend.Params {
			p := azurekeyvault.Params{KeyName: label, KeyType: azurekeyvault.EC, Curve: azurekeyvault.P256}
			if k == encryptionKey {
				p.KeyType, p.Curve, p.KeyBits = azurekeyvault.RSA, "", 2048
			}
			return p
		},
		close: func() error { return errors.Join(keys.Close(), fake.Close()) },
	}, nil
}

func openGoogle(ctx context.Context) (*place, error) {
	fake, err := fakegcp.New(nil)
	if err != nil {
		return nil, err
	}
	keys, err := gcpckms.NewFromOptions(ctx, nil, fake.ClientOptions()...) // in earnest: without options
	if err != nil {
		return nil, errors.Join(err, fake.Close())
	}
	fake.AddKeyRing("quickstart", "global", "keys")
	return &place{
		backend: keys,
		name:    "a fake of Google Cloud KMS at " + fake.Addr(),
		params: func(label string, k kind) backend.Params {
			p := gcpckms.Params{Project: "quickstart", Region: "global", KeyRing: "keys", CryptoKey: label, Algorithm: "EC_SIGN_P256_SHA256"}
			if k == encryptionKey {
				p.Algorithm = "GOOGLE_SYMMETRIC_ENCRYPTION"
			}
			return p
		},
		close: func() error { return errors.Join(keys.Close(), fake.Close()) },
	}, nil
}
