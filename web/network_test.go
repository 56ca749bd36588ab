package web_test

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"sync"

	"killfeed/web"
)

// network is a network in memory, which is all that works in a bubble of synctest. Its connections are net.Pipes: they hold
// nothing, so that who writes waits until the other side reads.
type network struct {
	dialed chan net.Conn
	closed chan struct{}
	close  sync.Once
}

func newNetwork() *network { return &network{dialed: make(chan net.Conn), closed: make(chan struct{})} }

func (n *network) Accept() (net.Conn, error) {
	select {
	case c := <-n.dialed:
		return c, nil
	case <-n.closed:
		return nil, net.ErrClosed
	}
}

func (n *network) Close() error {
	n.close.Do(func() { close(n.closed) })
	return nil
}

func (n *network) Addr() net.Addr { return memAddr{} }

type memAddr struct{}

func (memAddr) Network() string { return "memory" }
func (memAddr) String() string  { return "memory" }

// dial connects to whoever accepts.
func (n *network) dial(ctx context.Context) (net.Conn, error) {
	here, there := net.Pipe()
	select {
	case n.dialed <- there:
		return here, nil
	case <-n.closed:
		return nil, net.ErrClosed
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
}

// outbox is a client's end of a connection that takes what is written without waiting for the server, as a real one does. A
// client of HTTP/2 that waits for it reads nothing meanwhile, and the server may be waiting for that.
type outbox struct {
	net.Conn
	out    chan []byte
	closed chan struct{}
	close  sync.Once
}

func newOutbox(c net.Conn) *outbox {
	o := &outbox{Conn: c, out: make(chan []byte, 1024), closed: make(chan struct{})}
	go func() {
		for {
			select {
			case b := <-o.out:
				c.Write(b) // an error comes up at the next read
			case <-o.closed:
				return
			}
		}
	}()
	return o
}

func (o *outbox) Write(b []byte) (int, error) {
	select {
	case o.out <- bytes.Clone(b):
		return len(b), nil
	case <-o.closed:
		return 0, net.ErrClosed
	}
}

func (o *outbox) Close() error {
	o.close.Do(func() { close(o.closed) })
	return o.Conn.Close()
}

// host is the server's API behind a real http.Server on a network in memory, until the test ends.
type host struct {
	*server
	net    *network
	http   *http.Server
	client *http.Client // HTTP/1.1
	http2  *http.Client // HTTP/2 without TLS, by prior knowledge
	stop   func()       // shuts it down; done at the end of the test anyway
	unheld bool         // what streams tell is not held to openapi.json
}

// host serves the API. configure may change the http.Server before it serves.
func (s *server) host(configure ...func(*http.Server)) *host {
	s.t.Helper()
	h := &host{server: s, net: newNetwork(), http: web.NewServer(s.api, slog.New(slog.DiscardHandler))}
	for _, f := range configure {
		f(h.http)
	}
	ctx, stop := context.WithCancel(context.Background())
	ran := make(chan error, 1)
	go func() { ran <- s.api.Run(ctx) }()
	served := make(chan error, 1)
	go func() { served <- h.http.Serve(h.net) }()
	transport := func(p func(*http.Protocols)) *http.Client {
		protocols := new(http.Protocols)
		p(protocols)
		t := &http.Transport{Protocols: protocols, DisableCompression: true,
			DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
				c, err := h.net.dial(ctx)
				if err != nil {
					return nil, err
				}
				return newOutbox(c), nil
			}}
		return &http.Client{Transport: t}
	}
	h.stop = sync.OnceFunc(func() {
		stop()
		<-ran
		h.client.CloseIdleConnections()
		h.http2.CloseIdleConnections()
		if err := h.http.Shutdown(context.Background()); err != nil {
			s.t.Errorf("shutting down: %v", err)
		}
		if err := <-served; !errors.Is(err, http.ErrServerClosed) {
			s.t.Errorf("serving ended with %v, want ErrServerClosed", err)
		}
	})
	s.t.Cleanup(h.stop)
	h.client = transport(func(p *http.Protocols) { p.SetHTTP1(true) })
	h.http2 = transport(func(p *http.Protocols) { p.SetUnencryptedHTTP2(true) })
	return h
}
