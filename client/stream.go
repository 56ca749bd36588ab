package client

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	"log/slog"
	"math/rand/v2"
	"mime"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"
)

const (
	// The waits before another connection double from what the server's retry says, or the least, to the most.
	leastWait, mostWait = 500 * time.Millisecond, 30 * time.Second
	// commitEvery is how soon what was handled is committed, and commitAtEnd how long that may take when the loop has ended.
	commitEvery, commitAtEnd = time.Second, 5 * time.Second
)

// Stream gives events as they come. It belongs to one goroutine, that of its loop.
type Stream struct {
	client *Client
	o      StreamOptions

	epoch      string        // of the connection before; empty before the first
	given      string        // the cursor behind the event that the loop was given last
	handled    string        // the cursor behind the last event that the loop has come back from
	committed  string        // the cursor committed last, or where the stream began
	dirtySince time.Time     // when handled went past committed; zero while it has not
	byCursor   bool          // the next connection begins at a cursor although there is a client
	retry      time.Duration // what the server said
	failures   int
}

// Stream makes a stream. It connects when its events are ranged over.
func (c *Client) Stream(o StreamOptions) *Stream {
	if o.OnGap == nil {
		o.OnGap = func(g Gap) { slog.Warn("killmails are lost", "reason", g.Reason, "from", g.From, "to", g.To) }
	}
	if o.OnRetry == nil {
		o.OnRetry = func(err error, wait time.Duration) {
			slog.Warn("the stream of killmails is lost, and will be tried again", "err", err, "wait", wait)
		}
	}
	if o.Silence <= 0 {
		o.Silence = time.Minute
	}
	return &Stream{client: c, o: o}
}

// Cursor is the place behind the last event that the loop has come back from; empty before the first connection. An event that the
// loop is left with, by break or return, does not count, unless it is committed.
func (s *Stream) Cursor() string { return s.handled }

// Commit commits everything that the loop was given, the event that it is at included.
func (s *Stream) Commit(ctx context.Context) error {
	if s.o.ClientID == "" {
		return errors.New("without a ClientID there is nothing to commit: keep the cursor")
	}
	if s.given == "" {
		return nil
	}
	s.handled = s.given
	return s.commit(ctx)
}

// Events ranges over the events, for ever:
//
//	for event, err := range stream.Events(ctx) {
//		if err != nil {
//			return err
//		}
//		…
//	}
//
// It reconnects by itself: after losses, silence, and refusals that pass (429, 5xx), with growing pauses that are not the same
// for all. The error is the last thing that comes: the cause of ctx, when that ends; [ErrReplaced]; or a refusal that another
// attempt would meet too. Ranged over again, it goes on behind [Stream.Cursor].
func (s *Stream) Events(ctx context.Context) iter.Seq2[*Event, error] {
	return func(yield func(*Event, error) bool) {
		defer func() { s.commitAtEnd(ctx) }()
		for {
			err := s.connection(ctx, yield)
			switch {
			case errors.Is(err, errLeft):
				return
			case ctx.Err() != nil:
				yield(nil, context.Cause(ctx))
				return
			case errors.Is(err, errOtherLog):
				continue
			case errors.Is(err, ErrReplaced):
				s.dirtySince = time.Time{} // the name is another one's now
			}
			asked, again := mends(err)
			if !again {
				yield(nil, err)
				return
			}
			wait := s.pause(asked)
			s.o.OnRetry(err, wait)
			select {
			case <-time.After(wait):
			case <-ctx.Done():
			}
		}
	}
}

var (
	errLeft     = errors.New("the loop was left")
	errOtherLog = errors.New("the log is another one") // another connection is needed, at once
	errSilent   = &ConnectionError{errors.New("nothing came for too long")}
)

// mends tells whether another attempt may go better, and how long the server asked to be left alone before.
func mends(err error) (asked time.Duration, again bool) {
	var problem *ProblemError
	if errors.As(err, &problem) {
		return problem.RetryAfter, problem.Temporary()
	}
	var broken *ConnectionError
	return 0, errors.As(err, &broken)
}

// pause is how long to wait after a failure. All who lost a server at the same time do not come back at the same time.
func (s *Stream) pause(asked time.Duration) time.Duration {
	wait := leastWait
	if s.retry > 0 {
		wait = s.retry
	}
	wait = max(asked, min(wait<<min(s.failures, 10), mostWait))
	s.failures++
	return wait + rand.N(wait/5+1)
}

// connection follows one connection and returns what ended it.
func (s *Stream) connection(ctx context.Context, yield func(*Event, error) bool) error {
	query, err := s.resume(ctx)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	silence := time.AfterFunc(s.o.Silence, func() { cancel(errSilent) })
	defer silence.Stop()
	res, err := s.client.send(ctx, http.MethodGet, "/api/killfeed/stream?"+query.Encode(), nil, acceptStream)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	silence.Stop()
	if kind, _, _ := mime.ParseMediaType(res.Header.Get("Content-Type")); kind != acceptStream {
		return fmt.Errorf("%s answers with %q instead of a stream: is it a killfeed?", s.client.base, kind)
	}
	stream := newMessages(&listened{res.Body, silence, s.o.Silence})
	come := make(chan message)
	var (
		reading sync.WaitGroup
		readErr error // behind the closing of come
	)
	reading.Go(func() {
		defer close(come)
		for {
			m, err := stream.next()
			if err != nil {
				readErr = err
				return
			}
			select {
			case come <- m:
			case <-ctx.Done():
				readErr = context.Cause(ctx)
				return
			}
		}
	})
	defer func() {
		cancel(nil) // ends the reading
		reading.Wait()
	}()
	for {
		var due <-chan time.Time // nil while everything is committed
		if !s.dirtySince.IsZero() {
			due = time.After(time.Until(s.dirtySince.Add(commitEvery)))
		}
		select {
		case m, more := <-come:
			if !more {
				return broken(ctx, readErr)
			}
			if err := s.take(&m, query.Get("after"), yield); err != nil {
				return err
			}
		case <-due:
		}
		if ctx.Err() != nil { // while the loop was at an event, and more may have come
			return context.Cause(ctx)
		}
		if err := s.commitDue(ctx); err != nil {
			return err
		}
	}
}

// broken is why nothing more comes.
func broken(ctx context.Context, err error) error {
	switch {
	case ctx.Err() != nil:
		return context.Cause(ctx)
	case errors.Is(err, io.EOF):
		return &ConnectionError{errors.New("the server ended the stream")}
	}
	return &ConnectionError{fmt.Errorf("the stream broke off: %w", err)}
}

// listened has the silence measured while somebody reads, and not while the loop handles an event.
type listened struct {
	body    io.Reader
	silence *time.Timer
	most    time.Duration
}

func (l *listened) Read(p []byte) (int, error) {
	l.silence.Reset(l.most)
	defer l.silence.Stop()
	return l.body.Read(p)
}

// resume returns the parameters for the next connection.
func (s *Stream) resume(ctx context.Context) (url.Values, error) {
	query := s.o.query()
	durable := s.o.ClientID != ""
	if durable {
		query.Set("commit", "manual") // the server's automatic commit counts what is only on its way
	}
	if s.o.Backfill {
		query.Set("backfill", "1")
	}
	if s.epoch == "" {
		return query, nil
	}
	query.Del("after")
	// A cursor wins over the client's offsets on all topics: those on which it was ahead would go back. So the place is committed,
	// which never goes back. Only when the log is not the same any more, the server is asked what became of it.
	if durable && !s.byCursor {
		if s.dirtySince.IsZero() {
			return query, nil
		}
		err := s.commit(ctx)
		if !refused(err) {
			return query, err
		}
	}
	s.byCursor, s.dirtySince = false, time.Time{} // what was handled is told by the cursor
	query.Del("start")
	if s.o.Manual {
		query.Set("after", s.committed)
	} else {
		query.Set("after", s.handled)
	}
	return query, nil
}

// refused tells whether a commit was refused because there is no such place in the server's log.
func refused(err error) bool {
	var problem *ProblemError
	return errors.As(err, &problem) && problem.Status == http.StatusBadRequest
}

// take handles one message of a connection that began after a cursor, or with none.
func (s *Stream) take(m *message, after string, yield func(*Event, error) bool) error {
	s.retry = m.retry
	var told struct {
		Event
		Epoch string
		Gap   *Gap // of open
		lost
	}
	if m.data != nil {
		if err := json.Unmarshal(m.data, &told); err != nil {
			return fmt.Errorf("%s sends what is no stream of killmails: %w", s.client.base, err)
		}
	}
	switch m.kind {
	case "open":
		return s.open(told.Epoch, told.Cursor, told.Gap, after)
	case "replaced":
		return ErrReplaced
	}
	s.failures = 0 // and not by a stream that only begins and breaks
	switch {
	case m.kind == "new_killmail":
		s.given = told.Cursor
		if !yield(&told.Event, nil) {
			return errLeft
		}
		s.handle(told.Cursor)
	case m.kind == "gap":
		s.o.OnGap(Gap(told.lost))
		if m.told && told.Reason != "damaged" { // that may be told before events that precede it
			s.pass(m.id)
		}
	case m.data == nil && m.told:
		s.pass(m.id) // a heartbeat
	}
	return nil
}

// lost is a Gap that has no name of its own to be embedded under.
type lost Gap

func (s *Stream) open(epoch, cursor string, gap *Gap, after string) error {
	if epoch == "" || cursor == "" {
		return fmt.Errorf("the stream of %s does not say where it begins: is it a killfeed?", s.client.base)
	}
	if s.epoch != "" && s.epoch != epoch && after == "" {
		// The log was replaced, and the client is new in it. Begun at the old place, the server tells so and leaves nothing out.
		s.byCursor = true
		return errOtherLog
	}
	same := s.epoch == epoch
	s.epoch = epoch
	if gap != nil {
		s.o.OnGap(*gap)
	}
	if same && s.o.Manual {
		return nil // what is not committed comes again, and its commit is the caller's
	}
	s.given, s.handled, s.committed, s.dirtySince = cursor, cursor, cursor, time.Time{}
	return nil
}

// pass notes that everything up to a place needs no handling. The id of a durable stream's message has a third part.
func (s *Stream) pass(id string) {
	if parts := strings.SplitN(id, "-", 3); len(parts) == 3 {
		id = parts[0] + "-" + parts[1]
	}
	s.given = id
	s.handle(id)
}

func (s *Stream) handle(cursor string) {
	s.handled = cursor
	if s.o.ClientID != "" && !s.o.Manual && cursor != s.committed && s.dirtySince.IsZero() {
		s.dirtySince = time.Now()
	}
}

func (s *Stream) commitDue(ctx context.Context) error {
	if s.dirtySince.IsZero() || time.Since(s.dirtySince) < commitEvery {
		return nil
	}
	err := s.commit(ctx)
	var problem *ProblemError
	switch {
	case refused(err):
		s.byCursor = true
		return errOtherLog
	case errors.As(err, &problem) && problem.Temporary():
		s.dirtySince = time.Now() // the next one does it
		return nil
	}
	return err
}

// commit commits what was handled.
func (s *Stream) commit(ctx context.Context) error {
	_, err := s.client.Commit(ctx, s.o.ClientID, s.handled, s.o.Selection)
	if err == nil {
		s.committed, s.dirtySince = s.handled, time.Time{}
	}
	return err
}

// commitAtEnd commits what is not, although ctx may have ended. What fails comes again, as everything does that is not committed.
func (s *Stream) commitAtEnd(ctx context.Context) {
	if s.dirtySince.IsZero() {
		return
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), commitAtEnd)
	defer cancel()
	_ = s.commit(ctx)
}
