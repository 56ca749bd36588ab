//go:build linux

package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"killfeed/bench/internal/suite"
)

// resting measures the processor time of a server whose subscribers get nothing, the heartbeats that they send in it.
func resting(ctx context.Context, b *bench) ([]suite.Result, error) {
	const length = 60 * time.Second // every subscriber sends its heartbeat at least once in it
	measure := func(t *target) (share float64, err error) {
		subs, err := t.connect(ctx, b.conns, joinSystem(busy))
		if err != nil {
			return 0, err
		}
		defer subs.close()
		if _, err := settled(ctx, t.server, subs.failed); err != nil {
			return 0, err
		}
		cpu, start := t.server.CPU(), time.Now()
		select {
		case <-time.After(length):
		case err := <-subs.failed:
			return 0, err
		case <-ctx.Done():
			return 0, context.Cause(ctx)
		}
		return float64(t.server.CPU()-cpu) / float64(time.Since(start)), nil
	}
	var shares []float64
	for range min(b.Rounds, memoryRounds) {
		t, err := b.killfeed(ctx, "")
		if err != nil {
			return nil, err
		}
		share, err := measure(t)
		if err := errors.Join(err, t.stop()); err != nil {
			return nil, err
		}
		shares = append(shares, 100*share)
	}
	const most = 0.2 // percent
	share := suite.Median(shares)
	return []suite.Result{{
		Measure: fmt.Sprintf("%d idle WebSocket subscribers for %v: share of a core", b.conns, length),
		Ours:    fmt.Sprintf("%.2f %%", share), Yardstick: fmt.Sprintf("%.1f %%", most), Ratio: most / share,
		Want: fmt.Sprintf("under %.1f %%", most), Met: share < most,
		Note: fmt.Sprintf("spread %.0f%%; heartbeats included", 100*suite.Spread(shares)),
	}}, nil
}
