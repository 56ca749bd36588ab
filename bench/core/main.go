// Command core measures the heart of killfeed against yardsticks, both sides in one run, in turns, and prints the ratios.
//
// It is run by ./scripts/bench core. Servers listen on the loopback interface only, load is bounded in count and time, and
// the only processes that it ends are those that it started.
package main

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"runtime/pprof"
	"slices"
	"strings"
	"syscall"
	"time"
)

// config is what the flags say.
type config struct {
	killfeed string // the binary under test
	archive  string // a real day, for the import; skipped without
	work     string // where logs are kept between runs
	events   int    // size of the large log
	rounds   int
	round    time.Duration
	conns    int
	only     string
	profile  string
	json     bool
}

func main() {
	if len(os.Args) > 2 && os.Args[1] == "yardstick" {
		if err := yardstick(os.Args[2]); err != nil {
			fmt.Fprintln(os.Stderr, "yardstick:", err)
			os.Exit(1)
		}
		return
	}
	var c config
	flag.StringVar(&c.killfeed, "killfeed", "", "the killfeed binary to measure")
	flag.StringVar(&c.archive, "archive", "../shared/data/killmails-2021-11-30.tar.bz2", "a day archive for the import measure")
	flag.StringVar(&c.work, "work", filepath.Join(os.TempDir(), "killfeed-bench"), "where the logs to measure are kept")
	flag.IntVar(&c.events, "events", 1_000_000, "events in the large log")
	flag.IntVar(&c.rounds, "rounds", 7, "rounds of each side")
	flag.DurationVar(&c.round, "round", 2*time.Second, "length of a round of load")
	flag.IntVar(&c.conns, "conns", 64, "connections")
	flag.StringVar(&c.only, "only", "", "comma-separated names of measures; empty means all")
	flag.StringVar(&c.profile, "cpuprofile", "", "write a CPU profile of the measures that run in this process")
	flag.BoolVar(&c.json, "json", false, "print the results as JSON")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, c, os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

// result is one line of the table.
type result struct {
	Measure   string  `json:"measure"`
	Ours      string  `json:"ours"`
	Yardstick string  `json:"yardstick"`
	Ratio     float64 `json:"ratio"`
	Want      string  `json:"want"`
	Met       bool    `json:"met"`
	Note      string  `json:"note,omitempty"`
}

// measure is something to be measured.
type measure struct {
	name string
	run  func(context.Context, *bench) ([]result, error)
}

var measures = []measure{
	{"limits", limits},
	{"idle", idle},
	{"next", next},
	{"fetch", fetch},
	{"insert", insert},
	{"import", importDay},
	{"open", reopen},
}

func run(ctx context.Context, c config, out io.Writer) error {
	if err := os.MkdirAll(c.work, 0o755); err != nil {
		return err
	}
	if c.profile != "" {
		f, err := os.Create(c.profile)
		if err != nil {
			return err
		}
		defer f.Close()
		if err := pprof.StartCPUProfile(f); err != nil {
			return err
		}
		defer pprof.StopCPUProfile()
	}
	b := &bench{config: c}
	var all []result
	for _, m := range measures {
		if c.only != "" && !slices.Contains(strings.Split(c.only, ","), m.name) {
			continue
		}
		fmt.Fprintf(os.Stderr, "== %s\n", m.name)
		rs, err := m.run(ctx, b)
		if err != nil {
			return fmt.Errorf("%s: %w", m.name, err)
		}
		all = append(all, rs...)
		for _, r := range rs {
			fmt.Fprintf(os.Stderr, "   %s: %s against %s: %.2f (%s) %s\n", r.Measure, r.Ours, r.Yardstick, r.Ratio, r.Want, r.Note)
		}
	}
	if c.json {
		e := json.NewEncoder(out)
		e.SetIndent("", "  ")
		return e.Encode(all)
	}
	fmt.Fprintln(out, "| measure | ours | yardstick | ratio | wanted | met | note |\n|---|---|---|---|---|---|---|")
	for _, r := range all {
		met := "yes"
		if !r.Met {
			met = "NO"
		}
		if r.Want == "" {
			met = ""
		}
		fmt.Fprintf(out, "| %s | %s | %s | %.2f | %s | %s | %s |\n", r.Measure, r.Ours, r.Yardstick, r.Ratio, r.Want, met, r.Note)
	}
	return nil
}

// bench is one run.
type bench struct {
	config
}

// turns runs each side in turn, for the given number of rounds, after one round that does not count, and returns each side's
// figures. Taking turns spreads what else the machine does over both.
func (b *bench) turns(ctx context.Context, sides ...func() (float64, error)) ([][]float64, error) {
	out := make([][]float64, len(sides))
	for round := range b.rounds + 1 {
		for i, side := range sides {
			if ctx.Err() != nil {
				return nil, context.Cause(ctx)
			}
			v, err := side()
			if err != nil {
				return nil, err
			}
			if round > 0 {
				out[i] = append(out[i], v)
			}
		}
	}
	return out, nil
}

func median(vs []float64) float64 {
	s := slices.Clone(vs)
	slices.Sort(s)
	if len(s) == 0 {
		return 0
	}
	if n := len(s); n%2 == 0 {
		return (s[n/2-1] + s[n/2]) / 2
	}
	return s[len(s)/2]
}

// spread is the range of the middle half, as a share of the median.
func spread(vs []float64) float64 {
	s := slices.Clone(vs)
	slices.Sort(s)
	return (s[len(s)*3/4] - s[len(s)/4]) / median(s)
}

func perSecond(v float64) string {
	if v >= 10_000 {
		return fmt.Sprintf("%.1fk/s", v/1000)
	}
	return fmt.Sprintf("%.0f/s", v)
}
