//go:build linux

package main

import (
	"fmt"
	"math"
	"math/rand/v2"
	"strconv"
	"time"

	"killfeed"
)

// systems is how many solar systems there are. The busiest has a share of 1/6.6 of all killmails.
const systems = 400

// share is a part of the whole and what it is.
type share[T any] struct {
	percent float64
	is      T
}

// drawn returns one of the shares for a number from 0 to 1.
func drawn[T any](shares []share[T], at float64) T {
	for _, s := range shares {
		if at -= s.percent / 100; at < 0 {
			return s.is
		}
	}
	return shares[0].is
}

// subject is what a subscriber is about.
type subject int

const (
	aboutHot     subject = iota // the busiest system
	aboutSystems                // one to three systems, on a channel each where there are channels
	aboutMany                   // hundreds of systems, changed at run time where that can be
	aboutPeople                 // labels, characters, ships, alliances
	aboutAll                    // everything
	aboutDurable                // any of these but many, with a client name
)

var (
	// Few are about everything: each of those costs as much as a hundred others, and the load is to be modest.
	subjectsHealthy = []share[subject]{
		{24, aboutHot}, {42, aboutSystems}, {10, aboutMany}, {12, aboutPeople}, {5, aboutAll}, {7, aboutDurable},
	}
	subjectsSlow      = []share[subject]{{75, aboutHot}, {25, aboutAll}}
	subjectsStalled   = []share[subject]{{50, aboutHot}, {50, aboutAll}}
	transportsHealthy = []share[transport]{{62, socketV2}, {10, socketV1}, {14, sse}, {10, ndjson}, {2, longpoll}, {2, poll}}
	transportsBad     = []share[transport]{{70, socketV2}, {20, sse}, {10, ndjson}}
	keepsDurable      = []share[keep]{{40, byDelivering}, {40, byCommits}, {20, byBoth}}
)

// populate makes the subscribers. Which is what depends on their number alone, and each share has its part at any size; rnd
// only chooses among topics.
func (w *world) populate(rnd *rand.Rand) {
	n := w.config.subscribers
	stalls, slows := n*w.config.stalled/100, n*w.config.slow/100
	for i := range n {
		s := &subscriber{world: w, index: i, manner: healthy}
		switch {
		case i < stalls:
			s.manner = stalled
		case i < stalls+slows:
			s.manner = slow
		default:
			w.healthy++
		}
		w.subscribers = append(w.subscribers, s)
		w.settle(s, rnd)
	}
}

// settle decides what a subscriber is.
func (w *world) settle(s *subscriber, rnd *rand.Rand) {
	// Multiples of irrational numbers, without their whole part, are spread evenly, however many one takes of them.
	part := func(irrational float64) float64 {
		_, rest := math.Modf(float64(s.index+1) * irrational)
		return rest
	}
	x, y, z := part(math.Phi), part(math.Sqrt2), part(math.Sqrt(3))
	var about subject
	k := byCursor
	switch s.manner {
	case healthy:
		about, s.transport = drawn(subjectsHealthy, x), drawn(transportsHealthy, y)
		if about == aboutDurable {
			k = drawn(keepsDurable, z)
			about = []subject{aboutHot, aboutSystems, aboutAll, aboutPeople, aboutMany}[s.index%5]
			if s.transport == poll {
				s.transport = socketV2
			}
		}
	case slow:
		about, s.transport = drawn(subjectsSlow, x), drawn(transportsBad, y)
		s.rest = w.rest(about)
	case stalled:
		about, s.transport = drawn(subjectsStalled, x), drawn(transportsBad, y)
		s.naps = nap(s.index % int(naps))
	}
	s.name = fmt.Sprintf("%s %d (%s)", mannerNames[s.manner], s.index, transportNames[s.transport])
	channels := s.transport == socketV2 || s.transport == socketV1 || s.transport == longpoll
	var sets [][]killfeed.Topic
	switch about {
	case aboutHot:
		sets = [][]killfeed.Topic{w.systems[:1]}
	case aboutSystems:
		some := someOf(rnd, w.systems[1:], 1+rnd.IntN(3))
		sets = [][]killfeed.Topic{some}
		if channels && k == byCursor {
			sets = sets[:0]
			for i := range some {
				sets = append(sets, some[i:i+1])
			}
		}
	case aboutMany:
		sets = [][]killfeed.Topic{someOf(rnd, w.systems[1:], 100+rnd.IntN(250))}
	case aboutPeople:
		sets = [][]killfeed.Topic{people(rnd, 1+3*(s.index%2))}
	case aboutAll:
		sets = [][]killfeed.Topic{{killfeed.All()}}
	}
	for i, topics := range sets {
		for _, t := range topics {
			if t.Kind != killfeed.KindSystem {
				w.asked[t] = true
			}
		}
		f := &feed{world: w, name: s.name, keep: k, start: "latest", set: newTopicSet(topics...)}
		if len(topics) == 1 && about != aboutMany {
			f.topic = topics[0].String()
		} else {
			f.topic = topicMany
		}
		if k != byCursor {
			f.client = "soak-" + strconv.Itoa(s.index)
		}
		// Those that stall shall have much to take at once.
		if s.manner == stalled || s.manner == slow && s.index%2 == 0 || s.transport == poll {
			f.start = "earliest"
		}
		if len(sets) > 1 {
			f.name = fmt.Sprintf("%s channel %d", s.name, i+1)
		}
		f.name += " on " + f.set.String()
		if k != byCursor {
			f.name += [...]string{byBoth: ", durable with cursor", byCommits: ", durable by commits", byDelivering: ", durable"}[k]
		}
		f.timed = s.manner == healthy && k == byCursor && s.transport != longpoll && s.transport != poll
		f.ledger = f.ledgerFor(k, f.set)
		s.feeds = append(s.feeds, f)
	}
}

// rest is the pause behind each event of a slow subscriber: so long that half of the events come meanwhile.
func (w *world) rest(about subject) time.Duration {
	c := &w.config
	perSecond := c.rate + float64(c.burst)/c.burstEvery.Seconds()
	if about == aboutHot {
		sum := 0.0
		for n := range systems {
			sum += 1 / float64(n+1)
		}
		perSecond /= sum
	}
	return time.Duration(2 / perSecond * float64(time.Second))
}

// people returns topics that are no systems.
func people(rnd *rand.Rand, n int) []killfeed.Topic {
	labels := []string{"solo", "#:2+", "#:5+", "#:10+", "loc:highsec", "loc:w-space", "tz:eu", "tz:ru"}
	topics := []killfeed.Topic{killfeed.Label(labels[rnd.IntN(len(labels))])}
	for len(topics) < n {
		var t killfeed.Topic
		switch rnd.IntN(3) {
		case 0:
			t = killfeed.Topic{Kind: killfeed.KindShip, ID: 582 + rnd.Uint32N(400)}
		case 1:
			t = killfeed.Topic{Kind: killfeed.KindAlliance, ID: 99_000_000 + rnd.Uint32N(4096)}
		case 2:
			t = killfeed.Topic{Kind: killfeed.KindCharacter, ID: 90_000_000 + rnd.Uint32N(1<<20)}
		}
		t.Kind |= [...]killfeed.TopicKind{0, 0, killfeed.RoleLoss, killfeed.RoleKill}[rnd.IntN(4)]
		topics = append(topics, t)
	}
	return topics
}
