package demo_test

import (
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"killfeed"
	"killfeed/ingest/demo"
)

// clock is a time that a caller of a Generator moves, as if it waited.
type clock struct{ time.Time }

func (c *clock) now() time.Time { return c.Time }

// follow publishes what g makes in the time d, as a server does, without waiting.
func follow(c *clock, g *demo.Generator, d time.Duration) (published []*killfeed.Killmail, times []time.Time) {
	end := c.Add(d)
	for {
		k, at := g.Next()
		if at.After(end) {
			c.Time = end
			return published, times
		}
		if at.After(c.Time) {
			c.Time = at
		}
		published, times = append(published, k), append(times, at)
	}
}

func median(list []int) int {
	list = slices.Sorted(slices.Values(list))
	return list[len(list)/2]
}

// TestPace holds the story to the volumes and proportions of real days, within what chance may do in one.
func TestPace(t *testing.T) {
	w := newWorld()
	c := &clock{time.Date(2026, time.November, 20, 0, 0, 0, 0, time.UTC)}
	from := c.Time
	const days = 1
	killmails, times := follow(c, demo.New(demo.Options{Seed: 7, Now: c.now}), days*24*time.Hour)

	hours, minutes, byHour := map[int]int{}, map[int]int{}, map[int]int{}
	for _, at := range times {
		hours[int(at.Sub(from)/time.Hour)]++
		minutes[int(at.Sub(from)/time.Minute)]++
		byHour[at.Hour()]++
	}
	var attackers, items, bytes []int
	tally, victims := map[string]int{}, map[uint32]int{}
	for _, k := range killmails {
		m := decode(t, k)
		attackers, items, bytes = append(attackers, len(m.Attackers)), append(items, len(m.Victim.Items)), append(bytes, len(k.JSON))
		victims[m.Victim.CharacterID]++
		for _, label := range m.ZKB.Labels {
			tally[label]++
		}
		tally["group:"+w.types[m.Victim.ShipTypeID].Group]++
		tally["category:"+w.types[m.Victim.ShipTypeID].Category]++
		tally["region:"+w.systems[k.SystemID].Region]++
		if m.WarID != 0 {
			tally["war"]++
		}
		if slices.ContainsFunc(m.Victim.Items, func(i thing) bool { return i.Items != nil }) {
			tally["wrapped"]++
		}
	}
	n := float64(len(killmails))
	share := func(what string) float64 { return float64(tally[what]) / n }
	peak := func(m map[int]int) (most float64) {
		for _, n := range m {
			most = max(most, float64(n))
		}
		return most
	}
	slices.Sort(attackers)
	returning := 0
	for _, n := range victims {
		if n > 1 {
			returning++
		}
	}
	for _, q := range []struct {
		what     string
		got      float64
		from, to float64
	}{
		{"seconds between two", days * 86400 / n, 5, 6},
		{"in the busiest hour", peak(hours), 900, 1700},
		{"in the busiest minute", peak(minutes), 35, 250},
		{"at 20:00 for one at 08:00", float64(byHour[20]) / float64(byHour[8]), 1.7, 6},
		{"median of attackers", float64(median(attackers)), 2, 2},
		{"attackers at the 99th percentile", float64(attackers[len(attackers)*99/100]), 25, 120},
		{"attackers at most", float64(attackers[len(attackers)-1]), 100, 700},
		{"median of items", float64(median(items)), 10, 18},
		{"median of bytes", float64(median(bytes)), 1500, 2600},
		{"NPCs", share("npc"), 0.1, 0.2},
		{"solo", share("solo"), 0.1, 0.3},
		{"pods", share("group:Capsule"), 0.2, 0.32},
		{"high security", share("loc:highsec"), 0.05, 0.15},
		{"low security", share("loc:lowsec"), 0.18, 0.32},
		{"null security", share("loc:nullsec"), 0.4, 0.6},
		{"wormholes", share("loc:w-space"), 0.08, 0.16},
		{"the abyss", share("loc:abyssal"), 0.02, 0.06},
		{"by CONCORD", share("concord"), 0.01, 0.06},
		{"faction warfare", share("fw:calgal") + share("fw:amamin"), 0.04, 0.12},
		{"from friends", share("awox"), 0.003, 0.015},
		{"structures", float64(tally["category:Structure"]), 10, 200},
		{"deployables", share("category:Deployable"), 0.02, 0.06},
		{"capital ships", float64(tally["capital"]), 10, 300},
		{"freighters", float64(tally["group:Freighter"]), 10, 200},
		{"packages", float64(tally["wrapped"]), 5, 200},
		{"in wars", float64(tally["war"]), 50, 900},
		{"above a billion ISK", share("isk:1b+"), 0.002, 0.03},
		{"pilots who die again", float64(returning), 1000, 5000},
	} {
		if q.got < q.from || q.got > q.to {
			t.Errorf("%s: %.4g, want %.4g to %.4g", q.what, q.got, q.from, q.to)
		}
	}
	for _, s := range demo.Systems() {
		if tally["region:"+s.Region] == 0 {
			t.Errorf("nothing happens in %s", s.Region)
		}
	}
	for _, typ := range demo.Types() {
		if typ.Category == "Ship" && tally["group:"+typ.Group] == 0 {
			t.Errorf("no %s is ever lost", typ.Group)
		}
	}
}

// TestRate: the rate speeds everything up, and what the generator takes for it is what is documented.
func TestRate(t *testing.T) {
	count := func(rate float64, d time.Duration) float64 {
		c := &clock{evening}
		killmails, _ := follow(c, demo.New(demo.Options{Seed: 3, Rate: rate, Now: c.now}), d)
		return float64(len(killmails))
	}
	one := count(1, 2*time.Hour)
	for _, c := range []struct {
		rate float64
		d    time.Duration
	}{{10, 12 * time.Minute}, {0.25, 8 * time.Hour}, {600, 12 * time.Second}} {
		if n := count(c.rate, c.d); n < one*0.65 || n > one*1.5 {
			t.Errorf("rate %v makes %v killmails in %v, want about the %v of rate 1 in two hours", c.rate, n, c.d, one)
		}
	}
	if n := count(-1, 2*time.Hour); n != one {
		t.Errorf("rate -1 makes %v killmails, want those of rate 1, %v", n, one)
	}
	if a, b := count(2*demo.MaxRate, time.Second), count(demo.MaxRate, time.Second); a != b {
		t.Errorf("twice the greatest rate makes %v killmails, want those of the greatest, %v", a, b)
	}
}

func TestDeterministic(t *testing.T) {
	tell := func(o demo.Options) string {
		o.Now = at(evening)
		g := demo.New(o)
		var all strings.Builder
		for range 300 {
			k, at := g.Next()
			all.WriteString(at.String())
			all.Write(k.JSON)
		}
		return all.String()
	}
	story := tell(demo.Options{Seed: 5})
	if tell(demo.Options{Seed: 5}) != story {
		t.Error("the same seed tells another story")
	}
	if tell(demo.Options{Seed: 6}) == story {
		t.Error("another seed tells the same story")
	}
	// A server that is started again must not tell what it told before.
	if tell(demo.Options{Seed: 5, After: 2_000_000_000}) == story {
		t.Error("the story begins again after a restart")
	}
}

func TestRestart(t *testing.T) {
	for _, c := range []struct {
		name     string
		rate     float64
		remember bool
		d        time.Duration // of a run
	}{
		{"the clock alone", 1, false, 20 * time.Minute},
		{"the clock alone, five times as fast", 5, false, 6 * time.Minute},
		{"remembered", 1, true, 20 * time.Minute},
		{"remembered, a thousand times as fast", 1000, true, 2 * time.Second},
	} {
		t.Run(c.name, func(t *testing.T) {
			clock := &clock{evening}
			last := int64(0)
			for run := range 4 {
				o := demo.Options{Seed: 1, Rate: c.rate, Now: clock.now}
				if c.remember {
					o.After = last
				}
				killmails, _ := follow(clock, demo.New(o), c.d)
				for _, k := range killmails {
					if k.ID <= last {
						t.Fatalf("run %d: id %d comes after %d", run, k.ID, last)
					}
					if !demo.IsDemo(k) {
						t.Fatalf("run %d: id %d is no demo's", run, k.ID)
					}
					last = k.ID
				}
			}
		})
	}
}

func TestBack(t *testing.T) {
	c := &clock{evening}
	g := demo.New(demo.Options{Seed: 1, Now: c.now})
	past := g.Back(time.Hour)
	if len(past) < 400 || len(past) > 1700 {
		t.Errorf("an hour has %d killmails, want about 900", len(past))
	}
	last := int64(0)
	for _, k := range past {
		if k.ID <= last || !k.Time.Before(evening) || k.Time.Before(evening.Add(-2*time.Hour)) {
			t.Errorf("killmail %d of %v follows %d, want rising ids and times in the hour before %v", k.ID, k.Time, last, evening)
		}
		last = k.ID
	}
	k, at := g.Next()
	if k.ID <= last || at.Before(evening) || at.After(evening.Add(2*time.Minute)) {
		t.Errorf("the story goes on with %d at %v, want an id above %d at %v or soon after", k.ID, at, last, evening)
	}
	if again := g.Back(time.Hour); again != nil {
		t.Errorf("Back after Next returns %d killmails, want none", len(again))
	}
	if none := demo.New(demo.Options{}).Back(0); none != nil {
		t.Errorf("Back(0) returns %d killmails, want none", len(none))
	}
}

// TestSleep: a machine that slept does not have to catch up.
func TestSleep(t *testing.T) {
	c := &clock{evening}
	g := demo.New(demo.Options{Seed: 1, Now: c.now})
	follow(c, g, 10*time.Minute)
	c.Time = c.Add(8 * time.Hour)
	killmails, times := follow(c, g, 10*time.Minute)
	if n := len(killmails); n < 20 || n > 500 {
		t.Errorf("%d killmails in the ten minutes after a night, want what ten minutes have", n)
	}
	for i, k := range killmails {
		if late := c.Sub(times[i]); late > 10*time.Minute || times[i].Sub(k.Time) > 45*time.Minute || k.Time.After(times[i]) {
			t.Errorf("killmail %d of %v is published at %v", k.ID, k.Time, times[i])
		}
	}
}

// TestServer runs a generator in the way of a server, on a real clock that runs ahead.
func TestServer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := demo.New(demo.Options{Seed: 1, Rate: 10})
		begin, n := time.Now(), 0
		for time.Since(begin) < 10*time.Minute {
			k, at := g.Next()
			time.Sleep(time.Until(at))
			if k.Time.After(time.Now()) {
				t.Fatalf("killmail %d of %v is published at %v", k.ID, k.Time, time.Now())
			}
			n++
		}
		if n < 300 || n > 2500 {
			t.Errorf("%d killmails in ten minutes at rate 10, want about 600", n)
		}
	})
}

func TestIsDemo(t *testing.T) {
	for id, want := range map[int64]bool{
		0: false, 137_262_000: false, demo.FirstID - 1: false, demo.FirstID: true, 1_112_939_201: true, demo.LastID: true,
		demo.LastID + 1: false,
	} {
		if got := demo.IsDemo(&killfeed.Killmail{ID: id}); got != want {
			t.Errorf("IsDemo of killmail %d is %v, want %v", id, got, want)
		}
	}
}

func BenchmarkNext(b *testing.B) {
	g := demo.New(demo.Options{Seed: 1, Now: at(evening)})
	b.ReportAllocs()
	bytes := 0
	for b.Loop() {
		k, _ := g.Next()
		bytes += len(k.JSON)
	}
	b.SetBytes(int64(bytes / b.N))
}

// BenchmarkBack is what a new demo server does before it serves.
func BenchmarkBack(b *testing.B) {
	for b.Loop() {
		demo.New(demo.Options{Seed: 1, Now: at(evening)}).Back(time.Hour)
	}
}
