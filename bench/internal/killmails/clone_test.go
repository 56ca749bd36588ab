package killmails

import (
	"bytes"
	"testing"

	"killfeed"
	"killfeed/pebblestore"
)

// A copy of a log has its events, and what is written to the copy is not in the log.
func TestClone(t *testing.T) {
	const n = 200
	work := t.TempDir()
	head := func(dir string, insert bool) killfeed.EventID {
		t.Helper()
		store, err := pebblestore.Open(dir, pebblestore.Options{})
		if err != nil {
			t.Fatal(err)
		}
		feed, err := killfeed.Open(store, killfeed.Options{})
		if err != nil {
			t.Fatal(err)
		}
		defer feed.Close()
		if insert {
			if _, err := feed.InsertAll(t.Context(), []*killfeed.Killmail{Fresh().Next()}, 0); err != nil {
				t.Fatal(err)
			}
		}
		first := New().Next()
		if e, err := feed.Event(1); err != nil || !bytes.Equal(e.Killmail, first.JSON) {
			t.Fatalf("the first event is %.100s, %v", e.Killmail, err)
		}
		return store.State().Head
	}
	for range 2 { // the second finds the same
		dir, remove, err := Clone(t.Context(), work, n)
		if err != nil {
			t.Fatal(err)
		}
		if got := head(dir, false); got != n {
			t.Errorf("the copy has %d events, want %d", got, n)
		}
		if got := head(dir, true); got != n+1 {
			t.Errorf("the copy has %d events after one more, want %d", got, n+1)
		}
		remove()
	}
	if got := head(Dir(work, n), false); got != n {
		t.Errorf("the log has %d events, want %d", got, n)
	}
}
