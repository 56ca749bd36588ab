package jetstream

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sync/errgroup"

	"killfeed"
	"killfeed/internal/natstest"
	"killfeed/storetest"
)

// equal demands that nodes have the same log, chain included, without a hole and with every killmail once.
func equal(t *testing.T, nodes ...*node) {
	t.Helper()
	want := nodes[0].all()
	seen := map[int64]bool{}
	for i, e := range want {
		if e.ID != want[0].ID+killfeed.EventID(i) {
			t.Fatalf("event %d comes after event %d", e.ID, want[i-1].ID)
		}
		if seen[e.KillmailID] {
			t.Fatalf("killmail %d is in the log twice", e.KillmailID)
		}
		seen[e.KillmailID] = true
	}
	for _, n := range nodes[1:] {
		if d := cmp.Diff(want, n.all(), cmp.Comparer(bytes.Equal)); d != "" {
			t.Fatalf("%s differs from %s:\n%s", n.name, nodes[0].name, d)
		}
		if n.chain() != nodes[0].chain() {
			t.Fatalf("the chain of %s is %s, that of %s is %s", n.name, n.chain(), nodes[0].name, nodes[0].chain())
		}
	}
}

func TestAppendAndFollow(t *testing.T) {
	f := newFeed(t, 1)
	a, b := f.join(), f.join()
	a.mustInsert(1)
	a.mustInsert(7)
	b.follow(8)
	b.mustInsert(1)
	a.follow(9)
	equal(t, a, b)
	late := f.join()
	late.follow(9)
	equal(t, a, late)
	a.reopen()
	if news, err := a.Take(); err != nil || len(news.Events) > 0 {
		t.Fatalf("a node that has all gets %d events again, %v", len(news.Events), err)
	}
	a.mustInsert(2)
	b.follow(11)
	equal(t, a, b)
}

func TestConflict(t *testing.T) {
	f := newFeed(t, 1)
	a, b := f.join(), f.join()
	a.mustInsert(2)
	for _, count := range []int{1, 3} { // alone, and as an atomic batch
		head := b.store.State().Head
		if out, err := b.Agree(t.Context(), b.batch(count, 10)); !errors.Is(err, killfeed.ErrBehind) {
			t.Fatalf("appending %d events behind event %d: %+v, %v", count, head, out, err)
		}
	}
	if n := last(t, a.nc); n != 2 {
		t.Fatalf("the stream ends with event %d", n)
	}
	b.follow(2)
	b.mustInsert(1)
	a.follow(3)
	equal(t, a, b)
}

// Nodes that all append at the same time make one log of all of it.
func TestFight(t *testing.T) {
	for _, servers := range []int{1, 3} {
		t.Run(fmt.Sprint(servers, " servers"), func(t *testing.T) {
			f := newFeed(t, servers)
			const each = 40
			var nodes []*node
			for range 4 {
				nodes = append(nodes, f.join())
			}
			ctx, cancel := context.WithTimeout(t.Context(), patience)
			defer cancel()
			var all errgroup.Group
			inserted := make([]int, len(nodes))
			for i, n := range nodes {
				rnd := rand.New(rand.NewPCG(1, uint64(i)))
				all.Go(func() error {
					for range each {
						count := 1 + rnd.IntN(4)
						if err := n.insert(ctx, count); err != nil {
							return fmt.Errorf("%s: %w", n.name, err)
						}
						inserted[i] += count
					}
					return nil
				})
			}
			if err := all.Wait(); err != nil {
				t.Fatal(err)
			}
			total := 0
			for _, n := range inserted {
				total += n
			}
			for _, n := range nodes {
				n.follow(killfeed.EventID(total))
			}
			equal(t, nodes...)
			if n := last(t, nodes[0].nc); int(n) != total {
				t.Fatalf("the stream ends with event %d, and %d were inserted", n, total)
			}
		})
	}
}

// An append whose acknowledgement gets lost is decided: by what stands where it would stand.
func TestLostAcknowledgement(t *testing.T) {
	for _, count := range []int{1, 5} {
		for _, test := range []struct {
			name string
			lose func(*natstest.Proxy)
			// meanwhile is done before the network works again.
			meanwhile func(t *testing.T, other *node)
			want      error
			// log is the stream's last event in the end, but for count.
			log int
		}{
			{"stored", (*natstest.Proxy).LoseReplies,
				func(t *testing.T, other *node) { other.follow(killfeed.EventID(1 + count)) }, nil, 1 + count},
			{"stored, and others went on", (*natstest.Proxy).LoseReplies,
				func(t *testing.T, other *node) { other.follow(killfeed.EventID(1 + count)); other.mustInsert(2) }, nil, 3 + count},
			{"not stored", (*natstest.Proxy).LoseRequests, func(*testing.T, *node) {}, nil, 1 + count},
			{"not stored, and others went on", (*natstest.Proxy).LoseRequests,
				func(t *testing.T, other *node) { other.mustInsert(2) }, killfeed.ErrBehind, 3},
		} {
			t.Run(fmt.Sprint(count, " ", test.name), func(t *testing.T) {
				f := newFeed(t, 1)
				p := natstest.NewProxy(t, f.URL(0))
				n := f.joinBy(natstest.Dial(t, p.URL()), &memory{Model: storetest.NewModel(), epoch: f.epoch})
				other := f.join()
				n.mustInsert(1)
				other.follow(1)

				ctx, cancel := context.WithTimeout(t.Context(), patience)
				defer cancel()
				b := n.batch(count, 10)
				sent := n.nc.Stats().OutMsgs
				test.lose(p)
				got := make(chan error, 1)
				go func() {
					_, err := n.Agree(ctx, b)
					got <- err
				}()
				until(t, "the append was sent", func() bool { return n.nc.Stats().OutMsgs >= sent+uint64(count) })
				test.meanwhile(t, other)
				p.Cut()
				err := <-got
				if !errors.Is(err, test.want) || (err == nil) != (test.want == nil) {
					t.Fatalf("the append: %v, want %v", err, test.want)
				}
				if err == nil {
					if err := n.store.Commit(b); err != nil {
						t.Fatal(err)
					}
				}
				if got := last(t, other.nc); int(got) != test.log {
					t.Fatalf("the stream ends with event %d, want %d", got, test.log)
				}
				n.follow(killfeed.EventID(test.log))
				other.follow(killfeed.EventID(test.log))
				equal(t, n, other)
			})
		}
	}
}

// When the caller cannot wait for the decision, it is told so, and the event comes with Take if it counts.
func TestOutcomeUnknown(t *testing.T) {
	f := newFeed(t, 1)
	p := natstest.NewProxy(t, f.URL(0))
	n := f.joinBy(natstest.Dial(t, p.URL()), &memory{Model: storetest.NewModel(), epoch: f.epoch})
	other := f.join()
	ctx, cancel := context.WithCancel(t.Context())
	p.LoseReplies()
	got := make(chan error, 1)
	go func() {
		_, err := n.Agree(ctx, n.batch(1, 10))
		got <- err
	}()
	other.follow(1)
	cancel()
	if err := <-got; !errors.Is(err, killfeed.ErrOutcomeUnknown) {
		t.Fatalf("the append: %v", err)
	}
	if err := n.Health(); !errors.Is(err, killfeed.ErrUnavailable) {
		t.Fatalf("health: %v", err)
	}
	p.Cut()
	n.follow(1)
	equal(t, n, other)
	n.mustInsert(1)
	if err := n.Health(); err != nil {
		t.Fatalf("health after an append: %v", err)
	}
}

// The server that leads the stream tells what any server does.
func TestGetLeader(t *testing.T) {
	f := newFeed(t, 3)
	a := f.join()
	a.mustInsert(3)
	for id := killfeed.EventID(1); id <= 3; id++ {
		e, err := a.stream.getLeader(t.Context(), id)
		if err != nil {
			t.Fatal(err)
		}
		if want := a.all()[id-1]; !cmp.Equal(e.Event, want, cmp.Comparer(bytes.Equal)) {
			t.Errorf("event %d is %+v, want %+v", id, e.Event, want)
		}
	}
	if e, err := a.stream.getLeader(t.Context(), 4); err == nil {
		t.Errorf("an event that there is not is %+v", e)
	}
	if head, err := a.Head(t.Context()); err != nil || head != 3 {
		t.Errorf("the head is %d, %v", head, err)
	}
}

// Without a connection nothing is sent, and that is known.
func TestNoConnection(t *testing.T) {
	f := newFeed(t, 1)
	n := f.join()
	n.mustInsert(1)
	f.Stop(0)
	until(t, "the connection is lost", func() bool { return !n.nc.IsConnected() })
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	if _, err := n.Agree(ctx, n.batch(1, 10)); !errors.Is(err, killfeed.ErrUnavailable) || errors.Is(err, killfeed.ErrOutcomeUnknown) {
		t.Fatalf("appending without a server: %v", err)
	}
	if err := n.Health(); !errors.Is(err, killfeed.ErrUnavailable) {
		t.Fatalf("health without a server: %v", err)
	}
	f.Restart(0)
	until(t, "health is back", func() bool { return n.Health() == nil })
	n.mustInsert(1)
	if n := last(t, n.nc); n != 2 {
		t.Fatalf("the stream ends with event %d", n)
	}
}

func TestLargeBatches(t *testing.T) {
	f := newFeed(t, 3)
	a, b := f.join(), f.join()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	for _, test := range []struct{ count, size int }{{MaxEvents, 10}, {2*MaxEvents + 500, 10}, {3, 3 << 20}, {1, MaxBytes - 4096}} {
		batch := a.batch(test.count, test.size)
		began := time.Now()
		if _, err := a.Agree(ctx, batch); err != nil {
			t.Fatalf("%d events of %d bytes: %v", test.count, test.size, err)
		}
		t.Logf("%d events of %d bytes: %v", test.count, test.size, time.Since(began).Round(time.Millisecond))
		if err := a.store.Commit(batch); err != nil {
			t.Fatal(err)
		}
	}
	b.follow(a.store.State().Head)
	equal(t, a, b)

	// One byte too many is refused for good, and nothing is stored.
	if _, err := a.Agree(ctx, a.batch(1, MaxBytes)); !errors.Is(err, killfeed.ErrFailed) || errors.Is(err, killfeed.ErrOutcomeUnknown) {
		t.Fatalf("an event that is too large: %v", err)
	}
	a.mustInsert(1)
	b.follow(a.store.State().Head)
	equal(t, a, b)
}

// A batch that is too large to be one, and is in the log in part, is told apart from one of which nothing counts.
func TestPart(t *testing.T) {
	f := newFeed(t, 1)
	a, b := f.join(), f.join()
	list := a.batch(MaxEvents+1, 10)
	over := &list.Events[MaxEvents]
	over.Killmail = append(over.Killmail[:len(over.Killmail)-1], strings.Repeat(" ", MaxBytes)+"}"...) // servers do not take it
	if _, err := a.Agree(t.Context(), list); !errors.Is(err, killfeed.ErrOutcomeUnknown) {
		t.Fatalf("a batch that is stored in part: %v", err)
	}
	a.follow(MaxEvents)
	a.mustInsert(1)
	b.follow(MaxEvents + 1)
	equal(t, a, b)

	behind := &conflictError{}
	if err := partly(list.Events, 0, behind); err != error(behind) {
		t.Errorf("nothing is stored: %v", err)
	}
	if err := partly(list.Events, 3, behind); !errors.Is(err, killfeed.ErrBehind) {
		t.Errorf("three killmails are, which the writer recognizes: %v", err)
	}
	list.Events[1].KillmailID = 0
	if err := partly(list.Events, 3, behind); errors.Is(err, killfeed.ErrBehind) || !errors.Is(err, killfeed.ErrOutcomeUnknown) {
		t.Errorf("three are, one of which it does not: %v", err)
	}
}

// Of batches that are too large to be one, a part may come back with Take. The log stays whole.
func TestLargeFight(t *testing.T) {
	f := newFeed(t, 1)
	a, b := f.join(), f.join()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	var all errgroup.Group
	for _, n := range []*node{a, b} {
		all.Go(func() error {
			for range 4 {
				if err := n.insert(ctx, MaxEvents+300); err != nil {
					return err
				}
			}
			return nil
		})
	}
	if err := all.Wait(); err != nil {
		t.Fatal(err)
	}
	head := last(t, a.nc)
	a.follow(head)
	b.follow(head)
	equal(t, a, b)
}

func TestCopier(t *testing.T) {
	f := newFeed(t, 1)
	a := f.join()
	source := &node{t: t, f: f, name: "source", store: &memory{Model: storetest.NewModel(), epoch: f.epoch}}
	batch := source.batch(2300, 10)
	c, err := NewCopier(t.Context(), a.nc, f.options())
	if err != nil {
		t.Fatal(err)
	}
	events := make([]killfeed.Event, len(batch.Events))
	for i := range batch.Events {
		events[i] = batch.Events[i].Event
	}
	if err := c.Append(t.Context(), events[:1700]); err != nil {
		t.Fatal(err)
	}
	if c, err = NewCopier(t.Context(), a.nc, f.options()); err != nil || c.Next() != 1701 { // as after an interruption
		t.Fatalf("the next is %d, %v", c.Next(), err)
	}
	if err := c.Append(t.Context(), events); err == nil {
		t.Fatal("events are taken that are not the next ones")
	}
	if err := c.Append(t.Context(), events[1700:]); err != nil {
		t.Fatal(err)
	}
	batch.Checkpoints = append(batch.Checkpoints, c.Checkpoint())
	if err := source.store.Commit(batch); err != nil {
		t.Fatal(err)
	}
	a.follow(2300)
	equal(t, source, a)
	source.open(f.Conn(t)) // the directory is now a node's
	source.mustInsert(1)
	a.follow(2301)
	equal(t, source, a)
}

func BenchmarkAgree(b *testing.B) {
	for _, servers := range []int{1, 3} {
		for _, count := range []int{1, 100, 1000} {
			b.Run(fmt.Sprintf("servers=%d/events=%d", servers, count), func(b *testing.B) {
				f := newFeed(b, servers)
				n := f.join()
				for b.Loop() {
					batch := n.batch(count, storetest.TypicalBytes)
					if _, err := n.Agree(b.Context(), batch); err != nil {
						b.Fatal(err)
					}
					if err := n.store.Commit(batch); err != nil {
						b.Fatal(err)
					}
				}
				b.ReportMetric(float64(b.N*count)/b.Elapsed().Seconds(), "events/s")
			})
		}
	}
}

// BenchmarkFollow is how fast a new node gets what the stream has.
func BenchmarkFollow(b *testing.B) {
	f := newFeed(b, 3)
	n := f.join()
	const count = 20_000
	for n.store.State().Head < count {
		n.mustInsert(1000)
	}
	for b.Loop() {
		late := f.join()
		late.follow(count)
		late.Close()
	}
	b.ReportMetric(float64(b.N*count)/b.Elapsed().Seconds(), "events/s")
}
