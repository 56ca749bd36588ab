package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"time"

	"github.com/spf13/cobra"

	"killfeed/jetstream"
	"killfeed/pebblestore"
)

func (a *app) restoreCmd() *cobra.Command {
	var (
		from   string
		asJSON bool
	)
	c := &cobra.Command{
		Use:   "restore --from FILE",
		Short: "Make a data directory from a backup",
		Long: `Make the log of a backup in the data directory, which must be empty or missing, and check every record of it. "-" is
standard input.

The log gets a new epoch. The backup's own stays good up to its last event: whoever has read no further goes on without a gap, and
whoever has read what the backup lacks is told so (a gap of reason epoch), because those ids will be given to other events.

It is refused on a node of a cluster: what a node lacks it gets from the others. 'killfeed check' says again what is in the log.`,
		Example: `  killfeed restore --from killfeed-20261125T120000Z-4711.tar.zst --data /var/lib/killfeed
  killfeed serve --data /var/lib/killfeed`,
		Args: cobra.NoArgs,
	}
	c.Flags().StringVar(&from, "from", "", "`file` that 'killfeed backup' has written")
	c.Flags().BoolVar(&asJSON, "json", false, "print one JSON object of what was restored")
	return a.command(c, []string{"data", "cache", "ledger"}, func(ctx context.Context, _ []string) error {
		if from == "" {
			return usageError{hint(errors.New("nothing to restore"), "name a backup with --from")}
		}
		if len(a.settings.ledger) > 0 {
			return usageError{hint(errors.New("this is a node of a cluster (--ledger), and its log is that of all nodes"),
				"start it with an empty directory: it gets the log from the servers. To bring a backup to new servers, restore it without "+
					"--ledger, then 'killfeed cluster init --data DIR'")}
		}
		return a.restore(ctx, from, asJSON)
	})
}

func (a *app) restore(ctx context.Context, from string, asJSON bool) (err error) {
	in := a.stdin
	if from != "-" {
		f, err := os.Open(from)
		if err != nil {
			return fmt.Errorf("opening the backup: %w", err)
		}
		defer f.Close()
		in = f
	}
	begun, dir := time.Now(), a.settings.data
	log := slog.New(slog.NewTextHandler(a.stderr, &slog.HandlerOptions{Level: slog.LevelWarn}))
	made, epoch, err := pebblestore.Restore(ctx, dir, in, pebblestore.Options{Cache: int64(a.settings.cache), Logger: log},
		a.eventsBar("restoring events"))
	switch {
	case ctx.Err() != nil && err != nil:
		return errInterrupted
	case errors.Is(err, pebblestore.ErrNotEmpty):
		return hint(err, "name an empty directory with --data; the one that is there can be moved aside")
	case errors.Is(err, pebblestore.ErrBadBackup):
		return hint(err, "only what 'killfeed backup' wrote to its end can be restored; the directory was left empty")
	case err != nil:
		return err
	}
	problems, node, err := a.checkRestored(ctx)
	if err != nil {
		return err
	}
	if node {
		fmt.Fprintln(a.stderr, "note: the backup is that of a node of a cluster; the copy is a log of its own")
	}
	if asJSON {
		err = writeJSON(a.stdout, backupSummary(made, "", epoch))
	} else {
		_, err = fmt.Fprintf(a.stdout, "restored %s into %s in %s; the new epoch is %s\n", backupText(made), dir,
			time.Since(begun).Round(time.Millisecond), epoch)
	}
	if err == nil && problems > 0 {
		err = hint(fmt.Errorf("%w: %d problems in what was restored", errDamage, problems), "they were in the original; 'killfeed check' lists them")
	}
	return err
}

// checkRestored verifies what was restored. The copy of a node's log is made one of its own: the nodes' log has another epoch.
func (a *app) checkRestored(ctx context.Context) (problems int, node bool, err error) {
	log := slog.New(slog.NewTextHandler(a.stderr, &slog.HandlerOptions{Level: slog.LevelWarn}))
	store, err := pebblestore.Open(a.settings.data, pebblestore.Options{Cache: int64(a.settings.cache), Logger: log})
	if err != nil {
		return 0, false, err
	}
	defer func() { err = errors.Join(err, store.Close()) }()
	if node, err = jetstream.IsNode(store); err != nil {
		return 0, false, err
	}
	if node {
		if err := jetstream.Forget(store); err != nil {
			return 0, false, err
		}
	}
	result, err := store.Check(ctx, func(string) {}, a.eventsBar("checking events"))
	if ctx.Err() != nil {
		return 0, node, hint(errInterrupted, "all of it was restored; 'killfeed check' verifies it")
	}
	return result.Problems, node, err
}
