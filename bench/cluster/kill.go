package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"golang.org/x/sync/errgroup"

	"killfeed/bench/internal/killmails"
	"killfeed/bench/internal/server"
	"killfeed/bench/internal/suite"
)

// kill measures what clients and nodes notice when the leading node is killed, as by a power cut, while killmails come in at another one.
func kill(ctx context.Context, b *bench, w *world) ([]suite.Result, error) {
	var led, moved, slowest []float64 // seconds
	maker := killmails.Typical(time.Now())
	for range b.kills {
		k, err := b.kill(ctx, w, maker)
		if err != nil {
			return nil, err
		}
		slices.Sort(k.moved)
		led = append(led, k.led)
		moved, slowest = append(moved, suite.Median(k.moved)), append(slowest, k.moved[len(k.moved)-1])
	}
	const most = 10
	took := suite.Median(led)
	return []suite.Result{{
		Measure: "the leading node is killed: another one leads", Ours: fmt.Sprintf("%.1f s", took), Yardstick: fmt.Sprintf("%d s", most),
		Ratio: most / took, Want: fmt.Sprintf("within %d s, each time", most), Met: slices.Max(led) <= most,
		Note: fmt.Sprintf("%d times, %.1f to %.1f s", len(led), slices.Min(led), slices.Max(led)),
	}, {
		Measure: fmt.Sprintf("a subscriber's node is killed: the first event on another one, of %d subscribers", b.movers),
		Ours:    fmt.Sprintf("%.0f ms", 1000*suite.Median(moved)), Ratio: 1,
		Note: fmt.Sprintf("the last of them after %.0f ms; they connect again at once, and none misses an event or has one twice",
			1000*suite.Median(slowest)),
	}}, nil
}

// killed is what one kill found, in seconds since then.
type killed struct {
	led   float64
	moved []float64 // for each subscriber
}

// kill kills the leading node, and starts it again once everything is over.
func (b *bench) kill(ctx context.Context, w *world, maker *killmails.Maker) (k killed, err error) {
	leader := -1
	for leader < 0 {
		for i, n := range w.nodes {
			st, err := n.status()
			if err != nil {
				return k, err
			}
			if st.Cluster.Leads {
				leader = i
			}
		}
		if ctx.Err() != nil {
			return k, context.Cause(ctx)
		}
	}
	if err := w.level(ctx); err != nil {
		return k, err
	}
	victim := w.nodes[leader]
	others := append(slices.Clone(w.nodes[:leader]), w.nodes[leader+1:]...)
	subs, err := gather(ctx, b.movers, victim)
	if err != nil {
		return k, err
	}
	defer subs.close()
	conn, err := server.Dial(others[0].Addr)
	if err != nil {
		return k, err
	}
	defer conn.Close()
	if _, err := subs.read(1, func() error { return hand(conn, others[0], maker.Lines(1, firstSystem)) }); err != nil {
		return k, err
	}

	inserting, stop := context.WithCancel(ctx)
	defer stop()
	var g errgroup.Group
	g.Go(func() error { return drip(inserting, conn, others[0], maker) })
	var crowd errgroup.Group
	ready := make(chan time.Time, len(subs)) // brings each subscriber the time of the kill
	k.moved = make([]float64, len(subs))
	for i, s := range subs {
		crowd.Go(func() error {
			for s.next() == nil { // the node's end is a cut connection, and told by nothing else
			}
			began := <-ready
			s.close()
			if err := s.open(ctx, others[i%len(others)]); err != nil {
				return fmt.Errorf("a subscriber that comes to another node: %w", err)
			}
			if err := s.next(); err != nil {
				return fmt.Errorf("a subscriber on another node: %w", err)
			}
			k.moved[i] = time.Since(began).Seconds()
			return nil
		})
	}
	began := time.Now()
	for range subs {
		ready <- began
	}
	victim.Kill() // what it returns is that it was killed
	err = lead(ctx, others)
	k.led = time.Since(began).Seconds()
	err = errors.Join(err, crowd.Wait())
	stop()
	err = errors.Join(err, g.Wait())
	if err != nil {
		return k, err
	}
	if err := victim.serve(ctx); err != nil {
		return k, fmt.Errorf("starting %s again: %w", victim.name, err)
	}
	st, err := others[0].status()
	if err != nil {
		return k, err
	}
	return k, victim.until(ctx, "the log's end", func(now status) bool { return now.Log.Head >= st.Log.Head })
}

// drip hands killmails in, one after another with pauses, until ctx ends.
func drip(ctx context.Context, c *server.Conn, n *node, maker *killmails.Maker) error {
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			if err := hand(c, n, maker.Lines(1, firstSystem)); err != nil {
				return err
			}
		case <-ctx.Done():
			return nil
		}
	}
}

// lead waits until one of the nodes leads, for half a minute at most.
func lead(ctx context.Context, nodes []*node) error {
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); {
		for _, n := range nodes {
			st, err := n.status()
			if err != nil || st.Cluster.Leads {
				return err
			}
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
	return fmt.Errorf("no node leads %v after the leader was killed", patience)
}
