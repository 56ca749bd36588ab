// Command filters measures what reads with a filter cost: the search through a long log, and what comes after it.
//
// It is run by ./scripts/bench filters. The server listens on the loopback interface only, load is bounded in count and time, and
// the only processes that it ends are those that it started.
package main

import (
	"bytes"
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"net/url"
	"os"
	"time"

	"killfeed/bench/internal/killmails"
	"killfeed/bench/internal/server"
	"killfeed/bench/internal/suite"
)

// bench is one run.
type bench struct {
	suite.Config
	clients int
	data    string // directory of the server that runs
}

// Two filters that each match one killmail in some thousand: of the second, the index knows nothing.
const (
	indexed = "alliance_id=99000400"
	sifted  = "war_id<601200"
)

func main() {
	b := &bench{Config: suite.Config{Rounds: 5}}
	b.Flags(flag.CommandLine)
	flag.IntVar(&b.clients, "clients", 200, "clients")
	flag.Parse()
	measure := func(name string, run func(context.Context, *bench, *server.Server) ([]suite.Result, error)) suite.Measure {
		return suite.Measure{Name: name, Run: func(ctx context.Context) ([]suite.Result, error) {
			dir, remove, err := killmails.Clone(ctx, b.Work, b.Events)
			if err != nil {
				return nil, err
			}
			defer remove()
			b.data = dir
			s, err := server.Serve(ctx, b.Work, b.Killfeed, dir, "--retain", "8760h", "--retain-max", "0")
			if err != nil {
				return nil, err
			}
			defer s.Stop()
			return run(ctx, b, s)
		}}
	}
	os.Exit(suite.Main(b.Config, []suite.Measure{
		measure("search", search),
		measure("nothing", nothing),
		measure("new", fresh),
	}))
}

// answer is what is looked at of a poll's answer.
type answer struct {
	Events []json.RawMessage `json:"events"`
	More   bool              `json:"more"`
}

// poll asks once. An empty filter is none.
func poll(c *server.Conn, client, filter string) (a answer, err error) {
	path := "/api/killfeed?topics=all&limit=1000&client_id=" + client
	if filter != "" {
		path += "&filter=" + url.QueryEscape(filter)
	}
	status, body, err := c.Do(server.Get(path))
	if err != nil {
		return a, err
	}
	if status != 200 {
		return a, fmt.Errorf("a poll was answered %d: %s", status, body)
	}
	return a, json.Unmarshal(body, &a)
}

// search measures the way from the first event to the last for clients that begin.
func search(ctx context.Context, b *bench, s *server.Server) ([]suite.Result, error) {
	c, err := server.Dial(s.Addr)
	if err != nil {
		return nil, err
	}
	defer c.Close()
	type found struct {
		polls, events int
		took, longest time.Duration
		cpu           time.Duration
	}
	n := 0
	through := func(filter string) func() (found, error) {
		return func() (f found, err error) {
			n++
			began, cpu := time.Now(), s.CPU()
			for more := true; more && ctx.Err() == nil; {
				at := time.Now()
				a, err := poll(c, fmt.Sprintf("search-%d-%d", began.UnixNano(), n), filter)
				if err != nil {
					return f, err
				}
				f.longest = max(f.longest, time.Since(at))
				f.polls++
				f.events += len(a.Events)
				more = a.More
			}
			f.took, f.cpu = time.Since(began), s.CPU()-cpu
			return f, context.Cause(ctx)
		}
	}
	got, err := suite.Turns(ctx, min(b.Rounds, 3), through(indexed), through(sifted))
	if err != nil {
		return nil, err
	}
	median := func(fs []found, of func(found) time.Duration) time.Duration {
		var vs []float64
		for _, f := range fs {
			vs = append(vs, float64(of(f)))
		}
		return time.Duration(suite.Median(vs))
	}
	var out []suite.Result
	for i, name := range []string{"the index is asked", "every killmail is looked into"} {
		f := got[i][0]
		if f.events < b.Events/2000 || f.events > b.Events/500 {
			return nil, fmt.Errorf("%d of %d killmails were found, which is not what is to be measured", f.events, b.Events)
		}
		took, cpu := median(got[i], func(f found) time.Duration { return f.took }), median(got[i], func(f found) time.Duration { return f.cpu })
		longest := median(got[i], func(f found) time.Duration { return f.longest })
		out = append(out, suite.Result{
			Measure:   fmt.Sprintf("a filter that matches %d of %d, %s: all found", f.events, b.Events, name),
			Ours:      took.Round(time.Millisecond).String(),
			Yardstick: "", Ratio: 1,
			Note: fmt.Sprintf("%d polls, the longest %v; server CPU %v, %.2f us an event stored", f.polls, longest.Round(time.Millisecond),
				cpu.Round(time.Millisecond), float64(cpu.Nanoseconds())/1e3/float64(b.Events)),
		})
	}
	return out, nil
}

// round is one poll of each client.
type round struct {
	cpu, took float64 // microseconds for each poll
	events    int
}

// all polls once for each client, one after another, on one connection.
func (b *bench) all(s *server.Server, kind, filter string) (r round, err error) {
	c, err := server.Dial(s.Addr)
	if err != nil {
		return r, err
	}
	defer c.Close()
	cpu, began := s.CPU(), time.Now()
	for i := range b.clients {
		a, err := poll(c, fmt.Sprintf("%s-%d", kind, i), filter)
		if err != nil {
			return r, err
		}
		if a.More {
			return r, fmt.Errorf("client %d of %s is behind by more than one poll", i, kind)
		}
		r.events += len(a.Events)
	}
	n := float64(b.clients)
	r.cpu, r.took = float64((s.CPU()-cpu).Nanoseconds())/1e3/n, float64(time.Since(began).Nanoseconds())/1e3/n
	return r, nil
}

// kinds are the clients of each way to ask.
var kinds = []struct{ name, filter string }{{"plain", ""}, {"indexed", indexed}, {"sifted", sifted}}

// latest puts all clients at the head.
func (b *bench) latest(s *server.Server) error {
	for _, k := range kinds {
		for i := range b.clients {
			status, answer, err := s.Send("POST", fmt.Sprintf("/api/clients/%s-%d/seek", k.name, i), `{"to":"latest","topics":["all"]}`)
			if err != nil || status != 200 {
				return fmt.Errorf("a seek was answered %d: %s, %w", status, answer, err)
			}
		}
	}
	return nil
}

// nothing measures polls for which there is nothing new.
func nothing(ctx context.Context, b *bench, s *server.Server) ([]suite.Result, error) {
	if err := b.latest(s); err != nil {
		return nil, err
	}
	return b.compare(ctx, s, fmt.Sprintf("poll, nothing new, %d stored", b.Events), func() error { return nil })
}

// fresh measures polls after 100 new killmails.
func fresh(ctx context.Context, b *bench, s *server.Server) ([]suite.Result, error) {
	if err := b.latest(s); err != nil {
		return nil, err
	}
	token, err := killmails.Token(b.data)
	if err != nil {
		return nil, err
	}
	maker := killmails.Fresh()
	return b.compare(ctx, s, fmt.Sprintf("poll after 100 new killmails, %d stored", b.Events), func() error {
		var body bytes.Buffer
		for range 100 {
			mail := maker.NextMail()
			body.Write(append(mail.AppendJSON(nil), '\n'))
		}
		c, err := server.Dial(s.Addr)
		if err != nil {
			return err
		}
		defer c.Close()
		status, answer, err := c.Do(server.Post("/api/killmails", token, body.Bytes()))
		if err == nil && status != 201 {
			err = fmt.Errorf("inserting was answered %d: %.200s", status, answer)
		}
		return err
	})
}

// compare measures a poll of each client with a filter against one without. before comes before all of a round.
func (b *bench) compare(ctx context.Context, s *server.Server, what string, before func() error) ([]suite.Result, error) {
	sides := []func() (round, error){func() (round, error) { return round{}, before() }}
	for _, k := range kinds {
		sides = append(sides, func() (round, error) { return b.all(s, k.name, k.filter) })
	}
	got, err := suite.Turns(ctx, b.Rounds, sides...)
	if err != nil {
		return nil, err
	}
	median := func(rs []round, of func(round) float64) float64 {
		var vs []float64
		for _, r := range rs {
			vs = append(vs, of(r))
		}
		return suite.Median(vs)
	}
	cpu, took := func(r round) float64 { return r.cpu }, func(r round) float64 { return r.took }
	plain := median(got[1], cpu)
	var out []suite.Result
	for i, name := range []string{"with a filter, the index is asked", "with a filter, killmails are looked into"} {
		rs := got[i+2]
		events := 0
		for _, r := range rs {
			events += r.events
		}
		ours := median(rs, cpu)
		out = append(out, suite.Result{
			Measure: fmt.Sprintf("%s, %d clients, %s, against without", what, b.clients, name),
			Ours:    fmt.Sprintf("%.1f us", ours), Yardstick: fmt.Sprintf("%.1f us", plain), Ratio: plain / ours,
			Note: fmt.Sprintf("server CPU a poll; %.1f against %.1f us to the answer; %.2f events an answer against %.0f",
				median(rs, took), median(got[1], took), float64(events)/float64(len(rs)*b.clients), float64(got[1][0].events)/float64(b.clients)),
		})
	}
	return out, nil
}
