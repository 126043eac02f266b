package transit_test

import (
	"crypto/ed25519"
	"crypto/rand"
	"crypto/sha512"
	"encoding/base64"
	"fmt"
	"strings"
	"testing"

	"golang.org/x/crypto/ssh"

	"github.com/managedkeys/managedkeys/internal/requires"
	"github.com/managedkeys/managedkeys/transit"
)

// sshSignature returns a signature of a file as ssh-keygen -Y sign makes it (PROTOCOL.sshsig of OpenSSH), by the key of
// signer, which may be a certificate.
func sshSignature(signer ssh.Signer, namespace string, data []byte) ([]byte, error) {
	const magic = "SSHSIG"
	sum := sha512.Sum512(data)
	signed := append([]byte(magic), ssh.Marshal(struct{ Namespace, Reserved, Hash, Sum string }{namespace, "", "sha512", string(sum[:])})...)
	algorithm := signer.PublicKey().Type()
	if algorithm == ssh.KeyAlgoRSA {
		algorithm = ssh.KeyAlgoRSASHA512 // SHA-1 is refused
	}
	signature, err := signer.(ssh.AlgorithmSigner).SignWithAlgorithm(rand.Reader, signed, strings.TrimSuffix(algorithm, "-cert-v01@openssh.com"))
	if err != nil {
		return nil, err
	}
	blob := append([]byte(magic), ssh.Marshal(struct {
		Version                        uint32
		Key, Namespace, Reserved, Hash string
		Signature                      string
	}{1, string(signer.PublicKey().Marshal()), namespace, "", "sha512", string(ssh.Marshal(signature))})...)
	text := base64.StdEncoding.EncodeToString(blob)
	var out strings.Builder
	out.WriteString("-----BEGIN SSH SIGNATURE-----\n")
	for ; len(text) > 70; text = text[70:] {
		out.WriteString(text[:70] + "\n")
	}
	out.WriteString(text + "\n-----END SSH SIGNATURE-----\n")
	return []byte(out.String()), nil
}

// sshCertificate certifies that a user's key is that of principals (PROTOCOL.certkeys of OpenSSH).
func sshCertificate(authority ssh.Signer, user ssh.PublicKey, principals ...string) (*ssh.Certificate, error) {
	certificate := &ssh.Certificate{
		Key: user, Serial: 1, CertType: ssh.UserCert, KeyId: "alice's laptop", ValidPrincipals: principals, ValidBefore: ssh.CertTimeInfinity,
	}
	return certificate, certificate.SignCert(rand.Reader, authority)
}

// TestSSH: ssh-keygen verifies signatures of files by a transit key, and by a key that a transit key has certified.
func TestSSH(t *testing.T) {
	keygen := requires.Tool(t, "openssh", "ssh-keygen")
	eachSigner(t, func(t *testing.T, name string, s *transit.Signer) {
		signer, err := ssh.NewSignerFromSigner(s)
		if err != nil {
			t.Fatal(err)
		}
		w := workplace{t, t.TempDir()}
		right, wrong := w.file("right", []byte("release 1.0")), w.file("wrong", []byte("release 1.1"))
		verify := func(allowed string, signature []byte, data, who string) (string, bool) {
			w.file("allowed", []byte(allowed))
			w.file("signature", signature)
			return w.run(data, keygen, "-Y", "verify", "-f", "allowed", "-I", who, "-n", "file", "-s", "signature")
		}
		signature, err := sshSignature(signer, "file", []byte("release 1.0"))
		if err != nil {
			t.Fatal(err)
		}
		allowed := "alice " + string(ssh.MarshalAuthorizedKey(signer.PublicKey()))
		if out, ok := verify(allowed, signature, right, "alice"); !ok {
			t.Errorf("ssh-keygen says: %s", out)
		}
		if out, ok := verify(allowed, signature, wrong, "alice"); ok {
			t.Errorf("another file: ssh-keygen says: %s", out)
		}

		_, private, _ := ed25519.GenerateKey(rand.Reader)
		user := must(ssh.NewSignerFromSigner(private))
		certificate, err := sshCertificate(signer, user.PublicKey(), "alice")
		if err != nil {
			t.Fatal(err)
		}
		signature, err = sshSignature(must(ssh.NewCertSigner(certificate, user)), "file", []byte("release 1.0"))
		if err != nil {
			t.Fatal(err)
		}
		authority := fmt.Sprintf("* cert-authority %s", ssh.MarshalAuthorizedKey(signer.PublicKey()))
		if out, ok := verify(authority, signature, right, "alice"); !ok {
			t.Errorf("certificate: ssh-keygen says: %s", out)
		}
		if out, ok := verify(authority, signature, right, "bob"); ok {
			t.Errorf("a certificate of another principal: ssh-keygen says: %s", out)
		}
		certificate.Serial++ // after it was signed
		signature = must(sshSignature(must(ssh.NewCertSigner(certificate, user)), "file", []byte("release 1.0")))
		if out, ok := verify(authority, signature, right, "alice"); ok {
			t.Errorf("a changed certificate: ssh-keygen says: %s", out)
		}
	})
}
