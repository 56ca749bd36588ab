package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"net/url"
	"sync"
	"syscall"
	"time"

	"killfeed"
	"killfeed/ingest/upstream"
)

const (
	// maxSilence is how long a stream may say nothing. The server says something every 20 seconds.
	maxSilence = time.Minute
	// The waits between attempts to connect again. A server that asks for more gets it.
	leastWait, mostWait = 250 * time.Millisecond, 15 * time.Second
	// commitEvery is how often a client's place is committed, and commitTime how long that may take.
	commitEvery, commitTime = time.Second, 10 * time.Second
	// maxLine bounds a line of the stream: a killmail of 8 MiB, and what is around it.
	maxLine = 16 << 20
)

// follower follows one stream across all its connections and prints each event once.
//
// With a client it commits by itself what it has printed. If the server did it, everything on the way here would count as
// read when it is sent: kilobytes of events that an interrupt, or --limit, leaves unprinted, and that nobody would ever see.
//
// It belongs to one goroutine; another one reads.
type follower struct {
	app    *app
	server *client
	show   *printer
	query  url.Values // of the first connection
	client string     // empty: the place is kept here only
	topics []string
	limit  int // 0: none

	opened  bool   // the stream has begun once
	cursor  string // of the last line that told one: everything up to there was printed or is none of ours
	printed int
	lost    time.Time // since when there is no connection; zero while there is one
	backoff upstream.Backoff

	committed string // the cursor that was committed last
}

// brokenError is what another connection may mend.
type brokenError struct{ error }

func (e brokenError) Unwrap() error { return e.error }

var (
	// errDone: what was asked for was printed, or nobody reads it any more.
	errDone     = errors.New("done")
	errSilent   = brokenError{fmt.Errorf("nothing came for %v", maxSilence)}
	errEnded    = brokenError{errors.New("the server ended the stream")}
	errReplaced = errors.New("a newer connection has taken the client's name")
)

// run follows until ctx ends, the limit is reached, standard output is closed, or the server refuses.
func (f *follower) run(ctx context.Context) error {
	f.backoff = upstream.Backoff{Least: leastWait, Most: mostWait}
	err := f.follow(ctx)
	if !errors.Is(err, errReplaced) { // the name is another one's now
		f.commitAtEnd(ctx)
	}
	switch {
	case errors.Is(err, errDone):
		return nil
	case errors.Is(err, errReplaced):
		return hint(fmt.Errorf("client %q: %w", f.client, err), "give each reader a --client of its own")
	case ctx.Err() != nil && f.limit > 0:
		return errInterrupted
	case ctx.Err() != nil:
		return nil
	}
	return err
}

// follow connects again and again.
func (f *follower) follow(ctx context.Context) error {
	for {
		err := f.connect(ctx)
		asked, again := mends(err)
		if !again || !f.opened || ctx.Err() != nil {
			return err
		}
		if f.lost.IsZero() {
			f.lost = time.Now()
			fmt.Fprintf(f.app.stderr, "disconnected: %v; trying again\n", err)
		}
		if err := upstream.Sleep(ctx, f.backoff.Next(asked)); err != nil {
			return err
		}
	}
}

// mends tells whether another attempt may go better, and how long the server asked to be left alone before.
func mends(err error) (asked time.Duration, again bool) {
	var (
		broken  brokenError
		problem *problemError
	)
	if errors.As(err, &problem) {
		return problem.retryAfter, problem.Status >= 500 || problem.Status == http.StatusTooManyRequests
	}
	return 0, errors.As(err, &broken) || errors.Is(err, errUnreachable)
}

// connect follows one connection to its end and returns what ended it.
func (f *follower) connect(ctx context.Context) error {
	query, err := f.resume(ctx)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	silence := time.AfterFunc(maxSilence, func() { cancel(errSilent) })
	defer silence.Stop()
	res, err := f.server.do(ctx, call{
		method: http.MethodGet, path: []string{"api", "killfeed", "stream"}, query: query,
		// Compressed, an event would wait in some buffer for the next one.
		header: http.Header{"Accept": {"application/x-ndjson"}, "Accept-Encoding": {"identity"}},
	})
	silence.Stop()
	if ctx.Err() != nil {
		if err == nil {
			res.Body.Close()
		}
		return context.Cause(ctx)
	}
	if err != nil {
		return err
	}
	defer res.Body.Close()
	if res.StatusCode == http.StatusNoContent {
		return errReplaced
	}
	if kind, _, _ := mime.ParseMediaType(res.Header.Get("Content-Type")); kind != "application/x-ndjson" {
		return fmt.Errorf("%s answers with %q instead of a stream: is it a killfeed, and one that has streams?", f.server.base, kind)
	}
	lines := bufio.NewScanner(&listened{res.Body, silence})
	lines.Buffer(nil, maxLine)
	lines.Split(wholeLines)
	texts := make(chan []byte)
	var reading sync.WaitGroup
	reading.Go(func() {
		defer close(texts)
		for lines.Scan() {
			select {
			case texts <- bytes.Clone(lines.Bytes()):
			case <-ctx.Done():
				return
			}
		}
	})
	defer func() {
		cancel(nil) // ends the reading
		reading.Wait()
	}()
	if err := f.consume(ctx, texts); err != nil {
		return err
	}
	switch err := lines.Err(); {
	case ctx.Err() != nil:
		return context.Cause(ctx)
	case errors.Is(err, bufio.ErrTooLong):
		return fmt.Errorf("reading the stream of %s: a line is longer than %d bytes", f.server.base, maxLine)
	case err != nil:
		return brokenError{fmt.Errorf("reading the stream: %w", err)}
	}
	return errEnded
}

// consume takes the lines until there are no more. Of a client it commits what was printed, within a second.
func (f *follower) consume(ctx context.Context, texts <-chan []byte) error {
	var due <-chan time.Time // nil while everything is committed
	for {
		select {
		case text, more := <-texts:
			if !more {
				return nil
			}
			if err := f.take(text); err != nil {
				return err
			}
		case <-due:
			due = nil
			err := f.commit(ctx)
			if _, again := mends(err); err != nil && !again { // else the next one does it
				return err
			}
		}
		if due == nil && f.client != "" && f.cursor != f.committed {
			due = time.After(commitEvery)
		}
	}
}

// listened has the silence measured while somebody listens, and not while a pager holds up the output.
type listened struct {
	stream  io.Reader
	silence *time.Timer
}

func (l *listened) Read(p []byte) (int, error) {
	l.silence.Reset(maxSilence)
	defer l.silence.Stop()
	return l.stream.Read(p)
}

// wholeLines is bufio.ScanLines without what is left when the connection breaks within a line.
func wholeLines(data []byte, atEOF bool) (advance int, token []byte, err error) {
	return bufio.ScanLines(data, atEOF && bytes.IndexByte(data, '\n') >= 0)
}

// resume returns the parameters for the next connection.
func (f *follower) resume(ctx context.Context) (url.Values, error) {
	if !f.opened {
		return f.query, nil
	}
	query := url.Values{}
	for name, values := range f.query {
		query[name] = values
	}
	query.Del("after")
	if f.client != "" {
		// A cursor would win over the offsets, on all topics: those on which the client was ahead would go back. So its place is
		// committed, which never goes back, also when it was before: that asks whether the log is still the same. When it is
		// not, the cursor has the server say what became of the events.
		err := f.commit(ctx)
		var problem *problemError
		if !errors.As(err, &problem) || problem.Status != http.StatusBadRequest {
			return query, err
		}
	}
	query.Del("start")
	query.Set("after", f.cursor)
	return query, nil
}

// line is what a line of a stream may hold. Events are printed as they came.
type line struct {
	Type   string             `json:"type"`
	Cursor string             `json:"cursor"`
	ID     killfeed.EventID   `json:"event_id"` // of an event
	Gap    *killfeed.Gap      `json:"gap"`      // of open
	Reason killfeed.GapReason `json:"reason"`   // of a gap
	From   killfeed.EventID   `json:"from"`
	To     killfeed.EventID   `json:"to"`
}

// take handles one line.
func (f *follower) take(text []byte) error {
	var l line
	if err := json.Unmarshal(text, &l); err != nil {
		return fmt.Errorf("reading the stream of %s: %w", f.server.base, err)
	}
	switch l.Type {
	case "open":
		if l.Cursor == "" {
			return fmt.Errorf("the stream of %s does not say where it begins", f.server.base)
		}
		f.open(&l)
	case "replaced":
		return errReplaced
	case "gap":
		f.app.tellGap(&killfeed.Gap{Reason: l.Reason, From: l.From, To: l.To})
	case "new_killmail":
		if err := f.event(&l, text); err != nil {
			return err
		}
	}
	if l.Type != "open" {
		f.backoff.Reset() // and not by a stream that only begins and breaks
	}
	if l.Cursor != "" && l.Reason != killfeed.GapDamaged { // what is damaged is told before the events that precede it
		f.cursor = l.Cursor
	}
	if f.limit > 0 && f.printed == f.limit {
		return errDone
	}
	return nil
}

// open begins a connection's stream.
func (f *follower) open(l *line) {
	switch {
	case f.lost.IsZero():
	case l.Gap == nil:
		fmt.Fprintf(f.app.stderr, "back after %v, nothing missed\n", f.outage())
	default:
		fmt.Fprintf(f.app.stderr, "back after %v, with a gap\n", f.outage())
	}
	if l.Gap != nil {
		f.app.tellGap(l.Gap)
	}
	f.opened, f.lost = true, time.Time{}
}

// outage is how long there was no connection, for people.
func (f *follower) outage() time.Duration {
	d := time.Since(f.lost)
	if d < 10*time.Second {
		return d.Round(100 * time.Millisecond)
	}
	return d.Round(time.Second)
}

// event prints an event: the object that polls give, without its type, which the server writes first.
func (f *follower) event(l *line, text []byte) error {
	if rest, ok := bytes.CutPrefix(text, []byte(`{"type":"new_killmail",`)); ok {
		text = append([]byte{'{'}, rest...)
	}
	printed, err := f.show.print(text)
	var output *outputError
	switch {
	case err == nil:
		if printed {
			f.printed++
		}
		return nil
	case !errors.As(err, &output):
		// A killmail may be any JSON object. One that a template cannot cope with must not hold up the others for ever.
		fmt.Fprintf(f.app.stderr, "not printed: event %d: %v\n", l.ID, err)
		return nil
	case errors.Is(err, syscall.EPIPE), errors.Is(err, io.ErrClosedPipe):
		return errDone // as with "| head"
	}
	return fmt.Errorf("writing to standard output: %w", err)
}

// commit has the server note the place.
func (f *follower) commit(ctx context.Context) error {
	ctx, cancel := context.WithTimeoutCause(ctx, commitTime, brokenError{fmt.Errorf("committing took longer than %v", commitTime)})
	defer cancel()
	cursor := f.cursor
	body := struct {
		ClientID string   `json:"client_id"`
		Topics   []string `json:"topics"`
		EventID  string   `json:"event_id"`
	}{f.client, f.topics, cursor}
	var answer json.RawMessage
	err := f.server.json(ctx, call{method: http.MethodPost, path: []string{"api", "killfeed", "commit"}, body: body}, &answer)
	if err != nil && ctx.Err() != nil {
		return context.Cause(ctx)
	}
	if err == nil {
		f.committed = cursor
	}
	return err
}

// commitAtEnd commits what is not, although ctx may have ended.
func (f *follower) commitAtEnd(ctx context.Context) {
	if f.client == "" || f.cursor == f.committed {
		return
	}
	if err := f.commit(context.WithoutCancel(ctx)); err != nil {
		fmt.Fprintf(f.app.stderr, "not committed, so the last events will come again: %v\n", err)
	}
}
