// Package storetest tests killfeed.Stores, and helps to test what needs one. Only tests import it.
//
//   - Run holds a Store to every promise in the comments of killfeed.Store, and compares it with a Model at random.
//   - Model is a naive Store in memory. Faulty makes the writes of any Store fail.
//   - Mail and Maker make up killmails in the true shape, with valid hashes.
package storetest

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	gocmp "github.com/google/go-cmp/cmp"

	"killfeed"
)

// Harness is a kind of store under test.
type Harness struct {
	// Open makes a new, empty store. The suite closes it.
	Open func(t testing.TB) killfeed.Store
	// Reopen closes the store and opens what it kept, as the next process would.
	Reopen func(t testing.TB, s killfeed.Store) killfeed.Store
	// Crash opens what the store kept without closing it first, as after kill -9; nil leaves this out. The suite uses only
	// what it returns from then on.
	Crash func(t testing.TB, s killfeed.Store) killfeed.Store
	// Damage spoils the stored record of an event and returns a store that does not have it in memory any more; nil leaves
	// this out.
	Damage func(t testing.TB, s killfeed.Store, id killfeed.EventID) killfeed.Store
	// Check verifies every invariant of an open store; nil leaves this out. It runs at the end of each test but that of
	// Damage.
	Check func(t testing.TB, s killfeed.Store)
}

// Run tests the kind of store. Each subtest is one promise in the comments of killfeed.Store.
func Run(t *testing.T, h Harness) {
	tests := []struct {
		name string
		test func(*testing.T, *subject)
	}{
		{"Empty", testEmpty},
		{"CommitMakesVisible", testCommit},
		{"StateAddsUp", testState},
		{"KnownForEver", testKnown},
		{"KnownLaterWins", testKnownLaterWins},
		{"FindMerges", testFind},
		{"FindTopicsOfAllKinds", testFindKinds},
		{"FindAppends", testFindAppends},
		{"FindManyTopics", testFindManyTopics},
		{"FindThroughManyEvents", testFindManyEvents},
		{"ReadInOrder", testRead},
		{"ReadGone", testReadGone},
		{"ReadDamaged", testReadDamaged},
		{"EventsAreTheCallers", testEventsKept},
		{"LargeEvent", testLargeEvent},
		{"RemovedIsExactForSystems", testRemoved},
		{"RemoveAll", testRemoveAll},
		{"ReceivedFrom", testReceivedFrom},
		{"ExcessIsExact", testExcess},
		{"ClientsRoundTrip", testClients},
		{"LaterOffsetsWin", testOffsets},
		{"GoneDeletes", testGone},
		{"Checkpoints", testCheckpoints},
		{"ReopenKeepsEverything", testReopen},
		{"CommitIsAtomicForReaders", testAtomicCommit},
		{"RemoveIsAtomicForReaders", testAtomicRemove},
		{"LikeTheModel", testLikeModel},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s := &subject{TB: t, h: h, Store: h.Open(t), from: base}
			tt.test(t, s)
			s.end()
		})
	}
}

// base is when the tests' first events are received.
var base = time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)

// subject is one store under test.
type subject struct {
	testing.TB
	killfeed.Store
	h    Harness
	from time.Time // receipt time of the next event
}

// end checks and closes the store.
func (s *subject) end() {
	s.Helper()
	if s.h.Check != nil && !s.Failed() {
		s.h.Check(s.TB, s.Store)
	}
	if err := s.Store.Close(); err != nil {
		s.Errorf("Close: %v", err)
	}
}

// reopened runs check now, after a Reopen, and after a Crash where there is one.
func (s *subject) reopened(check func(when string)) {
	s.Helper()
	check("at once")
	if s.h.Crash != nil {
		s.Store = s.h.Crash(s.TB, s.Store)
		check("after a crash")
	}
	s.Store = s.h.Reopen(s.TB, s.Store)
	check("after reopening")
}

// event makes the event that comes n-th from now (1 is next), on its system's topic and the others given, with a killmail
// id of 1000 + its event id.
func (s *subject) event(n int, system uint32, topics ...killfeed.Topic) killfeed.NewEvent {
	id := s.State().Head + killfeed.EventID(n)
	m := about(system, topics...)
	m.ID, m.Time = 1000+int64(id), base.Add(-time.Duration(id)*time.Hour)
	return s.eventOf(n, m)
}

// eventOf makes an event of a killmail. What an event says of its killmail is true: stores may derive it again.
func (s *subject) eventOf(n int, m Mail) killfeed.NewEvent {
	st := s.State()
	id := st.Head + killfeed.EventID(n)
	s.from = s.from.Add(time.Second)
	return killfeed.NewEvent{
		Event: killfeed.Event{
			ID: id, SystemID: m.System, ReceivedAt: s.from, Killmail: m.AppendJSON(nil), KillmailID: m.ID, KilledAt: m.Time,
			MirrorSeq: st.MirrorSeq + uint64(n),
		},
		Topics: m.Topics(),
		Known:  killfeed.Known{First: id, Latest: id, Digest: m.digest()},
	}
}

// about makes up a killmail in a system that is on the topics: an attacker for each who took part, and the labels.
func about(system uint32, topics ...killfeed.Topic) Mail {
	m := Mail{System: system, NoHash: true}
	for _, t := range topics {
		var p Party
		switch t.Kind {
		case killfeed.KindCharacter:
			p.Character = t.ID
		case killfeed.KindCorporation:
			p.Corporation = t.ID
		case killfeed.KindAlliance:
			p.Alliance = t.ID
		case killfeed.KindFaction:
			p.Faction = t.ID
		case killfeed.KindShip:
			p.Ship = t.ID
		case killfeed.KindLabel:
			m.Labels = append(m.Labels, t.Label)
			continue
		}
		m.Attackers = append(m.Attackers, p)
	}
	return m
}

// commit commits one event for each system, all in one batch.
func (s *subject) commit(systems ...uint32) []killfeed.NewEvent {
	s.Helper()
	var b killfeed.Batch
	for i, system := range systems {
		b.Events = append(b.Events, s.event(i+1, system))
	}
	s.apply(&b)
	return b.Events
}

func (s *subject) apply(b *killfeed.Batch) {
	s.Helper()
	if err := s.Store.Commit(b); err != nil {
		s.Fatalf("Commit: %v", err)
	}
}

func (s *subject) remove(through killfeed.EventID) {
	s.Helper()
	if err := s.Store.Remove(through); err != nil {
		s.Fatalf("Remove(%d): %v", through, err)
	}
}

func (s *subject) find(q killfeed.Query) []killfeed.Entry {
	s.Helper()
	entries, err := s.Store.Find(nil, q)
	if err != nil {
		s.Fatalf("Find(%+v): %v", q, err)
	}
	return entries
}

// ids finds the distinct events on the topics, all of them.
func (s *subject) ids(topics ...killfeed.Topic) []killfeed.EventID {
	s.Helper()
	q := killfeed.Query{Through: math.MaxUint64, Max: math.MaxInt}
	for _, t := range topics {
		q.Positions = append(q.Positions, killfeed.Position{Topic: t})
	}
	var ids []killfeed.EventID
	for _, e := range s.find(q) {
		ids = append(ids, e.ID)
	}
	return slices.Compact(ids)
}

// read reads one event.
func (s *subject) read(id killfeed.EventID) (killfeed.Event, error) {
	s.Helper()
	var (
		ev  killfeed.Event
		got error
		n   int
	)
	if err := s.Store.Read([]killfeed.EventID{id}, func(e killfeed.Event, err error) bool {
		ev, got, n = e, err, n+1
		return true
	}); err != nil {
		s.Fatalf("Read(%d): %v", id, err)
	}
	if n != 1 {
		s.Fatalf("Read(%d) yielded %d times, want once", id, n)
	}
	return ev, got
}

func (s *subject) received(t time.Time) killfeed.EventID {
	s.Helper()
	id, err := s.Store.ReceivedFrom(t)
	if err != nil {
		s.Fatalf("ReceivedFrom(%v): %v", t, err)
	}
	return id
}

func (s *subject) clients() map[string]killfeed.ClientRecord {
	s.Helper()
	all := map[string]killfeed.ClientRecord{}
	if err := s.Store.Clients(func(r killfeed.ClientRecord) bool {
		if _, double := all[r.Client]; double {
			s.Errorf("client %q is there twice", r.Client)
		}
		all[r.Client] = r
		return true
	}); err != nil {
		s.Fatalf("Clients: %v", err)
	}
	return all
}

// same compares, with times by the moment and nil equal to empty.
func (s *subject) same(what string, got, want any) {
	s.Helper()
	if diff := diff(got, want); diff != "" {
		s.Errorf("%s differs (-want +got):\n%s", what, diff)
	}
}

func diff(got, want any) string {
	return gocmp.Diff(want, got,
		gocmp.Comparer(func(a, b time.Time) bool { return a.Equal(b) && a.Location() == b.Location() }),
		gocmp.FilterValues(func(a, b []killfeed.Entry) bool { return len(a)+len(b) == 0 }, gocmp.Ignore()),
		gocmp.FilterValues(func(a, b []killfeed.EventID) bool { return len(a)+len(b) == 0 }, gocmp.Ignore()),
		gocmp.FilterValues(func(a, b map[killfeed.Topic]killfeed.EventID) bool { return len(a)+len(b) == 0 }, gocmp.Ignore()),
		gocmp.FilterValues(func(a, b []byte) bool { return bytes.Equal(a, b) }, gocmp.Ignore()),
	)
}

func system(id uint32) killfeed.Topic { return killfeed.System(id) }

func on(kind killfeed.TopicKind, id uint32) killfeed.Topic { return killfeed.Topic{Kind: kind, ID: id} }

func at(t killfeed.Topic, after killfeed.EventID) killfeed.Position {
	return killfeed.Position{Topic: t, After: after}
}

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
		s.event(1, 30_000_142, on(killfeed.KindCharacter, 7)), s.event(2, 30_000_142), odd, old, far,
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

func testFind(t *testing.T, s *subject) {
	// Events 1 to 8 on systems A, B and C; character 7 takes part in 2, 3 and 8, character 9 in 3.
	const A, B, C = 10, 20, 30
	seven, nine := on(killfeed.KindCharacter, 7), on(killfeed.KindCharacter, 9)
	s.apply(&killfeed.Batch{Events: []killfeed.NewEvent{
		s.event(1, A), s.event(2, B, seven), s.event(3, A, nine, seven), s.event(4, C), s.event(5, B),
	}})
	s.apply(&killfeed.Batch{Events: []killfeed.NewEvent{s.event(1, A), s.event(2, C), s.event(3, A, seven)}})
	type P = []killfeed.Position
	type E = []int // id, position, id, position …
	tests := []struct {
		name    string
		at      P
		through killfeed.EventID
		max     int
		want    E
	}{
		{"one topic", P{at(system(A), 0)}, 8, 99, E{1, 0, 3, 0, 6, 0, 8, 0}},
		{"from its position on", P{at(system(A), 3)}, 8, 99, E{6, 0, 8, 0}},
		{"just before an event", P{at(system(A), 5)}, 8, 99, E{6, 0, 8, 0}},
		{"behind the last", P{at(system(A), 8)}, 8, 99, nil},
		{"far behind", P{at(system(A), 1<<40)}, 8, 99, nil},
		{"merged", P{at(system(B), 0), at(system(A), 0)}, 8, 99, E{1, 1, 2, 0, 3, 1, 5, 0, 6, 1, 8, 1}},
		{"each from its position", P{at(system(B), 2), at(system(A), 6)}, 8, 99, E{5, 0, 8, 1}},
		{"through is inclusive", P{at(system(A), 0)}, 6, 99, E{1, 0, 3, 0, 6, 0}},
		{"through between events", P{at(system(A), 0)}, 5, 99, E{1, 0, 3, 0}},
		{"through 0", P{at(system(A), 0)}, 0, 99, nil},
		{"through past the head", P{at(system(C), 0)}, 1 << 60, 99, E{4, 0, 7, 0}},
		{"an event on two topics", P{at(seven, 0), at(system(A), 0)}, 8, 99, E{1, 1, 2, 0, 3, 0, 3, 1, 6, 1, 8, 0, 8, 1}},
		{"in the order of positions", P{at(system(A), 1), at(nine, 0), at(seven, 0)}, 8, 99,
			E{2, 2, 3, 0, 3, 1, 3, 2, 6, 0, 8, 0, 8, 2}},
		{"on two topics, past it on one", P{at(seven, 3), at(system(A), 0)}, 8, 99, E{1, 1, 3, 1, 6, 1, 8, 0, 8, 1}},
		{"max", P{at(system(A), 0), at(system(B), 0)}, 8, 3, E{1, 0, 2, 1, 3, 0}},
		{"max counts events", P{at(seven, 0), at(system(A), 0)}, 8, 3, E{1, 1, 2, 0, 3, 0, 3, 1}},
		{"max keeps an event whole", P{at(seven, 2), at(nine, 0), at(system(A), 1)}, 8, 1, E{3, 0, 3, 1, 3, 2}},
		{"max is all there are", P{at(system(A), 0)}, 8, 4, E{1, 0, 3, 0, 6, 0, 8, 0}},
		{"an unknown system", P{at(system(99), 0)}, 8, 99, nil},
		{"unknown topics among known", P{at(system(99), 0), at(system(C), 0), at(killfeed.Label("no"), 0)}, 8, 99, E{4, 1, 7, 1}},
		{"all", P{at(killfeed.All(), 5)}, 8, 99, E{6, 0, 7, 0, 8, 0}},
		{"all and others", P{at(system(C), 0), at(killfeed.All(), 6), at(seven, 3)}, 8, 99, E{4, 0, 7, 0, 7, 1, 8, 1, 8, 2}},
		{"all, max", P{at(killfeed.All(), 0)}, 8, 2, E{1, 0, 2, 0}},
	}
	s.reopened(func(when string) {
		for _, tt := range tests {
			var got E
			for _, e := range s.find(killfeed.Query{Positions: tt.at, Through: tt.through, Max: tt.max}) {
				got = append(got, int(e.ID), int(e.Position))
			}
			if !slices.Equal(got, tt.want) {
				t.Errorf("%s, %s: got (id, position …) %v, want %v", when, tt.name, got, tt.want)
			}
		}
	})
}

func testFindKinds(t *testing.T, s *subject) {
	topics := []killfeed.Topic{
		system(1), system(killfeed.MaxID),
		on(killfeed.KindCharacter, 1), on(killfeed.KindCharacter, killfeed.MaxID), on(killfeed.KindCorporation, 1),
		on(killfeed.KindAlliance, 1), on(killfeed.KindFaction, 1), on(killfeed.KindShip, 1), on(killfeed.KindShip, 256),
		killfeed.Label("a"), killfeed.Label("ab"), killfeed.Label("a b"), killfeed.Label("loc:highsec"), killfeed.Label("ä€😀"),
		killfeed.Label(strings.Repeat("x", killfeed.MaxLabel)), killfeed.Label(strings.Repeat("x", killfeed.MaxLabel-1)),
		killfeed.Label("1"), killfeed.Label("%00"), killfeed.Label("#:10+"),
	}
	// Each event is on one of the topics beside its own system; the last one is on all.
	var b killfeed.Batch
	for i, topic := range topics {
		e := s.event(i+1, uint32(1000+i), topic)
		if topic.Kind == killfeed.KindSystem {
			e = s.event(i+1, topic.ID)
		}
		b.Events = append(b.Events, e)
	}
	s.apply(&b)
	last := s.event(1, 1, topics[2:]...)
	s.apply(&killfeed.Batch{Events: []killfeed.NewEvent{last}})
	s.reopened(func(when string) {
		for i, topic := range topics {
			want := []killfeed.EventID{killfeed.EventID(i + 1), last.ID}
			if topic == system(killfeed.MaxID) {
				want = want[:1]
			}
			s.same(when+": "+topic.String(), s.ids(topic), want)
		}
		s.same(when+": none of their neighbours", s.ids(
			on(killfeed.KindCharacter, 2), on(killfeed.KindShip, 257), on(killfeed.KindAlliance, killfeed.MaxID),
			killfeed.Label("abc"), killfeed.Label("x"), killfeed.Label("loc"), killfeed.Label("A")), []killfeed.EventID(nil))
	})
}

func testFindAppends(t *testing.T, s *subject) {
	s.commit(1, 2, 1)
	mark := killfeed.Entry{ID: 77, Position: 5, Marks: 3, KilledAt: -9}
	for _, spare := range []int{0, 1, 100} {
		dst := append(make([]killfeed.Entry, 0, 1+spare), mark)
		got, err := s.Find(dst, killfeed.Query{Positions: []killfeed.Position{at(system(1), 0)}, Through: 3, Max: 9})
		if err != nil {
			t.Fatal(err)
		}
		if len(got) != 3 || got[0] != mark || got[1].ID != 1 || got[2].ID != 3 {
			t.Errorf("got %v, want entries 1 and 3 behind %v", got, mark)
		}
	}
}

// A read may have 10,000 topics, of which few have anything.
func testFindManyTopics(t *testing.T, s *subject) {
	const n = 10_000
	var b killfeed.Batch
	for i := range 40 {
		b.Events = append(b.Events, s.event(i+1, uint32(1+i*250), on(killfeed.KindCharacter, uint32(1+i*250))))
	}
	s.apply(&b)
	for _, kind := range []killfeed.TopicKind{killfeed.KindSystem, killfeed.KindCharacter} {
		q := killfeed.Query{Through: 40, Max: 30}
		for i := range n {
			q.Positions = append(q.Positions, at(on(kind, uint32(n-i)), killfeed.EventID(i%2)))
		}
		entries := s.find(q)
		for i, e := range entries {
			want := killfeed.Entry{
				ID: killfeed.EventID(i + 1), Position: int32(n - 1 - i*250), KilledAt: b.Events[i].KilledAt.Unix(),
			}
			if q.Positions[n-1].After == 1 { // event 1 was had
				want.ID, want.Position, want.KilledAt = want.ID+1, want.Position-250, b.Events[i+1].KilledAt.Unix()
			}
			s.same("entry", e, want)
		}
		if len(entries) != 30 {
			t.Errorf("%d entries of kind %d, want 30", len(entries), kind)
		}
	}
}

// Following Max from page to page finds each event once, over many commits, some removed.
func testFindManyEvents(t *testing.T, s *subject) {
	const n, batch, removed = 3000, 250, 1700
	seven := on(killfeed.KindCharacter, 7)
	for i := 0; i < n; {
		var b killfeed.Batch
		for j := range batch {
			topics := []killfeed.Topic{killfeed.Label("every")}
			if i%3 == 0 {
				topics = append(topics, seven)
			}
			b.Events = append(b.Events, s.event(j+1, uint32(1+i%13), topics...))
			i++
		}
		s.apply(&b)
	}
	s.remove(removed)
	s.reopened(func(when string) {
		for _, topics := range [][]killfeed.Topic{{system(5)}, {system(5), seven}, {seven}, {killfeed.Label("every")}, {killfeed.All()}} {
			var got, want []killfeed.EventID
			for i := removed; i < n; i++ {
				if len(topics) == 1 && topics[0].Kind > killfeed.KindShip || topics[0].Kind == killfeed.KindAll ||
					slices.Contains(topics, system(uint32(1+i%13))) || slices.Contains(topics, seven) && i%3 == 0 {
					want = append(want, killfeed.EventID(i+1))
				}
			}
			for after := killfeed.EventID(0); ; {
				q := killfeed.Query{Through: n, Max: 701}
				for _, topic := range topics {
					q.Positions = append(q.Positions, at(topic, after))
				}
				var page []killfeed.EventID
				for _, e := range s.find(q) {
					page = append(page, e.ID)
				}
				if page = slices.Compact(page); len(page) == 0 {
					break
				}
				got, after = append(got, page...), page[len(page)-1]
			}
			if !slices.Equal(got, want) {
				t.Errorf("%s, %v: got %d events, want %d", when, topics, len(got), len(want))
			}
		}
	})
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
		if err := s.Read([]killfeed.EventID{3, 4, 5}, func(killfeed.Event, error) bool { n++; return n < 2 }); err != nil || n != 2 {
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

func testRemoved(t *testing.T, s *subject) {
	seven, nine := on(killfeed.KindCharacter, 7), on(killfeed.KindCharacter, 9)
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

func testClients(t *testing.T, s *subject) {
	s.commit(1, 2, 3)
	names := []string{
		"a", "ab", "a b", "a:b", "a/b", "b", "B", "ä€😀", `"quoted" \ back`, "%41", "-1", "system:1", "0",
		strings.Repeat("n", killfeed.MaxClientName), strings.Repeat("n", killfeed.MaxClientName-1), strings.Repeat("€", 42),
	}
	topics := []killfeed.Topic{
		killfeed.All(), system(1), system(killfeed.MaxID), on(killfeed.KindCharacter, 1), on(killfeed.KindShip, 1),
		killfeed.Label("a"), killfeed.Label("ab"), killfeed.Label("ä:€"), killfeed.Label(strings.Repeat("l", killfeed.MaxLabel)),
	}
	want := map[string]killfeed.ClientRecord{}
	var b killfeed.Batch
	for i, name := range names {
		r := killfeed.ClientRecord{
			ClientSeen: killfeed.ClientSeen{
				Client: name, Created: base.Add(time.Duration(i) * time.Millisecond), At: base.Add(time.Duration(i) * time.Hour),
			},
			Offsets: map[killfeed.Topic]killfeed.EventID{},
		}
		for j, topic := range topics[:i%(len(topics)+1)] {
			r.Offsets[topic] = killfeed.EventID((i + j) % 4) // 0 is a position too
		}
		want[name] = r
		b.Seen = append(b.Seen, r.ClientSeen)
		for topic, at := range r.Offsets {
			b.Offsets = append(b.Offsets, killfeed.Offset{Client: name, Topic: topic, At: at})
		}
	}
	s.apply(&b)
	s.reopened(func(when string) { s.same(when, s.clients(), want) })
	n := 0
	if err := s.Clients(func(killfeed.ClientRecord) bool { n++; return n < 3 }); err != nil || n != 3 {
		t.Errorf("Clients went on to %d after it was told to stop at 3; %v", n, err)
	}
	s.remove(3)
	s.reopened(func(when string) { s.same("events removed, "+when, s.clients(), want) })
}

// offsets applies offsets of one client, with nothing else.
func (s *subject) offsets(client string, pairs ...any) *killfeed.Batch {
	b := &killfeed.Batch{}
	for i := 0; i < len(pairs); i += 2 {
		b.Offsets = append(b.Offsets, killfeed.Offset{
			Client: client, Topic: pairs[i].(killfeed.Topic), At: killfeed.EventID(pairs[i+1].(int)),
		})
	}
	return b
}

func testOffsets(t *testing.T, s *subject) {
	s.commit(1, 2, 3)
	check := func(what string, pairs ...any) {
		t.Helper()
		want := map[killfeed.Topic]killfeed.EventID{}
		for i := 0; i < len(pairs); i += 2 {
			want[pairs[i].(killfeed.Topic)] = killfeed.EventID(pairs[i+1].(int))
		}
		s.reopened(func(when string) { s.same(what+", "+when, s.clients()["c"].Offsets, want) })
	}
	seen := killfeed.ClientSeen{Client: "c", Created: base, At: base.Add(time.Hour)}
	s.apply(&killfeed.Batch{Seen: []killfeed.ClientSeen{seen}})
	check("seen only")
	s.apply(s.offsets("c", system(1), 1, system(2), 2))
	check("set", system(1), 1, system(2), 2)
	s.apply(s.offsets("c", system(1), 3))
	check("forward", system(1), 3, system(2), 2)
	s.apply(s.offsets("c", system(1), 0, killfeed.All(), 3))
	check("backward", system(1), 0, system(2), 2, killfeed.All(), 3)
	s.apply(s.offsets("c", system(2), 3, system(2), 1))
	check("the later in a batch wins", system(1), 0, system(2), 1, killfeed.All(), 3)
	later := killfeed.ClientSeen{Client: "c", Created: base, At: base.Add(2 * time.Hour)}
	s.apply(&killfeed.Batch{Seen: []killfeed.ClientSeen{later}})
	check("seen again", system(1), 0, system(2), 1, killfeed.All(), 3)
	s.same("seen", s.clients()["c"].ClientSeen, later)
}

func testGone(t *testing.T, s *subject) {
	s.commit(1, 2, 3)
	seen := func(name string) killfeed.ClientSeen {
		return killfeed.ClientSeen{Client: name, Created: base, At: base}
	}
	for _, name := range []string{"a", "ab", "a:", "b"} {
		b := s.offsets(name, system(1), 1, killfeed.Label("x"), 2, killfeed.All(), 3)
		b.Seen = append(b.Seen, seen(name))
		s.apply(b)
	}
	check := func(what string, want ...string) {
		t.Helper()
		s.reopened(func(when string) {
			s.same(what+", "+when, slices.Sorted(maps.Keys(s.clients())), want)
		})
	}
	check("all there", "a", "a:", "ab", "b")
	s.apply(&killfeed.Batch{Gone: []string{"a", "never was"}})
	check("one gone", "a:", "ab", "b")
	s.same("its neighbour", len(s.clients()["ab"].Offsets), 3)
	// Offsets and Seen of the same batch come after.
	b := s.offsets("b", system(2), 1)
	b.Seen, b.Gone = append(b.Seen, seen("b")), []string{"b", "ab"}
	s.apply(b)
	check("made anew", "a:", "b")
	s.same("the new one's offsets", s.clients()["b"].Offsets, map[killfeed.Topic]killfeed.EventID{system(2): 1})
	s.apply(s.offsets("a:", system(5), 0))
	s.apply(&killfeed.Batch{Gone: []string{"a:", "b"}})
	check("all gone")
}

func testCheckpoints(t *testing.T, s *subject) {
	check := func(source, want string) {
		t.Helper()
		s.reopened(func(when string) {
			if got, err := s.Checkpoint(source); got != want || err != nil {
				t.Errorf("%s: the place of %q is %.40q, %v; want %.40q", when, source, got, err, want)
			}
		})
	}
	check("r2z2", "")
	s.apply(&killfeed.Batch{Checkpoints: []killfeed.Checkpoint{{Source: "r2z2", Place: "17"}}})
	check("r2z2", "17")
	check("r2z", "")
	check("r2z22", "")
	long := strings.Repeat("n", killfeed.MaxClientName)
	s.apply(&killfeed.Batch{
		Events: []killfeed.NewEvent{s.event(1, 1)},
		Checkpoints: []killfeed.Checkpoint{
			{Source: "r2z2", Place: "1"}, {Source: "r2z2", Place: "2\x00\xff"}, {Source: "r2z", Place: "3"},
			{Source: long, Place: strings.Repeat("p", 64<<10)}, {Source: "ä: /€", Place: ""},
		},
	})
	check("r2z2", "2\x00\xff") // the later in a batch wins
	check("r2z", "3")
	check(long, strings.Repeat("p", 64<<10))
	check("ä: /€", "")
	// A source and a client of the same name have nothing to do with each other.
	s.apply(&killfeed.Batch{Seen: []killfeed.ClientSeen{{Client: "r2z2", Created: base, At: base}}})
	s.apply(&killfeed.Batch{Gone: []string{"r2z2"}})
	s.remove(1)
	check("r2z2", "2\x00\xff")
	s.apply(&killfeed.Batch{Checkpoints: []killfeed.Checkpoint{{Source: "r2z2", Place: ""}}})
	check("r2z2", "")
	s.same("clients", len(s.clients()), 0)
}

func testReopen(t *testing.T, s *subject) {
	model := NewModel()
	both := func(b *killfeed.Batch) {
		s.apply(b)
		if err := model.Commit(b); err != nil {
			t.Fatal(err)
		}
	}
	maker := NewMaker(MakerOptions{Seed: 4, Systems: 20, Attackers: 2})
	for i := range 20 {
		b := s.offsets(fmt.Sprint("client", i%4), system(1+uint32(i%5)), i, killfeed.All(), i)
		b.Seen = []killfeed.ClientSeen{{Client: fmt.Sprint("client", i%4), Created: base, At: base.Add(time.Duration(i) * time.Second)}}
		for n := range 3 {
			b.Events = append(b.Events, s.eventOf(n+1, maker.NextMail()))
		}
		if i == 13 {
			b.Gone = []string{"client1"}
		}
		both(b)
		if i == 7 || i == 16 {
			s.remove(killfeed.EventID(i))
			if err := model.Remove(killfeed.EventID(i)); err != nil {
				t.Fatal(err)
			}
		}
	}
	s.reopened(func(when string) {
		for _, d := range compare(s.Store, model, true) {
			t.Errorf("%s: %s", when, d)
		}
	})
	both(&killfeed.Batch{Events: []killfeed.NewEvent{s.event(1, 7)}})
	for _, d := range compare(s.Store, model, false) {
		t.Errorf("one more: %s", d)
	}
}

// watch runs look in several goroutines until stop is called, which waits for them.
func watch(look func()) (stop func()) {
	done := make(chan struct{})
	var readers sync.WaitGroup
	for range 3 {
		readers.Go(func() {
			for {
				select {
				case <-done:
					return
				default:
					look()
				}
			}
		})
	}
	return func() { close(done); readers.Wait() }
}

// Readers see all of a batch or nothing of it, and never n+1 before n.
func testAtomicCommit(t *testing.T, s *subject) {
	const size, batches = 4, 80
	seven := on(killfeed.KindCharacter, 7)
	positions := []killfeed.Position{at(seven, 0), at(system(1), 0), at(killfeed.All(), 0)}
	stop := watch(func() {
		before := s.State()
		entries := s.find(killfeed.Query{Positions: positions, Through: math.MaxUint64, Max: math.MaxInt})
		after := s.State()
		if before.Head%size != 0 || len(entries)%(3*size) != 0 {
			t.Errorf("a torn batch: head %d, %d entries", before.Head, len(entries))
		}
		if n := killfeed.EventID(len(entries) / 3); n < before.Head || n > after.Head {
			t.Errorf("%d events were found, with the head at %d before and %d after", n, before.Head, after.Head)
		}
		if before.MirrorSeq != uint64(before.Head) || before.Head > 0 && before.Bytes == 0 {
			t.Errorf("a torn state: %+v", before)
		}
		var ids []killfeed.EventID
		for i, e := range entries {
			if e.ID != killfeed.EventID(i/3+1) || int(e.Position) != i%3 {
				t.Errorf("entry %d is %+v", i, e)
				return
			}
			if i%3 == 0 {
				ids = append(ids, e.ID)
			}
		}
		if len(ids) == 0 {
			return
		}
		last := ids[len(ids)-1]
		for _, id := range []killfeed.EventID{last, last - size + 1} {
			if k, ok := s.known(1000 + int64(id)); !ok || k.First != id {
				t.Errorf("event %d is visible and its killmail unknown", id)
			}
			if _, err := s.read(id); err != nil {
				t.Errorf("event %d is visible and cannot be read: %v", id, err)
			}
			if id := s.received(base); id != 1 {
				t.Errorf("the first event received is %d", id)
			}
		}
	})
	for range batches {
		b := killfeed.Batch{}
		for i := range size {
			b.Events = append(b.Events, s.event(i+1, 1, seven))
		}
		s.apply(&b)
	}
	stop()
	s.same("head", s.State().Head, killfeed.EventID(size*batches))
}

// While events are removed, readers see a log that starts at one of the places where Remove left it.
func testAtomicRemove(t *testing.T, s *subject) {
	const n, step = 1200, 40
	seven := on(killfeed.KindCharacter, 7)
	for range n / step {
		var b killfeed.Batch
		for i := range step {
			b.Events = append(b.Events, s.event(i+1, 1, seven))
		}
		s.apply(&b)
	}
	stop := watch(func() {
		before := s.State()
		for _, topic := range []killfeed.Topic{system(1), seven, killfeed.All()} {
			ids := s.ids(topic)
			if first := n + 1 - killfeed.EventID(len(ids)); first < before.First || first%step != 1 {
				t.Errorf("%v begins at %d, with the first event being %d before", topic, first, before.First)
			}
			for i, id := range ids {
				if id != killfeed.EventID(n-len(ids)+i+1) {
					t.Errorf("%v has event %d at place %d of %d", topic, id, i, len(ids))
					return
				}
			}
		}
		if before.First > 1 && s.Removed(system(1)) < before.First-1 {
			t.Errorf("events to %d are gone and the store does not say so", before.First-1)
		}
		if before.First <= n {
			if _, err := s.read(before.First); err != nil && s.State().First == before.First {
				t.Errorf("the first event, %d, cannot be read: %v", before.First, err)
			}
		}
	})
	for through := killfeed.EventID(step); through <= n; through += step {
		s.remove(through)
	}
	stop()
	s.same("events left", s.ids(killfeed.All()), []killfeed.EventID(nil))
}

// compare lists how two stores with the same contents differ. Clients are compared on demand: they are only asked for when
// a Feed opens.
func compare(got, want killfeed.Store, clients bool) (differences []string) {
	differ := func(what string, got, want any) {
		if d := diff(got, want); d != "" {
			differences = append(differences, what+" (-want +got):\n"+d)
		}
	}
	g, w := got.State(), want.State()
	g.Epoch, g.Bytes = w.Epoch, w.Bytes // these are their own
	differ("State", g, w)
	topics := map[killfeed.Topic]bool{killfeed.All(): true}
	if m, ok := want.(*Model); ok {
		for _, e := range m.log.kept {
			for _, t := range e.Topics {
				topics[t] = true
			}
		}
		for _, e := range m.log.removed {
			for _, t := range e.topics {
				topics[t] = true
			}
		}
		for id, k := range m.log.known {
			known, ok, err := got.Known(id)
			if !ok || err != nil || known != k {
				differ(fmt.Sprintf("Known(%d), %v", id, err), known, k)
			}
		}
		for source, place := range m.log.places {
			if p, err := got.Checkpoint(source); p != place || err != nil {
				differ(fmt.Sprintf("Checkpoint(%q), %v", source, err), p, place)
			}
		}
	}
	sorted := slices.SortedFunc(maps.Keys(topics), func(a, b killfeed.Topic) int {
		return cmp.Or(cmp.Compare(a.Kind, b.Kind), cmp.Compare(a.ID, b.ID), strings.Compare(a.Label, b.Label))
	})
	all := killfeed.Query{Through: math.MaxUint64, Max: math.MaxInt}
	for _, t := range sorted {
		q := killfeed.Query{Positions: []killfeed.Position{{Topic: t}}, Through: all.Through, Max: all.Max}
		differ("Find "+t.String(), found(got, q), found(want, q))
		differ("Removed "+t.String(), got.Removed(t), want.Removed(t))
		all.Positions = append(all.Positions, killfeed.Position{Topic: t})
	}
	differ("Find all topics", found(got, all), found(want, all))
	var ids []killfeed.EventID
	for id := killfeed.EventID(1); id <= w.Head+1; id++ {
		ids = append(ids, id)
	}
	differ("events", events(got, ids), events(want, ids))
	if clients {
		differ("clients", records(got), records(want))
	}
	return differences
}

func found(s killfeed.Store, q killfeed.Query) any {
	entries, err := s.Find(nil, q)
	if err != nil {
		return err.Error()
	}
	return entries
}

// events reads ids; what is gone has only an id.
func events(s killfeed.Store, ids []killfeed.EventID) any {
	var all []killfeed.Event
	if err := s.Read(ids, func(e killfeed.Event, err error) bool { all = append(all, e); return true }); err != nil {
		return err.Error()
	}
	return all
}

func records(s killfeed.Store) any {
	all := map[string]killfeed.ClientRecord{}
	if err := s.Clients(func(r killfeed.ClientRecord) bool { all[r.Client] = r; return true }); err != nil {
		return err.Error()
	}
	return all
}
