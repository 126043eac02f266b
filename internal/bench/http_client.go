package main

import (
	"bufio"
	"bytes"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"runtime"
	"strconv"
	"sync"
	"time"
)

// idleConnections are open when the memory of one is measured.
var idleConnections = 2000

// httpBody is what is signed, as all servers take it, in base64.
var httpBody = []byte(`{"input":"` + base64.StdEncoding.EncodeToString(make([]byte, 256)) + `"}`)

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

// load returns the requests per second of some clients, of which each makes one at least.
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
			for counts[i] == 0 || time.Since(start) < d {
				if errs[i] = c.sign(); errs[i] != nil {
					return
				}
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
