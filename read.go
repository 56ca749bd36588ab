package killfeed

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"
)

const (
	// MaxTopics bounds the topics of one read, and MaxClientTopics those that a client may have offsets on.
	MaxTopics       = 10_000
	MaxClientTopics = 50_000
	// MaxAnswerBytes is the byte budget of one answer. A single event may exceed it.
	MaxAnswerBytes = 16 << 20
	// maxScan bounds the events that one read passes over.
	maxScan = 100_000
)

// Read says what a reader wants.
type Read struct {
	// Topics are what to read, 1 to MaxTopics; doubles count once.
	Topics []Topic
	// Limit is the most events that Fetch and ReadAfter return; 0 means no limit but MaxAnswerBytes.
	Limit int
	// Wait is how long to wait for an event when there is none.
	Wait time.Duration
	// Manual: nothing that is returned is committed; the client does it by Commit.
	Manual bool
	// Start is where a topic begins that the client has not used before.
	Start Start
	// From, when set, moves the client to this cursor first, also backwards, durably: a cursor of the client's own wins
	// over the offsets kept for it.
	From *Cursor
	// MaxAge, when above 0, passes over killmails whose own time is longer ago. Those that tell no time are not passed
	// over.
	MaxAge time.Duration
	// Updates includes update events.
	Updates bool
	// NoBackfill passes over events with the backfill mark.
	NoBackfill bool
	// Peek changes nothing at all: no client is made, no position recorded, nothing committed.
	Peek bool
}

// Answer is what a read returns.
type Answer struct {
	// Events ascend by id.
	Events []Event
	// Gap is set when events were lost to the reader.
	Gap *Gap
	// Head is the last event id given out when the log was read.
	Head EventID
	// More: a limit or budget ended the answer and there is more to read right now.
	More bool
	// Next is the cursor that goes on behind this answer. Only ReadAfter sets it.
	Next Cursor
}

// Start is a place in the log: the first event to be delivered. The zero value is the earliest kept event.
type Start struct {
	kind startKind
	id   EventID
	time time.Time
}

type startKind uint8

const (
	startEarliest startKind = iota
	startLatest
	startID
	startTime
)

var (
	// Earliest is the first kept event.
	Earliest = Start{}
	// Latest is the first event that is yet to come.
	Latest = Start{kind: startLatest}
)

// StartAt is the event with that id, 1 or more; past the head it is Latest.
func StartAt(id EventID) Start { return Start{kind: startID, id: id} }

// StartTime is the first event received at t or later; in the future it is Latest.
func StartTime(t time.Time) Start { return Start{kind: startTime, time: t} }

// ParseStart reads "earliest", "latest", an event id, or an RFC 3339 time. param names the parameter in the error.
func ParseStart(param, s string) (Start, error) {
	switch s {
	case "earliest":
		return Earliest, nil
	case "latest":
		return Latest, nil
	}
	if id, ok := parseUint(s); ok && id > 0 {
		return StartAt(EventID(id)), nil
	}
	if t, err := time.Parse(time.RFC3339, s); err == nil {
		return StartTime(t), nil
	}
	return Start{}, invalid(param, s, "earliest, latest, an event id from 1 on, or a time such as 2026-11-23T18:00:00Z")
}

// String is the text form that ParseStart reads.
func (s Start) String() string {
	switch s.kind {
	case startLatest:
		return "latest"
	case startID:
		return strconv.FormatUint(uint64(s.id), 10)
	case startTime:
		return s.time.Format(time.RFC3339Nano)
	}
	return "earliest"
}

// after is the position just before s.
func (s Start) after(store Store) (EventID, error) {
	st := store.State()
	switch s.kind {
	case startLatest:
		return st.Head, nil
	case startID:
		return min(s.id-1, st.Head), nil
	case startTime:
		id, err := store.ReceivedFrom(s.time)
		if err != nil {
			return 0, fmt.Errorf("looking for the first event received from %v on: %w", s.time, err)
		}
		return id - 1, nil
	}
	return st.First - 1, nil
}

// place turns a cursor into a position in this log, and the gap to tell when it is not one.
func (f *Feed) place(c Cursor) (EventID, *Gap) {
	st := f.store.State()
	switch {
	case c.Epoch != "" && c.Epoch != st.Epoch:
		return st.First - 1, &Gap{Reason: GapEpoch}
	case c.After > st.Head:
		return st.Head, &Gap{Reason: GapFuture}
	}
	return c.After, nil
}

// Fetch returns what the named client has not had on the topics, ascending, each event once, and commits it unless
// Read.Manual. It is the specification's fetch_for_client.
//
// The first use of a topic records its position (Read.Start) durably. Errors are *InvalidError, ErrTooManyClients,
// ErrClosed, the context's cause, or what the store could not do. Nothing is committed for a caller whose context has
// ended.
func (f *Feed) Fetch(ctx context.Context, name string, r Read) (Answer, error) {
	return f.fetch(ctx, name, r, r.Limit)
}

// Next returns the one event with the smallest id that the named client has not had on the topics, and commits the topics
// that it is on; none: an Answer without events. It is the specification's fetch_one_event. Read.Limit is not used.
// Errors are those of Fetch.
func (f *Feed) Next(ctx context.Context, name string, r Read) (Answer, error) {
	return f.fetch(ctx, name, r, 1)
}

// ReadAfter returns what is on the topics behind the cursor, without a client: nothing is kept or committed. Read.Start,
// Manual, From and Peek are not used.
func (f *Feed) ReadAfter(ctx context.Context, after Cursor, r Read) (Answer, error) {
	r.Peek = true
	topics, err := distinct(r.Topics)
	if err != nil {
		return Answer{}, err
	}
	at, gap := f.place(after)
	s := f.newScan(r, r.Limit)
	defer s.free()
	s.gap = gap
	for _, t := range topics {
		s.positions = append(s.positions, position{topic: t, at: at})
	}
	ans, err := f.waitFor(ctx, r.Wait, topics, func() (Answer, error) {
		for i := range s.positions {
			s.positions[i].clear = s.through // an earlier look found nothing up to here
		}
		s.reset()
		return s.run()
	})
	if err != nil {
		return Answer{}, err
	}
	ans.Next = Cursor{After: max(s.through, at), Epoch: f.store.State().Epoch}
	return ans, nil
}

// fetch is Fetch and Next.
func (f *Feed) fetch(ctx context.Context, name string, r Read, limit int) (Answer, error) {
	if len(r.Topics) == 0 || len(r.Topics) > MaxTopics { // before a client is made
		_, err := distinct(r.Topics)
		return Answer{}, err
	}
	if r.Wait <= 0 {
		f.stats.fetches.Add(1)
		return f.counted(f.look(ctx, name, r, limit))
	}
	from := r.From
	return f.waitFor(ctx, r.Wait, r.Topics, func() (Answer, error) {
		r.From, from = from, nil // only the first look moves the client
		return f.look(ctx, name, r, limit)
	})
}

// waitFor calls look until it finds something to tell or wait has passed. Nothing is held while it waits.
func (f *Feed) waitFor(ctx context.Context, wait time.Duration, topics []Topic, look func() (Answer, error)) (Answer, error) {
	f.stats.fetches.Add(1)
	if wait <= 0 {
		return f.counted(look())
	}
	b := f.bells.hang(topics) // before the first look: see bells
	defer f.bells.take(b)
	over := time.NewTimer(wait)
	defer over.Stop()
	for {
		ans, err := look()
		if err != nil || len(ans.Events) > 0 || ans.Gap != nil || ans.More {
			return f.counted(ans, err)
		}
		select {
		case <-b.C:
		case <-over.C:
			return ans, nil
		case <-ctx.Done():
			return Answer{}, context.Cause(ctx)
		case <-f.ledger.closing:
			return Answer{}, fmt.Errorf("feed: %w", ErrClosed)
		}
	}
}

func (f *Feed) counted(ans Answer, err error) (Answer, error) {
	if n := len(ans.Events); n > 0 {
		f.stats.delivered.Add(uint64(n))
	}
	if ans.Gap != nil {
		f.stats.gaps.Add(1)
	}
	return ans, err
}

// look is one fetch of a client: it takes the client's turn, reads, and commits.
func (f *Feed) look(ctx context.Context, name string, r Read, limit int) (Answer, error) {
	if r.Peek {
		return f.peek(name, r, limit)
	}
	c, err := f.take(ctx, name, true)
	if err != nil {
		return Answer{}, err
	}
	defer c.release()
	s := f.newScan(r, limit)
	defer s.free()
	if r.From != nil {
		at, gap := f.place(*r.From)
		topics, err := distinct(r.Topics)
		if err != nil {
			return Answer{}, err
		}
		if err := f.move(ctx, c, topics, func() (EventID, error) { return at, nil }); err != nil {
			return Answer{}, err
		}
		s.gap = gap
	}
	if !c.again(s, r.Topics) {
		topics, err := distinct(r.Topics)
		if err != nil {
			return Answer{}, err
		}
		if unused := c.positions(s, topics); len(unused) > 0 {
			if err := f.begin(ctx, c, unused, r.Start); err != nil {
				return Answer{}, err
			}
			c.positions(s, topics)
		}
	}
	ans, err := s.run()
	if err != nil {
		return Answer{}, err
	}
	if ctx.Err() != nil { // nobody is there to take it
		return Answer{}, context.Cause(ctx)
	}
	s.commit(c)
	return ans, nil
}

// peek reads as the client would, without making or moving anything.
func (f *Feed) peek(name string, r Read, limit int) (Answer, error) {
	if err := CheckClientName(name); err != nil {
		return Answer{}, err
	}
	topics, err := distinct(r.Topics)
	if err != nil {
		return Answer{}, err
	}
	s := f.newScan(r, limit)
	defer s.free()
	unused := topics
	if c := f.clients.get(name); c != nil && r.From == nil {
		unused = c.positions(s, topics)
	}
	start, err := r.Start.after(f.store)
	if err != nil {
		return Answer{}, err
	}
	if r.From != nil {
		start, s.gap = f.place(*r.From)
	}
	for _, t := range unused {
		s.positions = append(s.positions, position{topic: t, at: start})
	}
	return s.run()
}

// distinct checks the topics of a read and drops doubles.
func distinct(topics []Topic) ([]Topic, error) {
	switch {
	case len(topics) == 0:
		return nil, invalid("topics", "", "at least one topic or system")
	case len(topics) > MaxTopics:
		return nil, invalid("topics", strconv.Itoa(len(topics))+" topics", "at most "+strconv.Itoa(MaxTopics)+" in one request")
	}
	if len(topics) <= 16 { // the common case: cheaper than a map, and usually nothing to do
		for i, t := range topics {
			for _, u := range topics[:i] {
				if t == u {
					return dropDoubles(topics), nil
				}
			}
		}
		return topics, nil
	}
	seen := make(map[Topic]struct{}, len(topics))
	for _, t := range topics {
		if _, double := seen[t]; double {
			return dropDoubles(topics), nil
		}
		seen[t] = struct{}{}
	}
	return topics, nil
}

func dropDoubles(topics []Topic) []Topic {
	seen := make(map[Topic]struct{}, len(topics))
	out := make([]Topic, 0, len(topics))
	for _, t := range topics {
		if _, double := seen[t]; !double {
			seen[t] = struct{}{}
			out = append(out, t)
		}
	}
	return out
}

// position is where a read stands on one topic.
type position struct {
	topic Topic
	at    EventID // the offset
	clear EventID // nothing is on the topic in (at, clear]
	o     *offset // the client's, nil in a read without a client
	// What the read found, set by scan.run:
	got  EventID // the greatest event on the topic that was returned or passed over
	lost EventID // the greatest removed event on the topic, when it was unread
}

// positions sets where the client stands on the topics, which are distinct, and returns those that it has not used.
func (c *client) positions(s *scan, topics []Topic) (unused []Topic) {
	s.positions = s.positions[:0]
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, t := range topics {
		if o := c.offsets[t]; o != nil {
			s.positions = append(s.positions, position{topic: t, at: o.at, clear: o.clear, o: o})
		} else {
			unused = append(unused, t)
		}
	}
	if len(unused) == 0 && !s.read.Peek {
		c.plan = c.plan[:0]
		for _, p := range s.positions {
			c.plan = append(c.plan, planned{p.topic, p.o})
		}
	}
	return unused
}

// again sets the positions when the topics are those of the call before, which is how most clients poll: it saves looking
// each of them up, and looking for doubles. The caller has the client's turn.
func (c *client) again(s *scan, topics []Topic) bool {
	if len(topics) != len(c.plan) {
		return false
	}
	for i, p := range c.plan {
		if topics[i] != p.topic {
			return false
		}
	}
	s.positions = s.positions[:0]
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, p := range c.plan {
		s.positions = append(s.positions, position{topic: p.topic, at: p.o.at, clear: p.o.clear, o: p.o})
	}
	return true
}

// scan is one read of the log.
type scan struct {
	feed      *Feed
	read      Read
	limit     int
	gap       *Gap // known before the log is read
	positions []position

	through EventID // everything up to here was returned or passed over
	first   EventID // the first returned event, 0 when none

	// Room that is used again by the next scan.
	query   Query
	entries []Entry
	ids     []EventID
}

// newScan returns an empty scan; free gives it back.
func (f *Feed) newScan(r Read, limit int) *scan {
	s, ok := f.scans.Get().(*scan)
	if !ok {
		s = &scan{}
	}
	s.feed, s.read, s.limit = f, r, limit
	return s
}

func (s *scan) free() {
	const most = 4096 // entries: what a large read needed is not kept for the many small ones
	f := s.feed
	if cap(s.entries) > most || cap(s.positions) > most {
		return
	}
	clear(s.positions)
	*s = scan{
		positions: s.positions[:0], query: Query{Positions: s.query.Positions[:0]}, entries: s.entries[:0], ids: s.ids[:0],
	}
	f.scans.Put(s)
}

func (s *scan) reset() {
	for i := range s.positions {
		p := &s.positions[i]
		p.got, p.lost = 0, 0
	}
	s.first, s.through = 0, 0
}

// run reads. It changes nothing but s.
func (s *scan) run() (Answer, error) {
	for {
		st := s.feed.store.State()
		ans, err := s.runAt(st)
		if err != nil || s.feed.store.State().First == st.First {
			return ans, err
		}
		// A collection came in between: what it removed may be missing without having been told. Once more.
		s.reset()
	}
}

func (s *scan) runAt(st State) (Answer, error) {
	ans := Answer{Head: st.Head, Gap: s.lostTo(st)}
	q := &s.query
	q.Positions, q.Through, q.Max = q.Positions[:0], st.Head, s.page()
	for i := range s.positions {
		p := &s.positions[i]
		q.Positions = append(q.Positions, Position{Topic: p.topic, After: max(p.at, p.clear, p.lost)})
	}
	entries, ids := s.entries[:0], s.ids[:0] // entries are of all events that were looked at
	defer func() { s.entries, s.ids = entries, ids }()
	var err error
	// Look at index entries until the limit is known to be exceeded or nothing is left.
	var passed int
	for looked := 0; ; {
		from := len(entries)
		if entries, err = s.feed.store.Find(entries, *q); err != nil {
			return Answer{}, fmt.Errorf("reading the index: %w", err)
		}
		var last EventID
		events := 0
		for _, e := range entries[from:] {
			if e.ID == last {
				continue
			}
			last = e.ID
			events++
			if s.wants(e) {
				ids = append(ids, e.ID)
			} else {
				passed++
			}
		}
		looked += events
		if events < q.Max { // nothing is left
			s.through = st.Head
			break
		}
		if s.limit > 0 && len(ids) > s.limit || passed > maxScan || len(ids) > maxScan {
			ans.More = true
			s.through = last
			break
		}
		for i := range q.Positions {
			q.Positions[i].After = max(q.Positions[i].After, last)
		}
		q.Max = 1024
	}
	if s.limit > 0 && len(ids) > s.limit {
		s.through = ids[s.limit] - 1
		ids = ids[:s.limit]
		ans.More = true
	}
	if err := s.load(&ans, ids); err != nil {
		return Answer{}, err
	}
	for _, e := range entries {
		if e.ID > s.through {
			break
		}
		s.positions[e.Position].got = e.ID
	}
	if len(ans.Events) > 0 {
		s.first = ans.Events[0].ID
		if s.read.Manual {
			s.limitToPassed(entries)
		}
	}
	return ans, nil
}

// page is how many events to look at first: one more than wanted, to know whether there is more.
func (s *scan) page() int {
	if s.limit > 0 && s.limit < 1024 {
		return s.limit + 1
	}
	return 1024
}

// load reads the events into the answer until the byte budget is spent.
func (s *scan) load(ans *Answer, ids []EventID) error {
	if len(ids) == 0 {
		return nil
	}
	ans.Events = make([]Event, 0, len(ids))
	bytes := 0
	return s.feed.store.Read(ids, func(e Event, err error) bool {
		if err != nil {
			if e.ID < s.feed.store.State().First {
				return false // a collection came in between; run reads again
			}
			s.feed.stats.damaged.Add(1)
			s.feed.log.Error("an event cannot be read and is passed over; run killfeed check", "event_id", e.ID, "err", err)
			if ans.Gap == nil {
				ans.Gap = &Gap{Reason: GapDamaged, From: e.ID, To: e.ID}
			} else if ans.Gap.Reason == GapDamaged {
				ans.Gap.To = e.ID
			}
			return true
		}
		if bytes += len(e.Killmail); bytes > MaxAnswerBytes && len(ans.Events) > 0 {
			ans.More = true
			s.through = e.ID - 1
			return false
		}
		ans.Events = append(ans.Events, e)
		return true
	})
}

// limitToPassed takes back what a read with manual commit may not commit by itself: everything from the first returned
// event on.
func (s *scan) limitToPassed(entries []Entry) {
	for i := range s.positions {
		s.positions[i].got = 0
	}
	for _, e := range entries {
		if e.ID >= s.first {
			break
		}
		s.positions[e.Position].got = e.ID
	}
}

// wants tells whether the reader gets an event, as far as its index entry shows.
func (s *scan) wants(e Entry) bool {
	if e.Marks.Has(MarkUpdate) && !s.read.Updates || e.Marks.Has(MarkBackfill) && s.read.NoBackfill {
		return false
	}
	if s.read.MaxAge > 0 && e.KilledAt != 0 {
		return s.feed.now().Sub(time.Unix(e.KilledAt, 0)) <= s.read.MaxAge
	}
	return true
}

// lostTo finds out what retention removed before the reader had it.
func (s *scan) lostTo(st State) *Gap {
	var gap Gap
	for i := range s.positions {
		p := &s.positions[i]
		if p.at+1 >= st.First { // the usual case, without a look into the store
			continue
		}
		removed := s.feed.store.Removed(p.topic)
		if p.at >= removed {
			continue
		}
		p.lost = removed
		if gap.To == 0 || p.at+1 < gap.From {
			gap.From = p.at + 1
		}
		gap.To = max(gap.To, removed)
	}
	switch {
	case s.gap != nil: // the cursor was none of this log: what was removed is not its loss
		return s.gap
	case gap.To > 0:
		gap.Reason = GapRetention
		return &gap
	}
	return nil
}

// commit moves the client's offsets past what was returned and passed over, and past a gap that was told. It is written
// behind. The caller has the client's turn.
func (s *scan) commit(c *client) {
	var dirty []Topic
	c.mu.Lock()
	for i := range s.positions {
		p := &s.positions[i]
		to := p.got
		if !s.read.Manual {
			to = max(to, p.lost)
		}
		if to > p.o.at {
			p.o.at = to
			dirty = append(dirty, p.topic)
		}
		// Nothing more is on the topic up to where the scan came, unless this read returned something that it may not
		// commit.
		if !s.read.Manual || s.first == 0 {
			p.o.clear = s.through
		}
	}
	c.mu.Unlock()
	if len(dirty) > 0 {
		s.feed.clients.dirtyTopics(c, dirty)
	}
}

// begin records the positions of topics that the client has not used. The caller has the client's turn.
func (f *Feed) begin(ctx context.Context, c *client, topics []Topic, start Start) error {
	return f.move(ctx, c, topics, func() (EventID, error) { return start.after(f.store) })
}

// move sets the client's offsets on the topics, durably, also backwards. to runs when the change is about to be written, so
// that "earliest" cannot be overtaken by a collection. The caller has the client's turn.
//
// On a disk that takes nothing the move is made in memory and written behind, so that reads go on; a crash before there
// is space again puts it back.
func (f *Feed) move(ctx context.Context, c *client, topics []Topic, to func() (EventID, error)) error {
	var at EventID
	resolve := func() (err error) {
		c.mu.Lock()
		n := len(c.offsets)
		c.mu.Unlock()
		if n+len(topics) > MaxClientTopics {
			return invalid("topics", strconv.Itoa(n+len(topics))+" topics of one client",
				"at most "+strconv.Itoa(MaxClientTopics)+" over time; delete the client to begin anew")
		}
		at, err = to()
		return err
	}
	apply := func() {
		f.hold(at)
		c.mu.Lock()
		defer c.mu.Unlock()
		for _, t := range topics {
			c.set(t, offset{at: at})
		}
	}
	if f.store.Health() == nil {
		err := f.ledger.do(ctx, &request{
			change: func(b *Batch) error {
				if err := resolve(); err != nil {
					return err
				}
				for _, t := range topics {
					b.Offsets = append(b.Offsets, Offset{Client: c.name, Topic: t, At: at})
				}
				b.Seen = append(b.Seen, c.record(c.seen.Load()))
				return nil
			},
			apply: apply,
		})
		if !errors.Is(err, ErrDiskFull) && !errors.Is(err, ErrFailed) {
			return err
		}
	}
	return f.ledger.do(ctx, &request{alone: func() error {
		if err := resolve(); err != nil {
			return err
		}
		apply()
		f.clients.dirtyTopics(c, topics)
		return nil
	}})
}

// Commit sets the client's offsets, as far as they are ahead of where it stands, and returns where the given topics then
// stand. It is durable before it returns. An id above the head is an *InvalidError. An unknown client or topic is made.
func (f *Feed) Commit(ctx context.Context, name string, offsets map[Topic]EventID) (map[Topic]EventID, error) {
	if len(offsets) == 0 {
		return nil, invalid("offsets", "", "at least one topic with the last event id handled")
	}
	if len(offsets) > MaxTopics {
		return nil, invalid("offsets", strconv.Itoa(len(offsets))+" topics", "at most "+strconv.Itoa(MaxTopics))
	}
	head := f.store.State().Head
	for t, id := range offsets {
		if id > head {
			return nil, invalid("event_id", strconv.FormatUint(uint64(id), 10),
				"at most the head of the log, "+strconv.FormatUint(uint64(head), 10)+", on "+t.String())
		}
	}
	c, err := f.take(ctx, name, true)
	if err != nil {
		return nil, err
	}
	defer c.release()
	if err := f.store.Health(); err != nil {
		return nil, fmt.Errorf("committing offsets of client %q: %w", name, err)
	}
	now := make(map[Topic]EventID, len(offsets))
	added := 0
	c.mu.Lock()
	for t, id := range offsets {
		now[t] = id
		if o := c.offsets[t]; o != nil {
			now[t] = max(id, o.at)
		} else {
			added++
		}
	}
	total := len(c.offsets) + added
	c.mu.Unlock()
	if total > MaxClientTopics {
		return nil, invalid("offsets", strconv.Itoa(total)+" topics of one client", "at most "+strconv.Itoa(MaxClientTopics))
	}
	err = f.ledger.do(ctx, &request{
		change: func(b *Batch) error {
			for t, id := range now {
				b.Offsets = append(b.Offsets, Offset{Client: c.name, Topic: t, At: id})
			}
			b.Seen = append(b.Seen, c.record(c.seen.Load()))
			return nil
		},
		apply: func() {
			c.mu.Lock()
			defer c.mu.Unlock()
			for t, id := range now {
				o := c.offsets[t]
				if o == nil {
					f.hold(id)
					c.set(t, offset{at: id})
				} else {
					o.at, o.dirty = id, false
				}
			}
		},
	})
	if err != nil {
		return nil, err
	}
	return now, nil
}

// Seek moves the client to a place, also backwards, on the given topics, or on all that it has when none are given. It is
// durable before it returns. An unknown client is made.
func (f *Feed) Seek(ctx context.Context, name string, to Start, topics []Topic) (ClientInfo, error) {
	if len(topics) > 0 {
		var err error
		if topics, err = distinct(topics); err != nil {
			return ClientInfo{}, err
		}
	}
	c, err := f.take(ctx, name, true)
	if err != nil {
		return ClientInfo{}, err
	}
	defer c.release()
	if err := f.store.Health(); err != nil {
		return ClientInfo{}, fmt.Errorf("moving client %q: %w", name, err)
	}
	if len(topics) == 0 {
		c.mu.Lock()
		for t := range c.offsets {
			topics = append(topics, t)
		}
		c.mu.Unlock()
	}
	if err := f.move(ctx, c, topics, func() (EventID, error) { return to.after(f.store) }); err != nil {
		return ClientInfo{}, err
	}
	return f.describe(c)
}
