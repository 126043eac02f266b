// Package netcut is a network that tests can cut: a proxy for TCP in this process.
package netcut

import (
	"io"
	"net"
	"sync"
	"testing"
)

// Proxy passes connections on to a server. Its methods are safe for concurrent use.
type Proxy struct {
	listener net.Listener
	target   string

	mu     sync.Mutex
	wake   *sync.Cond // when state changes
	state  state
	conns  map[net.Conn]bool
	closed bool
}

type state int

const (
	passing state = iota
	cut           // connections are closed, new ones at once
	frozen        // connections stay and nothing passes
)

// New starts a proxy for the server at target, "host:port", on a free port. It ends with the test.
func New(tb testing.TB, target string) *Proxy {
	tb.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		tb.Fatalf("netcut: %v", err)
	}
	p := &Proxy{listener: listener, target: target, conns: make(map[net.Conn]bool)}
	p.wake = sync.NewCond(&p.mu)
	go p.accept()
	tb.Cleanup(p.close)
	return p
}

// Addr returns the address of the proxy, "host:port".
func (p *Proxy) Addr() string { return p.listener.Addr().String() }

// Cut closes all connections, and new ones as they come, until [Proxy.Heal].
func (p *Proxy) Cut() { p.set(cut) }

// Freeze holds back everything that is sent in either direction until [Proxy.Heal], as a network that loses all packets
// does: nobody notices but by a timeout.
func (p *Proxy) Freeze() { p.set(frozen) }

// Heal lets everything through again, also what was held back.
func (p *Proxy) Heal() { p.set(passing) }

func (p *Proxy) set(s state) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.state = s
	if s == cut {
		p.drop()
	}
	p.wake.Broadcast()
}

// drop needs mu.
func (p *Proxy) drop() {
	for conn := range p.conns {
		conn.Close()
	}
	clear(p.conns)
}

func (p *Proxy) close() {
	p.listener.Close()
	p.mu.Lock()
	defer p.mu.Unlock()
	p.closed = true
	p.drop()
	p.wake.Broadcast()
}

func (p *Proxy) accept() {
	for {
		conn, err := p.listener.Accept()
		if err != nil {
			return
		}
		go p.serve(conn)
	}
}

// add notes a connection, unless it must be closed.
func (p *Proxy) add(conn net.Conn) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed || p.state == cut {
		return false
	}
	p.conns[conn] = true
	return true
}

// pass waits while nothing may pass.
func (p *Proxy) pass() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for p.state == frozen && !p.closed {
		p.wake.Wait()
	}
}

func (p *Proxy) remove(conn net.Conn) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.conns, conn)
	conn.Close()
}

func (p *Proxy) serve(client net.Conn) {
	if !p.add(client) {
		client.Close()
		return
	}
	defer p.remove(client)
	p.pass()
	server, err := net.Dial("tcp", p.target)
	if err != nil {
		return
	}
	if !p.add(server) {
		server.Close()
		return
	}
	defer p.remove(server)
	var wg sync.WaitGroup
	wg.Go(func() { p.copy(server, client) })
	wg.Go(func() { p.copy(client, server) })
	wg.Wait()
}

// copy passes data on until one side ends, and then ends the other.
func (p *Proxy) copy(to, from net.Conn) {
	buffer := make([]byte, 32<<10)
	for {
		n, err := from.Read(buffer)
		p.pass()
		if n > 0 {
			if _, err := to.Write(buffer[:n]); err != nil {
				break
			}
		}
		if err == io.EOF {
			if half, ok := to.(*net.TCPConn); ok {
				half.CloseWrite()
				return
			}
		}
		if err != nil {
			break
		}
	}
	to.Close()
	from.Close()
}
