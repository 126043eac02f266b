package pkimatrix

import (
	"encoding/base64"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/crypto/ocsp"

	"github.com/managedkeys/managedkeys/pki"
)

const nssPart = "libnss3-tools"

// database makes a database of NSS in the folder of a firm, with a root that is trusted and other certificates.
func (f *firm) database(t *testing.T, name, root string, others ...string) func() error {
	return func() (err error) {
		if err, ok := f.databases[name]; ok {
			return err // another check has made it
		}
		defer func() { f.databases[name] = err }()
		if err := os.Mkdir(filepath.Join(f.dir, name), 0o700); err != nil {
			return err
		}
		if out, err := command(t, nssPart, "certutil", f.dir, "-N", "-d", "sql:"+name, "--empty-password"); err != nil {
			return fmt.Errorf("certutil -N: %w: %s", err, out)
		}
		batch := fmt.Sprintf("-A -d sql:%s -n %s -t CT,C,C -i %s.pem\n", name, root, root)
		for _, other := range others {
			batch += fmt.Sprintf("-A -d sql:%s -n %s -t ,, -i %s.pem\n", name, other, other)
		}
		f.write(t, name+".batch", []byte(batch))
		if out, err := command(t, nssPart, "certutil", f.dir, "-B", "-d", "sql:"+name, "-i", name+".batch"); err != nil || len(out) > 0 {
			return fmt.Errorf("certutil -A: %v: %s", err, out)
		}
		return nil
	}
}

func (f *firm) nss(t *testing.T, want, name string, args ...string) func() error {
	return func() error { return f.says(t, want, nssPart, name, args...) }
}

// nssChain asks both of the verifiers that NSS has.
func nssChain(t *testing.T, f *firm) error {
	return firstOf(f.database(t, "db", "root", "issuing", "good"),
		f.nss(t, "certificate is valid", "certutil", "-V", "-d", "sql:db", "-n", "good", "-u", "V", "-e"),
		f.nss(t, "certificate is valid", "certutil", "-V", "-d", "sql:db", "-n", "issuing", "-u", "L", "-e"),
		f.nss(t, "Chain is good!", "vfychain", "-d", "sql:db", "-pp", "-u", "1", "good.der"))
}

func nssCross(t *testing.T, f *firm) error {
	return firstOf(f.database(t, "db-other", "other"), f.database(t, "db-root", "root"),
		f.nss(t, "Chain is good!|Other Root", "vfychain", "-d", "sql:db-other", "-pp", "-v", "-u", "1", "good.der", "issuing.der", "root-by-other.der"),
		f.nss(t, "Chain is good!", "vfychain", "-d", "sql:db-root", "-pp", "-u", "11", "other-by-root.der"))
}

// nssCRL demands that a list of the leaf's issuer is there.
func nssCRL(t *testing.T, f *firm) error {
	strict := []string{"-d", "sql:db-crl", "-pp", "-u", "1", "-g", "leaf", "-h", "requireFreshInfo", "-m", "crl", "-s", "failIfNoInfo"}
	return firstOf(f.database(t, "db-crl", "root", "issuing"),
		f.nssList(t, "db-crl", "root"), f.nssList(t, "db-crl", "issuing"),
		f.nss(t, "Chain is good!", "vfychain", append(strict, "good.der")...),
		f.nss(t, "Chain is bad!|Peer's Certificate has been revoked", "vfychain", append(strict, "gone.der")...))
}

// nssList puts a list into a database, which takes none whose signature is not that of a certificate there.
func (f *firm) nssList(t *testing.T, database, name string) func() error {
	return func() error {
		out, err := command(t, nssPart, "crlutil", f.dir, "-I", "-d", "sql:"+database, "-t", "1", "-i", name+".crl")
		if err != nil {
			return fmt.Errorf("crlutil -I: %w: %s", err, out)
		}
		return nil
	}
}

func nssShard(t *testing.T, f *firm) error {
	return firstOf(f.database(t, "db", "root", "issuing", "good"), f.nssList(t, "db", "shard"))
}

func nssDelta(t *testing.T, f *firm) error {
	return firstOf(f.database(t, "db", "root", "issuing", "good"), f.nssList(t, "db", "shard-delta"))
}

// nssAnswer has NSS fetch an answer, which it can't read from a file.
func nssAnswer(t *testing.T, f *firm, by, leaf string, revoked bool) error {
	server := httptest.NewServer(f.responder(by))
	defer server.Close()
	want := fmt.Sprintf("Check of certificate %q succeeded", leaf+".der")
	if revoked {
		want = "Peer's Certificate has been revoked"
	}
	return firstOf(f.database(t, "db", "root", "issuing", "good"),
		f.nss(t, want, "ocspclnt", "-d", "sql:db", "-S", leaf+".der", "-l", server.URL+"/", "-t", "issuing"))
}

// responder answers questions about the leaves with files.
func (f *firm) responder(by string) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var body []byte
		var err error
		if r.Method == http.MethodPost {
			body, err = io.ReadAll(http.MaxBytesReader(w, r.Body, pki.MaxOCSPRequest))
		} else {
			body, err = base64.StdEncoding.DecodeString(strings.TrimPrefix(r.URL.Path, "/"))
		}
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		request, err := ocsp.ParseRequest(body)
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		for _, leaf := range leaves {
			if f.certs[leaf].SerialNumber.Cmp(request.SerialNumber) == 0 {
				w.Header().Set("Content-Type", "application/ocsp-response")
				w.Write(f.read(leaf + "-by-" + by + ".ocsp"))
				return
			}
		}
		http.Error(w, "no such leaf", http.StatusNotFound)
	})
}
