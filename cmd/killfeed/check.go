package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"

	"github.com/cockroachdb/pebble/v2"
	"github.com/schollz/progressbar/v3"
	"github.com/spf13/cobra"

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
	store, err := pebblestore.Open(dir, pebblestore.Options{Cache: int64(a.settings.cache), Logger: log})
	switch {
	case err == nil:
	case pebble.IsCorruptionError(err), errors.Is(err, fs.ErrNotExist): // a file of the engine is damaged or missing
		return fmt.Errorf("%w: %w", errDamage, err)
	default:
		return lockedHint(err, "a running server holds it: stop the server, then check")
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

// holdsLog tells whether there is something to check in dir. Opening it would make a new log, and call that whole.
func holdsLog(dir string) error {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return fmt.Errorf("checking the log: %w", err)
	}
	for _, e := range entries {
		if e.Name() != tokenFileName {
			return nil
		}
	}
	return fmt.Errorf("%s holds no log", dir)
}
