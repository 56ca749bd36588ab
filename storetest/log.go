package storetest

import (
	"bytes"
	"errors"
	"fmt"
	"testing"
	"time"

	"killfeed"
)

func testEmpty(t *testing.T, s *subject) {
	s.reopened(func(when string) {
		st := s.State()
		if !st.Epoch.Valid() {
			t.Errorf("%s: epoch %q is none", when, st.Epoch)
		}
		s.same(when+": State", st, killfeed.State{Epoch: st.Epoch, First: 1})
		s.same(when+": events", s.ids(killfeed.All(), system(1), killfeed.Label("x")), []killfeed.EventID(nil))
		s.same(when+": ReceivedFrom", s.received(base), killfeed.EventID(1))
		s.same(when+": Excess", s.Excess(0), killfeed.EventID(0))
		s.same(when+": Removed", s.Removed(killfeed.All())+s.Removed(system(1))+s.Removed(killfeed.Label("x")), killfeed.EventID(0))
		s.same(when+": clients", len(s.clients()), 0)
		if _, known, err := s.Known(1); known || err != nil {
			t.Errorf("%s: killmail 1 is known: %v, %v", when, known, err)
		}
		if err := s.Health(); err != nil {
			t.Errorf("%s: Health: %v", when, err)
		}
		if _, err := s.read(1); err == nil {
			t.Errorf("%s: event 1 is there", when)
		}
	})
	epoch := s.State().Epoch
	other := s.h.Open(t)
	defer other.Close()
	if other.State().Epoch == epoch {
		t.Errorf("two stores have the epoch %s", epoch)
	}
}

func testCommit(t *testing.T, s *subject) {
	odd := s.eventOf(3, Mail{System: killfeed.MaxID, NoHash: true}) // no killmail id, no time
	odd.Marks, odd.MirrorSeq, odd.ReceivedAt = killfeed.MarkUpdate|killfeed.MarkBackfill, 2, s.from.Add(7*time.Millisecond)
	old := s.eventOf(4, Mail{ID: 1 << 62, System: 1, Time: time.Date(1951, 2, 3, 4, 5, 6, 0, time.UTC)})
	old.ReceivedAt, old.MirrorSeq = odd.ReceivedAt, 3
	far := s.eventOf(5, Mail{ID: 1, System: 1, Time: time.Date(9999, 12, 31, 0, 0, 0, 0, time.UTC)})
	far.ReceivedAt, far.MirrorSeq = odd.ReceivedAt, 4
	b := killfeed.Batch{Events: []killfeed.NewEvent{
		s.event(1, 30_000_142, kill(killfeed.KindCharacter, 7)), s.event(2, 30_000_142), odd, old, far,
	}}
	b.Events[0].ReceivedAt, b.Events[1].ReceivedAt = base, base
	s.apply(&b)
	s.reopened(func(when string) {
		for _, want := range b.Events {
			got, err := s.read(want.ID)
			if err != nil {
				t.Fatalf("%s: event %d: %v", when, want.ID, err)
			}
			s.same(fmt.Sprintf("%s: event %d", when, want.ID), got, want.Event)
		}
		st := s.State()
		s.same(when+": State", st, killfeed.State{
			Epoch: st.Epoch, First: 1, Head: 5, MirrorSeq: 4, LastReceived: far.ReceivedAt, Bytes: st.Bytes,
		})
		entries := s.find(killfeed.Query{Positions: []killfeed.Position{{Topic: killfeed.All()}}, Through: 9, Max: 9})
		if len(entries) != 5 {
			t.Fatalf("%s: entries are %v, want 5", when, entries)
		}
		s.same(when+": entries", entries[:3], []killfeed.Entry{
			{ID: 1, KilledAt: b.Events[0].KilledAt.Unix()}, {ID: 2, KilledAt: b.Events[1].KilledAt.Unix()},
			{ID: 3, Marks: odd.Marks},
		})
		// Times that no killmail has may be cut down to what an index has room for, but must stay old and young.
		if e := entries[3].KilledAt; e == 0 || e > time.Date(2003, 1, 1, 0, 0, 0, 0, time.UTC).Unix() {
			t.Errorf("%s: the killmail of 1951 has %d in the index", when, e)
		}
		if e := entries[4].KilledAt; e < time.Date(2100, 1, 1, 0, 0, 0, 0, time.UTC).Unix() {
			t.Errorf("%s: the killmail of 9999 has %d in the index", when, e)
		}
	})
}

// State is what the last Commit and Remove left, also after commits without events.
func testState(t *testing.T, s *subject) {
	check := func(what string, first, head killfeed.EventID, mirror uint64, received time.Time) {
		t.Helper()
		s.reopened(func(when string) {
			st := s.State()
			s.same(what+" "+when, st, killfeed.State{
				Epoch: st.Epoch, First: first, Head: head, MirrorSeq: mirror, LastReceived: received, Bytes: st.Bytes,
			})
		})
	}
	epoch := s.State().Epoch
	s.apply(&killfeed.Batch{
		Offsets: []killfeed.Offset{{Client: "a", Topic: system(1), At: 0}},
		Seen:    []killfeed.ClientSeen{{Client: "a", Created: base, At: base}},
	})
	check("offsets only", 1, 0, 0, time.Time{})
	one := s.commit(1, 2, 1)
	check("three events", 1, 3, 3, one[2].ReceivedAt)
	before := s.State().Bytes
	if before <= 0 {
		t.Errorf("three events take %d bytes", before)
	}
	two := s.commit(3)
	check("one more", 1, 4, 4, two[0].ReceivedAt)
	four := s.State().Bytes
	s.remove(3)
	check("three removed", 4, 4, 4, two[0].ReceivedAt)
	if got := s.State().Bytes; got != four-before {
		t.Errorf("the fourth event takes %d bytes; it took %d when it came", got, four-before)
	}
	s.apply(&killfeed.Batch{Seen: []killfeed.ClientSeen{{Client: "a", Created: base, At: base}}})
	check("seen only", 4, 4, 4, two[0].ReceivedAt)
	if s.State().Epoch != epoch {
		t.Errorf("the epoch was %s and is %s", epoch, s.State().Epoch)
	}
}

func (s *subject) known(id int64) (killfeed.Known, bool) {
	s.Helper()
	k, ok, err := s.Store.Known(id)
	if err != nil {
		s.Fatalf("Known(%d): %v", id, err)
	}
	return k, ok
}

func testKnown(t *testing.T, s *subject) {
	events := s.commit(1, 2, 3)
	check := func(what string) {
		t.Helper()
		s.reopened(func(when string) {
			for _, e := range events {
				got, ok := s.known(e.KillmailID)
				if !ok {
					t.Errorf("%s %s: killmail %d is unknown", what, when, e.KillmailID)
				}
				s.same(fmt.Sprintf("%s %s: Known(%d)", what, when, e.KillmailID), got, e.Known)
			}
			if _, ok := s.known(999); ok {
				t.Errorf("%s %s: a killmail that never came is known", what, when)
			}
			if _, ok := s.known(0); ok {
				t.Errorf("%s %s: a killmail without an id is known", what, when)
			}
		})
	}
	check("committed")
	s.remove(2)
	check("partly removed")
	nameless := s.eventOf(1, about(4))
	s.apply(&killfeed.Batch{Events: []killfeed.NewEvent{nameless}})
	s.remove(4)
	check("all removed")
}

// The Known of an update replaces the older one, within a batch and after it.
func testKnownLaterWins(t *testing.T, s *subject) {
	// version is the n-th event from now, and a newer version of killmail 7.
	version := func(n int, m Mail, digest killfeed.Digest) killfeed.NewEvent {
		m.ID, m.System = 7, 1
		e := s.eventOf(n, m)
		if e.ID > 1 {
			e.Marks, e.MirrorSeq = killfeed.MarkUpdate, 1
		}
		e.Known = killfeed.Known{First: 1, Latest: e.ID, Digest: digest}
		return e
	}
	check := func(want killfeed.NewEvent) {
		t.Helper()
		s.reopened(func(when string) {
			got, _ := s.known(7)
			s.same(when, got, want.Known)
		})
	}
	one := version(1, Mail{NoHash: true}, 0)
	two := version(2, Mail{}, 1<<63)
	s.apply(&killfeed.Batch{Events: []killfeed.NewEvent{one, two}})
	check(two)
	three := version(1, Mail{NoHash: true, ZKB: true}, 1<<63|1<<62) // of what any version had
	s.apply(&killfeed.Batch{Events: []killfeed.NewEvent{three}})
	check(three)
	s.remove(3)
	check(three)
}

func testRead(t *testing.T, s *subject) {
	var events []killfeed.NewEvent
	for range 5 {
		events = append(events, s.commit(1, 2, 3)...)
	}
	s.reopened(func(when string) {
		for _, ids := range [][]killfeed.EventID{{}, {1}, {15}, {1, 2, 3}, {2, 7, 8, 15}, {1, 15}, {4, 5, 6, 7, 8, 9, 10, 11}} {
			var got, want []killfeed.Event
			for _, id := range ids {
				want = append(want, events[id-1].Event)
			}
			if err := s.Read(ids, func(e killfeed.Event, err error) bool {
				if err != nil {
					t.Errorf("%s: event %d: %v", when, e.ID, err)
				}
				got = append(got, e)
				return true
			}); err != nil {
				t.Fatal(err)
			}
			s.same(fmt.Sprintf("%s: %v", when, ids), got, want)
		}
		n := 0
		err := s.Read([]killfeed.EventID{3, 4, 5}, func(killfeed.Event, error) bool { n++; return n < 2 })
		if err != nil || n != 2 {
			t.Errorf("%s: Read went on to event %d after it was told to stop at 2; %v", when, n, err)
		}
	})
}

func (s *subject) damaged(when string, id killfeed.EventID) {
	s.Helper()
	e, err := s.read(id)
	damage, ok := errors.AsType[*killfeed.DamageError](err)
	if !ok || damage.ID != id {
		s.Errorf("%s: reading event %d gave error %v, want a DamageError with its id", when, id, err)
	}
	s.same(fmt.Sprintf("%s: event %d", when, id), e, killfeed.Event{ID: id})
}

func testReadGone(t *testing.T, s *subject) {
	s.commit(1, 2, 3, 4, 5)
	s.remove(2)
	s.reopened(func(when string) {
		for _, id := range []killfeed.EventID{1, 2, 6, 1 << 50} {
			s.damaged(when, id)
		}
		var got []string
		if err := s.Read([]killfeed.EventID{2, 3, 5, 9}, func(e killfeed.Event, err error) bool {
			got = append(got, fmt.Sprint(e.ID, err == nil))
			return true
		}); err != nil {
			t.Fatal(err)
		}
		s.same(when+": gone and kept ids mixed", got, []string{"2 false", "3 true", "5 true", "9 false"})
	})
}

func testReadDamaged(t *testing.T, s *subject) {
	if s.h.Damage == nil {
		t.Skip("this store cannot be damaged")
	}
	events := s.commit(1, 2, 3)
	s.Store = s.h.Damage(t, s.Store, 2)
	s.damaged("damaged", 2)
	for _, id := range []killfeed.EventID{1, 3} {
		e, err := s.read(id)
		if err != nil {
			t.Errorf("event %d beside the damaged one: %v", id, err)
		}
		s.same("its neighbour", e, events[id-1].Event)
	}
	if st := s.State(); st.First != 1 || st.Head != 3 {
		t.Errorf("kept are %d to %d, want 1 to 3", st.First, st.Head)
	}
	s.commit(1) // and it goes on
	s.h.Check = nil
}

// What Read yields stays as it is, whatever happens to the store; and what Commit was given is no longer needed.
func testEventsKept(t *testing.T, s *subject) {
	var want [][]byte
	for i := range 20 {
		e := s.event(1, uint32(1+i%3))
		want = append(want, bytes.Clone(e.Killmail))
		s.apply(&killfeed.Batch{Events: []killfeed.NewEvent{e}})
	}
	s.Store = s.h.Reopen(t, s.Store)
	var got [][]byte
	ids := s.ids(killfeed.All())
	if err := s.Read(ids, func(e killfeed.Event, _ error) bool { got = append(got, e.Killmail); return true }); err != nil {
		t.Fatal(err)
	}
	for range 50 {
		s.commit(1, 2, 3, 4, 5)
	}
	s.remove(100)
	for range 3 {
		_ = s.Read(s.ids(killfeed.All()), func(killfeed.Event, error) bool { return true })
	}
	s.same("events read before", got, want)
}

func testLargeEvent(t *testing.T, s *subject) {
	large := s.eventOf(1, Mail{ID: 1, System: 1, Items: 125_000}) // more than 8 MiB
	s.apply(&killfeed.Batch{Events: []killfeed.NewEvent{large}})
	s.commit(2)
	s.reopened(func(when string) {
		got, err := s.read(1)
		if err != nil || !bytes.Equal(got.Killmail, large.Killmail) {
			t.Errorf("%s: read %d bytes, %v; want %d", when, len(got.Killmail), err, len(large.Killmail))
		}
		if b := s.State().Bytes; b < 8<<20 {
			t.Errorf("%s: State.Bytes is %d", when, b)
		}
	})
	s.remove(1)
	if b := s.State().Bytes; b > 1<<20 {
		t.Errorf("after its removal State.Bytes is %d", b)
	}
}
