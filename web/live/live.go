// Package live keeps the connections that stay open: how many there may be, how fast they may come, and how they end together.
//
// # What it guarantees
//
// No more connections than Options.Max are let in, and no more new ones a second than Options.Rate; who is refused is told when
// to try again, each a little differently, so that those who were refused together do not come back together.
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
	"sync"
	"sync/atomic"
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
}

// Conn is a connection as far as this package is concerned. Both methods must return at once.
type Conn interface {
	// Look is called every second.
	Look(now time.Time)
	// Drain asks the connection to end, in a way that makes its client come back.
	Drain()
}

// Set is the connections of one server. All methods may be called concurrently.
type Set struct {
	max  int
	rate *rate.Limiter // nil: no limit

	count    atomic.Int64
	draining chan struct{} // closed when Drain begins
	drain    sync.Once

	mu    sync.Mutex // guards the rest; held for one map operation or a copy
	conns map[*Lease]struct{}
	empty chan struct{} // closed when nobody is left while draining
}

// New makes an empty set.
func New(o Options) *Set {
	s := &Set{max: o.Max, draining: make(chan struct{}), conns: map[*Lease]struct{}{}, empty: make(chan struct{})}
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
	conn Conn // guarded by set.mu; nil until Is
	end  sync.Once
}

// Enter lets a connection in, or says why not.
func (s *Set) Enter() (*Lease, *Refusal) {
	select {
	case <-s.draining:
		return nil, refuse(Draining, 1, 5)
	default:
	}
	if n := s.count.Add(1); s.max > 0 && n > int64(s.max) {
		s.count.Add(-1)
		return nil, refuse(Full, 5, 15)
	}
	if s.rate != nil && !s.rate.Allow() {
		s.count.Add(-1)
		return nil, refuse(TooFast, 1, 3)
	}
	l := &Lease{set: s}
	s.mu.Lock()
	s.conns[l] = struct{}{}
	s.mu.Unlock()
	return l, nil
}

// Is says what was let in; it is looked after from then on. When a drain has begun meanwhile, it is asked to end at once.
func (l *Lease) Is(c Conn) {
	l.set.mu.Lock()
	l.conn = c
	l.set.mu.Unlock()
	select {
	case <-l.set.draining:
		c.Drain()
	default:
	}
}

// End gives the place back. It may be called more than once.
func (l *Lease) End() {
	l.end.Do(func() {
		s := l.set
		s.mu.Lock()
		delete(s.conns, l)
		left := len(s.conns)
		s.mu.Unlock()
		s.count.Add(-1)
		select {
		case <-s.draining:
			if left == 0 {
				s.mu.Lock()
				select {
				case <-s.empty:
				default:
					close(s.empty)
				}
				s.mu.Unlock()
			}
		default:
		}
	})
}

// Len is how many connections there are.
func (s *Set) Len() int { return int(s.count.Load()) }

// all returns the connections, in no order.
func (s *Set) all() []Conn {
	s.mu.Lock()
	defer s.mu.Unlock()
	conns := make([]Conn, 0, len(s.conns))
	for l := range s.conns {
		if l.conn != nil {
			conns = append(conns, l.conn)
		}
	}
	return conns
}

// Run looks after the connections until ctx ends; it then returns nil. It does not end them: see Drain.
func (s *Set) Run(ctx context.Context) error {
	tick := time.NewTicker(lookEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case now := <-tick.C:
			for _, c := range s.all() {
				c.Look(now)
			}
		}
	}
}

// Drain lets nobody in any more, asks all connections to end, spread over at most the given time, and returns when they have
// ended or ctx has. It returns how many had not ended.
func (s *Set) Drain(ctx context.Context, within time.Duration) int {
	s.drain.Do(func() { close(s.draining) })
	conns := s.all()
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
			for _, c := range conns[i:] {
				c.Drain()
			}
			return s.Len()
		}
		c.Drain()
	}
	s.mu.Lock()
	left := len(s.conns)
	s.mu.Unlock()
	if left > 0 {
		select {
		case <-s.empty:
		case <-ctx.Done():
		}
	}
	return s.Len()
}
