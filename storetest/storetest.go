// Package storetest tests killfeed.Stores, and helps to test what needs one. Only tests import it.
//
//   - Run holds a Store to every promise in the comments of killfeed.Store, and compares it with a Model at random.
//   - Model is a naive Store in memory. Faulty makes the writes of any Store fail.
//   - Mail and Maker make up killmails in the true shape, with valid hashes.
package storetest

import (
	"bytes"
	"math"
	"slices"
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
	// Restore closes the store and opens another one, which was restored from a backup of it.
	Restore func(t testing.TB, s killfeed.Store) killfeed.Store
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
		{"FindTellsKillsFromLosses", testFindRoles},
		{"FindATopicTwice", testFindTwice},
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
		{"SystemsThatHaveEvents", testSystems},
		{"ReceivedFrom", testReceivedFrom},
		{"ExcessIsExact", testExcess},
		{"ClientsRoundTrip", testClients},
		{"LaterOffsetsWin", testOffsets},
		{"GoneDeletes", testGone},
		{"Checkpoints", testCheckpoints},
		{"PastIsExact", testPast},
		{"PastSystemsIsExact", testPastSystems},
		{"AdoptThenFollow", testAdopt},
		{"AdoptRefuses", testAdoptRefuses},
		{"AdoptNothing", testAdoptNothing},
		{"ReopenKeepsEverything", testReopen},
		{"RestoredIsTheSameUnderAnotherEpoch", testRestored},
		{"CommitIsAtomicForReaders", testAtomicCommit},
		{"RemoveIsAtomicForReaders", testAtomicRemove},
		{"AdoptIsAtomicForReaders", testAtomicAdopt},
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

// about makes up a killmail in a system that is on the topics: a victim of those with RoleLoss, of which it has one of a kind,
// an attacker for each with RoleKill, and the labels.
func about(system uint32, topics ...killfeed.Topic) Mail {
	m := Mail{System: system, NoHash: true}
	for _, t := range topics {
		p := &m.Victim
		switch {
		case t.Kind == killfeed.KindLabel:
			m.Labels = append(m.Labels, t.Label)
			continue
		case t.Kind.Role() == killfeed.RoleKill:
			m.Attackers = append(m.Attackers, Party{})
			p = &m.Attackers[len(m.Attackers)-1]
		}
		switch t.Kind.Base() {
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
		}
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

// kill is the topic of an attacker, loss that of a victim.
func kill(kind killfeed.TopicKind, id uint32) killfeed.Topic { return on(kind|killfeed.RoleKill, id) }

func loss(kind killfeed.TopicKind, id uint32) killfeed.Topic { return on(kind|killfeed.RoleLoss, id) }

func at(t killfeed.Topic, after killfeed.EventID) killfeed.Position {
	return killfeed.Position{Topic: t, After: after}
}
