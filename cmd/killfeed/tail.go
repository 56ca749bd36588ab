package main

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"killfeed"
)

// tailing holds the flags of tail.
type tailing struct {
	systems, topics []string
	client          string
	since           string
	maxAge          durationValue
	updates         bool
	backfill        bool
	limit           int
	selection
	output
}

func (a *app) tailCmd() *cobra.Command {
	var t tailing
	c := &cobra.Command{
		Use:   "tail [--system ID | --topic TOPIC]...",
		Short: "Print killmails as they come",
		Long: `Follow a server live and print every event on the topics, or all of them when no topic is named. It is
GET /api/killfeed/stream for people.

When the connection breaks, the server is restarted, or nothing at all comes for a minute, tail connects again by itself and
goes on behind the last event that it printed: nothing is left out and nothing comes twice. What was removed meanwhile is
told as a gap. A refusal ends the command (but for 429, too many), and so does any failure before the stream has begun for the
first time, so that a wrong --server is seen. All of this is told on standard error; events go to standard output.

--since says where to begin:

  latest                 with what comes from now on (default)
  earliest               with everything that is kept
  an event id            with that event
  an RFC 3339 time       with the first event that the log took at that time or later
  a duration             so far back from now, by this machine's clock: 15m, 2h, 1d
  a cursor               behind it: the "cursor" of an event that was printed

With --client the server keeps the place: what was printed counts as read, and the next call goes on behind it, with --since
only for topics that the client has not used, or when it is a cursor. It is committed once a second and at the end; killed in
between, tail prints the last moment again. A second tail with the same name takes the place of the first, which ends.

A template is in Go's text/template language; {{.event_id}} and {{.killmail.victim.ship_type_id}} are members of the event as
--json prints it. 'json' shows a value as JSON, 'time' writes a time in UTC by a layout of Go's, and 'number' makes anything
comparable, what is missing as 0. When a template prints nothing for an event there is no line, and --limit does not count it.

Interrupted, tail ends cleanly: with 0, or with 130 when --limit was given and not reached.`,
		Example: `  killfeed tail
  killfeed tail --system Jita,30002187 --since 1h
  killfeed tail --topic space:wormhole --filter 'isk>100m;npc=0' --names --json
  killfeed tail --topic label:solo --json | jq .killmail.killmail_id
  killfeed tail --client bot --topic alliance:99003581 --since earliest --backfill
  killfeed tail --template '{{.received_at | time "15:04:05"}} {{.system_id}} {{.killmail.victim.ship_type_id}}'
  killfeed tail --template '{{if gt (number .killmail.zkb.totalValue) 1e9}}{{.killmail.killmail_id}}{{end}}'`,
		Args: cobra.NoArgs,
	}
	f := c.Flags()
	topicFlags(f, &t.systems, &t.topics)
	f.StringVar(&t.since, "since", "latest",
		"`where` to begin: latest, earliest, an event id, an RFC 3339 time, a duration back from now, or a cursor")
	f.StringVar(&t.client, "client", "", "read as this client: the server keeps its `name`'s offsets, and makes it on first use")
	f.IntVar(&t.limit, "limit", 0, "end after this `number` of events (default: never)")
	f.Var(&t.maxAge, "max-age", "pass over killmails that are older than this")
	f.BoolVar(&t.updates, "updates", false, "also print newer versions of killmails that the log has already")
	f.BoolVar(&t.backfill, "backfill", false, "also print imported history")
	t.selection.addFlags(f)
	t.output.addFlags(f)
	f.StringVar(&t.template, "template", "", "print each event by this Go `template`")
	return a.command(c, clientSettings, func(ctx context.Context, _ []string) error {
		return a.tail(ctx, &t, c.Flags().Changed("limit"))
	})
}

func (a *app) tail(ctx context.Context, t *tailing, limited bool) error {
	if limited && t.limit < 1 {
		return usagef("--limit %d is out of range: want 1 or more", t.limit)
	}
	query, topics, err := t.query(time.Now())
	if err != nil {
		return err
	}
	show, err := a.newPrinter(t.output)
	if err != nil {
		return err
	}
	if t.names || show.names {
		query.Set("names", "1")
	}
	server, err := a.newClient()
	if err != nil {
		return err
	}
	defer server.http.CloseIdleConnections()
	f := &follower{server: server, query: query, client: t.client, topics: topics, limit: t.limit, show: show, app: a}
	return f.run(ctx)
}

// query makes the parameters of the first request.
func (t *tailing) query(now time.Time) (query url.Values, topics []string, err error) {
	if topics, err = topicNames(t.systems, t.topics); err != nil {
		return nil, nil, err
	}
	if len(topics) == 0 {
		topics = []string{killfeed.All().String()}
	}
	query = url.Values{"topics": {strings.Join(topics, ",")}} // labels have no commas
	where, value, err := since(t.since, now)
	if err != nil {
		return nil, nil, usageError{err}
	}
	query.Set(where, value)
	if t.client != "" {
		if err := killfeed.CheckClientName(t.client); err != nil {
			return nil, nil, usageError{err}
		}
		query.Set("client_id", t.client)
		query.Set("commit", "manual") // see follower
	}
	if t.maxAge > 0 {
		query.Set("max_age", strconv.Itoa(seconds(t.maxAge)))
	}
	if t.updates {
		query.Set("updates", "1")
	}
	if t.backfill {
		query.Set("backfill", "1")
	}
	if t.filter != "" {
		query.Set("filter", t.filter)
	}
	if t.fields != "" {
		query.Set("fields", t.fields)
	}
	return query, topics, nil
}

// since reads --since. It returns the parameter that says so to the server, start or after, with its value.
func since(text string, now time.Time) (param, value string, err error) {
	if start, err := killfeed.ParseStart("since", text); err == nil {
		return "start", start.String(), nil
	}
	if c, err := killfeed.ParseCursor(text); err == nil && c.Epoch != "" {
		return "after", text, nil
	}
	// A duration has a unit. Zero would pass without one, and means an event id to whoever types it.
	if back, err := parseDuration(text); err == nil && text != "0" {
		return "start", killfeed.StartTime(now.Add(-back).UTC()).String(), nil
	}
	return "", "", hint(fmt.Errorf("--since %q is not accepted: %w", text, errSince), "see 'killfeed tail --help'")
}

var errSince = errors.New("want latest, earliest, an event id from 1 on, a time such as 2026-11-23T18:00:00Z, " +
	"a duration back from now such as 15m or 2d, or a cursor")
