package main

import (
	"fmt"
	"testing"
	"testing/synctest"

	"killfeed"
	"killfeed/storetest"
)

// away is a ledger whose servers are away for a while.
type away struct {
	killfeed.Ledger
	tries int
}

func (a *away) Load(func(killfeed.SharedClient) bool) error { return nil }
func (a *away) News() <-chan struct{}                       { return nil }
func (a *away) Health() error                               { return nil }
func (a *away) Close() error                                { return nil }

func (a *away) Checkpoint(string) (string, error) {
	if a.tries--; a.tries >= 0 {
		return "", fmt.Errorf("the servers are away: %w", killfeed.ErrUnavailable)
	}
	return demoMark, nil
}

// A node that starts while the servers are away for a moment waits for them: it must not end for that, nor take the log for another one's.
func TestDemoMarkWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ledger := &away{tries: 3}
		feed, err := killfeed.Open(storetest.NewModel(), killfeed.Options{Ledger: ledger})
		if err != nil {
			t.Fatal(err)
		}
		defer feed.Close()
		a := &app{}
		a.settings.demo = true
		if err := a.checkDemo(t.Context(), feed); err != nil {
			t.Error(err)
		}
		if ledger.tries != -1 {
			t.Errorf("%d tries are left", ledger.tries+1)
		}
	})
}
