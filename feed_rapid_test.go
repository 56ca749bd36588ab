package killfeed_test

import (
	"bytes"
	"context"
	"fmt"
	"maps"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"pgregory.net/rapid"

	"killfeed"
	"killfeed/internal/ledgertest"
	"killfeed/storetest"
)

// naive is the feed as the specification has it: a list of events, a map of each client's offsets, and a scan of everything
// for every question. Where design.md differs from the specification, so does this.
type naive struct {
	events    []naiveEvent // events[i] has the id i+1
	first     int          // the first kept
	clients   map[string]map[killfeed.Topic]int
	seen      map[string]time.Time
	versions  map[int64]naiveVersion
	retention killfeed.Retention
}

type naiveEvent struct {
	*killfeed.Killmail
	update, backfill bool
	received         time.Time
}

// naiveVersion is the richest version of a killmail so far.
type naiveVersion struct{ first, richness int }

func newNaive(r killfeed.Retention) *naive {
	return &naive{
		first: 1, clients: map[string]map[killfeed.Topic]int{}, seen: map[string]time.Time{},
		versions: map[int64]naiveVersion{}, retention: r,
	}
}

func (n *naive) head() int { return len(n.events) }

// naivePlaces are the solar systems of the topics that are places, in smallUniverse.
var naivePlaces = map[killfeed.Topic][]uint32{
	killfeed.System(A): {A}, killfeed.System(B): {B}, killfeed.System(C): {C},
	{Kind: killfeed.KindConstellation, ID: 11}: {A, B}, {Kind: killfeed.KindRegion, ID: 1}: {A, B, C},
	{Kind: killfeed.KindSpace, ID: uint32(killfeed.SpaceLow)}: {B}, {Kind: killfeed.KindSpace, ID: uint32(killfeed.SpaceHigh)}: {A},
}

func (e *naiveEvent) isOn(t killfeed.Topic) bool {
	if t.Kind.Base() == killfeed.KindGroup { // frigates
		return e.isOn(killfeed.Topic{Kind: killfeed.KindShip | t.Kind.Role(), ID: 587}) ||
			e.isOn(killfeed.Topic{Kind: killfeed.KindShip | t.Kind.Role(), ID: 585})
	}
	if systems := naivePlaces[t]; systems != nil {
		return slices.Contains(systems, e.SystemID)
	}
	return t.Kind == killfeed.KindAll || slices.ContainsFunc(e.Topics, func(of killfeed.Topic) bool {
		if t.Kind.Role() == 0 {
			of.Kind = of.Kind.Base()
		}
		return of == t
	})
}

func (n *naive) insert(k *killfeed.Killmail, richness int, backfill bool, now time.Time) (res killfeed.InsertResult) {
	v, known := n.versions[k.ID]
	if known = known && k.ID != 0; known && richness <= v.richness {
		return killfeed.InsertResult{EventID: killfeed.EventID(v.first), Duplicate: true}
	}
	n.events = append(n.events, naiveEvent{k, known, backfill, now.Truncate(time.Millisecond)})
	if !known {
		v.first = n.head()
	}
	n.versions[k.ID] = naiveVersion{v.first, richness}
	return killfeed.InsertResult{EventID: killfeed.EventID(n.head()), Update: known}
}

// start is the position before a place in the log.
func (n *naive) start(s naiveStart) int {
	switch {
	case s.latest:
		return n.head()
	case s.id > 0:
		return min(s.id-1, n.head())
	case !s.time.IsZero():
		return n.receivedBefore(s.time)
	}
	return n.first - 1
}

type naiveStart struct {
	latest bool
	id     int
	time   time.Time
}

// receivedBefore is the last event that was received before t.
func (n *naive) receivedBefore(t time.Time) int {
	for id := n.first; id <= n.head(); id++ {
		if !n.events[id-1].received.Before(t) {
			return id - 1
		}
	}
	return n.head()
}

// place is the position of a cursor, and what is to be said about it.
func (n *naive) place(id int, sameLog bool) (int, string) {
	switch {
	case !sameLog:
		return n.first - 1, "gap epoch"
	case id > n.head():
		return n.head(), "gap future"
	}
	return id, ""
}

// read answers a read that stands at the offsets, which it moves as automatic or manual commit does. through is how far it
// came.
func (n *naive) read(
	at map[killfeed.Topic]int, r killfeed.Read, single bool, gap string, now time.Time,
) (answer string, through int) {
	from, to := 0, 0
	lost, passed := map[killfeed.Topic]int{}, map[killfeed.Topic]int{}
	for _, t := range r.Topics {
		for id := at[t] + 1; id < n.first; id++ {
			if naivePlaces[t] == nil || n.events[id-1].isOn(t) {
				lost[t] = id
			}
		}
		if lost[t] > 0 && (from == 0 || at[t]+1 < from) {
			from = at[t] + 1
		}
		to = max(to, lost[t])
	}
	more := false
	var ids []int
	for id := n.first; id <= n.head() && !(single && len(ids) == 1); id++ {
		e := &n.events[id-1]
		var on []killfeed.Topic
		for _, t := range r.Topics {
			if e.isOn(t) && id > at[t] {
				on = append(on, t)
			}
		}
		wanted := len(on) > 0 && (!e.update || r.Updates) && (!e.backfill || !r.NoBackfill) &&
			(r.MaxAge == 0 || now.Sub(e.Time) <= r.MaxAge) && (r.Filter == nil || naiveFilters[r.Filter.String()](e))
		if wanted && r.Limit > 0 && len(ids) == r.Limit {
			more = true
			break
		}
		through = id
		if wanted {
			ids = append(ids, id)
		}
		for _, t := range on {
			if !r.Manual || len(ids) == 0 {
				passed[t] = id
			}
		}
	}
	for _, t := range r.Topics {
		at[t] = max(at[t], passed[t])
		if !r.Manual {
			at[t] = max(at[t], lost[t])
		}
	}
	if gap == "" && to > 0 {
		gap = fmt.Sprintf("gap retention %d-%d", from, to)
	}
	for _, id := range ids {
		answer += fmt.Sprint(id, " ")
	}
	if gap != "" {
		answer += gap + " "
	}
	if more {
		answer += "more "
	}
	if answer == "" {
		answer = "nothing "
	}
	return answer[:len(answer)-1], max(through, n.first-1)
}

// client returns a client's offsets, with its positions on topics that it has not used.
func (n *naive) client(name string, topics []killfeed.Topic, start naiveStart) map[killfeed.Topic]int {
	offsets := maps.Clone(n.clients[name])
	if offsets == nil {
		offsets = map[killfeed.Topic]int{}
	}
	for _, t := range topics {
		if _, used := offsets[t]; !used {
			offsets[t] = n.start(start)
		}
	}
	return offsets
}

// lag is how many events the client has not had.
func (n *naive) lag(name string) (lag int) {
	for id := n.first; id <= n.head(); id++ {
		e, unread := &n.events[id-1], false
		for t, at := range n.clients[name] {
			unread = unread || e.isOn(t) && id > at && !e.update
		}
		if unread {
			lag++
		}
	}
	return lag
}

func (n *naive) collect(now time.Time) {
	r := n.retention
	for name, seen := range n.seen {
		if r.ClientTTL > 0 && now.Sub(seen) > 365*day {
			delete(n.clients, name)
			delete(n.seen, name)
		}
	}
	soft, hard := -1, 0
	for name, offsets := range n.clients {
		if r.ClientTTL > 0 && now.Sub(n.seen[name]) > r.ClientTTL {
			continue
		}
		for _, at := range offsets {
			if soft < 0 || at < soft {
				soft = at
			}
		}
	}
	if r.Retain > 0 {
		soft = min(soft, n.receivedBefore(now.Add(-r.Retain)))
	}
	if r.Max > 0 {
		hard = n.receivedBefore(now.Add(-r.Max))
	}
	n.first = max(n.first, soft+1, hard+1)
}

// machine does the same random things to a feed and to a naive one.
type machine struct {
	*rapid.T
	*killfeed.Feed
	t     *testing.T
	naive *naive
	store storage
	timed bool // in fake time, which only this test moves
	began time.Time

	// With a hub there are several nodes, and each action is one's.
	hub    *hub
	stores []*modeled
	nodes  []*killfeed.Feed
}

var (
	machineTopics = []killfeed.Topic{
		killfeed.System(A), killfeed.System(B), killfeed.System(C), killfeed.All(), killfeed.Label("x"),
		{Kind: killfeed.KindCharacter, ID: pilot}, {Kind: killfeed.KindCharacter | killfeed.RoleLoss, ID: pilot},
		{Kind: killfeed.KindCharacter | killfeed.RoleKill, ID: pilot},
		{Kind: killfeed.KindConstellation, ID: 11}, {Kind: killfeed.KindRegion, ID: 1},
		{Kind: killfeed.KindSpace, ID: uint32(killfeed.SpaceLow)},
		{Kind: killfeed.KindGroup, ID: 25}, {Kind: killfeed.KindGroup | killfeed.RoleKill, ID: 25},
	}
	drawTopic  = rapid.SampledFrom(machineTopics)
	drawTopics = rapid.SliceOfNDistinct(drawTopic, 1, 4, rapid.ID)
	drawClient = rapid.SampledFrom([]string{"one", "two", "three"})
	drawFour   = rapid.IntRange(0, 3)
)

// rarely is true once in four times.
func (m *machine) rarely(label string) bool { return drawFour.Draw(m.T, label) == 3 }

func (m *machine) id(label string) int {
	return rapid.IntRange(0, m.naive.head()+2).Draw(m.T, label)
}

// now is the feed's time.
func (m *machine) now() time.Time { return time.Now().UTC().Truncate(time.Millisecond) }

func (m *machine) same(what, got, want string) {
	if got != want {
		m.Fatalf("%s\ngot  %s\nwant %s", what, got, want)
	}
}

func (m *machine) ok(what string, err error) {
	if err != nil {
		m.Fatalf("%s: %v", what, err)
	}
}

func (m *machine) open() {
	if m.hub != nil {
		m.openNodes()
		return
	}
	store := m.store.open(m.t)
	feed, err := killfeed.Open(store, killfeed.Options{Retention: m.naive.retention, Ledger: ledgertest.Ledger(m.t, store)})
	m.ok("Open", err)
	m.Feed = feed
	m.SetUniverse(smallUniverse(m.t))
}

func (m *machine) openNodes() {
	m.hub.nodes, m.nodes = nil, nil
	for _, s := range m.stores {
		store := s.open(m.t)
		feed, err := killfeed.Open(store, killfeed.Options{Retention: m.naive.retention, Ledger: m.hub.join(store)})
		m.ok("Open", err)
		feed.SetUniverse(smallUniverse(m.t))
		m.nodes = append(m.nodes, feed)
	}
	m.Feed = m.nodes[0]
}

// elsewhere has an action be another node's, once that knows what the others do. Only the first one leads, and collects.
func (m *machine) elsewhere(name string, act func(*rapid.T)) func(*rapid.T) {
	return func(t *rapid.T) {
		time.Sleep(2 * time.Second) // what is written behind is
		synctest.Wait()
		m.Feed = m.nodes[0]
		if name != "collect" {
			m.Feed = rapid.SampledFrom(m.nodes).Draw(t, "node")
		}
		act(t)
	}
}

func (m *machine) insert(*rapid.T) {
	backfill := m.rarely("backfill")
	var marks killfeed.Marks
	if backfill {
		marks = killfeed.MarkBackfill
	}
	var (
		ks   []*killfeed.Killmail
		want []killfeed.InsertResult
	)
	for range rapid.IntRange(1, 4).Draw(m.T, "killmails") {
		id := rapid.Int64Range(0, 24).Draw(m.T, "killmail id")
		richness := rapid.IntRange(0, 3).Draw(m.T, "richness")
		mail := storetest.Mail{
			ID: id, System: []uint32{A, B, C}[id%3], Time: m.began.Add(-time.Duration(id%2) * 10 * hour).Truncate(time.Second),
			NoHash: richness == 0, ZKB: richness > 1,
		}
		if richness > 2 {
			mail.Labels = []string{"x"}
		}
		if mail.System == A {
			mail.Victim.Character = pilot
		}
		mail.Victim.Ship = []uint32{587, 670}[id/3%2]
		if id%4 == 0 { // sometimes on both sides
			mail.Attackers = []storetest.Party{{Character: pilot, Ship: []uint32{585, 670}[id/4%2]}}
		}
		k := mail.Killmail()
		ks = append(ks, k)
		want = append(want, m.naive.insert(k, richness, backfill, m.now()))
	}
	got, err := m.InsertAll(context.Background(), ks, marks)
	m.ok("InsertAll", err)
	m.same("InsertAll", fmt.Sprint(got), fmt.Sprint(want))
}

// naiveFilters are what the filters of the machine match. They lead, of themselves and with others; or do not.
var naiveFilters = map[string]func(*naiveEvent) bool{
	"killmail_id<12":    func(e *naiveEvent) bool { return e.ID > 0 && e.ID < 12 },
	"label=x":           func(e *naiveEvent) bool { return e.isOn(killfeed.Label("x")) },
	"region=1;label!=x": func(e *naiveEvent) bool { return !e.isOn(killfeed.Label("x")) },
	"victim.ship=587": func(e *naiveEvent) bool {
		return e.isOn(killfeed.Topic{Kind: killfeed.KindShip | killfeed.RoleLoss, ID: 587})
	},
	"group=25;space=low": func(e *naiveEvent) bool {
		return e.SystemID == B && e.isOn(killfeed.Topic{Kind: killfeed.KindGroup, ID: 25})
	},
}

// draw makes a read, and where it starts on topics that are new.
func (m *machine) draw() (killfeed.Read, naiveStart) {
	r := killfeed.Read{
		Topics: drawTopics.Draw(m.T, "topics"), Manual: m.rarely("manual"), Updates: m.rarely("updates"),
		NoBackfill: m.rarely("no backfill"), Limit: rapid.IntRange(0, 4).Draw(m.T, "limit"),
	}
	if m.rarely("max age") {
		r.MaxAge = 5 * hour
	}
	if m.rarely("filter") {
		text := rapid.SampledFrom(slices.Sorted(maps.Keys(naiveFilters))).Draw(m.T, "filter")
		f, err := killfeed.ParseFilter(text, smallUniverse(m.t))
		m.ok("ParseFilter", err)
		if f.String() != text {
			m.Fatalf("the filter %q is written as %q", text, f)
		}
		r.Filter, r.Limit = f, 0 // which of the two ends an answer: see TestFilterPages
		r.Topics = append(r.Topics, killfeed.All())[rapid.SampledFrom([]int{0, len(r.Topics)}).Draw(m.T, "of all"):]
	}
	if m.rarely("double") {
		r.Topics = append(r.Topics, r.Topics[0])
	}
	var s naiveStart
	r.Start, s = m.drawStart()
	return r, s
}

func (m *machine) drawStart() (killfeed.Start, naiveStart) {
	switch rapid.SampledFrom([]string{"earliest", "latest", "id", "time"}).Draw(m.T, "start") {
	case "latest":
		return killfeed.Latest, naiveStart{latest: true}
	case "id":
		id := m.id("start id") + 1
		return killfeed.StartAt(killfeed.EventID(id)), naiveStart{id: id}
	case "time":
		if n := m.naive; m.timed && n.head() >= n.first {
			t := n.events[rapid.IntRange(n.first, n.head()).Draw(m.T, "start at the time of")-1].received
			return killfeed.StartTime(t), naiveStart{time: t}
		}
	}
	return killfeed.Earliest, naiveStart{}
}

// drawCursor makes a cursor and says where it is.
func (m *machine) drawCursor() (c killfeed.Cursor, at int, gap string) {
	id, epoch := m.id("cursor"), m.State().Epoch
	sameLog := true
	switch rapid.IntRange(0, 3).Draw(m.T, "epoch") {
	case 0:
		epoch = ""
	case 1:
		epoch, sameLog = "0000000g", false // no log has this
	}
	at, gap = m.naive.place(id, sameLog)
	return killfeed.Cursor{After: killfeed.EventID(id), Epoch: epoch}, at, gap
}

// answer checks an answer, the events themselves too.
func (m *machine) answer(what string, got killfeed.Answer, want string) {
	m.same(what, say(got), want)
	if int(got.Head) != m.naive.head() {
		m.Fatalf("%s: the head is %d, want %d", what, got.Head, m.naive.head())
	}
	for _, e := range got.Events {
		w := m.naive.events[e.ID-1]
		if e.SystemID != w.SystemID || e.KillmailID != w.ID || !bytes.Equal(e.Killmail, w.JSON) || !e.KilledAt.Equal(w.Time) ||
			e.Marks.Has(killfeed.MarkUpdate) != w.update || e.Marks.Has(killfeed.MarkBackfill) != w.backfill ||
			m.timed && !e.ReceivedAt.Equal(w.received) {
			m.Fatalf("%s: event %d is %+v, want %+v", what, e.ID, e, w)
		}
	}
}

// fetch is a Fetch or Next, with a cursor of the client's own now and then, and a look ahead before it.
func (m *machine) fetch(single bool) {
	name := drawClient.Draw(m.T, "client")
	r, start := m.draw()
	offsets, gap := m.naive.client(name, r.Topics, start), ""
	if m.rarely("with a cursor") {
		c, at, g := m.drawCursor()
		r.From, gap = &c, g
		for _, t := range r.Topics {
			offsets[t] = at
		}
	}
	if single {
		r.Limit = 1
	}
	read, what := m.Fetch, fmt.Sprintf("Fetch(%q, %+v)", name, r)
	if single {
		read, what = m.Next, fmt.Sprintf("Next(%q, %+v)", name, r)
	}
	if m.rarely("peek first") {
		peeked := r
		peeked.Peek = true
		want, _ := m.naive.read(maps.Clone(offsets), r, single, gap, m.now())
		got, err := read(context.Background(), name, peeked)
		m.ok(what, err)
		m.answer("peeking, "+what, got, want)
		m.check(m.T)
	}
	want, _ := m.naive.read(offsets, r, single, gap, m.now())
	m.naive.clients[name], m.naive.seen[name] = offsets, m.now()
	got, err := read(context.Background(), name, r)
	m.ok(what, err)
	m.answer(what, got, want)
}

func (m *machine) readAfter(*rapid.T) {
	r, _ := m.draw()
	r.Manual = false
	c, at, gap := m.drawCursor()
	offsets := map[killfeed.Topic]int{}
	for _, t := range r.Topics {
		offsets[t] = at
	}
	want, through := m.naive.read(offsets, r, false, gap, m.now())
	got, err := m.ReadAfter(context.Background(), c, r)
	m.ok("ReadAfter", err)
	m.answer(fmt.Sprintf("ReadAfter(%v, %+v)", c, r), got, want)
	if !got.More {
		through = m.naive.head()
	}
	if next := max(through, at); int(got.Next.After) != next || got.Next.Epoch != m.State().Epoch {
		m.Fatalf("ReadAfter(%v, %+v) goes on at %v, want %d", c, r, got.Next, next)
	}
}

func (m *machine) commit(*rapid.T) { m.commitSome() }

// commitSome commits for a client, and returns which; "" when it was refused.
func (m *machine) commitSome() (name string) {
	name = drawClient.Draw(m.T, "client")
	given, want := map[killfeed.Topic]killfeed.EventID{}, map[killfeed.Topic]killfeed.EventID{}
	offsets, refused := m.naive.client(name, nil, naiveStart{}), false
	for _, t := range drawTopics.Draw(m.T, "topics") {
		id := m.id("offset")
		refused = refused || id > m.naive.head()
		given[t] = killfeed.EventID(id)
		offsets[t] = max(offsets[t], id)
		want[t] = killfeed.EventID(offsets[t])
	}
	got, err := m.Commit(context.Background(), name, given)
	if refused {
		if err == nil {
			m.Fatalf("Commit(%q, %v) above the head, %d, is accepted", name, given, m.naive.head())
		}
		return ""
	}
	m.ok("Commit", err)
	m.naive.clients[name], m.naive.seen[name] = offsets, m.now()
	m.same(fmt.Sprintf("Commit(%q, %v)", name, given), sayOffsets(got), sayOffsets(want))
	return name
}

func (m *machine) seek(*rapid.T) {
	name := drawClient.Draw(m.T, "client")
	to, start := m.drawStart()
	var topics []killfeed.Topic
	if m.naive.clients[name] == nil || !m.rarely("all topics") {
		topics = drawTopics.Draw(m.T, "topics")
	}
	offsets := m.naive.client(name, topics, start)
	for t := range offsets {
		if topics == nil || slices.Contains(topics, t) {
			offsets[t] = m.naive.start(start)
		}
	}
	m.naive.clients[name], m.naive.seen[name] = offsets, m.now()
	_, err := m.Seek(context.Background(), name, to, topics)
	m.ok("Seek", err)
}

func (m *machine) deleteClient(*rapid.T) {
	name := drawClient.Draw(m.T, "client")
	_, known := m.naive.clients[name]
	if err := m.DeleteClient(context.Background(), name); (err == nil) != known {
		m.Fatalf("DeleteClient(%q): %v; it is known: %v", name, err, known)
	}
	delete(m.naive.clients, name)
	delete(m.naive.seen, name)
}

func (m *machine) collect(*rapid.T) {
	before := m.naive.first
	m.naive.collect(m.now())
	if m.hub == nil {
		ledgertest.Leading(m.t, m.Feed)
	}
	got, err := m.Collect(context.Background())
	m.ok("Collect", err)
	m.same("Collect", fmt.Sprint(got), fmt.Sprintf("{%d %d %d}", m.naive.first-before, m.naive.first, m.naive.head()))
}

// sleep lets time pass, from milliseconds to weeks.
func (m *machine) sleep(*rapid.T) {
	time.Sleep(rapid.SampledFrom([]time.Duration{time.Millisecond, time.Second, 7 * time.Minute, 5 * hour, 50 * hour, 20 * day,
		200 * day}).Draw(m.T, "pause"))
}

func (m *machine) reopen(*rapid.T) {
	if m.timed && m.hub == nil && m.rarely("crash") {
		// What is written behind is given its 100 ms. Of the rest only the times at which clients were last seen may be lost.
		time.Sleep(100 * time.Millisecond)
		synctest.Wait()
		crashed := m.Feed
		m.open()
		_ = crashed.Close() // it can write nothing any more
		for name := range m.naive.seen {
			info, err := m.Client(name)
			m.ok("Client", err)
			m.naive.seen[name] = info.LastSeen
		}
		return
	}
	m.close()
	m.open()
}

func (m *machine) close() {
	if m.hub == nil {
		m.ok("Close", m.Close())
	}
	for _, f := range m.nodes {
		m.ok("Close", f.Close())
	}
}

// check compares what can be seen without a read.
func (m *machine) check(*rapid.T) {
	st := m.State()
	if int(st.First) != m.naive.first || int(st.Head) != m.naive.head() {
		m.Fatalf("kept are %d to %d, want %d to %d", st.First, st.Head, m.naive.first, m.naive.head())
	}
	infos, err := m.Clients("", 100)
	m.ok("Clients", err)
	got, want := "", ""
	for _, info := range infos {
		got += fmt.Sprintf("%s(%s) lags %d; ", info.Name, sayOffsets(info.Offsets), info.Lag)
	}
	for _, name := range slices.Sorted(maps.Keys(m.naive.clients)) {
		offsets := map[killfeed.Topic]killfeed.EventID{}
		for t, at := range m.naive.clients[name] {
			offsets[t] = killfeed.EventID(at)
		}
		want += fmt.Sprintf("%s(%s) lags %d; ", name, sayOffsets(offsets), m.naive.lag(name))
	}
	m.same("clients", got, want)
}

func (m *machine) run() {
	m.began = m.now()
	m.open()
	defer m.close()
	actions := map[string]func(*rapid.T){
		"":         m.check,
		"insert":   m.insert,
		"insert 2": m.insert, // often
		"fetch":    func(*rapid.T) { m.fetch(false) },
		"fetch 2":  func(*rapid.T) { m.fetch(false) },
		"next":     func(*rapid.T) { m.fetch(true) },
		"after":    m.readAfter,
		"commit":   m.commit,
		"seek":     m.seek,
		"delete":   m.deleteClient,
		"collect":  m.collect,
		"reopen":   m.reopen,
	}
	if m.timed {
		actions["sleep"] = m.sleep
	}
	if m.hub != nil {
		for name, act := range actions {
			actions[name] = m.elsewhere(name, act)
		}
	}
	m.Repeat(actions)
}

// Whatever is done in whatever order, the feed and the naive one agree, in every answer and on every offset.
func TestFeedLikeNaive(t *testing.T) {
	// On the naive store in fake time, with every kind of retention.
	t.Run("model", func(t *testing.T) {
		rapid.Check(t, func(rt *rapid.T) {
			ages := rapid.SampledFrom([]time.Duration{0, time.Minute + time.Millisecond/2, 3*hour + 1, 7*day + 1})
			retention := killfeed.Retention{
				Retain: ages.Draw(rt, "retain"), Max: ages.Draw(rt, "max"), ClientTTL: ages.Draw(rt, "client ttl"),
			}
			inBubble(t, func() {
				m := &machine{T: rt, t: t, naive: newNaive(retention), store: newModel(), timed: true}
				m.run()
			})
		})
	})
	// On three nodes that share the log.
	t.Run("nodes", func(t *testing.T) {
		rapid.Check(t, func(rt *rapid.T) {
			ages := rapid.SampledFrom([]time.Duration{0, time.Minute + time.Millisecond/2, 3*hour + 1, 7*day + 1})
			retention := killfeed.Retention{Retain: ages.Draw(rt, "retain"), Max: ages.Draw(rt, "max")}
			inBubble(t, func() {
				m := &machine{T: rt, t: t, naive: newNaive(retention), timed: true, hub: newHub(),
					stores: []*modeled{newModel(), newModel(), newModel()}}
				m.run()
			})
		})
	})
	// On the embedded store, as specified.
	t.Run("pebble", func(t *testing.T) {
		rapid.Check(t, func(rt *rapid.T) {
			m := &machine{T: rt, t: t, naive: newNaive(killfeed.Retention{}), store: pebbles{vfs.NewMem()}}
			m.run()
		})
	})
}

// inBubble runs f in fake time, and panics as f does: that is how rapid ends a run.
func inBubble(t *testing.T, f func()) {
	var failure any
	synctest.Test(t, func(*testing.T) {
		defer func() { failure = recover() }()
		f()
	})
	// To rapid a panic is what it is by the line that it comes from, and what it drew in vain is no failure.
	if fmt.Sprintf("%T", failure) == "rapid.invalidData" {
		panic(failure)
	}
	if failure != nil {
		panic(failure)
	}
}
