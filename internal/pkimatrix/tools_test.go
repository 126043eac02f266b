package pkimatrix

import (
	"bytes"
	"fmt"
	"os/exec"
	"strings"
	"testing"

	"github.com/managedkeys/managedkeys/internal/requires"
)

// The kinds of things that are signed. Each check of a tool is of one of them, and fails if that is damaged.
const (
	chain     = "certificates"       // of a leaf, up to the root
	cross     = "cross-certificates" // another path for the leaf, and the other way round
	complete  = "CRL"
	sharded   = "sharded CRL"
	delta     = "delta CRL"
	byIssuer  = "OCSP answer of the issuer"
	delegated = "OCSP answer of a delegated responder"
)

var objects = []string{chain, cross, complete, sharded, delta, byIssuer, delegated}

// tool is a program or library that verifies. Its checks, by object, return what is wrong.
type tool struct {
	name   string
	checks map[string]func(*testing.T, *firm) error
}

var tools = []tool{
	{"OpenSSL", map[string]func(*testing.T, *firm) error{chain: opensslChain, cross: opensslCross, complete: opensslCRL, sharded: opensslShard,
		delta: opensslDelta, byIssuer: answersBy("issuer", opensslAnswer), delegated: answersBy("delegate", opensslAnswer)}},
	{"GnuTLS", map[string]func(*testing.T, *firm) error{chain: gnutlsChain, cross: gnutlsCross, complete: gnutlsCRL, sharded: gnutlsShard,
		delta: gnutlsDelta, byIssuer: answersBy("issuer", gnutlsAnswer), delegated: answersBy("delegate", gnutlsAnswer)}},
	{"NSS", map[string]func(*testing.T, *firm) error{chain: nssChain, cross: nssCross, complete: nssCRL, sharded: nssShard,
		delta: nssDelta, byIssuer: answersBy("issuer", nssAnswer), delegated: answersBy("delegate", nssAnswer)}},
	{"crypto/x509", map[string]func(*testing.T, *firm) error{chain: goChain, cross: goCross, complete: goCRL, sharded: goShard,
		delta: goDelta, byIssuer: answersBy("issuer", goAnswer), delegated: answersBy("delegate", goAnswer)}},
}

// answersBy is the check of the answers about leaves with and without a revocation.
func answersBy(by string, check func(t *testing.T, f *firm, by, leaf string, revoked bool) error) func(*testing.T, *firm) error {
	return func(t *testing.T, f *firm) error {
		if err := check(t, f, by, "good", false); err != nil {
			return err
		}
		return check(t, f, by, "gone", true)
	}
}

// running bounds the programs that run at the same time.
var running = make(chan struct{}, 2)

// command runs a program that belongs to a part (see package requires), in a folder, and returns what it printed.
func command(t *testing.T, part, name, dir string, args ...string) ([]byte, error) {
	t.Helper()
	path := requires.Tool(t, part, name)
	running <- struct{}{}
	defer func() { <-running }()
	cmd := exec.CommandContext(t.Context(), path, args...)
	cmd.Dir = dir
	return cmd.CombinedOutput()
}

// says runs a program on the files of a firm. What it prints decides, since not every one has an exit status for every failure: it is
// an error if one of the texts in want, separated by "|", is not in it.
func (f *firm) says(t *testing.T, want, part, name string, args ...string) error {
	t.Helper()
	out, err := command(t, part, name, f.dir, args...)
	for text := range strings.SplitSeq(want, "|") {
		if !bytes.Contains(out, []byte(text)) {
			return fmt.Errorf("%s %s: %v; it doesn't say %q:\n%s", name, strings.Join(args, " "), err, text, out)
		}
	}
	return nil
}

// firstOf returns the first error.
func firstOf(checks ...func() error) error {
	for _, check := range checks {
		if err := check(); err != nil {
			return err
		}
	}
	return nil
}
