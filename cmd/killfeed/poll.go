package main

import (
	"context"
	"encoding/json"
	"fmt"
	"math"
	"net/http"
	"strings"
	"time"
	"unicode"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"killfeed"
)

// reading holds the flags that poll and next share.
type reading struct {
	client     string
	after      string
	systems    []string
	topics     []string
	limit      int
	wait       durationValue
	commit     string
	start      string
	maxAge     durationValue
	updates    bool
	noBackfill bool
	selection
	output
}

func (r *reading) addFlags(fs *pflag.FlagSet) {
	fs.StringVar(&r.client, "client", "", "read as this client: the server keeps its `name`'s offsets, and makes it on first use")
	topicFlags(fs, &r.systems, &r.topics)
	fs.Var(&r.wait, "wait", "when there is nothing, wait this long for an event, at most 60s")
	fs.Var(choice(&r.commit, "auto", "auto", "manual"), "commit",
		"auto: what is printed counts as read; manual: it comes again until the client commits or seeks")
	fs.StringVar(&r.start, "start", "", "`where` a topic's first use begins: earliest (default), latest, an event id or an RFC 3339 time")
	fs.Var(&r.maxAge, "max-age", "pass over killmails that are older than this; they count as read")
	fs.BoolVar(&r.updates, "updates", false, "also print newer versions of killmails that the log has already")
	fs.BoolVar(&r.noBackfill, "no-backfill", false, "pass over imported history; it counts as read")
	r.selection.addFlags(fs)
	r.output.addFlags(fs)
}

// selection holds the flags that say which events are wanted, and what of them.
type selection struct {
	filter string
	fields string
	names  bool
}

func (s *selection) addFlags(fs *pflag.FlagSet) {
	fs.StringVar(&s.filter, "filter", "",
		"only events that match this `filter`, as in 'isk>1b;region=The Forge'; the others count as read")
	s.addShapeFlags(fs)
}

// addShapeFlags adds those that say how events are shown.
func (s *selection) addShapeFlags(fs *pflag.FlagSet) {
	fs.StringVar(&s.fields, "fields", "", "only these `members` of the killmail, as in killmail_id,zkb.totalValue")
	fs.BoolVar(&s.names, "names", false, "also what ids are called, as far as the server knows (text always asks)")
}

func topicFlags(fs *pflag.FlagSet, systems, topics *[]string) {
	fs.StringSliceVar(systems, "system", nil, "solar `system`, by id or name; repeat it or separate several with commas")
	fs.StringSliceVar(topics, "topic", nil, "`topic`: all, system:, constellation:, region:, space:, character:, corporation:, "+
		"alliance:, faction:, ship:, group: or label:, also kill: or loss: before who took part; repeatable")
}

// topicNames checks the topics here, so that a misspelt one is a usage error with the same words as the server's. What things are
// called only the server knows.
func topicNames(systems, topics []string) ([]string, error) {
	var names []string
	for _, s := range systems {
		s = strings.TrimSpace(s)
		if _, ok := killfeed.ParseID(s); !ok && !isName(s) {
			return nil, usageError{killfeed.Invalid("--system", s, "a solar system's name, or its id, 1 to 2147483647")}
		}
		names = append(names, "system:"+s)
	}
	for _, s := range topics {
		s = strings.TrimSpace(s)
		t, err := killfeed.ParseTopic(s)
		switch {
		case err == nil:
			names = append(names, t.String())
		case namesThing(s):
			names = append(names, s)
		default:
			return nil, usageError{err}
		}
	}
	return names, nil
}

// isName tells whether s may be what something is called: all names have a letter.
func isName(s string) bool { return strings.ContainsFunc(s, unicode.IsLetter) }

// namesThing tells whether a topic has, instead of an id, what may be a name.
func namesThing(topic string) bool {
	kind, name, _ := strings.Cut(topic, ":")
	if kind == "kill" || kind == "loss" {
		kind, name, _ = strings.Cut(name, ":")
	}
	switch kind {
	case "system", "constellation", "region", "ship", "group", "faction", "corporation":
		return killfeed.IsTopic(topic) && isName(name)
	}
	return false
}

// request is the body of POST /api/killfeed and /api/killfeed/next. A body has room for thousands of topics; a URL has not.
type request struct {
	ClientID string   `json:"client_id,omitempty"`
	After    string   `json:"after,omitempty"`
	Topics   []string `json:"topics"`
	Limit    int      `json:"limit,omitempty"`
	Wait     int      `json:"wait,omitempty"`
	Commit   string   `json:"commit,omitempty"`
	Start    string   `json:"start,omitempty"`
	MaxAge   int      `json:"max_age,omitempty"`
	Updates  int      `json:"updates,omitempty"`
	Backfill *int     `json:"backfill,omitempty"`
	Filter   string   `json:"filter,omitempty"`
	Fields   string   `json:"fields,omitempty"`
	Names    int      `json:"names,omitempty"`
}

// request makes the body, for events that are shown so.
func (r *reading) request(show *printer) (*request, error) {
	topics, err := topicNames(r.systems, r.topics)
	switch {
	case err != nil:
		return nil, err
	case len(topics) == 0:
		return nil, usageError{hint(fmt.Errorf("nothing to read: no topic was named"), "add --system Jita, or --topic all")}
	case time.Duration(r.wait) > time.Minute:
		return nil, usagef("--wait %s is too long: at most 60s", &r.wait)
	}
	if r.client != "" {
		if err := killfeed.CheckClientName(r.client); err != nil {
			return nil, usageError{err}
		}
	}
	q := &request{ClientID: r.client, After: r.after, Topics: topics, Limit: r.limit, Start: r.start,
		Wait: seconds(r.wait), MaxAge: seconds(r.maxAge), Filter: r.filter, Fields: r.fields}
	if r.client != "" {
		q.Commit = r.commit
	}
	if r.updates {
		q.Updates = 1
	}
	if r.noBackfill {
		q.Backfill = new(int)
	}
	if r.names || show.names {
		q.Names = 1
	}
	return q, nil
}

// seconds rounds up: "wait a little" must not become "do not wait".
func seconds(d durationValue) int { return int(math.Ceil(time.Duration(d).Seconds())) }

func (a *app) pollCmd() *cobra.Command {
	var r reading
	c := &cobra.Command{
		Use:   "poll --client NAME (--system ID | --topic TOPIC)...",
		Short: "Print what a client has not had",
		Long: `Ask a server once for the events that a client has not had on the topics, print them in order, and commit them. It
is GET /api/killfeed for people.

With --commit auto the server counts the events as read when it answers; with manual they come again until the client
commits (POST /api/killfeed/commit) or is moved by 'killfeed clients seek'. With --after CURSOR instead of --client nothing
is kept on the server; the following cursor is told on standard error.

Events go to standard output; gaps (events that retention removed before they were read), and that there is more, are told
on standard error. A line of text has: event id, when the log took it, when the loss was, system, ship type, victim,
number of attackers, link.`,
		Example: `  killfeed poll --client me --system 30000142,30002187 --limit 10
  killfeed poll --client me --topic character:2112625428 --wait 30s --start latest
  killfeed poll --client me --topic region:Delve --filter 'isk>1b' --fields killmail_id,zkb.totalValue
  killfeed poll --client me --topic all --commit manual --json | jq .killmail.killmail_id
  killfeed poll --after 0 --topic label:solo`,
		Args: cobra.NoArgs,
	}
	r.addFlags(c.Flags())
	c.Flags().IntVar(&r.limit, "limit", 0, "at most this `number` of events, 1 to 1000 (default 500)")
	c.Flags().StringVar(&r.after, "after", "", "read after this `cursor` or event id, 0 being the beginning; with --client it moves the client there")
	return a.command(c, clientSettings, func(ctx context.Context, _ []string) error { return a.poll(ctx, &r) })
}

func (a *app) poll(ctx context.Context, r *reading) error {
	show, err := a.newPrinter(r.output)
	if err != nil {
		return err
	}
	q, err := r.request(show)
	if err != nil {
		return err
	}
	switch {
	case r.client == "" && r.after == "" && r.start == "":
		return usageError{hint(fmt.Errorf("nobody to read for"), "add --client NAME (any name), or --after CURSOR to read without one")}
	case r.limit < 0 || r.limit > 1000:
		return usagef("--limit %d is out of range: want 1 to 1000", r.limit)
	}
	server, err := a.newClient()
	if err != nil {
		return err
	}
	var answer struct {
		Events []json.RawMessage `json:"events"`
		Gap    *killfeed.Gap     `json:"gap"`
		More   bool              `json:"more"`
		Next   string            `json:"next"`
	}
	err = server.json(ctx, call{method: http.MethodPost, path: []string{"api", "killfeed"}, body: q}, &answer)
	if err != nil {
		return err
	}
	if answer.Gap != nil {
		a.tellGap(answer.Gap)
	}
	for _, event := range answer.Events {
		if _, err := show.print(event); err != nil {
			return err
		}
	}
	if answer.More {
		fmt.Fprintln(a.stderr, "more: repeat the command for the following events")
	}
	if answer.Next != "" {
		fmt.Fprintln(a.stderr, "next: --after", answer.Next)
	}
	return nil
}
