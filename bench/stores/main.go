// Command stores measures killfeed's inserts and consumers' reads against servers that keep streams of messages: Redis Streams and
// NATS JetStream.
//
// It is run by ./scripts/bench stores. All are servers in processes of their own, listen on the loopback interface only, and are
// asked by the same load generator: one connection for each writer or reader, each request written at once and its answer read
// before the next. Redis and NATS are spoken to in their protocols without a library, so that they are not charged for one.
// Load is bounded in count and time, and the only processes that it ends are those that it started.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"killfeed/bench/internal/killmails"
	"killfeed/bench/internal/server"
	"killfeed/bench/internal/suite"
)

// bench is one run.
type bench struct {
	suite.Config
	redis     string // binary
	jetstream string // binary
	writers   int
	each      int // killmails of a writer in a round
	reads     int // of a round
}

func main() {
	b := &bench{Config: suite.Config{Rounds: 7}}
	b.Flags(flag.CommandLine)
	flag.StringVar(&b.redis, "redis", "redis-server", "Redis's server")
	flag.StringVar(&b.jetstream, "jetstream", "", "the jetstream binary of bench/peers")
	flag.IntVar(&b.writers, "writers", 64, "writers, each with a connection")
	flag.IntVar(&b.each, "each", 200, "killmails that each writer inserts in a round; a fifth of it into JetStream")
	flag.IntVar(&b.reads, "reads", 200, "reads in a round")
	flag.Parse()
	for _, n := range []int{b.Rounds, b.writers, b.each, b.reads} {
		if n < 1 {
			fmt.Fprintf(os.Stderr, "bench: %d is too few: every number must be at least 1\n", n)
			os.Exit(2)
		}
	}
	measure := func(name string, run func(context.Context, *bench) ([]suite.Result, error)) suite.Measure {
		return suite.Measure{Name: name, Run: func(ctx context.Context) ([]suite.Result, error) { return run(ctx, b) }}
	}
	os.Exit(suite.Main(b.Config, []suite.Measure{measure("writers", writers), measure("readers", readers)}))
}

// kept are flags with which killfeed removes nothing.
var kept = []string{"--retain", "0", "--retain-max", "0", "--client-ttl", "0"}

// startRedis starts Redis with a directory of its own. sync is when it fsyncs: always, or everysec. It is never made to write its
// log anew, which would have it fork in the midst of a measure.
func (b *bench) startRedis(ctx context.Context, sync string) (*peer, error) {
	dir, err := os.MkdirTemp(b.Work, "redis")
	if err != nil {
		return nil, err
	}
	p := &peer{dir: dir}
	// It tells nobody which port it took, so it is told one that was free a moment ago.
	port, err := server.FreePort()
	if err == nil {
		p.Server, err = server.StartAt(ctx, fmt.Sprintf("127.0.0.1:%d", port), b.redis, "--bind", "127.0.0.1", "--port", strconv.Itoa(port),
			"--dir", dir, "--appendonly", "yes", "--appendfsync", sync, "--save", "", "--auto-aof-rewrite-percentage", "0",
			"--daemonize", "no", "--loglevel", "warning")
	}
	if err != nil {
		os.RemoveAll(dir)
		return nil, err
	}
	return p, nil
}

// startJetStream starts NATS with a stream that is fsynced.
func (b *bench) startJetStream(ctx context.Context) (*peer, error) {
	dir, err := os.MkdirTemp(b.Work, "jetstream")
	if err != nil {
		return nil, err
	}
	p := &peer{dir: dir}
	p.Server, err = server.Start(ctx, b.Work, b.jetstream, "-dir", dir, "-addr-file")
	if err != nil {
		os.RemoveAll(dir)
		return nil, err
	}
	c, err := dialNATS(p.Addr)
	if err == nil {
		defer c.Close()
		var answer []byte
		answer, err = c.request("$JS.API.STREAM.CREATE.killmails",
			[]byte(`{"name":"killmails","subjects":["km.>"],"storage":"file","retention":"limits","num_replicas":1,"max_msg_size":-1}`))
		if err == nil && !contains(answer, `"did_create":true`) {
			err = fmt.Errorf("JetStream made no stream: %.300s", answer)
		}
	}
	if err != nil {
		p.close()
		return nil, err
	}
	return p, nil
}

// startKillfeed starts killfeed on an empty log, or on a copy of the one with n events.
func (b *bench) startKillfeed(ctx context.Context, n int) (_ *peer, err error) {
	p := &peer{}
	if n > 0 {
		p.dir, _, err = killmails.Clone(ctx, b.Work, n)
	} else {
		p.dir, err = os.MkdirTemp(b.Work, "killfeed")
	}
	if err != nil {
		return nil, err
	}
	if p.Server, err = server.Serve(ctx, b.Work, b.Killfeed, p.dir, kept...); err != nil {
		os.RemoveAll(p.dir)
		return nil, err
	}
	return p, nil
}

// peer is a server with its files.
type peer struct {
	*server.Server
	dir string
}

func (p *peer) close() {
	p.Stop()
	os.RemoveAll(p.dir)
}

// disk is how many bytes its files take.
func (p *peer) disk() (sum int64) {
	filepath.WalkDir(p.dir, func(_ string, d os.DirEntry, err error) error {
		if err == nil && d.Type().IsRegular() {
			if st, err := d.Info(); err == nil {
				sum += st.Size()
			}
		}
		return nil
	})
	return sum
}

// cost is what a round found.
type cost struct {
	rate float64 // a second
	cpu  float64 // microseconds of the server, each
}

// timed runs f, which does n things, and tells what each took.
func timed(s *server.Server, n int, f func() error) (cost, error) {
	cpu, start := s.CPU(), time.Now()
	if err := f(); err != nil {
		return cost{}, err
	}
	return cost{float64(n) / time.Since(start).Seconds(), float64((s.CPU() - cpu).Nanoseconds()) / 1e3 / float64(n)}, nil
}

func rates(cs []cost) []float64 {
	vs := make([]float64, len(cs))
	for i, c := range cs {
		vs[i] = c.rate
	}
	return vs
}

func cpus(cs []cost) []float64 {
	vs := make([]float64, len(cs))
	for i, c := range cs {
		vs[i] = c.cpu
	}
	return vs
}

// against is a line of the table. least 0 is for information.
func against(measure string, ours, theirs []cost, least float64) suite.Result {
	o, t := suite.Median(rates(ours)), suite.Median(rates(theirs))
	r := suite.Result{
		Measure: measure, Ours: suite.PerSecond(o), Yardstick: suite.PerSecond(t), Ratio: o / t,
		Note: fmt.Sprintf("server CPU %.1f against %.1f us each, spread %.0f%% and %.0f%%", suite.Median(cpus(ours)), suite.Median(cpus(theirs)),
			100*suite.Spread(rates(ours)), 100*suite.Spread(rates(theirs))),
	}
	if least > 0 {
		r.Want, r.Met, r.Promise = fmt.Sprintf("at least %.2f", least), o/t >= least, true
	}
	return r
}
