package wanderer

import (
	"context"
	"slices"
	"sync"
	"time"

	"killfeed"
)

// counts knows how many killmails solar systems had in the last 24 hours, by their own time. It looks into the index alone, and
// remembers what it found for a moment: a killmail in a busy system is counted once for all who have subscribed to it.
type counts struct {
	feed *killfeed.Feed

	mu    sync.Mutex // guards the rest; held through one look into the index
	known map[uint32]counted
}

type counted struct {
	killmails int
	through   killfeed.EventID // the last event that may be in it
	at        time.Time
}

const (
	// countedFor is how long a number is believed when nothing new has come.
	countedFor = 3 * time.Second
	// maxCounted bounds the systems that are remembered: all of the game fit.
	maxCounted = 20_000
)

// of counts the killmails of a system; events up to and including through are in it.
func (c *counts) of(ctx context.Context, system uint32, through killfeed.EventID) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	now := time.Now()
	if n, ok := c.known[system]; ok && n.through >= through && now.Sub(n.at) < countedFor {
		return n.killmails, nil
	}
	found, st, err := c.feed.Counts(ctx, killfeed.Past{Topics: []killfeed.Topic{killfeed.System(system)}, Since: now.Add(-window)})
	if err != nil {
		return 0, err
	}
	n := counted{through: st.Head, at: now}
	for _, one := range found {
		n.killmails = one.Killmails
	}
	if len(c.known) >= maxCounted || c.known == nil {
		c.known = map[uint32]counted{}
	}
	c.known[system] = n
	return n.killmails, nil
}

// among counts the killmails of many systems since a time; those without any are left out.
func (c *counts) among(ctx context.Context, systems []uint32, since time.Time) (map[uint32]int, error) {
	all := map[uint32]int{}
	for some := range slices.Chunk(systems, killfeed.MaxTopics) {
		topics := make([]killfeed.Topic, len(some))
		for i, id := range some {
			topics[i] = killfeed.System(id)
		}
		found, _, err := c.feed.Counts(ctx, killfeed.Past{Topics: topics, Since: since})
		if err != nil {
			return nil, err
		}
		for _, one := range found {
			all[one.System] = one.Killmails
		}
	}
	return all, nil
}
