package killfeed_test

import (
	"bytes"
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
	"killfeed/internal/ledgertest"
	"killfeed/pebblestore"
	"killfeed/storetest"
)

// Solar systems, and a character, that the tests speak of.
const (
	A, B, C = 30000142, 30002187, 30000144
	pilot   = 90000001
)

func TestMain(m *testing.M) { ledgertest.Main(m) }

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
	if o.Ledger == nil {
		o.Ledger = ledgertest.Ledger(t, s)
	}
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

func limit(n int, r killfeed.Read) killfeed.Read { r.Limit = n; return r }

func manual(r killfeed.Read) killfeed.Read { r.Manual = true; return r }

func peek(r killfeed.Read) killfeed.Read { r.Peek = true; return r }

func updates(r killfeed.Read) killfeed.Read { r.Updates = true; return r }

func noBackfill(r killfeed.Read) killfeed.Read { r.NoBackfill = true; return r }

func maxAge(d time.Duration, r killfeed.Read) killfeed.Read { r.MaxAge = d; return r }

func wait(d time.Duration, r killfeed.Read) killfeed.Read { r.Wait = d; return r }

func from(s killfeed.Start, r killfeed.Read) killfeed.Read { r.Start = s; return r }

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
	ledgertest.Leading(f, f.Feed)
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
		if len(topics) != 16 {
			t.Fatalf("the killmail has %d topics: %v", len(topics), topics)
		}
		for _, topic := range m.Topics() { // who took part, whether as victim or as attacker
			if topic.Kind = topic.Kind.Base(); !slices.Contains(topics, topic) {
				topics = append(topics, topic)
			}
		}
		for _, topic := range topics {
			f.is(topic.String()+": "+f.fetch("c", about(topic)), topic.String()+": 1")
		}
		for _, topic := range []killfeed.Topic{
			{Kind: killfeed.KindCharacter, ID: 2}, {Kind: killfeed.KindShip, ID: 1}, killfeed.Label("pvp"),
			{Kind: killfeed.KindCharacter | killfeed.RoleKill, ID: 1}, {Kind: killfeed.KindShip | killfeed.RoleLoss, ID: 15},
		} {
			f.is(f.fetch("c", about(topic)), "nothing")
		}
		if e, err := f.Event(1); err != nil || !bytes.Equal(e.Killmail, text) {
			t.Errorf("event 1 is %s, %v; want %s", e.Killmail, err, text)
		}
	})
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

// hooked is a Store in which something happens at chosen moments.
type hooked struct {
	killfeed.Store

	mu     sync.Mutex
	hooks  map[string]func()
	calls  map[string]int
	errors map[int64]error // of Known
	left   int             // calls of any kind until nth runs; 0: never
	nth    func()

	positions, most int // of all Finds: the positions asked for, and the greatest Query.Max
	offsetWrites    int // batches with offsets
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

// beforeCall has f run before the call number k from now on, whatever is called; the end of a Find counts too.
func (h *hooked) beforeCall(k int, f func()) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.left, h.nth = k, f
}

// disarm tells whether the call that beforeCall waits for has come, and waits no longer.
func (h *hooked) disarm() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	came := h.left == 0
	h.left = 0
	return came
}

// asked returns the positions that were asked for since the last time.
func (h *hooked) asked() int {
	h.mu.Lock()
	defer h.mu.Unlock()
	n := h.positions
	h.positions = 0
	return n
}

func (h *hooked) run(call string) {
	h.mu.Lock()
	f := h.hooks[call]
	delete(h.hooks, call)
	if h.calls == nil {
		h.calls = map[string]int{}
	}
	h.calls[call]++
	var nth func()
	if h.left > 0 {
		if h.left--; h.left == 0 {
			nth = h.nth
		}
	}
	h.mu.Unlock()
	if f != nil {
		f()
	}
	if nth != nil {
		nth()
	}
}

func (h *hooked) count(call string) int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.calls[call]
}

func (h *hooked) State() killfeed.State {
	h.run("State")
	return h.Store.State()
}

func (h *hooked) Removed(t killfeed.Topic) killfeed.EventID {
	h.run("Removed")
	return h.Store.Removed(t)
}

func (h *hooked) ReceivedFrom(t time.Time) (killfeed.EventID, error) {
	h.run("ReceivedFrom")
	return h.Store.ReceivedFrom(t)
}

func (h *hooked) Commit(b *killfeed.Batch) error {
	h.run("Commit")
	if len(b.Offsets) > 0 {
		h.mu.Lock()
		h.offsetWrites++
		h.mu.Unlock()
	}
	return h.Store.Commit(b)
}

func (h *hooked) Remove(through killfeed.EventID) error {
	h.run("Remove")
	return h.Store.Remove(through)
}

func (h *hooked) Find(dst []killfeed.Entry, q killfeed.Query) ([]killfeed.Entry, error) {
	h.run("Find")
	defer h.run("after Find")
	h.mu.Lock()
	h.positions += len(q.Positions)
	h.most = max(h.most, q.Max)
	h.mu.Unlock()
	return h.Store.Find(dst, q)
}

func (h *hooked) Read(ids []killfeed.EventID, yield func(killfeed.Event, error) bool) error {
	h.run("Read")
	return h.Store.Read(ids, yield)
}

func (h *hooked) Close() error {
	h.run("Close")
	return h.Store.Close()
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
