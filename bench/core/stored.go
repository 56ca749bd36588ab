package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"time"

	"killfeed/bench/internal/killmails"
	"killfeed/bench/internal/server"
	"killfeed/bench/internal/suite"
)

// stored measures what the same work costs with much stored and with little, at the newest events: the server's processor time,
// which does not mind what the load generator takes of the machine.
func stored(ctx context.Context, b *bench) ([]suite.Result, error) {
	const (
		little = 1000
		most   = 1.1
		fresh  = 2000 // that come in anew at both, so that both have the same newest events
	)
	begin := time.Now()
	var sides [][]func() (float64, error)
	for _, n := range []int{b.Events, little} {
		s, err := b.serve(ctx, n, "--connect-rate", "0")
		if err != nil {
			return nil, err
		}
		defer s.close()
		m := killmails.FreshOf(begin)
		if err := s.feed(m, fresh); err != nil {
			return nil, err
		}
		at, err := b.newcomer(s)
		if err != nil {
			return nil, err
		}
		token, err := killmails.Token(s.dir)
		if err != nil {
			return nil, err
		}
		sides = append(sides, []func() (float64, error){
			func() (float64, error) {
				return b.cost(s, 204, func(i int) []byte { return server.Get("/api/killfeed/next?" + query(i)) })
			},
			func() (float64, error) {
				if err := b.seek(s.Server, fmt.Sprint(at.head-999)); err != nil {
					return 0, err
				}
				v, err := b.cost(s, 200, func(i int) []byte { return server.Get("/api/killfeed?limit=100&commit=manual&" + query(i)) })
				if err != nil {
					return 0, err
				}
				return v, b.caughtUp(s.Server)
			},
			func() (float64, error) { return at.resume(ctx, s) },
			func() (float64, error) {
				const each = 64 // by each connection
				bodies := make([][][]byte, b.conns)
				for range each {
					for i := range bodies {
						bodies[i] = append(bodies[i], server.Post("/api/killmails", token, m.Next().JSON))
					}
				}
				cpu := s.CPU()
				_, err := server.Each(s.Server, bodies, 201)
				return float64((s.CPU() - cpu).Nanoseconds()) / 1e3 / float64(each*b.conns), err
			},
		})
		if err := b.caughtUp(s.Server); err != nil {
			return nil, err
		}
	}
	var rs []suite.Result
	for k, name := range []string{"next, nothing new", "fetch of 100 of the newest 1,000", "resume of a stream 100 events behind", "insert, 64 writers"} {
		got, err := suite.Turns(ctx, b.Rounds, sides[0][k], sides[1][k])
		if err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
		much, few := suite.Median(got[0]), suite.Median(got[1])
		rs = append(rs, suite.Result{
			Measure: fmt.Sprintf("%s: cost with %d stored, against %d", name, b.Events, little),
			Ours:    fmt.Sprintf("%.1f us", much), Yardstick: fmt.Sprintf("%.1f us", few), Ratio: few / much,
			Want: fmt.Sprintf("at most %.1f times", most), Met: much <= most*few, Promise: true,
			Note: fmt.Sprintf("%.2f times the server's CPU time, spread %.0f%% and %.0f%%", much/few, 100*suite.Spread(got[0]), 100*suite.Spread(got[1])),
		})
	}
	return rs, nil
}

// cost loads a server for a round and tells how many microseconds of its processor time each request took.
func (b *bench) cost(s *served, want int, request func(i int) []byte) (float64, error) {
	requests := make([][]byte, b.conns)
	for i := range requests {
		requests[i] = request(i)
	}
	l, err := server.Drive([]*server.Server{s.Server}, b.conns, b.round, func(i int) []byte { return requests[i] }, func(_, status int, body []byte) error {
		if status != want {
			return fmt.Errorf("answered %d, want %d: %.200s", status, want, body)
		}
		return nil
	})
	return float64(l.CPU.Nanoseconds()) / 1000, err
}

// newcomer is where a stream begins that is a little behind.
type newcomer struct {
	head   int
	cursor string
}

func (b *bench) newcomer(s *served) (*newcomer, error) {
	head, err := s.head()
	if err != nil {
		return nil, err
	}
	status, body, err := s.Get(fmt.Sprintf("/api/killfeed?topics=all&limit=1&after=%d", head-1))
	if err != nil {
		return nil, err
	}
	var a struct {
		Epoch string `json:"epoch"`
	}
	if err := json.Unmarshal(body, &a); err != nil || status != 200 {
		return nil, fmt.Errorf("a poll was answered %d: %.200s", status, body)
	}
	return &newcomer{head, fmt.Sprintf("%d-%s", head-100, a.Epoch)}, nil
}

// resume opens streams one after another, reads the first 100 events of each, and tells the server's processor time for each.
func (at *newcomer) resume(ctx context.Context, s *served) (float64, error) {
	const times, behind = 200, 100
	request := server.Get("/api/killfeed/stream?topics=all&after=" + at.cursor)
	buf := make([]byte, 256<<10)
	mark := []byte("event: new_killmail\n")
	cpu := s.CPU()
	for range times {
		if ctx.Err() != nil {
			return 0, context.Cause(ctx)
		}
		err := func() error {
			c, err := server.Dial(s.Addr)
			if err != nil {
				return err
			}
			defer c.Close()
			c.SetDeadline(time.Now().Add(20 * time.Second))
			if _, err := c.Write(request); err != nil {
				return err
			}
			rest, seen := 0, 0
			for seen < behind {
				n, err := c.Read(buf[rest:])
				if err != nil {
					return fmt.Errorf("a stream ended after %d of %d events: %w", seen, behind, err)
				}
				seen += bytes.Count(buf[:rest+n], mark)
				// What may be the beginning of a mark stays; a whole one is not counted twice.
				keep := min(rest+n, len(mark)-1)
				rest = copy(buf, buf[rest+n-keep:rest+n])
			}
			return nil
		}()
		if err != nil {
			return 0, err
		}
	}
	return float64((s.CPU() - cpu).Nanoseconds()) / 1e3 / times, nil
}

// events is how many events an answer has.
func events(body []byte) int { return bytes.Count(body, []byte(`"event_id":`)) }
