package main

import (
	"bufio"
	"bytes"
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"runtime"
	"strconv"
	"sync"
	"text/tabwriter"
	"time"

	"github.com/managedkeys/managedkeys/backend/software"
	"github.com/managedkeys/managedkeys/managedkey"
	"github.com/managedkeys/managedkeys/managedkey/httpapi"
	"github.com/managedkeys/managedkeys/managedkey/store/memory"
	"github.com/managedkeys/managedkeys/namespace"
)

// idleConnections are open when the memory of one is measured.
var idleConnections = 2000

// httpBody is what is signed, as both servers take it, in base64.
var httpBody = []byte(`{"input":"` + base64.StdEncoding.EncodeToString(make([]byte, 256)) + `"}`)

// http prints how many signatures per second come over HTTP, from this library's API and from a handler that does nothing but sign,
// and what an idle connection takes.
func (*workplace) http() error {
	ctx := context.Background()
	ours, closeOurs, err := ourServer(ctx)
	if err != nil {
		return err
	}
	defer closeOurs()
	bare, err := bareHandler()
	if err != nil {
		return err
	}
	var servers [2]*listening // ours first
	for i, server := range []*http.Server{httpapi.NewServer(ours, nil), {Handler: bare}} {
		if servers[i], err = listen(server); err != nil {
			return err
		}
		defer servers[i].close()
	}
	fmt.Printf(`P-256 signatures over HTTP/1.1 on loopback, connections kept. Clients are in the same process and read nothing but lengths.
The API has a token, policies, limits and a mount with a minimal engine; the other is net/http with crypto/ecdsa. Median of %d rounds.

`, *rounds)
	w := tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(w, "clients\trequests/s\tnet/http\tratio\tbytes per idle connection\tnet/http\t")
	memory := make([]float64, len(servers))
	for i, s := range servers {
		if memory[i], err = s.idle(); err != nil {
			return err
		}
	}
	for _, clients := range []int{1, 16} {
		rates := make([][]float64, len(servers))
		for round := range *rounds + 1 {
			for i, s := range servers {
				rate, err := s.load(clients, *window)
				if err != nil {
					return err
				}
				if round > 0 {
					rates[i] = append(rates[i], rate)
				}
			}
		}
		fmt.Fprintf(w, "%d\t%.0f\t%.0f\t%.2f\t%.0f\t%.0f\t\n", clients, median(rates[0]), median(rates[1]), ratio(rates[0], rates[1]), memory[0], memory[1])
	}
	return w.Flush()
}

const benchToken = "mk.bench"

// ourServer returns the API of a registry with a key and a mount that signs with it.
func ourServer(ctx context.Context) (*httpapi.API, func(), error) {
	st, b := memory.New(nil), software.New(nil)
	keys, err := managedkey.Open(ctx, st, []managedkey.Connection{{Backend: b}}, nil)
	if err != nil {
		return nil, nil, err
	}
	err = keys.Create(ctx, managedkey.Entry{Ref: namespace.Ref{Name: "ca"}, Backend: b, AllowGenerateKey: true,
		Params: software.Params{KeyName: "ca", KeyType: software.ECDSA, Curve: software.P256}})
	if err != nil {
		return nil, nil, err
	}
	_, err = keys.CreateMount(ctx, managedkey.MountSpec{Path: "signer", Type: "signer", Allowed: []string{"ca"}})
	if err != nil {
		return nil, nil, err
	}
	tokens, err := httpapi.NewTokens(httpapi.Token{SHA256: httpapi.HashToken(benchToken), Policies: []string{"signer"}})
	if err != nil {
		return nil, nil, err
	}
	policies, err := httpapi.NewPolicies(httpapi.Policy{Name: "signer", Rules: []httpapi.Rule{
		{Path: "signer/sign/*", Capabilities: []string{"update"}}, {Path: "signer/+/other", Capabilities: []string{"deny"}}}})
	if err != nil {
		return nil, nil, err
	}
	api, err := httpapi.New(keys, &httpapi.Options{Authenticator: tokens, Authorizer: policies,
		Limits: httpapi.Limits{ClientRate: 1e9}, Engines: map[string]httpapi.Engine{"signer": newSigningEngine}})
	if err != nil {
		return nil, nil, err
	}
	return api, func() { api.Close(); keys.Close(); st.Close(); b.Close() }, nil
}

// signingEngine signs with the key ca of its mount.
type signingEngine struct{ mount *managedkey.Mount }

func newSigningEngine(_ context.Context, m *managedkey.Mount) (httpapi.Handler, error) {
	return signingEngine{m}, nil
}

func (signingEngine) Close() error { return nil }

func (e signingEngine) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	signature, err := e.sign(r)
	if err != nil {
		httpapi.WriteError(w, r, err)
		return
	}
	httpapi.WriteData(w, r, map[string]string{"signature": base64.StdEncoding.EncodeToString(signature)})
}

func (e signingEngine) sign(r *http.Request) ([]byte, error) {
	f, err := httpapi.ReadFields(r)
	if err != nil {
		return nil, err
	}
	var input string
	f.String("input", &input)
	if err := f.Done(); err != nil {
		return nil, err
	}
	data, err := base64.StdEncoding.DecodeString(input)
	if err != nil {
		return nil, err
	}
	key, err := e.mount.Key(r.Context(), "ca")
	if err != nil {
		return nil, err
	}
	digest := sha256.Sum256(data)
	return key.SignContext(r.Context(), digest[:], crypto.SHA256)
}

// bareHandler does the same with net/http, encoding/json and crypto/ecdsa, and knows nobody.
func bareHandler() (http.Handler, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var in struct {
			Input []byte `json:"input"`
		}
		if err := json.NewDecoder(r.Body).Decode(&in); err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		digest := sha256.Sum256(in.Input)
		signature, err := key.Sign(rand.Reader, digest[:], crypto.SHA256)
		if err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
			return
		}
		w.Header().Set("Content-Type", "application/json")
		json.NewEncoder(w).Encode(map[string]any{"data": map[string]string{"signature": base64.StdEncoding.EncodeToString(signature)}})
	}), nil
}

// listening is a server that listens.
type listening struct {
	server  *http.Server
	address string
	served  chan error
}

func listen(server *http.Server) (*listening, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	s := &listening{server, l.Addr().String(), make(chan error, 1)}
	go func() { s.served <- server.Serve(l) }()
	return s, nil
}

func (s *listening) close() {
	s.server.Close()
	<-s.served
}

// client is one connection.
type client struct {
	net.Conn
	in      *bufio.Reader
	request []byte
}

func (s *listening) dial() (*client, error) {
	conn, err := net.Dial("tcp", s.address)
	if err != nil {
		return nil, err
	}
	request := fmt.Appendf(nil, "POST /v1/signer/sign/ca HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nX-Vault-Token: %s\r\nX-Vault-Request: true\r\nContent-Length: %d\r\n\r\n%s", benchToken, len(httpBody), httpBody)
	return &client{conn, bufio.NewReader(conn), request}, nil
}

// sign makes one request.
func (c *client) sign() error {
	if _, err := c.Write(c.request); err != nil {
		return err
	}
	status, err := c.in.ReadSlice('\n')
	if err != nil {
		return err
	}
	if !bytes.Contains(status, []byte(" 200 ")) {
		return fmt.Errorf("the server answers %q", status)
	}
	length := 0
	for {
		line, err := c.in.ReadSlice('\n')
		if err != nil {
			return err
		}
		if len(line) <= 2 {
			break
		}
		if value, ok := bytes.CutPrefix(line, []byte("Content-Length: ")); ok {
			if length, err = strconv.Atoi(string(bytes.TrimSpace(value))); err != nil {
				return err
			}
		}
	}
	_, err = c.in.Discard(length)
	return err
}

// load returns the requests per second of some clients.
func (s *listening) load(clients int, d time.Duration) (float64, error) {
	var running sync.WaitGroup
	counts, errs := make([]int, clients), make([]error, clients)
	start := time.Now()
	for i := range clients {
		running.Go(func() {
			c, err := s.dial()
			if err != nil {
				errs[i] = err
				return
			}
			defer c.Close()
			for time.Since(start) < d && errs[i] == nil {
				errs[i] = c.sign()
				counts[i]++
			}
		})
	}
	running.Wait()
	total := 0
	for _, n := range counts {
		total += n
	}
	return float64(total) / time.Since(start).Seconds(), errors.Join(errs...)
}

// idle returns the bytes that a connection takes that has made a request and waits for another one, both of its ends together. The
// client's is a bare connection.
func (s *listening) idle() (float64, error) {
	before := taken()
	conns := make([]io.Closer, 0, idleConnections)
	defer func() {
		for _, c := range conns {
			c.Close()
		}
	}()
	for range idleConnections {
		c, err := s.dial()
		if err != nil {
			return 0, err
		}
		conns = append(conns, c.Conn)
		if err := c.sign(); err != nil {
			return 0, err
		}
	}
	return (taken() - before) / float64(idleConnections), nil
}

// taken returns the bytes of heap and stacks that are in use.
func taken() float64 {
	heap()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return float64(m.HeapAlloc + m.StackInuse)
}
