package netcut

import (
	"io"
	"net"
	"testing"
	"time"
)

// echo starts a server that sends back what it gets.
func echo(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer conn.Close()
				io.Copy(conn, conn)
			}()
		}
	}()
	return l.Addr().String()
}

func dial(t *testing.T, p *Proxy) net.Conn {
	t.Helper()
	conn, err := net.Dial("tcp", p.Addr())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return conn
}

// ask sends a byte and waits for it to come back.
func ask(conn net.Conn, wait time.Duration) error {
	conn.SetDeadline(time.Now().Add(wait))
	if _, err := conn.Write([]byte{42}); err != nil {
		return err
	}
	_, err := io.ReadFull(conn, make([]byte, 1))
	return err
}

func TestCut(t *testing.T) {
	p := New(t, echo(t))
	conn := dial(t, p)
	if err := ask(conn, 10*time.Second); err != nil {
		t.Fatal(err)
	}
	p.Cut()
	if err := ask(conn, 10*time.Second); err == nil || timeout(err) {
		t.Errorf("a connection that was cut: %v", err)
	}
	if err := ask(dial(t, p), 10*time.Second); err == nil || timeout(err) {
		t.Errorf("a new connection while it is cut: %v", err)
	}
	p.Heal()
	if err := ask(dial(t, p), 10*time.Second); err != nil {
		t.Errorf("after Heal: %v", err)
	}
}

func timeout(err error) bool {
	e, ok := err.(net.Error)
	return ok && e.Timeout()
}

func TestFreeze(t *testing.T) {
	p := New(t, echo(t))
	conn := dial(t, p)
	if err := ask(conn, 10*time.Second); err != nil {
		t.Fatal(err)
	}
	p.Freeze()
	if err := ask(conn, 50*time.Millisecond); !timeout(err) {
		t.Errorf("a connection that is frozen: %v", err)
	}
	p.Heal()
	conn.SetDeadline(time.Now().Add(10 * time.Second))
	if _, err := io.ReadFull(conn, make([]byte, 1)); err != nil {
		t.Errorf("what was held back: %v", err)
	}
	if err := ask(conn, 10*time.Second); err != nil {
		t.Errorf("after Heal: %v", err)
	}
}

func TestEndsPassOn(t *testing.T) {
	p := New(t, echo(t))
	conn := dial(t, p)
	if err := ask(conn, 10*time.Second); err != nil {
		t.Fatal(err)
	}
	conn.(*net.TCPConn).CloseWrite()
	conn.SetDeadline(time.Now().Add(10 * time.Second))
	if _, err := conn.Read(make([]byte, 1)); err != io.EOF {
		t.Errorf("after the end of the stream: %v", err)
	}
}
