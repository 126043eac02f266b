package fakegcp

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"sync"
	"time"

	"cloud.google.com/go/kms/apiv1/kmspb"
	"golang.org/x/oauth2"
	"google.golang.org/api/option"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/metadata"

	"github.com/managedkeys/managedkeys/internal/fakecloud"
)

// Options are the options of [New]. The zero value is fine, and so is nil.
type Options struct {
	// Insecure has the server speak without TLS and take every request as authenticated, as emulators do.
	Insecure bool

	// GenerationReads is how often a new asymmetric key version, import or import job is seen as pending before it is ready.
	GenerationReads int

	// PageSize is the largest page of a list; 100 if 0.
	PageSize int

	// Address is where to listen; "127.0.0.1:0" if empty.
	Address string
}

// Server is a fake Google Cloud KMS.
//
// All methods are safe for concurrent use.
type Server struct {
	// Script holds the faults to come. Operations have the names of the RPCs, such as "AsymmetricSign". An Error is an error
	// or *status.Status; a Corrupt is a func(proto.Message) that changes the answer, or [Raw], which replaces it.
	Script fakecloud.Script

	// Log has the requests that were authenticated. Key is the resource that a request names.
	Log fakecloud.Log

	opts     Options
	listener *listener
	server   *grpc.Server
	oauth    *httptest.Server
	pool     *x509.CertPool
	tokens   tokens

	mu       sync.Mutex // guards what follows
	rings    map[string]*ring
	metadata map[string]metadata.MD // of the last request of each operation
	requests int
}

// service keeps the RPC methods off the exported type.
type service struct {
	kmspb.UnimplementedKeyManagementServiceServer
	*Server
}

// New starts a server. opts may be nil.
func New(opts *Options) (*Server, error) {
	s := &Server{rings: make(map[string]*ring), metadata: make(map[string]metadata.MD)}
	if opts != nil {
		s.opts = *opts
	}
	if s.opts.PageSize == 0 {
		s.opts.PageSize = 100
	}
	if s.opts.Address == "" {
		s.opts.Address = "127.0.0.1:0"
	}
	raw, err := net.Listen("tcp", s.opts.Address)
	if err != nil {
		return nil, err
	}
	s.listener = &listener{Listener: raw, conns: make(map[string]net.Conn)}
	config := []grpc.ServerOption{grpc.UnaryInterceptor(s.intercept), grpc.ForceServerCodecV2(codec{}), grpc.MaxRecvMsgSize(16 << 20)}
	if !s.opts.Insecure {
		cert, err := selfSigned()
		if err != nil {
			raw.Close()
			return nil, err
		}
		s.pool = x509.NewCertPool()
		s.pool.AddCert(cert.Leaf)
		config = append(config, grpc.Creds(credentials.NewServerTLSFromCert(&cert)))
	}
	s.server = grpc.NewServer(config...)
	kmspb.RegisterKeyManagementServiceServer(s.server, service{Server: s})
	go s.server.Serve(s.listener) // returns when Close stops the server
	s.oauth = httptest.NewServer(http.HandlerFunc(s.serveOAuth))
	return s, nil
}

// Close stops the server and drops all connections.
func (s *Server) Close() error {
	s.server.Stop()
	s.oauth.Close()
	return nil
}

// Addr returns the host and port of the server.
func (s *Server) Addr() string { return s.listener.Addr().String() }

// Pool returns the root certificate of the server.
func (s *Server) Pool() *x509.CertPool { return s.pool }

// Transport returns the options with which a client reaches the server. It must bring its own credentials.
func (s *Server) Transport() []option.ClientOption {
	return []option.ClientOption{
		option.WithEndpoint(s.Addr()),
		option.WithGRPCDialOption(grpc.WithTransportCredentials(credentials.NewTLS(&tls.Config{RootCAs: s.pool, MinVersion: tls.VersionTLS12}))),
	}
}

// ClientOptions returns all that a client of Google's SDK needs to use the server, with a token of its own.
func (s *Server) ClientOptions() []option.ClientOption {
	token := &oauth2.Token{AccessToken: s.Token(), Expiry: time.Now().Add(time.Hour)}
	return append(s.Transport(), option.WithTokenSource(oauth2.StaticTokenSource(token)))
}

// Metadata returns the gRPC metadata of the last request of an operation.
func (s *Server) Metadata(op string) metadata.MD {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.metadata[op]
}

// DropConnections closes all connections, as a restart of the service does.
func (s *Server) DropConnections() { s.listener.drop("") }

// listener knows the connections by the address of the peer, so that a fault can drop one.
type listener struct {
	net.Listener
	mu    sync.Mutex
	conns map[string]net.Conn // grows; a fake does not live long
}

func (l *listener) Accept() (net.Conn, error) {
	conn, err := l.Listener.Accept()
	if err == nil {
		l.mu.Lock()
		l.conns[conn.RemoteAddr().String()] = conn
		l.mu.Unlock()
	}
	return conn, err
}

// drop closes the connection of the peer, or all if peer is empty.
func (l *listener) drop(peer string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for addr, conn := range l.conns {
		if peer == "" || addr == peer {
			conn.Close()
			delete(l.conns, addr)
		}
	}
}

func selfSigned() (tls.Certificate, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return tls.Certificate{}, err
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "fakegcp"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour),
		DNSNames: []string{"localhost", "*.googleapis.com", "*.europe-west3.rep.googleapis.com"}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		IsCA: true, BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return tls.Certificate{}, err
	}
	leaf, err := x509.ParseCertificate(der)
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key, Leaf: leaf}, err
}
