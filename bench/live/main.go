//go:build linux

// Command live measures killfeed's live edges against a server made of the centrifuge library, both sides in one run, in
// turns, and prints the ratios.
//
// It is run by ./scripts/bench live. Both sides are asked the same by the same code; target.go is all that differs. It shares
// the machine with the servers, so it reads as cheaply as it can (subscribers.go), and where that suffices it measures the
// servers' processor time beside the rates.
//
// Servers listen on the loopback interface only, load is bounded in count and time, and the only processes that it ends are
// those that it started. It needs Linux.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"time"

	"killfeed/bench/internal/suite"
)

// bench is one run.
type bench struct {
	suite.Config
	peer       string // the peer's binary
	peerFlags  string
	serveFlags string
	self       bool
	selfFlags  string

	conns     int // of fan-out
	burst     int
	pace      int
	round     time.Duration
	idleConns int
	joins     int
	most      int // subscribers of growth
}

func main() {
	b := &bench{Config: suite.Config{Rounds: 5}}
	b.Flags(flag.CommandLine)
	flag.StringVar(&b.peer, "peer", "", "the centrifuge binary to measure against")
	flag.StringVar(&b.peerFlags, "peer-flags", "", "flags for the peer, separated by spaces")
	flag.StringVar(&b.serveFlags, "serve-flags", "", "more flags for killfeed serve, separated by spaces")
	flag.BoolVar(&b.self, "self", false, "fanout and paced: the peer on both sides, which shows what noise alone makes of the ratio")
	flag.StringVar(&b.selfFlags, "self-flags", "", "with -self: flags for the peer that takes killfeed's place, to try its settings")
	flag.IntVar(&b.conns, "conns", 1000, "fanout and paced: subscribers")
	flag.IntVar(&b.burst, "burst", 200, "fanout: killmails at once")
	flag.IntVar(&b.pace, "pace", 10, "paced: killmails a second; spread takes ten times as many")
	flag.DurationVar(&b.round, "round", 10*time.Second, "paced: length of a round, at most 20s; one of spread is half as long again")
	flag.IntVar(&b.idleConns, "idle", 10_000, "idle and spread: subscribers")
	flag.IntVar(&b.joins, "joins", 200, "resume: joins of each kind in a round")
	flag.IntVar(&b.most, "most", 15_000, "growth: most subscribers")
	flag.Parse()
	if err := b.check(); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(2)
	}
	measure := func(name string, run func(context.Context, *bench) ([]suite.Result, error)) suite.Measure {
		return suite.Measure{Name: name, Run: func(ctx context.Context) ([]suite.Result, error) { return run(ctx, b) }}
	}
	if b.Only == "growth" { // it makes a table, and only when it is asked for
		os.Exit(suite.MainTables(b.Config, []suite.Growth{{Name: "growth", Run: func(ctx context.Context) (suite.Table, error) { return growth(ctx, b) }}}))
	}
	os.Exit(suite.Main(b.Config, []suite.Measure{
		measure("fanout", fanout),
		measure("paced", paced),
		measure("idle", idle),
		measure("resting", resting),
		measure("resume", resume),
		measure("spread", spread),
	}))
}

func (b *bench) check() error {
	for _, n := range []int{b.Rounds, b.conns, b.burst, b.pace, b.idleConns, b.joins, b.most} {
		if n < 1 {
			return fmt.Errorf("%d is too few: every number must be at least 1", n)
		}
	}
	if b.round < time.Second || b.round > (longest-15*time.Second)*2/3 {
		return fmt.Errorf("a round of %v: it must be 1s to 20s, so that no heartbeat falls into one", b.round)
	}
	need := max(2*b.conns, b.idleConns)
	if b.Only == "growth" {
		need = b.most
	}
	return raiseFileLimit(need)
}
