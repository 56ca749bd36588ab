package main

import (
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"sync"
	"time"
)

// judge knows what the nodes of a cluster have acknowledged and said.
type judge struct {
	out   io.Writer
	began time.Time

	mu sync.Mutex // guards the rest
	// killmails are all that were ever sent, by killmail id.
	killmails map[int64]*fate
	// events is what each event id was ever said to mean.
	events map[uint64]meaning
	head   uint64 // the greatest event id that anybody ever told of
	// recent are some of the last events that were acknowledged, newest when the last was.
	recent []uint64
	newest time.Time

	violations map[string]int
	shown      int

	counts map[string]int // of what is no violation, and of what the nemesis did
	times  map[string][]time.Duration
}

// fate is what became of a killmail.
type fate struct {
	json  []byte // what was sent last and has to be in the log
	first uint64 // its first event, 0 while that is not known
	acked bool
}

type meaning struct {
	killmail int64
	update   bool
}

// said is an event as nodes show it.
type said struct {
	EventID  uint64 `json:"event_id"`
	Update   bool   `json:"update"`
	Killmail struct {
		ID int64 `json:"killmail_id"`
	} `json:"killmail"`
}

func newJudge(out io.Writer) *judge {
	return &judge{
		out: out, began: time.Now(), killmails: map[int64]*fate{}, events: map[uint64]meaning{}, violations: map[string]int{},
		counts: map[string]int{}, times: map[string][]time.Duration{},
	}
}

func (j *judge) say(format string, args ...any) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.sayLocked(format, args...)
}

func (j *judge) sayLocked(format string, args ...any) {
	fmt.Fprintf(j.out, "%6.1f s  %s\n", time.Since(j.began).Seconds(), fmt.Sprintf(format, args...))
}

// violate notes a broken promise.
func (j *judge) violate(promise, format string, args ...any) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.violateLocked(promise, format, args...)
}

func (j *judge) violateLocked(promise, format string, args ...any) {
	j.violations[promise]++
	if j.shown++; j.shown <= 40 {
		j.sayLocked("VIOLATION (%s): %s", promise, fmt.Sprintf(format, args...))
	}
}

// count counts what is no violation.
func (j *judge) count(what string, n int) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.counts[what] += n
}

// took notes how long something took.
func (j *judge) took(what string, d time.Duration) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.times[what] = append(j.times[what], d)
}

// trying notes that a killmail is about to be sent.
func (j *judge) trying(id int64, text []byte) {
	j.mu.Lock()
	defer j.mu.Unlock()
	f := j.killmails[id]
	if f == nil {
		f = &fate{}
		j.killmails[id] = f
	}
	if len(text) > len(f.json) { // the richer one
		f.json = text
	}
}

// acknowledged notes the answer to an insert.
func (j *judge) acknowledged(id int64, event uint64, update bool) {
	j.mu.Lock()
	defer j.mu.Unlock()
	if event == 0 {
		j.violateLocked("acknowledged inserts lost", "killmail %d is acknowledged as event 0", id)
		return
	}
	f := j.killmails[id]
	f.acked = true
	if !update {
		if f.first != 0 && f.first != event {
			j.violateLocked("a killmail twice", "killmail %d was event %d and is acknowledged as event %d", id, f.first, event)
		}
		f.first = event
	}
	j.meansLocked(event, id, update)
	if event+100 > j.head {
		if j.recent = append(j.recent, event); len(j.recent) > 200 {
			j.recent = slices.Delete(j.recent, 0, 100)
		}
		j.newest = time.Now()
	}
}

// means notes that a node said what an event is.
func (j *judge) means(e said) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.meansLocked(e.EventID, e.Killmail.ID, e.Update)
}

func (j *judge) meansLocked(event uint64, id int64, update bool) {
	is := meaning{id, update}
	before, ok := j.events[event]
	switch {
	case ok && before != is:
		j.violateLocked("an id twice", "event %d was killmail %d (update: %v) and is now killmail %d (update: %v)", event, before.killmail,
			before.update, id, update)
	case !ok:
		j.events[event] = is
		j.head = max(j.head, event)
		f := j.killmails[id]
		switch {
		case f == nil:
			j.violateLocked("a killmail twice", "event %d is killmail %d, which nobody has sent", event, id)
		case update:
		case f.first != 0 && f.first != event:
			j.violateLocked("a killmail twice", "killmail %d is event %d and event %d", id, f.first, event)
		default:
			f.first = event
		}
	}
}

func (j *judge) top() uint64 {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.head
}

// someRecent is an event that was acknowledged a short time ago.
func (j *judge) someRecent(n int) (event uint64, killmail int64, ok bool) {
	j.mu.Lock()
	defer j.mu.Unlock()
	if len(j.recent) == 0 || time.Since(j.newest) > retain/4 { // else it may be removed
		return 0, 0, false
	}
	event = j.recent[len(j.recent)-1-n%min(len(j.recent), 10)]
	return event, j.events[event].killmail, true
}

func (j *judge) total() (n int) {
	j.mu.Lock()
	defer j.mu.Unlock()
	for _, v := range j.violations {
		n += v
	}
	return n
}

// clusterPromises are what the summary lists, whether broken or not.
var clusterPromises = []string{
	"acknowledged inserts lost", "a killmail twice", "an id twice", "holes", "explicit commits gone back", "events skipped",
	"events repeated", "a seek is not followed", "live: not the next event", "written and not read", "refused", "stored without a majority",
	"reads without a majority", "take-over", "does not come back", "a process ended", "logs differ", "check", "clean stop",
}

// summary prints the result and returns how many promises were broken.
func (j *judge) summary(seed uint64) int {
	n := j.total()
	j.mu.Lock()
	defer j.mu.Unlock()
	acked := 0
	for _, f := range j.killmails {
		if f.acked {
			acked++
		}
	}
	line := func(what string, value any) { fmt.Fprintf(j.out, "%-60s %v\n", what, value) }
	fmt.Fprintln(j.out)
	line("killmails sent", len(j.killmails))
	line("inserts acknowledged", acked)
	line("events in the log", j.head)
	for _, p := range clusterPromises {
		line(p, j.violations[p])
	}
	fmt.Fprintln(j.out)
	for _, what := range sortedKeys(j.counts) {
		line(what, j.counts[what])
	}
	for _, what := range sortedKeys(j.times) {
		list := j.times[what]
		slices.Sort(list)
		line(what, fmt.Sprintf("%d, median %v, at most %v", len(list), list[len(list)/2].Round(time.Millisecond),
			list[len(list)-1].Round(time.Millisecond)))
	}
	if n > 0 {
		fmt.Fprintf(j.out, "\ntorture: FAILED: %d promises broken, seed %d\n", n, seed)
	} else {
		fmt.Fprintf(j.out, "\ntorture: PASS, seed %d\n", seed)
	}
	return n
}

func sortedKeys[V any](m map[string]V) []string {
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}

// decode reads an event that was shown.
func decode(text []byte) (e said, err error) {
	if err = json.Unmarshal(text, &e); err != nil {
		err = fmt.Errorf("%.200q is no event: %w", text, err)
	}
	return e, err
}
