package main

import (
	"crypto/x509"
	"encoding/pem"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/managedkeys/managedkeys/internal/fakeazure"
)

// asProgram is set for a process that is to be the program.
const asProgram = "MANAGEDKEYS_EXAMPLE_AZURE"

func TestMain(m *testing.M) {
	if os.Getenv(asProgram) != "" {
		main()
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// TestProgram runs the program as it stands against the fake, which is where the proxy leads.
func TestProgram(t *testing.T) {
	srv, err := fakeazure.New(nil)
	require.NoError(t, err)
	defer srv.Close()
	roots := filepath.Join(t.TempDir(), "roots.pem")
	require.NoError(t, os.WriteFile(roots, srv.CertificatePEM(), 0o600))
	for _, args := range [][]string{{"-vault", "example"}, {"-vault", "example"}, {"-vault", "example", "-resource", "managedhsm.azure.net"}} {
		cmd := exec.CommandContext(t.Context(), os.Args[0], args...)
		cmd.Env = append(os.Environ(), asProgram+"=1", "HTTPS_PROXY="+srv.Proxy(), "SSL_CERT_FILE="+roots,
			"AZURE_TENANT_ID="+fakeazure.TenantID, "AZURE_CLIENT_ID="+fakeazure.ClientID, "AZURE_CLIENT_SECRET="+fakeazure.ClientSecret)
		cmd.Stderr = os.Stderr
		out, err := cmd.Output()
		require.NoError(t, err)
		block, _ := pem.Decode(out)
		require.NotNil(t, block, "%s", out)
		cert, err := x509.ParseCertificate(block.Bytes)
		require.NoError(t, err)
		require.NoError(t, cert.CheckSignature(cert.SignatureAlgorithm, cert.RawTBSCertificate, cert.Signature))
	}
	require.Equal(t, 2, srv.Log.Count("create"), "one key for each vault")
}
