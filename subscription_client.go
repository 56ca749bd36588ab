package killfeed

import (
	"context"
	"fmt"
	"math"
	"slices"
)

// This file is what subscriptions have to do with the offsets that are kept for their clients.

// offsets returns where the client stands on the topics, and has those begin that it has not used. The caller has its turn.
func (s *Subscription) offsets(ctx context.Context, c *client, topics []Topic) ([]EventID, error) {
	var unused []Topic
	c.mu.Lock()
	for _, t := range topics {
		if c.offsets[t] == nil {
			unused = append(unused, t)
		}
	}
	c.mu.Unlock()
	if len(unused) > 0 {
		if err := s.feed.begin(ctx, c, unused, s.read.Start); err != nil {
			return nil, err
		}
	}
	at := make([]EventID, len(topics))
	c.mu.Lock()
	defer c.mu.Unlock()
	for i, t := range topics {
		at[i] = c.offsets[t].stands()
	}
	return at, nil
}

// Delivered tells that everything that was read, and the gap of the Place, was handed over. With automatic commit the client's
// offsets move past it; that is written within a second.
func (s *Subscription) Delivered() {
	s.reading.Lock()
	defer s.reading.Unlock()
	s.settle(s.fresh, dueLate)
	s.fresh, s.owed = s.fresh[:0], false
}

// settle commits what was got on the topics. The caller holds reading.
func (s *Subscription) settle(topics []int32, when due) {
	if s.client == nil || s.read.Manual || len(topics) == 0 {
		return
	}
	c, b := s.client, &s.bell
	dirty := make([]Topic, 0, len(topics))
	c.mu.Lock()
	b.mu.Lock()
	if s.ended == nil && !c.gone && !c.sought { // else another one may have moved back, and must not be pulled forward
		for _, i := range topics {
			t := b.hung[i].rope.topic
			if o := c.offsets[t]; o != nil && s.got[i] > o.at {
				o.at = s.got[i]
				dirty = append(dirty, t)
			}
		}
	}
	b.mu.Unlock()
	c.mu.Unlock()
	if len(dirty) > 0 {
		s.feed.clients.dirtyTopics(c, dirty, when)
	}
}

// Commit moves the client's offsets past the event, on those topics that had any up to it. It is durable before it returns.
// An id above the head is an *InvalidError, and so is a commit without a client.
func (s *Subscription) Commit(ctx context.Context, id EventID) error {
	if s.client == nil {
		return invalid("client_id", "", "a subscription with a client_id: without one nothing is kept that could be committed")
	}
	if err := s.feed.reach(ctx, id); err != nil {
		return err
	}
	if head := s.feed.store.State().Head; id > head {
		return invalid("event_id", fmt.Sprint(id), fmt.Sprintf("at most the head of the log, %d", head))
	}
	c := s.client
	select { // held to the end: whoever replaces this subscription, or deletes the client, comes before it or after it
	case c.turn <- struct{}{}:
		defer c.release()
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	offsets, err := s.upTo(id)
	switch {
	case err != nil:
		return err
	case len(offsets) > 0:
		_, err = s.feed.commit(ctx, c, offsets)
		return err
	}
	// Nothing of it came by here, or it was committed; but what is automatic is written later.
	if err := s.feed.writer.do(ctx, &request{settle: true}); err != nil {
		return err
	}
	s.feed.countPassed(c)
	return nil
}

// upTo returns how far the client's offsets have to move for the events up to id. The caller has the client's turn.
func (s *Subscription) upTo(id EventID) (map[Topic]EventID, error) {
	s.reading.Lock()
	defer s.reading.Unlock()
	s.client.mu.Lock()
	defer s.client.mu.Unlock()
	s.bell.mu.Lock()
	defer s.bell.mu.Unlock()
	if s.ended != nil {
		return nil, s.ended
	}
	offsets := map[Topic]EventID{}
	through := EventID(s.feed.bells.through.Load())
	for i := range s.bell.hung {
		h := &s.bell.hung[i]
		to := s.got[i]
		if !h.rope.topic.exact() { // what is removed of these is not known exactly: no gap shall be told of what was read
			to = h.clear(through)
		}
		to = min(to, id)
		if o := s.client.offsets[h.rope.topic]; o != nil && to > o.at {
			offsets[h.rope.topic] = to
		}
	}
	return offsets, nil
}

// settleAtEnd has the offsets written soon. On topics of which it is not known exactly what is removed, they move up to what is
// unread, if everything was handed over: on its return the client is told no gap for nothing. The caller holds reading.
func (s *Subscription) settleAtEnd() {
	c, b := s.client, &s.bell
	var dirty []Topic
	if s.read.Manual {
		s.passAll(true, dueSoon)
	} else if !s.owed {
		b.mu.Lock()
		through := EventID(s.feed.bells.through.Load())
		all := make([]int32, 0, len(b.hung))
		for i := range b.hung {
			if h := &b.hung[i]; !h.rope.topic.exact() {
				s.got[i] = max(s.got[i], h.clear(through))
				all = append(all, int32(i))
			}
		}
		b.mu.Unlock()
		s.settle(all, dueSoon)
	}
	c.mu.Lock()
	if c.due == dueLate {
		dirty = slices.Clone(c.dirty)
	}
	c.mu.Unlock()
	if len(dirty) > 0 {
		s.feed.clients.dirtyTopics(c, dirty, dueSoon)
	}
}

// endLive ends the client's subscriptions of all holders but one.
func (c *client) endLive(but any, err error) {
	c.mu.Lock()
	var ended []*Subscription
	if c.holder != but || but == nil {
		ended, c.live, c.holder = c.live, nil, nil
	}
	c.mu.Unlock()
	for _, s := range ended {
		s.end(err)
		s.bell.rouse()
	}
}

// reposition holds the client's subscriptions still while f moves its offsets, and has them go on from there. The caller has
// the client's turn.
func (c *client) reposition(topics []Topic, f func() error) error {
	c.mu.Lock()
	live := slices.Clone(c.live)
	c.mu.Unlock()
	for _, s := range live {
		defer s.bell.rouse() // when none is held any more
	}
	for _, s := range live {
		s.reading.Lock()
		defer s.reading.Unlock()
	}
	if err := f(); err != nil {
		return err
	}
	moved := make(map[Topic]EventID, len(topics))
	c.mu.Lock()
	for _, t := range topics {
		if o := c.offsets[t]; o != nil {
			moved[t] = o.at
		}
	}
	c.mu.Unlock()
	for _, s := range live {
		s.moveTo(moved)
	}
	return nil
}

// moveTo has the topics go on behind the given events, also backwards. The caller holds reading.
func (s *Subscription) moveTo(moved map[Topic]EventID) {
	b := &s.bell
	through := EventID(s.feed.bells.through.Load())
	stand := s.place(through)
	b.mu.Lock()
	defer b.mu.Unlock()
	if len(b.hung) == 0 { // closed meanwhile
		return
	}
	low := EventID(math.MaxUint64)
	for i := range b.hung {
		at, ok := moved[b.hung[i].rope.topic]
		if !ok {
			low = min(low, stand)
			continue
		}
		b.want(i, at, through)
		s.got[i] = at // what is on its way moves nothing when it is Delivered
		if s.gave != nil {
			s.gave[i] = at
		}
		low = min(low, at)
	}
	s.at = low
}
