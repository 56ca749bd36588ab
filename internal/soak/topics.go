//go:build linux

package main

import (
	"maps"
	"slices"
	"strings"

	"killfeed"
)

// topicSet is what a feed asks for. It is not changed.
type topicSet struct {
	topics  map[killfeed.Topic]bool
	all     bool
	systems map[uint32]bool // those of topics that are systems: the ones that a killmail is looked for first
	others  int             // how many are none, and not all
}

func newTopicSet(topics ...killfeed.Topic) *topicSet {
	s := &topicSet{topics: map[killfeed.Topic]bool{}, systems: map[uint32]bool{}}
	for _, t := range topics {
		if s.topics[t] {
			continue
		}
		s.topics[t] = true
		switch t.Kind {
		case killfeed.KindAll:
			s.all = true
		case killfeed.KindSystem:
			s.systems[t.ID] = true
		default:
			s.others++
		}
	}
	return s
}

// changed returns the set with some topics less and others more. What is among both is in it.
func (s *topicSet) changed(less, more *topicSet) *topicSet {
	var topics []killfeed.Topic
	for t := range s.topics {
		if !less.topics[t] {
			topics = append(topics, t)
		}
	}
	return newTopicSet(slices.AppendSeq(topics, maps.Keys(more.topics))...)
}

// has tells whether a killmail is on one of the topics.
func (s *topicSet) has(m *mail) bool {
	if s.all || s.systems[m.system] {
		return true
	}
	if s.others > 0 {
		for _, t := range m.topics {
			if s.topics[t] {
				return true
			}
		}
	}
	return false
}

// len is how many topics there are.
func (s *topicSet) len() int { return len(s.topics) }

// systemList returns the systems, ascending.
func (s *topicSet) systemList() []uint32 { return slices.Sorted(maps.Keys(s.systems)) }

// names returns the names of the topics that are no systems.
func (s *topicSet) names() []string {
	var names []string
	for t := range s.topics {
		if t.Kind != killfeed.KindSystem {
			names = append(names, t.String())
		}
	}
	slices.Sort(names)
	return names
}

// String is for messages.
func (s *topicSet) String() string {
	names := s.names()
	for _, id := range s.systemList() {
		if len(names) == 4 {
			names = append(names, "…")
			break
		}
		names = append(names, killfeed.System(id).String())
	}
	return strings.Join(names, " ")
}

// wanted is what a feed asked for at which place in the log.
type wanted struct{ spans []span }

// span begins with an event and ends where the next one begins. other is not nil when it is not known whether it is one set or
// the other that the server went by.
type span struct {
	from       uint64
	set, other *topicSet
}

// change has a set hold from an event on.
func (w *wanted) change(from uint64, set *topicSet) { w.begin(span{from: from, set: set}) }

// unsure has the set before, or another, hold from an event on.
func (w *wanted) unsure(from uint64, other *topicSet) {
	w.begin(span{from: from, set: w.spans[len(w.spans)-1].set, other: other})
}

func (w *wanted) begin(s span) {
	for n := len(w.spans); n > 0 && w.spans[n-1].from >= s.from; n-- {
		w.spans = w.spans[:n-1]
	}
	w.spans = append(w.spans, s)
}

// at tells whether an event must come, and whether it may. Calls must not go back to an earlier event.
func (w *wanted) at(event uint64, m *mail) (must, may bool) {
	for len(w.spans) > 1 && w.spans[1].from <= event {
		w.spans = w.spans[1:]
	}
	s := &w.spans[0]
	must = s.set.has(m)
	may = must
	if s.other != nil {
		other := s.other.has(m)
		must, may = must && other, may || other
	}
	return must, may
}
