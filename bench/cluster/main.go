// Command cluster measures a cluster of three NATS servers and three nodes against a feed of one node, both in one run, in turns,
// and prints the ratios.
//
// It is run by ./scripts/bench cluster. Servers sync every write and listen on the loopback interface only, load is bounded in count
// and time, and the only processes that it ends are those that it started.
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
	round  time.Duration
	conns  int
	subs   int
	burst  int
	kills  int
	movers int

	world *world // made for the first measure that wants it
}

func main() {
	if len(os.Args) > 1 && os.Args[1] == "nats" { // one of the servers: see startNATS
		if err := runNATS(os.Args[2:]); err != nil {
			fmt.Fprintln(os.Stderr, "nats:", err)
			os.Exit(1)
		}
		return
	}
	b := &bench{Config: suite.Config{Rounds: 5, Events: 100_000}}
	b.Flags(flag.CommandLine)
	flag.DurationVar(&b.round, "round", 2*time.Second, "length of a round of load")
	flag.IntVar(&b.conns, "conns", 64, "connections of the load generator")
	flag.IntVar(&b.subs, "subs", 300, "fanout: subscribers of each of the three nodes; the single one has three times as many")
	flag.IntVar(&b.burst, "burst", 100, "fanout: killmails at once")
	flag.IntVar(&b.kills, "kills", 3, "kill: how often the leading node is killed")
	flag.IntVar(&b.movers, "movers", 100, "kill: subscribers of the node that is killed")
	flag.Parse()
	for _, n := range []int{b.Rounds, b.Events / 10_000, b.conns, b.subs, b.burst, b.kills, b.movers} {
		if n < 1 {
			fmt.Fprintln(os.Stderr, "bench: every number must be at least 1, and -events 10000")
			os.Exit(2)
		}
	}
	measure := func(name string, run func(context.Context, *bench, *world) ([]suite.Result, error)) suite.Measure {
		return suite.Measure{Name: name, Run: func(ctx context.Context) ([]suite.Result, error) {
			if b.world == nil {
				w, err := newWorld(ctx, b)
				if err != nil {
					return nil, err
				}
				b.world = w
			}
			return run(ctx, b, b.world)
		}}
	}
	code := suite.Main(b.Config, []suite.Measure{
		measure("copy", joined),
		measure("cursor", cursorReads),
		measure("idle", idlePolls),
		measure("next", idleNext),
		measure("commit", committing),
		measure("insert", inserts),
		measure("fanout", fanout),
		measure("kill", kill),
	})
	if b.world != nil {
		if err := b.world.close(); err != nil {
			fmt.Fprintln(os.Stderr, "bench: ending the servers:", err)
			code = max(code, 1)
		}
	}
	os.Exit(code)
}

// column is one figure of all rounds.
func column[T any](rounds []T, figure func(T) float64) []float64 {
	vs := make([]float64, len(rounds))
	for i, r := range rounds {
		vs[i] = figure(r)
	}
	return vs
}
