package storetest

import (
	"fmt"
	"testing"

	"killfeed"
)

// What was restored is the original but for its epoch. That one becomes a former one, up to the backup's head, and so on with each
// further backup.
func testRestored(t *testing.T, s *subject) {
	model := NewModel()
	maker := NewMaker(MakerOptions{Seed: 5, Systems: 10, Attackers: 2})
	more := func(n int) {
		t.Helper()
		b := s.offsets("client", system(1+uint32(n%5)), n, killfeed.All(), n)
		b.Seen = []killfeed.ClientSeen{{Client: "client", Created: base, At: base}}
		b.Checkpoints = []killfeed.Checkpoint{{Source: "r2z2", Place: fmt.Sprint(n)}}
		for i := range 3 {
			b.Events = append(b.Events, s.eventOf(i+1, maker.NextMail()))
		}
		s.apply(b)
		if err := model.Commit(b); err != nil {
			t.Fatal(err)
		}
	}
	for n := range 30 {
		more(n)
	}
	s.remove(17)
	if err := model.Remove(17); err != nil {
		t.Fatal(err)
	}
	var former []killfeed.FormerEpoch
	for n := range 3 {
		before := s.State()
		former = append(former, killfeed.FormerEpoch{Epoch: before.Epoch, Through: before.Head})
		s.Store = s.h.Restore(t, s.Store)
		model = model.Restored()
		s.reopened(func(when string) {
			st := s.State()
			if !st.Epoch.Valid() || st.Epoch == before.Epoch {
				t.Errorf("%s: the epoch is %q, before it was %q", when, st.Epoch, before.Epoch)
			}
			s.same(when+": former epochs", st.Former, former)
			for _, d := range compare(s.Store, model, true) {
				t.Errorf("%s: %s", when, d)
			}
			if place, err := s.Checkpoint("r2z2"); place != fmt.Sprint(29+n) || err != nil {
				t.Errorf("%s: the place of the source is %q, %v", when, place, err)
			}
		})
		more(30 + n)
		for _, d := range compare(s.Store, model, false) {
			t.Errorf("one more: %s", d)
		}
	}
	for _, test := range []struct {
		c     killfeed.Cursor
		holds bool
	}{
		{killfeed.Cursor{After: 1 << 40}, true},
		{killfeed.Cursor{After: 1 << 40, Epoch: s.State().Epoch}, true},
		{killfeed.Cursor{After: 90, Epoch: former[0].Epoch}, true},
		{killfeed.Cursor{After: 91, Epoch: former[0].Epoch}, false},
		{killfeed.Cursor{After: 93, Epoch: former[1].Epoch}, true},
		{killfeed.Cursor{After: 94, Epoch: former[1].Epoch}, false},
		{killfeed.Cursor{After: 0, Epoch: "00000000"}, false},
	} {
		if got := s.State().Holds(test.c); got != test.holds {
			t.Errorf("the cursor %s holds: %v, want %v", test.c, got, test.holds)
		}
	}
}
