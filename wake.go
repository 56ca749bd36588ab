package killfeed

import (
	"sync"
	"sync/atomic"
)

// bells wake readers that wait for events. An append rings only the bells on that event's topics.
//
// A bell carries no event: whoever hears it reads the log. So nothing is queued for anybody, a slow reader is merely behind,
// and history and live events are one read path. The bell must be hung up before the read that finds nothing, or an event
// that comes between the two is slept through.
type bells struct {
	count atomic.Int64 // hung up at the moment; lets ring return at once when nobody waits

	mu sync.Mutex // guards on; held for one map operation a topic
	on map[Topic]map[*bell]struct{}
}

// bell is one waiting reader. C receives at least once after an event on one of its topics became visible.
type bell struct {
	C      chan struct{}
	topics []Topic
}

// hang makes a bell on the topics. take must be called when it is no longer needed.
func (b *bells) hang(topics []Topic) *bell {
	l := &bell{C: make(chan struct{}, 1), topics: topics}
	b.count.Add(1)
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, t := range topics {
		set := b.on[t]
		if set == nil {
			set = map[*bell]struct{}{}
			b.on[t] = set
		}
		set[l] = struct{}{}
	}
	return l
}

// take removes the bell.
func (b *bells) take(l *bell) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, t := range l.topics {
		if set := b.on[t]; set != nil {
			delete(set, l)
			if len(set) == 0 {
				delete(b.on, t)
			}
		}
	}
	b.count.Add(-1)
}

// ring wakes the bells on the event's topics and those on all. It never blocks: a bell that has rung already stays rung.
func (b *bells) ring(topics []Topic) {
	if b.count.Load() == 0 {
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.ringOne(All())
	for _, t := range topics {
		b.ringOne(t)
	}
}

func (b *bells) ringOne(t Topic) {
	for l := range b.on[t] {
		select {
		case l.C <- struct{}{}:
		default:
		}
	}
}
