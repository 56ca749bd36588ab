package pebblestore

import (
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"

	"killfeed"
)

// TestIndex fills more than a bucket of the index of participants with generations as they are in life, and compares it with
// brute force: while it is written, opened again, after a crash that left it behind, and with the first bucket removed.
func TestIndex(t *testing.T) {
	const events = 1<<bucketBits + 7000
	fs := vfs.NewCrashableMem()
	w := newTruth(1)
	open := func(fs vfs.FS) *Store {
		t.Helper()
		s, err := Open("data", Options{FS: fs, Tail: 1 << 20})
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	s := open(fs)
	for len(w.events) < events {
		w.commit(t, s, 1000)
	}
	w.verifyTopics(t, s)
	killed := fs.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: 100, RNG: rand.New(rand.NewPCG(1, 1))}) // kill -9, in one moment
	closeStore(t, s)

	s = open(killed)
	if s.index.indexed == w.head() || s.index.indexed == 0 {
		t.Logf("the crash left nothing to index again: %d of %d", s.index.indexed, w.head())
	}
	w.verifyTopics(t, s)
	checkIndex(t, s)
	closeStore(t, s)

	s = open(fs)
	if s.index.indexed != w.head() {
		t.Errorf("after a clean end the index reaches to %d, the head is %d", s.index.indexed, w.head())
	}
	w.verifyTopics(t, s)
	w.verifyFind(t, s)

	for w.first <= 1<<bucketBits {
		w.remove(t, s, min(w.first+20_000, 1<<bucketBits+100))
	}
	w.verifyTopics(t, s)
	w.verifyFind(t, s)
	if n := chunks(t, s, 0); n > 0 {
		t.Errorf("%d chunks of the removed bucket are left", n)
	}
	late := newGeneration(1) // written after its events were removed
	for _, e := range w.events[:100] {
		late.add(e.ID, e.Topics)
	}
	if err := s.writeGeneration(late); err != nil {
		t.Fatal(err)
	}
	if n := chunks(t, s, 0); n > 0 {
		t.Errorf("%d chunks were written of events that were removed", n)
	}
	w.commit(t, s, 5000)
	w.verifyTopics(t, s)
	checkIndex(t, s)
	closeStore(t, s)
	s = open(fs)
	w.verifyTopics(t, s)
	w.verifyFind(t, s)
	checkIndex(t, s)
	closeStore(t, s)
}

func checkIndex(t *testing.T, s *Store) {
	t.Helper()
	if !raceEnabled { // which would take minutes for so many events
		check(t, s)
	}
}

// chunks counts the chunks of a bucket on disk.
func chunks(t *testing.T, s *Store, bucket uint32) (n int) {
	t.Helper()
	err := s.scan(bucketKey(bucket), bucketKey(bucket+1), func(_, _ []byte) error { n++; return nil })
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// verifyTopics compares every topic's events.
func (w *truth) verifyTopics(t *testing.T, s *Store) {
	t.Helper()
	for topic, want := range w.topics() {
		if got := find(t, s, topic, 0); !slices.Equal(got, want) {
			t.Fatalf("%s has %d events, want %d", topic, len(got), len(want))
		}
	}
}

// verifyFind asks for random topics from random places on, few and many at a time, and at the end of the log.
func (w *truth) verifyFind(t *testing.T, s *Store) {
	t.Helper()
	all := w.topics()
	var topics []killfeed.Topic
	for topic := range all {
		topics = append(topics, topic)
	}
	r := rand.New(rand.NewPCG(uint64(w.first), 9))
	for range 300 {
		q := killfeed.Query{Through: w.head() - killfeed.EventID(r.IntN(100)), Max: 1 + r.IntN(50)}
		asked := map[killfeed.Topic]bool{}
		for range 1 + r.IntN(5) {
			topic := topics[r.IntN(len(topics))]
			if asked[topic] {
				continue
			}
			asked[topic] = true
			after := killfeed.EventID(r.IntN(int(w.head()) + 10))
			if r.IntN(4) == 0 { // near the end
				after = w.head() - killfeed.EventID(r.IntN(20))
			}
			q.Positions = append(q.Positions, killfeed.Position{Topic: topic, After: after})
		}
		var want []killfeed.Entry
		for i, p := range q.Positions {
			for _, id := range all[p.Topic] {
				if id > p.After && id <= q.Through {
					e := &w.events[id-1]
					want = append(want, killfeed.Entry{ID: id, Position: int32(i), Marks: e.Marks, KilledAt: e.KilledAt.Unix()})
				}
			}
		}
		slices.SortFunc(want, func(a, b killfeed.Entry) int {
			if a.ID != b.ID {
				return int(a.ID) - int(b.ID)
			}
			return int(a.Position) - int(b.Position)
		})
		n := 0
		for i, e := range want {
			if i == 0 || want[i-1].ID != e.ID {
				n++
			}
			if n > q.Max {
				want = want[:i]
				break
			}
		}
		got, err := s.Find(nil, q)
		if err != nil || !slices.Equal(got, want) {
			t.Fatalf("%+v finds %v (%v), want %v", q, got, err, want)
		}
	}
}
