package redisq

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"strings"
	"sync"
	"time"

	"killfeed"
)

// queues are those that were asked for since the start of the server. What is kept of a queue for longer, its position and when
// it was last asked for, the feed keeps.
type queues struct {
	mu   sync.Mutex // guards the rest; held for a map operation
	byID map[string]*queue
}

// queue is a queue that was asked for.
type queue struct {
	busy bool // guarded by queues.mu; the rest is owned by who set it, and guarded by queues.mu while nobody has
	// known: ends tells when it is over. Else it is new here, and the feed may know it from before a restart.
	known bool
	ends  time.Time
}

// take marks the queue of a client as busy. It is nil when it is so already.
func (qs *queues) take(client string) *queue {
	qs.mu.Lock()
	defer qs.mu.Unlock()
	q := qs.byID[client]
	if q == nil {
		q = &queue{}
		qs.byID[client] = q
	}
	if q.busy {
		return nil
	}
	q.busy = true
	return q
}

// give ends what take began. The queue is over after ttl; 0: it was not made.
func (qs *queues) give(client string, q *queue, ttl time.Duration) {
	qs.mu.Lock()
	defer qs.mu.Unlock()
	q.busy = false
	if ttl > 0 {
		q.known, q.ends = true, time.Now().Add(ttl)
	} else if !q.known {
		delete(qs.byID, client)
	}
}

// unseen is how old the feed's word on when a client was last seen may be after a crash.
const unseen = time.Minute

// over tells whether a queue that is busy with its caller was not asked for within its ttl.
func (d *Dialect) over(client string, q *queue, ttl time.Duration) (bool, error) {
	now := time.Now()
	if q.known {
		return !now.Before(q.ends), nil
	}
	info, err := d.feed.Client(client)
	if errors.Is(err, killfeed.ErrNotFound) {
		return false, nil
	}
	return err == nil && now.Sub(info.LastSeen) >= ttl+unseen, err
}

// sweepEvery is how often queues that are over are forgotten.
const sweepEvery = 10 * time.Minute

// Run forgets queues that are over, which would begin anew anyway: a program that draws a new queueID at each of its starts must
// not use up the feed's clients. It ends with ctx, and then returns nil.
func (d *Dialect) Run(ctx context.Context) error {
	tick := time.NewTicker(sweepEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		if err := d.sweep(ctx); err != nil && ctx.Err() == nil {
			d.log.Warn("queues of RedisQ that are over could not be forgotten; tried again in ten minutes", "err", err)
		}
	}
}

// sweep forgets the queues that are over.
func (d *Dialect) sweep(ctx context.Context) error {
	defer d.queues.drop()
	const page = 256
	for after := prefix; ; {
		clients, err := d.feed.Clients(after, page)
		if err != nil {
			return fmt.Errorf("listing the queues: %w", err)
		}
		for _, c := range clients {
			if !strings.HasPrefix(c.Name, prefix) {
				return nil
			}
			if err := d.forgetIfOver(ctx, c); err != nil {
				return fmt.Errorf("forgetting the queue %q: %w", c.Name, err)
			}
		}
		if len(clients) < page {
			return nil
		}
		after = clients[page-1].Name
	}
}

// forgetIfOver forgets a queue, unless somebody asks for it at the moment or may yet.
func (d *Dialect) forgetIfOver(ctx context.Context, c killfeed.ClientInfo) error {
	q := d.queues.take(c.Name)
	if q == nil {
		return nil
	}
	defer d.queues.give(c.Name, q, 0)
	over, err := d.over(c.Name, q, d.maxTTL)
	if err != nil || !over {
		return err
	}
	if err := d.feed.DeleteClient(ctx, c.Name); err != nil && !errors.Is(err, killfeed.ErrNotFound) {
		return err
	}
	q.known = false // so that give lets it go
	return nil
}

// drop lets go of queues that are over and that the feed does not know, such as those that were deleted there.
func (qs *queues) drop() {
	qs.mu.Lock()
	defer qs.mu.Unlock()
	now := time.Now()
	maps.DeleteFunc(qs.byID, func(_ string, q *queue) bool { return !q.busy && !now.Before(q.ends) })
}
