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
	// maxPassed bounds the events that one read passes over.
	maxPassed = 100_000
	// maxSifted and maxSiftedBytes bound the killmails that one read looks into for its filter, and maxSteps how often its rules
	// look at a value of theirs: some 150 ms.
	maxSifted      = 20_000
	maxSiftedBytes = 48 << 20
	maxSteps       = 10_000_000
	// maxStored bounds what the topics of one read stand for.
	maxStored = 100_000
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
	// Filter, when set, passes over what it does not match. One answer looks at a bounded number of killmails for it: More is
	// set when that ended the search, also when it found nothing.
	Filter *Filter
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

// last is the event that the log has to have for s to be a place in it; 0: it always is.
func (s Start) last() EventID {
	if s.kind != startID {
		return 0
	}
	return s.id - 1
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

// CursorAt returns the cursor just before s, for readers that keep their own.
func (f *Feed) CursorAt(s Start) (Cursor, error) {
	at, err := s.after(f.store)
	return Cursor{After: at, Epoch: f.store.State().Epoch}, err
}

// place turns a cursor into a position in this log, and the gap to tell when it is not one.
func (f *Feed) place(c Cursor) (EventID, *Gap) {
	st := f.store.State()
	switch {
	case !st.Holds(c):
		return st.First - 1, &Gap{Reason: GapEpoch}
	case c.After > st.Head:
		return st.Head, &Gap{Reason: GapFuture}
	}
	return c.After, nil
}

// Await returns when the node's log has the event with that id, which another node may have answered with: so a caller reads what it
// has written, on whichever node. Errors are the context's cause and ErrClosed.
func (f *Feed) Await(ctx context.Context, id EventID) error {
	if EventID(f.bells.through.Load()) >= id {
		return nil
	}
	rung := make(chan struct{}, 1)
	b := &bell{asleep: true, wake: func() { rung <- struct{}{} }}
	f.bells.hang(b, []Topic{All()})
	defer f.bells.take(b)
	for EventID(f.bells.through.Load()) < id {
		select {
		case <-rung:
			b.sleep()
		case <-ctx.Done():
			return fmt.Errorf("waiting for event %d, the head is %d: %w", id, f.store.State().Head, context.Cause(ctx))
		case <-f.writer.closing:
			return fmt.Errorf("feed: %w", ErrClosed)
		}
	}
	return nil
}

// Fetch returns what the named client has not had on the topics, ascending, each event once, and commits it unless
// Read.Manual. It is the specification's fetch_for_client.
//
// The first use of a topic records its position (Read.Start) durably. Errors are *InvalidError, ErrTooManyClients,
// ErrClosed, the context's cause, or what the store could not do. Nothing is committed for a caller whose context has
// ended.
func (f *Feed) Fetch(ctx context.Context, name string, r Read) (Answer, error) {
	return f.fetch(ctx, name, r, false)
}

// Next returns the one event with the smallest id that the named client has not had on the topics, and commits the topics
// that it is on; none: an Answer without events. It is the specification's fetch_one_event. Read.Limit is not used, and More
// is set only when a budget ended the search before it found anything. Errors are those of Fetch.
func (f *Feed) Next(ctx context.Context, name string, r Read) (Answer, error) {
	r.Limit = 1
	return f.fetch(ctx, name, r, true)
}

// ReadAfter returns what is on the topics behind the cursor, without a client: nothing is kept or committed. Read.Start,
// Manual, From and Peek are not used.
func (f *Feed) ReadAfter(ctx context.Context, after Cursor, r Read) (Answer, error) {
	r.Peek = true
	topics, err := f.distinct(r.Topics)
	if err != nil {
		return Answer{}, err
	}
	if err := f.arrive(ctx, after); err != nil {
		return Answer{}, err
	}
	at, gap := f.place(after)
	s := f.newSearch(r, false)
	defer s.free()
	s.gap = gap
	for _, t := range topics {
		s.positions = append(s.positions, position{topic: t, at: at})
	}
	ans, err := f.waitFor(ctx, r, topics, func() (Answer, error) {
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
func (f *Feed) fetch(ctx context.Context, name string, r Read, single bool) (Answer, error) {
	if len(r.Topics) == 0 || len(r.Topics) > MaxTopics { // before a client is made
		_, err := f.distinct(r.Topics)
		return Answer{}, err
	}
	if r.Wait <= 0 {
		f.stats.fetches.Add(1)
		return f.counted(f.look(ctx, name, r, single))
	}
	if r.Peek { // which records nothing, so that "latest" would be another place after each event
		at, err := r.Start.after(f.store)
		if err != nil {
			return Answer{}, err
		}
		r.Start = StartAt(at + 1)
	}
	from := r.From
	return f.waitFor(ctx, r, r.Topics, func() (Answer, error) {
		r.From, from = from, nil // only the first look moves the client
		return f.look(ctx, name, r, single)
	})
}

// waitFor calls look until it finds something to tell or Read.Wait has passed. Nothing is held while it waits.
func (f *Feed) waitFor(ctx context.Context, r Read, topics []Topic, look func() (Answer, error)) (Answer, error) {
	f.stats.fetches.Add(1)
	if r.Wait <= 0 {
		return f.counted(look())
	}
	rung := make(chan struct{}, 1)
	b := &bell{asleep: true, wake: func() { rung <- struct{}{} }, load: r.Filter.load()}
	if err := f.bells.room(len(topics), b.load); err != nil {
		return Answer{}, err
	}
	f.bells.hang(b, topics) // before the first look: see bells
	f.bells.waiting.Add(1)
	defer func() {
		f.bells.take(b)
		f.bells.waiting.Add(-1)
	}()
	over := time.NewTimer(r.Wait)
	defer over.Stop()
	for {
		ans, err := look()
		if err != nil || len(ans.Events) > 0 || ans.Gap != nil || ans.More {
			return f.counted(ans, err)
		}
		select {
		case <-rung:
			b.sleep() // before the next look
		case <-over.C:
			return ans, nil
		case <-ctx.Done():
			return Answer{}, context.Cause(ctx)
		case <-f.writer.closing:
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

// look is one fetch of a client: it takes the client's turn, reads, and commits. Where another node has changed the client
// meanwhile it reads again.
func (f *Feed) look(ctx context.Context, name string, r Read, single bool) (Answer, error) {
	if r.Peek {
		return f.peek(name, r, single)
	}
	var gap *Gap
	if r.From != nil {
		var err error
		if gap, err = f.moveTo(ctx, name, r); err != nil {
			return Answer{}, err
		}
	}
	for {
		ans, err := f.lookOnce(ctx, name, r, single, gap)
		if (errors.Is(err, errMoved) || errors.Is(err, ErrNotFound)) && ctx.Err() == nil { // deleted meanwhile: it begins anew
			continue
		}
		return ans, err
	}
}

// moveTo moves the client to the cursor of its own.
func (f *Feed) moveTo(ctx context.Context, name string, r Read) (*Gap, error) {
	if err := f.arrive(ctx, *r.From); err != nil {
		return nil, err
	}
	c, err := f.take(ctx, name, true)
	if err != nil {
		return nil, err
	}
	defer c.release()
	at, gap := f.place(*r.From)
	topics, err := f.distinct(r.Topics)
	if err != nil {
		return nil, err
	}
	m := move{feed: f, client: c, topics: topics, to: func() (EventID, error) { return at, nil }}
	return gap, m.orInMemory(ctx)
}

// lookOnce reads and commits. gap, when set, is told in place of what the search finds.
func (f *Feed) lookOnce(ctx context.Context, name string, r Read, single bool, gap *Gap) (Answer, error) {
	c, err := f.take(ctx, name, true)
	if err != nil {
		return Answer{}, err
	}
	defer c.release()
	s := f.newSearch(r, single)
	defer s.free()
	s.gap = gap
	var version uint64
	if f.writer.shared { // before the offsets are read
		if version, err = f.ready(ctx, c); err != nil {
			return Answer{}, err
		}
	}
	if !c.again(s, r.Topics) {
		topics, err := f.distinct(r.Topics)
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
	agreed := f.writer.shared && (len(ans.Events) > 0 || ans.Gap != nil)
	if agreed {
		if err := s.agree(ctx, c, version); err != nil {
			return Answer{}, err
		}
	}
	if !s.commit(c, version) && !agreed { // what is agreed on is the caller's, whatever came after
		return Answer{}, errMoved
	}
	return ans, nil
}

// peek reads as the client would, without making or moving anything.
func (f *Feed) peek(name string, r Read, single bool) (Answer, error) {
	if err := CheckClientName(name); err != nil {
		return Answer{}, err
	}
	topics, err := f.distinct(r.Topics)
	if err != nil {
		return Answer{}, err
	}
	s := f.newSearch(r, single)
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
func (f *Feed) distinct(topics []Topic) ([]Topic, error) {
	switch {
	case len(topics) == 0:
		return nil, invalid("topics", "", "at least one topic or system")
	case len(topics) > MaxTopics:
		return nil, invalid("topics", strconv.Itoa(len(topics))+" topics", "at most "+strconv.Itoa(MaxTopics)+" in one request")
	}
	stored, u := 0, f.Universe()
	for _, t := range topics {
		if t.Kind.placed() {
			stored += u.size(t)
		}
	}
	if stored > maxStored {
		return nil, invalid("topics", strconv.Itoa(len(topics))+" topics", "topics that stand for at most "+strconv.Itoa(maxStored)+
			" solar systems and types in one request, and these stand for "+strconv.Itoa(stored))
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
