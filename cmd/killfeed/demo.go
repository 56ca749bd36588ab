package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"killfeed"
	"killfeed/ingest/demo"
)

// demoMark is the checkpoint that a demo's log has and no other.
const demoMark = "demo"

// demoHistory is how much of the story a new demo begins with.
const demoHistory = time.Hour

// checkDemo refuses to mix a demo's killmails with real ones.
func (a *app) checkDemo(ctx context.Context, feed *killfeed.Feed) error {
	mark, err := feed.Checkpoint(demoMark)
	for errors.Is(err, killfeed.ErrUnavailable) { // the servers of a cluster may be away for a moment, also while a node starts
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(time.Second):
		}
		mark, err = feed.Checkpoint(demoMark)
	}
	if err != nil {
		return err
	}
	switch {
	case mark != "" && !a.settings.demo:
		return hint(fmt.Errorf("%s holds a demo: %w", a.settings.data, errMixed),
			"run it with --demo, or choose another directory with --data")
	case mark == "" && a.settings.demo && feed.State().Head > 0:
		return hint(fmt.Errorf("%s holds real killmails: %w", a.settings.data, errMixed),
			"choose another directory for the demo with --data; by default it has one of its own")
	}
	return nil
}

// runDemo inserts killmails of invented pilots until ctx ends. A new log begins with the last hour.
func (a *app) runDemo(ctx context.Context, feed *killfeed.Feed) error {
	mark := killfeed.Checkpoint{Source: demoMark, Place: "demo"}
	last, err := lastKillmail(feed)
	if err != nil {
		return err
	}
	g := demo.New(demo.Options{Seed: uint64(time.Now().UnixNano()), Rate: a.settings.demoRate, After: last})
	if feed.State().Head == 0 {
		if _, err := feed.InsertFrom(ctx, g.Back(demoHistory), 0, mark); err != nil {
			return err
		}
	}
	for {
		k, at := g.Next()
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(time.Until(at)):
		}
		if _, err := feed.InsertFrom(ctx, []*killfeed.Killmail{k}, 0, mark); err != nil {
			if ctx.Err() != nil {
				return nil
			}
			return fmt.Errorf("inserting a killmail of the demo: %w", err)
		}
	}
}

// lastKillmail is the killmail id of the last event, 0 when none is kept.
func lastKillmail(feed *killfeed.Feed) (int64, error) {
	st := feed.State()
	if st.Head < st.First {
		return 0, nil
	}
	e, err := feed.Event(st.Head)
	return e.KillmailID, err
}
