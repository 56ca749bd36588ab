//go:build linux

package main

import (
	"fmt"
	"io"
	"slices"
	"sync"
	"sync/atomic"

	"killfeed"
)

// oracle knows every killmail that was handed in, and what the server has said of it, over all the server's lives. It is asked
// by every subscriber for every event, so what they need is in fixed arrays of atomics.
type oracle struct {
	out     io.Writer
	firstID int64 // killmail id of mails[0]; they rise by 1
	mails   []mail
	made    atomic.Int64    // mails in use. No event id can be greater.
	events  []atomic.Uint32 // by event id: the index of its mail + 1; 0: nobody has said
	acked   atomic.Uint64   // the greatest event id that an insert was answered with

	mu         sync.Mutex // guards the rest
	known      uint64     // every event up to here was acknowledged, so what it is about is certain
	violations map[string]int
	shown      int
}

// mail is one killmail. What is not atomic is set before it is sent for the first time.
type mail struct {
	id     int64
	system uint32
	topics []killfeed.Topic // as far as somebody may ask for them
	json   []byte           // owned by who inserts it; nil once it is acknowledged

	event  atomic.Uint32 // 0: nobody has said
	acked  atomic.Bool
	sent   atomic.Int64 // on the clock of now; of the last try
	sample atomic.Int32 // which latencies it counts for, see phase; unmeasured
}

// unmeasured marks a killmail that was sent at a time that is not measured.
const unmeasured = -1

// promises are what the summary lists, whether broken or not.
var promises = []string{
	promiseLost, promiseOrder, promiseForeign, promiseInvented, promiseReused, promiseAcked, promiseHoles, promiseGap,
	promiseCursor, promiseCommitted, promiseSkipped, promiseFrames, promiseSilence, promiseRefused, promiseBack, promiseLog,
	promiseStop, promiseCheck, promiseMemory, promiseLatency,
}

const (
	promiseLost      = "events lost"
	promiseOrder     = "events doubled or out of order"
	promiseForeign   = "events of other topics"
	promiseInvented  = "events that nobody inserted"
	promiseReused    = "event ids with two meanings"
	promiseAcked     = "acknowledged inserts lost"
	promiseHoles     = "holes in the log"
	promiseGap       = "gaps told though nothing was removed"
	promiseCursor    = "wrong cursors, starts and epochs"
	promiseCommitted = "committed events repeated"
	promiseSkipped   = "events skipped by durable clients"
	promiseFrames    = "frames and answers that should not be"
	promiseSilence   = "connections that fell silent"
	promiseRefused   = "refusals other than 503 and 429"
	promiseBack      = "subscribers that did not come back in time"
	promiseLog       = "errors in the server's log"
	promiseStop      = "stops that were not clean"
	promiseCheck     = "killfeed check"
	promiseMemory    = "memory that grows"
	promiseLatency   = "healthy subscribers slowed by others"
)

// newOracle makes an oracle for at most so many killmails, the first of which has the given id.
func newOracle(out io.Writer, firstID int64, most int) *oracle {
	return &oracle{
		out: out, firstID: firstID, mails: make([]mail, most), events: make([]atomic.Uint32, most+1), violations: map[string]int{},
	}
}

// violate notes a broken promise.
func (o *oracle) violate(promise, format string, args ...any) {
	const most = 40 // lines
	if !slices.Contains(promises, promise) {
		panic("no such promise: " + promise) // it would be missing in the summary
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	o.violations[promise]++
	if o.shown++; o.shown <= most {
		fmt.Fprintf(o.out, "VIOLATION (%s): %s\n", promise, fmt.Sprintf(format, args...))
	}
}

// broken is how many promises were broken.
func (o *oracle) broken() (n int) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for _, v := range o.violations {
		n += v
	}
	return n
}

// add takes a killmail that is about to be inserted. They must come in the order of their ids. It returns nil when there is no
// room for more.
func (o *oracle) add(system uint32, topics []killfeed.Topic, json []byte) *mail {
	i := o.made.Load()
	if int(i) == len(o.mails) {
		return nil
	}
	m := &o.mails[i]
	m.id, m.system, m.topics, m.json = o.firstID+i, system, topics, json
	m.sample.Store(unmeasured)
	o.made.Store(i + 1)
	return m
}

// means notes that the server said an event is a killmail. It returns nil when that cannot be.
func (o *oracle) means(event uint64, id int64) *mail {
	i := id - o.firstID
	if i < 0 || i >= o.made.Load() || event == 0 || event >= uint64(len(o.events)) {
		o.violate(promiseInvented, "event %d is said to be killmail %d; ids %d to %d were inserted",
			event, id, o.firstID, o.firstID+o.made.Load()-1)
		return nil
	}
	m := &o.mails[i]
	if was := settle(&m.event, uint32(event)); was != uint32(event) {
		o.violate(promiseReused, "killmail %d was event %d and is now event %d", id, was, event)
		return nil
	}
	if was := settle(&o.events[event], uint32(i)+1); was != uint32(i)+1 {
		o.violate(promiseReused, "event %d was killmail %d and is now killmail %d", event, o.firstID+int64(was)-1, id)
		return nil
	}
	return m
}

// settle sets a to v, if nobody has set it yet, and returns what it is.
func settle(a *atomic.Uint32, v uint32) uint32 {
	if was := a.Load(); was != 0 {
		return was
	}
	if a.CompareAndSwap(0, v) {
		return v
	}
	return a.Load()
}

// acknowledged notes the answer to an insert.
func (o *oracle) acknowledged(id int64, event uint64) {
	m := o.means(event, id)
	if m == nil {
		return
	}
	m.acked.Store(true)
	raise(&o.acked, event)
	o.mu.Lock()
	defer o.mu.Unlock()
	for o.known+1 < uint64(len(o.events)) {
		i := o.events[o.known+1].Load()
		if i == 0 || !o.mails[i-1].acked.Load() {
			return
		}
		o.known++
	}
}

// raise makes a the greater of itself and v.
func raise(a *atomic.Uint64, v uint64) {
	for was := a.Load(); was < v && !a.CompareAndSwap(was, v); was = a.Load() {
	}
}

// through is the last event of which, and of all before it, it is certain what it is about.
func (o *oracle) through() uint64 {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.known
}

// mail is the killmail of an event that is not beyond through.
func (o *oracle) mail(event uint64) *mail { return &o.mails[o.events[event].Load()-1] }

// complete checks, when all inserts were answered, that the log is what was acknowledged and nothing else.
func (o *oracle) complete(head uint64) {
	for i := range o.made.Load() {
		if !o.mails[i].acked.Load() {
			o.violate(promiseAcked, "killmail %d was never acknowledged, though it was tried to the end", o.firstID+i)
		}
	}
	if known := o.through(); known != head || head != uint64(o.made.Load()) {
		o.violate(promiseHoles, "%d killmails were inserted; they are events 1 to %d without a hole, and the head is %d",
			o.made.Load(), known, head)
	}
}
