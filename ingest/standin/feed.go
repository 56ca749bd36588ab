package standin

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"sort"
	"sync"
	"time"
)

// feed is what has been published, and what will be. It has no goroutine: every look at it first publishes what is due.
type feed struct {
	clock     Clock
	faults    *switchboard
	first     int64 // the first sequence number
	lag       int64 // how far the pointer may be behind
	retention time.Duration

	mu    sync.Mutex    // guards the rest
	bell  chan struct{} // closed and replaced when something was published or the pace changed
	mails []Mail
	more  func() (Mail, bool)
	// ended is why more was given up, when it gave a bad killmail.
	ended error
	// slots are the numbers that are published: slots[i] is first+i. Except for uploads they never change.
	slots []*slot
	byID  map[int64]int // index in mails by killmail id, whether published or not
	pace  Pace
	// begun is when the pace began, with mails[from].
	begun time.Time
	from  int
	// pending are files that will be written after their number was published, by time.
	pending []pending
	// announce are numbers for sequence_updated, in order.
	announce []int64
}

// slot is a published number.
type slot struct {
	number    int64
	mail      *Mail
	published time.Time
	hole      bool
	// announces is the number in sequence_updated; 0: none.
	announces int64
	// uploads are the times at which the file was written; the first is that of its appearance.
	uploads []upload
}

// upload is one writing of a file.
type upload struct {
	at     time.Time
	labels []string // beyond those of the killmail's zkb
}

type pending struct {
	at     time.Time
	number int64
	labels []string // nil: the first upload
}

func newFeed(c *Config, faults *switchboard, mails []Mail) *feed {
	f := &feed{
		clock: c.Clock, faults: faults, first: c.FirstSequence, lag: int64(c.PointerLag), retention: c.Retention,
		bell: make(chan struct{}), mails: mails, more: c.More, byID: make(map[int64]int, len(mails)), pace: c.Pace,
	}
	for i := range mails {
		f.index(i)
	}
	now := c.Clock.Now()
	var last time.Time
	for range c.Before {
		at := f.mails[len(f.slots)].Time
		if at.Before(last) {
			at = last
		}
		if at.After(now) {
			at = now
		}
		f.upload(at)
		f.publish(at)
		last = at
	}
	f.begun, f.from = now, c.Before
	f.advance(now)
	return f
}

// index makes mails[i] known by its id. Where an id comes again the first one stays.
func (f *feed) index(i int) {
	if _, known := f.byID[f.mails[i].ID]; !known {
		f.byID[f.mails[i].ID] = i
	}
}

// lock takes f.mu and publishes what is due. It returns the time as of which that is.
func (f *feed) lock() time.Time {
	f.mu.Lock()
	now := f.clock.Now()
	f.advance(now)
	return now
}

// The methods from here on need f.mu.

// advance publishes and writes what is due, in the order of time.
func (f *feed) advance(now time.Time) {
	published := len(f.slots)
	for {
		due, ok := f.due()
		if !ok || due.After(now) {
			break
		}
		f.upload(due)
		f.publish(due)
	}
	f.upload(now)
	if len(f.slots) > published {
		f.ring()
	}
}

func (f *feed) ring() {
	close(f.bell)
	f.bell = make(chan struct{})
}

// due is when the next killmail is to be published; false when there is none or it is held.
func (f *feed) due() (time.Time, bool) {
	i := len(f.slots)
	if f.pace.Hold || !f.supply(i) {
		return time.Time{}, false
	}
	at := f.begun
	switch {
	case f.pace.Rate > 0:
		at = at.Add(time.Duration(float64(i-f.from) / f.pace.Rate * float64(time.Second)))
	case f.pace.Speed > 0:
		at = at.Add(time.Duration(float64(f.mails[i].Time.Sub(f.mails[f.from].Time)) / f.pace.Speed))
	}
	if i > 0 && at.Before(f.slots[i-1].published) {
		at = f.slots[i-1].published
	}
	return at, true
}

// supply makes sure of mails[i].
func (f *feed) supply(i int) bool {
	for i >= len(f.mails) && f.more != nil {
		m, ok := f.more()
		if ok {
			f.ended = m.complete()
		}
		if !ok || f.ended != nil {
			f.more = nil
			break
		}
		f.mails = append(f.mails, m)
		f.index(len(f.mails) - 1)
	}
	return i < len(f.mails)
}

// publish gives the next killmail its number.
func (f *feed) publish(at time.Time) {
	m := f.mails[len(f.slots)] // a copy, for f.mails may grow
	s := &slot{number: f.first + int64(len(f.slots)), mail: &m, published: at}
	f.slots = append(f.slots, s)
	if _, hole := f.faults.number(Hole, s.number); hole {
		s.hole = true // nothing is ever announced in it or of it, or the announcement would be lost
		return
	}
	appears := at
	if strike, late := f.faults.number(Late, s.number); late {
		appears = at.Add(strike.For)
		f.schedule(pending{at: appears, number: s.number})
	} else {
		s.uploads = []upload{{at: at}}
		if len(f.announce) > 0 { // only a file that is at the head when it is written announces
			s.announces, f.announce = f.announce[0], f.announce[1:]
		}
	}
	if strike, again := f.faults.number(Reupload, s.number); again {
		f.schedule(pending{at: appears.Add(strike.For), number: s.number, labels: []string{"ganked"}})
	}
}

func (f *feed) schedule(p pending) {
	i, _ := slices.BinarySearchFunc(f.pending, p, func(a, b pending) int { return cmp.Or(a.at.Compare(b.at), -1) })
	f.pending = slices.Insert(f.pending, i, p)
}

// upload writes the files that are due.
func (f *feed) upload(now time.Time) {
	n := 0
	for ; n < len(f.pending) && !f.pending[n].at.After(now); n++ {
		f.write(f.pending[n])
	}
	f.pending = slices.Delete(f.pending, 0, n)
}

func (f *feed) write(p pending) {
	s := f.slots[p.number-f.first]
	labels := p.labels
	if len(s.uploads) > 0 {
		labels = append(slices.Clone(s.uploads[len(s.uploads)-1].labels), labels...)
	}
	s.uploads = append(s.uploads, upload{at: p.at, labels: labels})
	f.announce = append(f.announce, p.number)
}

// file is the file of a number as it was at a moment. Not there: a nil slot.
func (f *feed) file(number int64, at time.Time) (*slot, upload) {
	if number < f.first || number >= f.first+int64(len(f.slots)) {
		return nil, upload{}
	}
	s := f.slots[number-f.first]
	n := sort.Search(len(s.uploads), func(i int) bool { return s.uploads[i].at.After(at) })
	if n == 0 || at.Sub(s.uploads[n-1].at) >= f.retention {
		return nil, upload{}
	}
	return s, s.uploads[n-1]
}

// count is how many numbers had been published at a moment.
func (f *feed) count(at time.Time) int {
	return sort.Search(len(f.slots), func(i int) bool { return f.slots[i].published.After(at) })
}

// pointer is the number in sequence.json at a moment.
func (f *feed) pointer(at time.Time) int64 {
	n := int64(f.count(at))
	// It is written whenever it would be more than lag behind: at first-1+k(lag+1).
	return f.first - 1 + n/(f.lag+1)*(f.lag+1)
}

// wait returns a channel that is closed at the next publication that is not due by itself, and a timer for the next that is.
// The timer fires at until at the latest, unless that is zero. The caller calls stop.
func (f *feed) wait(now, until time.Time) (bell <-chan struct{}, fired <-chan time.Time, stop func()) {
	due, ok := f.due()
	if !until.IsZero() && (!ok || until.Before(due)) {
		due, ok = until, true
	}
	if !ok {
		return f.bell, nil, func() {}
	}
	fired, stop = f.clock.Timer(due.Sub(now))
	return f.bell, fired, stop
}

// The methods from here on take f.mu.

// next waits for the slot at an index, until a time or, when that is zero, until ctx or closing ends. A nil slot: it did not
// come.
func (f *feed) next(ctx context.Context, closing <-chan struct{}, index int, until time.Time) *slot {
	for {
		now := f.lock()
		if index < len(f.slots) {
			defer f.mu.Unlock()
			return f.slots[index]
		}
		if !until.IsZero() && !now.Before(until) {
			f.mu.Unlock()
			return nil
		}
		bell, fired, stop := f.wait(now, until)
		f.mu.Unlock()
		select {
		case <-bell:
		case <-fired:
		case <-ctx.Done():
		case <-closing:
		}
		stop()
		select {
		case <-ctx.Done():
			return nil
		case <-closing:
			return nil
		default:
		}
	}
}

// published is how many numbers there are.
func (f *feed) published() int {
	defer f.mu.Unlock()
	f.lock()
	return len(f.slots)
}

// latest is the slot's newest upload, for services that do not know of holes and late files.
func (f *feed) latest(s *slot) upload {
	defer f.mu.Unlock()
	f.lock()
	if len(s.uploads) == 0 {
		return upload{}
	}
	return s.uploads[len(s.uploads)-1]
}

// byKillmail finds a killmail by its id, published or not: ESI has it before zKillboard does.
func (f *feed) byKillmail(id int64) *Mail {
	defer f.mu.Unlock()
	f.lock()
	i, ok := f.byID[id]
	if !ok {
		return nil
	}
	m := f.mails[i]
	return &m
}

func (f *feed) add(mails []Mail) {
	defer f.mu.Unlock()
	now := f.lock()
	dry := len(f.slots) == len(f.mails)
	for _, m := range mails {
		f.mails = append(f.mails, m)
		f.index(len(f.mails) - 1)
	}
	if due, ok := f.due(); dry && ok && due.Before(now) {
		f.begun, f.from = now, len(f.slots) // nothing is published in the past
	}
	f.advance(now)
	f.ring() // who waits for the next one did not know of it
}

func (f *feed) setPace(p Pace) error {
	defer f.mu.Unlock()
	now := f.lock()
	if err := p.validate(f.more != nil); err != nil {
		return err
	}
	f.pace, f.begun, f.from = p, now, len(f.slots)
	f.advance(now)
	f.ring()
	return nil
}

// publishNow publishes the next n killmails and returns how many there were.
func (f *feed) publishNow(n int) int {
	defer f.mu.Unlock()
	now := f.lock()
	done := 0
	for ; done < n && f.supply(len(f.slots)); done++ {
		f.publish(now)
	}
	if f.pace.Rate+f.pace.Speed > 0 && done > 0 {
		f.begun, f.from = now, len(f.slots)-1 // the pace goes on from the last of these
	}
	f.ring()
	return done
}

func (f *feed) reupload(number int64, labels []string) error {
	defer f.mu.Unlock()
	now := f.lock()
	if s, _ := f.file(number, now); s == nil {
		return fmt.Errorf("number %d has no file that could be written again", number)
	}
	if len(labels) == 0 {
		return errors.New("a file is written again for its labels: give at least one")
	}
	f.write(pending{at: now, number: number, labels: labels})
	return nil
}
