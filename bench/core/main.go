// Command core measures the heart of killfeed against yardsticks, both sides in one run, in turns, and prints the ratios.
//
// It is run by ./scripts/bench core. Servers listen on the loopback interface only, load is bounded in count and time, and
// the only processes that it ends are those that it started.
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
	archive string // a real day, for the import; skipped without
	round   time.Duration
	conns   int
}

func main() {
	if len(os.Args) > 2 && os.Args[1] == "yardstick" {
		if err := yardstick(os.Args[2]); err != nil {
			fmt.Fprintln(os.Stderr, "yardstick:", err)
			os.Exit(1)
		}
		return
	}
	b := &bench{Config: suite.Config{Rounds: 7}}
	b.Flags(flag.CommandLine)
	flag.StringVar(&b.archive, "archive", "../shared/data/killmails-2021-11-30.tar.bz2", "a day archive for the import measure")
	flag.DurationVar(&b.round, "round", 2*time.Second, "length of a round of load")
	flag.IntVar(&b.conns, "conns", 64, "connections")
	flag.Parse()
	measure := func(name string, run func(context.Context, *bench) ([]suite.Result, error)) suite.Measure {
		return suite.Measure{Name: name, Run: func(ctx context.Context) ([]suite.Result, error) { return run(ctx, b) }}
	}
	os.Exit(suite.Main(b.Config, []suite.Measure{
		measure("limits", limits),
		measure("idle", idle),
		measure("next", next),
		measure("poll", poll),
		measure("stored", stored),
		measure("fetch", fetch),
		measure("insert", insert),
		measure("import", importDay),
		measure("open", reopen),
		measure("memory", memory),
		measure("size", size),
	}))
}

// turns runs each side in turn; see suite.Turns.
func (b *bench) turns(ctx context.Context, sides ...func() (float64, error)) ([][]float64, error) {
	return suite.Turns(ctx, b.Rounds, sides...)
}
