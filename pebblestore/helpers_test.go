package pebblestore

import (
	"bytes"
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"killfeed"
)

// base is when the tests' first events are received.
var base = time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)

// truth is what a store has to hold: a naive copy of everything that was committed to it, made by its own writer. It is for
// one goroutine.
type truth struct {
	rnd     *rand.Rand
	next    int64               // killmail id of the next event; ids are never given twice, also not after a crash
	first   killfeed.EventID    // the first kept event
	events  []killfeed.NewEvent // all, also removed ones; id is the index + 1
	offsets map[string]map[killfeed.Topic]killfeed.EventID
	pad     int // bytes to fill killmails up with
}

func newTruth(seed uint64) *truth {
	return &truth{
		rnd: rand.New(rand.NewPCG(seed, 1)), next: 1, first: 1,
		offsets: map[string]map[killfeed.Topic]killfeed.EventID{},
	}
}

func (w *truth) head() killfeed.EventID { return killfeed.EventID(len(w.events)) }

// event makes the next event, as the feed would: a small killmail of a few systems, with participants and sometimes a label.
func (w *truth) event() killfeed.NewEvent {
	r := w.rnd
	system := 1 + r.Uint32N(5)
	text := fmt.Appendf(nil, `{"killmail_id":%d,"killmail_time":"%s","solar_system_id":%d,`+
		`"victim":{"character_id":%d,"ship_type_id":%d},"attackers":[{"character_id":%d,"corporation_id":%d}]`,
		w.next, base.Add(-time.Duration(w.next)*time.Second).Format(time.RFC3339), system,
		100+r.IntN(20), 500+r.IntN(3), 100+r.IntN(20), 900+r.IntN(4))
	if r.IntN(3) == 0 {
		text = fmt.Appendf(text, `,"zkb":{"labels":["l%d"]}`, r.IntN(4))
	}
	if w.pad > 0 {
		text = append(text, `,"pad":"`...)
		for range w.pad {
			text = append(text, byte('a'+r.IntN(26))) // does not compress to nothing
		}
		text = append(text, '"')
	}
	k, err := killfeed.NewKillmail(system, append(text, '}'))
	if err != nil {
		panic(err)
	}
	w.next++
	e := killfeed.NewEvent{
		Event: killfeed.Event{
			ID: w.head() + 1, SystemID: k.SystemID, Killmail: k.JSON, KillmailID: k.ID, KilledAt: k.Time,
			ReceivedAt: base.Add(time.Duration(len(w.events)) * time.Second),
		},
		Topics: k.Topics,
	}
	if n := len(w.events); n > 0 {
		e.MirrorSeq = w.events[n-1].MirrorSeq
	}
	if r.IntN(10) == 0 {
		e.Marks = killfeed.MarkBackfill
	} else {
		e.MirrorSeq++
	}
	e.Known = killfeed.Known{First: e.ID, Latest: e.ID, Digest: k.Digest}
	return e
}

// batch makes a batch of n new events, and notes it as committed.
func (w *truth) batch(n int) *killfeed.Batch {
	var b killfeed.Batch
	for range n {
		e := w.event()
		w.events = append(w.events, e)
		b.Events = append(b.Events, e)
	}
	return &b
}

// commitOffset adds an offset of a client to the batch.
func (w *truth) commitOffset(b *killfeed.Batch, name string, t killfeed.Topic, at killfeed.EventID) {
	if w.offsets[name] == nil {
		w.offsets[name] = map[killfeed.Topic]killfeed.EventID{}
		b.Seen = append(b.Seen, killfeed.ClientSeen{Client: name, Created: base, At: base})
	}
	w.offsets[name][t] = at
	b.Offsets = append(b.Offsets, killfeed.Offset{Client: name, Topic: t, At: at})
}

// commit commits n new events in one batch.
func (w *truth) commit(t testing.TB, s *Store, n int) {
	t.Helper()
	if err := s.Commit(w.batch(n)); err != nil {
		t.Fatalf("committing %d events behind %d: %v", n, len(w.events)-n, err)
	}
}

// remove removes everything up to and including through.
func (w *truth) remove(t testing.TB, s *Store, through killfeed.EventID) {
	t.Helper()
	if err := s.Remove(through); err != nil {
		t.Fatalf("removing up to %d: %v", through, err)
	}
	w.first = through + 1
}

// topics are all that occur, in no order.
func (w *truth) topics() map[killfeed.Topic][]killfeed.EventID {
	all := map[killfeed.Topic][]killfeed.EventID{}
	for _, e := range w.events {
		for _, t := range e.Topics {
			if e.ID >= w.first {
				all[t] = append(all[t], e.ID)
			}
		}
		if e.ID >= w.first {
			all[killfeed.All()] = append(all[killfeed.All()], e.ID)
		}
	}
	return all
}

// verify compares everything that the store holds with w.
func (w *truth) verify(t testing.TB, s *Store) {
	t.Helper()
	st := s.State()
	if st.First != w.first || st.Head != w.head() {
		t.Fatalf("the log is %d to %d, want %d to %d", st.First, st.Head, w.first, w.head())
	}
	if n := len(w.events); n > 0 {
		last := w.events[n-1]
		if st.MirrorSeq != last.MirrorSeq || !st.LastReceived.Equal(last.ReceivedAt) {
			t.Errorf("the state is %+v, the last event %+v", st, last.Event)
		}
	}
	w.verifyEvents(t, s)
	for topic, want := range w.topics() {
		if got := find(t, s, topic, 0); !slices.Equal(got, want) {
			t.Errorf("%s has the events %v, want %v", topic, got, want)
		}
	}
	marks := w.marks()
	for system := range uint32(7) {
		if got := s.Removed(killfeed.System(system)); got != marks[system] {
			t.Errorf("system %d has lost event %d, want %d", system, got, marks[system])
		}
	}
	got := map[string]map[killfeed.Topic]killfeed.EventID{}
	err := s.Clients(func(r killfeed.ClientRecord) bool {
		got[r.Client] = r.Offsets
		return true
	})
	if err != nil {
		t.Fatalf("reading the clients: %v", err)
	}
	if d := cmp.Diff(w.offsets, got, cmpopts.EquateEmpty()); d != "" {
		t.Errorf("offsets differ (-want +got):\n%s", d)
	}
	check(t, s)
}

// verifyEvents reads every kept event and what is known of all killmail ids.
func (w *truth) verifyEvents(t testing.TB, s *Store) {
	t.Helper()
	kept := w.events[w.first-1:]
	ids := make([]killfeed.EventID, len(kept))
	for i, e := range kept {
		ids[i] = e.ID
	}
	i := 0
	err := s.Read(ids, func(e killfeed.Event, err error) bool {
		if err != nil {
			t.Errorf("event %d: %v", e.ID, err)
		} else if !equal(e, kept[i].Event) {
			t.Errorf("event %d differs (-want +got):\n%s", ids[i], cmp.Diff(kept[i].Event, e))
		}
		i++
		return !t.Failed()
	})
	if err != nil || i != len(ids) {
		t.Errorf("read %d of %d events: %v", i, len(ids), err)
	}
	for i, e := range w.events {
		if i%5 != 0 && i < len(w.events)-50 { // point reads are slow when the engine checks itself, as with -race
			continue
		}
		if k, ok, err := s.Known(e.KillmailID); err != nil || !ok || k != e.Known {
			t.Fatalf("killmail %d is known as %+v (%v, %v), want %+v", e.KillmailID, k, ok, err, e.Known)
		}
	}
}

// equal compares two events; cmp.Diff takes a hundred times as long.
func equal(a, b killfeed.Event) bool {
	same := bytes.Equal(a.Killmail, b.Killmail) && a.ReceivedAt.Equal(b.ReceivedAt) && a.KilledAt.Equal(b.KilledAt)
	return same && a.ID == b.ID && a.SystemID == b.SystemID && a.KillmailID == b.KillmailID &&
		a.MirrorSeq == b.MirrorSeq && a.Marks == b.Marks
}

// find returns the ids of all events on a topic above after, asking for few at a time.
func find(t testing.TB, s *Store, topic killfeed.Topic, after killfeed.EventID) []killfeed.EventID {
	t.Helper()
	var ids []killfeed.EventID
	for {
		q := killfeed.Query{Positions: []killfeed.Position{{Topic: topic, After: after}}, Through: s.State().Head, Max: 1000}
		entries, err := s.Find(nil, q)
		if err != nil {
			t.Fatalf("finding events of %s behind %d: %v", topic, after, err)
		}
		if len(entries) == 0 {
			return ids
		}
		for _, e := range entries {
			ids = append(ids, e.ID)
			after = e.ID
		}
	}
}

// check runs Check and fails on every problem.
func check(t testing.TB, s *Store) {
	t.Helper()
	if problems := problems(t, s); len(problems) > 0 {
		t.Errorf("Check found %d problems, the first: %q", len(problems), problems[:min(len(problems), 5)])
	}
}

// problems are what Check finds.
func problems(t testing.TB, s *Store) (found []string) {
	t.Helper()
	_, err := s.Check(context.Background(), func(p string) { found = append(found, p) }, nil)
	if err != nil {
		found = append(found, err.Error())
	}
	return found
}

// fewer is n, or a fifth of it with the race detector: see raceEnabled.
func fewer(n int) int {
	if raceEnabled {
		return n/5 + 1
	}
	return n
}

// every is how many operations to go on after each: all are tried, or every fifth with the race detector.
func every() int64 {
	if raceEnabled {
		return 5
	}
	return 1
}

// openOn opens the store "data" on a file system, with small generations.
func openOn(t testing.TB, fs vfs.FS) *Store {
	t.Helper()
	s, err := Open("data", Options{FS: fs, MinFree: 1, generation: 64})
	if err != nil {
		t.Fatalf("opening: %v", err)
	}
	return s
}

func closeStore(t testing.TB, s *Store) {
	t.Helper()
	if err := s.Close(); err != nil {
		t.Fatalf("closing: %v", err)
	}
}
