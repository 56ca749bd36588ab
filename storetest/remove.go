package storetest

import (
	"fmt"
	"math"
	"testing"
	"time"

	"killfeed"
)

func testRemoved(t *testing.T, s *subject) {
	seven, nine := kill(killfeed.KindCharacter, 7), kill(killfeed.KindCharacter, 9)
	s.apply(&killfeed.Batch{Events: []killfeed.NewEvent{
		s.event(1, 1, seven), s.event(2, 2), s.event(3, 1), s.event(4, 3, nine), s.event(5, 1), s.event(6, 2),
	}})
	type removed struct{ all, one, two, three, seven, nine, other killfeed.EventID }
	check := func(want removed) {
		t.Helper()
		s.reopened(func(when string) {
			s.same(when, fmt.Sprint(removed{
				s.Removed(killfeed.All()), s.Removed(system(1)), s.Removed(system(2)), s.Removed(system(3)),
				s.Removed(seven), s.Removed(nine), s.Removed(system(99)),
			}), fmt.Sprint(want))
		})
	}
	check(removed{})
	s.remove(1)
	check(removed{all: 1, one: 1, seven: 1, nine: 1})
	s.remove(2)
	check(removed{all: 2, one: 1, two: 2, seven: 2, nine: 2})
	s.remove(4)
	check(removed{all: 4, one: 3, two: 2, three: 4, seven: 4, nine: 4})
	s.commit(3, 3)
	s.remove(6)
	check(removed{all: 6, one: 5, two: 6, three: 4, seven: 6, nine: 6})
	s.remove(8)
	check(removed{all: 8, one: 5, two: 6, three: 8, seven: 8, nine: 8})
	s.same("events left", s.ids(system(1), system(2), system(3), seven, nine, killfeed.All()), []killfeed.EventID(nil))
}

// Systems are those that have kept events, whatever comes and goes.
func testSystems(t *testing.T, s *subject) {
	check := func(what string, want ...uint32) {
		t.Helper()
		s.reopened(func(when string) {
			got := s.Systems([]uint32{9, 5})
			s.same(what+", "+when, got, append([]uint32{9, 5}, want...)) // it appends, and leaves what was there
		})
	}
	check("empty")
	s.commit(30, 10, killfeed.MaxID, 30, 20)
	check("events", 10, 20, 30, killfeed.MaxID)
	s.remove(2)
	check("10 has lost its only event, 30 one of two", 20, 30, killfeed.MaxID)
	s.commit(10, 1)
	check("10 has one again", 1, 10, 20, 30, killfeed.MaxID)
	s.remove(6)
	check("only one is left", 1)
	s.remove(7)
	check("nothing is left")

	closed := &subject{TB: t, h: s.h, Store: s.h.Open(t), from: base}
	closed.commit(20)
	if err := closed.Close(); err != nil {
		t.Fatal(err)
	}
	s.same("closed", closed.Systems(nil), []uint32{20})
}

func testRemoveAll(t *testing.T, s *subject) {
	last := s.commit(1, 2, 3)[2]
	s.remove(3)
	s.reopened(func(when string) {
		st := s.State()
		s.same(when+": State", st, killfeed.State{
			Epoch: st.Epoch, First: 4, Head: 3, MirrorSeq: 3, LastReceived: last.ReceivedAt,
		})
		s.same(when+": ReceivedFrom", s.received(time.Time{}), killfeed.EventID(4))
		s.same(when+": Excess", s.Excess(0), killfeed.EventID(0))
	})
	s.same("the next id", s.commit(1)[0].ID, killfeed.EventID(4))
	s.same("events", s.ids(system(1), killfeed.All()), []killfeed.EventID{4})
	if st := s.State(); st.First != 4 || st.Head != 4 {
		t.Errorf("kept are %d to %d, want 4 to 4", st.First, st.Head)
	}
}

func testReceivedFrom(t *testing.T, s *subject) {
	ms := func(n int) time.Time { return base.Add(time.Duration(n) * time.Millisecond) }
	var b killfeed.Batch
	for i, n := range []int{10, 10, 11, 20, 20, 20, 86_400_000} {
		e := s.event(i+1, 1)
		e.ReceivedAt = ms(n)
		b.Events = append(b.Events, e)
	}
	s.apply(&b)
	tests := []struct {
		t    time.Time
		want killfeed.EventID
	}{
		{time.Time{}, 1}, {ms(9), 1}, {ms(10), 1}, {ms(11), 3}, {ms(12), 4}, {ms(20), 4}, {ms(21), 7}, {ms(86_400_000), 7},
		{ms(86_400_001), 8}, {ms(10).Add(time.Nanosecond), 3}, {ms(20).Add(-time.Nanosecond), 4}, {ms(20).Add(999), 7},
		{ms(20).In(time.FixedZone("", 3600)), 4},
		{time.Date(9999, 12, 31, 23, 59, 59, 0, time.UTC), 8},
		{time.Date(0, 1, 1, 0, 0, 0, 0, time.UTC), 1},
	}
	check := func(first killfeed.EventID) {
		t.Helper()
		s.reopened(func(when string) {
			for _, tt := range tests {
				if got := s.received(tt.t); got != max(tt.want, first) {
					t.Errorf("%s, first %d: ReceivedFrom(%v) is %d, want %d", when, first, tt.t, got, max(tt.want, first))
				}
			}
		})
	}
	check(1)
	s.remove(4)
	check(5)
	s.remove(7)
	check(8)
}

func testExcess(t *testing.T, s *subject) {
	var sizes []int64 // by event id - 1
	for i := range 12 {
		before := s.State().Bytes
		e := s.eventOf(1, Mail{ID: int64(i + 1), System: 1, Items: i * 37 % 11})
		s.apply(&killfeed.Batch{Events: []killfeed.NewEvent{e}})
		sizes = append(sizes, s.State().Bytes-before)
		if sizes[i] < int64(len(e.Killmail)) {
			t.Errorf("a killmail of %d bytes counts for %d", len(e.Killmail), sizes[i])
		}
	}
	check := func() {
		t.Helper()
		s.reopened(func(when string) {
			st := s.State()
			limits := []int64{0, 1, math.MaxInt64}
			for sum, id := int64(0), st.Head; id >= st.First; id-- {
				sum += sizes[id-1]
				limits = append(limits, sum-1, sum, sum+1)
			}
			for _, limit := range limits {
				want, sum := killfeed.EventID(0), int64(0)
				for id := st.Head; id >= st.First; id-- {
					if sum += sizes[id-1]; sum > limit {
						want = id
						break
					}
				}
				if got := s.Excess(limit); got != want {
					t.Errorf("%s, kept are %d to %d: Excess(%d) is %d, want %d", when, st.First, st.Head, limit, got, want)
				}
			}
		})
	}
	check()
	s.remove(s.Excess(s.State().Bytes / 2))
	check()
	s.remove(12)
	check()
}
