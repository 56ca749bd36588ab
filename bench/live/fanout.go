//go:build linux

package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"killfeed/bench/internal/killmails"
	"killfeed/bench/internal/server"
	"killfeed/bench/internal/suite"
)

// busy is the system whose killmails everybody wants: Jita.
const busy = 30000142

// side is one target with its subscribers.
type side struct {
	*target
	subs  *subscribers
	conn  *server.Conn // killmails are handed in here
	maker *killmails.Maker
	warm  bool // the first turn is done
}

// sides are what is measured in turns.
type sides []*side

// end ends all of them. err is what went wrong before; if nothing did, the last round must have brought what it should have.
func (all sides) end(err error) error {
	for _, s := range all {
		if s.conn != nil {
			s.conn.Close()
		}
		if s.subs != nil {
			if err == nil {
				err = s.subs.exact()
			}
			s.subs.close()
		}
		err = errors.Join(err, s.stop())
	}
	return err
}

// duel lets killfeed and the peer take turns, n at a time and then a turn before that does not count, and returns their
// figures. Each of the rounds has servers of its own, and the order changes: one and the same server is up to a tenth faster
// or slower from one start to the next, for as long as it runs.
func duel[T any](ctx context.Context, b *bench, n int, turn func(*side) (T, error)) (ours, theirs []T, err error) {
	figures := map[bool]*[]T{true: &ours, false: &theirs}
	for round := range b.Rounds {
		first := round%2 == 0 // killfeed is
		all, err := b.pair(ctx, first)
		if err != nil {
			return nil, nil, err
		}
		turns, err := suite.Turns(ctx, n, func() (T, error) { return turn(all[0]) }, func() (T, error) { return turn(all[1]) })
		if err := all.end(err); err != nil {
			return nil, nil, err
		}
		for i, own := range []bool{first, !first} {
			*figures[own] = append(*figures[own], turns[i]...)
		}
	}
	return ours, theirs, nil
}

// pair starts killfeed and the peer, in that order when first is true, and connects subscribers to them, all to the same
// system. They are to be ended when err is nil.
func (b *bench) pair(ctx context.Context, first bool) (all sides, err error) {
	defer func() {
		if err != nil {
			err = all.end(err)
		}
	}()
	begin := time.Now() // both sides get the same killmails
	for _, own := range []bool{first, !first} {
		var t *target
		switch {
		case !own:
			t, err = b.centrifuge(ctx, b.peerFlags)
		case b.self:
			t, err = b.centrifuge(ctx, b.selfFlags)
		default:
			t, err = b.killfeed(ctx, "")
		}
		if err != nil {
			return all, err
		}
		s := &side{target: t, maker: killmails.Typical(begin)}
		all = append(all, s)
		if s.subs, err = t.connect(ctx, b.conns, joinSystem(busy)); err != nil {
			return all, err
		}
		if s.conn, err = server.Dial(t.server.Addr); err != nil {
			return all, err
		}
	}
	return all, nil
}

// joinSystem subscribes to one system.
func joinSystem(system uint32) func(int, *subscriber) error {
	return func(_ int, s *subscriber) error {
		if err := s.upgrade(); err != nil {
			return err
		}
		return s.join(s.target.join(system, "{}"))
	}
}

// hand hands in killmails, and tells when the answer came.
func (s *side) hand(n int, lines []byte) (answered int64, err error) {
	request := s.post(lines)
	s.conn.SetDeadline(time.Now().Add(time.Minute))
	status, answer, err := s.conn.Do(request)
	answered = now()
	if err != nil {
		return 0, fmt.Errorf("handing killmails to %s: %w", s.name, err)
	}
	return answered, s.accepted(n, status, answer)
}

// begin begins a turn in which every subscriber gets n killmails. The first one, which does not count, looks at every
// delivery.
func (s *side) begin(n int, stamp bool) error {
	check := !s.warm
	s.warm = true
	return s.subs.begin(func(int) int { return n }, stamp, check)
}

// bursts is how many count in a round: each takes a fraction of a second, and the median of many short turns minds the
// neighbours least.
const bursts = 5

// burst is what one burst found.
type burst struct {
	rate float64       // deliveries a second
	cpu  time.Duration // of the server, for each delivery
}

// fanout measures how fast many subscribers get many killmails that come at once.
func fanout(ctx context.Context, b *bench) ([]suite.Result, error) {
	ours, theirs, err := duel(ctx, b, bursts, func(s *side) (burst, error) { return s.burst(ctx, b.burst) })
	if err != nil {
		return nil, err
	}
	rate := func(r burst) float64 { return r.rate }
	cpu := func(r burst) float64 { return float64(r.cpu.Nanoseconds()) / 1000 }
	o, y := column(ours, rate), column(theirs, rate)
	oc, yc := suite.Median(column(ours, cpu)), suite.Median(column(theirs, cpu))
	ratio := suite.Median(o) / suite.Median(y)
	return []suite.Result{{
		Measure: fmt.Sprintf("fan-out to %d WebSocket subscribers, %d killmails at once: deliveries", b.conns, b.burst),
		Ours:    suite.PerSecond(suite.Median(o)), Yardstick: suite.PerSecond(suite.Median(y)), Ratio: ratio,
		Want: "at least 1.50", Met: ratio >= 1.50, Promise: true,
		Note: fmt.Sprintf("server CPU %.2f against %.2f us a delivery (%.2f), spread %.0f%% and %.0f%%",
			oc, yc, yc/oc, 100*suite.Spread(o), 100*suite.Spread(y)),
	}}, nil
}

func (s *side) burst(ctx context.Context, n int) (burst, error) {
	lines := s.maker.Lines(n, busy)
	if err := s.begin(n, false); err != nil {
		return burst{}, err
	}
	cpu, start := s.server.CPU(), now()
	if _, err := s.hand(n, lines); err != nil {
		return burst{}, err
	}
	if err := s.subs.wait(ctx, time.Minute); err != nil {
		return burst{}, err
	}
	total := s.subs.round.total
	took := time.Duration(s.subs.round.end.Load() - start)
	return burst{float64(total) / took.Seconds(), (s.server.CPU() - cpu) / time.Duration(total)}, nil
}

// column is one figure of all rounds.
func column[T any](rounds []T, figure func(T) float64) []float64 {
	vs := make([]float64, len(rounds))
	for i, r := range rounds {
		vs[i] = figure(r)
	}
	return vs
}
