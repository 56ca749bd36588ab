// Package demo makes believable killmails of invented pilots, for a server that shows what it does without a network.
//
// A Generator tells a story: a cast of a few thousand pilots, in corporations and alliances with homes and grudges, hunts,
// camps, mines and dies in real solar systems. Every killmail has the shape that ESI and zKillboard give it, a valid hash,
// items, damage and values that add up, and labels that fit its content. The pace is that of a real day: one killmail every
// 5.5 s on average, three times as many in the evening (UTC) as in the morning, and bursts when fleets meet.
//
// What it guarantees:
//
//   - Killmails come in the order of their ids, and none is told twice, across restarts too when Options.After is set.
//   - A killmail's own time is before its publication, by seconds or a few minutes.
//   - The same Options and clock give the same killmails.
//   - Nothing can be taken for real data: see IsDemo, the ids of the cast, and the member "demo":true of each zkb. There is no
//     href and no locationID in it: nothing could be fetched there.
//
// The caller waits and inserts: it calls Back once when the log is new, inserts what that returns, then calls Next again and
// again, and inserts each killmail at the time that came with it. A demo must not share a log with real killmails.
package demo

import (
	"fmt"
	"math"
	"math/rand/v2"
	"time"

	"killfeed"
)

// Killmail ids of demos. Real ones have nine digits, about 137 million in 2026, and rise by ten million a year. A demo's stay
// below 2^31, which many tools need, until 2035.
const (
	FirstID = 1_000_000_000
	LastID  = 9_999_999_999
)

// MaxRate is the greatest Options.Rate.
const MaxRate = 10_000

// IsDemo tells a demo's killmail from a real one, by its id. One without an id is not a demo's.
func IsDemo(k *killfeed.Killmail) bool { return IsDemoID(k.ID) }

// IsDemoID is IsDemo for a killmail of which only the id is at hand, as in an event.
func IsDemoID(id int64) bool { return id >= FirstID && id <= LastID }

// Options of a Generator. The zero value works.
type Options struct {
	// Seed decides what happens. Who is in the cast does not depend on it.
	Seed uint64
	// Rate speeds the story up or slows it down as a whole, like a film: at 10 a fight of ten minutes takes one, and one
	// killmail comes every 0.55 s on average. What is not above 0 is taken as 1, and what is above MaxRate as MaxRate.
	Rate float64
	// Now is the clock, time.Now when nil.
	Now func() time.Time
	// After is the greatest killmail id that the log has had from a demo, known from its last event or a checkpoint: ids go on
	// behind it. When it is 0 they depend on the clock alone, which suffices after a restart as long as Rate is at most 5 and
	// always was.
	After int64
}

// Generator tells a story. It is used by one goroutine at a time.
type Generator struct {
	now   func() time.Time
	rate  float64
	seed  uint64
	after int64

	story *story // nil until the first killmail is wanted
	// start is when the story's time was 0. It moves when the clock runs away.
	start time.Time
	id    int64 // of the killmail told last
	page  page
}

// New makes a Generator whose story begins when it is first asked for a killmail.
func New(o Options) *Generator {
	g := &Generator{now: o.Now, rate: o.Rate, seed: o.Seed, after: o.After}
	if g.now == nil {
		g.now = time.Now
	}
	if !(g.rate > 0) {
		g.rate = 1
	}
	g.rate = min(g.rate, MaxRate)
	return g
}

// Back returns what would have been published in the time d before now, at the rate of the generator, in order: about 650
// killmails for an hour at rate 1. They are to be inserted before those of Next, which then goes on with the same story. Back
// is for the first start on an empty log. It returns nothing after Next was called.
func (g *Generator) Back(d time.Duration) []*killfeed.Killmail {
	if g.story != nil || d <= 0 {
		return nil
	}
	now := g.now()
	g.begin(now.Add(-d))
	var past []*killfeed.Killmail
	for g.wall(g.story.due()).Before(now) {
		past = append(past, g.tell(g.story.next()))
	}
	return past
}

// Next returns the next killmail and when it is to be published; that may have passed already. When it passed more than a
// minute ago, because the machine slept or the caller was stopped, the story goes on from now instead: a demo has nothing to
// catch up on.
func (g *Generator) Next() (k *killfeed.Killmail, at time.Time) {
	if g.story == nil {
		g.begin(g.now())
	}
	l := g.story.next()
	at = g.wall(l.due)
	if late := g.now().Sub(at); late > time.Minute {
		g.start = g.start.Add(late)
		at = at.Add(late)
	}
	return g.tell(l), at
}

// begin opens the story at t. Its randomness depends on the first id, so that a restart does not tell the same again.
func (g *Generator) begin(t time.Time) {
	// Without a monotonic reading, which stops while the machine sleeps: times of killmails are wall times.
	g.start = t.Round(0).UTC()
	const perSecond = 4 // ids; the story needs a third of one on average at rate 1
	epoch := time.Date(2026, time.January, 1, 0, 0, 0, 0, time.UTC)
	g.id = max(FirstID+int64(g.start.Sub(epoch)/(time.Second/perSecond)), FirstID, g.after)
	g.story = newStory(rand.New(rand.NewPCG(g.seed, uint64(g.id))), func(at time.Duration) float64 {
		return tide(g.wall(at))
	})
}

// wall is the time of the clock at a moment of the story.
func (g *Generator) wall(at time.Duration) time.Time {
	return g.start.Add(time.Duration(float64(at) / g.rate))
}

// tide is how busy an hour of the day is, 1 on average: most in the evening of Europe, least in its morning.
func tide(t time.Time) float64 {
	t = t.UTC()
	hour := float64(t.Hour()) + float64(t.Minute())/60
	return 1 + 0.5*math.Cos((hour-20)*math.Pi/12)
}

// tell makes a loss a killmail.
func (g *Generator) tell(l *loss) *killfeed.Killmail {
	r := g.story.rng
	g.id++
	for r.IntN(10) < 3 { // losses that nobody publishes have ids too
		g.id++
	}
	text := g.page.write(g.story, l, g.id, g.wall(l.died))
	k, err := killfeed.ParseItem(text)
	if err != nil {
		panic(fmt.Sprintf("demo: made a killmail that is none, %s: %v", text, err))
	}
	return k
}
