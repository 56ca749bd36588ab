//go:build linux

package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"killfeed/bench/internal/server"
	"killfeed/bench/internal/suite"
)

// memoryRounds is how often idle connections are weighed at most: each time takes a server of its own, and minutes.
const memoryRounds = 3

// idle weighs subscribers that get nothing.
func idle(ctx context.Context, b *bench) ([]suite.Result, error) {
	stream := func(_ int, s *subscriber) error {
		return s.stream(fmt.Sprintf("/api/killfeed/stream?systems[]=%d", busy))
	}
	own := func() (*target, error) { return b.killfeed(ctx, "") }
	peer := func() (*target, error) { return b.centrifuge(ctx, b.peerFlags) }
	kinds := []struct {
		name, short string
		start       func() (*target, error)
		subscribe   func(int, *subscriber) error
		most        float64 // KB
		each        []float64
	}{
		{"WebSocket subscribers", "WebSocket", own, joinSystem(busy), 10, nil},
		{"streams of server-sent events", "SSE", own, stream, 28, nil},
		{"", "centrifuge's WebSocket", peer, joinSystem(busy), 0, nil},
	}
	for range min(b.Rounds, memoryRounds) {
		for i := range kinds {
			k := &kinds[i]
			t, err := k.start()
			if err != nil {
				return nil, err
			}
			each, err := b.weigh(ctx, t, k.subscribe)
			if err := errors.Join(err, t.stop()); err != nil {
				return nil, err
			}
			suite.Progress("   %s: %.1f KB each", k.short, each/1000)
			k.each = append(k.each, each/1000)
		}
	}
	theirs := suite.Median(kinds[2].each)
	var rs []suite.Result
	for _, k := range kinds[:2] {
		each := suite.Median(k.each)
		rs = append(rs, suite.Result{
			Measure: fmt.Sprintf("%d idle %s: resident memory each", b.idleConns, k.name),
			Ours:    fmt.Sprintf("%.1f KB", each), Yardstick: fmt.Sprintf("%.0f KB", k.most), Ratio: k.most / each,
			Want: fmt.Sprintf("at most %.0f KB", k.most), Met: each <= k.most,
			Note: fmt.Sprintf("spread %.0f%%; centrifuge's WebSocket subscribers: %.1f KB", 100*suite.Spread(k.each), theirs),
		})
	}
	return rs, nil
}

// weigh tells how many bytes each subscriber makes of a server that had none.
func (b *bench) weigh(ctx context.Context, t *target, subscribe func(int, *subscriber) error) (float64, error) {
	before, err := settled(ctx, t.server, nil)
	if err != nil {
		return 0, err
	}
	subs, err := t.connect(ctx, b.idleConns, subscribe)
	if err != nil {
		return 0, err
	}
	defer subs.close()
	after, err := settled(ctx, t.server, subs.failed)
	if err != nil {
		return 0, err
	}
	return float64(after-before) / float64(b.idleConns), nil
}

// settled is the server's resident memory once it has stayed the same, within 1%, for some seconds: the runtime gives back
// little by little what connecting took for a while. After a minute it is taken as it is.
func settled(ctx context.Context, s *server.Server, failed <-chan error) (int64, error) {
	const still, limit = 8, 60 // seconds
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	from, same := s.RSS(), 0
	for range limit {
		select {
		case <-tick.C:
		case err := <-failed:
			return 0, err
		case <-ctx.Done():
			return 0, context.Cause(ctx)
		}
		r := s.RSS()
		if r == 0 {
			return 0, errors.New("the server's memory cannot be read: is it still there?")
		}
		if diff := r - from; diff > from/100 || diff < -from/100 {
			from, same = r, 0
			continue
		}
		if same++; same >= still {
			return r, nil
		}
	}
	suite.Progress("   the memory has not settled within %d s", limit)
	return s.RSS(), nil
}
