//go:build cgo

package p11kit

import (
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/miekg/pkcs11"

	"github.com/managedkeys/managedkeys/internal/requires"
	"github.com/managedkeys/managedkeys/internal/requires/requirestest"
	"github.com/managedkeys/managedkeys/internal/softhsm"
)

// client is an initialised module with a session.
type client struct {
	*pkcs11.Ctx
	slot    uint
	session pkcs11.SessionHandle
}

// load loads the module of s. It connects on Initialize.
func load(t *testing.T, s *Server) *pkcs11.Ctx {
	t.Helper()
	ctx := pkcs11.New(s.Module())
	if ctx == nil {
		t.Fatalf("can't load %s", s.Module())
	}
	t.Cleanup(ctx.Destroy)
	return ctx
}

// connect initialises the module and logs in. The test finalises the module.
func connect(t *testing.T, ctx *pkcs11.Ctx, token *softhsm.Token) *client {
	t.Helper()
	if err := ctx.Initialize(); err != nil {
		t.Fatal(err)
	}
	slots, err := ctx.GetSlotList(true)
	if err != nil || len(slots) != 1 {
		t.Fatalf("slots %v, error %v; want one slot", slots, err)
	}
	info, err := ctx.GetTokenInfo(slots[0])
	if err != nil || info.Label != token.Label {
		t.Fatalf("token %q, error %v; want token %q", info.Label, err, token.Label)
	}
	session, err := ctx.OpenSession(slots[0], pkcs11.CKF_SERIAL_SESSION|pkcs11.CKF_RW_SESSION)
	if err != nil {
		t.Fatal(err)
	}
	if err := ctx.Login(session, pkcs11.CKU_USER, token.PIN); err != nil {
		t.Fatal(err)
	}
	return &client{Ctx: ctx, slot: slots[0], session: session}
}

// makeKey makes a secret key on the token.
func (c *client) makeKey(t *testing.T, label string) {
	t.Helper()
	_, err := c.GenerateKey(c.session, []*pkcs11.Mechanism{pkcs11.NewMechanism(pkcs11.CKM_AES_KEY_GEN, nil)},
		[]*pkcs11.Attribute{
			pkcs11.NewAttribute(pkcs11.CKA_LABEL, label), pkcs11.NewAttribute(pkcs11.CKA_TOKEN, true),
			pkcs11.NewAttribute(pkcs11.CKA_VALUE_LEN, 32),
		})
	if err != nil {
		t.Fatal(err)
	}
}

// count returns the number of secret keys on the token.
func (c *client) count(t *testing.T) int {
	t.Helper()
	err := c.FindObjectsInit(c.session, []*pkcs11.Attribute{pkcs11.NewAttribute(pkcs11.CKA_CLASS, pkcs11.CKO_SECRET_KEY)})
	if err != nil {
		t.Fatal(err)
	}
	found, _, err := c.FindObjects(c.session, 10)
	if err != nil {
		t.Fatal(err)
	}
	if err := c.FindObjectsFinal(c.session); err != nil {
		t.Fatal(err)
	}
	return len(found)
}

func TestKillAndStart(t *testing.T) {
	softhsm.Require(t) // its token must not be seen
	token := softhsm.Require(t)
	s := Require(t, token)
	ctx := load(t, s)
	for round := 1; round <= 3; round++ {
		c := connect(t, ctx, token)
		c.makeKey(t, fmt.Sprint(round))
		if got := c.count(t); got != round {
			t.Errorf("round %d: token has %d keys", round, got)
		}
		if !s.Running() {
			t.Errorf("round %d: server doesn't run", round)
		}
		s.Kill()
		if s.Running() {
			t.Errorf("round %d: server runs after Kill", round)
		}
		if _, err := c.GetSessionInfo(c.session); err == nil {
			t.Errorf("round %d: session outlived the server", round)
		}
		if conn, err := net.Dial("unix", s.socket); !errors.Is(err, syscall.ECONNREFUSED) {
			t.Errorf("round %d: connecting after Kill: %v, %v", round, conn, err)
		}
		s.Kill() // once more is fine
		address := s.Address()
		if err := s.Start(); err != nil {
			t.Fatal(err)
		}
		if s.Address() != address || !s.Running() {
			t.Errorf("round %d: address %s, running %t; want %s, true", round, s.Address(), s.Running(), address)
		}
		process := s.process
		if err := s.Start(); err != nil || s.process != process {
			t.Errorf("round %d: Start of a running server: error %v, new process %t", round, err, s.process != process)
		}
		if err := ctx.Finalize(); err != nil {
			t.Errorf("round %d: Finalize: %v", round, err)
		}
	}
}

func TestInitializeWithoutServer(t *testing.T) {
	token := softhsm.Require(t)
	s := Require(t, token)
	s.Kill()
	ctx := load(t, s)
	if err := ctx.Initialize(); err != nil {
		t.Fatal(err)
	}
	slots, err := ctx.GetSlotList(true)
	if err != nil || len(slots) != 0 {
		t.Errorf("slots %v, error %v; want none", slots, err)
	}
	if err := ctx.Finalize(); err != nil {
		t.Fatal(err)
	}
	if err := s.Start(); err != nil {
		t.Fatal(err)
	}
	connect(t, ctx, token)
	if err := ctx.Finalize(); err != nil {
		t.Fatal(err)
	}
}

func TestStartFails(t *testing.T) {
	s := Require(t, softhsm.Require(t))
	s.Kill()
	tool := s.tool
	s.tool = filepath.Join(t.TempDir(), "absent")
	if err := s.Start(); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("tool that is missing: error = %v", err)
	}
	s.tool, s.socket = tool, filepath.Join(t.TempDir(), "absent", "socket")
	if err := s.Start(); err == nil || !strings.Contains(err.Error(), "p11-kit ended (exit status ") {
		t.Errorf("directory that is missing: error = %v", err)
	}
	if s.Running() {
		t.Error("server runs")
	}
}

func TestMissing(t *testing.T) {
	for _, test := range []struct {
		name string
		hide func(*testing.T)
	}{
		{"module of the environment", func(t *testing.T) { t.Setenv(EnvModule, "/nowhere/p11-kit-client.so") }},
		{"usual places", func(t *testing.T) {
			t.Setenv(EnvModule, "")
			paths := modulePaths
			t.Cleanup(func() { modulePaths = paths })
			modulePaths = []string{filepath.Join(t.TempDir(), "*")}
		}},
		{"tool", func(t *testing.T) {
			t.Setenv(EnvModule, "/dev/null")
			t.Setenv("PATH", t.TempDir())
		}},
	} {
		t.Run(test.name, func(t *testing.T) {
			test.hide(t)
			if _, err := find(nil); !errors.Is(err, ErrMissing) {
				t.Errorf("error = %v", err)
			}
			for _, list := range []string{"softhsm,p11-kit", "softhsm"} {
				t.Setenv(requires.Env, list)
				var r requirestest.Recorder
				s := Require(&r, nil)
				if required := list != "softhsm"; s != nil || r.Failed != required || r.Skipped == required {
					t.Errorf("required %s: server %v, failed %t, skipped %t", list, s, r.Failed, r.Skipped)
				}
			}
		})
	}
}

func TestRequireEnvironment(t *testing.T) {
	token := softhsm.Require(t)
	t.Setenv(EnvAddress, "before")
	var r, second requirestest.Recorder
	s := Require(&r, token)
	if r.Failed || r.Skipped {
		t.Skip(r.Message)
	}
	if got := os.Getenv(EnvAddress); got != s.Address() || !strings.HasPrefix(got, "unix:path=/") {
		t.Errorf("%s = %q, want %q", EnvAddress, got, s.Address())
	}
	if Require(&second, token); !second.Failed {
		t.Error("a second server at the same time is accepted")
	}
	r.Cleanups[0]()
	if got := os.Getenv(EnvAddress); got != "before" {
		t.Errorf("%s = %q afterwards", EnvAddress, got)
	}
	if _, err := os.Stat(s.dir); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("directory is still there: %v", err)
	}
	if s.Running() {
		t.Error("server outlived the test")
	}
	os.Unsetenv(EnvAddress)
	third := requirestest.Recorder{}
	again := Require(&third, token)
	if third.Failed {
		t.Fatal(third.Message)
	}
	if again.Address() != s.Address() {
		t.Errorf("address %s, was %s: code that keeps the module's function list goes there for ever", again.Address(), s.Address())
	}
	third.Cleanups[0]()
	if got, set := os.LookupEnv(EnvAddress); set {
		t.Errorf("%s = %q afterwards, was not set", EnvAddress, got)
	}
}

func TestAddressIsEscaped(t *testing.T) {
	s := Server{socket: "/tmp/a b%;/socket"}
	if got, want := s.Address(), "unix:path=/tmp/a%20b%25%3B/socket"; got != want {
		t.Errorf("address %s, want %s", got, want)
	}
}
