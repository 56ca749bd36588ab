//go:build linux

package main

import (
	"context"
	"fmt"
	"math/rand/v2"
	"time"

	"killfeed/bench/internal/killmails"
	"killfeed/bench/internal/server"
	"killfeed/bench/internal/suite"
)

// firstSystem is the system of the first subscriber; the others follow without a gap.
const firstSystem = 30_000_001

// spread measures what many subscribers to as many systems cost an insertion that concerns one of them.
func spread(ctx context.Context, b *bench) ([]suite.Result, error) {
	begin := time.Now()
	var all sides
	for _, n := range []int{b.idleConns, 0} {
		t, err := b.killfeed(ctx, "")
		if err != nil {
			return nil, all.end(err)
		}
		s := &side{target: t, maker: killmails.Typical(begin)}
		all = append(all, s)
		if n > 0 {
			s.subs, err = t.connect(ctx, n, func(i int, s *subscriber) error { return joinSystem(firstSystem+uint32(i))(i, s) })
			if err != nil {
				return nil, all.end(err)
			}
		}
	}
	n := 15 * int(b.round.Seconds()*float64(b.pace)) // ten times the pace, and half as long again
	every := time.Second / time.Duration(10*b.pace)
	// Both sides draw the same systems.
	draws := []*rand.Rand{rand.New(rand.NewPCG(1, uint64(begin.UnixNano()))), rand.New(rand.NewPCG(1, uint64(begin.UnixNano())))}
	round := func(k int) func() (float64, error) {
		return func() (float64, error) { return all[k].spread(ctx, b.idleConns, n, every, draws[k]) }
	}
	rounds, err := suite.Turns(ctx, b.Rounds, round(0), round(1))
	resident := all[0].server.RSS() - all[1].server.RSS()
	if err := all.end(err); err != nil {
		return nil, err
	}
	with, without := suite.Median(rounds[0]), suite.Median(rounds[1])
	const most = 1.5
	return []suite.Result{{
		Measure: fmt.Sprintf("%d insertions a second into random ones of %d systems, each with a WebSocket subscriber, against none: server CPU",
			10*b.pace, b.idleConns),
		Ours: fmt.Sprintf("%.0f us", with), Yardstick: fmt.Sprintf("%.0f us", without), Ratio: without / with,
		Want: fmt.Sprintf("at most %.1f times as much", most), Met: with <= most*without,
		Note: fmt.Sprintf("%.2f times, for each insertion, spread %.0f%% and %.0f%%; %.1f KB resident for each subscriber",
			with/without, 100*suite.Spread(rounds[0]), 100*suite.Spread(rounds[1]), float64(resident)/1000/float64(b.idleConns)),
	}}, nil
}

// spread inserts n killmails into random systems, and tells how many microseconds of the server's time each took.
func (s *side) spread(ctx context.Context, systems, n int, every time.Duration, draw *rand.Rand) (float64, error) {
	lines := make([][]byte, n)
	want := make([]int, systems)
	for i := range lines {
		k := draw.IntN(systems)
		want[k]++
		lines[i] = s.maker.Lines(1, firstSystem+uint32(k))
	}
	var failed <-chan error
	if s.subs != nil {
		if err := s.subs.begin(func(i int) int { return want[i] }, false, false); err != nil {
			return 0, err
		}
		failed = s.subs.failed
	}
	// One for each round: a server ends a connection on which no request comes for a while.
	var err error
	if s.conn, err = server.Dial(s.server.Addr); err != nil {
		return 0, err
	}
	defer s.conn.Close()
	cpu := s.server.CPU()
	err = pace(ctx, n, every, failed, func(i int) error {
		_, err := s.hand(1, lines[i])
		return err
	})
	if err != nil {
		return 0, err
	}
	if s.subs != nil {
		if err := s.subs.wait(ctx, time.Minute); err != nil {
			return 0, err
		}
	}
	return float64((s.server.CPU() - cpu).Nanoseconds()) / 1000 / float64(n), nil
}
