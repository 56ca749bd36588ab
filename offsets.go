package killfeed

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"sync/atomic"
)

// begin records the positions of topics that the client has not used. The caller has the client's turn.
func (f *Feed) begin(ctx context.Context, c *client, topics []Topic, start Start) error {
	if err := f.reach(ctx, start.last()); err != nil {
		return err
	}
	m := move{feed: f, client: c, topics: topics, to: func() (EventID, error) { return start.after(f.store) }, unused: true}
	return m.orInMemory(ctx)
}

// move sets a client's offsets on some topics, also backwards. Whoever runs it has the client's turn.
type move struct {
	feed   *Feed
	client *client
	topics []Topic // distinct
	// to runs when the change is about to be written, so that "earliest" cannot be overtaken by a collection.
	to func() (EventID, error)
	// unused: only topics that the client has not used by then are set.
	unused bool

	at   EventID // what to returned
	set  []Topic // those that it sets
	seen int64

	givenUp  atomic.Bool // it was made in another way since
	inMemory bool        // the other nodes do not know
}

// durably returns when the move is on disk.
func (m *move) durably(ctx context.Context) error {
	return m.feed.writer.do(ctx, &request{client: m.client, change: m.change, apply: func() {
		m.feed.hold(m.at)
		m.client.saved = m.seen
		m.apply()
	}})
}

// orInMemory is durably, but on a disk that takes nothing, or when the nodes cannot agree, the move is made in memory and written
// behind, so that reads go on. A crash before that undoes it: then the reader says again where it wants to be, or gets events again.
func (m *move) orInMemory(ctx context.Context) error {
	err := m.feed.writer.clientHealth()
	if err == nil {
		err = m.durably(ctx)
	}
	if !errors.Is(err, ErrDiskFull) && !errors.Is(err, ErrFailed) && !errors.Is(err, ErrUnavailable) {
		return err
	}
	// Not by the writer: it may be what hangs on the disk. Then the move that it was given may still be in line, and must not undo what
	// comes behind this one.
	m.givenUp.Store(true)
	m = &move{feed: m.feed, client: m.client, topics: m.topics, to: m.to, unused: m.unused}
	if err := m.resolve(); err != nil {
		return err
	}
	m.inMemory = true
	m.apply()
	m.feed.clients.dirtyTopics(m.client, m.topics, dueSoon)
	return nil
}

func (m *move) resolve() (err error) {
	c := m.client
	if err := c.there(); err != nil {
		return err
	}
	if err := c.room("topics", m.topics); err != nil {
		return err
	}
	m.set = m.topics
	if m.unused { // another node may have set some meanwhile
		m.set = nil
		c.mu.Lock()
		for _, t := range m.topics {
			if c.offsets[t] == nil {
				m.set = append(m.set, t)
			}
		}
		c.mu.Unlock()
	}
	m.at, err = m.to()
	return err
}

// change is what is written. It runs on the writer's goroutine.
func (m *move) change(b *Batch) error {
	if m.givenUp.Load() {
		return ErrOutcomeUnknown
	}
	if err := m.resolve(); err != nil {
		return err
	}
	for _, t := range m.set {
		b.Offsets = append(b.Offsets, Offset{Client: m.client.name, Topic: t, At: m.at})
	}
	if m.feed.writer.shared && !m.unused {
		b.Holds = append(b.Holds, HoldChange{Client: m.client.name, Moved: true})
	}
	m.seen = m.client.seen.Load()
	b.Seen = append(b.Seen, m.client.record(m.seen))
	return nil
}

func (m *move) apply() {
	c := m.client
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, t := range m.set {
		if c.offsets[t] == nil || !m.unused && !m.givenUp.Load() {
			c.set(t, offset{at: m.at})
		}
	}
	switch {
	case m.unused || !m.feed.writer.shared:
	case m.inMemory:
		c.moving = true
	default:
		c.hold.Moves++
	}
}

// room returns an error when the topics are too many for the client.
func (c *client) room(param string, topics []Topic) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	n := len(c.offsets)
	for _, t := range topics {
		if c.offsets[t] == nil {
			n++
		}
	}
	if n > MaxClientTopics {
		return invalid(param, strconv.Itoa(n)+" topics of one client",
			"at most "+strconv.Itoa(MaxClientTopics)+" over time; delete the client to begin anew")
	}
	return nil
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
	last := EventID(0)
	for _, id := range offsets {
		last = max(last, id)
	}
	if err := f.reach(ctx, last); err != nil {
		return nil, err
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
	return f.commit(ctx, c, offsets)
}

// commit is Commit for who has the client's turn. The client's subscriptions may move its offsets on meanwhile, which must not
// be undone in memory or on disk.
func (f *Feed) commit(ctx context.Context, c *client, offsets map[Topic]EventID) (map[Topic]EventID, error) {
	if err := f.writer.clientHealth(); err != nil {
		return nil, fmt.Errorf("committing offsets of client %q: %w", c.name, err)
	}
	if err := c.room("offsets", slices.Collect(maps.Keys(offsets))); err != nil {
		return nil, err
	}
	now := maps.Clone(offsets) // the writer's, until it is done
	seen := c.seen.Load()
	err := f.writer.do(ctx, &request{
		client: c,
		change: func(b *Batch) error {
			if err := c.there(); err != nil {
				return err
			}
			c.mu.Lock()
			defer c.mu.Unlock()
			for t, id := range offsets {
				if o := c.offsets[t]; o != nil {
					id = max(id, o.at)
				}
				now[t] = id
				b.Offsets = append(b.Offsets, Offset{Client: c.name, Topic: t, At: id})
			}
			b.Seen = append(b.Seen, c.record(seen))
			return nil
		},
		apply: func() {
			c.saved = seen
			c.mu.Lock()
			defer c.mu.Unlock()
			for t, id := range now {
				switch o := c.offsets[t]; {
				case o == nil:
					f.hold(id)
					c.set(t, offset{at: id})
				case o.at <= id:
					o.at, o.dirty = id, false
				}
			}
		},
	})
	if err != nil {
		return nil, err
	}
	f.countPassed(c)
	return now, nil
}

// Seek moves the client to a place, also backwards, on the given topics, or on all that it has when none are given. It is
// durable before it returns. An unknown client is made.
func (f *Feed) Seek(ctx context.Context, name string, to Start, topics []Topic) (ClientInfo, error) {
	if len(topics) > 0 {
		var err error
		if topics, err = f.distinct(topics); err != nil {
			return ClientInfo{}, err
		}
	}
	if err := f.reach(ctx, to.last()); err != nil {
		return ClientInfo{}, err
	}
	c, err := f.take(ctx, name, true)
	if err != nil {
		return ClientInfo{}, err
	}
	defer c.release()
	if err := f.writer.clientHealth(); err != nil {
		return ClientInfo{}, fmt.Errorf("moving client %q: %w", name, err)
	}
	if len(topics) == 0 {
		c.mu.Lock()
		for t := range c.offsets {
			topics = append(topics, t)
		}
		c.mu.Unlock()
	}
	m := move{feed: f, client: c, topics: topics, to: func() (EventID, error) { return to.after(f.store) }}
	if err := c.reposition(topics, func() error { return m.durably(ctx) }); err != nil {
		return ClientInfo{}, err
	}
	return f.describe(c)
}
