package storetest

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"killfeed"
)

func testFind(t *testing.T, s *subject) {
	// Events 1 to 8 on systems A, B and C; character 7 takes part in 2, 3 and 8, character 9 in 3.
	const A, B, C = 10, 20, 30
	seven, nine := kill(killfeed.KindCharacter, 7), kill(killfeed.KindCharacter, 9)
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
		system(1), system(killfeed.MaxID), loss(killfeed.KindCharacter, 1), loss(killfeed.KindCorporation, killfeed.MaxID),
		loss(killfeed.KindAlliance, 1), loss(killfeed.KindFaction, 1), loss(killfeed.KindShip, 1),
		kill(killfeed.KindCharacter, 1), kill(killfeed.KindCharacter, killfeed.MaxID), kill(killfeed.KindCorporation, 1),
		kill(killfeed.KindAlliance, 1), kill(killfeed.KindFaction, 1), kill(killfeed.KindShip, 1), kill(killfeed.KindShip, 256),
		killfeed.Label("a"), killfeed.Label("ab"), killfeed.Label("a b"), killfeed.Label("loc:highsec"),
		killfeed.Label("ä€😀"),
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
			kill(killfeed.KindCharacter, 2), kill(killfeed.KindShip, 257), kill(killfeed.KindAlliance, killfeed.MaxID),
			killfeed.Label("abc"), killfeed.Label("x"), killfeed.Label("loc"), killfeed.Label("A")), []killfeed.EventID(nil))
	})
}

// Who is killed and who kills are found apart, and who does both is on both. Without a role, or by what static data tells, the
// caller puts it together: a store has nothing there.
func testFindRoles(t *testing.T, s *subject) {
	const ship, corporation = killfeed.KindShip, killfeed.KindCorporation
	s.apply(&killfeed.Batch{Events: []killfeed.NewEvent{
		s.event(1, 1, loss(ship, 587), kill(ship, 24690), kill(corporation, 98)),
		s.event(2, 1, loss(ship, 24690), kill(ship, 587), loss(corporation, 98), kill(corporation, 98)),
		s.event(3, 2, loss(ship, 587), kill(ship, 587)),
		s.event(4, 2, kill(ship, 587), kill(ship, 24690)),
	}})
	tests := []struct {
		topics []killfeed.Topic
		want   []killfeed.EventID
	}{
		{[]killfeed.Topic{loss(ship, 587)}, []killfeed.EventID{1, 3}},
		{[]killfeed.Topic{kill(ship, 587)}, []killfeed.EventID{2, 3, 4}},
		{[]killfeed.Topic{loss(ship, 587), kill(ship, 587)}, []killfeed.EventID{1, 2, 3, 4}},
		{[]killfeed.Topic{loss(ship, 24690)}, []killfeed.EventID{2}},
		{[]killfeed.Topic{loss(corporation, 98)}, []killfeed.EventID{2}},
		{[]killfeed.Topic{kill(corporation, 98)}, []killfeed.EventID{1, 2}},
		{[]killfeed.Topic{
			on(ship, 587), on(corporation, 98), on(killfeed.KindRegion, 1), on(killfeed.KindConstellation, 1),
			on(killfeed.KindSpace, uint32(killfeed.SpaceHigh)), on(killfeed.KindGroup, 25), kill(killfeed.KindGroup, 25),
		}, nil},
	}
	s.reopened(func(when string) {
		for _, tt := range tests {
			s.same(fmt.Sprintf("%s: %v", when, tt.topics), s.ids(tt.topics...), tt.want)
		}
	})
}

// A topic that is asked for more than once is found from each place on, and an event is whole with all its entries.
func testFindTwice(t *testing.T, s *subject) {
	seven := kill(killfeed.KindCharacter, 7)
	s.apply(&killfeed.Batch{Events: []killfeed.NewEvent{
		s.event(1, 1, seven), s.event(2, 1), s.event(3, 2, seven), s.event(4, 1, seven), s.event(5, 2),
	}})
	type P = []killfeed.Position
	tests := []struct {
		name string
		at   P
		max  int
		want []int // id, position, id, position …
	}{
		{"a system", P{at(system(1), 0), at(system(2), 0), at(system(1), 2)}, 99, []int{1, 0, 2, 0, 3, 1, 4, 0, 4, 2, 5, 1}},
		{"the later place first", P{at(system(1), 2), at(system(1), 0)}, 99, []int{1, 1, 2, 1, 4, 0, 4, 1}},
		{"the same place", P{at(system(2), 3), at(system(2), 3)}, 99, []int{5, 0, 5, 1}},
		{"a pilot", P{at(seven, 3), at(seven, 0), at(seven, 1)}, 99, []int{1, 1, 3, 1, 3, 2, 4, 0, 4, 1, 4, 2}},
		{"all", P{at(killfeed.All(), 4), at(killfeed.All(), 3)}, 99, []int{4, 1, 5, 0, 5, 1}},
		{"max counts events", P{at(seven, 0), at(seven, 0), at(system(1), 0)}, 2, []int{1, 0, 1, 1, 1, 2, 2, 2}},
	}
	s.reopened(func(when string) {
		for _, tt := range tests {
			var got []int
			for _, e := range s.find(killfeed.Query{Positions: tt.at, Through: 5, Max: tt.max}) {
				got = append(got, int(e.ID), int(e.Position))
			}
			if !slices.Equal(got, tt.want) {
				t.Errorf("%s, %s: got (id, position …) %v, want %v", when, tt.name, got, tt.want)
			}
		}
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
		b.Events = append(b.Events, s.event(i+1, uint32(1+i*250), kill(killfeed.KindCharacter, uint32(1+i*250))))
	}
	s.apply(&b)
	for _, kind := range []killfeed.TopicKind{killfeed.KindSystem, killfeed.KindCharacter | killfeed.RoleKill} {
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
	seven := kill(killfeed.KindCharacter, 7)
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
		for _, topics := range [][]killfeed.Topic{
			{system(5)}, {system(5), seven}, {seven}, {killfeed.Label("every")}, {killfeed.All()},
		} {
			var got, want []killfeed.EventID
			for i := removed; i < n; i++ {
				if topics[0].Kind == killfeed.KindLabel || topics[0].Kind == killfeed.KindAll ||
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
