package killfeed

import (
	"context"
	"errors"
	"fmt"
	"strconv"
)

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
