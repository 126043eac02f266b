package fakeazure_test

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/rsa"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/sigstore/sigstore/pkg/signature/kms/azure"
	"github.com/stretchr/testify/require"

	"github.com/managedkeys/managedkeys/internal/fakeazure"
)

// sigstoreChild is set for a process that is to be a program of Sigstore's: its client takes everything from the
// environment, and Go reads proxies and certificates of the environment once in a process.
const sigstoreChild = "FAKEAZURE_SIGSTORE_CHILD"

func TestMain(m *testing.M) {
	if os.Getenv(sigstoreChild) != "" {
		if err := sigstore(os.Stdout); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// sigstore makes a key, signs with it and checks the signature, with Sigstore's client of Key Vault, which knows nothing of
// this project and goes to where Azure is.
func sigstore(out io.Writer) error {
	for ref, hash := range map[string]crypto.Hash{
		"azurekms://sig.vault.azure.net/made":           crypto.SHA256, // by CreateKey
		"azurekms://sig.vault.azure.net/rsa-3072":       crypto.SHA384,
		"azurekms://sig.managedhsm.azure.net/ec-hsm":    crypto.SHA256,
		"azurekms://sig.managedhsm.azure.net/rsa-hsm":   crypto.SHA256,
		"azurekms://sig.vault.azure.net/ec-521-pinned/": crypto.SHA512,
	} {
		sv, err := azure.LoadSignerVerifier(context.Background(), ref)
		if err != nil {
			return fmt.Errorf("%s: %w", ref, err)
		}
		if filepath.Base(ref) == "made" {
			if _, err := sv.CreateKey(context.Background(), ""); err != nil {
				return fmt.Errorf("%s: %w", ref, err)
			}
		}
		message := []byte("message of " + ref)
		signature, err := sv.SignMessage(bytes.NewReader(message))
		if err != nil {
			return fmt.Errorf("%s: %w", ref, err)
		}
		if err := sv.VerifySignature(bytes.NewReader(signature), bytes.NewReader(message)); err != nil {
			return fmt.Errorf("%s: the service's verify: %w", ref, err)
		}
		if sv.VerifySignature(bytes.NewReader(signature), bytes.NewReader([]byte("another"))) == nil {
			return fmt.Errorf("%s: another message verifies", ref)
		}
		public, err := sv.PublicKey()
		if err != nil {
			return fmt.Errorf("%s: %w", ref, err)
		}
		digest := hash.New()
		digest.Write(message)
		switch pub := public.(type) {
		case *rsa.PublicKey:
			err = rsa.VerifyPKCS1v15(pub, hash, digest.Sum(nil), signature)
		case *ecdsa.PublicKey:
			if !ecdsa.VerifyASN1(pub, digest.Sum(nil), signature) {
				err = errors.New("the signature doesn't verify")
			}
		}
		if err != nil {
			return fmt.Errorf("%s: %w", ref, err)
		}
		fmt.Fprintln(out, ref, "ok")
	}
	return nil
}

// TestSigstore: an independent client, through a proxy and with a certificate of its environment, finds in the fake what
// it finds in Azure.
func TestSigstore(t *testing.T) {
	srv := start(t, nil)
	client := connect(t, srv)
	client.create("https://sig.vault.azure.net", "rsa-3072", `{"kty":"RSA","key_size":3072}`)
	client.create("https://sig.vault.azure.net", "ec-521-pinned", `{"kty":"EC","crv":"P-521"}`)
	client.create("https://sig.managedhsm.azure.net", "ec-hsm", `{"kty":"EC-HSM","crv":"P-256"}`)
	client.create("https://sig.managedhsm.azure.net", "rsa-hsm", `{"kty":"RSA-HSM","key_size":2048}`)
	roots := filepath.Join(t.TempDir(), "roots.pem")
	require.NoError(t, os.WriteFile(roots, srv.CertificatePEM(), 0o600))
	cmd := exec.CommandContext(t.Context(), os.Args[0])
	cmd.Env = append(os.Environ(), sigstoreChild+"=1", "HTTPS_PROXY="+srv.Proxy(), "SSL_CERT_FILE="+roots,
		"AZURE_TENANT_ID="+fakeazure.TenantID, "AZURE_CLIENT_ID="+fakeazure.ClientID, "AZURE_CLIENT_SECRET="+fakeazure.ClientSecret,
		"AZURE_TOKEN_CREDENTIALS=EnvironmentCredential")
	out, err := cmd.CombinedOutput()
	require.NoError(t, err, "%s", out)
	require.Equal(t, 5, bytes.Count(out, []byte(" ok\n")), "%s", out)
	require.Equal(t, 5, srv.Log.Count("sign"))
	require.GreaterOrEqual(t, srv.Log.Count("verify"), 10)
	require.Equal(t, 5, srv.Log.Count("create"))
}
