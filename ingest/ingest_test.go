package ingest_test

import (
	"context"
	"errors"
	"log/slog"
	"testing"
	"testing/synctest"
	"time"

	"killfeed"
	"killfeed/ingest"
	"killfeed/storetest"
)

func newFeed(t *testing.T) (*killfeed.Feed, *ingest.Intake) {
	t.Helper()
	feed, err := killfeed.Open(storetest.NewModel(), killfeed.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := feed.Close(); err != nil {
			t.Error(err)
		}
	})
	return feed, ingest.NewIntake(feed, "test", false, slog.New(slog.DiscardHandler))
}

// What is taken is in the log together with its place; the counts tell who was first.
func TestTake(t *testing.T) {
	feed, in := newFeed(t)
	m := storetest.NewMaker(storetest.MakerOptions{})
	a, b := m.Next(), m.Next()
	if _, err := feed.InsertAll(t.Context(), []*killfeed.Killmail{a}, 0); err != nil {
		t.Fatal(err)
	}
	if err := in.Take(t.Context(), "2", a, b); err != nil {
		t.Fatal(err)
	}
	if place, err := in.Place(); place != "2" || err != nil {
		t.Errorf("the place is %q, %v", place, err)
	}
	if st := in.Status(); st.Inserted != 1 || st.Duplicates != 1 || st.LastKillmail == nil {
		t.Errorf("status %+v", st)
	}
	if err := in.Take(t.Context(), "3"); err != nil { // a place alone
		t.Fatal(err)
	}
	if place, _ := in.Place(); place != "3" || feed.State().Head != 2 {
		t.Errorf("the place is %q, the head %d", place, feed.State().Head)
	}
}

// Only old kills that are repaired from history have the backfill mark.
func TestRepairMarks(t *testing.T) {
	feed, in := newFeed(t)
	now := time.Now()
	kills := storetest.NewMaker(storetest.MakerOptions{Start: now.Add(-72 * time.Hour), Every: 36 * time.Hour})
	old, older, late := kills.Next(), kills.Next(), kills.Next()
	if err := in.Repair(t.Context(), "x", late, old, older); err != nil {
		t.Fatal(err)
	}
	backfill := map[int64]bool{}
	for id := killfeed.EventID(1); id <= feed.State().Head; id++ {
		e, err := feed.Event(id)
		if err != nil {
			t.Fatal(err)
		}
		backfill[e.KillmailID] = e.Marks.Has(killfeed.MarkBackfill)
	}
	if len(backfill) != 3 || !backfill[old.ID] || !backfill[older.ID] || backfill[late.ID] {
		t.Errorf("marks %v; old %d and %d, late %d", backfill, old.ID, older.ID, late.ID)
	}
	if st := in.Status(); st.Repaired != 3 {
		t.Errorf("status %+v", st)
	}
}

// A source that should yield and does not is degraded; the daily downtime is no reason.
func TestDegraded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) { // begins at midnight UTC
		_, in := newFeed(t)
		in.Is(ingest.Following, "")
		time.Sleep(14 * time.Minute)
		if st := in.Status(); st.Degraded != nil {
			t.Errorf("after 14 quiet minutes: %+v", st.Degraded)
		}
		time.Sleep(2 * time.Minute)
		if st := in.Status(); st.Degraded == nil || !st.Degraded.Since.Equal(time.Now().Add(-16*time.Minute)) {
			t.Errorf("after 16 quiet minutes: %+v", st.Degraded)
		}
		if err := in.Take(t.Context(), "", storetest.NewMaker(storetest.MakerOptions{}).Next()); err != nil {
			t.Fatal(err)
		}
		if st := in.Status(); st.Degraded != nil {
			t.Errorf("after a killmail: %+v", st.Degraded)
		}

		in.Troubled(errors.New("no answer"), "it is asked again")
		time.Sleep(3 * time.Minute)
		if st := in.Status(); st.State != ingest.Waiting || st.Degraded == nil || st.LastError != "no answer" {
			t.Errorf("after 3 minutes of trouble: %+v", st)
		}
		in.Is(ingest.Following, "")
		if st := in.Status(); st.Degraded != nil {
			t.Errorf("after the trouble: %+v", st.Degraded)
		}

		time.Sleep(time.Until(time.Date(2000, 1, 1, 11, 0, 0, 0, time.UTC)))
		if err := in.Take(t.Context(), "", storetest.NewMaker(storetest.MakerOptions{FirstID: 7}).Next()); err != nil {
			t.Fatal(err)
		}
		time.Sleep(30 * time.Minute)
		if st := in.Status(); st.Degraded != nil {
			t.Errorf("in downtime: %+v", st.Degraded)
		}
		time.Sleep(time.Hour)
		if st := in.Status(); st.Degraded == nil {
			t.Error("long after downtime nothing has come, and all is said to be well")
		}
	})
}

// endless follows nothing.
type endless struct{ err error }

func (e endless) Follow(ctx context.Context, _ *ingest.Intake) error {
	if e.err != nil {
		return e.err
	}
	<-ctx.Done()
	return nil
}

// A source that ends by itself has failed; one that ends with the program has not.
func TestRun(t *testing.T) {
	_, in := newFeed(t)
	broken := errors.New("broken")
	if err := in.Run(t.Context(), endless{broken}); !errors.Is(err, broken) {
		t.Errorf("error %v", err)
	}
	if st := in.Status(); st.State != ingest.Waiting || st.LastError != "broken" {
		t.Errorf("status %+v", st)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := in.Run(ctx, endless{}); err != nil {
		t.Errorf("error %v", err)
	}
	if st := in.Status(); st.State != ingest.Stopped {
		t.Errorf("status %+v", st)
	}
}

// counted counts how often it is followed, and takes a killmail each time.
type counted struct {
	mails *storetest.Maker
	runs  int
}

func (c *counted) Follow(ctx context.Context, in *ingest.Intake) error {
	c.runs++
	place, err := in.Place()
	if err != nil {
		return err
	}
	if err := in.Take(ctx, place+"x", c.mails.Next()); err != nil {
		return err
	}
	in.Is(ingest.Following, "")
	<-ctx.Done()
	return context.Cause(ctx)
}

// A paused source does nothing, is not called degraded, and goes on where it was.
func TestPause(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, in := newFeed(t)
		source := &counted{mails: storetest.NewMaker(storetest.MakerOptions{})}
		ctx, stop := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		in.Pause()
		go func() { ended <- in.Run(ctx, source) }()
		is := func(state ingest.State, runs int, place string) {
			t.Helper()
			time.Sleep(20 * time.Minute) // which would degrade a source that is to yield
			synctest.Wait()
			st := in.Status()
			got, err := in.Place()
			if st.State != state || source.runs != runs || got != place || err != nil || state == ingest.Paused && st.Degraded != nil {
				t.Errorf("%+v after %d runs, at %q, %v; want %s, %d, %q", st, source.runs, got, err, state, runs, place)
			}
		}
		is(ingest.Paused, 0, "")
		in.Resume()
		is(ingest.Following, 1, "x")
		in.Resume()
		is(ingest.Following, 1, "x")
		in.Pause()
		in.Pause()
		is(ingest.Paused, 1, "x")
		in.Resume()
		in.Pause()
		in.Resume()
		is(ingest.Following, 2, "xx")
		in.Pause()
		is(ingest.Paused, 2, "xx")
		stop()
		if err := <-ended; err != nil {
			t.Error(err)
		}
		if st := in.Status(); st.State != ingest.Stopped {
			t.Errorf("%+v after the end", st)
		}
	})
}
