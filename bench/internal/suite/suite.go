// Package suite is what the benchmark suites have in common: measures that run one after another, two sides that take turns,
// and the table of ratios.
package suite

import (
	"cmp"
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
)

// Config is what the flags say that every suite has.
type Config struct {
	Killfeed string // the binary under test
	Work     string // where logs are kept between runs
	Events   int    // size of the large log
	Rounds   int    // of each side; one more goes before, which does not count
	Only     string // comma-separated names of measures; empty means all
	Profile  string // file for a CPU profile of this process; empty means none
	JSON     string // file for the results as JSON; empty means none
}

// Flags defines the flags. The values that c has are the defaults.
func (c *Config) Flags(f *flag.FlagSet) {
	f.StringVar(&c.Killfeed, "killfeed", c.Killfeed, "the killfeed binary to measure")
	f.StringVar(&c.Work, "work", filepath.Join(os.TempDir(), "killfeed-bench"), "where the logs to measure are kept")
	f.IntVar(&c.Events, "events", cmp.Or(c.Events, 1_000_000), "events in the large log")
	f.IntVar(&c.Rounds, "rounds", c.Rounds, "rounds of each side")
	f.StringVar(&c.Only, "only", "", "comma-separated names of measures; empty means all")
	f.StringVar(&c.Profile, "cpuprofile", "", "write a CPU profile of the measures that run in this process")
	f.StringVar(&c.JSON, "json", "", "also write the results to this file, as JSON; - writes them to standard output in place of the table")
}

// Result is one line of the table.
type Result struct {
	Measure   string  `json:"measure"`
	Ours      string  `json:"ours"`
	Yardstick string  `json:"yardstick"`
	Ratio     float64 `json:"ratio"` // above 1 means that ours is the better
	Want      string  `json:"want"`  // empty: for information only
	Met       bool    `json:"met"`
	Promise   bool    `json:"promise,omitempty"` // it is one of those that the final table of all suites judges the program by
	Note      string  `json:"note,omitempty"`
}

// Report is what a JSON file holds.
type Report struct {
	Results []Result `json:"results,omitempty"`
	Tables  []Table  `json:"tables,omitempty"`
}

// Measure is something to be measured. Run ends soon after its context.
type Measure struct {
	Name string
	Run  func(context.Context) ([]Result, error)
}

// Growth is a table to be measured.
type Growth struct {
	Name string
	Run  func(context.Context) (Table, error)
}

// MainTables is Main for tables.
func MainTables(c Config, growths []Growth) int {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := runTables(ctx, c, growths, os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		return 1
	}
	return 0
}

func runTables(ctx context.Context, c Config, growths []Growth, out io.Writer) error {
	chosen, err := choose(growths, func(g Growth) string { return g.Name }, c.Only)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(c.Work, 0o755); err != nil {
		return err
	}
	var r Report
	for _, g := range chosen {
		Progress("== %s", g.Name)
		t, err := g.Run(ctx)
		if err != nil {
			return fmt.Errorf("%s: %w", g.Name, err)
		}
		if c.JSON != "-" {
			t.Print(out)
			fmt.Fprintln(out)
		}
		r.Tables = append(r.Tables, t)
	}
	return r.Write(c.JSON)
}

// Main runs the measures until they are done or the process is told to end, and prints their results to standard output.
// It returns the exit code.
func Main(c Config, measures []Measure) int {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, c, measures, os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		return 1
	}
	return 0
}

func run(ctx context.Context, c Config, measures []Measure, out io.Writer) error {
	chosen, err := choose(measures, func(m Measure) string { return m.Name }, c.Only)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(c.Work, 0o755); err != nil {
		return err
	}
	if c.Profile != "" {
		f, err := os.Create(c.Profile)
		if err != nil {
			return err
		}
		defer f.Close()
		if err := pprof.StartCPUProfile(f); err != nil {
			return err
		}
		defer pprof.StopCPUProfile()
	}
	var all []Result
	for _, m := range chosen {
		Progress("== %s", m.Name)
		rs, err := m.Run(ctx)
		if err != nil {
			return fmt.Errorf("%s: %w", m.Name, err)
		}
		all = append(all, rs...)
		for _, r := range rs {
			Progress("   %s: %s against %s: %.2f (%s) %s", r.Measure, r.Ours, r.Yardstick, r.Ratio, r.Want, r.Note)
		}
	}
	if c.JSON != "-" {
		Print(out, all)
	}
	return Report{Results: all}.Write(c.JSON)
}

// choose returns the measures that are named, in their own order.
func choose[M any](measures []M, name func(M) string, only string) (chosen []M, err error) {
	if only == "" {
		return measures, nil
	}
	names := strings.Split(only, ",")
	for _, m := range measures {
		if i := slices.Index(names, name(m)); i >= 0 {
			chosen, names = append(chosen, m), slices.Delete(names, i, i+1)
		}
	}
	if len(names) > 0 {
		return nil, fmt.Errorf("there is no measure %q", names[0])
	}
	return chosen, nil
}

// Write writes the report to a file; to standard output when it is "-", and not at all when it is empty.
func (r Report) Write(file string) error {
	if file == "" {
		return nil
	}
	b, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return err
	}
	b = append(b, '\n')
	if file == "-" {
		_, err := os.Stdout.Write(b)
		return err
	}
	return os.WriteFile(file, b, 0o644)
}

// ReadReport reads what Write wrote.
func ReadReport(file string) (r Report, err error) {
	b, err := os.ReadFile(file)
	if err != nil {
		return r, err
	}
	if err := json.Unmarshal(b, &r); err != nil {
		return r, fmt.Errorf("%s is no report: %w", file, err)
	}
	return r, nil
}

// Print prints the results as a table in Markdown.
func Print(out io.Writer, all []Result) {
	fmt.Fprintln(out, "| measure | ours | yardstick | ratio | wanted | met | note |\n|---|---|---|---|---|---|---|")
	for _, r := range all {
		met := "yes"
		if !r.Met {
			met = "NO"
		}
		if r.Want == "" {
			met = ""
		}
		ratio := fmt.Sprintf("%.2f", r.Ratio)
		if r.Yardstick == "" {
			ratio = ""
		}
		fmt.Fprintf(out, "| %s | %s | %s | %s | %s | %s | %s |\n", r.Measure, r.Ours, r.Yardstick, ratio, r.Want, met, r.Note)
	}
}

// Progress tells, on standard error, what is going on.
func Progress(format string, args ...any) { fmt.Fprintf(os.Stderr, format+"\n", args...) }

// Turns runs each side in turn, for the given number of rounds, after one round that does not count, and returns each side's
// figures. Taking turns spreads what else the machine does over both.
func Turns[T any](ctx context.Context, rounds int, sides ...func() (T, error)) ([][]T, error) {
	out := make([][]T, len(sides))
	for round := range rounds + 1 {
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

// Median is the middle value, 0 when there is none.
func Median(vs []float64) float64 {
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

// Middle is the range of the middle half.
func Middle(vs []float64) (low, high float64) {
	s := slices.Clone(vs)
	slices.Sort(s)
	return s[len(s)/4], s[len(s)*3/4]
}

// Spread is the range of the middle half, as a share of the median.
func Spread(vs []float64) float64 {
	low, high := Middle(vs)
	return (high - low) / Median(vs)
}

// PerSecond prints a rate.
func PerSecond(v float64) string {
	if v >= 10_000 {
		return fmt.Sprintf("%.1fk/s", v/1000)
	}
	return fmt.Sprintf("%.0f/s", v)
}
