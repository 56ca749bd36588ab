package killfeed

import (
	"fmt"
	"math"
	"sync"
	"sync/atomic"
)

// bells wake readers that wait for events. An append rings only the bells that hang on that event's topics.
//
// A bell carries no event. It notes which of its topics have something new and from which id on, so that its reader looks at
// those in the log and at no others: a reader of 8,000 systems pays for the one that had a kill. So nothing is queued for
// anybody, a slow reader is merely behind, and history and live events are one read path. A bell must be hung up before the
// read that finds nothing, or an event that comes between the two is slept through.
//
// One goroutine rings, apart from the ledger's: whoever inserts does not wait until ten thousand readers are awake.
type bells struct {
	// through: every event up to here was noted by every bell on its topics. A reader that reads the topics noted, and up to
	// here, misses nothing.
	through atomic.Uint64
	waiting atomic.Int64 // long polls at the moment

	universe atomic.Pointer[Universe] // changed only with mu held

	most int64        // topics that may be hung on, all bells together, and the load of each bell that hangs
	hung atomic.Int64 // those that are

	mu sync.Mutex // guards the next three; held for one map operation and a walk over the bells of a topic at a time
	on map[Topic]*rope
	// touched, woken and wide are the ringer's, kept for their memory.
	touched []*bell
	woken   []func()
	wide    []Topic

	// newest has the last event on each topic that follows from static data, since the event known. Idle polls of a region ask
	// here instead of the index of each of its systems.
	newestMu sync.RWMutex // guards the next two; held for a map operation, or those of one event; taken after mu
	newest   map[Topic]EventID
	known    EventID

	queued sync.Mutex // guards queue; held for an append or a swap
	queue  []visible  // ascending; when it was full, some are missing, and the ringer sees that by the ids

	more    chan struct{} // cap 1: there is something in the queue
	closing chan struct{}
	running sync.WaitGroup
}

// visible is an event that has become visible.
type visible struct {
	id     EventID
	topics []Topic
}

// maxQueued bounds the events that wait to be rung. Beyond it all bells are rung, which costs a look for each reader and loses
// nothing.
const maxQueued = 1 << 16

// rope is all that hangs on one topic.
type rope struct {
	topic Topic
	hooks []hook
}

// hook is a bell's place on a rope: bell.hung[at].
type hook struct {
	bell *bell
	at   int32
}

// bell is one reader.
type bell struct {
	// wake is called after an event on one of the topics became visible, once until the bell is asleep again. It must not
	// block. None of this package's mutexes is held when it is called.
	wake func()
	// load is that of the reader's filter. It does not change.
	load int

	touched bool // guarded by bells.mu: in bells.touched

	mu sync.Mutex // guards the rest, and is taken after bells.mu; held for a walk over the topics noted
	// hung are the topics; changed only with bells.mu held too.
	hung []hanging
	// noted are the indices in hung of topics with unread events.
	noted  []int32
	asleep bool
}

// hanging is one topic of a bell.
type hanging struct {
	rope *rope
	slot int32 // rope.hooks[slot] is this; guarded by bells.mu
	// from is the first event that is wanted: nothing unread is on the topic below. last is the last one that rang, or 0. The
	// topic is noted if and only if last >= from.
	from, last EventID
	// sole: from is the only unread event on the topic. Else all that is known is that it is the first that may be.
	sole bool
}

func (h *hanging) unread() bool { return h.last >= h.from }

// clear is how far nothing unread is on the topic, when all bells were rung up to through; the latter is loaded with bell.mu
// held.
func (h *hanging) clear(through EventID) EventID {
	if h.unread() {
		return h.from - 1
	}
	return max(h.from-1, through)
}

func (b *bells) start(head EventID, most int) {
	b.most = int64(most)
	b.on = map[Topic]*rope{}
	b.newest, b.known = map[Topic]EventID{}, head
	b.more, b.closing = make(chan struct{}, 1), make(chan struct{})
	b.through.Store(uint64(head))
	b.running.Go(b.run)
}

// stop ends the ringing and wakes every reader, for it to see that the feed is closed. Nothing may be announced any more.
func (b *bells) stop() {
	close(b.closing)
	b.running.Wait()
	b.mu.Lock()
	var all []*bell
	for _, r := range b.on {
		for _, k := range r.hooks {
			if !k.bell.touched {
				k.bell.touched = true
				all = append(all, k.bell)
			}
		}
	}
	b.mu.Unlock()
	for _, l := range all {
		l.rouse()
	}
}

// announce has the bells rung for events that are visible now, in their order. It never blocks.
func (b *bells) announce(events []NewEvent) {
	if len(events) == 0 {
		return
	}
	b.queued.Lock()
	if len(b.queue)+len(events) > maxQueued {
		b.queue = nil
		events = events[len(events)-1:]
	}
	for i := range events {
		b.queue = append(b.queue, visible{events[i].ID, events[i].Topics})
	}
	b.queued.Unlock()
	select {
	case b.more <- struct{}{}:
	default:
	}
}

// run is the ringer's goroutine.
func (b *bells) run() {
	var events []visible
	for {
		select {
		case <-b.more:
		case <-b.closing:
			return
		}
		b.queued.Lock()
		events, b.queue = b.queue, events[:0]
		b.queued.Unlock()
		b.ring(events)
		clear(events) // the topics' labels keep whole killmails in memory
		if cap(events) > 1024 {
			events = nil
		}
	}
}

// ring rings for events. When some before them are missing it rings everything.
func (b *bells) ring(events []visible) {
	if len(events) == 0 {
		return
	}
	last := events[len(events)-1].id
	b.mu.Lock()
	if from := EventID(b.through.Load()) + 1; events[0].id != from {
		for _, r := range b.on {
			b.note(r, from, last, false)
		}
		b.forgetNewest(last)
	} else {
		for _, e := range events {
			b.noteEvent(e)
		}
	}
	// From here on readers look this far. Only then may they be woken: whoever was woken earlier would find nothing and sleep.
	b.through.Store(uint64(last))
	for _, l := range b.touched {
		l.touched = false
		l.mu.Lock()
		if l.asleep {
			l.asleep = false
			b.woken = append(b.woken, l.wake)
		}
		l.mu.Unlock()
	}
	woken := b.woken
	clear(b.touched)
	b.touched = b.touched[:0]
	b.mu.Unlock()
	for _, wake := range woken {
		wake()
	}
	clear(woken)
	b.woken = woken[:0] // only this goroutine uses it
}

// noteEvent tells the bells on all topics of an event. Where it is on a topic in more than one way, it is told more than once,
// which costs a look into the index.
func (b *bells) noteEvent(e visible) {
	b.noteOn(All(), e.id)
	u := b.universe.Load()
	wide := b.wide[:0]
	for _, t := range e.topics {
		b.noteOn(t, e.id)
		wide = u.widen(wide, t)
	}
	for _, t := range wide {
		b.noteOn(t, e.id)
	}
	b.newestMu.Lock()
	for _, t := range wide {
		if t.Kind.placed() {
			b.newest[t] = e.id
		}
	}
	b.newestMu.Unlock()
	b.wide = wide
}

// quiet tells that nothing is on the topic in (after, head]. It may not know, and returns false then.
func (b *bells) quiet(t Topic, after, head EventID) bool {
	if !t.Kind.placed() || EventID(b.through.Load()) < head { // newest is set before through
		return false
	}
	b.newestMu.RLock()
	defer b.newestMu.RUnlock()
	return after >= b.known && b.newest[t] <= after
}

// forgetNewest notes that nothing is known of the events up to id.
func (b *bells) forgetNewest(id EventID) {
	b.newestMu.Lock()
	defer b.newestMu.Unlock()
	clear(b.newest)
	b.known = id
}

func (b *bells) setUniverse(u *Universe) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.universe.Store(u)
	b.forgetNewest(EventID(b.through.Load()))
}

func (b *bells) noteOn(t Topic, id EventID) {
	if r := b.on[t]; r != nil {
		b.note(r, id, id, true)
	}
}

// note tells the bells on r of events from..last, of which the first may be on the topic. sure: it is one, and it is.
func (b *bells) note(r *rope, from, last EventID, sure bool) {
	for _, k := range r.hooks {
		l := k.bell
		l.mu.Lock()
		h := &l.hung[k.at]
		if !h.unread() && last >= h.from {
			h.sole = sure && h.from <= from
			h.from = max(h.from, from)
			l.noted = append(l.noted, k.at)
		} else {
			h.sole = false
		}
		h.last = max(h.last, last)
		l.mu.Unlock()
		if !l.touched {
			l.touched = true
			b.touched = append(b.touched, l)
		}
	}
}

// room returns ErrBusy when so many topics more, and the load of a filter, would be too many. It is asked before hang, so that a few
// more than that may come to hang when several ask at once.
func (b *bells) room(topics, load int) error {
	if n := b.hung.Load(); n+int64(topics)+int64(load) > b.most {
		return fmt.Errorf("%d topics are waited on, filters counted, and %d more would be too many: %w", n, topics+load, ErrBusy)
	}
	return nil
}

// hang hangs the bell on the topics, which are distinct and not among its own, wanting nothing yet: every event that becomes
// visible from now on rings, but none is wanted before want was called. It returns the index of the first of them in hung, and
// how far all bells were rung.
func (b *bells) hang(l *bell, topics []Topic) (first int, through EventID) {
	b.mu.Lock()
	defer b.mu.Unlock()
	l.mu.Lock()
	defer l.mu.Unlock()
	first = len(l.hung)
	if first == 0 {
		l.hung = make([]hanging, 0, len(topics))
		b.hung.Add(int64(l.load))
	}
	for _, t := range topics {
		r := b.on[t]
		if r == nil {
			r = &rope{topic: t}
			b.on[t] = r
		}
		l.hung = append(l.hung, hanging{rope: r, slot: int32(len(r.hooks)), from: math.MaxUint64})
		r.hooks = append(r.hooks, hook{l, int32(len(l.hung) - 1)})
	}
	b.hung.Add(int64(len(topics)))
	return first, EventID(b.through.Load())
}

// want sets where the topic hung[i] begins: at the event after at. Up to through it is not known whether something is on it, so
// that has to be read; what came later has rung, or will. The caller holds l.mu.
func (l *bell) want(i int, at, through EventID) {
	h := &l.hung[i]
	was := h.unread()
	h.from, h.sole = at+1, false
	if at < through {
		h.last = max(h.last, through)
	}
	if !was && h.unread() {
		l.noted = append(l.noted, int32(i))
	} else if was && !h.unread() {
		l.forget()
	}
}

// forget drops what is no longer unread from noted. The caller holds l.mu.
func (l *bell) forget() {
	kept := l.noted[:0]
	for _, i := range l.noted {
		if l.hung[i].unread() {
			kept = append(kept, i)
		}
	}
	l.noted = kept
	if cap(kept) > 64 && len(kept) == 0 {
		l.noted = nil
	}
}

// take removes the bell from all its topics, and says whether it hung on any.
func (b *bells) take(l *bell) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	l.mu.Lock()
	defer l.mu.Unlock()
	hung := len(l.hung) > 0
	if hung {
		b.hung.Add(-int64(l.load))
	}
	for i := range l.hung {
		b.unhook(&l.hung[i])
	}
	l.hung, l.noted = nil, nil
	return hung
}

// unhang removes the bell from those of its topics for which gone is true. moved is called for each that stays, with its old
// and its new index, ascending.
func (b *bells) unhang(l *bell, gone func(i int, t Topic) bool, moved func(from, to int)) {
	b.mu.Lock()
	defer b.mu.Unlock()
	l.mu.Lock()
	defer l.mu.Unlock()
	kept := l.hung[:0]
	l.noted = l.noted[:0]
	for i := range l.hung {
		h := l.hung[i]
		if gone(i, h.rope.topic) {
			b.unhook(&h)
			continue
		}
		to := len(kept)
		h.rope.hooks[h.slot].at = int32(to)
		if h.unread() {
			l.noted = append(l.noted, int32(to))
		}
		kept = append(kept, h)
		moved(i, to)
	}
	if len(l.hung) > 0 && len(kept) == 0 {
		b.hung.Add(-int64(l.load)) // hang counts it again
	}
	clear(l.hung[len(kept):])
	l.hung = kept
}

// unhook takes one place from its rope. The caller holds the locks.
func (b *bells) unhook(h *hanging) {
	b.hung.Add(-1)
	r := h.rope
	last := len(r.hooks) - 1
	if moved := r.hooks[last]; int(h.slot) != last {
		r.hooks[h.slot] = moved
		moved.bell.hung[moved.at].slot = h.slot
	}
	r.hooks[last] = hook{}
	r.hooks = r.hooks[:last]
	if last == 0 {
		delete(b.on, r.topic)
	}
}

// sleep has the next event on one of the topics wake the bell's reader.
func (l *bell) sleep() {
	l.mu.Lock()
	l.asleep = true
	l.mu.Unlock()
}

// rouse wakes the reader if it sleeps.
func (l *bell) rouse() {
	l.mu.Lock()
	asleep := l.asleep
	l.asleep = false
	l.mu.Unlock()
	if asleep {
		l.wake()
	}
}
