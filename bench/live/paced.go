//go:build linux

package main

import (
	"context"
	"fmt"
	"slices"
	"time"

	"killfeed/bench/internal/suite"
)

// level is a ratio of delays that noise alone makes: one and the same server on both sides gave as little as 0.87.
const level = 0.85

// delay is what a paced round found, in milliseconds, over all deliveries.
type delay struct {
	sent50, sent99         float64 // from the moment that the killmail was sent
	accepted50, accepted99 float64 // from the moment that the answer was read; 0 when the delivery came first
	cpu                    float64 // of the server, in microseconds for each delivery
}

// paced measures how long a killmail takes to its subscribers while there is time enough for each.
func paced(ctx context.Context, b *bench) ([]suite.Result, error) {
	n := int(b.round.Seconds() * float64(b.pace))
	ours, theirs, err := duel(ctx, b, 1, func(s *side) (delay, error) {
		if !s.warm {
			return s.paced(ctx, b.pace, b.pace)
		}
		return s.paced(ctx, n, b.pace)
	})
	if err != nil {
		return nil, err
	}
	line := func(what string, figure func(delay) float64, want bool) suite.Result {
		o, y := column(ours, figure), column(theirs, figure)
		r := suite.Result{
			Measure: fmt.Sprintf("%d killmails a second to %d WebSocket subscribers: %s", b.pace, b.conns, what),
			Ours:    fmt.Sprintf("%.2f ms", suite.Median(o)), Yardstick: fmt.Sprintf("%.2f ms", suite.Median(y)),
			Ratio: suite.Median(y) / suite.Median(o), Note: fmt.Sprintf("spread %.0f%% and %.0f%%", 100*suite.Spread(o), 100*suite.Spread(y)),
		}
		if want {
			low, _ := suite.Middle(o)
			_, high := suite.Middle(y)
			r.Want = fmt.Sprintf("level or better: at least %.2f, or middle halves that overlap", level)
			r.Met = r.Ratio >= level || low <= high
		}
		return r
	}
	cpu := func(d delay) float64 { return d.cpu }
	results := []suite.Result{
		line("p99 from accepted to read", func(d delay) float64 { return d.accepted99 }, true),
		line("p50 from accepted to read", func(d delay) float64 { return d.accepted50 }, false),
		line("p99 from sent to read", func(d delay) float64 { return d.sent99 }, false),
		line("p50 from sent to read", func(d delay) float64 { return d.sent50 }, false),
	}
	results[0].Note += fmt.Sprintf("; server CPU %.2f against %.2f us a delivery",
		suite.Median(column(ours, cpu)), suite.Median(column(theirs, cpu)))
	return results, nil
}

// paced hands in n killmails, rate of them a second.
func (s *side) paced(ctx context.Context, n, rate int) (delay, error) {
	lines := make([][]byte, n)
	for i := range lines {
		lines[i] = s.maker.Lines(1, busy)
	}
	if err := s.begin(n, true); err != nil {
		return delay{}, err
	}
	sent, answered := make([]int64, n), make([]int64, n)
	cpu := s.server.CPU()
	err := pace(ctx, n, time.Second/time.Duration(rate), s.subs.failed, func(i int) (err error) {
		sent[i] = now()
		answered[i], err = s.hand(1, lines[i])
		return err
	})
	if err != nil {
		return delay{}, err
	}
	if err := s.subs.wait(ctx, time.Minute); err != nil {
		return delay{}, err
	}
	d := delay{cpu: float64((s.server.CPU() - cpu).Nanoseconds()) / 1000 / float64(s.subs.round.total)}
	d.sent50, d.sent99 = s.subs.delays(sent)
	d.accepted50, d.accepted99 = s.subs.delays(answered)
	return d, nil
}

// pace calls n times, at regular times as far as the calls allow. It ends early with what comes from failed.
func pace(ctx context.Context, n int, every time.Duration, failed <-chan error, call func(i int) error) error {
	tick := time.NewTicker(every)
	defer tick.Stop()
	for i := range n {
		select {
		case <-tick.C:
		case err := <-failed:
			return err
		case <-ctx.Done():
			return context.Cause(ctx)
		}
		if err := call(i); err != nil {
			return err
		}
	}
	return nil
}

// delays is how long after the given times the deliveries of the round came, in milliseconds: the i-th of each subscriber is
// that of the i-th killmail.
func (p *subscribers) delays(since []int64) (p50, p99 float64) {
	var all []int64
	for _, r := range p.readers {
		r.mu.Lock()
		for _, s := range r.subs {
			for i, t := range s.at {
				all = append(all, max(0, t-since[i]))
			}
		}
		r.mu.Unlock()
	}
	slices.Sort(all)
	return float64(all[len(all)/2]) / 1e6, float64(all[len(all)*99/100]) / 1e6
}
