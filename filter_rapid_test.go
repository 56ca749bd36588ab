package killfeed_test

import (
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"killfeed"
	"killfeed/storetest"
)

// mailAndNaive is a killmail and what comparing needs.
type mailAndNaive struct {
	event  killfeed.Event
	topics []killfeed.Topic
	naive  *naiveMail
	leaves *killfeed.Leaves
}

func prepare(t testing.TB, k *killfeed.Killmail) *mailAndNaive {
	m := &mailAndNaive{
		event:  killfeed.Event{ID: 1, SystemID: k.SystemID, Killmail: k.JSON, KillmailID: k.ID},
		topics: k.Topics, naive: decodeNaive(t, k.SystemID, k.JSON), leaves: new(killfeed.Leaves),
	}
	m.leaves.Read(&m.event)
	return m
}

// filterCheck compares filters with what naive evaluation says.
type filterCheck struct {
	data killfeed.UniverseData
	u    *killfeed.Universe
	// how often a comparison came out how, and how often there was a plan
	matched, passed, planned int
}

func newFilterCheck() *filterCheck {
	return &filterCheck{data: storetest.UniverseData(), u: storetest.Universe()}
}

func (check *filterCheck) compile(t rapid.TB, n *naiveFilter, c chooser) *killfeed.Filter {
	t.Helper()
	var b strings.Builder
	n.write(&b, c, false)
	f, err := killfeed.ParseFilter(b.String(), check.u)
	if err != nil {
		t.Fatalf("%s: %v", b.String(), err)
	}
	if again, err := killfeed.ParseFilter(f.String(), check.u); err != nil || again.String() != f.String() {
		t.Fatalf("%s comes down to %s; %v, %v", b.String(), f, again, err)
	}
	return f
}

func (check *filterCheck) compare(t rapid.TB, f *killfeed.Filter, n *naiveFilter, m *mailAndNaive) {
	t.Helper()
	want := n.match(m.naive, &check.data)
	if got := f.Match(&m.event); got != want {
		t.Fatalf("%s matches: %v, want %v; system %d, killmail %s", f, got, want, m.event.SystemID, m.event.Killmail)
	}
	if got := f.MatchLeaves(m.leaves); got != want {
		t.Fatalf("%s matches leaves read before: %v, want %v; killmail %s", f, got, want, m.event.Killmail)
	}
	if !want {
		check.passed++
		return
	}
	check.matched++
	plan, ok := f.Topics()
	if !ok {
		return
	}
	check.planned++
	on, stored := []killfeed.Topic{killfeed.All()}, []killfeed.Topic{}
	for _, topic := range m.topics {
		on = append(append(on, topic), check.u.Widen(topic)...)
	}
	for _, topic := range plan {
		stored = append(stored, check.u.Expand(topic)...)
	}
	meets := func(a, b []killfeed.Topic) bool {
		return slices.ContainsFunc(a, func(t killfeed.Topic) bool { return slices.Contains(b, t) })
	}
	if !meets(plan, on) || !meets(m.topics, stored) {
		t.Fatalf("%s matches, but nothing of its plan %v is among the topics %v; killmail %s", f, plan, m.topics, m.event.Killmail)
	}
}

// enough checks that the comparisons were about something.
func (check *filterCheck) enough(t *testing.T) {
	t.Helper()
	t.Logf("%d killmails matched, of them %d by a filter with a plan; %d did not", check.matched, check.planned, check.passed)
	if all := check.matched + check.passed; check.matched*20 < all || check.passed*20 < all || check.planned*100 < all {
		t.Error("that is too few of one kind")
	}
}

// Filters over killmails of the usual shape that are made up, and over odd ones.
func TestFilterIsNaive(t *testing.T) {
	maker := storetest.NewMaker(storetest.MakerOptions{Seed: 1, Systems: 20})
	var usual []*mailAndNaive
	var p pool
	for range 200 {
		m := prepare(t, maker.Next())
		usual = append(usual, m)
		p.addMail(m.naive)
	}
	check := newFilterCheck()
	rapid.Check(t, func(rt *rapid.T) {
		c := drawn(rt)
		n := p.found(c)
		if c(3) > 0 {
			n = p.filter(c, c(4))
		}
		f := check.compile(rt, n, c)
		for range 20 {
			check.compare(rt, f, n, usual[c(len(usual))])
		}
		odd(t, rt, check, c)
	})
	check.enough(t)
}

// odd compares a filter over odd killmails.
func odd(t *testing.T, rt *rapid.T, check *filterCheck, c chooser) {
	var p pool
	var mails []*mailAndNaive
	for range 5 {
		m := prepare(t, oddKillmail(rt, c))
		p.addMail(m.naive)
		mails = append(mails, m)
	}
	n := p.found(c)
	if c(3) > 0 {
		n = p.filter(c, c(4))
	}
	f := check.compile(rt, n, c)
	for _, m := range mails {
		check.compare(rt, f, n, m)
	}
}

// Five hundred filters over real killmails, the odd ones among them.
func TestFilterIsNaiveReal(t *testing.T) {
	var mails []*mailAndNaive
	for line := range killfeed.RealLines(t, "killmails-small.jsonl.gz") {
		k, err := killfeed.ParseItem(line)
		if err != nil {
			t.Fatal(err)
		}
		mails = append(mails, prepare(t, k))
	}
	check := newFilterCheck()
	rnd := rand.New(rand.NewPCG(1, 2))
	c := chooser(rnd.IntN)
	for range 500 {
		var p pool
		some := make([]*mailAndNaive, 40)
		for i := range some {
			some[i] = mails[c(len(mails))]
			if i < 5 {
				p.addMail(some[i].naive)
			}
		}
		n := p.found(c)
		if c(3) > 0 {
			n = p.filter(c, c(4))
		}
		f := check.compile(t, n, c)
		for _, m := range some {
			check.compare(t, f, n, m)
		}
	}
	check.enough(t)
}

// FuzzFilterMatch compares filters over odd killmails.
func FuzzFilterMatch(f *testing.F) {
	check := newFilterCheck()
	f.Fuzz(func(t *testing.T, input []byte) {
		rapid.MakeFuzz(func(rt *rapid.T) { odd(t, rt, check, drawn(rt)) })(t, input)
	})
}

// FuzzParseFilter holds the parser to: no panic, errors for the parameter, and texts that come down to themselves.
func FuzzParseFilter(f *testing.F) {
	for _, text := range []string{
		"", "alliance_id=1234,4321,5678", "isk>=1.5b;!(region=The Forge,ship=Rifter)", `label="a\"b"|c;x<"y"`, "(((a=1)))", "a=1;b=2,c=3",
		"victim.ship=Rifter;final.group=Frigate|Titan", "npc=no;attackers>=1e1", "a=,b", "!a=1", "weapon=Drake,Raven",
	} {
		f.Add(text)
	}
	u := storetest.Universe()
	k, err := killfeed.NewKillmail(30000142, []byte(filterMail))
	if err != nil {
		f.Fatal(err)
	}
	event := killfeed.Event{ID: 1, SystemID: k.SystemID, Killmail: k.JSON}
	f.Fuzz(func(t *testing.T, text string) {
		got, err := killfeed.ParseFilter(text, u)
		if err != nil {
			if bad, ok := err.(*killfeed.InvalidError); !ok || bad.Param != "filter" || bad.Want == "" {
				t.Errorf("%q: error %#v", text, err)
			}
			return
		}
		if len(got.String()) > killfeed.MaxFilter {
			return
		}
		again, err := killfeed.ParseFilter(got.String(), u)
		if err != nil || again.String() != got.String() {
			t.Fatalf("%q comes down to %q; %v, %v", text, got, again, err)
		}
		if got.Match(&event) != again.Match(&event) {
			t.Errorf("%q and %q differ", text, got)
		}
	})
}

// FuzzLeaves reads what may be no JSON at all: what is damaged must not take the server down.
func FuzzLeaves(f *testing.F) {
	f.Add([]byte(filterMail))
	f.Add([]byte(`{"a":"\ud8`))
	f.Add([]byte(`{"attackers":[{"character_id":1`))
	filter, err := killfeed.ParseFilter("a=1,label=x,final.character=1,attackers>5,x<1", nil)
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		filter.Match(&killfeed.Event{ID: 1, SystemID: 1, Killmail: text})
	})
}

func BenchmarkFilterMatch(b *testing.B) {
	var events []killfeed.Event
	bytes := 0
	for line := range killfeed.RealLines(b, "killmails-hour.jsonl.gz") {
		k, err := killfeed.ParseItem(line)
		if err != nil {
			b.Fatal(err)
		}
		events = append(events, killfeed.Event{SystemID: k.SystemID, Killmail: k.JSON})
		bytes += len(k.JSON)
	}
	slices.SortFunc(events, func(x, y killfeed.Event) int { return len(x.Killmail) - len(y.Killmail) })
	median := events[len(events)/2 : len(events)/2+1]
	u := storetest.Universe()
	filters := []string{
		"isk>1b;region=The Forge", "alliance_id=99000001,99000002", "victim.group=Titan", "attackers>=5;label=solo", "item=34|35|36",
		"some_member=1", "killmail_time>2026;npc=false",
	}
	for _, set := range []struct {
		name   string
		events []killfeed.Event
	}{{"median", median}, {"hour", events}} {
		b.Run("read/"+set.name, func(b *testing.B) {
			var l killfeed.Leaves
			b.ReportAllocs()
			size := 0
			for i := range b.N {
				l.Read(&set.events[i%len(set.events)])
				size += len(set.events[i%len(set.events)].Killmail)
			}
			b.SetBytes(int64(size / b.N))
		})
		for _, text := range filters {
			f, err := killfeed.ParseFilter(text, u)
			if err != nil {
				b.Fatal(err)
			}
			leaves := make([]killfeed.Leaves, len(set.events))
			for i := range leaves {
				leaves[i].Read(&set.events[i])
			}
			b.Run("leaves/"+set.name+"/"+text, func(b *testing.B) {
				b.ReportAllocs()
				for i := range b.N {
					f.MatchLeaves(&leaves[i%len(leaves)])
				}
			})
		}
	}
}
