package pki

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"net"
	"slices"
	"strings"

	"github.com/managedkeys/managedkeys/managedkey"
)

var extUsageNames = map[string]x509.ExtKeyUsage{
	"serverauth": x509.ExtKeyUsageServerAuth, "clientauth": x509.ExtKeyUsageClientAuth, "codesigning": x509.ExtKeyUsageCodeSigning,
	"emailprotection": x509.ExtKeyUsageEmailProtection, "ipsecendsystem": x509.ExtKeyUsageIPSECEndSystem, "ipsectunnel": x509.ExtKeyUsageIPSECTunnel,
	"ipsecuser": x509.ExtKeyUsageIPSECUser, "timestamping": x509.ExtKeyUsageTimeStamping, "ocspsigning": x509.ExtKeyUsageOCSPSigning,
	"microsoftservergatedcrypto": x509.ExtKeyUsageMicrosoftServerGatedCrypto, "netscapeservergatedcrypto": x509.ExtKeyUsageNetscapeServerGatedCrypto,
	"microsoftcommercialcodesigning": x509.ExtKeyUsageMicrosoftCommercialCodeSigning, "microsoftkernelcodesigning": x509.ExtKeyUsageMicrosoftKernelCodeSigning,
}

var oidAnyExtKeyUsage = asn1.ObjectIdentifier{2, 5, 29, 37, 0}

// extKeyUsages returns the extended key usages of the flags and lists.
func (r *Role) extKeyUsages() (known []x509.ExtKeyUsage, unknown []asn1.ObjectIdentifier, err error) {
	add := func(u x509.ExtKeyUsage) {
		for _, k := range known {
			if k == u {
				return
			}
		}
		known = append(known, u)
	}
	for _, flag := range []struct {
		on    bool
		usage x509.ExtKeyUsage
	}{
		{r.ServerFlag, x509.ExtKeyUsageServerAuth}, {r.ClientFlag, x509.ExtKeyUsageClientAuth},
		{r.CodeSigningFlag, x509.ExtKeyUsageCodeSigning}, {r.EmailProtectionFlag, x509.ExtKeyUsageEmailProtection},
	} {
		if flag.on {
			add(flag.usage)
		}
	}
	for i, name := range r.ExtKeyUsage {
		usage, ok := extUsageNames[strings.ToLower(strings.TrimPrefix(name, "ExtKeyUsage"))]
		if !ok {
			return nil, nil, invalid("ext_key_usage %d, %.40q: it takes %s", i, name, strings.Join(sortedKeys(extUsageNames), ", "))
		}
		add(usage)
	}
	for i, text := range r.ExtKeyUsageOIDs {
		oid, err := parseOID(text)
		if err != nil {
			return nil, nil, invalid("ext_key_usage_oids %d: %w", i, plain(err))
		}
		if oid.Equal(oidAnyExtKeyUsage) {
			return nil, nil, invalid("ext_key_usage_oids %d, %s: anyExtendedKeyUsage is not taken", i, text)
		}
		unknown = append(unknown, oid)
	}
	return known, unknown, nil
}

// usableWith returns what of usage a key of that kind can have (RFC 5480, Section 3; RFC 8813; RFC 8410, Section 5; for RSA
// what its uses in certificates are, RFC 3279, Section 2.3.1), or what fits it if usage is 0.
func usableWith(usage x509.KeyUsage, pub crypto.PublicKey) x509.KeyUsage {
	signs := x509.KeyUsageDigitalSignature | x509.KeyUsageContentCommitment
	able, usual := signs, x509.KeyUsageDigitalSignature
	switch pub.(type) {
	case *rsa.PublicKey:
		able |= x509.KeyUsageKeyEncipherment | x509.KeyUsageDataEncipherment
		usual |= x509.KeyUsageKeyEncipherment
	case *ecdsa.PublicKey:
		able |= x509.KeyUsageKeyAgreement
		if usage&x509.KeyUsageKeyAgreement != 0 {
			able |= x509.KeyUsageEncipherOnly | x509.KeyUsageDecipherOnly
		}
	}
	if usage == 0 {
		return usual
	}
	return usage & able
}

// signatureAlgorithm returns the algorithm that the role wants of an issuer's key; 0 is its best. Whether the key has it is
// looked at before it is called.
func (r *Role) signatureAlgorithm(key *managedkey.Key) (x509.SignatureAlgorithm, error) {
	i := map[int]int{256: 0, 384: 1, 512: 2}[r.SignatureBits]
	switch key.Public().(type) {
	case *rsa.PublicKey:
		switch {
		case r.UsePSS && r.SignatureBits == 0:
			return bestPSS(key), nil
		case r.UsePSS:
			return pssAlgorithms[i], nil
		case r.SignatureBits != 0:
			return pkcs1Algorithms[i], nil
		}
		return 0, nil
	case *ecdsa.PublicKey:
		if r.SignatureBits != 0 {
			return p256Algorithms[i], nil
		}
		return 0, nil
	}
	if r.SignatureBits != 0 {
		return 0, r.refuse("signature_bits", join([]int{r.SignatureBits}), "the issuer's key, %s, signs messages and has no hash to choose", key.Capabilities().Algorithm)
	}
	return 0, nil
}

// bestPSS returns the first algorithm with RSASSA-PSS that a key has, and that with SHA-256 for one that has none. Some key managers tie
// a key to one hash.
func bestPSS(key *managedkey.Key) x509.SignatureAlgorithm {
	able := key.Capabilities().X509(key.Public())
	for _, alg := range pssAlgorithms {
		if slices.Contains(able, alg) {
			return alg
		}
	}
	return pssAlgorithms[0]
}

// sanExtension returns subject alternative names with other names among them, which crypto/x509 doesn't have.
func sanExtension(names altNames, others []otherName, critical bool) (pkix.Extension, error) {
	var list []asn1.RawValue
	add := func(tag int, data []byte) {
		list = append(list, asn1.RawValue{Class: asn1.ClassContextSpecific, Tag: tag, Bytes: data})
	}
	for _, n := range others {
		der, err := n.der()
		if err != nil {
			return pkix.Extension{}, err
		}
		list = append(list, asn1.RawValue{FullBytes: der})
	}
	for _, email := range names.email {
		add(1, []byte(email))
	}
	for _, name := range names.dns {
		add(2, []byte(name))
	}
	for _, uri := range names.uri {
		add(6, []byte(uri.String()))
	}
	for _, ip := range names.ip {
		if v4 := ip.To4(); v4 != nil {
			ip = net.IP(v4)
		}
		add(7, ip)
	}
	der, err := asn1.Marshal(list)
	if err != nil {
		return pkix.Extension{}, invalid("subject alternative names: %w", err)
	}
	return pkix.Extension{Id: oidSubjectAltName, Critical: critical, Value: der}, nil
}
