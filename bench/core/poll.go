package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"time"

	"killfeed"
	"killfeed/bench/internal/killmails"
	"killfeed/bench/internal/suite"
	"killfeed/pebblestore"
)

// poll measures polls of 100 events over ten systems, the newest of a large log and the oldest, against a handler that writes the
// same bytes and does nothing else.
func poll(ctx context.Context, b *bench) ([]suite.Result, error) {
	s, err := b.serve(ctx, b.Events)
	if err != nil {
		return nil, err
	}
	defer s.close()
	last, err := b.newest(ctx, 100)
	if err != nil {
		return nil, err
	}
	head, err := s.head()
	if err != nil {
		return nil, err
	}
	var rs []suite.Result
	for _, end := range []struct {
		name  string
		start string
		least float64
		fresh int // killmails that come in before
	}{
		{"oldest", "earliest", 0.15, 0},
		{"newest, after a restart,", fmt.Sprint(last), 0, 0},
		{"newest", "", 0.70, 2000}, // they came while the server ran, as those that are polled for do
	} {
		if end.fresh > 0 {
			if end.start, err = s.fresh(head, end.fresh, 100); err != nil {
				return nil, err
			}
		}
		// Nothing is committed, so that every poll reads the same.
		if err := b.seek(s.Server, end.start); err != nil {
			return nil, err
		}
		path := func(i int) string { return "/api/killfeed?limit=100&commit=manual&" + query(i) }
		status, body, err := s.Get(path(0))
		if err != nil || status != 200 {
			return nil, fmt.Errorf("a poll was answered %d %.200s: %w", status, body, err)
		}
		if n := events(body); n != 100 {
			return nil, fmt.Errorf("a poll brought %d events, want 100", n)
		}
		file := filepath.Join(b.Work, "body.json")
		if err := os.WriteFile(file, body, 0o600); err != nil {
			return nil, err
		}
		yard, err := b.yardstick(ctx, "body", "YARDSTICK_BODY="+file)
		if err != nil {
			return nil, err
		}
		y := &side{name: "body", server: yard, status: 200, path: path}
		o := &side{name: "poll", server: s.Server, status: 200, path: path}
		err = b.compare(ctx, y, o)
		yard.Stop()
		if err != nil {
			return nil, err
		}
		line := o.against(y, fmt.Sprintf("poll of the %s 100 events over 10 systems, %d stored, %d bytes, against a handler that writes the same",
			end.name, b.Events, len(body)), end.least)
		if line.Promise = end.least > 0; !line.Promise {
			line.Want = ""
		}
		rs = append(rs, line)
	}
	return rs, nil
}

// fresh posts so many killmails to a server whose head is known, and tells from which id on there are n events of them on the ten
// busiest systems.
func (s *served) fresh(head, count, n int) (string, error) {
	begin := time.Now()
	if err := s.feed(killmails.FreshOf(begin), count); err != nil {
		return "", err
	}
	ids, _ := hotSystems()
	var at []int
	for m, i := killmails.FreshOf(begin), 1; i <= count; i++ {
		if k := m.NextMail(); slices.Contains(ids, k.System) {
			at = append(at, head+i)
		}
	}
	if len(at) < n {
		return "", fmt.Errorf("%d of %d killmails are of the busiest systems, want %d", len(at), count, n)
	}
	return fmt.Sprint(at[len(at)-n]), nil
}

// newest is the id from which on the large log has n events on the ten busiest systems.
func (b *bench) newest(ctx context.Context, n int) (killfeed.EventID, error) {
	dir, remove, err := killmails.Clone(ctx, b.Work, b.Events)
	if err != nil {
		return 0, err
	}
	defer remove()
	store, err := pebblestore.Open(dir, pebblestore.Options{})
	if err != nil {
		return 0, err
	}
	defer store.Close()
	_, topics := hotSystems()
	entries, err := store.Find(nil, killfeed.Query{Positions: positions(topics), Through: store.State().Head, Max: b.Events})
	if err != nil {
		return 0, err
	}
	if len(entries) < n {
		return 0, fmt.Errorf("the log has %d events only: -events must be more", len(entries))
	}
	return entries[len(entries)-n].ID, nil
}
