package pkimatrix

import "testing"

func (f *firm) openssl(t *testing.T, want string, args ...string) error {
	t.Helper()
	return f.says(t, want, "openssl", "openssl", args...)
}

// opensslVerify has the arguments of openssl verify for what a TLS client asks.
func opensslVerify(args ...string) []string {
	return append([]string{"verify", "-x509_strict", "-purpose", "sslserver"}, args...)
}

func opensslChain(t *testing.T, f *firm) error {
	lists := f.join(t, "root.crl.pem", "issuing.crl.pem")
	return f.openssl(t, "good.pem: OK", opensslVerify("-verify_hostname", "good.example.com", "-crl_check_all", "-CRLfile", lists,
		"-CAfile", "root.pem", "-untrusted", "issuing.pem", "good.pem")...)
}

func opensslCross(t *testing.T, f *firm) error {
	lists := f.join(t, "root.crl.pem", "issuing.crl.pem", "other.crl.pem")
	return firstOf(func() error {
		return f.openssl(t, "good.pem: OK", opensslVerify("-crl_check_all", "-CRLfile", lists, "-CAfile", "other.pem",
			"-untrusted", "issuing.pem", "-untrusted", "root-by-other.pem", "good.pem")...)
	}, func() error {
		return f.openssl(t, "other-by-root.pem: OK", "verify", "-x509_strict", "-crl_check", "-CRLfile", "root.crl.pem", "-CAfile", "root.pem", "other-by-root.pem")
	})
}

// opensslList has the signature of a list of the issuing CA checked.
func (f *firm) opensslList(t *testing.T, name string) func() error {
	return func() error {
		return f.openssl(t, "verify OK", "crl", "-inform", "DER", "-in", name+".crl", "-CAfile", "issuing.pem", "-verify", "-noout")
	}
}

func opensslCRL(t *testing.T, f *firm) error {
	lists := f.join(t, "root.crl.pem", "issuing.crl.pem")
	return firstOf(f.opensslList(t, "issuing"), func() error {
		return f.openssl(t, "good.pem: OK|gone.pem: verification failed|error 23 at 0 depth lookup: certificate revoked", opensslVerify(
			"-crl_check_all", "-CRLfile", lists, "-CAfile", "root.pem", "-untrusted", "issuing.pem", "good.pem", "gone.pem")...)
	})
}

func opensslShard(t *testing.T, f *firm) error {
	return firstOf(f.opensslList(t, "shard"), func() error {
		return f.openssl(t, "late.pem: OK", opensslVerify("-crl_check", "-extended_crl", "-CRLfile", "shard.crl.pem", "-CAfile", "root.pem",
			"-untrusted", "issuing.pem", "late.pem")...)
	})
}

func opensslDelta(t *testing.T, f *firm) error {
	lists := f.join(t, "shard.crl.pem", "shard-delta.crl.pem")
	return firstOf(f.opensslList(t, "shard-delta"), func() error {
		return f.openssl(t, "late.pem: verification failed|error 23 at 0 depth lookup: certificate revoked", opensslVerify(
			"-crl_check", "-extended_crl", "-use_deltas", "-CRLfile", lists, "-CAfile", "root.pem", "-untrusted", "issuing.pem", "late.pem")...)
	})
}

func opensslAnswer(t *testing.T, f *firm, by, leaf string, revoked bool) error {
	want := "Response verify OK|" + leaf + ".pem: good"
	if revoked {
		want = "Response verify OK|" + leaf + ".pem: revoked|Reason: keyCompromise"
	}
	return f.openssl(t, want, "ocsp", "-respin", leaf+"-by-"+by+".ocsp", "-no_nonce", "-CAfile", "root.pem", "-verify_other", "issuing.pem",
		"-issuer", "issuing.pem", "-cert", leaf+".pem")
}
