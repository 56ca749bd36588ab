//go:build linux

package main

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"time"

	"killfeed"
)

// feed is one subscription of a subscriber: what it asks for, where it stands, and what came.
type feed struct {
	world *world
	name  string // for messages
	topic string // the topic of Phoenix
	keep  keep
	// client is the durable client's name, empty without one.
	client string
	start  string // where it begins at first: earliest or latest
	timed  bool   // its latencies count

	mu     sync.Mutex // guards the rest: a feed is read by its own goroutine, and updated and verified by others
	ledger ledger
	set    *topicSet // what it asks for
	asked  *topicSet // by an update that is not answered yet; nil: there is none
	at     cursor    // where it resumes; the zero value before its first connection
	due    int       // events until the next commit, of those who commit
}

// keep is who keeps a feed's place.
type keep int

const (
	byCursor     keep = iota // the subscriber
	byBoth                   // the server, but the subscriber sends its cursor too, which wins
	byCommits                // the server, at the subscriber's word
	byDelivering             // the server, as it delivers
)

// ledgerFor makes the ledger of a feed.
func (f *feed) ledgerFor(k keep, set *topicSet) ledger {
	violate := f.world.oracle.violate
	switch k {
	case byCommits:
		return &manual{name: f.name, violate: violate, set: set}
	case byDelivering:
		return &auto{name: f.name, violate: violate, set: set}
	}
	l := &exact{name: f.name, violate: violate}
	l.wanted.change(0, set)
	return l
}

// place is where a connection begins, as the server says it.
type place struct {
	Head   uint64          `json:"head"`
	Epoch  string          `json:"epoch"`
	Start  uint64          `json:"start"`
	Cursor string          `json:"cursor"`
	Gap    json.RawMessage `json:"gap"`
	Topics int             `json:"topics"` // in the answer to an update
}

// position is what a join or a request says of where to begin: pairs of names and values.
func (f *feed) position() [][2]string {
	f.mu.Lock()
	defer f.mu.Unlock()
	var p [][2]string
	if f.client != "" {
		p = append(p, [2]string{"client_id", f.client})
	}
	if f.keep == byCommits {
		p = append(p, [2]string{"commit", "manual"})
	}
	if f.at.epoch != "" && (f.keep == byCursor || f.keep == byBoth) {
		return append(p, [2]string{"after", f.at.String()})
	}
	return append(p, [2]string{"start", f.start})
}

// joinParams are the params of a Phoenix join.
func (f *feed) joinParams() []byte {
	params := map[string]any{}
	for _, p := range f.position() {
		params[p[0]] = p[1]
	}
	if f.topic == topicMany {
		f.mu.Lock()
		f.set.into(params)
		f.mu.Unlock()
	}
	return mustJSON(params)
}

// topicMany is the Phoenix topic for many systems and topics at once.
const topicMany = "killfeed"

// into adds the topics to the params of a join or an update.
func (s *topicSet) into(params map[string]any) {
	if list := s.systemList(); len(list) > 0 {
		params["systems"] = list
	}
	if names := s.names(); len(names) > 0 {
		params["topics"] = names
	}
}

// query is the query of a request for a stream, without the position.
func (f *feed) query() url.Values {
	f.mu.Lock()
	defer f.mu.Unlock()
	q := url.Values{}
	if list := f.set.systemList(); len(list) > 0 {
		var b []byte
		for i, id := range list {
			if i > 0 {
				b = append(b, ',')
			}
			b = strconv.AppendUint(b, uint64(id), 10)
		}
		q.Set("systems", string(b))
	}
	if names := f.set.names(); len(names) > 0 {
		q.Set("topics", strings.Join(names, ","))
	}
	return q
}

func mustJSON(v any) []byte {
	b, err := json.Marshal(v)
	if err != nil {
		panic(err) // only maps, strings and numbers come here
	}
	return b
}

// joined begins a connection of the feed's. acked is the greatest event that was acknowledged when the server was asked.
func (f *feed) joined(p *place, acked uint64) {
	w, o := f.world, f.world.oracle
	f.mu.Lock()
	defer f.mu.Unlock()
	if p.Gap != nil {
		o.violate(promiseGap, "%s: is told a gap: %s", f.name, p.Gap)
	}
	if p.Head < acked {
		o.violate(promiseAcked, "%s: event %d was acknowledged, and the head is said to be %d", f.name, acked, p.Head)
	}
	if !w.isEpoch(p.Epoch) || p.Cursor != (cursor{p.Start - 1, p.Epoch}).String() {
		o.violate(promiseCursor, "%s: begins at %d with the cursor %q and epoch %q; the epoch was %q",
			f.name, p.Start, p.Cursor, p.Epoch, w.epochNow())
	}
	after, made := p.Start-1, uint64(o.made.Load())
	first := f.at.epoch == ""
	switch {
	case first && f.start == "latest" && (after < acked || after > made), first && f.start == "earliest" && after != 0:
		o.violate(promiseCursor, "%s: begins at event %d for start=%s; %d were acknowledged, %d were sent",
			f.name, p.Start, f.start, acked, made)
	case !first && f.keep == byCursor && after != f.at.after:
		o.violate(promiseCursor, "%s: begins at event %d, having resumed after %d", f.name, p.Start, f.at.after)
	}
	f.ledger.joined(p.Start)
	if l, ok := f.ledger.(*exact); ok && l.unsettled { // an update was not answered; what is asked for now is certain
		l.wanted.change(p.Start, f.set)
		l.unsettled = false
	}
	if first || f.keep != byCursor && f.keep != byBoth {
		f.at = cursor{after, p.Epoch}
	}
}

// take takes an event as it came, and returns the event to commit, 0 for none.
func (f *feed) take(text []byte, at int64) (commit uint64) {
	s, err := scanEvent(text)
	if err != nil {
		f.world.oracle.violate(promiseFrames, "%s: %v", f.name, err)
		return 0
	}
	c, err := parseCursor(s.cursor)
	if err != nil || c.after != s.event || !f.world.isEpoch(c.epoch) {
		f.world.oracle.violate(promiseCursor, "%s: event %d has the cursor %q", f.name, s.event, s.cursor)
	}
	return f.takeEvent(s.event, s.killmail, at)
}

func (f *feed) takeEvent(event uint64, killmail, at int64) (commit uint64) {
	m := f.world.oracle.means(event, killmail)
	if m != nil && f.timed {
		if sample := m.sample.Load(); sample != unmeasured {
			d := time.Duration(at - m.sent.Load())
			f.world.phases[sample/2].latency[sample%2].record(d)
			f.world.lately.record(d)
		}
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.ledger.take(event, at)
	f.at.after = max(f.at.after, event)
	if l, ok := f.ledger.(*manual); ok {
		if f.due--; f.due < 0 {
			f.due = rand.IntN(20)
			l.commits(event)
			return event
		}
	}
	return 0
}

// moved takes a cursor that came without an event: all up to there has come, or was of no interest.
func (f *feed) moved(text []byte) {
	c, err := parseCursor(text)
	if err != nil || !f.world.isEpoch(c.epoch) {
		f.world.oracle.violate(promiseCursor, "%s: is told the cursor %q", f.name, text)
		return
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.at.after = max(f.at.after, c.after)
}

// committed notes that a commit was answered.
func (f *feed) committed(event uint64) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if l, ok := f.ledger.(*manual); ok {
		l.committed(event)
	}
}

// ended ends a connection.
func (f *feed) ended(e ending) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.ledger.ended(e)
	if f.asked != nil {
		l := f.ledger.(*exact) // only those are updated
		l.wanted.unsure(l.hold+1, f.asked)
		f.set, f.asked = f.asked, nil
	}
}

// update begins a change of what the feed asks for, and returns the payload that asks for it; nil when the last one is not
// answered yet.
func (f *feed) update(rnd *rand.Rand, all []killfeed.Topic) []byte {
	f.mu.Lock()
	defer f.mu.Unlock()
	l, ok := f.ledger.(*exact)
	if !ok || !l.begun || l.unsettled {
		return nil
	}
	params := map[string]any{}
	if rnd.IntN(2) == 0 { // all of it anew
		f.asked = newTopicSet(someOf(rnd, all, 1+rnd.IntN(len(all)))...)
		f.asked.into(params)
	} else {
		more, less := newTopicSet(someOf(rnd, all, 1+rnd.IntN(9))...), newTopicSet(someOf(rnd, all, 1+rnd.IntN(9))...)
		f.asked = f.set.changed(less, more)
		add, remove := map[string]any{}, map[string]any{}
		more.into(add)
		less.into(remove)
		params["add"], params["remove"] = add, remove
	}
	l.unsettled, l.hold = true, l.last
	return mustJSON(params)
}

// updated takes the answer to an update.
func (f *feed) updated(p *place) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	l := f.ledger.(*exact)
	switch {
	case f.asked == nil:
		return fmt.Errorf("%s: an answer to no update", f.name)
	case p.Start <= l.hold:
		return fmt.Errorf("%s: an update is said to hold from event %d on, and %d had come", f.name, p.Start, l.hold)
	case p.Topics != f.asked.len():
		return fmt.Errorf("%s: has %d topics after an update, and not %d", f.name, p.Topics, f.asked.len())
	}
	l.wanted.change(p.Start, f.asked) // all before has come, or is on its way in front of this answer
	l.unsettled = false
	f.set, f.asked = f.asked, nil
	f.at.after = max(f.at.after, p.Start-1)
	return nil
}

// someOf returns n of the topics.
func someOf(rnd *rand.Rand, topics []killfeed.Topic, n int) []killfeed.Topic {
	some := make([]killfeed.Topic, 0, n)
	for _, i := range rnd.Perm(len(topics))[:min(n, len(topics))] {
		some = append(some, topics[i])
	}
	return some
}

// verify compares what came with what was to come.
func (f *feed) verify(through uint64, final bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.ledger.verify(f.world.oracle, through, final)
}

// missing is how many events up to the head have yet to come.
func (f *feed) missing(head uint64) int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.ledger.missing(f.world.oracle, head)
}
