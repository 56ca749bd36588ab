//go:build linux

package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
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
	warm  bool // the first round is done
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

// pair starts both targets and connects their subscribers, all to the same system. They are to be ended when err is nil.
func (b *bench) pair(ctx context.Context) (all sides, err error) {
	defer func() {
		if err != nil {
			err = all.end(err)
		}
	}()
	begin := time.Now() // both sides get the same killmails
	for _, start := range []func() (*target, error){
		func() (*target, error) {
			if b.self {
				return b.centrifuge(ctx, b.selfFlags)
			}
			return b.killfeed(ctx, "")
		},
		func() (*target, error) { return b.centrifuge(ctx, b.peerFlags) },
	} {
		t, err := start()
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

// begin begins a round in which every subscriber gets n killmails. The first round, which does not count, looks at every
// delivery.
func (s *side) begin(n int, stamp bool) error {
	check := !s.warm
	s.warm = true
	return s.subs.begin(func(int) int { return n }, stamp, check)
}

// A burst takes a fraction of a second, so there are more of them than of other rounds: the median of many short turns minds
// the neighbours least.
const bursts = 5

// burst is what a round of fan-out found.
type burst struct {
	rate float64       // deliveries a second
	cpu  time.Duration // of the server, for each delivery
}

// fanout measures how fast many subscribers get many killmails that come at once.
func fanout(ctx context.Context, b *bench) ([]suite.Result, error) {
	sides, err := b.pair(ctx)
	if err != nil {
		return nil, err
	}
	round := func(s *side) func() (burst, error) {
		return func() (burst, error) {
			lines := s.maker.Lines(b.burst, busy)
			if err := s.begin(b.burst, false); err != nil {
				return burst{}, err
			}
			cpu, start := s.server.CPU(), now()
			if _, err := s.hand(b.burst, lines); err != nil {
				return burst{}, err
			}
			if err := s.subs.wait(ctx, time.Minute); err != nil {
				return burst{}, err
			}
			total := s.subs.round.total
			took := time.Duration(s.subs.round.end.Load() - start)
			return burst{float64(total) / took.Seconds(), (s.server.CPU() - cpu) / time.Duration(total)}, nil
		}
	}
	rounds, err := suite.Turns(ctx, bursts*b.Rounds, round(sides[0]), round(sides[1]))
	if err := sides.end(err); err != nil {
		return nil, err
	}
	rate := func(r burst) float64 { return r.rate }
	cpu := func(r burst) float64 { return float64(r.cpu.Nanoseconds()) / 1000 }
	o, y := column(rounds[0], rate), column(rounds[1], rate)
	oc, yc := suite.Median(column(rounds[0], cpu)), suite.Median(column(rounds[1], cpu))
	ratio := suite.Median(o) / suite.Median(y)
	return []suite.Result{{
		Measure: fmt.Sprintf("fan-out to %d WebSocket subscribers, %d killmails at once: deliveries", b.conns, b.burst),
		Ours:    suite.PerSecond(suite.Median(o)), Yardstick: suite.PerSecond(suite.Median(y)), Ratio: ratio,
		Want: "at least 1.20", Met: ratio >= 1.20,
		Note: fmt.Sprintf("server CPU %.2f against %.2f us a delivery (%.2f), spread %.0f%% and %.0f%%",
			oc, yc, yc/oc, 100*suite.Spread(o), 100*suite.Spread(y)),
	}}, nil
}

// column is one figure of all rounds.
func column[T any](rounds []T, figure func(T) float64) []float64 {
	vs := make([]float64, len(rounds))
	for i, r := range rounds {
		vs[i] = figure(r)
	}
	return vs
}

// level is a ratio of delays that noise alone makes: one and the same server on both sides gave 0.87 to 1.11.
const level = 0.85

// delay is what a paced round found, in milliseconds, over all deliveries.
type delay struct {
	sent50, sent99         float64 // from the moment that the killmail was sent
	accepted50, accepted99 float64 // from the moment that the answer was read; 0 when the delivery came first
	cpu                    float64 // of the server, in microseconds for each delivery
}

// paced measures how long a killmail takes to its subscribers while there is time enough for each.
func paced(ctx context.Context, b *bench) ([]suite.Result, error) {
	sides, err := b.pair(ctx)
	if err != nil {
		return nil, err
	}
	n := int(b.round.Seconds() * float64(b.pace))
	round := func(s *side) func() (delay, error) {
		return func() (delay, error) { return s.paced(ctx, n, time.Second/time.Duration(b.pace)) }
	}
	rounds, err := suite.Turns(ctx, b.Rounds, round(sides[0]), round(sides[1]))
	if err := sides.end(err); err != nil {
		return nil, err
	}
	line := func(what string, figure func(delay) float64, want bool) suite.Result {
		o, y := column(rounds[0], figure), column(rounds[1], figure)
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
		suite.Median(column(rounds[0], cpu)), suite.Median(column(rounds[1], cpu)))
	return results, nil
}

func (s *side) paced(ctx context.Context, n int, every time.Duration) (delay, error) {
	lines := make([][]byte, n)
	for i := range lines {
		lines[i] = s.maker.Lines(1, busy)
	}
	if err := s.begin(n, true); err != nil {
		return delay{}, err
	}
	sent, answered := make([]int64, n), make([]int64, n)
	cpu := s.server.CPU()
	err := pace(ctx, n, every, s.subs.failed, func(i int) (err error) {
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
