package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"killfeed/bench/internal/killmails"
	"killfeed/bench/internal/server"
	"killfeed/bench/internal/suite"
)

// side is one server with what is asked of it.
type side struct {
	name   string
	server *server.Server
	status int
	path   func(i int) string
	before func() error // before each round
	loads  []server.Load
}

// compare loads the sides in turns.
func (b *bench) compare(ctx context.Context, sides ...*side) error {
	for round := range b.Rounds + 1 {
		for _, s := range sides {
			if ctx.Err() != nil {
				return context.Cause(ctx)
			}
			if s.before != nil {
				if err := s.before(); err != nil {
					return fmt.Errorf("%s: %w", s.name, err)
				}
			}
			requests := make([][]byte, b.conns)
			for i := range requests {
				requests[i] = server.Get(s.path(i))
			}
			request := func(i int) []byte { return requests[i] }
			l, err := server.Drive([]*server.Server{s.server}, b.conns, b.round, request, func(_, status int, body []byte) error {
				if status == 204 && s.status == 200 {
					return server.ErrEnough // everything is read
				}
				if status != s.status {
					return fmt.Errorf("%s answered %d, want %d: %s", s.name, status, s.status, body)
				}
				return nil
			})
			if err != nil {
				return err
			}
			if round > 0 {
				s.loads = append(s.loads, l)
			}
		}
	}
	return nil
}

func (s *side) rate() float64 { return suite.Median(s.rates()) }

func (s *side) rates() (vs []float64) {
	for _, l := range s.loads {
		vs = append(vs, l.Rate)
	}
	return vs
}

func (s *side) cpu() float64 {
	var vs []float64
	for _, l := range s.loads {
		vs = append(vs, float64(l.CPU.Nanoseconds())/1000)
	}
	return suite.Median(vs)
}

// against is the result line of two sides. The ratio is that of the rates; that of processor time stands beside it, because
// it does not count what the load side takes of the machine.
func (s *side) against(y *side, name string, least float64) suite.Result {
	r := s.rate() / y.rate()
	return suite.Result{
		Measure: name, Ours: suite.PerSecond(s.rate()), Yardstick: suite.PerSecond(y.rate()), Ratio: r,
		Want: fmt.Sprintf("at least %.2f", least), Met: r >= least,
		Note: fmt.Sprintf("server CPU %.1f against %.1f us a request (%.2f), spread %.0f%% and %.0f%%",
			s.cpu(), y.cpu(), y.cpu()/s.cpu(), 100*suite.Spread(s.rates()), 100*suite.Spread(y.rates())),
	}
}

func (b *bench) yardstick(ctx context.Context, kind string, env ...string) (*server.Server, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	for _, e := range append(env, "YARDSTICK="+kind) {
		name, value, _ := strings.Cut(e, "=")
		if err := os.Setenv(name, value); err != nil {
			return nil, err
		}
	}
	return server.Start(ctx, b.Work, self, "yardstick")
}

// caughtUp makes the bench's clients stand at the head, on ten systems each.
func (b *bench) caughtUp(s *server.Server) error { return b.seek(s, "latest") }

// seek moves all of the bench's clients.
func (b *bench) seek(s *server.Server, to string) error {
	ids, _ := hotSystems()
	for i := range b.conns {
		body, _ := json.Marshal(map[string]any{"to": to, "systems": ids})
		status, answer, err := s.Send("POST", fmt.Sprintf("/api/clients/bench-%d/seek", i), string(body))
		if err != nil {
			return err
		}
		if status != 200 {
			return fmt.Errorf("seek answered %d: %s", status, answer)
		}
	}
	return nil
}

// idle measures next with nothing new.
func idle(ctx context.Context, b *bench) ([]suite.Result, error) {
	bare, err := b.yardstick(ctx, "bare")
	if err != nil {
		return nil, err
	}
	defer bare.Stop()
	queried, err := b.yardstick(ctx, "query")
	if err != nil {
		return nil, err
	}
	defer queried.Stop()
	path := func(i int) string { return "/api/killfeed/next?" + query(i) }
	sides := []*side{
		{name: "bare", server: bare, status: 204, path: path},
		{name: "query", server: queried, status: 204, path: path},
	}
	for _, n := range []int{1000, b.Events} {
		s, err := b.serve(ctx, n)
		if err != nil {
			return nil, err
		}
		defer s.close()
		if err := b.caughtUp(s.Server); err != nil {
			return nil, err
		}
		sides = append(sides, &side{name: fmt.Sprint(n), server: s.Server, status: 204, path: path})
	}
	if err := b.compare(ctx, sides...); err != nil {
		return nil, err
	}
	empty, query, small, large := sides[0], sides[1], sides[2], sides[3]
	of := fmt.Sprintf("next, nothing new, %d stored, against ", b.Events)
	bareLine := large.against(empty, of+"a bare 204 handler", 0)
	bareLine.Want = ""
	same := large.against(small, fmt.Sprintf("next, nothing new, %d stored, against 1000 stored", b.Events), 0.85)
	same.Want = "within 15 %"
	same.Met = same.Ratio >= 0.85 && same.Ratio <= 1/0.85
	line := large.against(query, of+"a handler that reads the query", 0.90)
	line.Promise = true
	return []suite.Result{line, bareLine, same}, nil
}

// next measures next with a new event.
func next(ctx context.Context, b *bench) ([]suite.Result, error) {
	served, err := b.serve(ctx, b.Events)
	if err != nil {
		return nil, err
	}
	defer served.close()
	ours := served.Server
	// A few thousand events come in anew, so that they are what the server holds of the newest.
	if err := served.feed(killmails.Fresh(), 6000); err != nil {
		return nil, err
	}
	head, err := served.head()
	if err != nil {
		return nil, err
	}
	from := fmt.Sprint(head - 5999)
	if err := b.seek(ours, from); err != nil {
		return nil, err
	}
	status, body, err := ours.Get("/api/killfeed/next?" + query(0) + "&commit=manual")
	if err != nil || status != 200 {
		return nil, fmt.Errorf("next answered %d: %w", status, err)
	}
	file := filepath.Join(b.Work, "body.json")
	if err := os.WriteFile(file, body, 0o600); err != nil {
		return nil, err
	}
	yard, err := b.yardstick(ctx, "body", "YARDSTICK_BODY="+file)
	if err != nil {
		return nil, err
	}
	defer yard.Stop()
	path := func(i int) string { return "/api/killfeed/next?" + query(i) }
	y := &side{name: "body", server: yard, status: 200, path: path}
	o := &side{name: "next", server: ours, status: 200, path: path, before: func() error { return b.seek(ours, from) }}
	if err := b.compare(ctx, y, o); err != nil {
		return nil, err
	}
	line := o.against(y, fmt.Sprintf("next with a new event of %d bytes, against a handler that writes the same", len(body)), 0.70)
	line.Promise = true
	return []suite.Result{line}, nil
}
