package demo

import (
	"container/heap"
	"math"
	"math/rand/v2"
	"time"
)

// A story is a row of scenes that overlap. Each is written to its end when it begins: who dies when and by whom. The losses
// wait in order of publication until they are told. Times are since the story began, at rate 1; before 0 nothing is told,
// but scenes that began then are still going on.
type story struct {
	rng  *rand.Rand
	tide func(time.Duration) float64

	cast  *cast
	ships []ship
	hull  map[uint32]uint8 // index in ships by type

	// busy is until when a pilot takes part in a scene, so that nobody is in two places at once.
	busy []time.Duration
	// curtain is when the next scene begins.
	curtain time.Duration
	// coming are losses that are written and not told.
	coming losses
	// seq counts losses, to keep those of one moment in order.
	seq uint64

	space [spaces][]int     // systems, by kind of space
	trade [rookie + 1][]int // corporations, by trade
}

// actor is a participant of a loss.
type actor struct {
	pilot int16 // -1: nobody
	corp  int16 // -1: NPCs
	ship  uint8 // index in story.ships, or in npcs when there is no corporation
}

// loss is a killmail before it is written.
type loss struct {
	died, due time.Duration
	seq       uint64
	system    int
	spot      [3]float64
	war       uint32
	victim    actor
	attackers []actor
	// riches multiplies what is in the cargo.
	riches float64
	// wrapped: the cargo has things packed in plastic, in which there are more.
	wrapped bool
}

// losses is a heap, the next one to tell on top.
type losses []*loss

func (h losses) Len() int { return len(h) }
func (h losses) Less(i, j int) bool {
	return h[i].due < h[j].due || h[i].due == h[j].due && h[i].seq < h[j].seq
}
func (h losses) Swap(i, j int) { h[i], h[j] = h[j], h[i] }
func (h *losses) Push(x any)   { *h = append(*h, x.(*loss)) }
func (h *losses) Pop() any {
	old := *h
	l := old[len(old)-1]
	old[len(old)-1] = nil
	*h = old[:len(old)-1]
	return l
}

const (
	// meanGap is between two killmails, over a day.
	meanGap = 5500 * time.Millisecond
	// lossesPerScene was measured; a test holds the story to meanGap.
	lossesPerScene = 2.65
	// overture is about what the longest scene needs from its beginning to its last publication: with it, the story is in
	// full swing when it is first told.
	overture = 45 * time.Minute
	// engaged is how long a pilot has no time for another scene.
	engaged = 30 * time.Minute
)

func newStory(rng *rand.Rand, tide func(time.Duration) float64) *story {
	s := &story{rng: rng, tide: tide, cast: newCast(), curtain: -overture}
	s.ships, s.hull = fleet()
	s.busy = make([]time.Duration, len(s.cast.pilots))
	for i := range s.busy {
		s.busy[i] = s.curtain
	}
	for i := range systems {
		at := spaceOf(&systems[i])
		s.space[at] = append(s.space[at], i)
	}
	for t := range s.trade {
		s.trade[t] = corporationsOf(trade(t))
	}
	return s
}

// due is when the next loss will be told.
func (s *story) due() time.Duration {
	for {
		for len(s.coming) == 0 || s.curtain <= s.coming[0].due {
			s.play()
		}
		if s.coming[0].due >= 0 {
			return s.coming[0].due
		}
		heap.Pop(&s.coming)
	}
}

// next takes the next loss.
func (s *story) next() *loss {
	s.due()
	return heap.Pop(&s.coming).(*loss)
}

// play writes one scene and sets the curtain for the next.
func (s *story) play() {
	n := s.rng.IntN(plots[len(plots)-1].upTo)
	for i := range plots {
		if n < plots[i].upTo {
			plots[i].write(s)
			break
		}
	}
	gap := s.rng.ExpFloat64() * float64(meanGap) * lossesPerScene / s.tide(s.curtain)
	s.curtain += time.Duration(gap)
}

// space is a kind of space.
type space uint8

const (
	high space = iota
	low
	null
	wormhole
	abyss
	pochven
	spaces
)

func spaceOf(s *System) space {
	switch {
	case s.RegionID >= 12_000_000:
		return abyss
	case s.RegionID >= 11_000_000:
		return wormhole
	case s.RegionID == 10_000_070:
		return pochven
	case s.Security >= 0.45:
		return high
	case s.Security > 0:
		return low
	}
	return null
}

// chance is true with probability p.
func (s *story) chance(p float64) bool { return s.rng.Float64() < p }

// between is from from to to, both included, the smaller the likelier.
func (s *story) between(from, to int) int {
	x := s.rng.Float64()
	return from + int(x*x*float64(to-from+1))
}

func one[T any](s *story, list []T) T { return list[s.rng.IntN(len(list))] }

// scene is a place and a time at which things happen.
type scene struct {
	*story
	system int
	spot   [3]float64
	war    uint32
	// clock is how far the scene has come.
	clock time.Duration
	// delay is how long a loss takes until it is published. told is when the last one will be.
	delay, told time.Duration
	// batch: the losses of this scene are published in batches so far apart, as when many are fetched at once.
	batch time.Duration
}

// open begins a scene in a system.
func (s *story) open(system int) *scene {
	c := &scene{story: s, system: system, clock: s.curtain, told: s.curtain}
	c.delay = 4*time.Second + time.Duration(s.rng.ExpFloat64()*float64(50*time.Second))
	if s.chance(0.02) {
		c.delay += time.Duration(s.rng.Int64N(int64(12 * time.Minute)))
	}
	c.delay = min(c.delay, 12*time.Minute)
	c.move()
	return c
}

// move goes to another place of the system: a gate, planet or station. Each system has a few, always the same.
func (c *scene) move() {
	if spaceOf(&systems[c.system]) == abyss { // there all is in one corner
		for i := range c.spot {
			c.spot[i] = -1.49597e13 + c.rng.Float64()*1e9
		}
		return
	}
	h := spread(systems[c.system].ID*8 + uint32(c.rng.IntN(7)))
	angle := float64(h&0xffff) / 0x10000 * 2 * math.Pi
	far := 4e10 * math.Exp(float64(h>>16)/0x10000*4.5) // 0.3 to 24 AU from the sun
	c.spot = [3]float64{far * math.Cos(angle), far * 0.08 * math.Sin(3*angle), far * math.Sin(angle)}
}

// wait lets about mean pass, at most three times that.
func (c *scene) wait(mean time.Duration) {
	c.clock += time.Second + time.Duration(min(c.rng.ExpFloat64(), 3)*float64(mean))
}

// recruit engages n pilots of the corporations who have nothing to do; fewer when there are not so many.
func (c *scene) recruit(n int, corps ...int) []int16 {
	pilots := make([]int16, 0, n)
	until := c.curtain + engaged
	for tries := 0; len(corps) > 0 && len(pilots) < n && tries < 3*n+8; tries++ {
		corp := corps[c.rng.IntN(len(corps))]
		from, to := c.cast.first[corp], c.cast.first[corp+1]
		p := from + int16(c.rng.IntN(int(to-from)))
		if c.busy[p] <= c.curtain {
			c.busy[p] = until
			pilots = append(pilots, p)
		}
	}
	return pilots
}

// crew recruits n pilots and puts each into a ship of one of the types.
func (c *scene) crew(n int, hulls []uint32, corps ...int) []actor {
	crew := make([]actor, 0, n)
	for _, p := range c.recruit(n, corps...) {
		crew = append(crew, c.in(p, one(c.story, hulls)))
	}
	return crew
}

// in is a pilot in a ship.
func (s *story) in(p int16, hull uint32) actor {
	return actor{pilot: p, corp: s.cast.pilots[p].corp, ship: s.hull[hull]}
}

// owned is a thing of a corporation that nobody flies.
func (s *story) owned(corp int, hull uint32) actor {
	return actor{pilot: -1, corp: int16(corp), ship: s.hull[hull]}
}

// shooter is one of npcs.
func shooter(n int) actor { return actor{pilot: -1, corp: -1, ship: uint8(n)} }

// dies writes a loss that happens now. The attackers must not change any more.
func (c *scene) dies(victim actor, attackers ...actor) *loss {
	jitter := time.Duration(c.rng.ExpFloat64() * float64(4*time.Second))
	due := max(c.clock+c.delay+jitter, c.told)
	if c.batch > 0 {
		due = (due + c.batch - 1).Truncate(c.batch)
	}
	c.told = due
	l := &loss{died: c.clock, due: due, seq: c.seq, system: c.system, spot: c.spot, war: c.war, victim: victim,
		attackers: attackers, riches: 1}
	c.seq++
	heap.Push(&c.coming, l)
	return l
}

// pod may write that the pilot of a loss dies a moment later too, by some of the attackers.
func (c *scene) pod(l *loss, p float64) {
	if l.victim.pilot < 0 || !c.chance(p) {
		return
	}
	n := min(len(l.attackers), c.between(1, 3))
	first := c.rng.IntN(len(l.attackers) - n + 1)
	longest := 6 * time.Second
	if c.batch > 0 { // in a battle others die meanwhile
		longest = time.Second
	}
	c.clock += time.Second + time.Duration(c.rng.Int64N(int64(longest)))
	c.dies(c.in(l.victim.pilot, capsule), l.attackers[first:first+n:first+n]...)
}
