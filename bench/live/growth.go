//go:build linux

package main

import (
	"context"
	"errors"
	"time"

	"killfeed/bench/internal/killmails"
	"killfeed/bench/internal/server"
	"killfeed/bench/internal/suite"
)

// growth measures how deliveries cost and take with more and more subscribers.
func growth(ctx context.Context, b *bench) (suite.Table, error) {
	table := suite.Table{
		Name: "subscribers", Title: "Subscribers of one system, a killmail each time to all of them",
		Columns: []string{"subscribers", "to half of them, ms", "to the last, ms", "server CPU a delivery, us", "deliveries/s of 50 at once", "resident, KB each"},
		Drawn:   []int{1, 2}, Unit: "ms",
		Note: "From before the request that inserts the killmail, with the fsync in it, to the moment when a subscriber has read it. " +
			"The insert itself is in the CPU time, shared by the deliveries. Each subscriber costs a write; the time to the last one grows with their number, and the first ones do not wait for that.",
	}
	for _, n := range []int{1, 10, 100, 1000, 5000, 10_000, 15_000} {
		if n > b.most {
			break
		}
		suite.Progress("   %d subscribers", n)
		row, err := b.grown(ctx, n)
		if err != nil {
			return table, err
		}
		table.Rows = append(table.Rows, row)
	}
	return table, nil
}

// grown measures n subscribers of a server of their own.
func (b *bench) grown(ctx context.Context, n int) (_ []float64, err error) {
	t, err := b.killfeed(ctx, "")
	if err != nil {
		return nil, err
	}
	s := &side{target: t, maker: killmails.Typical(time.Now())}
	defer func() { err = errors.Join(err, sides{s}.end(err)) }()
	before := t.server.RSS()
	if s.subs, err = t.connect(ctx, n, joinSystem(busy)); err != nil {
		return nil, err
	}
	resident := float64(t.server.RSS()-before) / 1000 / float64(n)
	if s.conn, err = server.Dial(t.server.Addr); err != nil {
		return nil, err
	}
	const singles = 20
	var half, last, cpu []float64
	for range singles {
		lines := s.maker.Lines(1, busy)
		if err := s.begin(1, true); err != nil {
			return nil, err
		}
		used, start := t.server.CPU(), now()
		if _, err := s.hand(1, lines); err != nil {
			return nil, err
		}
		if err := s.subs.wait(ctx, time.Minute); err != nil {
			return nil, err
		}
		at := s.subs.times()
		half = append(half, float64(at[len(at)/2]-start)/1e6)
		last = append(last, float64(at[len(at)-1]-start)/1e6)
		cpu = append(cpu, float64((t.server.CPU()-used).Nanoseconds())/1e3/float64(n))
	}
	var rates []float64
	for range b.Rounds {
		r, err := s.burst(ctx, 50)
		if err != nil {
			return nil, err
		}
		rates = append(rates, r.rate)
	}
	return []float64{float64(n), suite.Median(half), suite.Median(last), suite.Median(cpu), suite.Median(rates), resident}, nil
}
