// Package natstest runs NATS servers with JetStream inside a test's process: one, or a cluster. They listen on loopback only, on free
// ports, keep their files in temporary directories, and sync every write, as servers of a feed must.
//
// Servers can be stopped and started again one by one, as servers are: with the same ports and files.
package natstest

import (
	"fmt"
	"net"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
)

// patience is how long a server may take for anything. A busy machine elects slowly.
const patience = 60 * time.Second

// Cluster is one or several servers. Its methods may be called by any goroutine of the test.
type Cluster struct {
	t   testing.TB
	dir string

	mu      sync.Mutex
	servers []*server.Server // nil where stopped
	ports   []ports
}

// ports of a server, 0 until its first start.
type ports struct{ client, route int }

// Start starts that many servers, waits until they have elected a leader, and stops them at the end of the test.
func Start(t testing.TB, servers int) *Cluster {
	t.Helper()
	c := &Cluster{t: t, dir: t.TempDir(), servers: make([]*server.Server, servers), ports: make([]ports, servers)}
	t.Cleanup(c.shutdown)
	// All ports are needed before the first start, as each server is told of the others. They are kept open until all are known, so
	// that they differ.
	var held []net.Listener
	for i := range c.ports {
		for _, p := range []*int{&c.ports[i].client, &c.ports[i].route} {
			l, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			held = append(held, l)
			*p = l.Addr().(*net.TCPAddr).Port
		}
	}
	for _, l := range held {
		l.Close()
	}
	for i := range c.servers {
		c.start(i)
	}
	for i := range c.servers {
		c.ready(i)
	}
	c.elected()
	return c
}

// Len is how many servers there are, running or not.
func (c *Cluster) Len() int { return len(c.servers) }

// URLs are those of all servers, as a client takes them.
func (c *Cluster) URLs() string {
	urls := make([]string, c.Len())
	for i := range urls {
		urls[i] = c.URL(i)
	}
	return strings.Join(urls, ",")
}

// URL is that of server i.
func (c *Cluster) URL(i int) string { return fmt.Sprintf("nats://127.0.0.1:%d", c.ports[i].client) }

// Conn makes a connection to the servers, which reconnects without end, and closes it at the end of the test.
func (c *Cluster) Conn(t testing.TB) *nats.Conn {
	t.Helper()
	return Dial(t, c.URLs())
}

// Dial is Conn to any address.
func Dial(t testing.TB, urls string) *nats.Conn {
	t.Helper()
	return dial(t, urls)
}

// DialOnly is Dial that never turns to the other servers of the cluster, which servers tell their clients of.
func DialOnly(t testing.TB, url string) *nats.Conn {
	t.Helper()
	return dial(t, url, nats.IgnoreDiscoveredServers())
}

func dial(t testing.TB, urls string, more ...nats.Option) *nats.Conn {
	t.Helper()
	nc, err := nats.Connect(urls, append(more, nats.MaxReconnects(-1), nats.ReconnectWait(50*time.Millisecond), nats.ReconnectJitter(0, 0),
		nats.Timeout(patience/6), nats.PingInterval(2*time.Second))...)
	if err != nil {
		t.Fatalf("connecting to %s: %v", urls, err)
	}
	t.Cleanup(nc.Close)
	return nc
}

// Stop ends server i and waits for its end.
func (c *Cluster) Stop(i int) {
	c.mu.Lock()
	s := c.servers[i]
	c.servers[i] = nil
	c.mu.Unlock()
	if s != nil {
		s.Shutdown()
		s.WaitForShutdown()
	}
}

// Restart starts server i again, which was stopped. It does not wait for the others.
func (c *Cluster) Restart(i int) {
	c.t.Helper()
	c.start(i)
	c.ready(i)
}

// Leader is the server that leads the stream, after waiting for one.
func (c *Cluster) Leader(stream string) int {
	c.t.Helper()
	leader := -1
	c.wait("a leader of stream "+stream, func() bool {
		for i, s := range c.running() {
			if s != nil && s.JetStreamIsStreamLeader(server.DEFAULT_GLOBAL_ACCOUNT, stream) {
				leader = i
			}
		}
		return leader >= 0
	})
	return leader
}

// Stepdown has the stream's leader hand over to another server.
func (c *Cluster) Stepdown(stream string) {
	c.t.Helper()
	s := c.running()[c.Leader(stream)]
	if err := s.JetStreamStepdownStream(server.DEFAULT_GLOBAL_ACCOUNT, stream); err != nil {
		c.t.Fatalf("having server %s step down: %v", s.Name(), err)
	}
}

func (c *Cluster) running() []*server.Server {
	c.mu.Lock()
	defer c.mu.Unlock()
	return append([]*server.Server(nil), c.servers...)
}

func (c *Cluster) start(i int) {
	c.t.Helper()
	o := &server.Options{
		ServerName: fmt.Sprintf("n%d", i+1), Host: "127.0.0.1", Port: c.ports[i].client, NoLog: true, NoSigs: true,
		JetStream: true, StoreDir: filepath.Join(c.dir, fmt.Sprintf("n%d", i+1)), SyncAlways: true,
		JetStreamMaxMemory: 64 << 20, JetStreamMaxStore: 1 << 30, MaxPayload: 8 << 20, MaxPending: 64 << 20,
		DisableShortFirstPing: true, LameDuckGracePeriod: time.Millisecond,
	}
	if c.Len() > 1 {
		o.Cluster = server.ClusterOpts{Name: "killfeed-test", Host: "127.0.0.1", Port: c.ports[i].route, PoolSize: 1}
		var routes []string
		for j, p := range c.ports {
			if j != i {
				routes = append(routes, fmt.Sprintf("nats://127.0.0.1:%d", p.route))
			}
		}
		o.Routes = server.RoutesFromStr(strings.Join(routes, ","))
	}
	s, err := server.NewServer(o)
	if err != nil {
		c.t.Fatalf("making server %d: %v", i+1, err)
	}
	go s.Start() // it returns when the listeners are open; Shutdown ends all that it began
	c.mu.Lock()
	c.servers[i] = s
	c.mu.Unlock()
}

func (c *Cluster) ready(i int) {
	c.t.Helper()
	s := c.running()[i]
	if !s.ReadyForConnections(patience) {
		c.t.Fatalf("server %d does not take connections; is its port in use?", i+1)
	}
}

// elected waits until one of the servers leads all of them, and knows them.
func (c *Cluster) elected() {
	c.t.Helper()
	c.wait("a leader of the servers", func() bool {
		for _, s := range c.running() {
			if s != nil && s.JetStreamEnabled() && (c.Len() == 1 || s.JetStreamIsLeader() && len(s.JetStreamClusterPeers()) == c.Len()) {
				return true
			}
		}
		return false
	})
}

// wait asks until it is true: servers tell nobody.
func (c *Cluster) wait(what string, is func() bool) {
	c.t.Helper()
	deadline := time.NewTimer(patience)
	defer deadline.Stop()
	poll := time.NewTicker(10 * time.Millisecond)
	defer poll.Stop()
	for !is() {
		select {
		case <-poll.C:
		case <-deadline.C:
			c.t.Fatalf("waited %v for %s", patience, what)
		}
	}
}

func (c *Cluster) shutdown() {
	var all sync.WaitGroup
	for i := range c.servers {
		all.Go(func() { c.Stop(i) })
	}
	all.Wait()
}
