package killfeed_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"

	"killfeed"
)

// naiveSub is a subscription as one would write it without a thought for cost: a place on each topic, and a scan.
type naiveSub struct {
	*killfeed.Subscription
	client  string
	holder  int
	read    killfeed.Read
	start   naiveStart
	topics  map[killfeed.Topic]*naivePlace
	wake    *int  // wake-ups
	sleeps  bool  // the last Read returned without More
	ended   error // what Read is to say
	told    int   // the greatest event or loss returned since the topics were last moved
	owed    bool  // something was returned and not Delivered
	unasked bool  // it never read: it must, before it is woken
}

// naivePlace is where a subscription is on a topic.
type naivePlace struct {
	at int // everything up to here was returned, passed over, or told as lost
	// got is the last event that was, or the last loss; on topics of which it is not known exactly what is removed it lies
	// somewhere from got to most. fresh: that is not Delivered yet.
	got, most int
	fresh     bool
	// With manual commit: gave is the last event that was returned or told as lost, or where the subscription stood at first; where
	// it is not known whether a loss was told of this topic it lies somewhere from gave to gaveMost.
	gave, gaveMost int
}

// naivePlaceAt is a place where nothing was read yet.
func naivePlaceAt(at int) *naivePlace {
	return &naivePlace{at: at, got: at, most: at, gave: at, gaveMost: at}
}

// bounds is where an offset may be.
type bounds struct{ least, most int }

// naiveMove is what a manual subscription passed over on a topic, from least to most.
type naiveMove map[killfeed.Topic]bounds

// pass moves offsets for what s passed over, where nothing that it returned is uncommitted: not beyond what another subscription of
// the client has not read, nor when that one has something that is not committed. gave is asked before this read changed it.
func (m *subMachine) pass(s *naiveSub, offsets map[killfeed.Topic]bounds, to naiveMove) {
	for t, by := range to {
		p, at := s.topics[t], offsets[t]
		sure, never := p.gaveMost <= at.least, p.gave > at.most
		for _, o := range m.alive(s.client) {
			q := o.topics[t]
			if o == s || q == nil {
				continue
			}
			gave, gaveMost := q.got, q.most
			if o.read.Manual {
				gave, gaveMost = q.gave, q.gaveMost
			}
			sure, never = sure && gaveMost <= at.least, never || gave > at.most
			by.least = min(by.least, q.at)
			if id := m.naive.unread(t, q.at); id > 0 {
				by.most = min(by.most, id-1)
			}
		}
		if sure {
			at.least = max(at.least, by.least)
		}
		if !never {
			at.most = max(at.most, by.most)
		}
		offsets[t] = at
	}
}

// bounds are the client's offsets as the naive one has them.
func (m *subMachine) bounds(client string) map[killfeed.Topic]bounds {
	all := map[killfeed.Topic]bounds{}
	for t, at := range m.naive.clients[client] {
		all[t] = bounds{at, at}
	}
	return all
}

// passAll is what all of the client's manual subscriptions passed over, behind what is committed.
func (m *subMachine) passAll(client string, offsets map[killfeed.Topic]bounds) {
	for _, s := range m.alive(client) {
		if !s.read.Manual {
			continue
		}
		to := naiveMove{}
		for t, p := range s.topics {
			to[t] = bounds{p.got, p.most}
		}
		m.pass(s, offsets, to)
	}
}

// settled compares the client's offsets, and takes them for the naive one's.
func (m *subMachine) settled(what, client string, offsets map[killfeed.Topic]bounds) {
	for t, by := range offsets {
		before := m.naive.clients[client][t]
		m.offset(what, client, t, by.least, by.most)
		at := m.naive.clients[client][t]
		if at == before {
			continue
		}
		var moved []*naivePlace // by one of these, or by a commit
		for _, s := range m.alive(client) {
			if p := s.topics[t]; p != nil && s.read.Manual {
				moved = append(moved, p)
			}
		}
		for _, p := range moved {
			p.gaveMost = max(p.gaveMost, min(at, p.most))
		}
	}
}

// subMachine does random things to subscriptions, with all that machine does around them.
type subMachine struct {
	*machine
	subs []*naiveSub
}

// exact tells whether it is known exactly what is removed of a topic.
func exact(t killfeed.Topic) bool { return t.Kind == killfeed.KindAll || naivePlaces[t] != nil }

// lost returns the greatest removed event above at on the topic, as a Store tells it, or 0; and whether there really is one.
func (n *naive) lost(t killfeed.Topic, at int) (to int, really bool) {
	for id := at + 1; id < n.first; id++ {
		on := n.events[id-1].isOn(t)
		if on || !exact(t) {
			to = id
		}
		really = really || on
	}
	return to, really
}

// unread is the first event above at on the topic, kept or removed, or 0.
func (n *naive) unread(t killfeed.Topic, at int) int {
	for id := at + 1; id <= n.head(); id++ {
		if n.events[id-1].isOn(t) {
			return id
		}
	}
	return 0
}

// offset returns the client's offset on the topic, which must be from least to most, and takes it for the naive one's.
func (m *subMachine) offset(what, client string, t killfeed.Topic, least, most int) {
	info, err := m.Client(client)
	m.ok("Client", err)
	at := int(info.Offsets[t])
	if at < least || at > most {
		m.Fatalf("%s: client %s is at %d on %v, want %d to %d", what, client, at, t, least, most)
	}
	m.naive.clients[client][t] = at
}

// wait is for the ringing to end.
func (m *subMachine) wait() { synctest.Wait() }

func (m *subMachine) inserting(*rapid.T) {
	m.insert(m.T)
	m.wait()
}

// alive are the subscriptions of a client that are not ended, of all clients for "".
func (m *subMachine) alive(client string) (subs []*naiveSub) {
	for _, s := range m.subs {
		if s.ended == nil && s.client != "" && (client == "" || s.client == client) {
			subs = append(subs, s)
		}
	}
	return subs
}

// some draws one of the subscriptions, and has the action not count when there is none.
func (m *subMachine) some(t *rapid.T) *naiveSub {
	if len(m.subs) == 0 {
		t.Skip("no subscription")
	}
	return rapid.SampledFrom(m.subs).Draw(t, "subscription")
}

// place compares a Place with where the subscription begins on the topics given, and takes the losses that it tells.
func (m *subMachine) place(what string, s *naiveSub, got killfeed.Place, topics []killfeed.Topic, gap string, floor int) {
	start, from, to := m.naive.head(), 0, 0
	for _, t := range topics {
		p := s.topics[t]
		if lost, _ := m.naive.lost(t, p.at); lost > 0 {
			if from == 0 || p.at+1 < from {
				from = p.at + 1
			}
			to = max(to, lost)
			*p = *naivePlaceAt(lost)
			p.fresh = true
		}
		start = min(start, max(p.at, m.naive.first-1))
	}
	if gap == "" && to > 0 {
		gap = fmt.Sprintf("gap retention %d-%d", from, to)
	}
	want := fmt.Sprint(min(start, floor) + 1)
	if gap != "" {
		want += " " + gap
		s.owed = true
	}
	m.same(what, begins(got), want)
	if int(got.Head) != m.naive.head() || got.Epoch != m.State().Epoch {
		m.Fatalf("%s: the place is %+v, the head %d", what, got, m.naive.head())
	}
}

// none is a floor of a place that changes nothing.
const none = 1 << 30

func (m *subMachine) subscribe(*rapid.T) {
	s := &naiveSub{}
	s.read, s.start = m.draw()
	s.read.Limit, s.read.MaxAge = 0, 0
	if rapid.Bool().Draw(m.T, "with a client") {
		s.client = drawClient.Draw(m.T, "client")
		s.holder = rapid.IntRange(1, 2).Draw(m.T, "holder")
	}
	if !m.rarely("with a cursor") {
		m.begin(s, nil, 0, "")
		return
	}
	c, at, gap := m.drawCursor()
	m.begin(s, &c, at, gap)
}

// beside subscribes as one of the subscriptions of a client does, mostly with manual commit and for something else on its topics.
func (m *subMachine) beside(t *rapid.T) {
	all := m.alive("")
	if len(all) == 0 {
		t.Skip("no subscription of a client")
	}
	like := rapid.SampledFrom(all).Draw(m.T, "beside")
	s := &naiveSub{client: like.client, holder: like.holder}
	s.read, s.start = m.draw()
	s.read.Limit, s.read.MaxAge, s.read.Manual = 0, 0, !m.rarely("automatic")
	s.read.Topics = slices.SortedFunc(maps.Keys(like.topics), byName)
	m.begin(s, nil, 0, "")
}

// byName orders topics.
func byName(a, b killfeed.Topic) int { return strings.Compare(a.String(), b.String()) }

// begin subscribes, with a cursor when there is one: it is at that event, and the gap is told of it.
func (m *subMachine) begin(s *naiveSub, c *killfeed.Cursor, at int, gap string) {
	if len(m.subs) == 6 { // so that there are not ever more
		m.close(m.T)
	}
	s.topics, s.wake, s.unasked = map[killfeed.Topic]*naivePlace{}, new(int), true
	wake := s.wake
	r := s.read
	r.From = c
	what := fmt.Sprintf("Subscribe(%q, holder %d, %+v, from %v)", s.client, s.holder, r, c)
	if s.client == "" {
		if c == nil {
			at = m.naive.start(s.start)
		}
		for _, t := range r.Topics {
			s.topics[t] = &naivePlace{at: at}
		}
	} else {
		for _, o := range m.alive(s.client) {
			if o.holder != s.holder {
				o.ended = killfeed.ErrReplaced
			}
		}
		offsets := m.naive.client(s.client, r.Topics, s.start)
		for _, t := range r.Topics {
			if c != nil {
				offsets[t] = at
			}
			s.topics[t] = naivePlaceAt(offsets[t])
		}
		m.naive.clients[s.client], m.naive.seen[s.client] = offsets, m.now()
	}
	sub, place, err := m.Subscribe(context.Background(), killfeed.Subscriber{
		Read: r, Client: s.client, Holder: s.holder, Wake: func() { *wake++ },
	})
	m.ok(what, err)
	s.Subscription = sub
	m.subs = append(m.subs, s)
	m.place(what, s, place, slices.Collect(maps.Keys(s.topics)), gap, none)
}

// readSome reads once, from one of the subscriptions.
func (m *subMachine) readSome(t *rapid.T) {
	s := m.some(t)
	m.readOne(s, rapid.IntRange(0, 4).Draw(m.T, "limit"))
}

// readOne reads once, at most limit events.
func (m *subMachine) readOne(s *naiveSub, limit int) (more bool) {
	n := m.naive
	if s.read.Filter != nil {
		limit = 0 // which of the two ends a delivery: see TestFilterPages
	}
	what := fmt.Sprintf("Read(limit %d) of %q on %v", limit, s.client, slices.Collect(maps.Keys(s.topics)))
	*s.wake, s.unasked = 0, false
	d, err := s.Read(nil, limit)
	if s.ended != nil {
		if !errors.Is(err, s.ended) {
			m.Fatalf("%s: %v, want %v", what, err, s.ended)
		}
		s.sleeps = false
		return false
	}
	m.ok(what, err)

	// The events: as many as are wanted up to the limit. What lies before the first that is left out is passed.
	var want []int
	through := n.head()
	for id := n.first; id <= n.head(); id++ {
		e, on := &n.events[id-1], false
		for t, p := range s.topics {
			on = on || e.isOn(t) && id > p.at
		}
		if !on || e.update && !s.read.Updates || e.backfill && s.read.NoBackfill ||
			s.read.Filter != nil && !naiveFilters[s.read.Filter.String()](e) {
			continue
		}
		if limit > 0 && len(want) == limit {
			through, more = id-1, true
			break
		}
		want = append(want, id)
	}
	answer := killfeed.Answer{Events: d.Events, More: d.More, Head: killfeed.EventID(n.head())}
	words := ""
	for _, id := range want {
		words += fmt.Sprint(id, " ")
	}
	if more {
		words += "more "
	}
	if words == "" {
		words = "nothing "
	}
	m.answer(what, answer, words[:len(words)-1])

	// The gap: told if something unread was removed, and only then, but that of topics of which it is not known exactly it
	// may be told for something else.
	must, may := false, false
	least, first, to := none, none, 0 // where it may begin, at the earliest and at the latest; where it must end, at the least
	for t, p := range s.topics {
		lost, really := n.lost(t, p.at)
		if lost == 0 {
			continue
		}
		may = true
		least = min(least, p.at+1)
		if really {
			must = true
			first, to = min(first, n.unread(t, p.at)), max(to, lost)
		}
	}
	if told := d.Gap != nil; told && !may || !told && must {
		m.Fatalf("%s: the gap is %+v, and there is a loss: %v", what, d.Gap, must)
	}
	if g := d.Gap; g != nil {
		if g.Reason != killfeed.GapRetention || int(g.From) < least || int(g.From) > first || int(g.To) < to || int(g.To) >= n.first {
			m.Fatalf("%s: the gap is %+v, want one from %d..%d to %d at least, %d being the first kept", what, *g, least, first, to, n.first)
		}
		inexact := false
		for t := range s.topics {
			inexact = inexact || !exact(t)
		}
		if !inexact && int(g.To) != to {
			m.Fatalf("%s: the gap is %+v, want one to %d", what, *g, to)
		}
	}

	if s.told > 0 && len(want) > 0 && want[0] <= s.told {
		m.Fatalf("%s: event %d comes after %d", what, want[0], s.told)
	}
	passed, gave := naiveMove{}, map[killfeed.Topic]bounds{}
	for t, p := range s.topics {
		got, most := p.got, p.most
		var given, over bounds // what was returned or told as lost; what was passed over and counts by itself
		if lost, really := n.lost(t, p.at); d.Gap != nil && lost > 0 {
			given.most = lost
			if most = max(most, lost); really {
				got = max(got, lost)
				given.least = lost
			}
		}
		for id := max(p.at+1, n.first); id <= through; id++ {
			if !n.events[id-1].isOn(t) {
				continue
			}
			got, most = max(got, id), max(most, id)
			if slices.Contains(want, id) {
				given = bounds{id, id}
			}
			if len(want) == 0 || id < want[0] {
				over.most = id
			}
		}
		if given.most == 0 { // nothing of it was returned: what was passed over behind what others returned counts too
			for id := max(p.at+1, n.first); id <= through; id++ {
				if n.events[id-1].isOn(t) {
					over.most = id
				}
			}
		}
		over.least = over.most
		if lost, really := n.lost(t, p.at); d.Gap != nil && lost > 0 { // it is told again until it is committed
			if over.least = 0; really {
				over.most = 0
			}
		}
		if over.most > 0 {
			passed[t] = over
		}
		gave[t] = given
		if got > p.got || most > p.most {
			p.got, p.most, p.fresh = got, most, true
		}
		p.at = max(p.at, through)
	}
	if s.client != "" && s.read.Manual {
		offsets := m.bounds(s.client)
		m.pass(s, offsets, passed)
		m.settled("what was passed over, "+what, s.client, offsets)
		for t, given := range gave {
			p := s.topics[t]
			p.gave, p.gaveMost = max(p.gave, given.least), max(p.gaveMost, given.most)
		}
	}
	if len(want) > 0 {
		s.told = want[len(want)-1]
	}
	s.owed = s.owed || len(want) > 0 || d.Gap != nil
	if !s.owed {
		m.settle("what was passed over, "+what, s)
	}
	s.sleeps = !more
	return more
}

// settle commits what was got.
func (m *subMachine) settle(what string, s *naiveSub) {
	for t, p := range s.topics {
		if p.fresh && s.client != "" && !s.read.Manual && s.ended == nil {
			at := m.naive.clients[s.client][t]
			m.offset(what, s.client, t, max(at, p.got), max(at, p.most))
		}
		p.fresh = false
	}
}

func (m *subMachine) delivered(t *rapid.T) {
	s := m.some(t)
	s.Delivered()
	s.owed = false
	m.settle("Delivered", s)
}

// cursor returns where the subscription stands: behind all that was returned, and before all that was not.
func (m *subMachine) cursor(s *naiveSub) killfeed.Cursor {
	c := s.Cursor()
	for t, p := range s.topics {
		if id := m.naive.unread(t, p.at); id > 0 && int(c.After) >= id {
			m.Fatalf("the cursor %v is behind %d on %v, which was not read", c, id, t)
		}
	}
	if int(c.After) < s.told && s.client == "" {
		m.Fatalf("the cursor %v is before %d, which was read", c, s.told)
	}
	if c.Epoch != m.State().Epoch {
		m.Fatalf("the cursor is %v", c)
	}
	return c
}

func (m *subMachine) setTopics(t *rapid.T) {
	s := m.some(t)
	topics := drawTopics.Draw(m.T, "new topics")
	what := fmt.Sprintf("SetTopics(%v) of %q on %v", topics, s.client, slices.Collect(maps.Keys(s.topics)))
	floor := none
	if s.ended == nil {
		stand := m.cursor(s)
		offsets := m.naive.client(s.client, nil, s.start)
		if s.client != "" {
			offsets = m.naive.client(s.client, topics, s.start)
			m.naive.clients[s.client] = offsets
		}
		old := s.topics
		s.topics = map[killfeed.Topic]*naivePlace{}
		var added []killfeed.Topic
		for _, topic := range topics {
			switch p := old[topic]; {
			case p != nil:
				s.topics[topic] = p
				floor = int(stand.After)
			case s.client == "":
				added = append(added, topic)
				s.topics[topic] = &naivePlace{at: int(stand.After)}
			default:
				added = append(added, topic)
				at := offsets[topic]
				s.topics[topic] = naivePlaceAt(at)
				s.told = 0 // it may bring older events
			}
		}
		place, err := s.SetTopics(context.Background(), topics)
		m.ok(what, err)
		m.place(what, s, place, added, "", floor)
		return
	}
	if _, err := s.SetTopics(context.Background(), topics); !errors.Is(err, s.ended) {
		m.Fatalf("%s: %v, want %v", what, err, s.ended)
	}
}

// commitSub is an explicit commit by a subscription.
func (m *subMachine) commitSub(t *rapid.T) {
	s := m.some(t)
	id := m.id("commit")
	err := s.Commit(context.Background(), killfeed.EventID(id))
	what := fmt.Sprintf("Commit(%d) of %q on %v", id, s.client, slices.Collect(maps.Keys(s.topics)))
	switch {
	case s.client == "" || id > m.naive.head():
		if _, ok := errors.AsType[*killfeed.InvalidError](err); !ok {
			m.Fatalf("%s: %v", what, err)
		}
		return
	case s.ended != nil:
		if !errors.Is(err, s.ended) {
			m.Fatalf("%s: %v, want %v", what, err, s.ended)
		}
		return
	}
	m.ok(what, err)
	offsets := m.bounds(s.client)
	for topic, p := range s.topics {
		at := m.naive.clients[s.client][topic]
		least, most := min(id, p.got), min(id, p.most)
		if naivePlaces[topic] == nil { // up to what is unread
			most = m.naive.head()
			if next := m.naive.unread(topic, p.at); next > 0 {
				most = next - 1
			}
			if most = min(id, most); exact(topic) {
				least = most
			}
		}
		offsets[topic] = bounds{max(at, least), max(at, most)}
	}
	m.passAll(s.client, offsets)
	m.settled(what, s.client, offsets)
}

// commitClient is an explicit commit by a client, behind which more may count as read.
func (m *subMachine) commitClient(*rapid.T) {
	if client := m.commitSome(); client != "" {
		offsets := m.bounds(client)
		m.passAll(client, offsets)
		m.settled("behind a commit", client, offsets)
	}
}

// close closes one of the subscriptions.
func (m *subMachine) close(t *rapid.T) {
	s := m.some(t)
	m.closeOne(s)
}

func (m *subMachine) closeOne(s *naiveSub) {
	s.Close()
	if s.ended == nil && s.client != "" {
		m.naive.seen[s.client] = m.now()
	}
	offsets, to := m.bounds(s.client), naiveMove{}
	for t, p := range s.topics {
		if s.ended != nil || s.client == "" {
			continue
		}
		by := bounds{p.got, p.most}
		if !s.owed && naivePlaces[t] == nil {
			by.most = m.naive.head()
			if next := m.naive.unread(t, p.at); next > 0 {
				by.most = next - 1
			}
			if exact(t) {
				by.least = by.most
			}
		}
		if s.read.Manual {
			to[t] = by
		} else if !s.owed && naivePlaces[t] == nil {
			at := m.naive.clients[s.client][t]
			offsets[t] = bounds{max(at, by.least), max(at, by.most)}
		}
	}
	m.pass(s, offsets, to)
	m.settled("Close", s.client, offsets)
	m.subs = slices.DeleteFunc(m.subs, func(o *naiveSub) bool { return o == s })
	s.Close()
	s.Delivered()
	if _, err := s.Read(nil, 0); err == nil {
		m.Fatalf("a subscription that was closed is read")
	}
}

// resume closes a subscription and begins it again, by its cursor or by its client.
func (m *subMachine) resume(t *rapid.T) {
	s := m.some(t)
	next := &naiveSub{client: s.client, holder: s.holder, read: s.read, start: s.start}
	next.read.Topics = slices.SortedFunc(maps.Keys(s.topics), byName)
	c := m.cursor(s)
	ended := s.ended
	m.closeOne(s)
	if ended == nil && s.Cursor() != c {
		m.Fatalf("the cursor is %v, and after Close %v", c, s.Cursor())
	}
	if s.client == "" {
		m.begin(next, &c, int(c.After), "")
	} else {
		m.begin(next, nil, 0, "")
	}
}

// seekClient moves a client, and its subscriptions with it.
func (m *subMachine) seekClient(*rapid.T) {
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
	for _, s := range m.alive(name) {
		for t, p := range s.topics {
			if topics == nil || slices.Contains(topics, t) {
				at := offsets[t]
				*p = *naivePlaceAt(at)
			}
		}
		s.told = 0
	}
}

// deleteOne deletes a client, which ends its subscriptions.
func (m *subMachine) deleteOne(*rapid.T) {
	name := drawClient.Draw(m.T, "client")
	_, known := m.naive.clients[name]
	if err := m.DeleteClient(context.Background(), name); (err == nil) != known {
		m.Fatalf("DeleteClient(%q): %v; it is known: %v", name, err, known)
	}
	for _, s := range m.alive(name) {
		s.ended = killfeed.ErrNotFound
	}
	delete(m.naive.clients, name)
	delete(m.naive.seen, name)
}

func (m *subMachine) collecting(*rapid.T) {
	for _, s := range m.alive("") {
		m.naive.seen[s.client] = m.now()
	}
	m.collect(m.T)
}

// reopenAll closes the feed, or has it crash, with the subscriptions open or closed before.
func (m *subMachine) reopenAll(*rapid.T) {
	if m.rarely("closed first") {
		for len(m.subs) > 0 {
			m.closeOne(m.subs[0])
		}
	}
	for _, s := range m.alive("") {
		m.naive.seen[s.client] = m.now()
	}
	crash := m.rarely("crash, after a second")
	if crash {
		time.Sleep(time.Second)
		m.wait()
		crashed := m.Feed
		m.Feed = nil
		m.open()
		_ = crashed.Close() // it can write nothing any more
		for name := range m.naive.seen {
			info, err := m.Client(name)
			m.ok("Client", err)
			m.naive.seen[name] = info.LastSeen
		}
	} else {
		m.ok("Close", m.Close())
		m.open()
	}
	for _, s := range m.subs {
		if _, err := s.Read(nil, 0); err == nil {
			m.Fatalf("a subscription of a feed that was closed is read")
		}
		s.Delivered()
		s.Close()
	}
	m.subs = nil
}

// drain reads a subscription to its end.
func (m *subMachine) drain(t *rapid.T) {
	s := m.some(t)
	limit := rapid.IntRange(1, 3).Draw(m.T, "limit")
	for m.readOne(s, limit) {
	}
}

// look checks what can be seen without a read: the offsets, and that nobody sleeps who has something to read.
func (m *subMachine) look(*rapid.T) {
	m.wait()
	m.check(m.T)
	ropes := map[killfeed.Topic]bool{}
	for _, s := range m.subs {
		awake := *s.wake > 0
		if *s.wake > 1 || s.unasked && awake {
			m.Fatalf("a subscription was woken %d times before it read", *s.wake)
		}
		if s.sleeps && !awake {
			for t, p := range s.topics {
				if id := m.naive.unread(t, p.at); id > 0 {
					m.Fatalf("a subscription sleeps through %d on %v", id, t)
				}
			}
			if s.ended != nil {
				m.Fatalf("a subscription sleeps through its end: %v", s.ended)
			}
		}
		for t := range s.topics {
			ropes[t] = true
		}
	}
	if st := m.Stats(); st.Subscriptions != len(m.subs) || m.Ropes() != len(ropes) {
		m.Fatalf("%d subscriptions are open on %d topics, want %d on %d", st.Subscriptions, m.Ropes(), len(m.subs), len(ropes))
	}
}

func (m *subMachine) run() {
	m.began = m.now()
	m.open()
	defer func() {
		for _, s := range m.subs {
			s.Close()
		}
		m.Close()
	}()
	m.Repeat(map[string]func(*rapid.T){
		"":          m.look,
		"insert":    m.inserting,
		"insert 2":  m.inserting, // often
		"subscribe": m.subscribe,
		"beside":    m.beside,
		"read":      m.readSome,
		"read 2":    m.readSome,
		"drain":     m.drain,
		"delivered": m.delivered,
		"topics":    m.setTopics,
		"commit":    m.commitSub,
		"commit 2":  m.commitClient,
		"close":     m.close,
		"resume":    m.resume,
		"seek":      m.seekClient,
		"delete":    m.deleteOne,
		"collect":   m.collecting,
		"sleep":     m.sleep,
		"reopen":    m.reopenAll,
	})
}

// Whatever happens in whatever order, each subscription gives what the naive one gives: every event on its topics once, in
// order, or a gap told; nobody sleeps through anything, and offsets are never ahead of what was handed over or committed.
func TestSubscriptionLikeNaive(t *testing.T) {
	property := func(rt *rapid.T) {
		ages := rapid.SampledFrom([]time.Duration{0, time.Minute + time.Millisecond/2, 3*hour + 1, 7*day + 1})
		retention := killfeed.Retention{
			Retain: ages.Draw(rt, "retain"), Max: ages.Draw(rt, "max"), ClientTTL: ages.Draw(rt, "client ttl"),
		}
		inBubble(t, func() {
			m := &subMachine{machine: &machine{T: rt, t: t, naive: newNaive(retention), store: newModel(), timed: true}}
			m.run()
		})
	}
	for range 5 { // there is much that can go together
		rapid.Check(t, property)
	}
}
