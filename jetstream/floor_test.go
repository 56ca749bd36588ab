package jetstream

import (
	"context"
	"errors"
	"testing"

	"github.com/nats-io/nats.go/jetstream"
	"golang.org/x/sync/errgroup"

	"killfeed"
)

// TestFloor: the servers remove what the leader has all nodes remove, and no event that a live node has not got; never the last one.
func TestFloor(t *testing.T) {
	f := newFeed(t, 1)
	nc := f.Conn(t)
	js := sure(jetstream.New(nc))
	for range 100 {
		sure(js.Publish(t.Context(), "killfeed.events.1", []byte("{}")))
	}
	first := func() uint64 { return sure(js.Stream(t.Context(), "killfeed")).CachedInfo().State.FirstSeq }

	a := f.startNode("a", "1", 100, lively)
	b := f.startNode("b", "2", 40, lively)
	until(t, "all know of all", func() bool { is, ok := a.applied(); return ok && is == 40 })
	o := f.options().filled()
	o.Timing = lively
	start := func(n *peerNode, process string) (*floor, *lease, func()) {
		shared := f.newTestBucket(f.Conn(t))
		l := newLease(shared, o, process)
		fl := newFloor(shared.js, shared, o, l, n.nodes, func() {})
		ctx, cancel := context.WithCancel(context.Background())
		var g errgroup.Group
		g.Go(func() error { return l.run(ctx) })
		g.Go(func() error { return fl.run(ctx) })
		stop := func() {
			cancel()
			if err := g.Wait(); err != nil {
				t.Error(err)
			}
		}
		t.Cleanup(stop)
		return fl, l, stop
	}
	fa, la, stopA := start(a, "1")
	until(t, "it leads", func() bool { return la.term() != 0 })
	fb, lb, _ := start(b, "2")
	if err := fb.set(t.Context(), 90, lb.term()); !errors.Is(err, killfeed.ErrNotLeader) {
		t.Fatalf("a node that does not lead removes: %v", err)
	}
	term := la.term()
	if err := fa.set(t.Context(), 90, term); err != nil {
		t.Fatal(err)
	}
	until(t, "the other node is told", func() bool { return fb.through() == 90 })
	until(t, "what both have is removed", func() bool { return first() == 41 })
	for _, head := range []uint64{41, 60, 80} {
		b.head.Store(head)
		until(t, "what both have is removed", func() bool {
			is := first()
			if is > head+1 {
				t.Fatalf("event %d was removed, and node b is at event %d", is-1, head)
			}
			return is == head+1
		})
	}
	b.stop() // for good: it is waited for no more
	until(t, "the rest is removed", func() bool { return first() == 91 })
	if err := fa.set(t.Context(), 50, term); err != nil || fa.through() != 90 {
		t.Fatalf("the floor was lowered to %d: %v", fa.through(), err)
	}
	if err := fa.set(t.Context(), 100, term); err != nil {
		t.Fatal(err)
	}
	until(t, "all but the last event is removed", func() bool { return first() == 100 })
	// Another node leads, and sets the floor; the first one's word does not count any more.
	stopA()
	la.giveUp(t.Context())
	until(t, "the other node leads", func() bool { return lb.term() > term })
	if err := fb.set(t.Context(), 101, lb.term()); err != nil {
		t.Fatal(err)
	}
	if err := fa.set(t.Context(), 200, term); !errors.Is(err, killfeed.ErrNotLeader) {
		t.Errorf("a leader of old removes: %v", err)
	}
	if is := first(); is != 100 {
		t.Errorf("the stream begins with event %d, want 100, its last", is)
	}
}

// TestSweep: marks of deletions go when they were there at two sweeps, and nothing that was written since goes with them.
func TestSweep(t *testing.T) {
	f := newFeed(t, 1)
	m := f.member(f.Conn(t))
	for _, name := range []string{"kept", "gone", "made again", "gone again"} {
		m.must(offsets(name, 1))
	}
	gone := func(names ...string) { m.must(&killfeed.Batch{Gone: names}) }
	gone("gone", "made again", "gone again")
	fl := newFloor(m.b.js, m.b, f.options().filled(), nil, nil, func() {})
	sweep := func() {
		t.Helper()
		if err := fl.sweepOnce(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	last := func(name string) revision { return sure(m.b.last(t.Context(), keyOf(keyClient, name))) }
	sweep()
	m.must(offsets("made again", 2))
	m.must(offsets("gone again", 2))
	gone("gone again")
	sweep()
	if e := last("gone"); e.rev != 0 {
		t.Errorf("the mark of a deletion outlives two sweeps: %+v", e)
	}
	if e := last("gone again"); e.rev == 0 {
		t.Error("a new mark went with the first sweep")
	}
	if got := f.truth(); len(got) != 2 || got["made again"].Offsets[sys[0]] != 2 || got["kept"].Offsets[sys[0]] != 1 {
		t.Errorf("the servers have %v", got)
	}
	sweep()
	if e := last("gone again"); e.rev != 0 {
		t.Errorf("the mark of a deletion outlives two sweeps: %+v", e)
	}
}
