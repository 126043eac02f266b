//go:build unix

package pki

import (
	"bufio"
	"encoding/base64"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/managedkeys/managedkeys/managedkey/store/bolt"
)

// envKill makes TestKillChild a program that issues, revokes and makes CRLs on the store in the file that it names.
const envKill = "PKI_TEST_KILL"

// killPrefix is where all rounds have their state; each has another mount.
const killPrefix = "pki/kill/"

// TestKillChild is not a test of its own. It prints, each on a line by itself, "S " and what was signed before anybody gets the
// signature, and "R " and the serial number of what was returned.
func TestKillChild(t *testing.T) {
	path := os.Getenv(envKill)
	if path == "" {
		return
	}
	s, err := bolt.Open(path, nil)
	if err != nil {
		t.Fatal(err)
	}
	h := newHouse(t, &Options{Now: time.Now})
	h.km.seen = func(message []byte) { fmt.Println("S " + base64.StdEncoding.EncodeToString(message)) }
	f := firmOn(t, h, s, &Options{Now: time.Now})
	f.prefix = killPrefix
	name := fmt.Sprintf("root-%d", os.Getpid())
	f.root(t, "ed25519", name)
	r := anyRole("r")
	r.IssuerRef = name
	f.role(t, r)
	failed := make(chan error)
	for g := range 4 {
		go func() {
			for i := 0; ; i++ {
				pair, err := f.Issue(t.Context(), "r", cn("a.example"))
				if err == nil {
					fmt.Println("R " + serialOf(pair))
				}
				if err == nil && i%4 == 0 {
					_, err = f.Revoke(t.Context(), serialOf(pair), ReasonSuperseded, time.Time{})
				}
				if err == nil && g == 0 && i%2 == 0 {
					_, err = f.RotateCRL(t.Context(), name)
				}
				if err != nil {
					failed <- err
					return
				}
			}
		}()
	}
	t.Fatal(<-failed)
}

// TestKill kills processes that issue with signal 9, again and again. Every certificate that was signed must be in the store, as it
// was signed; what was returned as issued; no serial number and no CRL number may have been used twice.
func TestKill(t *testing.T) {
	path := filepath.Join(t.TempDir(), "store")
	var signed [][]byte
	var returned []string
	for round := range 12 {
		cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestKillChild$")
		cmd.Env = append(os.Environ(), envKill+"="+path)
		cmd.Stderr = os.Stderr
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		lines, n := bufio.NewScanner(out), 0
		for lines.Scan() {
			kind, text, ok := strings.Cut(lines.Text(), " ")
			switch {
			case ok && kind == "S":
				tbs, err := base64.StdEncoding.DecodeString(text)
				if err != nil {
					continue // the line was cut off
				}
				signed = append(signed, tbs)
			case ok && kind == "R" && len(text) == 3*serialLength-1:
				returned = append(returned, text)
			case strings.Contains(lines.Text(), "FAIL"), strings.Contains(lines.Text(), "pki"):
				t.Fatal(lines.Text())
			}
			if n++; n == 150+round*17 { // at another place in each round
				if err := cmd.Process.Kill(); err != nil {
					t.Fatal(err)
				}
			}
		}
		_ = cmd.Wait() // it was killed
	}
	checkKilled(t, path, signed, returned)
}

func checkKilled(t *testing.T, path string, signed [][]byte, returned []string) {
	s, err := bolt.Open(path, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	f := firmOn(t, newHouse(t, nil), s, nil)
	f.prefix = killPrefix
	known, pending := map[string]bool{}, 0
	for record, err := range f.all(t.Context(), "certs/") {
		if err != nil {
			t.Fatal(err)
		}
		c, err := decodeCertificate(record)
		if err != nil {
			t.Fatal(err)
		}
		known[string(c.Certificate.RawTBSCertificate)] = true
		if c.State == StatePending {
			pending++
		}
	}
	serials, certificates, last := map[string]bool{}, 0, map[string]int64{}
	for _, tbs := range signed {
		if list := parseTBSList(tbs); list != nil {
			issuer := list.Issuer.String() + string(list.AuthorityKeyId)
			if n := list.Number.Int64(); n <= last[issuer] {
				t.Errorf("CRL %d was signed after %d", n, last[issuer])
			} else {
				last[issuer] = n
			}
			continue
		}
		certificates++
		if !known[string(tbs)] {
			t.Errorf("the store doesn't know a certificate that was signed: %x", tbs)
		}
		if serials[string(tbs)] {
			t.Errorf("signed twice: %x", tbs)
		}
		serials[string(tbs)] = true
	}
	for _, serial := range returned {
		if c, err := f.Certificate(t.Context(), serial); err != nil || c.State != StateIssued {
			t.Errorf("certificate %s was returned: %+v, %v", serial, c, err)
		}
	}
	if len(returned) < 300 || certificates < len(returned) {
		t.Errorf("only %d certificates were returned, and %d signed", len(returned), certificates)
	}
	t.Logf("%d certificates signed, %d returned, %d in the store of which %d pending, CRLs of %d issuers", certificates, len(returned), len(known), pending, len(last))
}
