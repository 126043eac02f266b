package main

import (
	"crypto/x509"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"
)

// TestTokenIssuers: certificates of the contenders on a token are signed by its keys, and are what was asked for.
func TestTokenIssuers(t *testing.T) {
	// SoftHSM2 keeps the configuration that it began with, which tests after this one don't want.
	if os.Getenv("BENCH_TOKEN_ISSUERS") == "" {
		place(t, true)
		cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run", "^TestTokenIssuers$", "-test.v")
		cmd.Env = append(os.Environ(), "BENCH_TOKEN_ISSUERS=1")
		if out, err := cmd.CombinedOutput(); err != nil || !strings.Contains(string(out), "--- PASS: TestTokenIssuers ") {
			t.Errorf("%v\n%s", err, out)
		}
		return
	}
	token, err := place(t, true).token()
	if err != nil {
		t.Fatal(err)
	}
	for name, value := range map[string]string{envModule: token.Module, envLabel: token.Label, envPIN: token.PIN, "SOFTHSM2_CONF": token.Dir + "/softhsm2.conf"} {
		t.Setenv(name, value)
	}
	keys := make(map[string][]byte)
	for name, open := range map[string]func() (map[string]*issuer, error){contenderIssues: newTokenIssuers, contenderByHand: newHandIssuers} {
		t.Run(name, func(t *testing.T) {
			all, err := open()
			if err != nil {
				t.Fatal(err)
			}
			if len(all) != len(tokenIssuers) || len(operationsOf(all)) != len(all) {
				t.Errorf("%d issuers; want %d", len(all), len(tokenIssuers))
			}
			for _, k := range tokenIssuers {
				how := all[k.algorithm]
				cert, err := how.sign()
				if err != nil {
					t.Fatal(k.algorithm, err)
				}
				roots := x509.NewCertPool()
				roots.AddCert(how.ca)
				if _, err := cert.Verify(x509.VerifyOptions{Roots: roots, DNSName: requestedName}); err != nil {
					t.Error(k.algorithm, err)
				}
				if known := keys[k.algorithm]; known != nil && !slices.Equal(known, how.ca.RawSubjectPublicKeyInfo) {
					t.Errorf("%s: the contenders have different keys", k.algorithm)
				}
				keys[k.algorithm] = how.ca.RawSubjectPublicKeyInfo
			}
		})
	}
}

func TestIssuingTokenTable(t *testing.T) {
	brief(t)
	table := printed(t, place(t, true).issuingToken)
	var trimmed strings.Builder
	for line := range strings.Lines(table) {
		trimmed.WriteString(strings.TrimLeft(line, " "))
	}
	for _, k := range tokenIssuers {
		found := rows(trimmed.String(), k.algorithm)
		if len(found) != 1 || len(found[0]) != 9 || slices.Contains(found[0], "–") {
			t.Errorf("%s: %q; want a row of 9 figures in:\n%s", k.algorithm, found, table)
			continue
		}
		for i := range 8 {
			number(t, found[0], i)
		}
	}
}
