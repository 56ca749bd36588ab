package supervise_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"killfeed/supervise"
)

// A service that panics 20 times is started again each time, later and later; another one runs on; the first recovers.
func TestPanics(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tree := supervise.New(slog.New(slog.DiscardHandler))
		var starts []time.Time
		tree.Add("shaky", func(ctx context.Context) error {
			starts = append(starts, time.Now())
			if len(starts) <= 20 {
				panic("shaken")
			}
			<-ctx.Done()
			return nil
		})
		ticks := 0
		tree.Add("steady", func(ctx context.Context) error {
			for {
				select {
				case <-ctx.Done():
					return nil
				case <-time.After(time.Second):
					ticks++
				}
			}
		})
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error)
		go func() { done <- tree.Run(ctx) }()
		began := time.Now()
		time.Sleep(500 * time.Millisecond)
		synctest.Wait()
		st := tree.Status()[0]
		if st.Name != "shaky" || st.State != supervise.Pausing || st.NextStart == nil || st.LastError != "panic: shaken" {
			t.Errorf("after the first panic: %+v", st)
		}
		time.Sleep(2 * time.Hour)
		synctest.Wait()
		if len(starts) != 21 {
			t.Fatalf("started %d times, want 21", len(starts))
		}
		for i := 1; i < len(starts); i++ {
			pause := starts[i].Sub(starts[i-1])
			least := min(time.Second<<(i-1), 5*time.Minute)
			if pause < least || pause > least*5/4 {
				t.Errorf("pause %d was %v, want %v to %v", i, pause, least, least*5/4)
			}
		}
		if st := tree.Status()[0]; st.State != supervise.Running || st.Restarts != 20 {
			t.Errorf("after recovery: %+v", st)
		}
		if want := int(time.Since(began) / time.Second); ticks < want-1 {
			t.Errorf("the other service ticked %d times in %d seconds", ticks, want)
		}
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
		for _, st := range tree.Status() {
			if st.State != supervise.Done {
				t.Errorf("after the end: %+v", st)
			}
		}
	})
}

// The pause is short again after a long time without a failure, and a service that returns nil stays ended.
func TestPauseBeginsAnew(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tree := supervise.New(slog.New(slog.DiscardHandler))
		var starts []time.Time
		tree.Add("hourly", func(ctx context.Context) error {
			starts = append(starts, time.Now())
			if len(starts) == 4 {
				return nil
			}
			select {
			case <-time.After(time.Hour):
			case <-ctx.Done():
			}
			return errors.New("an hour is over")
		})
		ctx, cancel := context.WithTimeout(t.Context(), 24*time.Hour)
		defer cancel()
		if err := tree.Run(ctx); err != nil {
			t.Error(err)
		}
		if len(starts) != 4 {
			t.Fatalf("started %d times, want 4: once it is done it stays ended", len(starts))
		}
		for i := 1; i < len(starts); i++ {
			if pause := starts[i].Sub(starts[i-1]) - time.Hour; pause > 2*time.Second {
				t.Errorf("pause %d was %v, want about a second", i, pause)
			}
		}
	})
}

// Services are added while others ask how all of them are doing.
func TestAddWhileAsked(t *testing.T) {
	ctx, stop := context.WithCancel(t.Context())
	tree := supervise.New(slog.New(slog.DiscardHandler))
	var asking sync.WaitGroup
	asking.Go(func() {
		for ctx.Err() == nil {
			tree.Status()
		}
	})
	asking.Go(func() { tree.Run(ctx) })
	for i := range 50 {
		tree.Add(fmt.Sprint(i), func(ctx context.Context) error { <-ctx.Done(); return nil })
	}
	stop()
	asking.Wait()
	if n := len(tree.Status()); n != 50 {
		t.Errorf("%d services, want 50", n)
	}
}
