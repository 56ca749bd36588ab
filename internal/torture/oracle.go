package main

import (
	"fmt"
	"io"
	"sync"
)

// oracle knows what the server has acknowledged and said, over all its lives.
type oracle struct {
	out io.Writer

	mu sync.Mutex // guards the rest
	// acked are the killmails whose insert was acknowledged, with their event; maybe those whose insert was not answered.
	acked map[int64]uint64
	maybe map[int64]bool
	// events is what each event id was ever said to mean. Two meanings of one id are a violation.
	events map[uint64]int64
	head   uint64 // the greatest event id that the server ever told of

	violations map[string]int
	shown      int
	repeated   int // events that clients with automatic commit got again after a kill
	lost       int // events in answers that were on their way at a kill, with automatic commit
}

func newOracle(out io.Writer) *oracle {
	return &oracle{
		out: out, acked: map[int64]uint64{}, maybe: map[int64]bool{}, events: map[uint64]int64{}, violations: map[string]int{},
	}
}

// violate notes a broken promise.
func (o *oracle) violate(promise, format string, args ...any) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.violateLocked(promise, format, args...)
}

func (o *oracle) violateLocked(promise, format string, args ...any) {
	o.violations[promise]++
	if o.shown++; o.shown <= 20 {
		fmt.Fprintf(o.out, "VIOLATION (%s): %s\n", promise, fmt.Sprintf(format, args...))
	}
}

// trying notes that an insert is about to be sent.
func (o *oracle) trying(id int64) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if _, ok := o.acked[id]; !ok {
		o.maybe[id] = true
	}
}

// acknowledged notes the answer to an insert.
func (o *oracle) acknowledged(id int64, event uint64) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if before, ok := o.acked[id]; ok && before != event {
		o.violateLocked("ids reused", "killmail %d was event %d and is now event %d", id, before, event)
	}
	o.acked[id] = event
	delete(o.maybe, id)
	o.meansLocked(event, id)
}

// means notes that the server said an event is a killmail.
func (o *oracle) means(event uint64, id int64) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.meansLocked(event, id)
}

func (o *oracle) meansLocked(event uint64, id int64) {
	if before, ok := o.events[event]; ok && before != id {
		o.violateLocked("ids reused", "event %d was killmail %d and is now killmail %d", event, before, id)
	}
	o.events[event] = id
	o.head = max(o.head, event)
}

// again notes that an event came again that may.
func (o *oracle) again() {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.repeated++
}

// progress is a short account of the load.
func (o *oracle) progress() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return fmt.Sprintf("%d inserts acknowledged, head %d, %d violations", len(o.acked), o.head, o.total())
}

// broken is how many promises were broken so far.
func (o *oracle) broken() int {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.total()
}

func (o *oracle) total() (n int) {
	for _, v := range o.violations {
		n += v
	}
	return n
}

// promises are what the summary lists, whether broken or not.
var promises = []string{
	"acknowledged inserts lost", "ids reused", "holes", "explicit commits gone back", "events skipped",
	"committed events repeated", "order", "check", "clean stop",
}

// summary prints the result and returns how many promises were broken.
func (o *oracle) summary() int {
	o.mu.Lock()
	defer o.mu.Unlock()
	fmt.Fprintf(o.out, "\n%-60s %d\n%-60s %d\n", "inserts acknowledged", len(o.acked), "events in the log", o.head)
	for _, p := range promises {
		fmt.Fprintf(o.out, "%-60s %d\n", p, o.violations[p])
	}
	fmt.Fprintf(o.out, "%-60s %d\n", "events repeated after a kill (automatic commit)", o.repeated)
	fmt.Fprintf(o.out, "%-60s %d\n", "events in answers cut off by a kill (automatic commit)", o.lost)
	return o.total()
}
