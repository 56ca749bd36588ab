package pebblestore

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"killfeed"
)

func TestCheckpoints(t *testing.T) {
	s, err := Open("", Options{Memory: true})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	want := []killfeed.Checkpoint{{Source: "a", Place: "1"}, {Source: "r2z2", Place: "17"}, {Source: "z", Place: ""}}
	if err := s.Commit(&killfeed.Batch{Checkpoints: []killfeed.Checkpoint{want[2], want[0], want[1]}}); err != nil {
		t.Fatal(err)
	}
	var got []killfeed.Checkpoint
	if err := s.Checkpoints(func(c killfeed.Checkpoint) bool { got = append(got, c); return true }); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("checkpoints (-want +got):\n%s", diff)
	}
	n := 0
	if err := s.Checkpoints(func(killfeed.Checkpoint) bool { n++; return false }); err != nil || n != 1 {
		t.Errorf("stopped after %d: %v", n, err)
	}
}
