// Command growth measures how cost grows with what is stored, with a client's systems, with clients, with the size of killmails,
// with the rate of inserts, and with subscribers, and prints a table for each and draws it.
//
// It is run by ./scripts/bench growth. Costs are the server's processor time, which does not mind what the load generator takes of
// the machine. Servers listen on the loopback interface only, load is bounded in count and time, and the only processes that it
// ends are those that it started.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"killfeed/bench/internal/suite"
)

// bench is one run.
type bench struct {
	suite.Config
	live   string // binary of bench/live
	images string
	round  time.Duration
	conns  int

	clients, subscribers int // at most
}

func main() {
	b := &bench{Config: suite.Config{Rounds: 3}}
	b.Flags(flag.CommandLine)
	flag.Lookup("events").Usage = "stored: most events"
	flag.StringVar(&b.live, "live", "", "the binary of bench/live, which measures subscribers")
	flag.StringVar(&b.images, "images", "", "directory for a picture of each table")
	flag.DurationVar(&b.round, "round", time.Second, "length of a round of load")
	flag.IntVar(&b.conns, "conns", 64, "connections")
	flag.IntVar(&b.clients, "clients", 100_000, "clients: most clients")
	flag.IntVar(&b.subscribers, "subscribers", 15_000, "subscribers: most subscribers")
	if err := flag.Set("events", "10000000"); err != nil {
		panic(err)
	}
	flag.Parse()
	grow := func(name string, run func(context.Context, *bench) (suite.Table, error)) suite.Growth {
		return suite.Growth{Name: name, Run: func(ctx context.Context) (suite.Table, error) {
			t, err := run(ctx, b)
			if err == nil && b.images != "" {
				err = os.WriteFile(filepath.Join(b.images, "growth-"+t.Name+".svg"), []byte(t.SVG()), 0o644)
			}
			return t, err
		}}
	}
	os.Exit(suite.MainTables(b.Config, []suite.Growth{
		grow("stored", stored),
		grow("systems", systems),
		grow("clients", clients),
		grow("subscribers", subscribers),
		grow("size", size),
		grow("rate", rate),
	}))
}

// subscribers has bench/live measure.
func subscribers(ctx context.Context, b *bench) (t suite.Table, err error) {
	if b.live == "" {
		return t, fmt.Errorf("-live is missing")
	}
	file := filepath.Join(b.Work, "subscribers.json")
	defer os.Remove(file)
	cmd := exec.CommandContext(ctx, b.live, "-only", "growth", "-killfeed", b.Killfeed, "-work", b.Work, "-rounds", fmt.Sprint(b.Rounds),
		"-most", fmt.Sprint(b.subscribers), "-json", file)
	cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) } // it stops its servers
	cmd.WaitDelay = time.Minute
	var said strings.Builder
	cmd.Stdout, cmd.Stderr = &said, os.Stderr
	if err := cmd.Run(); err != nil {
		return t, fmt.Errorf("%w: %s", err, said.String())
	}
	r, err := suite.ReadReport(file)
	if err != nil {
		return t, err
	}
	if len(r.Tables) != 1 {
		return t, fmt.Errorf("%d tables came, not one", len(r.Tables))
	}
	return r.Tables[0], nil
}
