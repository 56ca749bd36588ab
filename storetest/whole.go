package storetest

import (
	"cmp"
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"killfeed"
)

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
		b.Seen = []killfeed.ClientSeen{
			{Client: fmt.Sprint("client", i%4), Created: base, At: base.Add(time.Duration(i) * time.Second)},
		}
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
	seven := kill(killfeed.KindCharacter, 7)
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
	seven := kill(killfeed.KindCharacter, 7)
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
	g.Epoch, g.Former, g.Bytes = w.Epoch, w.Former, w.Bytes // these are their own
	differ("State", g, w)
	differ("Systems", got.Systems(nil), want.Systems(nil))
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
	killmails, err := past(got, 0, w.Head)
	wantKillmails, _ := past(want, 0, w.Head)
	differ(fmt.Sprintf("Past, %v", err), killmails, wantKillmails)
	marks, err := pastSystems(got)
	wantMarks, _ := pastSystems(want)
	differ(fmt.Sprintf("PastSystems, %v", err), marks, wantMarks)
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
