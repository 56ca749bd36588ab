package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"

	"github.com/schollz/progressbar/v3"
	"github.com/spf13/cobra"

	"killfeed"
	"killfeed/pebblestore"
)

func (a *app) checkCmd() *cobra.Command {
	var asJSON bool
	c := &cobra.Command{
		Use:   "check",
		Short: "Verify every record and every invariant of a log",
		Long: `Read everything in a data directory and verify it: the checksum of every record, that event ids have no hole, that
receipt times never fall, and that killmail ids, topic indexes, clients and offsets agree with the events. It changes
nothing that is stored.

Each problem is a line on standard output. Exit code 3 means that there are some. A data directory that a server holds is
refused: stop the server first.`,
		Example: "  killfeed check --data /var/lib/killfeed",
		Args:    cobra.NoArgs,
	}
	c.Flags().BoolVar(&asJSON, "json", false, `print one JSON object, {"events":…,"problems":[…]}`)
	return a.command(c, []string{"data", "cache"}, func(ctx context.Context, _ []string) error { return a.check(ctx, asJSON) })
}

func (a *app) check(ctx context.Context, asJSON bool) (err error) {
	dir := a.settings.data
	if err := holdsLog(dir); err != nil {
		return hint(err, "name the data directory with --data")
	}
	log := slog.New(slog.NewTextHandler(a.stderr, &slog.HandlerOptions{Level: slog.LevelWarn}))
	store, err := pebblestore.Open(dir, pebblestore.Options{ReadOnly: true, Cache: int64(a.settings.cache), Logger: log})
	switch {
	case err == nil:
	case errors.Is(err, killfeed.ErrLocked):
		return hint(err, "a running server holds it: stop the server, then check")
	case errors.Is(err, fs.ErrPermission):
		return err
	default: // there is a log, and it does not open
		return fmt.Errorf("%w: %w", errDamage, err)
	}
	defer func() { err = errors.Join(err, store.Close()) }()

	problems := []string{}
	report := func(problem string) {
		if asJSON {
			problems = append(problems, problem)
			return
		}
		fmt.Fprintln(a.stdout, "problem:", problem)
	}
	var progress func(done, total uint64)
	if isTerminal(a.stderr) {
		var bar *progressbar.ProgressBar
		progress = func(done, total uint64) {
			if bar == nil {
				bar = progressbar.NewOptions64(int64(total), progressbar.OptionSetWriter(a.stderr), progressbar.OptionClearOnFinish(),
					progressbar.OptionSetDescription("checking events"), progressbar.OptionThrottle(barEvery))
			}
			_ = bar.Set64(int64(done))
		}
	}
	result, err := store.Check(ctx, report, progress)
	switch {
	case ctx.Err() != nil:
		return errInterrupted
	case err != nil:
		return fmt.Errorf("%w: the check could not go on: %w", errDamage, err)
	}
	if asJSON {
		err = writeJSON(a.stdout, map[string]any{
			"events": result.Events, "first": result.First, "head": result.Head, "killmails": result.Killmails,
			"clients": result.Clients, "offsets": result.Offsets, "problems": problems,
		})
	} else {
		kept := ""
		if result.Events > 0 {
			kept = fmt.Sprintf(" (%d to %d)", result.First, result.Head)
		}
		found := "no problem found"
		if result.Problems > 0 {
			found = fmt.Sprintf("%d problems found", result.Problems)
		}
		_, err = fmt.Fprintf(a.stdout, "checked %d events%s, %d killmail ids, %d clients with %d offsets: %s\n",
			result.Events, kept, result.Killmails, result.Clients, result.Offsets, found)
	}
	if err == nil && result.Problems > 0 {
		return fmt.Errorf("%w: %d problems in %s", errDamage, result.Problems, dir)
	}
	return err
}

// holdsLog returns nil when dir has files of a log in it: without any there is nothing to check, and nothing is damaged.
func holdsLog(dir string) error {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return fmt.Errorf("checking the log: %w", err)
	}
	for _, e := range entries {
		for _, pattern := range []string{"MANIFEST-*", "*.sst", "*.log"} { // the engine's
			if ok, _ := filepath.Match(pattern, e.Name()); ok {
				return nil
			}
		}
	}
	return fmt.Errorf("checking the log: %s holds none", dir)
}
