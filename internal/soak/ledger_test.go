//go:build linux

package main

import (
	"io"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"killfeed"
)

// broken collects violations.
type broken struct{ promises []string }

func (b *broken) violate(promise, _ string, _ ...any) { b.promises = append(b.promises, promise) }

// logOf is a log in which event n is on the system that the n-th number says.
type logOf []uint32

func (l logOf) mail(event uint64) *mail {
	system := l[event-1]
	return &mail{system: system, topics: []killfeed.Topic{killfeed.System(system)}}
}

// step is something that a ledger is told.
type step func(ledger)

func joined(start uint64) step { return func(l ledger) { l.joined(start) } }
func ended(most uint64) step   { return func(l ledger) { l.ended(ending{at: 1e12, most: most}) } }
func endedClean() step         { return func(l ledger) { l.ended(ending{at: 1e12, most: 99, clean: true}) } }
func took(events ...uint64) step {
	return func(l ledger) {
		for _, e := range events {
			l.take(e, 1e12)
		}
	}
}

// long is an event that came long before the connection ended.
func long(event uint64) step          { return func(l ledger) { l.take(event, 1e11) } }
func commits(event uint64) step       { return func(l ledger) { l.(*manual).commits(event) } }
func committed(event uint64) step     { return func(l ledger) { l.(*manual).committed(event) } }
func verified(t truth, n uint64) step { return func(l ledger) { l.verify(t, n, false) } }
func changed(from uint64, systems ...uint32) step {
	return func(l ledger) { l.(*exact).wanted.change(from, setOf(systems...)) }
}
func unsure(from uint64, systems ...uint32) step {
	return func(l ledger) { l.(*exact).wanted.unsure(from, setOf(systems...)) }
}

func setOf(systems ...uint32) *topicSet {
	var topics []killfeed.Topic
	for _, id := range systems {
		topics = append(topics, killfeed.System(id))
	}
	return newTopicSet(topics...)
}

// The log of the tables below. Odd events are on system 1, even ones on system 2.
var odd = logOf{1, 2, 1, 2, 1, 2, 1, 2, 1, 2}

func TestExact(t *testing.T) {
	for name, c := range map[string]struct {
		steps   []step
		want    []string
		missing int
	}{
		"all of it":                  {steps: []step{joined(1), took(1, 3, 5, 7, 9)}},
		"over two connections":       {steps: []step{joined(1), took(1, 3), ended(4), joined(4), took(5, 7, 9)}},
		"from the middle":            {steps: []step{joined(6), took(7, 9)}},
		"one is lost":                {steps: []step{joined(1), took(1, 3, 7, 9)}, want: []string{promiseLost}},
		"the first is lost":          {steps: []step{joined(1), took(3, 5, 7, 9)}, want: []string{promiseLost}},
		"the last is lost":           {steps: []step{joined(1), took(1, 3, 5, 7)}, want: []string{promiseLost}, missing: 1},
		"all is lost":                {steps: []step{joined(7)}, want: []string{promiseLost, promiseLost}, missing: 2},
		"lost between connections":   {steps: []step{joined(1), took(1, 3), ended(6), joined(6), took(7, 9)}, want: []string{promiseLost}},
		"one comes twice":            {steps: []step{joined(1), took(1, 3, 3, 5, 7, 9)}, want: []string{promiseOrder}},
		"doubled over connections":   {steps: []step{joined(1), took(1, 3), ended(3), joined(2), took(3, 5, 7, 9)}, want: []string{promiseOrder}},
		"doubled after the check":    {steps: []step{joined(1), took(1, 3), verified(odd, 10), took(3, 5, 7, 9)}, want: []string{promiseOrder}},
		"two change places":          {steps: []step{joined(1), took(1, 5, 3, 7, 9)}, want: []string{promiseOrder, promiseLost}},
		"one of another system":      {steps: []step{joined(1), took(1, 3, 4, 5, 7, 9)}, want: []string{promiseForeign}},
		"one before the beginning":   {steps: []step{joined(4), took(3, 5, 7, 9)}, want: []string{promiseOrder}},
		"one that was not inserted":  {steps: []step{joined(1), took(1, 3, 5, 7, 9, 11)}, want: []string{promiseInvented}},
		"lost before the check":      {steps: []step{joined(1), took(1, 5), verified(odd, 10), took(7, 9)}, want: []string{promiseLost}},
		"late is not lost":           {steps: []step{joined(1), took(1), verified(odd, 10), took(3, 5), verified(odd, 4), took(7, 9)}},
		"changed to another":         {steps: []step{joined(1), took(1, 3), changed(5, 2), took(6, 8, 10)}},
		"changed and not heeded":     {steps: []step{joined(1), took(1, 3), changed(5, 2), took(5, 6, 8, 10)}, want: []string{promiseForeign}},
		"changed, new ones lost":     {steps: []step{joined(1), took(1, 3), changed(4, 2), took(6, 8, 10)}, want: []string{promiseLost}},
		"changed, old ones lost":     {steps: []step{joined(1), took(1, 3), changed(6, 2), took(6, 8, 10)}, want: []string{promiseLost}},
		"changed or not: it was":     {steps: []step{joined(1), took(1, 3), unsure(4, 2), took(4, 6), ended(6), changed(7, 2), took(8, 10)}},
		"changed or not: it was not": {steps: []step{joined(1), took(1, 3), unsure(4, 2), took(5), ended(6), changed(6, 2), took(6, 8, 10)}},
	} {
		t.Run(name, func(t *testing.T) {
			var b broken
			l := &exact{violate: b.violate}
			l.wanted.change(0, setOf(1))
			for _, s := range c.steps {
				s(l)
			}
			if n := l.missing(odd, 10); n != c.missing {
				t.Errorf("%d events are missing, want %d", n, c.missing)
			}
			l.verify(odd, 10, true)
			if !slices.Equal(b.promises, c.want) {
				t.Errorf("broken promises %q, want %q", b.promises, c.want)
			}
		})
	}
}

func TestManual(t *testing.T) {
	for name, c := range map[string]struct {
		steps    []step
		want     []string
		missing  int
		repeated int
	}{
		"nothing committed": {steps: []step{joined(1), took(1, 3), ended(4), joined(1), took(1, 3, 5, 7, 9)}, repeated: 2},
		"committed":         {steps: []step{joined(1), took(1, 3), commits(3), committed(3), ended(4), joined(4), took(5, 7, 9)}},
		"committed, and again": {
			steps: []step{joined(1), took(1, 3), commits(3), committed(3), ended(4), joined(2), took(3, 5, 7, 9)}, want: []string{promiseCommitted},
		},
		"answer lost, taken": {steps: []step{joined(1), took(1, 3), commits(3), ended(4), joined(4), took(5, 7, 9)}},
		"answer lost, not taken": {
			steps: []step{joined(1), took(1, 3), commits(3), ended(4), joined(1), took(1, 3, 5, 7, 9)}, repeated: 2,
		},
		"answer lost, half taken": {
			steps: []step{joined(1), took(1, 3), commits(3), ended(4), joined(2), took(3, 5, 7, 9)}, want: []string{promiseLost}, repeated: 1,
		},
		"taken, then given up": {
			steps: []step{joined(1), took(1, 3), commits(3), ended(4), joined(4), took(5), ended(6), joined(1), took(1, 3, 5, 7, 9)},
			want:  []string{promiseCommitted, promiseCommitted}, repeated: 1,
		},
		"one is lost": {
			steps: []step{joined(1), took(1, 5), ended(6), joined(1), took(1, 3, 5, 7, 9)}, want: []string{promiseLost}, repeated: 3,
		},
		"lost after the resume": {
			steps: []step{joined(1), took(1), commits(1), committed(1), ended(6), joined(6), took(7, 9)}, want: []string{promiseLost, promiseLost},
		},
		"one comes twice": {steps: []step{joined(1), took(1, 3, 3, 5, 7, 9)}, want: []string{promiseOrder}},
		"foreign":         {steps: []step{joined(1), took(1, 2, 3, 5, 7, 9)}, want: []string{promiseForeign}},
		"the last is lost": {
			steps: []step{joined(1), took(1, 3, 5, 7)}, want: []string{promiseLost}, missing: 1,
		},
		"nothing comes after a commit": {
			steps: []step{joined(1), took(1, 3, 5), commits(5), committed(5), ended(9), joined(6)}, want: []string{promiseLost, promiseLost}, missing: 2,
		},
	} {
		t.Run(name, func(t *testing.T) {
			var b broken
			l := &manual{violate: b.violate, set: setOf(1)}
			for _, s := range c.steps {
				s(l)
			}
			if n := l.missing(odd, 10); n != c.missing {
				t.Errorf("%d events are missing, want %d", n, c.missing)
			}
			l.verify(odd, 10, true)
			if !slices.Equal(b.promises, c.want) || l.repeated != c.repeated {
				t.Errorf("broken promises %q, %d repeated, want %q, %d", b.promises, l.repeated, c.want, c.repeated)
			}
		})
	}
}

func TestAuto(t *testing.T) {
	for name, c := range map[string]struct {
		steps             []step
		want              []string
		missing           int
		repeated, skipped int
	}{
		"over two connections": {steps: []step{joined(1), took(1, 3), ended(4), joined(4), took(5, 7, 9)}},
		"the last ones again":  {steps: []step{joined(1), took(1, 3), ended(4), joined(2), took(3, 5, 7, 9)}, repeated: 1},
		"old ones again": {
			steps: []step{joined(1), long(1), took(3), ended(4), joined(1), took(1, 3, 5, 7, 9)}, want: []string{promiseCommitted}, repeated: 1,
		},
		"only old ones, again": {
			steps: []step{joined(1), long(1), long(3), ended(4), joined(2), took(3, 5, 7, 9)}, want: []string{promiseCommitted},
		},
		"again after a second kill": {
			steps: []step{joined(1), took(1, 3), ended(4), joined(1), took(1), ended(4), joined(1), took(1, 3, 5, 7, 9)}, repeated: 3,
		},
		"again after a connection without events": {
			steps: []step{joined(1), took(1, 3), ended(4), joined(2), ended(4), joined(2), took(3, 5, 7, 9)}, repeated: 1,
		},
		"again after a clean end": {
			steps: []step{joined(1), took(1, 3), endedClean(), joined(2), took(3, 5, 7, 9)}, want: []string{promiseCommitted},
		},
		"on its way at a kill": {steps: []step{joined(1), took(1, 3), ended(6), joined(6), took(7, 9)}, skipped: 1},
		"skipped beyond the head of then": {
			steps: []step{joined(1), took(1, 3), ended(6), joined(8), took(9)}, want: []string{promiseSkipped}, skipped: 1,
		},
		"skipped at a clean end": {
			steps: []step{joined(1), took(1, 3), endedClean(), joined(6), took(7, 9)}, want: []string{promiseSkipped},
		},
		"skipped within a connection": {steps: []step{joined(1), took(1, 5, 7, 9)}, want: []string{promiseSkipped}},
		"twice in a connection":       {steps: []step{joined(1), took(1, 3, 3, 5, 7, 9)}, want: []string{promiseOrder}},
		"foreign":                     {steps: []step{joined(1), took(1, 2, 3, 5, 7, 9)}, want: []string{promiseForeign}},
		"the last is lost":            {steps: []step{joined(1), took(1, 3, 5, 7)}, want: []string{promiseSkipped}, missing: 1},
	} {
		t.Run(name, func(t *testing.T) {
			var b broken
			l := &auto{violate: b.violate, set: setOf(1)}
			for _, s := range c.steps {
				s(l)
			}
			if n := l.missing(odd, 10); n != c.missing {
				t.Errorf("%d events are missing, want %d", n, c.missing)
			}
			l.verify(odd, 10, true)
			if !slices.Equal(b.promises, c.want) || l.repeated != c.repeated || l.skipped != c.skipped {
				t.Errorf("broken promises %q, %d repeated, %d skipped, want %q, %d, %d",
					b.promises, l.repeated, l.skipped, c.want, c.repeated, c.skipped)
			}
		})
	}
}

// A faithful server breaks no promise, however often connections end and whenever the ledger is asked to compare. One fault
// anywhere is found.
func TestOneFault(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		log := logOf(rapid.SliceOfN(rapid.Uint32Range(1, 3), 1, 60).Draw(t, "log"))
		asked := setOf(rapid.SliceOfNDistinct(rapid.Uint32Range(1, 3), 1, 3, rapid.ID).Draw(t, "systems")...)
		var due []uint64
		for e := range uint64(len(log)) {
			if asked.has(log.mail(e + 1)) {
				due = append(due, e+1)
			}
		}
		faults := []string{"none"}
		if len(due) > 0 {
			faults = append(faults, "lost", "doubled")
		}
		if len(due) > 1 {
			faults = append(faults, "swapped")
		}
		if len(due) < len(log) {
			faults = append(faults, "foreign")
		}
		fault := rapid.SampledFrom(faults).Draw(t, "fault")
		at := rapid.IntRange(0, max(0, len(due)-1)).Draw(t, "at")
		switch fault {
		case "lost":
			due = slices.Delete(due, at, at+1)
		case "doubled":
			due = slices.Insert(due, at, due[at])
		case "swapped":
			at = min(at, len(due)-2)
			due[at], due[at+1] = due[at+1], due[at]
		case "foreign":
			for e := range uint64(len(log)) {
				if !slices.Contains(due, e+1) {
					i, _ := slices.BinarySearch(due, e+1)
					due = slices.Insert(due, i, e+1)
					break
				}
			}
		}
		var b broken
		ledgers := []ledger{
			&exact{violate: b.violate, wanted: wanted{[]span{{set: asked}}}},
			&manual{violate: b.violate, set: asked},
			&auto{violate: b.violate, set: asked},
		}
		l := ledgers[rapid.IntRange(0, len(ledgers)-1).Draw(t, "ledger")]
		l.joined(1)
		for i, e := range due {
			l.take(e, 1)
			if m, ok := l.(*manual); ok && rapid.IntRange(0, 3).Draw(t, "commit") == 0 && e == slices.Max(due[:i+1]) {
				m.commits(e)
				m.committed(e)
			}
			if rapid.IntRange(0, 3).Draw(t, "verify") == 0 {
				l.verify(log, uint64(rapid.IntRange(0, len(log)).Draw(t, "through")), false)
			}
			_, isManual := l.(*manual)
			if !isManual && rapid.IntRange(0, 9).Draw(t, "end") == 0 {
				l.ended(ending{at: 1, most: slices.Max(due[:i+1]), clean: true})
				l.joined(e + 1)
			}
		}
		l.verify(log, uint64(len(log)), true)
		if found := len(b.promises) > 0; found != (fault != "none") {
			t.Errorf("fault: %s; broken promises: %q", fault, b.promises)
		}
	})
}

func TestOracle(t *testing.T) {
	said := func(o *oracle) string {
		var names []string
		for _, p := range promises {
			if o.violations[p] > 0 {
				names = append(names, p)
			}
		}
		return strings.Join(names, ", ")
	}
	for name, c := range map[string]struct {
		do   func(o *oracle)
		want string
	}{
		"as it should be": {do: func(o *oracle) { o.acknowledged(101, 2); o.acknowledged(100, 1); o.acknowledged(102, 3); o.complete(3) }},
		"said before it is acked": {do: func(o *oracle) {
			o.means(1, 100)
			o.acknowledged(100, 1)
			o.acknowledged(101, 2)
			o.acknowledged(102, 3)
			o.complete(3)
		}},
		"acknowledged twice": {do: func(o *oracle) { o.acknowledged(100, 1); o.acknowledged(100, 1) }},
		"another id":         {do: func(o *oracle) { o.acknowledged(100, 1); o.acknowledged(100, 2) }, want: promiseReused},
		"another killmail":   {do: func(o *oracle) { o.means(1, 100); o.means(1, 101) }, want: promiseReused},
		"nobody's killmail":  {do: func(o *oracle) { o.means(1, 103) }, want: promiseInvented},
		"no event":           {do: func(o *oracle) { o.means(0, 100) }, want: promiseInvented},
		"not acknowledged":   {do: func(o *oracle) { o.acknowledged(100, 1); o.acknowledged(101, 2); o.complete(2) }, want: promiseAcked + ", " + promiseHoles},
		"a hole":             {do: func(o *oracle) { o.acknowledged(100, 1); o.acknowledged(101, 2); o.acknowledged(102, 4); o.complete(4) }, want: promiseHoles},
		"a head too far":     {do: func(o *oracle) { o.acknowledged(100, 1); o.acknowledged(101, 2); o.acknowledged(102, 3); o.complete(4) }, want: promiseHoles},
	} {
		t.Run(name, func(t *testing.T) {
			o := newOracle(io.Discard, 100, 10)
			for range 3 {
				o.add(7, []killfeed.Topic{killfeed.System(7)}, nil)
			}
			c.do(o)
			if got := said(o); got != c.want {
				t.Errorf("broken promises %q, want %q", got, c.want)
			}
		})
	}
}

// What is wanted of a feed that changes is what the sets say at each place.
func TestWanted(t *testing.T) {
	rnd := rand.New(rand.NewPCG(1, 1))
	all := []killfeed.Topic{killfeed.System(1), killfeed.System(2), killfeed.Label("solo"), killfeed.All()}
	for range 200 {
		some := func() *topicSet { return newTopicSet(someOf(rnd, all, rnd.IntN(5))...) }
		less, more, set := some(), some(), some()
		got := set.changed(less, more)
		for _, topic := range all {
			if want := more.topics[topic] || set.topics[topic] && !less.topics[topic]; got.topics[topic] != want {
				t.Fatalf("%v without %v with %v: %v is in it: %t", set, less, more, topic, !want)
			}
		}
		m := &mail{system: 1, topics: []killfeed.Topic{killfeed.System(1), killfeed.Label("solo")}}
		want := got.topics[killfeed.System(1)] || got.topics[killfeed.Label("solo")] || got.topics[killfeed.All()]
		if got.has(m) != want {
			t.Fatalf("%v has a killmail of system 1 and label solo: %t", got, !want)
		}
	}
}
