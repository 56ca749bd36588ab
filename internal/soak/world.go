//go:build linux

package main

import (
	"context"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"killfeed"
	"killfeed/storetest"
)

// world is everybody who uses the server, and what they share.
type world struct {
	config config
	oracle *oracle
	server *server
	gate   gate
	client atomic.Pointer[http.Client]
	epoch  atomic.Pointer[string]

	subscribers []*subscriber
	healthy     int                     // of them
	systems     []killfeed.Topic        // the busiest first
	asked       map[killfeed.Topic]bool // topics, beside systems, that somebody asks for; the others are not kept
	load        *load

	phases []*phase
	lately histogram // since it was last taken, what is measured

	drained  atomic.Int64 // the life of the server that was last asked to stop, so that it had the time to do it well
	badNow   atomic.Bool  // the bad subscribers are there
	napping  atomic.Int64 // stalled subscribers that do not read at the moment
	updates  atomic.Int64 // of what is asked for, that were answered
	ends     tally        // of sessions, by manner and end
	memory   memoryLog
	storms   []storm // owned by run, and so is underway
	underway bool    // everybody was there: from here on it is the server's fault when it cannot go on
}

// began is where the clock of now begins.
var began = time.Now()

// now is the time in nanoseconds since the process began. It is monotonic, and never 0.
func now() int64 { return int64(time.Since(began)) + 1 }

// isEpoch tells whether a text is the log's epoch. The first one that is told is.
func (w *world) isEpoch(text string) bool {
	if e := w.epoch.Load(); e != nil {
		return *e == text
	}
	return len(text) == 8 && (w.epoch.CompareAndSwap(nil, &text) || *w.epoch.Load() == text)
}

func (w *world) epochNow() string {
	if e := w.epoch.Load(); e != nil {
		return *e
	}
	return "none"
}

// gate lets clients at the server when there is one, and counts who has arrived. Real clients try blindly; two thousand that do
// would take the machine from the server that is starting.
type gate struct {
	healthy int64 // how many are to arrive

	mu     sync.Mutex // guards the rest
	life   int64      // of the server, from 1
	addr   string
	opened chan struct{} // closed while the gate is open
	open   bool
	count  int64         // of those who arrived in this life
	all    chan struct{} // closed when all have
}

func newGate(healthy int) gate { return gate{healthy: int64(healthy), opened: make(chan struct{})} }

// wait waits until the gate is open, and returns the server's life; false when ctx ended first.
func (g *gate) wait(ctx context.Context) (life int64, ok bool) {
	for {
		g.mu.Lock()
		opened, open, life := g.opened, g.open, g.life
		g.mu.Unlock()
		if open {
			return life, ctx.Err() == nil
		}
		select {
		case <-opened:
		case <-ctx.Done():
			return 0, false
		}
	}
}

// begin opens the gate to a new life of the server.
func (g *gate) begin(addr string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.life++
	g.addr, g.open, g.count, g.all = addr, true, 0, make(chan struct{})
	close(g.opened)
}

// close closes the gate.
func (g *gate) close() {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.open {
		g.open, g.opened = false, make(chan struct{})
	}
}

func (g *gate) address() string {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.addr
}

// arrived notes that one more is joined.
func (g *gate) arrived(life int64) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if life != g.life {
		return
	}
	if g.count++; g.count == g.healthy {
		close(g.all)
	}
}

// lifeNow is the server's life, 0 before the first.
func (g *gate) lifeNow() int64 {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.life
}

// serves tells whether the gate is open to that life of the server: it is closed before a kill.
func (g *gate) serves(life int64) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.open && g.life == life
}

// there is how many have arrived, and a channel that is closed when all have.
func (g *gate) there() (int64, <-chan struct{}) {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.count, g.all
}

// tally counts by two names.
type tally struct {
	mu     sync.Mutex // guards counts
	counts map[[2]string]int
}

func (t *tally) add(a, b string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.counts == nil {
		t.counts = map[[2]string]int{}
	}
	t.counts[[2]string{a, b}]++
}

// of returns the counts of what has the second name.
func (t *tally) of(b string) (n int) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for k, count := range t.counts {
		if k[1] == b {
			n += count
		}
	}
	return n
}

// byFirst returns the counts of what has the first name.
func (t *tally) byFirst(a string) map[string]int {
	t.mu.Lock()
	defer t.mu.Unlock()
	counts := map[string]int{}
	for k, count := range t.counts {
		if k[0] == a {
			counts[k[1]] = count
		}
	}
	return counts
}

// newWorld makes everybody; nobody has connected.
func newWorld(c config, dir string, out io.Writer) *world {
	const firstID = 1_000_000_000
	length := c.time.Seconds() + 600 // with the ways there and back
	most := int(length*(c.rate+float64(c.burst)/c.burstEvery.Seconds())) + 10*c.burst + 1000
	w := &world{
		config: c, asked: map[killfeed.Topic]bool{}, oracle: newOracle(out, firstID, most),
		server: &server{binary: c.killfeed, dir: dir, flags: c.serveFlags()},
	}
	maker := storetest.NewMaker(storetest.MakerOptions{Seed: c.seed, FirstID: firstID, Systems: systems})
	for rank := range systems {
		w.systems = append(w.systems, killfeed.System(maker.System(rank)))
	}
	for i := range max(2, int(c.time/c.phase)&^1) {
		w.phases = append(w.phases, &phase{bad: i%2 == 1, calm: i/2%2 == 1})
	}
	w.load = &load{world: w, maker: maker, rnd: rand.New(rand.NewPCG(c.seed, 2))}
	w.load.sample.Store(unmeasured)
	w.populate(rand.New(rand.NewPCG(c.seed, 3)))
	w.gate = newGate(w.healthy)
	return w
}

// newClient makes the client for requests to a new life of the server.
func (w *world) newClient() {
	d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 0, 0, 2+sources)}, Timeout: patience}
	was := w.client.Swap(&http.Client{Timeout: 30 * time.Second, Transport: &http.Transport{
		DialContext: d.DialContext, MaxIdleConnsPerHost: 256, DisableCompression: true,
	}})
	if was != nil {
		was.CloseIdleConnections()
	}
}

// silence is how long a connection may say nothing: heartbeats come every 20 s, and answers to those that are sent every 30 s.
const silence = 45 * time.Second

// look sees to heartbeats, updates and silent connections, every second until ctx ends.
func (w *world) look(ctx context.Context) {
	rnd := rand.New(rand.NewPCG(w.config.seed, 4))
	for pause(ctx, time.Second) {
		for _, s := range w.subscribers {
			if t := s.talk.Load(); t != nil {
				t.look(time.Now(), rnd, w.systems[1:])
			}
			if heard := s.heard.Load(); s.manner == healthy && heard != 0 && now()-heard > int64(silence) {
				w.oracle.violate(promiseSilence, "%s: nothing came for %v", s.name, silence)
				s.heard.Store(now())
				if c := s.conn.Load(); c != nil {
					c.Close()
				}
			}
		}
	}
}

// verify compares what everybody got with what they had to get.
func (w *world) verify(final bool) {
	through := w.oracle.through()
	for _, s := range w.subscribers {
		for _, f := range s.feeds {
			f.verify(through, final)
		}
	}
}

// missing is how many events have yet to come to how many subscribers, and the name of one of them.
func (w *world) missing(head uint64) (events, subscribers int, one string) {
	for _, s := range w.subscribers {
		n := 0
		for _, f := range s.feeds {
			n += f.missing(head)
		}
		if n > 0 {
			events, subscribers, one = events+n, subscribers+1, s.name
		}
	}
	return events, subscribers, one
}
