package storetest

import (
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"killfeed"
)

func testClients(t *testing.T, s *subject) {
	s.commit(1, 2, 3)
	names := []string{
		"a", "ab", "a b", "a:b", "a/b", "b", "B", "ä€😀", `"quoted" \ back`, "%41", "-1", "system:1", "0",
		strings.Repeat("n", killfeed.MaxClientName), strings.Repeat("n", killfeed.MaxClientName-1), strings.Repeat("€", 42),
	}
	topics := []killfeed.Topic{
		killfeed.All(), system(1), system(killfeed.MaxID), on(killfeed.KindCharacter, 1), on(killfeed.KindShip, 1),
		// Clients keep offsets on what they ask for, whatever it is stored under.
		loss(killfeed.KindShip, 1), kill(killfeed.KindShip, 1), loss(killfeed.KindCharacter, killfeed.MaxID),
		on(killfeed.KindConstellation, 1), on(killfeed.KindRegion, 1), on(killfeed.KindSpace, uint32(killfeed.SpaceAbyssal)),
		on(killfeed.KindGroup, 25), loss(killfeed.KindGroup, 25), kill(killfeed.KindGroup, 25),
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
