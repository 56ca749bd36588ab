package killfeed

import (
	"context"
	"slices"
)

// Topics returns the topics.
func (s *Subscription) Topics() []Topic {
	s.reading.Lock()
	defer s.reading.Unlock()
	s.bell.mu.Lock()
	defer s.bell.mu.Unlock()
	topics := make([]Topic, len(s.bell.hung))
	for i := range topics {
		topics[i] = s.bell.hung[i].rope.topic
	}
	return topics
}

// SetTopics changes the topics. One that is new begins where the subscription stands, or, with a client, where the client
// stands on it; one that the client has not used begins at Read.Start. So with a client it may bring older events, also such
// as came through other topics. Errors are those of Subscribe; after one the topics are as they were.
func (s *Subscription) SetTopics(ctx context.Context, topics []Topic) (Place, error) {
	topics, err := s.feed.distinct(topics)
	if err != nil {
		return Place{}, err
	}
	p, err := s.setTopics(ctx, topics)
	if err == nil {
		s.bell.rouse()
	}
	return p, err
}

// setTopics is SetTopics for topics that are distinct, without the wake-up.
func (s *Subscription) setTopics(ctx context.Context, topics []Topic) (_ Place, err error) {
	if s.client != nil {
		select {
		case s.client.turn <- struct{}{}:
			defer s.client.release()
		case <-ctx.Done():
			return Place{}, context.Cause(ctx)
		}
		defer s.client.join()()
	}
	var (
		added []Topic
		at    []EventID
	)
	if s.client != nil {
		if added, err = s.missing(topics); err != nil {
			return Place{}, err
		}
		if len(added) > 0 { // it may wait for the disk: reads go on meanwhile
			if at, err = s.offsets(ctx, s.client, added); err != nil {
				return Place{}, err
			}
		}
	}
	s.reading.Lock()
	defer s.reading.Unlock()
	switch now, err := s.missing(topics); {
	case err != nil:
		return Place{}, err
	case s.client == nil: // with one, its turn has kept the topics as they were
		added = now
	}
	if err := s.feed.bells.room(len(added), 0); err != nil {
		return Place{}, err
	}
	stand := s.place(EventID(s.feed.bells.through.Load())) // before what is unread on topics that go is forgotten
	s.drop(topics)
	first, through := s.feed.bells.hang(&s.bell, added)
	p := s.stand(first, through, nil, func(i int) EventID {
		if at != nil {
			return at[i]
		}
		return stand
	})
	return p, nil
}

// missing returns which of the topics the subscription has not.
func (s *Subscription) missing(topics []Topic) ([]Topic, error) {
	wanted := make(map[Topic]bool, len(topics))
	for _, t := range topics {
		wanted[t] = true
	}
	b := &s.bell
	b.mu.Lock()
	defer b.mu.Unlock()
	for i := range b.hung {
		delete(wanted, b.hung[i].rope.topic)
	}
	return slices.DeleteFunc(slices.Clone(topics), func(t Topic) bool { return !wanted[t] }), s.ended
}

// drop takes away the topics that are not among keep. The caller holds reading.
func (s *Subscription) drop(keep []Topic) {
	kept := make(map[Topic]bool, len(keep))
	for _, t := range keep {
		kept[t] = true
	}
	index := make(map[int32]int32, len(s.fresh)) // of fresh topics
	for _, i := range s.fresh {
		index[i] = -1
	}
	n := 0
	s.feed.bells.unhang(&s.bell, func(_ int, t Topic) bool { return !kept[t] }, func(from, to int) {
		n = to + 1
		if s.client == nil {
			return
		}
		s.got[to] = s.got[from]
		if s.gave != nil {
			s.gave[to] = s.gave[from]
		}
		if _, fresh := index[int32(from)]; fresh {
			index[int32(from)] = int32(to)
		}
	})
	if s.client == nil {
		return
	}
	s.bell.mu.Lock()
	s.got = s.got[:n]
	if s.gave != nil {
		s.gave = s.gave[:n]
	}
	s.bell.mu.Unlock()
	fresh := s.fresh[:0]
	for _, i := range s.fresh {
		if to := index[i]; to >= 0 {
			fresh = append(fresh, to)
		}
	}
	s.fresh = fresh
}
