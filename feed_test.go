package killfeed_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"killfeed"
	"killfeed/pebblestore"
	"killfeed/storetest"
)

// Solar systems, and a character, that the tests speak of.
const (
	A, B, C = 30000142, 30002187, 30000144
	pilot   = 90000001
)

// storage is where a store's bytes are: it opens what is there, any number of times, one at a time.
type storage interface {
	open(t testing.TB) killfeed.Store
}

// pebbles is the embedded store on a file system in memory.
type pebbles struct{ fs vfs.FS }

func (p pebbles) open(t testing.TB) killfeed.Store {
	s, err := pebblestore.Open("data", pebblestore.Options{FS: p.fs})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// modeled is the naive store. Opening it again is also good for a crash: what has it open can write no more.
type modeled struct{ last *storetest.Model }

func (m *modeled) open(testing.TB) killfeed.Store {
	m.last = m.last.Reopen()
	return m.last
}

func newModel() *modeled { return &modeled{storetest.NewModel()} }

// onStores runs a test of the feed's rules on every kind of store.
func onStores(t *testing.T, test func(t *testing.T, s storage)) {
	t.Run("model", func(t *testing.T) { test(t, newModel()) })
	t.Run("pebble", func(t *testing.T) { test(t, pebbles{vfs.NewMem()}) })
}

// feed is a Feed under test. Its helpers may be called by any goroutine: they do not end the test.
type feed struct {
	testing.TB
	*killfeed.Feed
	made int64 // killmails made up
}

// start opens a feed on the store; the test's end closes it.
func start(t testing.TB, s killfeed.Store, o killfeed.Options) *feed {
	t.Helper()
	f, err := killfeed.Open(s, o)
	if err != nil {
		t.Fatal(err)
	}
	tf := &feed{TB: t, Feed: f}
	t.Cleanup(func() {
		if tf.Feed != nil {
			tf.close()
		}
	})
	return tf
}

func (f *feed) close() {
	f.Helper()
	if err := f.Feed.Close(); err != nil {
		f.Errorf("Close: %v", err)
	}
	f.Feed = nil
}

// mail makes up the next killmail, in a solar system, the pilot being its victim when the system is A.
func (f *feed) mail(system uint32) storetest.Mail {
	f.made++
	m := storetest.Mail{
		ID: f.made, System: system, Time: time.Now().UTC().Truncate(time.Second),
		Victim:    storetest.Party{Corporation: 98000001, Ship: 587, Damage: 1000},
		Attackers: []storetest.Party{{Character: 90000002, Corporation: 98000002, Ship: 17726, Damage: 1000, FinalBlow: true}},
	}
	if system == A {
		m.Victim.Character = pilot
	}
	return m
}

func (f *feed) insertMail(m storetest.Mail, marks killfeed.Marks) killfeed.InsertResult {
	f.Helper()
	res, err := f.InsertAll(f.Context(), []*killfeed.Killmail{m.Killmail()}, marks)
	if err != nil {
		f.Errorf("inserting killmail %d: %v", m.ID, err)
		return killfeed.InsertResult{}
	}
	return res[0]
}

// insert inserts a new killmail in each of the systems, in turn.
func (f *feed) insert(systems ...uint32) {
	f.Helper()
	for _, s := range systems {
		f.insertMail(f.mail(s), 0)
	}
}

// in asks for solar systems.
func in(systems ...uint32) killfeed.Read {
	var r killfeed.Read
	for _, s := range systems {
		r.Topics = append(r.Topics, killfeed.System(s))
	}
	return r
}

func about(topics ...killfeed.Topic) killfeed.Read { return killfeed.Read{Topics: topics} }

func limit(n int, r killfeed.Read) killfeed.Read              { r.Limit = n; return r }
func manual(r killfeed.Read) killfeed.Read                    { r.Manual = true; return r }
func peek(r killfeed.Read) killfeed.Read                      { r.Peek = true; return r }
func updates(r killfeed.Read) killfeed.Read                   { r.Updates = true; return r }
func noBackfill(r killfeed.Read) killfeed.Read                { r.NoBackfill = true; return r }
func maxAge(d time.Duration, r killfeed.Read) killfeed.Read   { r.MaxAge = d; return r }
func wait(d time.Duration, r killfeed.Read) killfeed.Read     { r.Wait = d; return r }
func from(s killfeed.Start, r killfeed.Read) killfeed.Read    { r.Start = s; return r }
func cursor(c killfeed.Cursor, r killfeed.Read) killfeed.Read { r.From = &c; return r }

// say writes an answer down: "1 3 gap retention 1-2 more".
func say(a killfeed.Answer) string {
	var words []string
	for i, e := range a.Events {
		words = append(words, fmt.Sprint(e.ID))
		if i > 0 && e.ID <= a.Events[i-1].ID {
			words = append(words, "NOT ASCENDING")
		}
		if e.ID > a.Head {
			words = append(words, "PAST THE HEAD")
		}
	}
	if a.Gap != nil {
		words = append(words, "gap "+string(a.Gap.Reason))
		if a.Gap.From != 0 || a.Gap.To != 0 {
			words = append(words, fmt.Sprintf("%d-%d", a.Gap.From, a.Gap.To))
		}
	}
	if a.More {
		words = append(words, "more")
	}
	if len(words) == 0 {
		return "nothing"
	}
	return strings.Join(words, " ")
}

func (f *feed) fetch(client string, r killfeed.Read) string {
	f.Helper()
	a, err := f.Fetch(f.Context(), client, r)
	if err != nil {
		f.Errorf("Fetch(%q, %+v): %v", client, r, err)
		return "an error"
	}
	return say(a)
}

func (f *feed) next(client string, r killfeed.Read) string {
	f.Helper()
	a, err := f.Next(f.Context(), client, r)
	if err != nil {
		f.Errorf("Next(%q, %+v): %v", client, r, err)
		return "an error"
	}
	return say(a)
}

func (f *feed) commit(client string, offsets map[killfeed.Topic]killfeed.EventID) string {
	f.Helper()
	got, err := f.Commit(f.Context(), client, offsets)
	if err != nil {
		f.Errorf("Commit(%q, %v): %v", client, offsets, err)
		return "an error"
	}
	return sayOffsets(got)
}

func (f *feed) seek(client string, to killfeed.Start, systems ...uint32) string {
	f.Helper()
	info, err := f.Seek(f.Context(), client, to, in(systems...).Topics)
	if err != nil {
		f.Errorf("Seek(%q, %v): %v", client, to, err)
		return "an error"
	}
	return sayOffsets(info.Offsets)
}

func (f *feed) collect() killfeed.Collected {
	f.Helper()
	c, err := f.Collect(f.Context())
	if err != nil {
		f.Errorf("Collect: %v", err)
	}
	return c
}

// offsets are the client's: "A:3 all:5".
func (f *feed) offsets(client string) string {
	f.Helper()
	info, err := f.Client(client)
	if errors.Is(err, killfeed.ErrNotFound) {
		return "no client"
	}
	if err != nil {
		f.Errorf("Client(%q): %v", client, err)
	}
	return sayOffsets(info.Offsets)
}

func sayOffsets(offsets map[killfeed.Topic]killfeed.EventID) string {
	names := map[killfeed.Topic]string{killfeed.System(A): "A", killfeed.System(B): "B", killfeed.System(C): "C"}
	var words []string
	for t, at := range offsets {
		name, ok := names[t]
		if !ok {
			name = t.String()
		}
		words = append(words, fmt.Sprintf("%s:%d", name, at))
	}
	slices.Sort(words)
	return strings.Join(words, " ")
}

func (f *feed) is(got, want string) {
	f.Helper()
	if got != want {
		f.Errorf("got  %s\nwant %s", got, want)
	}
}

func (f *feed) errorIs(err, want error) {
	f.Helper()
	if !errors.Is(err, want) {
		f.Errorf("the error is %v, want %v", err, want)
	}
}

func (f *feed) invalid(err error, param string) {
	f.Helper()
	if e, ok := errors.AsType[*killfeed.InvalidError](err); !ok || e.Param != param {
		f.Errorf("the error is %v, want an InvalidError about %s", err, param)
	}
}

func offset(system uint32, at killfeed.EventID) map[killfeed.Topic]killfeed.EventID {
	return map[killfeed.Topic]killfeed.EventID{killfeed.System(system): at}
}

func TestFetch(t *testing.T) {
	onStores(t, func(t *testing.T, s storage) {
		f := start(t, s.open(t), killfeed.Options{})
		f.is(f.fetch("c", in(A)), "nothing")
		f.insert(A, B, A, C, B)
		f.is(f.fetch("c", in(A)), "1 3")
		f.is(f.fetch("c", in(A)), "nothing")
		f.is(f.offsets("c"), "A:3")
		f.insert(A)
		// A topic that is added brings its history, beside what is new on the others.
		f.is(f.fetch("c", in(A, B)), "2 5 6")
		f.is(f.offsets("c"), "A:6 B:5")
		f.insert(B, A)
		// A topic that is left out for a while brings what came meanwhile.
		f.is(f.fetch("c", in(A)), "8")
		f.is(f.fetch("c", in(B, A)), "7")
		f.is(f.offsets("c"), "A:8 B:7")
		// Another topic of events that were had brings them again: an offset is a topic's.
		f.is(f.fetch("c", about(killfeed.Topic{Kind: killfeed.KindCharacter, ID: pilot})), "1 3 6 8")
		f.is(f.fetch("c", about(killfeed.All())), "1 2 3 4 5 6 7 8")
		f.is(f.fetch("c", about(killfeed.All())), "nothing")
		f.is(f.fetch("d", in(C, B, A, C)), "1 2 3 4 5 6 7 8")
	})
}

func TestNext(t *testing.T) {
	onStores(t, func(t *testing.T, s storage) {
		f := start(t, s.open(t), killfeed.Options{})
		f.insert(A, B, A, B)
		f.is(f.next("c", in(A, B)), "1")
		f.is(f.offsets("c"), "A:1 B:0")
		f.is(f.next("c", in(B, A)), "2")
		f.is(f.offsets("c"), "A:1 B:2")
		f.is(f.fetch("c", in(A, B)), "3 4")
		f.is(f.next("c", in(A, B)), "nothing")
		f.insert(C, B, A)
		f.is(f.next("c", in(B)), "6")
		f.is(f.next("c", in(A, B)), "7")
		f.is(f.offsets("c"), "A:7 B:6")
	})
}

// An event that is on several of the topics comes once, and moves the offset of each.
func TestOneEventOnTwoTopics(t *testing.T) {
	onStores(t, func(t *testing.T, s storage) {
		f := start(t, s.open(t), killfeed.Options{})
		who := killfeed.Topic{Kind: killfeed.KindCharacter, ID: pilot}
		f.insert(B, A, A)
		f.is(f.next("c", about(killfeed.System(A), who, killfeed.All())), "1")
		f.is(f.offsets("c"), "A:0 all:1 character:90000001:0")
		f.is(f.next("c", about(killfeed.System(A), who)), "2")
		f.is(f.offsets("c"), "A:2 all:1 character:90000001:2")
		f.is(f.fetch("c", about(who, killfeed.System(A), killfeed.All())), "2 3")
		f.is(f.offsets("c"), "A:3 all:3 character:90000001:3")
	})
}

func TestTopicsOfAKillmail(t *testing.T) {
	onStores(t, func(t *testing.T, s storage) {
		f := start(t, s.open(t), killfeed.Options{})
		m := f.mail(A)
		m.Victim = storetest.Party{Character: 1, Corporation: 2, Alliance: 3, Faction: 4, Ship: 5}
		m.Attackers = []storetest.Party{{Character: 11, Corporation: 2, Alliance: 13, Faction: 14, Ship: 15}, {Ship: 25}}
		m.Labels = []string{"solo", "loc:highsec", "ganked \"ä"}
		text := m.AppendJSON(nil)
		if res, err := f.Insert(t.Context(), A, text); err != nil || res.EventID != 1 {
			t.Fatalf("Insert: %+v, %v", res, err)
		}
		topics := append(m.Topics(), killfeed.All())
		if len(topics) != 15 {
			t.Fatalf("the killmail has %d topics: %v", len(topics), topics)
		}
		for _, topic := range topics {
			f.is(topic.String()+": "+f.fetch("c", about(topic)), topic.String()+": 1")
		}
		for _, topic := range []killfeed.Topic{{Kind: killfeed.KindCharacter, ID: 2}, {Kind: killfeed.KindShip, ID: 1}, killfeed.Label("pvp")} {
			f.is(f.fetch("c", about(topic)), "nothing")
		}
		if e, err := f.Event(1); err != nil || !bytes.Equal(e.Killmail, text) {
			t.Errorf("event 1 is %s, %v; want %s", e.Killmail, err, text)
		}
	})
}

// More is told if and only if the limit, or the byte budget, left something out.
func TestLimit(t *testing.T) {
	onStores(t, func(t *testing.T, s storage) {
		f := start(t, s.open(t), killfeed.Options{})
		f.insert(A, B, A, B, A)
		f.is(f.fetch("a", limit(5, in(A, B))), "1 2 3 4 5")
		f.is(f.fetch("b", limit(4, in(A, B))), "1 2 3 4 more")
		f.is(f.offsets("b"), "A:3 B:4")
		f.is(f.fetch("b", limit(4, in(A, B))), "5")
		f.is(f.fetch("c", limit(3, in(A))), "1 3 5")
		f.is(f.fetch("d", limit(2, in(A))), "1 3 more")
		f.is(f.fetch("d", limit(2, in(A))), "5")
		f.is(f.fetch("e", manual(limit(2, in(A, B)))), "1 2 more")
		f.is(f.fetch("e", manual(limit(2, in(A, B)))), "1 2 more")
	})
}

// A limit is a limit also where a read takes several looks into the index, and nothing is left out or comes twice.
func TestManyEvents(t *testing.T) {
	onStores(t, func(t *testing.T, s storage) {
		f := start(t, s.open(t), killfeed.Options{})
		const n = 3000
		var ks []*killfeed.Killmail
		for i := range n {
			m := f.mail([]uint32{A, B}[i%2])
			ks = append(ks, m.Killmail())
		}
		if _, err := f.InsertAll(t.Context(), ks, 0); err != nil {
			t.Fatal(err)
		}
		reads := []struct {
			read        killfeed.Read
			first, step killfeed.EventID
		}{
			{in(A), 1, 2}, {in(B), 2, 2}, {about(killfeed.All()), 1, 1}, {about(killfeed.All(), killfeed.System(C)), 0, 0},
			{about(killfeed.Topic{Kind: killfeed.KindCharacter, ID: pilot}), 1, 2},
		}
		for _, l := range []int{0, 1023, 1024, 1025, 1499, 1500, 2047, 2048, 3000} {
			for i, r := range reads {
				next := r.first
				for more := true; more; {
					a, err := f.Fetch(t.Context(), fmt.Sprint("limit ", l), limit(l, r.read))
					if err != nil {
						t.Fatal(err)
					}
					for _, e := range a.Events {
						if e.ID != next {
							t.Fatalf("limit %d, read %d: event %d came, want %d", l, i, e.ID, next)
						}
						next += r.step
					}
					if left := next != 0 && next <= n; a.More != left || left && len(a.Events) != l {
						t.Fatalf("limit %d, read %d: after %d events, the last before %d, more is %v", l, i, len(a.Events), next, a.More)
					}
					more = a.More
				}
			}
		}
	})
}

func TestByteBudget(t *testing.T) {
	f := start(t, storetest.NewModel(), killfeed.Options{})
	big := func(bytes int) {
		k := &killfeed.Killmail{SystemID: A, JSON: make([]byte, bytes), Topics: in(A).Topics}
		if _, err := f.InsertAll(t.Context(), []*killfeed.Killmail{k}, 0); err != nil {
			t.Fatal(err)
		}
	}
	const third = killfeed.MaxAnswerBytes / 3
	big(third)
	big(third)
	big(third) // these three fit
	big(third)
	big(killfeed.MaxAnswerBytes + 100) // alone it may exceed the budget
	big(100)
	f.is(f.fetch("limited", limit(3, in(A))), "1 2 3 more")
	f.is(f.fetch("limited", limit(2, in(A))), "4 more")
	f.is(f.fetch("c", in(A)), "1 2 3 more")
	f.is(f.offsets("c"), "A:3")
	f.is(f.fetch("c", manual(in(A))), "4 more")
	f.is(f.fetch("c", in(A)), "4 more")
	f.is(f.fetch("c", in(A)), "5 more")
	f.is(f.fetch("c", in(A)), "6")
}

// vast is a store in which very many events are backfilled history on A, and the last one is live.
type vast struct{ killfeed.Store }

const vastHead = 105_001

func (v vast) State() killfeed.State {
	st := v.Store.State()
	st.Head = vastHead
	return st
}

func (v vast) Find(dst []killfeed.Entry, q killfeed.Query) ([]killfeed.Entry, error) {
	for id := q.Positions[0].After + 1; id <= q.Through && q.Max > 0; id++ {
		e := killfeed.Entry{ID: id, Marks: killfeed.MarkBackfill}
		if id == vastHead {
			e.Marks = 0
		}
		dst = append(dst, e)
		q.Max--
	}
	return dst, nil
}

func (v vast) Read(ids []killfeed.EventID, yield func(killfeed.Event, error) bool) error {
	for _, id := range ids {
		if !yield(killfeed.Event{ID: id, SystemID: A, Killmail: []byte("{}")}, nil) {
			break
		}
	}
	return nil
}

// A read that passes over very many events ends early, says so, and goes on from there.
func TestScanBudget(t *testing.T) {
	f := start(t, vast{storetest.NewModel()}, killfeed.Options{})
	for _, r := range []killfeed.Read{limit(10, in(A)), manual(limit(10, in(A))), wait(time.Hour, in(A))} {
		client := fmt.Sprint(r.Limit, r.Manual, r.Wait)
		f.is(f.fetch(client, noBackfill(r)), "more")
		f.is(f.fetch(client, noBackfill(r)), fmt.Sprint(vastHead))
	}
	f.is(f.next("next", noBackfill(in(A))), "more")
	f.is(f.next("next", noBackfill(in(A))), fmt.Sprint(vastHead))
	a, err := f.ReadAfter(t.Context(), killfeed.Cursor{}, noBackfill(in(A)))
	if f.is(say(a), "more"); err != nil {
		t.Fatal(err)
	}
	a, err = f.ReadAfter(t.Context(), a.Next, noBackfill(in(A)))
	if f.is(say(a), fmt.Sprint(vastHead)); err != nil {
		t.Fatal(err)
	}
	// Without a limit there is one all the same.
	a, err = f.Fetch(t.Context(), "all", in(A))
	if err != nil || !a.More || len(a.Events) < 100_000 || len(a.Events) >= vastHead {
		t.Fatalf("%d events, more is %v; %v", len(a.Events), a.More, err)
	}
	f.is(f.fetch("all", from(killfeed.Earliest, limit(1, in(A)))), fmt.Sprint(len(a.Events)+1, " more"))
}

func TestManual(t *testing.T) {
	onStores(t, func(t *testing.T, s storage) {
		f := start(t, s.open(t), killfeed.Options{})
		f.insert(A, B, A)
		for range 2 {
			f.is(f.fetch("c", manual(in(A, B))), "1 2 3")
			f.is(f.next("c", manual(in(A, B))), "1")
			f.is(f.offsets("c"), "A:0 B:0")
		}
		f.is(f.commit("c", offset(A, 1)), "A:1")
		f.is(f.fetch("c", manual(in(A, B))), "2 3")
		f.is(f.commit("c", map[killfeed.Topic]killfeed.EventID{killfeed.System(A): 3, killfeed.System(B): 3}), "A:3 B:3")
		f.is(f.fetch("c", manual(in(A, B))), "nothing")
		f.insert(A)
		f.is(f.next("c", manual(in(A, B))), "4")
		f.is(f.next("c", in(A, B)), "4") // automatic now
		f.is(f.next("c", manual(in(A, B))), "nothing")
	})
}

func TestStart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := start(t, storetest.NewModel(), killfeed.Options{Retention: killfeed.Retention{Max: time.Hour}})
		f.insert(A, B)
		time.Sleep(2 * time.Hour)
		f.collect()
		opened := time.Now()
		f.insert(A) // 3
		time.Sleep(time.Second)
		f.insert(B, A) // 4, 5
		f.is(f.fetch("earliest", from(killfeed.Earliest, in(A, B))), "3 4 5")
		f.is(f.fetch("latest", from(killfeed.Latest, in(A, B))), "nothing")
		f.is(f.offsets("latest"), "A:5 B:5")
		f.is(f.fetch("id", from(killfeed.StartAt(4), in(A, B))), "4 5")
		f.is(f.fetch("next id", from(killfeed.StartAt(6), in(A))), "nothing")
		f.is(f.offsets("next id"), "A:5")
		f.is(f.fetch("future id", from(killfeed.StartAt(1<<40), in(A))), "nothing")
		f.is(f.offsets("future id"), "A:5")
		// An id below the first kept event is the loss of what was there, on the topics that lost something.
		f.is(f.fetch("lost 1", from(killfeed.StartAt(1), in(A, B))), "3 4 5 gap retention 1-2")
		f.is(f.fetch("lost 2", from(killfeed.StartAt(2), in(A, B))), "3 4 5 gap retention 2-2")
		f.is(f.fetch("lost none", from(killfeed.StartAt(2), in(A))), "3 5")
		f.is(f.fetch("time", from(killfeed.StartTime(opened), in(A, B))), "3 4 5")
		f.is(f.fetch("later", from(killfeed.StartTime(opened.Add(1)), in(A, B))), "4 5")
		f.is(f.fetch("future", from(killfeed.StartTime(opened.Add(time.Hour)), in(A, B))), "nothing")
		// A topic that has been used goes on from its offset whatever Start says.
		f.insert(A)
		f.is(f.fetch("latest", from(killfeed.Earliest, in(A))), "6")
		f.is(f.fetch("earliest", from(killfeed.Latest, in(A))), "6")
	})
}

// Updates and backfilled history that a reader does not ask for, and killmails too old for it, are passed over and count as
// read; with manual commit only as far as nothing was returned.
func TestPassedOver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := start(t, storetest.NewModel(), killfeed.Options{})
		first := f.mail(A)
		first.NoHash = true
		richer := first
		richer.ZKB, richer.NoHash = true, false
		old := f.mail(A)
		old.Time = time.Now().Add(-3 * time.Hour)
		timeless := f.mail(A)
		k := timeless.Killmail()
		k.Time = time.Time{}

		f.insertMail(first, 0)                                                          // 1
		f.is(fmt.Sprint(f.insertMail(richer, 0)), "{2 false true}")                     // 2, an update
		f.insertMail(f.mail(A), killfeed.MarkBackfill)                                  // 3
		f.insertMail(old, 0)                                                            // 4
		if _, err := f.InsertAll(t.Context(), []*killfeed.Killmail{k}, 0); err != nil { // 5
			t.Fatal(err)
		}
		if e, err := f.Event(2); err != nil || e.Marks != killfeed.MarkUpdate || e.MirrorSeq != 1 {
			t.Errorf("event 2 is %+v, %v", e, err)
		}
		if e, err := f.Event(3); err != nil || e.Marks != killfeed.MarkBackfill || e.MirrorSeq != 1 {
			t.Errorf("event 3 is %+v, %v", e, err)
		}
		for name, r := range map[string]struct {
			killfeed.Read
			want string
		}{
			"plain":              {in(A), "1 3 4 5"},
			"updates":            {updates(in(A)), "1 2 3 4 5"},
			"no backfill":        {noBackfill(in(A)), "1 4 5"},
			"young":              {maxAge(time.Hour, in(A)), "1 3 5"},
			"old enough":         {maxAge(3*time.Hour, in(A)), "1 3 4 5"},
			"young, no backfill": {maxAge(time.Hour, noBackfill(updates(in(A)))), "1 2 5"},
		} {
			f.is(name+": "+f.fetch(name, r.Read), name+": "+r.want)
			f.is(f.offsets(name), "A:5")
			f.is(f.fetch(name, updates(in(A))), "nothing") // none of it is searched twice
		}
		// With a limit: what lies before the next event that is wanted; with Next: what lies before the one event.
		f.is(f.fetch("limit", limit(1, in(A))), "1 more")
		f.is(f.offsets("limit"), "A:2")
		f.is(f.next("next", in(A)), "1")
		f.is(f.offsets("next"), "A:1")
		f.is(f.next("next", in(A)), "3")
		f.is(f.next("young", from(killfeed.Latest, in(A))), "nothing")
		f.is(f.next("only update", limit(1, from(killfeed.StartAt(2), updates(in(A))))), "2")
		// With manual commit: what lies before the first event that is returned.
		f.is(f.fetch("manual", manual(from(killfeed.StartAt(2), noBackfill(in(A))))), "4 5")
		f.is(f.offsets("manual"), "A:3")
		f.is(f.fetch("manual", manual(in(A))), "4 5")
		f.is(f.commit("manual", offset(A, 5)), "A:5")
		f.insertMail(f.mail(A), killfeed.MarkBackfill)
		f.is(f.fetch("manual", manual(noBackfill(in(A)))), "nothing")
		f.is(f.offsets("manual"), "A:6")
		f.is(f.fetch("manual", manual(in(A))), "nothing")
		// Only the topics that an event is on move.
		f.is(f.fetch("two", manual(noBackfill(from(killfeed.StartAt(6), in(A, B))))), "nothing")
		f.is(f.offsets("two"), "A:6 B:5")
	})
}

// The events that a client passes over are as old as they are by the feed's clock, not by the wall's.
func TestMaxAgeByElapsedTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		jump := time.Duration(0)
		f := start(t, storetest.NewModel(), killfeed.Options{Wall: func() time.Time { return time.Now().Add(jump) }})
		f.insert(A)
		jump = 24 * time.Hour
		f.is(f.fetch("c", maxAge(time.Hour, in(A))), "1")
		time.Sleep(61 * time.Minute)
		f.is(f.fetch("d", maxAge(time.Hour, in(A))), "nothing")
	})
}

func TestCommit(t *testing.T) {
	onStores(t, func(t *testing.T, s storage) {
		f := start(t, s.open(t), killfeed.Options{})
		f.insert(A, B, A)
		f.is(f.commit("new", offset(A, 2)), "A:2") // an unknown client is made, and any id up to the head is good
		f.is(f.fetch("new", in(A)), "3")
		f.is(f.commit("new", offset(A, 1)), "A:3") // never back
		f.is(f.commit("new", map[killfeed.Topic]killfeed.EventID{killfeed.System(A): 0, killfeed.System(B): 0}), "A:3 B:0")
		f.is(f.fetch("new", in(A, B)), "2")
		_, err := f.Commit(t.Context(), "new", offset(A, 4))
		f.invalid(err, "event_id") // above the head
		_, err = f.Commit(t.Context(), "never", offset(A, 4))
		f.invalid(err, "event_id")
		f.is(f.offsets("never"), "no client")
		_, err = f.Commit(t.Context(), "new", nil)
		f.invalid(err, "offsets")
		_, err = f.Commit(t.Context(), "", offset(A, 1))
		f.invalid(err, "client_id")
		f.insert(A)
		f.is(f.commit("new", offset(A, 4)), "A:4")
		f.is(f.fetch("new", in(A)), "nothing")
	})
}

func TestSeek(t *testing.T) {
	onStores(t, func(t *testing.T, s storage) {
		f := start(t, s.open(t), killfeed.Options{})
		f.insert(A, B, A, B)
		f.is(f.fetch("c", in(A, B)), "1 2 3 4")
		f.is(f.seek("c", killfeed.StartAt(3), A), "A:2 B:4")
		f.is(f.fetch("c", in(A, B)), "3")
		f.is(f.seek("c", killfeed.Earliest), "A:0 B:0") // all that it has
		f.is(f.fetch("c", in(A, B)), "1 2 3 4")
		f.is(f.seek("c", killfeed.StartAt(2), C, A, C), "A:1 B:4 C:1")
		f.is(f.seek("c", killfeed.Latest), "A:4 B:4 C:4")
		f.is(f.seek("c", killfeed.StartAt(99), A), "A:4 B:4 C:4")
		f.is(f.seek("c", killfeed.StartTime(time.Unix(0, 0)), B), "A:4 B:0 C:4")
		f.is(f.seek("made", killfeed.StartAt(2), A), "A:1")
		f.is(f.fetch("made", in(A)), "3")
		f.is(f.seek("bare", killfeed.Latest), "")
		_, err := f.Seek(t.Context(), " c", killfeed.Latest, nil)
		f.invalid(err, "client_id")
	})
}

// Seek without topics moves all that the client has, however many.
func TestSeekManyTopics(t *testing.T) {
	f := start(t, storetest.NewModel(), killfeed.Options{})
	f.insert(A)
	topics := make([]killfeed.Topic, 30_000)
	for i := range topics {
		topics[i] = killfeed.System(uint32(i + 1))
	}
	for part := range slices.Chunk(topics, killfeed.MaxTopics) {
		f.is(f.fetch("c", about(part...)), "nothing")
	}
	info, err := f.Seek(t.Context(), "c", killfeed.Latest, nil)
	if err != nil {
		t.Fatalf("moving a client on all its %d topics: %v", len(topics), err)
	}
	if len(info.Offsets) != len(topics) || info.Offsets[topics[29_999]] != 1 {
		t.Errorf("after a seek of %d topics %d are there, the last at %d", len(topics), len(info.Offsets), info.Offsets[topics[29_999]])
	}
	// A cursor of the client's own moves topics that it has: it adds none.
	if _, err := f.Fetch(t.Context(), "c", cursor(killfeed.Cursor{After: 0}, about(topics[:killfeed.MaxTopics]...))); err != nil {
		t.Error(err)
	}
	for range 2 {
		for part := range slices.Chunk(topics, killfeed.MaxTopics) {
			for i := range part {
				part[i].ID += 40_000
			}
			_, err = f.Fetch(t.Context(), "c", about(part...))
		}
	}
	f.invalid(err, "topics") // more than MaxClientTopics
	if info, _ := f.Client("c"); len(info.Offsets) > killfeed.MaxClientTopics {
		t.Errorf("the client has %d topics", len(info.Offsets))
	}
}

func TestTopicsOfARead(t *testing.T) {
	f := start(t, storetest.NewModel(), killfeed.Options{})
	f.insert(A)
	many := make([]killfeed.Topic, killfeed.MaxTopics+1)
	for i := range many {
		many[i] = killfeed.System(uint32(A + i))
	}
	_, err := f.Fetch(t.Context(), "c", about())
	f.invalid(err, "topics")
	_, err = f.Fetch(t.Context(), "c", about(many...))
	f.invalid(err, "topics")
	_, err = f.ReadAfter(t.Context(), killfeed.Cursor{}, about())
	f.invalid(err, "topics")
	_, err = f.Next(t.Context(), "c\n", in(A))
	f.invalid(err, "client_id")
	f.is(f.offsets("c"), "no client")
	f.is(f.fetch("c", about(many[1:]...)), "nothing")
	f.is(f.fetch("d", about(append(many[:50:50], many[:50]...)...)), "1") // doubles count once
}

func TestClientNames(t *testing.T) {
	f := start(t, storetest.NewModel(), killfeed.Options{})
	f.insert(A)
	for _, name := range []string{"", " ", " a", "a ", "a\x00b", "a\tb", "\xff", "a\u200bb", strings.Repeat("x", 129), strings.Repeat("€", 43)} {
		_, err := f.Fetch(t.Context(), name, in(A))
		f.invalid(err, "client_id")
	}
	for _, name := range []string{"a", "a b", "Ä/€?&=%", strings.Repeat("x", 128), "😀", "..", "'\"\\"} {
		f.is(name+f.fetch(name, in(A)), name+"1")
	}
}

func TestClients(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := newModel()
		f := start(t, store.open(t), killfeed.Options{MaxClients: 3})
		f.insert(A, B, A)
		f.is(f.fetch("b", limit(1, in(A))), "1 more")
		time.Sleep(time.Minute)
		f.is(f.fetch("a", in(A, B)), "1 2 3")
		f.is(f.fetch("c", from(killfeed.Latest, in(C))), "nothing")
		seen := time.Now()
		time.Sleep(time.Minute)

		_, err := f.Fetch(t.Context(), "d", in(A))
		f.errorIs(err, killfeed.ErrTooManyClients)
		info, err := f.Client("b")
		if err != nil || info.Name != "b" || info.Lag != 1 || !info.LastSeen.Equal(seen.Add(-time.Minute)) {
			t.Errorf("client b is %+v, %v", info, err)
		}
		page := func(after string, limit int) string {
			infos, err := f.Clients(after, limit)
			if err != nil {
				t.Fatal(err)
			}
			var names []string
			for _, info := range infos {
				names = append(names, fmt.Sprintf("%s(%s)", info.Name, sayOffsets(info.Offsets)))
			}
			return strings.Join(names, " ")
		}
		f.is(page("", 10), "a(A:3 B:2) b(A:1) c(C:3)")
		f.is(page("a", 1), "b(A:1)")
		f.is(page("bb", 9), "c(C:3)")
		f.is(page("c", 9), "")

		f.errorIs(f.DeleteClient(t.Context(), "d"), killfeed.ErrNotFound)
		if err := f.DeleteClient(t.Context(), "a"); err != nil {
			t.Fatal(err)
		}
		f.is(f.offsets("a"), "no client")
		f.is(f.fetch("d", in(A)), "1 3")
		if err := f.DeleteClient(t.Context(), "d"); err != nil {
			t.Fatal(err)
		}
		f.is(f.fetch("d", in(A)), "1 3") // it begins anew
		f.close()

		f = start(t, store.open(t), killfeed.Options{})
		f.is(f.offsets("a"), "no client")
		f.is(f.offsets("b"), "A:1")
		if info, err := f.Client("c"); err != nil || !info.LastSeen.Equal(seen) {
			t.Errorf("client c is %+v, %v; want it last seen at %v", info, err, seen)
		}
	})
}

// A deleted client stays deleted, whatever of it was still to be written behind.
func TestDeletedClientStaysDeleted(t *testing.T) {
	onStores(t, func(t *testing.T, s storage) {
		f := start(t, s.open(t), killfeed.Options{})
		f.insert(A)
		f.is(f.fetch("c", in(A)), "1") // committed in memory, to be written within 100 ms
		if err := f.DeleteClient(t.Context(), "c"); err != nil {
			t.Fatal(err)
		}
		f.close()
		f = start(t, s.open(t), killfeed.Options{})
		f.is(f.offsets("c"), "no client")
		f.is(f.fetch("c", in(A)), "1")
	})
}

// The same when the times at which clients were seen are written in the same group.
func TestDeletedClientIsNotSeen(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := newModel()
		h := &hooked{Store: store.open(t)}
		f := start(t, h, killfeed.Options{})
		f.is(f.fetch("c", in(A)), "nothing")
		run, stop := context.WithCancel(t.Context())
		defer stop()
		go f.Run(run)
		time.Sleep(killfeed.CollectEvery - time.Second)
		f.is(f.fetch("c", in(A)), "nothing")
		// While one group is being written, the next one gathers: both the saving of the times seen and the deletion.
		writing := make(chan struct{})
		h.before("Commit", func() { <-writing })
		go f.Insert(t.Context(), A, []byte("{}"))
		time.Sleep(1500 * time.Millisecond)
		deleted := make(chan error)
		go func() { deleted <- f.DeleteClient(t.Context(), "c") }()
		synctest.Wait()
		close(writing)
		if err := <-deleted; err != nil {
			t.Fatal(err)
		}
		f.is(f.offsets("c"), "no client")
		stop()
		f.close()
		f = start(t, store.open(t), killfeed.Options{})
		f.is(f.offsets("c"), "no client")
	})
}

func TestPeekChangesNothing(t *testing.T) {
	onStores(t, func(t *testing.T, s storage) {
		f := start(t, s.open(t), killfeed.Options{})
		f.insert(A, B, A)
		f.is(f.fetch("new", peek(in(A))), "1 3")
		f.is(f.next("new", peek(in(A))), "1")
		f.is(f.fetch("new", peek(from(killfeed.Latest, in(A)))), "nothing")
		f.is(f.fetch("new", peek(from(killfeed.StartAt(2), in(A)))), "3")
		f.is(f.fetch("new", peek(cursor(killfeed.Cursor{After: 1}, in(A)))), "3")
		f.is(f.offsets("new"), "no client")
		f.is(f.next("c", in(A)), "1")
		f.is(f.fetch("c", peek(in(A, B))), "2 3")
		f.is(f.fetch("c", peek(cursor(killfeed.Cursor{After: 0}, in(A)))), "1 3")
		f.is(f.fetch("c", peek(cursor(killfeed.Cursor{After: 9}, in(A)))), "gap future")
		f.is(f.offsets("c"), "A:1")
	})
}

// A cursor of the client's own wins over the offsets kept for it, also backwards.
func TestFromCursor(t *testing.T) {
	onStores(t, func(t *testing.T, s storage) {
		f := start(t, s.open(t), killfeed.Options{})
		f.insert(A, B, A, B)
		epoch := f.State().Epoch
		at := func(id killfeed.EventID) killfeed.Cursor { return killfeed.Cursor{After: id, Epoch: epoch} }
		other := killfeed.Cursor{After: 2, Epoch: "00000000"}
		if epoch == other.Epoch {
			other.Epoch = "00000001"
		}
		f.is(f.fetch("c", in(A, B)), "1 2 3 4")
		f.is(f.fetch("c", cursor(at(2), in(A))), "3")
		f.is(f.offsets("c"), "A:3 B:4")
		f.is(f.fetch("c", cursor(at(0), manual(in(A, B)))), "1 2 3 4")
		f.is(f.offsets("c"), "A:0 B:0")
		f.is(f.fetch("c", cursor(killfeed.Cursor{After: 3}, in(A, B))), "4") // a bare number
		f.is(f.fetch("c", cursor(at(4), in(A, B))), "nothing")
		f.is(f.offsets("c"), "A:4 B:4")
		f.is(f.fetch("c", cursor(at(5), in(A, B))), "gap future")
		f.is(f.offsets("c"), "A:4 B:4")
		f.is(f.fetch("c", in(A, B)), "nothing") // told once
		f.is(f.fetch("c", cursor(other, limit(3, in(A, B)))), "1 2 3 gap epoch more")
		f.is(f.fetch("c", in(A, B)), "4")
		f.is(f.fetch("new", cursor(at(3), in(B))), "4")
		f.is(f.offsets("new"), "B:4")
	})
}

func TestReadAfter(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := start(t, storetest.NewModel(), killfeed.Options{Retention: killfeed.Retention{Max: time.Hour}})
		read := func(c killfeed.Cursor, r killfeed.Read) (string, killfeed.Cursor) {
			t.Helper()
			a, err := f.ReadAfter(t.Context(), c, r)
			if err != nil {
				t.Fatal(err)
			}
			if a.Next.Epoch != f.State().Epoch {
				t.Errorf("the next cursor is %v in epoch %s", a.Next, f.State().Epoch)
			}
			return say(a) + " then " + fmt.Sprint(a.Next.After), a.Next
		}
		check := func(c killfeed.Cursor, r killfeed.Read, want string) killfeed.Cursor {
			t.Helper()
			got, next := read(c, r)
			f.is(got, want)
			return next
		}
		check(killfeed.Cursor{}, in(A), "nothing then 0")
		f.insert(A, B, A, B, A)
		c := check(killfeed.Cursor{}, limit(2, in(A)), "1 3 more then 4")
		c = check(c, limit(2, in(A)), "5 then 5")
		check(c, in(A), "nothing then 5")
		f.insert(B)
		c = check(c, in(A), "nothing then 6") // what was looked at needs not be looked at again
		check(killfeed.Cursor{After: 2, Epoch: c.Epoch}, in(A, B), "3 4 5 6 then 6")
		check(killfeed.Cursor{After: 7, Epoch: c.Epoch}, in(A), "gap future then 6")
		check(killfeed.Cursor{After: 7, Epoch: "ffffffff"}, limit(1, in(B)), "2 gap epoch more then 3")
		time.Sleep(2 * time.Hour)
		f.collect()
		f.insert(B, A) // 7, 8
		check(killfeed.Cursor{After: 2, Epoch: c.Epoch}, in(A), "8 gap retention 3-5 then 8")
		check(killfeed.Cursor{After: 5, Epoch: c.Epoch}, in(A), "8 then 8")
		check(killfeed.Cursor{After: 5, Epoch: c.Epoch}, limit(1, in(A, B)), "7 gap retention 6-6 more then 7")
		check(killfeed.Cursor{After: 5, Epoch: "ffffffff"}, in(A, B), "7 8 gap epoch then 8")
		check(killfeed.Cursor{After: 0}, in(C), "nothing then 8") // nothing was lost there
		if f.Stats().Clients != 0 {
			t.Errorf("%d clients were made", f.Stats().Clients)
		}
	})
}

// A gap is told if and only if an unread event of a topic was removed: from the lowest offset + 1 among the topics that lost
// something to the greatest removed event on them.
func TestGap(t *testing.T) {
	retention := killfeed.Retention{Max: time.Hour}
	tests := []struct {
		name string
		test func(t *testing.T, f *feed, expire func())
	}{
		{"told once", func(t *testing.T, f *feed, expire func()) {
			f.is(f.fetch("c", in(A)), "nothing")
			f.insert(A, A, B)
			expire()
			f.is(f.fetch("c", in(A)), "gap retention 1-2")
			f.is(f.offsets("c"), "A:2")
			f.is(f.fetch("c", in(A)), "nothing")
			f.insert(A)
			f.is(f.fetch("c", in(A)), "4")
		}},
		{"repeated until the client commits", func(t *testing.T, f *feed, expire func()) {
			f.is(f.fetch("c", manual(in(A))), "nothing")
			f.insert(A, A)
			expire()
			f.insert(A)
			for range 2 {
				f.is(f.fetch("c", manual(in(A))), "3 gap retention 1-2")
				f.is(f.next("c", manual(in(A))), "3 gap retention 1-2")
			}
			f.is(f.offsets("c"), "A:0")
			f.is(f.commit("c", offset(A, 1)), "A:1")
			f.is(f.fetch("c", manual(in(A))), "3 gap retention 2-2")
			f.is(f.commit("c", offset(A, 2)), "A:2")
			f.is(f.fetch("c", manual(in(A))), "3")
		}},
		{"not without a loss", func(t *testing.T, f *feed, expire func()) {
			f.insert(A, B, A, B, B)
			f.is(f.fetch("read", in(A)), "1 3")
			f.is(f.fetch("quiet", in(C)), "nothing")
			f.is(f.fetch("latest", from(killfeed.Latest, in(A, B))), "nothing")
			expire()
			for _, c := range []string{"read", "quiet", "latest"} {
				f.is(c+" "+f.fetch(c, map[string]killfeed.Read{"read": in(A), "quiet": in(C), "latest": in(A, B)}[c]), c+" nothing")
			}
			f.is(f.fetch("new", in(A, B, C)), "nothing") // earliest has none
		}},
		{"bounds over topics", func(t *testing.T, f *feed, expire func()) {
			f.insert(A, B, C, A, B, C) // 1 to 6
			f.is(f.fetch("c", limit(1, in(A))), "1 more")
			f.is(f.fetch("c", limit(1, in(B))), "2 more")
			f.is(f.fetch("c", in(C)), "3 6")
			expire()
			f.insert(A)
			f.is(f.fetch("c", peek(in(A))), "7 gap retention 2-4")
			f.is(f.fetch("c", peek(in(B))), "gap retention 3-5")
			f.is(f.fetch("c", peek(in(C))), "nothing")
			f.is(f.fetch("c", in(C, B, A)), "7 gap retention 2-5")
			f.is(f.offsets("c"), "A:7 B:5 C:6")
		}},
		{"with next", func(t *testing.T, f *feed, expire func()) {
			f.is(f.fetch("c", in(A, B)), "nothing")
			f.insert(A, B)
			expire()
			f.insert(B, A)
			f.is(f.next("c", in(A, B)), "3 gap retention 1-2")
			f.is(f.offsets("c"), "A:1 B:3")
			f.is(f.next("c", in(A, B)), "4")
		}},
		{"only what was above the offset", func(t *testing.T, f *feed, expire func()) {
			f.insert(A, A, A)
			f.is(f.fetch("c", limit(2, in(A))), "1 2 more")
			expire()
			f.is(f.fetch("c", in(A)), "gap retention 3-3")
		}},
		{"by an explicit position", func(t *testing.T, f *feed, expire func()) {
			f.insert(A, B)
			expire()
			f.insert(A)
			f.is(f.seek("c", killfeed.StartAt(1), A), "A:0")
			f.is(f.fetch("c", in(A)), "3 gap retention 1-1")
			f.is(f.fetch("c", cursor(killfeed.Cursor{}, in(A, B))), "3 gap retention 1-2")
			f.is(f.seek("c", killfeed.Earliest), "A:2 B:2")
			f.is(f.fetch("c", in(A, B)), "3")
		}},
		{"on other topics it may be too wide, never too narrow", func(t *testing.T, f *feed, expire func()) {
			who := killfeed.Topic{Kind: killfeed.KindCharacter, ID: pilot}
			f.is(f.fetch("c", about(who)), "nothing")
			f.insert(A, B)
			expire()
			a, err := f.Fetch(t.Context(), "c", about(who))
			if err != nil || a.Gap == nil || a.Gap.From != 1 || a.Gap.To < 1 || a.Gap.To > 2 {
				t.Errorf("the answer is %s, %v", say(a), err)
			}
			f.is(f.fetch("c", about(who)), "nothing")
		}},
		{"all", func(t *testing.T, f *feed, expire func()) {
			f.insert(A)
			f.is(f.fetch("c", about(killfeed.All())), "1")
			f.insert(A, B)
			expire()
			f.insert(C)
			f.is(f.fetch("c", about(killfeed.All())), "4 gap retention 2-3")
		}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f := start(t, storetest.NewModel(), killfeed.Options{Retention: retention})
				tt.test(t, f, func() {
					time.Sleep(retention.Max + time.Minute)
					f.collect()
				})
			})
		})
	}
}

// hooked is a Store in which something happens at chosen moments.
type hooked struct {
	killfeed.Store

	mu     sync.Mutex
	hooks  map[string]func()
	calls  map[string]int
	errors map[int64]error // of Known
}

// before has f run before the next call; "after Find" has it run after the next Find.
func (h *hooked) before(call string, f func()) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.hooks == nil {
		h.hooks = map[string]func(){}
	}
	h.hooks[call] = f
}

func (h *hooked) run(call string) {
	h.mu.Lock()
	f := h.hooks[call]
	delete(h.hooks, call)
	if h.calls == nil {
		h.calls = map[string]int{}
	}
	h.calls[call]++
	h.mu.Unlock()
	if f != nil {
		f()
	}
}

func (h *hooked) count(call string) int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.calls[call]
}

func (h *hooked) Commit(b *killfeed.Batch) error {
	h.run("Commit")
	return h.Store.Commit(b)
}

func (h *hooked) Remove(through killfeed.EventID) error {
	h.run("Remove")
	return h.Store.Remove(through)
}

func (h *hooked) Find(dst []killfeed.Entry, q killfeed.Query) ([]killfeed.Entry, error) {
	h.run("Find")
	defer h.run("after Find")
	return h.Store.Find(dst, q)
}

func (h *hooked) Read(ids []killfeed.EventID, yield func(killfeed.Event, error) bool) error {
	h.run("Read")
	return h.Store.Read(ids, yield)
}

func (h *hooked) Known(id int64) (killfeed.Known, bool, error) {
	h.mu.Lock()
	err := h.errors[id]
	h.mu.Unlock()
	if err != nil {
		return killfeed.Known{}, false, err
	}
	return h.Store.Known(id)
}

// A collection that comes in the middle of a read takes nothing from it in silence.
func TestCollectionDuringRead(t *testing.T) {
	for _, moment := range []string{"Find", "after Find"} {
		for _, r := range []killfeed.Read{in(A), manual(in(A)), limit(2, in(A))} {
			t.Run(fmt.Sprintf("%s manual=%v limit=%d", moment, r.Manual, r.Limit), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					h := &hooked{Store: storetest.NewModel()}
					f := start(t, h, killfeed.Options{Retention: killfeed.Retention{Max: time.Hour}})
					f.is(f.fetch("c", r), "nothing")
					f.insert(A, A, A)
					time.Sleep(2 * time.Hour)
					f.insert(A, A)
					h.before(moment, func() { f.collect() })
					// Either the removed events are in the answer, or a gap for them is.
					got := f.fetch("c", r)
					want := []string{"1 2 3 4 5", "4 5 gap retention 1-3"}
					if r.Limit > 0 {
						want = []string{"1 2 more", "1 2 more gap retention 3-3", "4 5 gap retention 1-3", "4 5 gap retention 1-2"}
					}
					if !slices.Contains(want, got) {
						t.Errorf("got %q, want one of %q", got, want)
					}
					switch {
					case r.Manual: // nothing was committed, so it is told again
						f.is(f.fetch("c", r), "4 5 gap retention 1-3")
					case got == "1 2 more":
						f.is(f.fetch("c", r), "4 5 gap retention 3-3")
					default:
						f.is(f.fetch("c", r), "nothing")
					}
				})
			})
		}
	}
}

func TestDuplicates(t *testing.T) {
	onStores(t, func(t *testing.T, s storage) {
		f := start(t, s.open(t), killfeed.Options{})
		ctx := t.Context()
		one, two := f.mail(A), f.mail(B)
		say := func(res []killfeed.InsertResult, err error) string {
			t.Helper()
			if err != nil {
				t.Fatal(err)
			}
			var words []string
			for _, r := range res {
				word := fmt.Sprint(r.EventID)
				if r.Duplicate {
					word += " duplicate"
				}
				if r.Update {
					word += " update"
				}
				words = append(words, word)
			}
			return strings.Join(words, ", ")
		}
		all := func(marks killfeed.Marks, mails ...storetest.Mail) string {
			t.Helper()
			var ks []*killfeed.Killmail
			for _, m := range mails {
				ks = append(ks, m.Killmail())
			}
			return say(f.InsertAll(ctx, ks, marks))
		}
		f.is(all(0, one, two, one), "1, 2, 1 duplicate")
		f.is(all(killfeed.MarkBackfill, two, one), "2 duplicate, 1 duplicate")
		nameless := storetest.Mail{System: A}
		f.is(all(0, nameless, nameless), "3, 4")
		f.is(say(f.InsertAll(ctx, nil, 0)), "")

		// What is poorer or as rich adds nothing; what is richer becomes an update of the newest version.
		bare, hash, zkb := f.mail(A), storetest.Mail{}, storetest.Mail{}
		bare.NoHash = true
		hash = bare
		hash.NoHash = false
		zkb = hash
		zkb.ZKB = true
		labels := func(l ...string) storetest.Mail { m := zkb; m.Labels = l; return m }
		f.is(all(0, bare, hash, bare), "5, 6 update, 5 duplicate")
		f.is(all(0, zkb, hash, bare), "7 update, 5 duplicate, 5 duplicate")
		f.is(all(0, labels("a", "b")), "8 update")
		f.is(all(0, labels("b", "a"), labels("a", "b", "a"), labels("b"), zkb), "5 duplicate, 5 duplicate, 5 duplicate, 5 duplicate")
		f.is(all(0, labels("c", "a", "b")), "9 update")
		f.is(all(0, labels("a", "b"), labels("d", "c", "b", "a"), labels("d")), "5 duplicate, 10 update, 5 duplicate")
		f.is(f.fetch("c", in(A)), "1 3 4 5")
		f.is(f.fetch("d", updates(in(A))), "1 3 4 5 6 7 8 9 10")

		// For ever: also when the events are gone and the program was started anew.
		f.is(f.fetch("c", in(B)), "2")
		f.is(f.commit("c", offset(A, 10)), "A:10")
		f.is(f.commit("c", offset(B, 10)), "B:10")
		f.is(f.commit("d", offset(A, 10)), "A:10")
		f.is(fmt.Sprint(f.collect()), "{10 11 10}")
		f.close()
		f = start(t, s.open(t), killfeed.Options{})
		f.is(all(0, one, two, bare, labels("d")), "1 duplicate, 2 duplicate, 5 duplicate, 5 duplicate")
		f.is(all(0, one), "1 duplicate")
		f.is(all(0, storetest.Mail{ID: 99, System: A}), "11")
		if st := f.Stats(); st.Inserted != 1 || st.Duplicates != 5 || st.Updates != 0 {
			t.Errorf("stats are %+v", st)
		}
	})
}

// Versions that each bring something that another one lacks do not become updates of each other for ever.
func TestUpdatesEnd(t *testing.T) {
	f := start(t, storetest.NewModel(), killfeed.Options{})
	m := f.mail(A)
	hash, zkb := m, m
	zkb.NoHash, zkb.ZKB = true, true
	labels := func(l ...string) storetest.Mail { m := m; m.Labels = l; return m }
	for _, versions := range [][]storetest.Mail{{hash, zkb}, {labels("a", "b"), labels("a", "c")}} {
		for range 5 {
			for _, m := range versions {
				f.insertMail(m, 0)
			}
		}
	}
	if head := f.State().Head; head > 5 {
		t.Errorf("4 versions of one killmail, each inserted 5 times, became %d events", head)
	}
}

// InsertAll stores all or none: an error for one of the killmails keeps out the others.
func TestInsertAllOrNone(t *testing.T) {
	unreadable := errors.New("unreadable")
	h := &hooked{Store: storetest.NewModel(), errors: map[int64]error{2: unreadable}}
	f := start(t, h, killfeed.Options{})
	one, two := f.mail(A), f.mail(A)
	_, err := f.InsertAll(t.Context(), []*killfeed.Killmail{one.Killmail(), two.Killmail()}, 0)
	f.errorIs(err, unreadable)
	if head := f.State().Head; head != 0 {
		t.Errorf("%d events were stored by an insert that was refused", head)
	}
	f.is(fmt.Sprint(f.insertMail(one, 0)), "{1 false false}")
	f.is(f.fetch("c", in(A)), "1")
}

// A source's place is stored with its killmails, both or neither, also when there is nothing new among them.
func TestInsertFrom(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := newModel()
		h := &hooked{errors: map[int64]error{9: errors.New("unreadable")}}
		faulty := storetest.NewFaulty(store.open(t))
		h.Store = faulty
		f := start(t, h, killfeed.Options{})
		insert := func(place string, ids ...int64) error {
			var ks []*killfeed.Killmail
			for _, id := range ids {
				m := storetest.Mail{ID: id, System: A, Time: time.Now()}
				ks = append(ks, m.Killmail())
			}
			_, err := f.InsertFrom(t.Context(), ks, 0, killfeed.Checkpoint{Source: "r2z2", Place: place})
			return err
		}
		check := func(place string, head killfeed.EventID) {
			t.Helper()
			got, err := f.Checkpoint("r2z2")
			if got != place || err != nil || f.State().Head != head {
				t.Errorf("the place is %q, %v, and the head %d; want %q and %d", got, err, f.State().Head, place, head)
			}
		}
		check("", 0)
		must := func(err error) {
			t.Helper()
			if err != nil {
				t.Fatal(err)
			}
		}
		must(insert("one", 1, 2))
		check("one", 2)
		must(insert("two", 2, 1))
		check("two", 2)
		must(insert("three"))
		check("three", 2)
		if insert("four", 3, 9) == nil {
			t.Error("no error")
		}
		check("three", 2)
		faulty.FailCommits(storetest.Fault{}, storetest.Fault{Stored: true})
		f.errorIs(insert("five", 3), killfeed.ErrOutcomeUnknown)
		check("three", 2)
		f.errorIs(insert("six", 3), killfeed.ErrOutcomeUnknown)
		check("six", 3)
		must(insert("seven", 3, 4))
		check("seven", 4)
		_, err := f.InsertFrom(t.Context(), nil, 0, killfeed.Checkpoint{Place: "x"})
		f.invalid(err, "checkpoint")
		_, err = f.InsertFrom(t.Context(), nil, 0, killfeed.Checkpoint{Source: "x", Place: strings.Repeat("x", 64<<10+1)})
		f.invalid(err, "checkpoint")
		f = start(t, store.open(t), killfeed.Options{})
		check("seven", 4)
	})
}

func TestInsertRefuses(t *testing.T) {
	f := start(t, storetest.NewModel(), killfeed.Options{})
	for text, system := range map[string]uint32{
		`5`: A, `[]`: A, `{`: A, ``: A, `null`: A, `{} {}`: A, `{"killmail_id":"1"}`: A, `{"solar_system_id":1}`: A,
		`{"a":1}`: 0, `{"b":1}`: 1 << 31,
	} {
		_, err := f.Insert(t.Context(), system, []byte(text))
		if _, ok := errors.AsType[*killfeed.InvalidError](err); !ok {
			t.Errorf("inserting %q in system %d gave %v, want an InvalidError", text, system, err)
		}
	}
	if head := f.State().Head; head != 0 {
		t.Errorf("%d events were stored", head)
	}
	ctx, cancel := context.WithCancelCause(t.Context())
	left := errors.New("left")
	cancel(left)
	if _, err := f.Insert(ctx, A, []byte(`{}`)); err != nil {
		f.errorIs(err, left)
	}
}

// Events become visible in the order of their ids, whoever inserts: no reader ever sees n+1 before n, and all arrive.
func TestOrderUnderConcurrency(t *testing.T) {
	onStores(t, func(t *testing.T, s storage) {
		const writers, each = 8, 60
		f := start(t, s.open(t), killfeed.Options{})
		var writing, reading sync.WaitGroup
		for w := range writers {
			writing.Go(func() {
				var last killfeed.EventID
				for i := range each {
					m := storetest.Mail{ID: int64(w*each + i + 1), System: []uint32{A, B, C}[i%3], Time: time.Unix(1e9, 0).UTC()}
					res, err := f.InsertAll(t.Context(), []*killfeed.Killmail{m.Killmail()}, 0)
					if err != nil {
						t.Error(err)
						return
					}
					if id := res[0].EventID; id <= last || f.State().Head < id {
						t.Errorf("a writer got event %d after %d, with the head at %d", id, last, f.State().Head)
					}
					last = res[0].EventID
				}
			})
		}
		for r := range 3 {
			reading.Go(func() {
				next := killfeed.EventID(1)
				for next <= writers*each {
					a, err := f.Fetch(t.Context(), fmt.Sprint("reader", r), wait(10*time.Second, limit(7*r, about(killfeed.All()))))
					if err != nil || len(a.Events) == 0 {
						t.Errorf("%s, %v", say(a), err)
						return
					}
					for _, e := range a.Events {
						if e.ID != next || e.MirrorSeq != uint64(next) {
							t.Errorf("event %d with mirror sequence %d came where %d was next", e.ID, e.MirrorSeq, next)
							return
						}
						next++
					}
				}
			})
		}
		writing.Wait()
		reading.Wait()
		if st := f.Stats(); st.Inserted != writers*each || st.Grouped < st.Inserted {
			t.Errorf("stats are %+v", st)
		}
	})
}

// Two concurrent reads of one client never get the same event, and between them they get all.
func TestOneClientConcurrently(t *testing.T) {
	onStores(t, func(t *testing.T, s storage) {
		f := start(t, s.open(t), killfeed.Options{})
		const n = 200
		for range n / 4 {
			f.insert(A, B, A, C)
		}
		var (
			mu      sync.Mutex
			got     []killfeed.EventID
			readers sync.WaitGroup
		)
		for r := range 6 {
			readers.Go(func() {
				for {
					read := f.Fetch
					if r%2 == 0 {
						read = f.Next
					}
					a, err := read(t.Context(), "c", limit(1+r, in(A, B, C)))
					if err != nil {
						t.Error(err)
					}
					if len(a.Events) == 0 {
						return
					}
					mu.Lock()
					for _, e := range a.Events {
						got = append(got, e.ID)
					}
					mu.Unlock()
				}
			})
		}
		readers.Wait()
		slices.Sort(got)
		if len(got) != n || got[0] != 1 || got[n-1] != n {
			t.Errorf("%d events came instead of 1 to %d: %v", len(got), n, got)
		}
	})
}

// The first use of a topic is recorded durably in both modes, so that it holds what comes after it.
func TestFirstUseIsDurable(t *testing.T) {
	for _, r := range []killfeed.Read{in(A), manual(in(A)), from(killfeed.Latest, in(A)), manual(from(killfeed.Latest, in(A)))} {
		synctest.Test(t, func(t *testing.T) {
			store := newModel()
			f := start(t, store.open(t), killfeed.Options{})
			f.insert(B, B)
			f.is(f.fetch("c", r), "nothing")
			want := f.offsets("c")
			again := start(t, store.open(t), killfeed.Options{}) // with f not closed: a crash
			again.is(again.offsets("c"), want)
			info, err := again.Client("c")
			if err != nil || !info.LastSeen.Equal(time.Now()) {
				t.Errorf("after a crash the client was seen %v, %v", info.LastSeen, err)
			}
		})
	}
}

// Automatic commits are written behind, within 100 ms; a crash before that makes events repeat, and none be skipped.
func TestWriteBehind(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := newModel()
		f := start(t, store.open(t), killfeed.Options{})
		crash := func() {
			t.Helper()
			old := f
			f = start(t, store.open(t), killfeed.Options{})
			f.made = old.made
		}
		f.insert(A, A, A)
		f.is(f.next("c", in(A)), "1")
		time.Sleep(99 * time.Millisecond)
		f.is(f.next("c", in(A)), "2")
		time.Sleep(time.Millisecond)
		synctest.Wait()
		crash()
		f.is(f.offsets("c"), "A:2") // both, 100 ms after the first
		f.is(f.next("c", in(A)), "3")
		crash()
		f.is(f.next("c", in(A)), "3") // again
		f.insert(B)                   // a group commit takes along what is to be written
		crash()
		f.is(f.offsets("c"), "A:3")
		f.insert(A)
		f.is(f.next("c", in(A)), "5")
		f.close() // and so does Close
		f = start(t, store.open(t), killfeed.Options{})
		f.is(f.offsets("c"), "A:5")
	})
}

// Explicit commits and seeks, and cursors of the client's own, are durable before they are answered.
func TestExplicitPositionsAreDurable(t *testing.T) {
	store := newModel()
	f := start(t, store.open(t), killfeed.Options{})
	crash := func() {
		f = start(t, store.open(t), killfeed.Options{})
	}
	f.insert(A, B, A)
	f.is(f.commit("c", offset(A, 2)), "A:2")
	crash()
	f.is(f.offsets("c"), "A:2")
	f.is(f.fetch("c", in(A)), "3")
	f.is(f.commit("c", offset(A, 1)), "A:3") // what an automatic commit did is durable with it
	crash()
	f.is(f.offsets("c"), "A:3")
	f.is(f.seek("c", killfeed.StartAt(2)), "A:1")
	crash()
	f.is(f.offsets("c"), "A:1")
	f.is(f.fetch("c", in(A)), "3")
	f.is(f.seek("c", killfeed.StartAt(1)), "A:0") // and what it had before must not come back
	crash()
	f.is(f.offsets("c"), "A:0")
	f.is(f.fetch("c", manual(cursor(killfeed.Cursor{After: 2}, in(A, B)))), "3")
	crash()
	f.is(f.offsets("c"), "A:2 B:2")
	if err := f.DeleteClient(t.Context(), "c"); err != nil {
		t.Fatal(err)
	}
	crash()
	f.is(f.offsets("c"), "no client")
}

// sequenceFault is a way in which a write fails.
type sequenceFault struct {
	name  string
	fault storetest.Fault
	// refused: the caller may be sure that nothing was stored.
	refused bool
}

var sequenceFaults = []sequenceFault{
	{"failed", storetest.Fault{}, false},
	{"failed but stored", storetest.Fault{Stored: true}, false},
	{"disk full", storetest.Fault{Err: killfeed.ErrDiskFull}, true},
	{"disk full, unknown", storetest.Fault{Err: fmt.Errorf("%w, %w", killfeed.ErrDiskFull, killfeed.ErrOutcomeUnknown)}, false},
	{"disk full, unknown but stored", storetest.Fault{
		Err: fmt.Errorf("%w, %w", killfeed.ErrDiskFull, killfeed.ErrOutcomeUnknown), Stored: true}, false},
	{"store failed", storetest.Fault{Err: killfeed.ErrFailed}, false},
	{"store failed but stored", storetest.Fault{Err: killfeed.ErrFailed, Stored: true}, false},
}

// Whatever write fails, in whatever way: what was acknowledged holds, what was not is tried again with success, ids have no
// hole, and the store and the memory agree in the end.
func TestSequenceErrors(t *testing.T) {
	unknown := func(f *feed, s sequenceFault, err error) {
		f.Helper()
		if err == nil {
			f.Fatalf("no error")
		}
		if got := errors.Is(err, killfeed.ErrOutcomeUnknown); got == s.refused {
			f.Errorf("the error %v says outcome unknown: %v", err, got)
		}
		if s.fault.Err != nil {
			for _, e := range []error{killfeed.ErrDiskFull, killfeed.ErrFailed} {
				if errors.Is(s.fault.Err, e) != errors.Is(err, e) {
					f.Errorf("the error %v hides %v", err, s.fault.Err)
				}
			}
		}
	}
	operations := []struct {
		name string
		// test runs with three events on A and one on B; client c has read none of them and holds A:0.
		test func(f *feed, faulty *storetest.Faulty, s sequenceFault, crash func() *feed)
	}{
		{"insert", func(f *feed, faulty *storetest.Faulty, s sequenceFault, crash func() *feed) {
			m := f.mail(A)
			faulty.FailCommits(s.fault)
			_, err := f.InsertAll(f.Context(), []*killfeed.Killmail{m.Killmail()}, 0)
			unknown(f, s, err)
			f.is(fmt.Sprint(f.insertMail(m, 0)), fmt.Sprintf("{5 %v false}", s.fault.Stored))
			f.insert(A)
			f.is(f.fetch("c", in(A)), "1 2 3 5 6")
			f = crash()
			f.is(fmt.Sprint(f.insertMail(m, 0)), "{5 true false}")
			f.is(f.fetch("d", in(A)), "1 2 3 5 6")
		}},
		{"insert wakes", func(f *feed, faulty *storetest.Faulty, s sequenceFault, crash func() *feed) {
			f.is(f.fetch("c", in(A)), "1 2 3")
			answer := make(chan string)
			go func() { answer <- f.fetch("c", wait(time.Minute, in(A))) }()
			synctest.Wait()
			m := f.mail(A)
			faulty.FailCommits(s.fault)
			began := time.Now()
			_, err := f.InsertAll(f.Context(), []*killfeed.Killmail{m.Killmail()}, 0)
			unknown(f, s, err)
			if !s.fault.Stored {
				f.insertMail(m, 0)
			}
			f.is(<-answer, "5")
			if d := time.Since(began); d > time.Second {
				f.Errorf("the reader slept for %v after the event became visible", d)
			}
		}},
		{"update", func(f *feed, faulty *storetest.Faulty, s sequenceFault, crash func() *feed) {
			bare := f.mail(A)
			bare.NoHash = true
			f.insertMail(bare, 0)
			richer := bare
			richer.NoHash = false
			faulty.FailCommits(s.fault)
			_, err := f.InsertAll(f.Context(), []*killfeed.Killmail{richer.Killmail()}, 0)
			unknown(f, s, err)
			want := "{6 false true}"
			if s.fault.Stored {
				want = "{5 true false}"
			}
			f.is(fmt.Sprint(f.insertMail(richer, 0)), want)
			f = crash()
			f.is(fmt.Sprint(f.insertMail(richer, 0)), "{5 true false}")
			f.is(f.fetch("d", updates(in(A))), "1 2 3 5 6")
		}},
		{"commit", func(f *feed, faulty *storetest.Faulty, s sequenceFault, crash func() *feed) {
			faulty.FailCommits(s.fault)
			_, err := f.Commit(f.Context(), "c", offset(A, 2))
			unknown(f, s, err)
			f.is(f.offsets("c"), "A:0")
			f.is(f.fetch("c", manual(in(A))), "1 2 3")
			f.is(f.commit("c", offset(A, 2)), "A:2")
			f = crash()
			f.is(f.fetch("c", in(A)), "3")
		}},
		{"commit, then a crash", func(f *feed, faulty *storetest.Faulty, s sequenceFault, crash func() *feed) {
			faulty.FailCommits(s.fault)
			_, err := f.Commit(f.Context(), "c", offset(A, 2))
			unknown(f, s, err)
			f = crash()
			if s.fault.Stored {
				f.is(f.offsets("c"), "A:2")
			} else {
				f.is(f.offsets("c"), "A:0")
			}
		}},
		{"seek", func(f *feed, faulty *storetest.Faulty, s sequenceFault, crash func() *feed) {
			faulty.FailCommits(s.fault)
			_, err := f.Seek(f.Context(), "c", killfeed.StartAt(3), nil)
			unknown(f, s, err)
			f.is(f.offsets("c"), "A:0")
			f.is(f.seek("c", killfeed.StartAt(3)), "A:2")
			f = crash()
			f.is(f.fetch("c", in(A)), "3")
		}},
		{"first use", func(f *feed, faulty *storetest.Faulty, s sequenceFault, crash func() *feed) {
			faulty.FailCommits(s.fault)
			a, err := f.Fetch(f.Context(), "new", in(A))
			if errors.Is(s.fault.Err, killfeed.ErrDiskFull) || errors.Is(s.fault.Err, killfeed.ErrFailed) {
				// Reads go on.
				if f.is(say(a), "1 2 3"); err != nil {
					f.Fatal(err)
				}
			} else {
				unknown(f, s, err)
				f.is(f.fetch("new", in(A)), "1 2 3")
			}
			time.Sleep(150 * time.Millisecond)
			f = crash()
			f.is(f.offsets("new"), "A:3")
			if info, err := f.Client("new"); err != nil || time.Since(info.LastSeen) > time.Minute {
				f.Errorf("after a crash the client was last seen %v, %v", info.LastSeen, err)
			}
		}},
		{"automatic commit", func(f *feed, faulty *storetest.Faulty, s sequenceFault, crash func() *feed) {
			f.is(f.fetch("c", in(A)), "1 2 3")
			faulty.FailCommits(s.fault, s.fault)
			time.Sleep(350 * time.Millisecond)
			f.is(f.offsets("c"), "A:3")
			f = crash()
			f.is(f.offsets("c"), "A:3")
		}},
		{"automatic commit, grouped with an insert", func(f *feed, faulty *storetest.Faulty, s sequenceFault, crash func() *feed) {
			f.is(f.fetch("c", limit(2, in(A))), "1 2 more")
			m := f.mail(A)
			faulty.FailCommits(s.fault)
			_, err := f.InsertAll(f.Context(), []*killfeed.Killmail{m.Killmail()}, 0)
			unknown(f, s, err)
			f.is(f.next("c", in(A)), "3")
			time.Sleep(350 * time.Millisecond)
			f = crash()
			f.is(f.offsets("c"), "A:3")
		}},
		{"delete", func(f *feed, faulty *storetest.Faulty, s sequenceFault, crash func() *feed) {
			faulty.FailCommits(s.fault)
			unknown(f, s, f.DeleteClient(f.Context(), "c"))
			f.is(f.offsets("c"), "A:0")
			if err := f.DeleteClient(f.Context(), "c"); err != nil {
				f.Fatal(err)
			}
			f = crash()
			f.is(f.offsets("c"), "no client")
		}},
		{"collect", func(f *feed, faulty *storetest.Faulty, s sequenceFault, crash func() *feed) {
			f.is(f.fetch("c", in(A)), "1 2 3")
			faulty.FailRemoves(s.fault)
			if _, err := f.Collect(f.Context()); err == nil {
				f.Error("no error")
			}
			if c := f.collect(); c.First != 4 || c.Head != 4 {
				f.Errorf("then it collected %+v", c)
			}
			f.insert(A)
			f = crash()
			f.is(f.fetch("c", in(A)), "5")
			f.is(f.fetch("new", from(killfeed.StartAt(1), in(A, B))), "4 5 gap retention 1-3")
		}},
		{"collect, what it writes first", func(f *feed, faulty *storetest.Faulty, s sequenceFault, crash func() *feed) {
			f.is(f.fetch("c", in(A)), "1 2 3")
			faulty.FailCommits(s.fault, s.fault, s.fault)
			if _, err := f.Collect(f.Context()); err == nil {
				// It must not remove what a crash would make the client not have read.
				f.Error("no error")
			}
			f = crash()
			if got := f.fetch("c", in(A)); got != "1 2 3" && got != "nothing" {
				f.Errorf("after a crash the client is told %s", got)
			}
		}},
	}
	for _, op := range operations {
		for _, s := range sequenceFaults {
			t.Run(op.name+"/"+s.name, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					store := newModel()
					faulty := storetest.NewFaulty(store.open(t))
					f := start(t, faulty, killfeed.Options{})
					f.insert(A, A, A, B)
					f.is(f.fetch("c", manual(in(A))), "1 2 3")
					op.test(f, faulty, s, func() *feed {
						again := start(t, store.open(t), killfeed.Options{})
						again.made = f.made
						return again
					})
				})
			})
		}
	}
}

// On a full disk reads and automatic commits go on and inserts are refused; with space everything works and is written.
func TestDiskFull(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := newModel()
		faulty := storetest.NewFaulty(store.open(t))
		f := start(t, faulty, killfeed.Options{})
		f.insert(A, B, A)
		f.is(f.next("c", in(A)), "1")
		faulty.Sicken(fmt.Errorf("3 bytes left: %w", killfeed.ErrDiskFull))
		f.errorIs(f.Health(), killfeed.ErrDiskFull)
		m := f.mail(A)
		_, err := f.InsertAll(t.Context(), []*killfeed.Killmail{m.Killmail()}, 0)
		f.errorIs(err, killfeed.ErrDiskFull)
		if errors.Is(err, killfeed.ErrOutcomeUnknown) {
			t.Errorf("the insert was refused at the door, yet: %v", err)
		}
		f.is(f.next("c", in(A)), "3")
		f.is(f.next("c", in(A)), "nothing")
		f.is(f.fetch("new", in(A, B)), "1 2 3")
		f.is(f.fetch("new", in(A, B)), "nothing")
		f.is(f.fetch("new", cursor(killfeed.Cursor{After: 1}, in(A, B))), "2 3")
		_, err = f.Commit(t.Context(), "c", offset(A, 3))
		f.errorIs(err, killfeed.ErrDiskFull)
		_, err = f.Seek(t.Context(), "c", killfeed.Earliest, nil)
		f.errorIs(err, killfeed.ErrDiskFull)
		f.errorIs(f.DeleteClient(t.Context(), "c"), killfeed.ErrDiskFull)
		time.Sleep(time.Minute)
		f.is(f.offsets("c"), "A:3")
		f.is(f.offsets("new"), "A:3 B:2")
		faulty.Heal()
		time.Sleep(110 * time.Millisecond)
		f.insertMail(m, 0)
		f = start(t, store.open(t), killfeed.Options{})
		f.is(f.offsets("c"), "A:3")
		f.is(f.offsets("new"), "A:3 B:2")
		f.is(f.fetch("new", in(A, B)), "4")
		if info, err := f.Client("new"); err != nil || time.Since(info.LastSeen) > 2*time.Minute {
			t.Errorf("after a crash the client was last seen %v, %v", info.LastSeen, err)
		}
	})
}

// After a failed fsync nothing is acknowledged any more, and reads go on.
func TestFailed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := newModel()
		faulty := storetest.NewFaulty(store.open(t))
		f := start(t, faulty, killfeed.Options{})
		f.insert(A, A)
		f.is(f.next("c", in(A)), "1")
		faulty.FailCommits(storetest.Fault{Err: fmt.Errorf("fsync: %w", killfeed.ErrFailed), Stored: true, Sticky: true})
		for range 2 {
			_, err := f.Insert(t.Context(), A, []byte(`{"killmail_id":7}`))
			f.errorIs(err, killfeed.ErrFailed)
		}
		_, err := f.Commit(t.Context(), "c", offset(A, 2))
		f.errorIs(err, killfeed.ErrFailed)
		_, err = f.Seek(t.Context(), "c", killfeed.Latest, nil)
		f.errorIs(err, killfeed.ErrFailed)
		f.errorIs(f.DeleteClient(t.Context(), "c"), killfeed.ErrFailed)
		_, err = f.Collect(t.Context())
		f.errorIs(err, killfeed.ErrFailed)
		f.is(f.next("c", in(A)), "2")
		f.is(f.fetch("c", in(A)), "3") // it was stored, so it is there
		f.is(f.fetch("new", in(A)), "1 2 3")
		f = start(t, store.open(t), killfeed.Options{})
		f.is(f.offsets("c"), "A:1") // repeats, never skips
		f.made = 6
		f.is(fmt.Sprint(f.insertMail(f.mail(A), 0)), "{4 false true}")
	})
}

// A caller does not hang with a write that hangs, as an engine's does on a full disk.
func TestHangingWrite(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := &hooked{Store: storetest.NewModel()}
		faulty := storetest.NewFaulty(h)
		f := start(t, faulty, killfeed.Options{})
		f.insert(A)
		release := make(chan struct{})
		hang := func() {
			h.before("Commit", func() {
				<-release
			})
		}
		hang()
		m := f.mail(A)
		result := make(chan error)
		began := time.Now()
		go func() {
			_, err := f.InsertAll(t.Context(), []*killfeed.Killmail{m.Killmail()}, 0)
			result <- err
		}()
		time.Sleep(1500 * time.Millisecond)
		faulty.Sicken(killfeed.ErrDiskFull)
		err := <-result
		f.errorIs(err, killfeed.ErrDiskFull)
		f.errorIs(err, killfeed.ErrOutcomeUnknown)
		if d := time.Since(began); d > 3*time.Second {
			t.Errorf("the caller was held for %v", d)
		}
		f.is(f.fetch("c", peek(in(A))), "1")
		faulty.Heal()
		close(release)
		synctest.Wait()
		f.is(fmt.Sprint(f.insertMail(m, 0)), "{2 true false}")

		// A caller who leaves is told that the outcome is unknown.
		release = make(chan struct{})
		hang()
		ctx, cancel := context.WithTimeoutCause(t.Context(), time.Minute, errors.New("had enough"))
		defer cancel()
		m = f.mail(A)
		_, err = f.InsertAll(ctx, []*killfeed.Killmail{m.Killmail()}, 0)
		f.errorIs(err, killfeed.ErrOutcomeUnknown)
		f.errorIs(err, context.Cause(ctx))
		close(release)
		synctest.Wait()
		f.is(fmt.Sprint(f.insertMail(m, 0)), "{3 true false}")
	})
}

// A wall clock that jumps makes no receipt time fall, and no event old.
func TestWallClockJumps(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		jump := time.Duration(0)
		f := start(t, storetest.NewModel(), killfeed.Options{
			Retention: killfeed.Retention{Retain: 12 * time.Hour, Max: 20 * time.Hour, ClientTTL: 7 * 24 * time.Hour},
			Wall:      func() time.Time { return time.Now().Add(jump) },
		})
		f.insert(A)
		for i, to := range []time.Duration{24 * time.Hour, -24 * time.Hour, 0, 400 * 24 * time.Hour, -400 * 24 * time.Hour, 0} {
			jump = to
			f.is(f.fetch("c", in(A)), fmt.Sprint(i+1))
			if c := f.collect(); c.Removed != 0 {
				t.Fatalf("after a jump of %v a collection removed %d events", to, c.Removed)
			}
			f.insert(A)
			time.Sleep(time.Minute)
		}
		var last time.Time
		for id := killfeed.EventID(1); id <= f.State().Head; id++ {
			e, err := f.Event(id)
			if err != nil {
				t.Fatal(err)
			}
			if e.ReceivedAt.Before(last) || e.ReceivedAt.Location() != time.UTC || e.ReceivedAt.Nanosecond()%1e6 != 0 {
				t.Errorf("event %d was received at %v, the one before at %v", id, e.ReceivedAt, last)
			}
			last = e.ReceivedAt
		}
		f.is(f.offsets("c"), "A:6")
	})
}

// A damaged record is reported by its id, and neither served nor in the way.
func TestDamagedEvent(t *testing.T) {
	store := storetest.NewModel()
	f := start(t, store, killfeed.Options{})
	f.insert(A, A, A, A)
	store.Damage(2)
	store.Damage(3)
	f.is(f.fetch("auto", in(A)), "1 4 gap damaged 2-3")
	f.is(f.fetch("auto", in(A)), "nothing")
	f.is(f.next("next", in(A)), "1")
	f.is(f.next("next", in(A)), "gap damaged 2-2")
	f.is(f.next("next", in(A)), "gap damaged 3-3")
	f.is(f.next("next", in(A)), "4")
	_, err := f.Event(2)
	if e, ok := errors.AsType[*killfeed.DamageError](err); !ok || e.ID != 2 {
		t.Errorf("event 2 gives %v", err)
	}
	_, err = f.Event(5)
	f.errorIs(err, killfeed.ErrNotFound)
	_, err = f.Event(0)
	f.errorIs(err, killfeed.ErrNotFound)
}

// After Close all calls end with ErrClosed.
func TestClosed(t *testing.T) {
	onStores(t, func(t *testing.T, s storage) {
		f := start(t, s.open(t), killfeed.Options{})
		f.insert(A)
		f.is(f.fetch("c", in(A)), "1")
		closed := f.Feed
		f.close()
		ctx := t.Context()
		_, err := closed.Insert(ctx, A, []byte(`{}`))
		f.errorIs(err, killfeed.ErrClosed)
		_, err = closed.Fetch(ctx, "new", in(A))
		f.errorIs(err, killfeed.ErrClosed)
		_, err = closed.Commit(ctx, "c", offset(A, 1))
		f.errorIs(err, killfeed.ErrClosed)
		_, err = closed.Seek(ctx, "c", killfeed.Earliest, nil)
		f.errorIs(err, killfeed.ErrClosed)
		_, err = closed.Collect(ctx)
		f.errorIs(err, killfeed.ErrClosed)
		f.errorIs(closed.DeleteClient(ctx, "c"), killfeed.ErrClosed)
	})
}

// What a feed has stored is there for the next one, on every kind of store.
func TestReopen(t *testing.T) {
	onStores(t, func(t *testing.T, s storage) {
		f := start(t, s.open(t), killfeed.Options{})
		f.insert(A, B, A)
		f.is(f.next("c", in(A, B)), "1")
		f.is(f.fetch("d", about(killfeed.All())), "1 2 3")
		f.is(f.fetch("c", from(killfeed.StartAt(3), in(C))), "nothing")
		epoch, one := f.State().Epoch, mustEvent(t, f.Feed, 1)
		made := f.made
		f.close()
		f = start(t, s.open(t), killfeed.Options{})
		f.made = made
		if f.State().Epoch != epoch || f.State().Head != 3 {
			t.Errorf("the state is %+v, the epoch was %s", f.State(), epoch)
		}
		if e := mustEvent(t, f.Feed, 1); !bytes.Equal(e.Killmail, one.Killmail) || !e.ReceivedAt.Equal(one.ReceivedAt) {
			t.Errorf("event 1 was %+v and is %+v", one, e)
		}
		f.is(f.offsets("c"), "A:1 B:0 C:2")
		f.insert(A)
		f.is(f.fetch("c", in(A, B)), "2 3 4")
		f.is(f.fetch("d", about(killfeed.All())), "4")
		infos, err := f.Clients("", 10)
		if err != nil || len(infos) != 2 {
			t.Errorf("clients are %+v, %v", infos, err)
		}
	})
}

func mustEvent(t *testing.T, f *killfeed.Feed, id killfeed.EventID) killfeed.Event {
	t.Helper()
	e, err := f.Event(id)
	if err != nil {
		t.Fatal(err)
	}
	return e
}

// Lag counts what a client has not had, each event once.
func TestLag(t *testing.T) {
	onStores(t, func(t *testing.T, s storage) {
		f := start(t, s.open(t), killfeed.Options{})
		lag := func(want int) {
			t.Helper()
			info, err := f.Client("c")
			if err != nil || info.Lag != want {
				t.Errorf("the lag is %d, %v; want %d (%s)", info.Lag, err, want, sayOffsets(info.Offsets))
			}
		}
		who := killfeed.Topic{Kind: killfeed.KindCharacter, ID: pilot}
		f.is(f.fetch("c", about(killfeed.System(A), who, killfeed.System(B))), "nothing")
		lag(0)
		f.insert(A, B, C, A)
		lag(3)
		f.is(f.next("c", about(killfeed.System(A), who)), "1")
		lag(2)
		richer := storetest.Mail{ID: 1, System: A, Victim: storetest.Party{Character: pilot}, Labels: []string{"a"}}
		f.insertMail(richer, 0)
		lag(2) // an update is not counted: it is not delivered unless asked for
		f.is(f.fetch("c", about(killfeed.System(A), who, killfeed.System(B))), "2 4")
		lag(0)
	})
}
