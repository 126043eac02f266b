package fakeaws

import (
	"context"
	"crypto/rand"
	"crypto/rsa"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/google/uuid"

	"github.com/managedkeys/managedkeys/internal/fakecloud"
)

// Names that a Server has unless its Options say otherwise.
const (
	DefaultRegion = "eu-central-1"
	Account       = "111122223333"
	AccessKey     = "AKIAFAKEFAKEFAKEFAKE"
	SecretKey     = "fake+secret+access+key+of+forty+letters/"
)

// Options are the options of [New]. The zero value is fine, and so is nil.
type Options struct {
	// PageSize bounds the answers of ListKeys and ListAliases; the service's own limits, 1000 and 100, if 0.
	PageSize int

	// NewRSA makes RSA keys; rsa.GenerateKey if nil. Tests keep a few.
	NewRSA func(bits int) (*rsa.PrivateKey, error)

	// Now is the server's clock; time.Now if nil.
	Now func() time.Time

	// TokenLifetime is how long temporary credentials are good for; an hour if 0.
	TokenLifetime time.Duration
}

// Server is a fake of AWS KMS that is serving.
//
// All methods are safe for concurrent use.
type Server struct {
	Script fakecloud.Script
	Log    fakecloud.Log

	opts     Options
	listener net.Listener
	http     *http.Server
	served   chan struct{} // closed when the server has stopped

	mu         sync.Mutex // guards what follows
	users      map[string]*user
	regions    map[string]*region
	denied     map[string]bool // operations
	grants     map[string]bool // tokens with which denied operations are allowed
	identities identities
	wrapping   map[int]*rsa.PrivateKey // for imports, by size
}

// region is the keys of a Region.
type region struct {
	name    string
	keys    map[string]*key   // by key id
	order   []string          // key ids, as they were made
	aliases map[string]*alias // by name
}

// New starts a Server on a port of 127.0.0.1. opts may be nil. It must be closed.
func New(opts *Options) (*Server, error) {
	s := &Server{
		users:    map[string]*user{AccessKey: {secret: SecretKey}},
		regions:  make(map[string]*region),
		denied:   make(map[string]bool),
		grants:   make(map[string]bool),
		wrapping: make(map[int]*rsa.PrivateKey),
		served:   make(chan struct{}),
	}
	if opts != nil {
		s.opts = *opts
	}
	if s.opts.NewRSA == nil {
		s.opts.NewRSA = func(bits int) (*rsa.PrivateKey, error) { return rsa.GenerateKey(rand.Reader, bits) }
	}
	if s.opts.Now == nil {
		s.opts.Now = time.Now
	}
	if s.opts.TokenLifetime == 0 {
		s.opts.TokenLifetime = time.Hour
	}
	var err error
	if s.listener, err = net.Listen("tcp", "127.0.0.1:0"); err != nil {
		return nil, fmt.Errorf("fakeaws: %w", err)
	}
	s.http = &http.Server{Handler: http.HandlerFunc(s.serve), ReadHeaderTimeout: 10 * time.Second}
	go func() {
		defer close(s.served)
		s.http.Serve(s.listener)
	}()
	return s, nil
}

// URL returns the base URL of the server, without a final slash.
func (s *Server) URL() string { return "http://" + s.listener.Addr().String() }

// Config returns a configuration of the SDK that reaches the server with its own access key in [DefaultRegion]. A kms.Client
// made of it needs nothing else.
func (s *Server) Config() aws.Config {
	return aws.Config{
		Region:       DefaultRegion,
		BaseEndpoint: aws.String(s.URL()),
		Credentials:  credentials.NewStaticCredentialsProvider(AccessKey, SecretKey, ""),
	}
}

// Close stops the server and breaks its connections.
func (s *Server) Close() error {
	err := s.http.Close()
	<-s.served
	return err
}

// Deny has requests for an operation, such as "Sign", refused with AccessDeniedException, unless they have a grant token of
// [Server.Grant].
func (s *Server) Deny(op string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.denied[op] = true
}

// Allow takes Deny back.
func (s *Server) Allow(op string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.denied, op)
}

// Grant returns a grant token with which every operation is allowed.
func (s *Server) Grant() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	token := "AQpA" + uuid.NewString()
	s.grants[token] = true
	return token
}

// Error is an answer that is an error. Body, if it is set, is the whole body as it is, whatever it is.
type Error struct {
	Status        int // 400 if 0
	Code, Message string
	Header        http.Header
	Body          []byte
}

// Error returns the code and the message.
func (e *Error) Error() string { return e.Code + ": " + e.Message }

func errorf(code, format string, args ...any) *Error {
	return &Error{Code: code, Message: fmt.Sprintf(format, args...)}
}

// maxBody bounds a request, in bytes.
const maxBody = 1 << 20

const target = "TrentService."

// serve deals with one request.
func (s *Server) serve(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(io.LimitReader(r.Body, maxBody))
	if err != nil {
		return // the client has gone
	}
	op, isKMS := strings.CutPrefix(r.Header.Get("X-Amz-Target"), target)
	if !isKMS {
		s.serveIdentity(w, r, body)
		return
	}
	id := uuid.NewString()
	w.Header().Set("X-Amzn-Requestid", id)
	w.Header().Set("Date", s.opts.Now().UTC().Format(http.TimeFormat))
	var req request
	parsed := json.Unmarshal(body, &req)
	s.Log.Add(fakecloud.Request{Op: op, Key: req.KeyId, ID: id})
	s.meet(w, r.Context(), op, func() (map[string]any, *Error) {
		at, fail := s.authenticate(r, body, "kms")
		switch {
		case fail != nil:
			return nil, fail
		case parsed != nil:
			return nil, errorf("SerializationException", "%v", parsed)
		}
		return s.perform(op, at, &req)
	})
}

// meet does what a request asks for, with the fault that the script has for it.
func (s *Server) meet(w http.ResponseWriter, ctx context.Context, op string, perform func() (map[string]any, *Error)) {
	fault, met := s.Script.Next(op)
	broken := fault.Drop || fault.Error != nil
	if met {
		fault.Wait(ctx)
		if broken && !fault.After {
			spoil(w, fault)
			return
		}
	}
	answer, fail := perform()
	switch {
	case met && broken:
		spoil(w, fault)
	case fail != nil:
		fail.write(w)
	default:
		if corrupt, ok := fault.Corrupt.(func(map[string]any)); ok {
			corrupt(answer)
		}
		writeJSON(w, http.StatusOK, answer)
	}
}

// spoil answers as a fault says.
func spoil(w http.ResponseWriter, fault fakecloud.Fault) {
	if e, ok := fault.Error.(*Error); ok && !fault.Drop {
		e.write(w)
		return
	}
	panic(http.ErrAbortHandler) // closes the connection, and net/http doesn't log it
}

func (e *Error) write(w http.ResponseWriter) {
	for name, values := range e.Header {
		w.Header()[name] = values
	}
	status := e.Status
	if status == 0 {
		status = http.StatusBadRequest
	}
	if e.Body != nil {
		w.Header().Set("Content-Type", "application/x-amz-json-1.1")
		w.WriteHeader(status)
		w.Write(e.Body)
		return
	}
	writeJSON(w, status, map[string]any{"__type": e.Code, "message": e.Message})
}

func writeJSON(w http.ResponseWriter, status int, answer map[string]any) {
	body, err := json.Marshal(answer)
	if err != nil {
		body, status = []byte(`{"__type":"KMSInternalException"}`), http.StatusInternalServerError
	}
	w.Header().Set("Content-Type", "application/x-amz-json-1.1")
	w.WriteHeader(status)
	w.Write(body)
}

// inRegion returns the keys of a Region. s.mu is held.
func (s *Server) inRegion(name string) *region {
	r := s.regions[name]
	if r == nil {
		r = &region{name: name, keys: make(map[string]*key), aliases: make(map[string]*alias)}
		s.regions[name] = r
	}
	return r
}
