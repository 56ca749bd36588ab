package jetstream

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"killfeed"
	"killfeed/internal/natstest"
)

// newTestBucket is the feed's bucket, over nc.
func (f *feed) newTestBucket(nc *nats.Conn) *bucket {
	f.t.Helper()
	o := f.options().filled()
	js, err := jetstream.New(nc, jetstream.WithDefaultTimeout(o.Timing.Try))
	if err != nil {
		f.t.Fatal(err)
	}
	return newBucket(js, o)
}

// member is a node's clients, with what its feed knows of them. Its methods are called by one goroutine, as the writer's.
type member struct {
	*clients
	t     testing.TB
	told  chan struct{} // cap 1: there are news
	known map[string]killfeed.SharedClient
	stop  func() // ends the watch
}

// member makes one that does not watch yet.
func (f *feed) member(nc *nats.Conn) *member {
	f.t.Helper()
	m := &member{t: f.t, told: make(chan struct{}, 1), known: map[string]killfeed.SharedClient{}}
	m.clients = newClients(f.newTestBucket(nc), func() killfeed.EventID { return 0 }, func() {
		select {
		case m.told <- struct{}{}:
		default:
		}
	})
	err := persist(f.t.Context(), func() error {
		return m.load(f.t.Context(), func(c killfeed.SharedClient) bool {
			m.known[c.Client] = c
			return true
		})
	})
	if err != nil {
		f.t.Fatal(err)
	}
	return m
}

// watch watches until stop or the test's end.
func (m *member) watch() *member {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- m.run(ctx) }()
	stopped := false
	m.stop = func() {
		if cancel(); !stopped {
			stopped = true
			if err := <-done; err != nil {
				m.t.Errorf("the watch ended with %v", err)
			}
		}
	}
	m.t.Cleanup(m.stop)
	return m
}

func (m *member) learn(list []killfeed.SharedClient) {
	for _, c := range list {
		if c.Gone {
			delete(m.known, c.Client)
		} else {
			m.known[c.Client] = c
		}
	}
}

// take takes all news.
func (m *member) take() {
	for more := true; more; {
		var list []killfeed.SharedClient
		list, more = m.news(7)
		m.learn(list)
	}
}

// try has the nodes agree on b, and takes into known what counts. It returns the clients that were moved.
func (m *member) try(ctx context.Context, b *killfeed.Batch) ([]string, error) {
	moved, err := m.agree(ctx, b)
	if err != nil {
		return nil, err
	}
	m.learn(moved)
	var names []string
	for _, c := range moved {
		names = append(names, c.Client)
	}
	for _, ch := range changesOf(b) {
		if slices.Contains(names, ch.name) {
			continue
		}
		base := cached{rev: 1, gone: true}
		if c, ok := m.known[ch.name]; ok {
			base.gone = false
			base.record = record{
				Created: c.Created.UnixMilli(), Seen: c.At.UnixMilli(), Moves: c.Moves, Holder: c.Holder, Offsets: map[string]killfeed.EventID{},
			}
			for topic, at := range c.Offsets {
				base.Offsets[topic.String()] = at
			}
		}
		next, changed := ch.apply(base, 0)
		if !changed {
			continue
		}
		if next.rev = 1; next.gone {
			delete(m.known, ch.name)
		} else {
			m.known[ch.name] = next.shared(ch.name)
		}
	}
	slices.Sort(names)
	return names, nil
}

func (m *member) must(b *killfeed.Batch) []string {
	m.t.Helper()
	moved, err := m.try(m.t.Context(), b)
	if err != nil {
		m.t.Fatal(err)
	}
	return moved
}

// until takes news until it is so.
func (m *member) until(what string, is func() bool) {
	m.t.Helper()
	deadline := time.NewTimer(patience)
	defer deadline.Stop()
	for m.take(); !is(); m.take() {
		select {
		case <-m.told:
		case <-deadline.C:
			m.t.Fatalf("waited %v until %s; known are %v", patience, what, m.known)
		}
	}
}

// consistent demands that the cache is what the feed knows.
func (m *member) consistent() error {
	m.mu.Lock()
	defer m.mu.Unlock()
	got := map[string]killfeed.SharedClient{}
	for name, k := range m.cache {
		if s := k.shared(name); !s.Gone {
			got[name] = s
		}
	}
	if d := cmp.Diff(m.known, got); d != "" {
		return fmt.Errorf("the cache is not what the feed knows:\n%s", d)
	}
	return nil
}

// truth reads all clients from the servers.
func (f *feed) truth() map[string]killfeed.SharedClient {
	f.t.Helper()
	return f.member(f.Conn(f.t)).known
}

var sys = []killfeed.Topic{killfeed.System(30000142), killfeed.System(30002187)}

func offsets(client string, at ...killfeed.EventID) *killfeed.Batch {
	b := &killfeed.Batch{}
	for i, id := range at {
		b.Offsets = append(b.Offsets, killfeed.Offset{Client: client, Topic: sys[i], At: id})
	}
	return b
}

func TestClientsParts(t *testing.T) {
	f := newFeed(t, 1)
	a := f.member(f.Conn(t)).watch()
	b := f.member(f.Conn(t)).watch()
	at := time.UnixMilli(1_700_000_000_123).UTC()
	seen := killfeed.ClientSeen{Client: "Über tool/1", Created: at, At: at.Add(time.Hour)}
	batch := offsets(seen.Client, 5, 6)
	batch.Offsets = append(batch.Offsets, killfeed.Offset{Client: seen.Client, Topic: sys[0], At: 3}) // the later one wins
	batch.Seen = append(batch.Seen, seen)
	batch.Holds = append(batch.Holds, killfeed.HoldChange{Client: seen.Client, Moved: true, Holder: "one"})
	a.must(batch)
	want := killfeed.SharedClient{
		ClientRecord: killfeed.ClientRecord{ClientSeen: seen, Offsets: map[killfeed.Topic]killfeed.EventID{sys[0]: 3, sys[1]: 6}},
		Hold:         killfeed.Hold{Moves: 1, Holder: "one"},
	}
	b.until("the other node knows the client", func() bool { return len(b.known) == 1 })
	for name, m := range map[string]map[string]killfeed.SharedClient{"writer": a.known, "watcher": b.known, "servers": f.truth()} {
		if d := cmp.Diff(map[string]killfeed.SharedClient{seen.Client: want}, m); d != "" {
			t.Errorf("%s: %s", name, d)
		}
	}
	// Deleted and begun anew in one batch: nothing of before is left.
	batch = offsets(seen.Client, 9)
	batch.Gone = []string{seen.Client}
	b.must(batch)
	a.until("the first node knows", func() bool { return a.known[seen.Client].Offsets[sys[0]] == 9 })
	if c := a.known[seen.Client]; len(c.Offsets) != 1 || c.Moves != 0 || c.Holder != "" {
		t.Errorf("after it was begun anew the client is %+v", c)
	}
	// What changes nothing is not written.
	rev := sure(b.b.lastRev(t.Context()))
	b.must(offsets(seen.Client, 9))
	b.must(&killfeed.Batch{Gone: []string{"nobody"}})
	if now := sure(b.b.lastRev(t.Context())); now != rev {
		t.Errorf("what changes nothing raised the revision from %d to %d", rev, now)
	}
}

func sure[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

func TestMovedIsTold(t *testing.T) {
	f := newFeed(t, 1)
	a := f.member(f.Conn(t))
	b := f.member(f.Conn(t)) // neither watches: they know what they wrote
	a.must(offsets("x", 1, 1))
	batch := offsets("x", 7)
	batch.Offsets = append(batch.Offsets, offsets("y", 8).Offsets...)
	if moved := b.must(batch); !slices.Equal(moved, []string{"x"}) {
		t.Fatalf("moved are %q, want x alone", moved)
	}
	if c := b.known["x"]; c.Offsets[sys[0]] != 1 || c.Offsets[sys[1]] != 1 {
		t.Errorf("the client is told as %+v, want as the first node made it", c)
	}
	if moved := b.must(offsets("x", 7)); moved != nil {
		t.Fatalf("with what it was told, %q was moved", moved)
	}
	if c := f.truth()["x"]; c.Offsets[sys[0]] != 7 || c.Offsets[sys[1]] != 1 {
		t.Errorf("the servers have %+v", c)
	}
	if err := errors.Join(a.consistent(), b.consistent()); err != nil {
		t.Error(err)
	}
}

// TestAsked: a client of which nothing is changed is only asked for.
func TestAsked(t *testing.T) {
	f := newFeed(t, 1)
	a, b := f.member(f.Conn(t)), f.member(f.Conn(t)) // neither watches
	ask := func(names ...string) *killfeed.Batch {
		batch := &killfeed.Batch{}
		for _, name := range names {
			batch.Holds = append(batch.Holds, killfeed.HoldChange{Client: name})
		}
		return batch
	}
	a.must(offsets("x", 5))
	a.must(offsets("y", 5))
	rev := sure(a.b.lastRev(t.Context()))
	if moved := a.must(ask("x", "y", "nobody")); moved != nil {
		t.Errorf("nothing has changed, and %q were moved", moved)
	}
	if moved := b.must(ask("x", "nobody")); !slices.Equal(moved, []string{"x"}) || b.known["x"].Offsets[sys[0]] != 5 {
		t.Errorf("a node that does not know x was told %q: %v", moved, b.known)
	}
	if now := sure(a.b.lastRev(t.Context())); now != rev {
		t.Errorf("asking raised the revision from %d to %d", rev, now)
	}
	b.must(offsets("x", 6))
	// One that is asked for and has moved keeps another from being changed by nobody.
	batch := ask("x")
	batch.Offsets = offsets("y", 7).Offsets
	if moved := a.must(batch); !slices.Equal(moved, []string{"x"}) || a.known["y"].Offsets[sys[0]] != 7 {
		t.Errorf("moved are %q: %v", moved, a.known)
	}
	b.must(&killfeed.Batch{Gone: []string{"x"}})
	for _, purged := range []bool{false, true} {
		if e := sure(b.b.last(t.Context(), keyOf(keyClient, "x"))); purged {
			if err := b.b.purge(t.Context(), e.key, e.rev); err != nil {
				t.Fatal(err)
			}
		}
		m := map[bool]*member{false: a, true: f.member(f.Conn(t))}[purged]
		if moved := m.must(ask("x")); len(moved) > 0 == purged || m.known["x"].Offsets != nil { // who just came never knew it
			t.Errorf("after the deletion, purged %v, moved are %q: %v", purged, moved, m.known)
		}
	}
	f.Stop(0)
	until(t, "the connection is gone", func() bool { return !a.nc().IsConnected() })
	ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
	defer cancel()
	if _, err := a.try(ctx, ask("y")); !errors.Is(err, killfeed.ErrUnavailable) || errors.Is(err, killfeed.ErrOutcomeUnknown) {
		t.Errorf("with nobody to ask: %v", err)
	}
	for _, m := range []*member{a, b} {
		if err := m.consistent(); err != nil {
			t.Error(err)
		}
	}
}

func TestDeletedAndMadeAgain(t *testing.T) {
	for _, purged := range []bool{false, true} {
		t.Run(fmt.Sprintf("mark purged %v", purged), func(t *testing.T) {
			f := newFeed(t, 1)
			a, b, c := f.member(f.Conn(t)), f.member(f.Conn(t)), f.member(f.Conn(t))
			a.must(offsets("x", 5))
			for _, m := range []*member{b, c} {
				if moved := m.must(offsets("x", 1)); len(moved) != 1 {
					t.Fatal("the client of another node was overwritten")
				}
			}
			a.must(&killfeed.Batch{Gone: []string{"x"}})
			if purged {
				e := sure(a.b.last(t.Context(), keyOf(keyClient, "x")))
				if err := a.b.purge(t.Context(), e.key, e.rev); err != nil {
					t.Fatal(err)
				}
				if e := sure(a.b.last(t.Context(), e.key)); e.rev != 0 {
					t.Fatalf("after the purge there is %+v", e)
				}
			}
			// Written to, and deleted once more, by those who do not know that it is gone.
			for _, batch := range []*killfeed.Batch{offsets("x", 6), {Gone: []string{"x"}}} {
				m := map[bool]*member{true: b, false: c}[len(batch.Offsets) > 0]
				if moved := m.must(batch); len(moved) != 1 || len(m.known) != 0 {
					t.Fatalf("moved are %q, and known is %v", moved, m.known)
				}
			}
			// To know that it is absent is enough to make it again, whatever is left of the old one.
			if moved := b.must(offsets("x", 9)); moved != nil {
				t.Fatalf("a deleted client could not be made again: %v", b.known)
			}
			if moved := a.must(offsets("x", 10)); len(moved) != 1 || a.known["x"].Offsets[sys[0]] != 9 {
				t.Fatalf("the node that deleted it knows %v", a.known)
			}
			fresh := f.member(f.Conn(t))
			fresh.must(&killfeed.Batch{Gone: []string{"x"}})
			if truth := f.truth(); len(truth) != 0 {
				t.Fatalf("the servers have %v", truth)
			}
			for _, m := range []*member{a, b, c, fresh} {
				if err := m.consistent(); err != nil {
					t.Error(err)
				}
			}
		})
	}
}

// TestDeletedWhileAway: a node that was cut off while a client was deleted, and the mark of that purged, still hears of it; and of what
// else changed.
func TestDeletedWhileAway(t *testing.T) {
	f := newFeed(t, 1)
	p := natstest.NewProxy(t, f.URL(0))
	a := f.member(f.Conn(t))
	for _, name := range []string{"deleted", "deleted and made again", "changed", "kept"} {
		a.must(offsets(name, 1))
	}
	b := f.member(natstest.Dial(t, p.URL())).watch()
	b.must(offsets("own", 1)) // known by its own write first
	until(t, "its own write has come back", func() bool {
		b.mu.Lock()
		defer b.mu.Unlock()
		return b.seen >= b.cache["own"].rev
	})
	a.must(offsets("own", 0)) // moved
	p.LoseReplies()
	for _, name := range []string{"deleted", "deleted and made again", "own"} {
		a.must(&killfeed.Batch{Gone: []string{name}})
		e := sure(a.b.last(t.Context(), keyOf(keyClient, name)))
		if err := a.b.purge(t.Context(), e.key, e.rev); err != nil {
			t.Fatal(err)
		}
	}
	a.must(offsets("deleted and made again", 2))
	a.must(offsets("changed", 2))
	a.must(offsets("new", 2))
	p.Cut()
	want := f.truth()
	b.until("it knows all", func() bool { return cmp.Equal(b.known, want) })
	if err := b.consistent(); err != nil {
		t.Error(err)
	}
}

// TestManyClients: 5,000 in one call, with a few that others have changed, by atomic batches and without.
func TestManyClients(t *testing.T) {
	for _, single := range []bool{false, true} {
		t.Run(fmt.Sprintf("one by one %v", single), func(t *testing.T) {
			f := newFeed(t, 1)
			n := 5000
			if single { // the servers refuse batches all of a sudden
				n = 300
				b := f.newTestBucket(f.Conn(t))
				s := sure(b.js.Stream(t.Context(), b.stream))
				config := s.CachedInfo().Config
				config.AllowAtomicPublish = false
				sure(b.js.UpdateStream(t.Context(), config))
			}
			a, b := f.member(f.Conn(t)), f.member(f.Conn(t))
			var batch killfeed.Batch
			now := time.UnixMilli(1_700_000_000_000).UTC()
			for i := range n {
				name := fmt.Sprintf("client %d", i)
				batch.Offsets = append(batch.Offsets, offsets(name, killfeed.EventID(i+1), 7).Offsets...)
				batch.Seen = append(batch.Seen, killfeed.ClientSeen{Client: name, Created: now, At: now})
			}
			began := time.Now()
			if moved := a.must(&batch); moved != nil {
				t.Fatalf("of clients that nobody else knows %q were moved", moved)
			}
			t.Logf("%d clients were made in %v", n, time.Since(began))
			if single != a.b.single.Load() {
				t.Errorf("written one by one: %v, want %v", a.b.single.Load(), single)
			}
			if truth := f.truth(); len(truth) != n || !cmp.Equal(truth, a.known) {
				t.Fatalf("the servers have %d clients, or others than were written", len(truth))
			}
			changed := []string{"client 0", "client 100", fmt.Sprintf("client %d", n-1)}
			for _, name := range changed {
				b.must(offsets(name, 1)) // moved, as it did not watch
				if moved := b.must(offsets(name, 99_999)); moved != nil {
					t.Fatal(moved)
				}
			}
			for i := range batch.Offsets {
				batch.Offsets[i].At += 10
			}
			began = time.Now()
			moved := a.must(&batch)
			t.Logf("%d clients were moved on in %v", n-len(moved), time.Since(began))
			if slices.Sort(changed); !slices.Equal(moved, changed) {
				t.Fatalf("moved are %d clients: %.200q, want %q", len(moved), moved, changed)
			}
			if err := a.consistent(); err != nil {
				t.Error(err)
			}
			if truth := f.truth(); !cmp.Equal(truth, a.known) {
				t.Fatal("the servers have something else than the node knows")
			}
		})
	}
}
