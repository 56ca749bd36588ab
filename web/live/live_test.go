package live_test

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"killfeed/web/live"
)

// conn is a connection that ends some time after it was asked to.
type conn struct {
	lease  *live.Lease
	linger time.Duration // negative: it never ends

	mu      sync.Mutex // guards the rest
	drained []time.Time
	looks   []time.Time
}

func (c *conn) Look(now time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.looks = append(c.looks, now)
}

func (c *conn) Drain() {
	c.mu.Lock()
	c.drained = append(c.drained, time.Now())
	c.mu.Unlock()
	switch {
	case c.linger == 0:
		c.lease.End()
	case c.linger > 0:
		time.AfterFunc(c.linger, c.lease.End)
	}
}

// enter lets a connection in.
func enter(t *testing.T, s *live.Set, linger time.Duration) *conn {
	t.Helper()
	lease, refusal := s.Enter(netip.Addr{})
	if refusal != nil {
		t.Fatal(refusal)
	}
	c := &conn{lease: lease, linger: linger}
	lease.Is(c)
	return c
}

func many(t *testing.T, s *live.Set, n int, linger time.Duration) (all []*conn) {
	t.Helper()
	for range n {
		all = append(all, enter(t, s, linger))
	}
	return all
}

// TestMax: there are never more than there may be, and a place that is given back can be taken at once, once.
func TestMax(t *testing.T) {
	s := live.New(live.Options{Max: 3})
	all := many(t, s, 3, 0)
	for range 5 {
		if _, refusal := s.Enter(netip.Addr{}); refusal == nil || refusal.Reason != live.Full {
			t.Fatalf("the fourth is answered %v, want that it is full", refusal)
		}
	}
	for range 3 { // giving a place back again gives back nothing
		all[1].lease.End()
		if n := s.Len(); n != 2 {
			t.Fatalf("there are %d, want 2", n)
		}
	}
	all[1] = enter(t, s, 0)
	if _, refusal := s.Enter(netip.Addr{}); refusal == nil {
		t.Error("a place was given back twice")
	}
	for _, c := range all {
		c.lease.End()
	}
	if n := s.Len(); n != 0 {
		t.Errorf("%d are left", n)
	}

	none := live.New(live.Options{})
	many(t, none, 1000, 0)
}

// TestMaxAtOnce: many come and go at once.
func TestMaxAtOnce(t *testing.T) {
	const most = 10
	s := live.New(live.Options{Max: most})
	var all sync.WaitGroup
	for range 8 {
		all.Go(func() {
			for range 2000 {
				if n := s.Len(); n > most {
					t.Errorf("there are %d", n)
				}
				if lease, _ := s.Enter(netip.Addr{}); lease != nil {
					lease.Is(&conn{lease: lease})
					lease.End()
					lease.End()
				}
			}
		})
	}
	all.Wait()
	if n := s.Len(); n != 0 {
		t.Errorf("%d are left", n)
	}
	many(t, s, most, 0)
}

// TestRate: in the long run no more come than may, and twice as many at once after a pause. Who is refused takes nothing away
// from others.
func TestRate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := live.New(live.Options{Rate: 10, Max: 1000})
		let := func() (n int) {
			for range 100 {
				if lease, refusal := s.Enter(netip.Addr{}); lease != nil {
					n++
				} else if refusal.Reason != live.TooFast {
					t.Fatal(refusal)
				}
			}
			return n
		}
		if n := let(); n != 20 {
			t.Errorf("%d came at once, want 20", n)
		}
		total := 0
		for range 100 {
			time.Sleep(100 * time.Millisecond)
			total += let()
		}
		if total != 100 {
			t.Errorf("%d came within ten seconds, want 100", total)
		}
		time.Sleep(time.Hour)
		if n := let(); n != 20 {
			t.Errorf("%d came at once after an hour, want 20", n)
		}
	})
}

// TestRefusals: those who were refused together come back at different times, all of them within bounds.
func TestRefusals(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		full := live.New(live.Options{Max: 1})
		full.Enter(netip.Addr{})
		fast := live.New(live.Options{Rate: 1})
		fast.Enter(netip.Addr{})
		fast.Enter(netip.Addr{})
		draining := live.New(live.Options{})
		draining.Drain(t.Context(), 0)
		for _, c := range []struct {
			set         *live.Set
			reason      string
			least, most int
		}{{full, live.Full, 5, 15}, {fast, live.TooFast, 1, 3}, {draining, live.Draining, 1, 5}} {
			seen := map[time.Duration]bool{}
			for range 1000 {
				lease, refusal := c.set.Enter(netip.Addr{})
				if lease != nil || refusal.Reason != c.reason {
					t.Fatalf("%v, %v; want a refusal: %s", lease, refusal, c.reason)
				}
				seen[refusal.After] = true
			}
			for s := c.least; s <= c.most; s++ {
				if after := time.Duration(s) * time.Second; !seen[after] {
					t.Errorf("%s: nobody of a thousand is to come back after %v", c.reason, after)
				} else {
					delete(seen, after)
				}
			}
			if len(seen) != 0 {
				t.Errorf("%s: some are to come back after %v", c.reason, seen)
			}
		}
	})
}

// TestRun looks after each connection once a second, from Is until End.
func TestRun(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := live.New(live.Options{})
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error)
		go func() { ended <- s.Run(ctx) }()
		a := enter(t, s, 0)
		lease, _ := s.Enter(netip.Addr{}) // not a connection yet
		time.Sleep(2500 * time.Millisecond)
		b := &conn{lease: lease}
		lease.Is(b)
		time.Sleep(2 * time.Second)
		a.lease.End()
		time.Sleep(2 * time.Second)
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
		time.Sleep(2 * time.Second)
		if len(a.looks) != 4 || len(b.looks) != 4 {
			t.Errorf("they were looked after %d and %d times, want 4 and 4", len(a.looks), len(b.looks))
		}
		for i := 1; i < len(a.looks); i++ {
			if d := a.looks[i].Sub(a.looks[i-1]); d != time.Second {
				t.Errorf("look %d came after %v", i, d)
			}
		}
	})
}

// TestDrain: connections end one after another, a hundred within two seconds, any number within the limit; each is asked once.
func TestDrain(t *testing.T) {
	for _, c := range []struct {
		n      int
		within time.Duration
		most   time.Duration
	}{
		{0, 30 * time.Second, 0},
		{1, 30 * time.Second, 0},
		{2, 30 * time.Second, 100 * time.Millisecond},
		{100, 30 * time.Second, 2 * time.Second},
		{100, time.Second, time.Second},
		{1000, 30 * time.Second, 15 * time.Second},
		{10_000, 30 * time.Second, 30 * time.Second},
		{10_000, time.Second, time.Second},
		{1000, 0, 0},
	} {
		t.Run(fmt.Sprintf("%d within %v", c.n, c.within), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := live.New(live.Options{})
				all := many(t, s, c.n, 0)
				begun := time.Now()
				if left := s.Drain(t.Context(), c.within); left != 0 {
					t.Errorf("%d were left", left)
				}
				took := time.Since(begun)
				if took > c.most || took > c.within {
					t.Errorf("it took %v, want at most %v", took, c.most)
				}
				var times []time.Duration
				for _, one := range all {
					if len(one.drained) != 1 {
						t.Fatalf("a connection was asked %d times", len(one.drained))
					}
					times = append(times, one.drained[0].Sub(begun))
				}
				if c.n < 100 || c.within == 0 {
					return
				}
				slices.Sort(times)
				// No tenth of them ends in less than half a tenth of the time.
				for i := 0; i+c.n/10 < c.n; i++ {
					if d := times[i+c.n/10] - times[i]; d < took/20 {
						t.Fatalf("connections %d to %d ended within %v of %v", i, i+c.n/10, d, took)
					}
				}
			})
		})
	}
}

// TestDrainOrder is not that of coming: nobody's clients are always the first.
func TestDrainOrder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := live.New(live.Options{})
		all := many(t, s, 100, 0)
		s.Drain(t.Context(), time.Minute)
		if slices.IsSortedFunc(all, func(a, b *conn) int { return a.drained[0].Compare(b.drained[0]) }) {
			t.Error("they were asked in the order in which they came")
		}
	})
}

// TestDrainWaits for those that take their time, and only as long as its context lets it; it looks after them meanwhile.
func TestDrainWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := live.New(live.Options{})
		many(t, s, 10, 3*time.Second)
		slowest := enter(t, s, 7*time.Second)
		begun := time.Now()
		if left := s.Drain(t.Context(), 0); left != 0 || time.Since(begun) != 7*time.Second {
			t.Errorf("%d were left after %v, want none after 7s", left, time.Since(begun))
		}
		if n := len(slowest.looks); n < 6 || n > 7 {
			t.Errorf("it was looked after %d times", n)
		}
	})
	synctest.Test(t, func(t *testing.T) {
		s := live.New(live.Options{})
		many(t, s, 10, 0)
		many(t, s, 2, -1)
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
		defer cancel()
		begun := time.Now()
		if left := s.Drain(ctx, time.Second); left != 2 || time.Since(begun) != 5*time.Second {
			t.Errorf("%d were left after %v, want 2 after 5s", left, time.Since(begun))
		}
	})
	// When the context ends within the window, those whose turn has not come are asked at once.
	synctest.Test(t, func(t *testing.T) {
		s := live.New(live.Options{})
		all := many(t, s, 100, -1)
		ctx, cancel := context.WithTimeout(t.Context(), 500*time.Millisecond)
		defer cancel()
		begun := time.Now()
		if left := s.Drain(ctx, time.Minute); left != 100 || time.Since(begun) != 500*time.Millisecond {
			t.Errorf("%d were left after %v, want 100 after 500ms", left, time.Since(begun))
		}
		for _, c := range all {
			if len(c.drained) != 1 || c.drained[0].Sub(begun) > 500*time.Millisecond {
				t.Fatalf("a connection was asked at %v", c.drained)
			}
		}
	})
}

// TestDrainAmongOthers: connections that come, go, and become one while a drain begins are each asked once at most, those that
// stay exactly once, and none is let in once it has begun.
func TestDrainAmongOthers(t *testing.T) {
	for range 200 {
		s := live.New(live.Options{})
		var (
			mu    sync.Mutex
			stay  []*conn
			begun = make(chan struct{})
			all   sync.WaitGroup
		)
		for i := range 4 {
			all.Go(func() {
				<-begun
				for j := range 50 {
					lease, refusal := s.Enter(netip.Addr{})
					if refusal != nil {
						if refusal.Reason != live.Draining {
							t.Error(refusal)
						}
						continue
					}
					c := &conn{lease: lease}
					lease.Is(c)
					if (i+j)%2 == 0 {
						lease.End()
						continue
					}
					mu.Lock()
					stay = append(stay, c)
					mu.Unlock()
				}
			})
		}
		for range 2 { // a second Drain waits for the first
			all.Go(func() {
				<-begun
				if left := s.Drain(context.Background(), 0); left != 0 {
					t.Errorf("%d were left", left)
				}
				if _, refusal := s.Enter(netip.Addr{}); refusal == nil {
					t.Error("somebody was let in behind a drain")
				}
			})
		}
		close(begun)
		all.Wait()
		for _, c := range stay {
			if len(c.drained) != 1 {
				t.Fatalf("a connection was asked %d times", len(c.drained))
			}
		}
		if n := s.Len(); n != 0 {
			t.Fatalf("%d are left", n)
		}
	}
}

// TestPerPeer: one address has no more than its share, whatever the others have, and gets back what it gives back; who has no
// address has no limit of that kind.
func TestPerPeer(t *testing.T) {
	s := live.New(live.Options{PerPeer: 2})
	one, other := netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("192.0.2.2")
	let := func(peer netip.Addr) *live.Lease {
		t.Helper()
		l, refusal := s.Enter(peer)
		if refusal != nil {
			t.Fatalf("%v: %v", peer, refusal)
		}
		return l
	}
	refused := func(peer netip.Addr) {
		t.Helper()
		if _, refusal := s.Enter(peer); refusal == nil || refusal.Reason != live.Crowded || refusal.After < 5*time.Second {
			t.Fatalf("%v: %v, want a refusal for 5 s at least", peer, refusal)
		}
	}
	first := let(one)
	let(one)
	refused(one)
	let(other)
	for range 5 {
		let(netip.Addr{})
	}
	first.End()
	first.End() // twice gives back once
	let(one)
	refused(one)
	if s.Len() != 8 {
		t.Errorf("%d connections, want 8", s.Len())
	}
}
