// Package live keeps the connections that stay open: how many there may be, how fast they may come, and how they end together.
//
// # What it guarantees
//
// No more connections than Options.Max are let in, no more than Options.PerPeer from one address, and no more new ones a second
// than Options.Rate; who is refused is told when to try again, each a little differently, so that those who were refused together do not come back together.
//
// Drain lets nobody in any more and asks the connections to end, one after another over a window: a hundred within two seconds,
// any number within its limit. Clients that reconnect at once would otherwise all meet the next server in the same moment.
//
// # What callers owe
//
// Whoever was let in must call the Lease's End. Run must be running for connections to be looked after.
package live

import (
	"context"
	"math/rand/v2"
	"net/netip"
	"runtime/debug"
	"sync"
	"time"

	"golang.org/x/time/rate"
)

const (
	// spacing is how far apart connections end in a drain, as long as all of them fit into its limit.
	spacing = 15 * time.Millisecond
	// lookEvery is how often connections are looked after. There are no timers of their own: ten thousand of them that are
	// set anew at each message cost more than a walk over all connections each second.
	lookEvery = time.Second
)

// Options bound connections. Zero values are no limits.
type Options struct {
	// Max is how many there may be at a time.
	Max int
	// Rate is how many may come in a second, in the long run. After a pause up to twice as many may come at once.
	Rate int
	// PerPeer is how many there may be at a time from one peer.
	PerPeer int
	// Look, when set, is called every second before the connections are looked after. It must return at once.
	Look func(now time.Time)
}

// Conn is a connection as far as this package is concerned. Both methods must return at once.
type Conn interface {
	// Look is called every second.
	Look(now time.Time)
	// Drain asks the connection to end, in a way that makes its client come back. It is called once at most.
	Drain()
}

// Set is the connections of one server. All methods may be called concurrently.
type Set struct {
	max     int
	perPeer int
	look    func(time.Time)
	rate    *rate.Limiter // nil: no limit

	mu       sync.Mutex // guards the rest; held for a map operation or two, or a copy
	leases   map[*Lease]struct{}
	peers    map[netip.Addr]int // how many leases each has that has one; with perPeer only
	draining bool
	empty    chan struct{} // closed when nobody is left while draining
}

// New makes an empty set.
func New(o Options) *Set {
	s := &Set{max: o.Max, perPeer: o.PerPeer, look: o.Look, leases: map[*Lease]struct{}{}, peers: map[netip.Addr]int{}, empty: make(chan struct{})}
	if o.Rate > 0 {
		s.rate = rate.NewLimiter(rate.Limit(o.Rate), 2*o.Rate)
	}
	return s
}

// Refusal says why a connection was not let in.
type Refusal struct {
	// Reason is one of the constants below.
	Reason string
	// After is when to try again, in whole seconds.
	After time.Duration
}

// Reasons of a Refusal.
const (
	// Full: there are as many connections as there may be.
	Full = "full"
	// Crowded: the peer has as many as one may have.
	Crowded = "address"
	// TooFast: too many came within the last second.
	TooFast = "too_fast"
	// Draining: the server is stopping.
	Draining = "draining"
)

func (r *Refusal) Error() string { return "not let in: " + r.Reason }

// refuse makes a Refusal with a time to come back from least to most seconds.
func refuse(reason string, least, most int) *Refusal {
	return &Refusal{reason, time.Duration(least+rand.IntN(most-least+1)) * time.Second}
}

// Lease is a connection's place in the set.
type Lease struct {
	set  *Set
	peer netip.Addr
	conn Conn // guarded by set.mu; nil until Is
}

// Enter lets a peer's connection in, or says why not. Only who is let in counts for the rate. The zero peer is one that may have
// any number.
func (s *Set) Enter(peer netip.Addr) (*Lease, *Refusal) {
	counted := s.perPeer > 0 && peer.IsValid()
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.draining:
		return nil, refuse(Draining, 1, 5)
	case s.max > 0 && len(s.leases) >= s.max:
		return nil, refuse(Full, 5, 15)
	case counted && s.peers[peer] >= s.perPeer:
		return nil, refuse(Crowded, 5, 15)
	case s.rate != nil && !s.rate.Allow():
		return nil, refuse(TooFast, 1, 3)
	}
	l := &Lease{set: s}
	if counted {
		l.peer = peer
		s.peers[peer]++
	}
	s.leases[l] = struct{}{}
	return l, nil
}

// Is says what was let in; it is looked after from then on. When a drain has begun meanwhile, it is asked to end at once.
func (l *Lease) Is(c Conn) {
	l.set.mu.Lock()
	l.conn = c
	draining := l.set.draining // if not, Drain will find it
	l.set.mu.Unlock()
	if draining {
		c.Drain()
	}
}

// End gives the place back. It may be called more than once.
func (l *Lease) End() {
	s := l.set
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, there := s.leases[l]; !there {
		return
	}
	delete(s.leases, l)
	if l.peer.IsValid() {
		if s.peers[l.peer]--; s.peers[l.peer] == 0 {
			delete(s.peers, l.peer)
		}
	}
	if s.draining && len(s.leases) == 0 { // once: nobody is let in any more
		close(s.empty)
	}
}

// Len is how many connections there are.
func (s *Set) Len() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.leases)
}

// conns returns the connections, in no order. The caller holds mu.
func (s *Set) conns() []Conn {
	all := make([]Conn, 0, len(s.leases))
	for l := range s.leases {
		if l.conn != nil {
			all = append(all, l.conn)
		}
	}
	return all
}

// Run looks after the connections until ctx ends; it then returns nil. It does not end them: see Drain.
func (s *Set) Run(ctx context.Context) error {
	tick := time.NewTicker(lookEvery)
	defer tick.Stop()
	var crowd crowd
	for {
		select {
		case <-ctx.Done():
			return nil
		case now := <-tick.C:
			if s.look != nil {
				s.look(now)
			}
			s.mu.Lock()
			all := s.conns()
			s.mu.Unlock()
			for _, c := range all {
				c.Look(now)
			}
			if crowd.settled(len(all)) {
				debug.FreeOSMemory()
			}
		}
	}
}

// crowd tells when many have come or gone and it has become quiet again. What their coming has left behind, garbage and grown
// stacks, is half of what the process holds then, and in a quiet time nothing would collect it for minutes.
type crowd struct {
	last, swept int // how many there were a second ago, and at the last sweep
	quiet       int // seconds since the number changed by more than a few
}

const (
	crowdSize  = 1000
	crowdQuiet = 4 // seconds
)

func (c *crowd) settled(n int) bool {
	few := crowdSize / 50
	if diff := n - c.last; diff > few || diff < -few {
		c.quiet = 0
	} else {
		c.quiet++
	}
	c.last = n
	if diff := n - c.swept; c.quiet < crowdQuiet || diff < crowdSize && diff > -crowdSize {
		return false
	}
	c.swept = n
	return true
}

// Drain lets nobody in any more, asks all connections to end, spread over at most the given time, and returns when they have
// ended or ctx has. It returns how many had not ended. It looks after them meanwhile: Run has mostly ended by then, and a
// connection that does not get on must not hold up the end. A second Drain only waits for what the first one does.
func (s *Set) Drain(ctx context.Context, within time.Duration) int {
	ctx, cancel := context.WithCancel(ctx)
	var looking sync.WaitGroup
	looking.Go(func() { s.Run(ctx) })
	defer looking.Wait()
	defer cancel()
	s.mu.Lock()
	var conns []Conn
	if !s.draining {
		s.draining = true // in one go with the copy: whoever is not in it sees that by itself
		conns = s.conns()
	}
	left := len(s.leases)
	s.mu.Unlock()
	if left == 0 {
		return 0
	}
	space(ctx, conns, within)
	select {
	case <-s.empty:
	case <-ctx.Done():
	}
	return s.Len()
}

// space asks connections to end, one after another, or all at once when ctx ends.
func space(ctx context.Context, conns []Conn, within time.Duration) {
	rand.Shuffle(len(conns), func(i, j int) { conns[i], conns[j] = conns[j], conns[i] })
	pause := spacing
	if n := len(conns); n > 0 {
		pause = min(pause, within/time.Duration(n))
	}
	tick := time.NewTimer(0)
	defer tick.Stop()
	began := time.Now()
	for i, c := range conns {
		// Due by the clock, not one pause after the other: a timer of a millisecond fires late, and thousands would add up.
		tick.Reset(time.Until(began.Add(time.Duration(i) * pause)))
		select {
		case <-tick.C:
		case <-ctx.Done():
		}
		c.Drain()
	}
}
