package jetstream

import (
	"errors"
	"fmt"
	"testing"

	"golang.org/x/sync/errgroup"

	"killfeed"
)

func TestSources(t *testing.T) {
	f := newFeed(t, 1)
	a, b := newSources(f.newTestBucket(f.Conn(t)), Options{}), newSources(f.newTestBucket(f.Conn(t)), Options{})
	put := func(s *sources, place string, term uint64) error {
		return s.put(t.Context(), []killfeed.Checkpoint{{Source: "r2z2 über", Place: place}}, term)
	}
	get := func(s *sources) string { return sure(s.get(t.Context(), "r2z2 über")) }
	if is := get(a); is != "" {
		t.Fatalf("a source that nobody followed is at %q", is)
	}
	for i, step := range []struct {
		who     *sources
		place   string
		term    uint64
		refused bool
	}{
		{a, "one", 1, false},
		{a, "one", 1, false}, // changes nothing
		{b, "two", 2, false}, // a later leader, which knows nothing of the first one's last write
		{a, "three", 1, true},
		{a, "two", 1, true},
		{b, "four", 2, false},
		{a, "five", 0, true}, // no leader at all
		{a, "six", 3, false},
		{b, "seven", 2, true},
		{b, "eight", 4, false},
	} {
		before := get(a)
		err := put(step.who, step.place, step.term)
		if errors.Is(err, killfeed.ErrNotLeader) != step.refused || !step.refused && err != nil {
			t.Fatalf("step %d: %v, refused is to be %v", i, err, step.refused)
		}
		want := step.place
		if step.refused {
			want = before
		}
		if is := get(b); is != want {
			t.Fatalf("step %d: the place is %q, want %q", i, is, want)
		}
	}
}

// TestSourcesFence: leaders of old and of now write at once. What is there never is of a lower term than what was.
func TestSourcesFence(t *testing.T) {
	f := newFeed(t, 1)
	var g errgroup.Group
	for term := range uint64(4) {
		s := newSources(f.newTestBucket(f.Conn(t)), Options{})
		g.Go(func() error {
			high := uint64(0)
			for i := range 30 {
				err := s.put(t.Context(), []killfeed.Checkpoint{{Source: "s", Place: fmt.Sprintf("%d of %d", i, term+1)}}, term+1)
				if err != nil && !errors.Is(err, killfeed.ErrNotLeader) {
					return err
				}
				c, err := s.read(t.Context(), "s")
				if err != nil {
					return err
				}
				if c.Term < high || c.Term < term+1 {
					return fmt.Errorf("term %d follows term %d, after a write of term %d", c.Term, high, term+1)
				}
				high = c.Term
			}
			return nil
		})
	}
	if err := g.Wait(); err != nil {
		t.Fatal(err)
	}
}
