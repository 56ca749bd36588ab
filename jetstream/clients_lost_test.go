package jetstream

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/nats-io/nats.go"
	"golang.org/x/sync/errgroup"

	"killfeed"
	"killfeed/internal/natstest"
)

// TestWriteWithoutAnswer: a write of which the acknowledgement is lost counts, also when another node has built on it or deleted the
// client since; one that was lost itself is made; once each.
func TestWriteWithoutAnswer(t *testing.T) {
	for _, meanwhile := range []string{"nothing", "moved on", "deleted", "lost"} {
		for _, count := range []int{1, 40} { // alone, and in a batch
			t.Run(fmt.Sprintf("%s %d", meanwhile, count), func(t *testing.T) {
				f := newFeed(t, 1)
				p := natstest.NewProxy(t, f.URL(0))
				a := f.member(natstest.Dial(t, p.URL())) // does not watch: only the write itself tells
				other := f.member(f.Conn(t)).watch()
				batch := &killfeed.Batch{}
				for i := range count {
					batch.Offsets = append(batch.Offsets, offsets(fmt.Sprintf("x%d", i), 1).Offsets...)
				}
				sent := a.nc().Stats().OutMsgs
				if p.LoseReplies(); meanwhile == "lost" {
					p.LoseRequests()
				}
				var g errgroup.Group
				var moved []string
				g.Go(func() (err error) {
					moved, err = a.try(t.Context(), batch)
					return err
				})
				if meanwhile != "lost" {
					other.until("the write is stored", func() bool { return len(other.known) == count })
				}
				want := killfeed.EventID(1)
				switch meanwhile {
				case "moved on":
					want = 2
					for i := range batch.Offsets {
						if m := other.must(offsets(batch.Offsets[i].Client, 2)); m != nil {
							t.Fatal(m)
						}
					}
				case "deleted":
					want = 0
					for i := range batch.Offsets {
						other.must(&killfeed.Batch{Gone: []string{batch.Offsets[i].Client}})
					}
				case "lost":
					until(t, "the write is missed", func() bool { return a.nc().Stats().OutMsgs >= sent+uint64(count) })
				}
				p.Cut()
				if err := g.Wait(); err != nil || moved != nil {
					t.Fatalf("the write does not count: moved %q, %v", moved, err)
				}
				for i := range batch.Offsets {
					if c := a.known[batch.Offsets[i].Client]; c.Offsets[sys[0]] != 1 {
						t.Fatalf("the node knows %+v, want what it wrote", c)
					}
				}
				a.take() // what was built on it is news
				truth := f.truth()
				if d := cmp.Diff(truth, a.known); d != "" {
					t.Fatalf("the servers have something else than the node knows: %s", d)
				}
				for i := range batch.Offsets {
					if at := truth[batch.Offsets[i].Client].Offsets[sys[0]]; at != want {
						t.Fatalf("the client is at %d, want %d", at, want)
					}
				}
				if err := a.consistent(); err != nil {
					t.Error(err)
				}
			})
		}
	}
}

func (c *clients) nc() *nats.Conn { return c.b.nc }

// TestUnknownOutcome: when ctx ends before it is decided, nothing counts for the caller, and news tell what is.
func TestUnknownOutcome(t *testing.T) {
	f := newFeed(t, 1)
	p := natstest.NewProxy(t, f.URL(0))
	a := f.member(natstest.Dial(t, p.URL())).watch()
	other := f.member(f.Conn(t)).watch()
	a.must(offsets("x", 1))
	p.LoseReplies()
	ctx, cancel := context.WithCancel(t.Context())
	var g errgroup.Group
	g.Go(func() error {
		_, err := a.try(ctx, offsets("x", 2))
		return err
	})
	other.until("the write is stored", func() bool { return other.known["x"].Offsets[sys[0]] == 2 })
	cancel()
	if err := g.Wait(); !errors.Is(err, killfeed.ErrOutcomeUnknown) || errors.Is(err, killfeed.ErrUnavailable) {
		t.Fatalf("the outcome is %v", err)
	}
	if err := a.consistent(); err != nil || a.known["x"].Offsets[sys[0]] != 1 {
		t.Fatalf("what may count is taken to count: %v %v", a.known, err)
	}
	p.Cut()
	a.until("news tell", func() bool { return a.known["x"].Offsets[sys[0]] == 2 })
	// With nothing to connect to, nothing was sent.
	f.Stop(0)
	until(t, "the connection is gone", func() bool { return !a.nc().IsConnected() })
	if _, err := a.try(t.Context(), offsets("x", 3)); !errors.Is(err, killfeed.ErrUnavailable) || errors.Is(err, killfeed.ErrOutcomeUnknown) {
		t.Fatalf("without a connection the outcome is %v", err)
	}
}

// TestNoUpdateIsLost has nodes advance the same clients, each what it knows by one, while servers and connections come and go. The sum
// of what counted is where the clients are in the end.
func TestNoUpdateIsLost(t *testing.T) {
	for _, servers := range []int{1, 3} {
		t.Run(fmt.Sprintf("%d servers", servers), func(t *testing.T) {
			const nodes, clientCount, rounds = 4, 5, 40
			f := newFeed(t, servers)
			counted := make([]map[string][2]int, nodes) // of each node, by client, what counted on each topic
			deleted := make([]map[string]int, nodes)
			members := make([]*member, nodes)
			g, ctx := errgroup.WithContext(t.Context())
			progress := make(chan struct{}, nodes*rounds)
			for i := range members {
				p := natstest.NewProxy(t, f.URL(i%servers))
				m := f.member(natstest.Dial(t, p.URL())).watch()
				members[i], counted[i], deleted[i] = m, map[string][2]int{}, map[string]int{}
				rnd := rand.New(rand.NewPCG(uint64(i), 42))
				g.Go(func() error {
					for range rounds {
						if rnd.IntN(3) == 0 {
							m.take()
						}
						switch rnd.IntN(12) {
						case 0:
							p.LoseReplies()
						case 1:
							p.Cut()
						}
						// One or several clients, each once or not at all.
						batch := &killfeed.Batch{}
						added := map[string][2]int{}
						for c := range clientCount {
							name := fmt.Sprintf("client %d", c)
							if rnd.IntN(3) > 0 {
								continue
							}
							topic := rnd.IntN(2)
							at := m.known[name].Offsets[sys[topic]] + 1
							batch.Offsets = append(batch.Offsets, killfeed.Offset{Client: name, Topic: sys[topic], At: at})
							var n [2]int
							n[topic] = 1
							added[name] = n
						}
						done := make(chan struct{})
						var healing errgroup.Group
						healing.Go(func() error { // the network comes back once the node has waited for an answer
							t := time.NewTimer(200 * time.Millisecond)
							defer t.Stop()
							select {
							case <-done:
							case <-t.C:
								p.Cut()
							}
							return nil
						})
						var moved []string
						var err error
						for {
							moved, err = m.try(ctx, batch)
							if !errors.Is(err, killfeed.ErrUnavailable) {
								break
							}
							if err := ctx.Err(); err != nil {
								return err
							}
							m.b.nc.Flush() //nolint:errcheck // waits for the connection, or for a moment
						}
						close(done)
						_ = healing.Wait()
						if err != nil {
							return err
						}
						for name, n := range added {
							if !slices.Contains(moved, name) {
								sum := counted[i][name]
								counted[i][name] = [2]int{sum[0] + n[0], sum[1] + n[1]}
							}
						}
						progress <- struct{}{}
					}
					return nil
				})
			}
			if servers > 1 {
				g.Go(func() error {
					for i := range 4 {
						for range nodes * rounds / 6 {
							select {
							case <-progress:
							case <-ctx.Done():
								return nil
							}
						}
						if i%2 == 0 {
							f.Stepdown("KV_killfeed")
						} else {
							f.Stop(i % servers)
							f.Restart(i % servers)
						}
					}
					return nil
				})
			}
			if err := g.Wait(); err != nil {
				t.Fatal(err)
			}
			sum := map[string][2]int{}
			for i := range nodes {
				for name, n := range counted[i] {
					s := sum[name]
					sum[name] = [2]int{s[0] + n[0], s[1] + n[1]}
				}
			}
			truth := f.truth()
			got := map[string][2]int{}
			for name, c := range truth {
				got[name] = [2]int{int(c.Offsets[sys[0]]), int(c.Offsets[sys[1]])}
			}
			if d := cmp.Diff(sum, got); d != "" {
				t.Errorf("what counted, and where the clients are:\n%s", d)
			}
			for i, m := range members {
				m.until(fmt.Sprintf("node %d knows all", i), func() bool {
					return maps.EqualFunc(m.known, truth, func(a, b killfeed.SharedClient) bool { return cmp.Equal(a, b) })
				})
				if err := m.consistent(); err != nil {
					t.Errorf("node %d: %v", i, err)
				}
			}
		})
	}
}
