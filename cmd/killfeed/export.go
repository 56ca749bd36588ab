package main

import (
	"bufio"
	"compress/gzip"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/url"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/klauspost/compress/zstd"
	"github.com/spf13/cobra"

	"killfeed"
	"killfeed/pebblestore"
)

// export is what is wanted, and how it is written.
type export struct {
	from, to, since string
	format          string
	output          string

	first, last killfeed.EventID // of from and to; last is 0 without
	at          time.Time        // of since

	out            *bufio.Writer
	written        int
	firstOut, head killfeed.EventID // the first event written, and the last
	without        int              // events that have no id and hash
}

func (a *app) exportCmd() *cobra.Command {
	var e export
	c := &cobra.Command{
		Use:   "export",
		Short: "Write the events of a log as lines of JSON",
		Long: `Write events in order, one a line, to standard output or a file: from a server, or from a data directory that no server
has open, when --data is given and --server is not. A line is an event as polls have it, updates included, and
'killfeed import' reads it: the killmails are the same there, their event ids are that log's. With --format ids-hashes a line is
{"killmail_id":…,"hash":"…"}, once for each killmail that has both, and nothing of updates.

A file whose name ends in .gz or .zst is compressed so. Events that retention removed before --from was reached are told on
standard error.`,
		Example: `  killfeed export --since 24h --output day.jsonl.gz
  killfeed export --data /var/lib/killfeed --from 1 --to 100000 | killfeed import --data other -`,
		Args: cobra.NoArgs,
	}
	c.Flags().StringVar(&e.from, "from", "", "begin with this event `id` (default the first that is kept)")
	c.Flags().StringVar(&e.to, "to", "", "end with this event `id` (default the last that there is)")
	c.Flags().StringVar(&e.since, "since", "", "begin with the first event received since this `time`, or in this time, as in 2026-11-23T18:00:00Z or 24h")
	c.Flags().Var(choice(&e.format, "jsonl", "jsonl", "ids-hashes"), "format", "what a line is")
	c.Flags().StringVar(&e.output, "output", "", "write into this `file`, which must not exist (default standard output)")
	return a.command(c, append([]string{"cache"}, clientSettings...), func(ctx context.Context, _ []string) error {
		if err := e.parse(time.Now()); err != nil {
			return usageError{err}
		}
		return a.export(ctx, &e)
	})
}

func (e *export) parse(now time.Time) error {
	for _, p := range []struct {
		name, text string
		to         *killfeed.EventID
	}{{"--from", e.from, &e.first}, {"--to", e.to, &e.last}} {
		if p.text == "" {
			continue
		}
		n, err := strconv.ParseUint(p.text, 10, 63)
		if err != nil || n == 0 {
			return killfeed.Invalid(p.name, p.text, "an event id from 1 on")
		}
		*p.to = killfeed.EventID(n)
	}
	if e.since == "" {
		return nil
	}
	if e.from != "" {
		return errors.New("--since and --from do not go together")
	}
	if age, err := parseDuration(e.since); err == nil {
		e.at = now.Add(-age)
		return nil
	}
	at, err := time.Parse(time.RFC3339, e.since)
	if err != nil {
		return killfeed.Invalid("--since", e.since, "a time such as 2026-11-23T18:00:00Z, or how long ago, as in 24h or 7d")
	}
	e.at = at
	return nil
}

func (a *app) export(ctx context.Context, e *export) (err error) {
	read := a.exportOfServer
	if a.origin["data"] == "flag" && a.origin["server"] != "flag" {
		read = a.exportOfDirectory
	}
	name, done := "standard output", func() error { return nil }
	to := a.stdout
	if e.output != "" {
		f, err := os.OpenFile(e.output, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o666)
		if err != nil {
			return fmt.Errorf("writing the export: %w", err)
		}
		name, to, done = e.output, f, f.Close
		defer func() {
			if err != nil {
				os.Remove(e.output) // half of it would be taken for all
			}
		}()
	}
	pack := io.WriteCloser(nil)
	switch {
	case strings.HasSuffix(e.output, ".gz"):
		pack = gzip.NewWriter(to)
	case strings.HasSuffix(e.output, ".zst"):
		if pack, err = zstd.NewWriter(to, zstd.WithEncoderConcurrency(1)); err != nil {
			return errors.Join(err, done())
		}
	}
	e.out = bufio.NewWriterSize(to, 256<<10)
	if pack != nil {
		e.out = bufio.NewWriterSize(pack, 256<<10)
	}
	err = read(ctx, e)
	err = errors.Join(err, e.out.Flush())
	if pack != nil {
		err = errors.Join(err, pack.Close())
	}
	if err = errors.Join(err, done()); err != nil {
		if ctx.Err() != nil {
			return errInterrupted
		}
		return err
	}
	what := "no events"
	if e.written > 0 {
		what = fmt.Sprintf("%d events (%d to %d)", e.written, e.firstOut, e.head)
	}
	if e.without > 0 {
		what += fmt.Sprintf(", not %d that have no killmail id and hash", e.without)
	}
	fmt.Fprintf(a.stderr, "exported %s to %s\n", what, name)
	return nil
}

// event writes one event; text is its line.
func (e *export) event(id killfeed.EventID, update bool, text []byte) error {
	if e.format == "ids-hashes" {
		if update {
			return nil
		}
		k, err := killfeed.ParseItem(text)
		if err == nil {
			err = k.AddHash()
		}
		if err != nil || k.ID == 0 || k.Hash == "" {
			e.without++
			return nil
		}
		text = fmt.Appendf(nil, `{"killmail_id":%d,"hash":%q}`, k.ID, k.Hash)
	}
	if e.written++; e.written == 1 {
		e.firstOut = id
	}
	e.head = id
	_, err := e.out.Write(append(text[:len(text):len(text)], '\n'))
	return err
}

// exportBatch is how many events are read at a time.
const exportBatch = 500

func (a *app) exportOfDirectory(ctx context.Context, e *export) (err error) {
	dir := a.settings.data
	if err := holdsLog(dir); err != nil {
		return hint(err, "name the data directory with --data")
	}
	log := slog.New(slog.NewTextHandler(a.stderr, &slog.HandlerOptions{Level: slog.LevelWarn}))
	store, err := pebblestore.Open(dir, pebblestore.Options{ReadOnly: true, Cache: int64(a.settings.cache), Logger: log})
	if err != nil {
		return lockedHint(err, "a running server holds it: export from that, with --server "+a.settings.server)
	}
	defer func() { err = errors.Join(err, store.Close()) }()
	st := store.State()
	next, last := max(e.first, st.First), st.Head
	if e.since != "" {
		if next, err = store.ReceivedFrom(e.at); err != nil {
			return err
		}
	} else if e.first > 0 && e.first < st.First && st.First > 1 {
		a.tellGap(&killfeed.Gap{Reason: killfeed.GapRetention, From: e.first, To: st.First - 1})
	}
	if e.last > 0 {
		last = min(last, e.last)
	}
	show := a.eventsBar("exporting events")
	for first := next; next <= last && err == nil; {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		var ids []killfeed.EventID
		for ; next <= last && len(ids) < exportBatch; next++ {
			ids = append(ids, next)
		}
		var failed error
		err = store.Read(ids, func(ev killfeed.Event, damage error) bool {
			if damage != nil {
				fmt.Fprintf(a.stderr, "gap: event %d: %v\n", ev.ID, damage)
				return true
			}
			failed = e.event(ev.ID, ev.Marks.Has(killfeed.MarkUpdate), ev.AppendJSON(nil))
			return failed == nil
		})
		err = errors.Join(err, failed)
		if show != nil {
			show(uint64(next-first), uint64(last+1-first))
		}
	}
	return err
}

func (a *app) exportOfServer(ctx context.Context, e *export) error {
	server, err := a.newClient()
	if err != nil {
		return err
	}
	after := ""
	switch {
	case e.since != "":
		if after, err = server.cursorSince(ctx, e.at); err != nil {
			return err
		}
	case e.first > 0:
		after = strconv.FormatUint(uint64(e.first-1), 10)
	default: // what was removed before the first event kept is nothing that was asked for
		var status topStatus
		if err := server.json(ctx, call{method: http.MethodGet, path: []string{"api", "status"}}, &status); err != nil {
			return err
		}
		after = strconv.FormatUint(status.Log.First-1, 10)
	}
	for {
		var page struct {
			Events []json.RawMessage `json:"events"`
			Gap    *killfeed.Gap     `json:"gap"`
			More   bool              `json:"more"`
			Next   string            `json:"next"`
		}
		err := server.json(ctx, call{method: http.MethodGet, path: []string{"api", "killfeed"}, query: url.Values{
			"after": {after}, "topics": {"all"}, "limit": {strconv.Itoa(exportBatch)}, "updates": {"1"},
		}}, &page)
		if err != nil {
			return err
		}
		if page.Gap != nil {
			a.tellGap(page.Gap)
		}
		for _, text := range page.Events {
			var head struct {
				ID     killfeed.EventID `json:"event_id"`
				Update bool             `json:"update"`
			}
			if err := json.Unmarshal(text, &head); err != nil {
				return fmt.Errorf("reading the answer of %s: %w", server.base, err)
			}
			if e.last > 0 && head.ID > e.last {
				return nil
			}
			if err := e.event(head.ID, head.Update, text); err != nil {
				return err
			}
		}
		if !page.More || e.last > 0 && e.head >= e.last {
			return nil
		}
		if page.Next == "" || page.Next == after {
			return fmt.Errorf("%s says that there is more, and does not say where", server.base)
		}
		after = page.Next
	}
}

// cursorSince is the cursor before the first event received since then: a stream that begins there says so at once.
func (c *client) cursorSince(ctx context.Context, at time.Time) (string, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	res, err := c.do(ctx, call{method: http.MethodGet, path: []string{"api", "killfeed", "stream"},
		query: url.Values{"topics": {"all"}, "start": {at.UTC().Format(time.RFC3339Nano)}}, header: http.Header{"Accept": {"application/x-ndjson"}}})
	if err != nil {
		return "", err
	}
	defer res.Body.Close()
	var open struct {
		Type  string `json:"type"`
		Start uint64 `json:"start"`
	}
	line, err := bufio.NewReader(res.Body).ReadBytes('\n')
	if err == nil {
		err = json.Unmarshal(line, &open)
	}
	if err == nil && (open.Type != "open" || open.Start == 0) {
		err = fmt.Errorf("it begins with %.100q: is it a killfeed?", line)
	}
	if err != nil {
		return "", fmt.Errorf("reading the stream of %s from %s on: %w", c.base, at.Format(time.RFC3339), err)
	}
	return strconv.FormatUint(open.Start-1, 10), nil
}
