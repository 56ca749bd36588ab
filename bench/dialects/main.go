// Command dialects measures what polls of RedisQ cost, and that it does not depend on what is stored.
//
// It is run by ./scripts/bench dialects. Two servers, one with a long log and one with a short one, are asked the same in turns by
// the same number of queues. Servers listen on the loopback interface only, load is bounded in count and time, and the only
// processes that it ends are those that it started.
package main

import (
	"bytes"
	"context"
	"flag"
	"fmt"
	"net/url"
	"os"
	"sync"
	"time"

	"killfeed/bench/internal/killmails"
	"killfeed/bench/internal/server"
	"killfeed/bench/internal/suite"
)

// bench is one run.
type bench struct {
	suite.Config
	queues int
	small  int
}

// Filters that match one killmail in some thousand: of the second, the index knows nothing.
var filters = []struct{ name, text string }{
	{"without a filter", ""},
	{"with a filter, the index is asked", "alliance_id=99000400"},
	{"with a filter, killmails are looked into", "war_id<601200"},
}

func main() {
	b := &bench{Config: suite.Config{Rounds: 5}}
	b.Flags(flag.CommandLine)
	flag.IntVar(&b.queues, "queues", 200, "queues, each with a poll at a time")
	flag.IntVar(&b.small, "small", 1000, "events in the short log")
	flag.Parse()
	measure := func(name string, run func(context.Context, *bench, []*side) ([]suite.Result, error)) suite.Measure {
		return suite.Measure{Name: name, Run: func(ctx context.Context) ([]suite.Result, error) {
			var sides []*side
			for _, n := range []int{b.Events, b.small} {
				s, err := b.side(ctx, n)
				if err != nil {
					return nil, err
				}
				defer s.close()
				sides = append(sides, s)
			}
			return run(ctx, b, sides)
		}}
	}
	os.Exit(suite.Main(b.Config, []suite.Measure{measure("idle", idle), measure("new", fresh)}))
}

// side is a server with its queues, each on a connection of its own.
type side struct {
	server *server.Server
	remove func() // its log
	token  string
	conns  []*server.Conn
	mails  int // that were inserted in all
}

func (b *bench) side(ctx context.Context, n int) (*side, error) {
	dir, remove, err := killmails.Clone(ctx, b.Work, n)
	if err != nil {
		return nil, err
	}
	s := &side{remove: remove}
	if s.server, err = server.Serve(ctx, b.Work, b.Killfeed, dir, "--retain", "8760h", "--retain-max", "0"); err != nil {
		remove()
		return nil, err
	}
	if s.token, err = killmails.Token(dir); err != nil {
		s.close()
		return nil, err
	}
	for range b.queues {
		c, err := server.Dial(s.server.Addr)
		if err != nil {
			s.close()
			return nil, err
		}
		s.conns = append(s.conns, c)
	}
	return s, nil
}

func (s *side) close() {
	for _, c := range s.conns {
		c.Close()
	}
	s.server.Stop()
	s.remove()
}

var empty = []byte(`{"package":null}`)

// all has every queue poll at once until it is told that there is nothing, and returns the polls, the packages, and the server's
// processor time for each poll in microseconds.
func (s *side) all(kind, filter string) (polls, packages int, cpu float64, err error) {
	query := "&ttw=1"
	if filter != "" {
		query += "&filter=" + url.QueryEscape(filter)
	}
	var (
		mu sync.Mutex // guards the results
		wg sync.WaitGroup
	)
	used := s.server.CPU()
	for i, c := range s.conns {
		wg.Go(func() {
			for {
				status, body, failed := c.Do(server.Get(fmt.Sprintf("/listen.php?queueID=%s-%d%s", kind, i, query)))
				if failed == nil && status != 200 {
					failed = fmt.Errorf("a poll was answered %d: %s", status, body)
				}
				mu.Lock()
				polls++
				nothing := bytes.Equal(body, empty)
				if !nothing && failed == nil {
					packages++
				}
				if failed != nil {
					err = failed
				}
				mu.Unlock()
				if nothing || failed != nil {
					return
				}
			}
		})
	}
	wg.Wait()
	return polls, packages, float64((s.server.CPU() - used).Nanoseconds()) / 1e3 / float64(max(polls, 1)), err
}

// insert puts killmails into the log.
func (s *side) insert(n int) error {
	maker := killmails.Fresh()
	var body bytes.Buffer
	for range n {
		mail := maker.NextMail()
		body.Write(append(mail.AppendJSON(nil), '\n'))
	}
	c, err := server.Dial(s.server.Addr)
	if err != nil {
		return err
	}
	defer c.Close()
	status, answer, err := c.Do(server.Post("/api/killmails", s.token, body.Bytes()))
	if err == nil && status != 201 {
		err = fmt.Errorf("inserting was answered %d: %.200s", status, answer)
	}
	s.mails += n
	return err
}

// idle measures polls that end with nothing after a second.
func idle(ctx context.Context, b *bench, sides []*side) ([]suite.Result, error) {
	return b.compare(ctx, sides, "RedisQ poll, nothing for a second", 0)
}

// fresh measures polls after new killmails: one in a thousand is for a queue with a filter. Without one, each is.
func fresh(ctx context.Context, b *bench, sides []*side) ([]suite.Result, error) {
	return b.compare(ctx, sides, "RedisQ poll after new killmails", 1000)
}

// compare measures both sides in turns.
func (b *bench) compare(ctx context.Context, sides []*side, what string, insert int) ([]suite.Result, error) {
	var out []suite.Result
	for i, f := range filters {
		n := insert
		if f.text == "" {
			n = min(n, 20) // which every queue gets one by one
		}
		kind := fmt.Sprintf("%s-%d-%d", map[bool]string{true: "new", false: "idle"}[insert > 0], i, time.Now().UnixNano())
		var measures []func() (float64, error)
		polls, packages := 0, 0
		for _, s := range sides {
			measures = append(measures, func() (float64, error) {
				if n > 0 {
					if err := s.insert(n); err != nil {
						return 0, err
					}
				}
				p, got, cpu, err := s.all(kind, f.text)
				polls, packages = p, got
				return cpu, err
			})
		}
		got, err := suite.Turns(ctx, b.Rounds, measures...)
		if err != nil {
			return nil, err
		}
		large, small := suite.Median(got[0]), suite.Median(got[1])
		out = append(out, suite.Result{
			Measure: fmt.Sprintf("%s, %d queues, %s: %d stored against %d", what, b.queues, f.name, b.Events, b.small),
			Ours:    fmt.Sprintf("%.1f us", large), Yardstick: fmt.Sprintf("%.1f us", small), Ratio: small / large,
			Want: "within 25 %", Met: large <= 1.25*small,
			Note: fmt.Sprintf("server CPU a poll; in a round %d killmails inserted, %d polls, %d packages; spread %.0f%% and %.0f%%",
				n, polls, packages, 100*suite.Spread(got[0]), 100*suite.Spread(got[1])),
		})
	}
	return out, nil
}
