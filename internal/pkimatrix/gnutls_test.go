package pkimatrix

import "testing"

// What certtool says of a chain as a whole, and of a CRL.
const (
	trusted     = "Chain verification output: Verified. The certificate is trusted."
	revoked     = "Chain verification output: Not verified. The certificate is NOT trusted. The certificate chain is revoked."
	trustedList = "Verification output: Verified. The certificate is trusted."
)

func (f *firm) certtool(t *testing.T, want string, args ...string) func() error {
	return func() error { return f.says(t, want, "gnutls-bin", "certtool", args...) }
}

func gnutlsChain(t *testing.T, f *firm) error {
	path, lists := f.join(t, "good.pem", "issuing.pem", "root.pem"), f.join(t, "root.crl.pem", "issuing.crl.pem")
	return firstOf(
		f.certtool(t, trusted, "--verify-chain", "--infile", path),
		f.certtool(t, trusted, "--verify", "--load-ca-certificate", "root.pem", "--load-crl", lists, "--infile", path,
			"--verify-purpose", "1.3.6.1.5.5.7.3.1", "--verify-hostname", "good.example.com"))
}

func gnutlsCross(t *testing.T, f *firm) error {
	path, lists := f.join(t, "good.pem", "issuing.pem", "root-by-other.pem"), f.join(t, "root.crl.pem", "issuing.crl.pem", "other.crl.pem")
	return firstOf(
		f.certtool(t, trusted, "--verify", "--load-ca-certificate", "other.pem", "--load-crl", lists, "--infile", path),
		f.certtool(t, trusted, "--verify", "--load-ca-certificate", "root.pem", "--infile", "other-by-root.pem"))
}

// gnutlsList has the signature of a list of the issuing CA checked.
func (f *firm) gnutlsList(t *testing.T, name string) func() error {
	return f.certtool(t, trustedList, "--verify-crl", "--load-ca-certificate", "issuing.pem", "--infile", name+".crl.pem")
}

func gnutlsCRL(t *testing.T, f *firm) error {
	path, lists := f.join(t, "gone.pem", "issuing.pem"), f.join(t, "root.crl.pem", "issuing.crl.pem")
	return firstOf(f.gnutlsList(t, "issuing"),
		f.certtool(t, revoked, "--verify", "--load-ca-certificate", "root.pem", "--load-crl", lists, "--infile", path))
}

func gnutlsShard(t *testing.T, f *firm) error {
	path := f.join(t, "late.pem", "issuing.pem")
	return firstOf(f.gnutlsList(t, "shard"),
		f.certtool(t, trusted, "--verify", "--load-ca-certificate", "root.pem", "--load-crl", "shard.crl.pem", "--infile", path))
}

// gnutlsDelta: GnuTLS takes a delta list for one more list, so that what was added is found.
func gnutlsDelta(t *testing.T, f *firm) error {
	path, lists := f.join(t, "late.pem", "issuing.pem"), f.join(t, "shard.crl.pem", "shard-delta.crl.pem")
	return firstOf(f.gnutlsList(t, "shard-delta"),
		f.certtool(t, revoked, "--verify", "--load-ca-certificate", "root.pem", "--load-crl", lists, "--infile", path))
}

// gnutlsAnswer names the issuer as signer of its own answers: GnuTLS looks for the hash of the key among subject key identifiers, and
// these are SHA-256 here (RFC 7093) where answers have SHA-1 (RFC 6960, Section 4.2.1).
func gnutlsAnswer(t *testing.T, f *firm, by, leaf string, gone bool) error {
	want, signer := "Verifying OCSP Response: Success.|Certificate Status: good", "--load-signer"
	if gone {
		want = "Verifying OCSP Response: Success.|Certificate Status: revoked|Revocation time"
	}
	if by == "delegate" {
		signer = "--load-trust"
	}
	return f.says(t, want, "gnutls-bin", "ocsptool", "--verify-response", "--load-response", leaf+"-by-"+by+".ocsp", signer, "issuing.pem")
}
