//go:build linux

// Command soak keeps a real server under the load of very many live subscribers, some of which misbehave, kills it again and
// again, and checks from outside what it promises them. ./scripts/soak live runs it.
//
// Subscribers come over WebSocket (both versions of Channels), server-sent events, NDJSON, Phoenix's long polls, and polls with
// a cursor. They are about one busy system, a few systems, hundreds that change at run time, labels and people, or everything.
// Some are slow: they read at half the speed at which events come. Some stall: they stop reading until their connection is full,
// and longer, until the server has had enough of them. Whenever the server has died, all come back at once with their cursors.
//
// What is checked, against an oracle that knows every acknowledged insert and what it is about:
//
//   - a subscriber that resumes by cursor gets every event on its topics once, in ascending order, over all its connections and
//     all lives of the server: none lost, none twice, none of other topics, no gap told
//   - a durable client that commits by its own word misses nothing, and gets nothing again that it has committed
//   - one with automatic commits gets again at most what came in the last seconds before a kill, and misses at most what was on
//     its way when its connection was cut: that is what "at most once" means. A server that is asked to stop makes neither happen
//   - no connection is silent, refused otherwise than with 503 or 429, or closed for a reason that there is not
//   - all are back within a minute of every restart
//   - slow and stalled subscribers do not slow the others: the run goes through phases with and without them, under the same
//     load, and compares the 99th percentile of the time from an insert to its being read
//   - the server's memory does not grow
//   - at the end everybody gets to the head of the log, and killfeed check finds nothing
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"runtime/debug"
	"strings"
	"syscall"
	"time"
)

type config struct {
	killfeed    string
	time        time.Duration
	phase       time.Duration
	settling    time.Duration // what is not measured of a phase's beginning, and behind a restart
	subscribers int
	stalled     int // percent
	slow        int // percent
	rate        float64
	burst       int
	burstEvery  time.Duration
	killEvery   time.Duration
	slower      float64 // percent
	seed        uint64
	serve       string
	json        bool
	keep        bool

	progress io.Writer
}

func main() {
	c := config{progress: os.Stderr}
	flag.StringVar(&c.killfeed, "killfeed", "", "the killfeed binary to run")
	flag.DurationVar(&c.time, "time", 10*time.Minute, "how long the phases take together")
	flag.DurationVar(&c.phase, "phase", 0, "how long each phase takes; 0: 100s, or less so that there are four")
	flag.IntVar(&c.subscribers, "subscribers", 2000, "how many subscribers there are")
	flag.IntVar(&c.stalled, "stalled", 10, "`percent` of them that stall")
	flag.IntVar(&c.slow, "slow", 10, "`percent` of them that are slow")
	flag.Float64Var(&c.rate, "rate", 20, "killmails inserted in a second, beside bursts")
	flag.IntVar(&c.burst, "burst", 200, "killmails in a burst")
	flag.DurationVar(&c.burstEvery, "burst-every", 25*time.Second, "time between bursts")
	flag.DurationVar(&c.killEvery, "kill-every", 45*time.Second, "time between kills, a third more or less; 0: none")
	flag.Float64Var(&c.slower, "slower", 0, "fail when bad subscribers raise the others' p99 by more than this `percentage`; 0: only show it")
	flag.Uint64Var(&c.seed, "seed", 0, "seed of the random choices; 0 takes one from the clock")
	flag.StringVar(&c.serve, "serve", "", "more `flags` for the server, as in \"--connect-rate 200\"")
	flag.BoolVar(&c.json, "json", false, "print the result as JSON")
	flag.BoolVar(&c.keep, "keep", false, "leave the data directory and the server's log, and say where they are")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	debug.SetGCPercent(400) // the memory is there; the processor is the server's
	r, err := soak(ctx, c)
	if err == nil {
		err = r.print(os.Stdout, c.json)
	}
	switch {
	case err != nil:
		fmt.Fprintln(os.Stderr, "soak:", err)
		os.Exit(2)
	case !r.Pass:
		os.Exit(1)
	}
}

// complete fills in what was not given, and refuses what makes no sense.
func (c *config) complete() error {
	if c.phase == 0 {
		c.phase = min(100*time.Second, c.time/4)
	}
	c.settling = min(4*time.Second, c.phase/5)
	if c.seed == 0 {
		c.seed = uint64(time.Now().UnixNano())
	}
	switch {
	case c.killfeed == "":
		return errors.New("which binary is to be run? see -killfeed")
	case c.subscribers < 1 || c.stalled < 0 || c.slow < 0 || c.stalled+c.slow > 90:
		return errors.New("there must be subscribers, and at least a tenth of them healthy")
	case c.rate <= 0 || c.burst < 1 || c.burstEvery < time.Second:
		return errors.New("rate and burst must be above 0, and a second or more between bursts")
	case c.phase < time.Second:
		return errors.New("a phase takes a second or more")
	}
	return nil
}

// serveFlags are the flags for the server.
func (c *config) serveFlags() []string { return strings.Fields(c.serve) }

// soak is a run. An error says that it proves nothing.
func soak(ctx context.Context, c config) (*result, error) {
	if err := c.complete(); err != nil {
		return nil, err
	}
	dir, err := os.MkdirTemp("", "killfeed-soak")
	if err != nil {
		return nil, err
	}
	if c.keep {
		fmt.Fprintf(c.progress, "data and log of the server: %s\n", dir)
	} else {
		defer os.RemoveAll(dir)
	}
	w := newWorld(c, dir, c.progress)
	defer w.server.kill()
	fmt.Fprintf(c.progress, "seed %d, %d subscribers, %d phases of %v\n", c.seed, c.subscribers, len(w.phases), c.phase)
	switch err := w.run(ctx); {
	case ctx.Err() != nil: // nobody came to the end
		return nil, fmt.Errorf("interrupted, which proves nothing: %w", context.Cause(ctx))
	case err != nil && !w.underway:
		return nil, err
	case err != nil:
		w.oracle.violate(promiseStop, "the run could not go on: %v", err)
	}
	return w.result(), nil
}
