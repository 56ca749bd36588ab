package web_test

import (
	"fmt"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"killfeed"
	"killfeed/storetest"
	"killfeed/web"
	"killfeed/web/socket"
)

// world is a log whose every event is known, and the readers of it.
type world struct {
	verdict
	random  *rapid.T // nil where nothing is
	t       *testing.T
	h       *host
	moody   *moody
	events  []known
	removed killfeed.EventID // everything up to here
	mails   []storetest.Mail // those that can become updates
	nextID  int64

	topics            []killfeed.Topic
	updates, backfill bool
	filter            sieve
	open              map[string]*tracked // by edge
	closed            map[string]*tracked
}

// verdict is what ends a test, or one run of rapid's.
type verdict interface {
	Errorf(format string, args ...any)
	Fatalf(format string, args ...any)
	Fatal(args ...any)
}

// known is an event as the test knows it.
type known struct {
	id               killfeed.EventID
	killmail         int64
	system           uint32
	update, backfill bool
}

// sieve is a filter, and what it lets through.
type sieve struct {
	text   string
	passes func(e known) bool
}

// sieves are led by the index, or not, or in part. Updates have the label solo.
var sieves = []sieve{
	{"", func(known) bool { return true }},
	{"killmail_id>3;killmail_id!=5", func(e known) bool { return e.killmail > 3 && e.killmail != 5 }},
	{"system=30000142|30002053", func(e known) bool { return e.system != perimet }},
	{"label=solo,killmail_id=1|2|3", func(e known) bool { return e.update || e.killmail <= 3 }},
	{"label=solo", func(e known) bool { return e.update }},
	{"(label=solo;system!=30000142)", func(e known) bool { return e.update && e.system != jita }},
	{"!(solar_system_id=30000144)", func(e known) bool { return e.system != perimet }},
	{"killmail_id<0", func(known) bool { return false }},
}

// tracked is a reader and where it has to stand.
type tracked struct {
	reader
	at     killfeed.EventID // everything wanted up to here was told
	resume string
}

var exactTopics = []killfeed.Topic{killfeed.All(), killfeed.System(jita), killfeed.System(perimet), killfeed.System(hek)}

func shortOf(id killfeed.EventID, update, backfill bool) string {
	text := fmt.Sprint(id)
	if update {
		text += "u"
	}
	if backfill {
		text += "b"
	}
	return text
}

// begin starts the server on the store, or starts it again.
func (w *world) begin() {
	model := storetest.NewModel()
	if w.h != nil {
		w.h.stop()
		w.h.close()
		model = w.h.model.Reopen()
	}
	s := &server{t: w.t, log: &syncBuffer{}, model: model, disk: storetest.NewFaulty(model)}
	w.moody = s.moody()
	var err error
	if s.feed, err = killfeed.Open(s.disk, killfeed.Options{Retention: killfeed.Retention{Max: time.Minute}}); err != nil {
		w.Fatal(err)
	}
	feed := s.feed
	closed := false
	s.close = func() {
		if !closed {
			closed = true
			feed.Close()
		}
	}
	w.t.Cleanup(s.close)
	if s.api, err = web.New(s.feed, web.Config{Sockets: socket.Options{Silence: 1e6 * time.Hour}}); err != nil {
		w.Fatal(err)
	}
	w.h = s.host()
	w.h.unheld = true // other tests do that
}

// put inserts an event, and notes it.
func (w *world) put(system uint32, backfill, update bool) {
	m := storetest.Mail{ID: w.nextID + 1, System: system, NoHash: true}
	if update && len(w.mails) > 0 {
		m = w.mails[len(w.mails)-1]
		w.mails = w.mails[:len(w.mails)-1]
		m.ZKB, m.Labels = true, []string{"solo"}
	} else {
		w.nextID++
		w.mails = append(w.mails, m)
	}
	var marks killfeed.Marks
	if backfill {
		marks = killfeed.MarkBackfill
	}
	res, err := w.h.feed.InsertAll(w.t.Context(), []*killfeed.Killmail{m.Killmail()}, marks)
	if err != nil {
		w.Fatal(err)
	}
	w.events = append(w.events, known{res[0].EventID, m.ID, m.System, res[0].Update, backfill})
}

func (w *world) draw() {
	w.put(rapid.SampledFrom([]uint32{jita, perimet, hek}).Draw(w.random, "system"),
		rapid.IntRange(0, 3).Draw(w.random, "backfill") == 0, rapid.IntRange(0, 3).Draw(w.random, "update") == 0)
}

func (w *world) head() killfeed.EventID { return killfeed.EventID(len(w.events)) }

// on tells whether an event is on the topics that are read.
func (w *world) on(e known) bool {
	return slices.Contains(w.topics, killfeed.All()) || slices.Contains(w.topics, killfeed.System(e.system))
}

func (w *world) passes(e known) bool { return w.filter.passes == nil || w.filter.passes(e) }

// due are the events that a reader at the place has to be told.
func (w *world) due(at killfeed.EventID) (told []string) {
	for _, e := range w.events {
		if e.id > at && w.on(e) && (w.updates || !e.update) && (w.backfill || !e.backfill) && w.passes(e) {
			told = append(told, shortOf(e.id, e.update, e.backfill))
		}
	}
	return told
}

// entry is what a reader that comes with the cursor has to be told first, and from where on it has to be told everything. begun:
// where it began, as it was told; it counts for a cursor of the future only, which is one of what the head was then.
func (w *world) entry(text string, head, begun killfeed.EventID) (told []string, at killfeed.EventID) {
	c, err := killfeed.ParseCursor(text)
	if err != nil {
		w.Fatalf("cursor %q: %v", text, err)
	}
	switch {
	case c.Epoch != "" && c.Epoch != w.h.feed.State().Epoch:
		return []string{"gap epoch"}, w.removed
	case c.After > head:
		if begun < head || begun > w.head() {
			w.Errorf("a reader from the future begins behind %d, want %d to %d", begun, head, w.head())
		}
		return []string{"gap future"}, begun
	}
	at = c.After
	for _, e := range w.events {
		if e.id <= w.removed && e.id > c.After && w.on(e) {
			told, at = []string{"gap " + killfeed.Gap{Reason: killfeed.GapRetention, From: c.After + 1, To: e.id}.String()}, e.id
		}
	}
	return told, at
}

// look has an edge begin at a cursor, while an event comes in the middle of one of its reads, and holds what it tells to what is
// due.
func (w *world) look(edge, cursor string, nth int, during func()) *tracked {
	synctest.Wait() // so that the reads are this reader's
	head := w.head()
	fire := func() error {
		if nth--; nth == 0 {
			w.moody.onRead.Store(nil)
			during()
		}
		return nil
	}
	w.moody.onRead.Store(&fire)
	r, begun, refused := edges[edge](w.h, asked{w.topics, cursor, w.updates, w.backfill, w.filter.text})
	if refused != "" {
		w.Fatalf("%s: cursor %q is refused", edge, cursor)
	}
	got := r.take()
	w.moody.onRead.Store(nil)
	told, at := w.entry(cursor, head, begun)
	w.same(edge+" from "+cursor, got, append(told, w.due(at)...))
	return &tracked{reader: r, at: w.head()}
}

func (w *world) same(what string, got, want []string) {
	if len(got)+len(want) > 0 && !slices.Equal(got, want) {
		w.Fatalf("%s was told (+) what is not due (-):\n%s", what, cmp.Diff(want, got))
	}
}

// sync wants every reader to have been told everything.
func (w *world) sync() {
	for _, edge := range sorted(w.open) {
		r := w.open[edge]
		w.same(edge, r.take(), w.due(r.at))
		r.at = w.head()
	}
}

func sorted(m map[string]*tracked) (names []string) {
	for name := range m {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

// step does something at random.
func (w *world) step() {
	switch rapid.SampledFrom([]string{"insert", "insert", "insert", "sync", "leave", "come", "come", "age", "restart", "look"}).Draw(w.random, "step") {
	case "insert":
		for range rapid.IntRange(1, 4).Draw(w.random, "events") {
			w.draw()
		}
	case "sync":
		w.sync()
	case "leave":
		if names := sorted(w.open); len(names) > 0 {
			w.leave(rapid.SampledFrom(names).Draw(w.random, "edge"))
		}
	case "come":
		for _, edge := range sorted(w.closed) {
			w.come(edge)
		}
	case "age": // retention removes what is older than a minute, which all that are there have been told
		w.sync()
		time.Sleep(rapid.SampledFrom([]time.Duration{25 * time.Second, 45 * time.Second}).Draw(w.random, "age"))
		if _, err := w.h.feed.Collect(w.t.Context()); err != nil {
			w.Fatal(err)
		}
		w.removed = w.h.feed.State().First - 1
	case "restart": // without a new event
		for _, edge := range sorted(w.open) {
			w.leave(edge)
		}
		w.begin()
		for _, edge := range sorted(w.closed) {
			w.come(edge)
		}
	case "look":
		w.sync()
		cursor := w.cursor()
		for _, edge := range []string{"poll", "sse", "ndjson", "channels"} {
			w.look(edge, cursor, rapid.IntRange(0, 3).Draw(w.random, "read"), w.draw).leave()
		}
	}
}

// leave ends a reader, which goes on later where it was: its cursor is behind everything that it was told, and before everything
// else.
func (w *world) leave(edge string) {
	r := w.open[edge]
	w.same(edge, r.take(), w.due(r.at))
	r.resume = r.cursor()
	if c, err := killfeed.ParseCursor(r.resume); err != nil || c.After > w.head() || len(w.due(c.After)) > 0 {
		w.Errorf("%s leaves with cursor %q: it was told everything up to %d, and would be told %v again (%v)", edge, r.resume, w.head(),
			w.due(c.After), err)
	}
	r.leave()
	delete(w.open, edge)
	w.closed[edge] = r
}

func (w *world) come(edge string) {
	cursor := w.closed[edge].resume
	delete(w.closed, edge)
	w.sync()
	w.open[edge] = w.look(edge, cursor, rapid.IntRange(0, 3).Draw(w.random, "read"), w.draw)
}

// cursor makes one up: at any place, beyond the head, of another log, or without an epoch.
func (w *world) cursor() string {
	id := rapid.IntRange(0, len(w.events)+2).Draw(w.random, "cursor")
	return fmt.Sprint(id) + rapid.SampledFrom([]string{"-" + string(w.h.feed.State().Epoch), "", "-00000000"}).Draw(w.random, "epoch")
}

// TestExactOnEveryEdge: polls, both kinds of streams and Channels tell the same of a log, whatever happens to it: every event
// behind the cursor that a filter lets through, each once and in order, or a gap; also when events come in the middle of a read, when retention removes what
// was not read, and when the server is started again without a new event.
func TestExactOnEveryEdge(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		var failure any
		synctest.Test(t, func(t *testing.T) {
			defer func() { failure = recover() }()
			w := &world{verdict: rt, random: rt, t: t, open: map[string]*tracked{}, closed: map[string]*tracked{}}
			w.topics = rapid.SliceOfNDistinct(rapid.SampledFrom(exactTopics), 1, 3, rapid.ID[killfeed.Topic]).Draw(rt, "topics")
			w.updates, w.backfill = rapid.Bool().Draw(rt, "updates"), rapid.Bool().Draw(rt, "backfill")
			w.filter = sieves[rapid.IntRange(0, len(sieves)-1).Draw(rt, "filter")]
			w.begin()
			for range rapid.IntRange(0, 5).Draw(rt, "events") {
				w.draw()
			}
			cursor := w.cursor()
			for edge := range edges {
				w.closed[edge] = &tracked{resume: cursor}
			}
			for range rapid.IntRange(1, 12).Draw(rt, "steps") {
				w.step()
			}
			for _, edge := range sorted(w.open) {
				w.leave(edge)
			}
			w.draw()
			for _, edge := range sorted(w.closed) {
				w.come(edge)
			}
			w.sync()
		})
		if failure != nil {
			panic(failure) // that is how rapid ends a run
		}
	})
}

// TestEveryCursor: every place in a log of which the first part was removed is answered alike on every edge, in whatever form it
// is given; and what is no cursor is refused.
func TestEveryCursor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := &world{verdict: t, t: t, topics: []killfeed.Topic{killfeed.System(jita), killfeed.System(hek)}, backfill: true}
		w.begin()
		systems := []uint32{jita, perimet, hek, perimet, jita}
		for i := range 20 {
			if i == 10 {
				time.Sleep(time.Minute + time.Second)
				if _, err := w.h.feed.Collect(t.Context()); err != nil {
					t.Fatal(err)
				}
			}
			w.put(systems[i%len(systems)], i%7 == 0, i%6 == 5)
		}
		w.begin() // again, without a new event
		if w.removed = w.h.feed.State().First - 1; w.removed != 10 {
			t.Fatalf("%d events are removed, want 10", w.removed)
		}
		nothing := func() {}
		for edge := range edges {
			for id := range int(w.head()) + 3 {
				for _, epoch := range []string{"", "-" + string(w.h.feed.State().Epoch), "-00000000"} {
					w.look(edge, fmt.Sprint(id)+epoch, 0, nothing).leave()
				}
			}
			for _, garbage := range []string{"", "x", "-1", "1-", "1-x", "1-0000000", "1-0000000G", "99999999999999999999", "1 ", "0x1"} {
				if r, _, refused := edges[edge](w.h, asked{topics: w.topics, cursor: garbage}); r != nil || refused != "after" {
					t.Errorf("%s: %q is refused by %q, want after", edge, garbage, refused)
				}
			}
		}
	})
}
