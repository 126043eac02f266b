// Package p11kit serves a SoftHSM2 token from another process, as a network HSM is: tests reach it with the module
// p11-kit-client.so, which talks to `p11-kit server` on a Unix socket. Killing that server is "the HSM went away",
// starting it again is "it came back".
//
// p11-kit-client.so reads the environment variable P11_KIT_SERVER_ADDRESS in C_GetFunctionList and connects in
// C_Initialize. Code that keeps the list goes to that address for ever, so all servers of a process have the same. The
// server forks a process for each connection, which initialises SoftHSM2 anew: it sees the token as it
// is then.
package p11kit

import (
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/managedkeys/managedkeys/internal/daemon"
	"github.com/managedkeys/managedkeys/internal/requires"
	"github.com/managedkeys/managedkeys/internal/softhsm"
)

// ErrMissing is wrapped by errors that say that p11-kit is not installed.
var ErrMissing = errors.New("p11-kit is not installed")

// Advice says how to install p11-kit.
const Advice = "install it with `apt-get install p11-kit p11-kit-modules` (Debian, Ubuntu) or " +
	"`dnf install p11-kit-server` (Fedora), or set P11_KIT_CLIENT_MODULE to the path of p11-kit-client.so"

// EnvModule is the environment variable that names p11-kit-client.so where it is in none of the usual places.
const EnvModule = "P11_KIT_CLIENT_MODULE"

// EnvAddress is the environment variable that tells p11-kit-client.so where the server is.
const EnvAddress = "P11_KIT_SERVER_ADDRESS"

// startTimeout is how long a server may take until it accepts connections.
const startTimeout = 10 * time.Second

// modulePaths are the usual places, as patterns of package filepath.
var modulePaths = []string{
	"/usr/lib/*/pkcs11/p11-kit-client.so", // Debian, Ubuntu
	"/usr/lib64/pkcs11/p11-kit-client.so", // Fedora
	"/usr/lib/pkcs11/p11-kit-client.so",   // Arch
}

// Server is a `p11-kit server` that exports one token. Its methods are safe for concurrent use.
type Server struct {
	tool, module string
	dir, socket  string
	token        *softhsm.Token

	mu      sync.Mutex
	process *daemon.Process // nil before the first Start
}

// TB is what [Require] needs of a testing.TB, so that programs that use this package don't link package testing.
type TB = softhsm.TB

// mu guards used and address: the address of the server is one for the process.
var (
	mu      sync.Mutex
	used    bool
	address string // the directory of the socket; "" before the first server
)

// Require starts a server that exports token, and points P11_KIT_SERVER_ADDRESS of this process at it, for Go and for C.
// When the test has ended the server ends, and the variable is what it was. There can be one at a time.
//
// If p11-kit is not installed, the test ends as requires.Missing says for the part "p11-kit".
func Require(tb TB, token *softhsm.Token) *Server {
	tb.Helper()
	s, err := find(token)
	if err != nil {
		requires.Missing(tb, "p11-kit", err)
		return nil
	}
	if err := s.open(); err != nil {
		tb.Fatalf("%v", err)
		return nil
	}
	before, set := os.LookupEnv(EnvAddress)
	tb.Cleanup(func() {
		s.Kill()
		os.RemoveAll(s.dir)
		if set {
			os.Setenv(EnvAddress, before)
		} else {
			os.Unsetenv(EnvAddress)
		}
		release()
	})
	if err := os.Setenv(EnvAddress, s.Address()); err != nil {
		tb.Fatalf("p11kit: %v", err)
	}
	return s
}

// find returns a server of token that has not started. The error wraps [ErrMissing].
func find(token *softhsm.Token) (*Server, error) {
	module, err := Module()
	if err != nil {
		return nil, err
	}
	tool, err := exec.LookPath("p11-kit")
	if err != nil {
		return nil, fmt.Errorf("p11kit: %w: %w: %s", ErrMissing, err, Advice)
	}
	return &Server{tool: tool, module: module, token: token}, nil
}

// Module returns the path of p11-kit-client.so. The error wraps [ErrMissing].
func Module() (string, error) {
	if path := os.Getenv(EnvModule); path != "" {
		if _, err := os.Stat(path); err != nil {
			return "", fmt.Errorf("p11kit: %s: %w: %w", EnvModule, ErrMissing, err)
		}
		return path, nil
	}
	for _, pattern := range modulePaths {
		if found, _ := filepath.Glob(pattern); len(found) > 0 {
			return found[0], nil
		}
	}
	return "", fmt.Errorf("p11kit: found no p11-kit-client.so: %w: %s", ErrMissing, Advice)
}

// open takes the place of the one server and starts s, or does neither.
func (s *Server) open() error {
	mu.Lock()
	defer mu.Unlock()
	if used {
		return errors.New("p11kit: another test of this process uses a server")
	}
	if err := makeDirectory(); err != nil {
		return fmt.Errorf("p11kit: %w", err)
	}
	s.dir, s.socket = address, filepath.Join(address, "socket")
	if err := s.Start(); err != nil {
		os.RemoveAll(s.dir)
		return err
	}
	used = true
	return nil
}

// makeDirectory makes the directory of the socket, with the same path each time. The path of a Unix socket has at most
// about 100 bytes, which the temporary directory of a test can exceed. mu is held.
func makeDirectory() (err error) {
	if address == "" {
		address, err = os.MkdirTemp("", "p11kit-")
		return err
	}
	return os.Mkdir(address, 0o700)
}

func release() {
	mu.Lock()
	defer mu.Unlock()
	used = false
}

// Module returns the path of the module that reaches the server.
func (s *Server) Module() string { return s.module }

// Address returns the server's address as P11_KIT_SERVER_ADDRESS has it. It is the same after each [Server.Start].
func (s *Server) Address() string {
	return "unix:path=" + strings.ReplaceAll(url.PathEscape(s.socket), "%2F", "/")
}

// Start starts the server after a [Server.Kill] and returns when it accepts connections. It does nothing while the
// server runs.
func (s *Server) Start() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.process != nil && s.process.Running() {
		return nil
	}
	// A server that was killed leaves its socket.
	if err := os.Remove(s.socket); err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("p11kit: %w", err)
	}
	cmd := exec.Command(s.tool, "server", "--foreground", "--sh", "--provider", s.token.Module, "--name", s.socket,
		"pkcs11:token="+url.PathEscape(s.token.Label))
	cmd.Env = append(os.Environ(), "SOFTHSM2_CONF="+filepath.Join(s.token.Dir, "softhsm2.conf"))
	process, err := daemon.Start(cmd)
	if err != nil {
		return fmt.Errorf("p11kit: %w", err)
	}
	err = process.Await(startTimeout, func() error {
		conn, err := net.Dial("unix", s.socket)
		if err != nil {
			return err
		}
		return conn.Close()
	})
	if err != nil {
		process.Kill()
		return fmt.Errorf("p11kit: %w", err)
	}
	s.process = process
	return nil
}

// Kill kills the server and the processes of its connections, and returns when they have ended. The socket stays, and
// refuses connections. It does nothing while no server runs.
func (s *Server) Kill() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.process != nil {
		s.process.Kill()
	}
}

// Running tells whether the server is alive.
func (s *Server) Running() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.process != nil && s.process.Running()
}
