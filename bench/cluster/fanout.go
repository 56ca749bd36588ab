package main

import (
	"context"
	"fmt"
	"time"

	"killfeed/bench/internal/killmails"
	"killfeed/bench/internal/server"
	"killfeed/bench/internal/suite"
)

// burst is what one burst found.
type burst struct {
	arrival
	cpu time.Duration // of the nodes with subscribers, for each delivery
}

// hand hands killmails in, one a line, and waits until they are acknowledged.
func hand(c *server.Conn, n *node, lines []byte) error {
	c.SetDeadline(time.Now().Add(patience))
	status, answer, err := c.Do(server.Post("/api/killmails", n.token, lines))
	if err != nil {
		return fmt.Errorf("handing killmails to %s: %w", n.name, err)
	}
	if status != 201 {
		return fmt.Errorf("%s answered %d to killmails: %.300s", n.name, status, answer)
	}
	return nil
}

// fanout measures how soon many subscribers have many killmails that come at once: those of three nodes against as many of a single one.
func fanout(ctx context.Context, b *bench, w *world) ([]suite.Result, error) {
	begin := time.Now()                  // both sides get the same killmails
	if err := w.level(ctx); err != nil { // or subscribers get what their node is behind by
		return nil, err
	}
	var turns []func() (burst, error)
	for _, nodes := range [][]*node{w.nodes, {w.single}} {
		c, err := gather(ctx, natsServers*b.subs/len(nodes), nodes...)
		if err != nil {
			return nil, err
		}
		defer c.close()
		maker := killmails.Typical(begin)
		turns = append(turns, func() (burst, error) {
			lines := maker.Lines(b.burst, firstSystem)
			conn, err := server.Dial(nodes[0].Addr)
			if err != nil {
				return burst{}, err
			}
			defer conn.Close()
			cpu := server.CPU(servers(nodes...))
			a, err := c.read(b.burst, func() error { return hand(conn, nodes[0], lines) })
			if err == nil {
				err = c.together()
			}
			return burst{a, (server.CPU(servers(nodes...)) - cpu) / time.Duration(len(c)*b.burst)}, err
		})
	}
	got, err := suite.Turns(ctx, b.Rounds, turns...)
	if err != nil {
		return nil, err
	}
	last := func(r burst) float64 { return float64(r.last.Nanoseconds()) / 1e6 }
	first := func(r burst) float64 { return float64(r.first.Nanoseconds()) / 1e6 }
	cpu := func(r burst) float64 { return float64(r.cpu.Nanoseconds()) / 1e3 }
	median := func(side int, of func(burst) float64) float64 { return suite.Median(column(got[side], of)) }
	return []suite.Result{{
		Measure: fmt.Sprintf("%d killmails at once to %d subscribers of each of three nodes, against %d of the single one: the last has its last",
			b.burst, b.subs, natsServers*b.subs),
		Ours: fmt.Sprintf("%.0f ms", median(0, last)), Yardstick: fmt.Sprintf("%.0f ms", median(1, last)), Ratio: median(1, last) / median(0, last),
		Note: fmt.Sprintf("the first has its first after %.1f against %.1f ms; CPU of the nodes %.2f against %.2f us a delivery; spread %.0f%% and %.0f%%",
			median(0, first), median(1, first), median(0, cpu), median(1, cpu),
			100*suite.Spread(column(got[0], last)), 100*suite.Spread(column(got[1], last))),
	}}, nil
}
