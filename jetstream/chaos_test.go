package jetstream

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"

	"killfeed"
	"killfeed/internal/natstest"
	"killfeed/storetest"
)

// Nodes append while servers restart, leaders change and connections lose what is on them. In the end all nodes have the same log,
// and it has what they were told: all that was acknowledged, nothing that was refused, and of what was left open each killmail at most once.
func TestChaos(t *testing.T) {
	f := newFeed(t, 3)
	var nodes []*node
	var proxies []*natstest.Proxy
	for i := range f.Len() { // each by way of a proxy to one server
		p := natstest.NewProxy(t, f.URL(i))
		proxies = append(proxies, p)
		nodes = append(nodes, f.joinBy(natstest.DialOnly(t, p.URL()), &memory{Model: storetest.NewModel(), epoch: f.epoch}))
	}
	const (
		acknowledged = "acknowledged"
		refused      = "refused as behind"
		unavailable  = "refused as unavailable"
		open         = "left open"
	)
	var mu sync.Mutex
	told := map[int64]string{}
	count := map[string]int{}
	stop := make(chan struct{})
	ctx, cancel := context.WithTimeout(t.Context(), 3*patience)
	defer cancel()
	var all errgroup.Group
	for i, n := range nodes {
		rnd := rand.New(rand.NewPCG(7, uint64(i)))
		all.Go(func() error {
			pace := time.NewTicker(5 * time.Millisecond) // the test is of what happens, not of how fast
			defer pace.Stop()
			for {
				select {
				case <-stop:
					return nil
				case <-pace.C:
				}
				b := n.batch(1+rnd.IntN(3), 10)
				ctx, cancel := context.WithTimeout(ctx, 1500*time.Millisecond)
				_, err := n.Agree(ctx, b)
				cancel()
				what := acknowledged
				switch {
				case err == nil:
					if err := n.store.Commit(b); err != nil {
						return err
					}
				case errors.Is(err, killfeed.ErrOutcomeUnknown):
					what = open
				case errors.Is(err, killfeed.ErrBehind):
					what = refused
				case errors.Is(err, killfeed.ErrUnavailable):
					what = unavailable
				default:
					return fmt.Errorf("%s: %w", n.name, err)
				}
				mu.Lock()
				for _, e := range b.Events {
					told[e.KillmailID] = what
				}
				count[what]++
				mu.Unlock()
				select {
				case <-n.News():
					news, err := n.Take()
					if err == nil {
						err = n.commit(news)
					}
					if err != nil {
						return err
					}
				default:
				}
			}
		})
	}
	await := func(more int, what ...string) {
		counted := func() (n int) {
			mu.Lock()
			defer mu.Unlock()
			for _, w := range what {
				n += count[w]
			}
			return n
		}
		goal := counted() + more
		until(t, fmt.Sprint("more appends are ", what), func() bool { return counted() >= goal })
	}
	appended := func(more int) { await(more, acknowledged) }
	rnd := rand.New(rand.NewPCG(7, 99))
	for round := range 12 {
		appended(20)
		i := rnd.IntN(f.Len())
		switch round % 6 {
		case 0:
			f.Stop(i)
			appended(10)
			f.Restart(i)
		case 1:
			f.Stepdown("killfeed")
		case 2:
			proxies[i].LoseReplies()
			appended(10)
			proxies[i].Cut()
		case 3:
			proxies[i].LoseRequests()
			appended(10)
			proxies[i].Cut()
		case 4: // until a caller gives up
			proxies[i].LoseReplies()
			await(1, open, unavailable)
			proxies[i].Cut()
		case 5: // all at once, and the leader with it
			proxies[i].LoseReplies()
			f.Stepdown("killfeed")
			f.Stop((i + 1) % f.Len())
			appended(10)
			proxies[i].Cut()
			f.Restart((i + 1) % f.Len())
		}
	}
	appended(20)
	close(stop)
	if err := all.Wait(); err != nil {
		t.Fatal(err)
	}
	// What was left open is decided by the next append behind it.
	nodes[0].mustInsert(1)
	head := nodes[0].store.State().Head
	for _, n := range nodes {
		n.follow(head)
	}
	equal(t, nodes...)
	in := map[int64]bool{}
	for _, e := range nodes[0].all() {
		in[e.KillmailID] = true
	}
	opened := 0
	for id, what := range told {
		switch {
		case what == acknowledged && !in[id]:
			t.Errorf("killmail %d was acknowledged and is not in the log", id)
		case (what == refused || what == unavailable) && in[id]:
			t.Errorf("killmail %d was refused and is in the log", id)
		case what == open && in[id]:
			opened++
		}
	}
	t.Logf("%v batches; of the killmails left open, %d are in the log, which has %d", count, opened, head)
}
