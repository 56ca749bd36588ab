package upstream

import (
	"context"
	"math/rand/v2"
	"time"
)

// Bounds of a Backoff that sets none.
const (
	DefaultLeast = time.Second
	DefaultMost  = 5 * time.Minute
)

// Backoff says how long to wait after a failure: from Least to Most, twice as long each time, with jitter, so that those who
// failed together do not come back together. The zero value works. It is for one goroutine.
type Backoff struct {
	// Least and Most bound the waits; 0 means DefaultLeast and DefaultMost.
	Least, Most time.Duration

	failures int
}

// Next is the wait after one more failure. When the upstream asked for one (asked above 0) it is that and a little more, also
// above Most; else it grows. It is never below Least, and by jitter up to a fifth above what the rule says, Most included.
func (b *Backoff) Next(asked time.Duration) time.Duration {
	least, most := b.Least, b.Most
	if least <= 0 {
		least = DefaultLeast
	}
	if most <= 0 {
		most = DefaultMost
	}
	wait := least
	for range b.failures {
		if wait *= 2; wait >= most {
			wait = most
			break
		}
	}
	b.failures++
	if asked > 0 {
		wait = max(asked, least)
	}
	return wait + rand.N(wait/5+1)
}

// Reset forgets the failures.
func (b *Backoff) Reset() { b.failures = 0 }

// Failures is how many there were since Reset.
func (b *Backoff) Failures() int { return b.failures }

// Sleep waits, or returns the cause of ctx when that ends first.
func Sleep(ctx context.Context, d time.Duration) error {
	if d <= 0 {
		return context.Cause(ctx)
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}
