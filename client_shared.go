package killfeed

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"sync"
	"time"
)

// This file is what happens to clients that other nodes change.

// adopt takes over what other nodes have made of a client. What this node is ahead of them stays, and is written behind. It runs on the
// writer's goroutine, which takes no turn: see client.version and client.sought.
func (f *Feed) adopt(r SharedClient) {
	for {
		c := f.clients.get(r.Client)
		switch {
		case c == nil && r.Gone:
			return
		case c == nil:
			c = loadClient(r.ClientRecord)
			c.hold = r.Hold
			if f.clients.add(c) {
				return
			} // else a call here has made one a moment ago
		case r.Gone:
			f.clients.lose(c)
			return
		case c.saved != 0 && c.created != r.Created.UnixMilli(): // deleted, and made anew, and only the latter was heard of
			f.clients.lose(c)
		default:
			f.merge(c, r)
			return
		}
	}
}

// lose forgets a client that was deleted.
func (r *registry) lose(c *client) {
	c.mu.Lock()
	c.gone = true
	c.version++
	c.mu.Unlock()
	r.remove(c)
	c.endLive(nil, fmt.Errorf("client %q was deleted: %w", c.name, ErrNotFound))
}

// add adds a client that another node has made, also beyond the limit: the limit is kept by who makes them. It returns false when there is
// one of that name.
func (r *registry) add(c *client) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.byName[c.name] != nil {
		return false
	}
	r.byName[c.name] = c
	return true
}

// merge makes c what r says.
func (f *Feed) merge(c *client, r SharedClient) {
	c.created, c.saved = r.Created.UnixMilli(), r.At.UnixMilli()
	for {
		seen := c.seen.Load()
		if seen >= c.saved || c.seen.CompareAndSwap(seen, c.saved) {
			break
		}
	}
	c.mu.Lock()
	sought := r.Moves != c.hold.Moves
	for t, at := range r.Offsets {
		o := c.offsets[t]
		switch {
		case o == nil:
			c.set(t, offset{at: at})
		case sought, !o.dirty && at < o.at:
			*o = offset{at: at}
		case !o.dirty:
			o.at = at
		case !c.moving: // else it may have been moved back here
			o.at = max(o.at, at)
		}
	}
	c.moving = c.moving && !sought
	replaced := len(c.live) > 0 && r.Holder != c.hold.Holder && r.Holder != c.claimed
	c.hold = r.Hold
	c.version++
	if sought && len(c.live) > 0 && !replaced {
		c.sought = true
		f.seeks.add(c)
	}
	c.mu.Unlock()
	if replaced {
		c.endLive(nil, fmt.Errorf("client %q: %w", c.name, ErrReplaced))
	}
}

// behindWait is how long a read waits for this node to have what another one had when it changed the client. Then it reads what there is.
const behindWait = 2 * time.Second

// ready waits until this node's log is as far as that of the node which changed the client last, and returns the client's version. The caller
// has the client's turn.
func (f *Feed) ready(ctx context.Context, c *client) (version uint64, err error) {
	c.mu.Lock()
	version, head := c.version, c.hold.Head
	c.mu.Unlock()
	if EventID(f.bells.through.Load()) >= head {
		return version, nil
	}
	short, cancel := context.WithTimeout(ctx, behindWait)
	defer cancel()
	if err = f.Await(short, head); err != nil && ctx.Err() == nil && !errors.Is(err, ErrClosed) {
		err = nil
	}
	return version, err
}

// arrive waits a moment until this node's log has the event of a cursor of its own epoch: see reach.
func (f *Feed) arrive(ctx context.Context, c Cursor) error {
	if c.Epoch != "" && c.Epoch != f.store.State().Epoch {
		return nil
	}
	return f.reach(ctx, c.After)
}

// reach waits a moment until this node's log has an event that somebody names: another node gave it out, and this one is some
// milliseconds behind. Else it would seem to be past the end of the log, so that who has had it got again what came before, and who asks
// for it were put elsewhere. The error is ErrBehind when it takes longer than a moment; nil is also for an event that no node has.
func (f *Feed) reach(ctx context.Context, id EventID) error {
	if !f.writer.shared || id <= EventID(f.bells.through.Load()) {
		return nil
	}
	short, cancel := context.WithTimeout(ctx, behindWait)
	defer cancel()
	err := f.Await(short, id)
	if err == nil || ctx.Err() != nil || errors.Is(err, ErrClosed) {
		return err
	}
	if err = f.writer.ledger.Health(); err == nil {
		ask, cancel := context.WithTimeout(ctx, behindWait)
		defer cancel()
		var head EventID
		if head, err = f.writer.ledger.Head(ask); err == nil && id > head {
			return nil
		}
	}
	if err != nil { // who knows whether there is such an event
		return fmt.Errorf("looking for event %d, and this node has events up to %d: %w: %w", id, f.store.State().Head, ErrBehind, err)
	}
	return fmt.Errorf("looking for event %d, and this node has events up to %d: %w", id, f.store.State().Head, ErrBehind)
}

// agree moves the client's offsets past what was returned, as commit does, once the nodes agree. Only then may it be answered: another
// node might return the same otherwise. With manual commit nothing moves, but the nodes are asked all the same whether the client still
// stands there: who commits on one node and reads on another must not get again what it committed. It is errMoved when another node
// has changed the client since it was at version. The caller has the client's turn.
func (s *search) agree(ctx context.Context, c *client, version uint64) error {
	f := s.feed
	ctx, cancel := context.WithCancel(ctx)
	defer cancel() // a request that is given up while it waits in line commits nothing
	if err := f.writer.clientHealth(); err != nil {
		return fmt.Errorf("committing what client %q is to get: %w", c.name, err)
	}
	moves := make(map[Topic]EventID, len(s.positions))
	c.mu.Lock()
	if c.gone || c.version != version {
		c.mu.Unlock()
		return errMoved
	}
	for i := range s.positions {
		if p := &s.positions[i]; !s.read.Manual && max(p.got, p.lost) > p.o.at {
			moves[p.topic] = max(p.got, p.lost)
		}
	}
	c.mu.Unlock()
	return f.writer.do(ctx, &request{
		client: c,
		change: func(b *Batch) error {
			c.mu.Lock()
			defer c.mu.Unlock()
			if c.gone || c.version != version {
				return errMoved
			}
			if ctx.Err() != nil {
				return context.Cause(ctx)
			}
			for t, id := range moves {
				b.Offsets = append(b.Offsets, Offset{Client: c.name, Topic: t, At: id})
			}
			if len(moves) == 0 {
				b.Holds = append(b.Holds, HoldChange{Client: c.name})
			}
			return nil
		},
		apply: func() {
			c.mu.Lock()
			defer c.mu.Unlock()
			for t, id := range moves {
				if o := c.offsets[t]; o.at < id {
					o.at, o.dirty = id, false
				}
			}
		},
	})
}

// claim tells the other nodes that the client's subscriptions are of a connection of this one, which ends those there. The caller has the
// client's turn. While the nodes cannot agree that is left out: then two nodes may have subscriptions of one client.
func (c *client) claim(ctx context.Context, f *Feed, holder any) error {
	c.mu.Lock()
	claimed := len(c.live) > 0 && c.holder == holder && holder != nil
	c.mu.Unlock()
	if !f.writer.shared || claimed || f.writer.clientHealth() != nil {
		return nil
	}
	name, seen := rand.Text(), c.seen.Load()
	c.mu.Lock()
	c.claimed = name
	c.mu.Unlock()
	err := f.writer.do(ctx, &request{
		client: c,
		change: func(b *Batch) error {
			if err := c.there(); err != nil {
				return err
			}
			b.Holds = append(b.Holds, HoldChange{Client: c.name, Holder: name})
			b.Seen = append(b.Seen, c.record(seen)) // it may be the first that is written of the client
			return nil
		},
		apply: func() {
			c.saved = seen
			c.mu.Lock()
			c.hold.Holder = name
			c.mu.Unlock()
		},
	})
	if errors.Is(err, ErrUnavailable) {
		err = nil
	}
	return err
}

// seeks has subscriptions go on where another node has moved their client. That takes the client's turn, which the writer must not
// wait for.
type seeks struct {
	mu   sync.Mutex // guards list; held for an append or a swap
	list []*client

	more    chan struct{} // cap 1: there is something in the list
	cancel  context.CancelFunc
	running sync.WaitGroup
}

func (s *seeks) start(shared bool) {
	if !shared {
		return
	}
	s.more = make(chan struct{}, 1)
	var ctx context.Context
	ctx, s.cancel = context.WithCancel(context.Background())
	s.running.Go(func() { s.run(ctx) })
}

func (s *seeks) stop() {
	if s.cancel != nil {
		s.cancel()
		s.running.Wait()
	}
}

func (s *seeks) add(c *client) {
	s.mu.Lock()
	s.list = append(s.list, c)
	s.mu.Unlock()
	select {
	case s.more <- struct{}{}:
	default:
	}
}

func (s *seeks) run(ctx context.Context) {
	for {
		select {
		case <-s.more:
		case <-ctx.Done():
			return
		}
		s.mu.Lock()
		list := s.list
		s.list = nil
		s.mu.Unlock()
		for _, c := range list {
			select {
			case c.turn <- struct{}{}:
			case <-ctx.Done():
				return
			}
			c.followSeek()
			c.release()
		}
	}
}

// followSeek has the client's subscriptions go on where it stands. The caller has its turn.
func (c *client) followSeek() {
	c.mu.Lock()
	topics := make([]Topic, 0, len(c.offsets))
	for t := range c.offsets {
		topics = append(topics, t)
	}
	c.mu.Unlock()
	_ = c.reposition(topics, func() error { // it cannot fail
		c.mu.Lock()
		c.sought = false
		c.mu.Unlock()
		return nil
	})
}
