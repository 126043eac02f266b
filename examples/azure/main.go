// Command azure has a key in Azure Key Vault sign its own certificate.
//
//	az login
//	go run . -vault myvault -key issuing-ca
//
// The key is made if there is none: P-256, in software. For a Managed HSM add -resource managedhsm.azure.net. Who runs it
// is found as the Azure SDKs do: environment variables, workload identity, managed identity, Azure CLI.
//
// The role Key Vault Crypto User suffices for a key that exists (of its actions, Microsoft.KeyVault/vaults/keys/read and
// sign/action), and Key Vault Crypto Officer for making one (create/action and update/action as well). With access policies
// that is get and sign, and then list, create and update.
package main

import (
	"context"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"flag"
	"log"
	"math/big"
	"os"
	"time"

	"github.com/managedkeys/managedkeys/backend/azurekeyvault"
	"github.com/managedkeys/managedkeys/managedkey"
	"github.com/managedkeys/managedkeys/namespace"
)

func main() {
	vault := flag.String("vault", "", "name of the vault or Managed HSM")
	resource := flag.String("resource", "vault.azure.net", "domain of the vault's host name")
	name := flag.String("key", "issuing-ca", "name of the key")
	flag.Parse()

	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	azure, err := azurekeyvault.Connect(nil)
	check(err)
	defer azure.Close()
	kind := azurekeyvault.EC
	if *resource != "vault.azure.net" {
		kind = azurekeyvault.ECHSM
	}

	keys := managedkey.NewRegistry()
	ref := namespace.Ref{Namespace: "team-a", Name: *name}
	check(keys.Create(ctx, managedkey.Entry{
		Ref: ref, AllowGenerateKey: true, Backend: azure,
		Params: azurekeyvault.Params{VaultName: *vault, Resource: *resource, KeyName: *name, KeyType: kind, Curve: azurekeyvault.P256},
	}))
	signer, err := keys.Signer(ctx, ref) // a crypto.Signer; the key stays in the vault
	check(err)
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: *name}, NotAfter: time.Now().AddDate(1, 0, 0)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, signer.Public(), signer)
	check(err)
	check(pem.Encode(os.Stdout, &pem.Block{Type: "CERTIFICATE", Bytes: der}))
}

func check(err error) {
	if err != nil {
		log.Fatal(err)
	}
}
