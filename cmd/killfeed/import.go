package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"strconv"
	"sync"
	"time"

	"github.com/spf13/cobra"

	"killfeed"
	"killfeed/ingest/archive"
	"killfeed/ingest/importer"
	"killfeed/pebblestore"
)

func (a *app) importCmd() *cobra.Command {
	var asJSON bool
	c := &cobra.Command{
		Use:   "import [flags] PATH...",
		Short: "Put stored killmails into the log, marked as backfill",
		Long: `Read killmails from files and directories ("-" is standard input) and insert them into the log of a data directory,
or with --server (or KILLFEED_SERVER) into that of a running server. What is inserted is marked as backfill: polls get it,
live streams leave it out.

It reads day archives of EVE Ref (tar.bz2, tar.gz), JSONL plain or compressed, history/raw objects of zKillboard, arrays,
and single killmails. The format is found by content. In directories, files are taken by name: .json, .jsonl, .ndjson, with
.gz or .bz2 behind, .tar, .tar.gz, .tgz and .tar.bz2.

Hashes are computed where they are missing and checked where they are given. A killmail that is damaged or wrong is
counted as bad and skipped; the first few are named. A killmail that the log has already is counted as duplicate and not
stored again, so the command may be repeated, and an interrupted import resumes when it is.

A data directory that a server holds is refused: use --server then. With --json the last line of standard output is
{"read":…,"inserted":…,"duplicates":…,"bad":…}; "updates", when there is one, says how many of the duplicates brought
something new and became update events. Progress goes to standard error.`,
		Example: `  killfeed import killmails-2026-11-22.tar.bz2
  killfeed import --data /var/lib/killfeed archives/
  killfeed import --server http://127.0.0.1:4004 2026-11-*.tar.bz2
  curl -s https://data.everef.net/killmails/2026/killmails-2026-11-22.tar.bz2 | killfeed import -`,
	}
	c.Flags().BoolVar(&asJSON, "json", false, "end standard output with one JSON object of the counts")
	return a.command(c, append([]string{"cache"}, clientSettings...), func(ctx context.Context, args []string) error {
		if len(args) == 0 {
			if isTerminal(a.stdin) {
				return usageError{hint(errors.New("nothing to import"), "name files or directories, or - for standard input")}
			}
			args = []string{"-"}
		}
		return a.importPaths(ctx, args, asJSON)
	})
}

// sink is where an import puts its killmails.
type sink struct {
	name   string
	insert func(ctx context.Context, killmails []*killfeed.Killmail) ([]importer.Outcome, error)
	close  func() error
	feed   *killfeed.Feed // nil when it is a server's
}

func (a *app) importPaths(ctx context.Context, paths []string, asJSON bool) (err error) {
	files, err := archive.New(ctx, paths, archive.Options{Stdin: a.stdin})
	if err != nil {
		return err
	}
	into, err := a.openSink()
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, into.close()) }()

	p := &progress{out: a.stderr, terminal: isTerminal(a.stderr), files: files.Progress, started: time.Now()}
	run := importer.Import{Source: files.Read, Insert: into.insert, Bad: p.Bad}
	p.counts = run.Counts
	shown, stop := context.WithCancel(context.Background())
	var showing sync.WaitGroup
	showing.Go(func() { p.Run(shown) })
	failed := run.Run(ctx)
	stop()
	showing.Wait()

	counts, took := run.Counts(), time.Since(p.started)
	summary := fmt.Sprintf("%s into %s in %s (%.0f/s)\n",
		countsText(counts), into.name, took.Round(time.Millisecond), float64(counts.Read)/max(took.Seconds(), 0.001))
	if asJSON {
		fmt.Fprint(a.stderr, summary)
		if err := writeJSON(a.stdout, counts); err != nil {
			return err
		}
	} else {
		fmt.Fprint(a.stdout, summary)
	}
	if n := files.Progress().Passed; n > 0 {
		fmt.Fprintf(a.stderr, "passed over %d files that hold no killmails by their names\n", n)
	}
	switch {
	case ctx.Err() != nil:
		return hint(errInterrupted, "repeat the command to go on: what is in the log already is skipped")
	case failed != nil:
		return failed
	case counts.Read > 0 && counts.Read == counts.Bad:
		return fmt.Errorf("none of the %d items read is a killmail that can be imported", counts.Read)
	}
	return nil
}

// openSink opens the server when one was named, and else the data directory. A --data flag is nearer than a server that
// the environment or the file names; beside a --server flag it says where the token is.
func (a *app) openSink() (*sink, error) {
	if server := a.origin["server"]; server == "flag" || server != "default" && a.origin["data"] != "flag" {
		return a.serverSink()
	}
	return a.directorySink()
}

func (a *app) directorySink() (*sink, error) {
	log := slog.New(slog.NewTextHandler(a.stderr, &slog.HandlerOptions{Level: slog.LevelWarn}))
	store, err := pebblestore.Open(a.settings.data, pebblestore.Options{Cache: int64(a.settings.cache), Logger: log})
	if err != nil {
		return nil, lockedHint(err, "a running server holds it: import into that, with --server "+a.settings.server)
	}
	if err := alone(store, a.settings.data); err != nil {
		return nil, errors.Join(err, store.Close())
	}
	// No retention: an import removes nothing. The server does, with its own settings.
	feed, err := killfeed.Open(store, killfeed.Options{Logger: log})
	if err != nil {
		return nil, errors.Join(err, store.Close())
	}
	if err := a.checkDemo(context.Background(), feed); err != nil {
		return nil, errors.Join(err, feed.Close())
	}
	return &sink{
		name:  a.settings.data,
		close: feed.Close,
		feed:  feed,
		insert: func(ctx context.Context, killmails []*killfeed.Killmail) ([]importer.Outcome, error) {
			results, err := feed.InsertAll(ctx, killmails, killfeed.MarkBackfill)
			outcomes := make([]importer.Outcome, len(results))
			for i, r := range results {
				outcomes[i] = importer.Outcome{Duplicate: r.Duplicate, Update: r.Update}
			}
			return outcomes, err
		},
	}, nil
}

// lockedHint adds a hint to the error about a data directory that is in use.
func lockedHint(err error, text string) error {
	if errors.Is(err, killfeed.ErrLocked) {
		return hint(err, "%s", text)
	}
	return err
}

func (a *app) serverSink() (*sink, error) {
	server, err := a.newClient()
	if err != nil {
		return nil, err
	}
	return &sink{name: server.base.String(), insert: server.insertBackfill, close: func() error { return nil }}, nil
}

// insertResult is one element of the answer's results.
type insertResult struct {
	Duplicate bool   `json:"duplicate"`
	Update    bool   `json:"update"`
	Error     string `json:"error"`
}

// insertBackfill posts killmails as NDJSON. Each is in an envelope, because a killmail need not tell its system itself.
func (c *client) insertBackfill(ctx context.Context, killmails []*killfeed.Killmail) ([]importer.Outcome, error) {
	var body bytes.Buffer
	for _, k := range killmails {
		body.WriteString(`{"system_id":`)
		body.WriteString(strconv.FormatUint(uint64(k.SystemID), 10))
		body.WriteString(`,"killmail":`)
		body.Write(k.JSON)
		body.WriteString("}\n")
	}
	var answer struct {
		Results []insertResult `json:"results"`
	}
	err := c.json(ctx, call{
		method: http.MethodPost, path: []string{"api", "killmails"}, query: url.Values{"backfill": {"1"}},
		header: http.Header{"Content-Type": {"application/x-ndjson"}}, body: &body,
	}, &answer)
	if problem, ok := errors.AsType[*problemError](err); ok && len(problem.Results) == len(killmails) {
		answer.Results = problem.Results // nothing was good: each result says why
	} else if err != nil {
		return nil, err
	}
	outcomes := make([]importer.Outcome, len(answer.Results))
	for i, r := range answer.Results {
		outcomes[i] = importer.Outcome{Duplicate: r.Duplicate, Update: r.Update}
		if r.Error != "" {
			outcomes[i].Err = errors.New(r.Error)
		}
	}
	return outcomes, nil
}
