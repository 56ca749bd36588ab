package natstest

import (
	"net"
	"net/url"
	"sync"
	"sync/atomic"
	"testing"
)

// Proxy stands between clients and one server, and loses what a network can lose. Its methods may be called by any goroutine.
type Proxy struct {
	target   string
	listener net.Listener
	running  sync.WaitGroup
	// lose has what is on its way dropped, from here on: requests to the server, replies of it.
	loseRequests, loseReplies atomic.Bool

	mu    sync.Mutex
	conns map[net.Conn]bool
	done  bool
}

// NewProxy makes a proxy of the server at target, which is a URL, until the end of the test.
func NewProxy(t testing.TB, target string) *Proxy {
	t.Helper()
	u, err := url.Parse(target)
	if err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := &Proxy{target: u.Host, listener: l, conns: map[net.Conn]bool{}}
	p.running.Go(p.accept)
	t.Cleanup(func() {
		p.mu.Lock()
		p.done = true
		p.mu.Unlock()
		l.Close()
		p.cut()
		p.running.Wait()
	})
	return p
}

// URL is where clients connect to.
func (p *Proxy) URL() string { return "nats://" + p.listener.Addr().String() }

// LoseRequests has nothing arrive at the server any more, until Cut.
func (p *Proxy) LoseRequests() { p.loseRequests.Store(true) }

// LoseReplies has nothing arrive from the server any more, until Cut.
func (p *Proxy) LoseReplies() { p.loseReplies.Store(true) }

// Cut ends all connections, and loses nothing on those that come after it.
func (p *Proxy) Cut() {
	p.cut()
	p.loseRequests.Store(false)
	p.loseReplies.Store(false)
}

// cut ends all connections.
func (p *Proxy) cut() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for c := range p.conns {
		c.Close()
		delete(p.conns, c)
	}
}

func (p *Proxy) accept() {
	for {
		client, err := p.listener.Accept()
		if err != nil {
			return
		}
		server, err := net.Dial("tcp", p.target)
		if err != nil {
			client.Close()
			continue
		}
		p.mu.Lock()
		if p.done {
			client.Close()
			server.Close()
			p.mu.Unlock()
			continue
		}
		p.conns[client], p.conns[server] = true, true
		p.mu.Unlock()
		p.running.Go(func() { p.pass(server, client, &p.loseRequests) })
		p.running.Go(func() { p.pass(client, server, &p.loseReplies) })
	}
}

func (p *Proxy) pass(to, from net.Conn, lose *atomic.Bool) {
	defer to.Close()
	buf := make([]byte, 64<<10)
	lost := false // a connection that has lost something loses all that follows
	for {
		n, err := from.Read(buf)
		if lost = lost || lose.Load(); !lost {
			if _, err := to.Write(buf[:n]); err != nil {
				return
			}
		}
		if err != nil {
			return
		}
	}
}
