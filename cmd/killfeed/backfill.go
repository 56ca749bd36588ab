package main

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/schollz/progressbar/v3"
	"github.com/spf13/cobra"

	"killfeed"
	"killfeed/ingest/history"
	"killfeed/ingest/r2z2"
	"killfeed/ingest/upstream"
)

// everefURL is EVE Ref's.
const everefURL = "https://data.everef.net"

func (a *app) backfillCmd() *cobra.Command {
	var (
		from, to, source, url string
		asJSON                bool
	)
	c := &cobra.Command{
		Use:   "backfill --from DAY [--to DAY] [flags]",
		Short: "Fetch days of history from zKillboard or EVE Ref into the log, marked as backfill",
		Long: `Fetch whole days of killmails and insert them into the log of a data directory, or with --server into that of a
running server, marked as backfill. A day is the UTC date of the kills. It is polite (--contact is needed), goes on where
it was when it is interrupted and repeated, inserts nothing twice, and compares each day with the upstream's totals.`,
		Example: `  killfeed backfill --contact you@example.com --from 2026-11-01 --to 2026-11-07
  killfeed backfill --contact you@example.com --from 2026-11-01 --source everef --server http://127.0.0.1:4004`,
	}
	f := c.Flags()
	f.StringVar(&from, "from", "", "first `day`, as in 2026-11-01")
	f.StringVar(&to, "to", "", "last `day`; yesterday when it is left out")
	f.StringVar(&source, "source", "zkillboard", "zkillboard or everef")
	f.StringVar(&url, "url", "", "base `URL` of the source, where it is a mirror")
	f.BoolVar(&asJSON, "json", false, "print what became of each day as JSON")
	settings := append([]string{"contact", "esi-url", "cache"}, clientSettings...)
	return a.command(c, settings, func(ctx context.Context, args []string) error {
		if len(args) > 0 {
			return usagef("unexpected argument %q", args[0])
		}
		b, err := newBackfill(from, to)
		if err != nil {
			return err
		}
		if a.settings.contact == "" {
			return usageError{hint(errors.New("contact is missing: the upstream wants to know whom to write to"),
				"give --contact you@example.com, or a URL")}
		}
		client, err := a.upstream(nil, upstream.Config{Timeout: 10 * time.Minute})
		if err != nil {
			return err
		}
		defer client.Close()
		switch source {
		case "zkillboard":
			bodies, err := a.newESI(nil, a.logger())
			if err != nil {
				return err
			}
			b.Archive = &history.ZKillboard{Client: client, URL: orElse(url, r2z2.DefaultURL), Body: bodies.Body}
		case "everef":
			b.Archive = &history.EveRef{Client: client, URL: orElse(url, everefURL)}
		default:
			return usagef("source %q is not accepted: want zkillboard or everef", source)
		}
		return a.backfill(ctx, b, asJSON)
	})
}

func orElse(s, def string) string {
	if s == "" {
		return def
	}
	return s
}

// newBackfill checks the days.
func newBackfill(from, to string) (*history.Backfill, error) {
	day := func(name, text string) (time.Time, error) {
		t, err := time.Parse(time.DateOnly, text)
		if err != nil {
			return t, usagef("%s %q is not accepted: want a day as in 2026-11-01", name, text)
		}
		return t, nil
	}
	first, err := day("from", from)
	if err != nil {
		return nil, err
	}
	last := time.Now().UTC().AddDate(0, 0, -1).Truncate(24 * time.Hour)
	if to != "" {
		if last, err = day("to", to); err != nil {
			return nil, err
		}
	}
	if last.Before(first) {
		return nil, usagef("to %s is before from %s", last.Format(time.DateOnly), first.Format(time.DateOnly))
	}
	return &history.Backfill{From: first, To: last}, nil
}

func (a *app) backfill(ctx context.Context, b *history.Backfill, asJSON bool) (err error) {
	into, err := a.openSink()
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, into.close()) }()
	b.Insert = into.insert
	if into.feed != nil { // a server keeps no places for others; there, days that are done are read again
		name := "backfill " + b.Archive.Name()
		b.Place = func() (string, error) { return into.feed.Checkpoint(name) }
		b.Remember = func(ctx context.Context, place string) error {
			_, err := into.feed.InsertFrom(ctx, nil, 0, killfeed.Checkpoint{Source: name, Place: place})
			return err
		}
	}
	show := a.backfillProgress()
	b.Progress = show.update
	b.Bad = show.bad
	reports, failed := b.Run(ctx)
	show.end()
	if asJSON {
		if err := writeJSON(a.stdout, map[string]any{"days": reports}); err != nil {
			return err
		}
	} else {
		for _, r := range reports {
			fmt.Fprintln(a.stdout, dayText(r))
		}
	}
	if ctx.Err() != nil {
		return hint(errInterrupted, "repeat the command to go on: what is in the log already is skipped")
	}
	return failed
}

// dayText is a line about a day.
func dayText(r history.DayReport) string {
	line := r.Day.Format(time.DateOnly) + ": "
	switch {
	case r.Skipped:
		return line + "done before"
	case r.Problem != "":
		return line + countsText(r.Counts) + "; " + r.Problem
	}
	return line + countsText(r.Counts) + "; complete"
}

// backfillShow shows progress: a bar on a terminal, else a line now and then.
type backfillShow struct {
	a    *app
	bar  *progressbar.ProgressBar
	mu   sync.Mutex // guards the rest; held for one line
	last time.Time
	bads int
}

func (a *app) backfillProgress() *backfillShow {
	s := &backfillShow{a: a}
	if isTerminal(a.stderr) {
		s.bar = progressbar.NewOptions64(-1, progressbar.OptionSetWriter(a.stderr), progressbar.OptionShowCount(),
			progressbar.OptionThrottle(barEvery), progressbar.OptionSetPredictTime(true), progressbar.OptionFullWidth())
	}
	return s
}

func (s *backfillShow) update(p history.Progress) {
	s.mu.Lock()
	defer s.mu.Unlock()
	text := fmt.Sprintf("%s, day %d of %d", p.Day.Format(time.DateOnly), p.Done+1, p.Days)
	if s.bar != nil {
		if p.Total > 0 {
			s.bar.ChangeMax64(p.Total)
		}
		s.bar.Describe(text)
		_ = s.bar.Set64(min(p.Killmails, max(p.Total, p.Killmails)))
		return
	}
	if time.Since(s.last) >= plainEvery {
		s.last = time.Now()
		fmt.Fprintf(s.a.stderr, "backfilling: %s: %s\n", text, countsText(p.Counts))
	}
}

func (s *backfillShow) bad(name string, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.bads++; s.bads <= badTold {
		fmt.Fprintf(s.a.stderr, "bad: %s: %v\n", name, err)
	}
}

func (s *backfillShow) end() {
	if s.bar != nil {
		_ = s.bar.Clear()
	}
}
