// Command all runs every measure of the suites, one suite after the other, and judges the program by the lines that it is to keep.
//
// It is run by ./scripts/bench without the name of a suite. It measures nothing itself: each suite is a program of its own, which
// starts what it measures, and is given the measures to run. All that runs does so one at a time.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"killfeed/bench/internal/suite"
)

// measures are all, in the order in which they run: what the machine can do, then what needs it quiet, then what makes noise.
var measures = []struct{ suite, name string }{
	{"core", "limits"},
	{"core", "idle"},
	{"core", "next"},
	{"core", "poll"},
	{"core", "stored"},
	{"core", "fetch"},
	{"core", "memory"},
	{"core", "open"},
	{"core", "size"},
	{"live", "resting"},
	{"live", "fanout"},
	{"live", "paced"},
	{"live", "resume"},
	{"live", "idle"},
	{"live", "spread"},
	{"stores", "readers"},
	{"stores", "writers"},
	{"core", "insert"},
	{"core", "import"},
	{"filters", "search"},
	{"filters", "nothing"},
	{"filters", "new"},
	{"dialects", "idle"},
	{"dialects", "new"},
}

// config is what the flags say.
type config struct {
	bin, work       string
	json, writeDocs string
	from, only      string
	rounds, events  int
}

func main() {
	var c config
	flag.StringVar(&c.bin, "bin", "", "directory with the programs that scripts/bench has built")
	flag.StringVar(&c.work, "work", filepath.Join(os.TempDir(), "killfeed-bench"), "where the logs to measure are kept")
	flag.StringVar(&c.only, "only", "", "comma-separated names of suites and of measures, as core,live/fanout; empty means all")
	flag.IntVar(&c.rounds, "rounds", 0, "rounds of each side; 0 means each suite's own number")
	flag.IntVar(&c.events, "events", 1_000_000, "events in the large log")
	flag.StringVar(&c.json, "json", "", "also write the results to this file, as JSON")
	flag.StringVar(&c.from, "from", "", "measure nothing: comma-separated files that -json wrote, also those of growth")
	flag.StringVar(&c.writeDocs, "write-docs", "", "put the tables between their markers in this document, and pictures of growth into images beside it")
	list := flag.Bool("list", false, "print the names of the measures")
	flag.Parse()
	if *list {
		for _, m := range measures {
			fmt.Printf("%s/%s\n", m.suite, m.name)
		}
		return
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, c); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, c config) error {
	var (
		report suite.Report
		err    error
	)
	if c.from != "" {
		for _, file := range strings.Split(c.from, ",") {
			r, err := suite.ReadReport(file)
			if err != nil {
				return err
			}
			report.Results, report.Tables = append(report.Results, r.Results...), append(report.Tables, r.Tables...)
		}
	} else if report, err = c.measure(ctx); err != nil && len(report.Results) == 0 {
		return err
	}
	// What was measured before something failed is told all the same.
	fmt.Printf("## All measures\n\n")
	suite.Print(os.Stdout, report.Results)
	fmt.Printf("\n## What is to be kept\n\n")
	fmt.Print(finalTable(promises(report.Results)))
	if c.from == "" {
		err = errors.Join(err, report.Write(c.json))
	}
	if c.writeDocs != "" {
		err = errors.Join(err, document(c.writeDocs, report))
	}
	return err
}

// measure runs the suites. A measure that fails does not keep the others from running.
func (c *config) measure(ctx context.Context) (all suite.Report, err error) {
	wanted := map[string]bool{}
	for _, name := range strings.FieldsFunc(c.only, func(r rune) bool { return r == ',' }) {
		known := false
		for _, m := range measures {
			if name == m.suite || name == m.suite+"/"+m.name {
				wanted[m.suite+"/"+m.name], known = true, true
			}
		}
		if !known {
			return all, fmt.Errorf("there is no suite and no measure %q: -list tells their names", name)
		}
	}
	began := time.Now()
	for _, m := range measures {
		if len(wanted) > 0 && !wanted[m.suite+"/"+m.name] {
			continue
		}
		if ctx.Err() != nil {
			return all, errors.Join(err, context.Cause(ctx))
		}
		suite.Progress("== %s/%s, after %v", m.suite, m.name, time.Since(began).Round(time.Second))
		r, failed := c.one(ctx, m.suite, m.name)
		if failed != nil {
			suite.Progress("   FAILED: %v", failed)
			err = errors.Join(err, fmt.Errorf("%s/%s: %w", m.suite, m.name, failed))
		}
		all.Results = append(all.Results, r.Results...)
	}
	return all, err
}

// one runs one measure of a suite.
func (c *config) one(ctx context.Context, program, name string) (suite.Report, error) {
	dir, err := os.MkdirTemp("", "killfeed-bench-report")
	if err != nil {
		return suite.Report{}, err
	}
	defer os.RemoveAll(dir)
	file := filepath.Join(dir, "report.json")
	args := []string{
		"-killfeed", filepath.Join(c.bin, "killfeed"), "-work", c.work, "-events", fmt.Sprint(c.events), "-only", name, "-json", file,
	}
	if c.rounds > 0 {
		args = append(args, "-rounds", fmt.Sprint(c.rounds))
	}
	switch program {
	case "live":
		args = append(args, "-peer", filepath.Join(c.bin, "centrifuge"))
	case "stores":
		args = append(args, "-jetstream", filepath.Join(c.bin, "jetstream"))
	}
	cmd := exec.CommandContext(ctx, filepath.Join(c.bin, program), args...)
	cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) } // it stops its servers
	cmd.WaitDelay = 2 * time.Minute
	cmd.Stderr = os.Stderr
	if err := cmd.Run(); err != nil {
		return suite.Report{}, err
	}
	return suite.ReadReport(file)
}
