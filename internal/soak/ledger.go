//go:build linux

package main

import (
	"slices"
	"sort"
)

// ledger compares what one feed got with what it must have got. Which of the three there is depends on who keeps the place:
//
//	exact    the subscriber itself, by cursor: every event once, ascending, over all connections
//	manual   the server, moved by the subscriber's commits: nothing lost, nothing again that is committed
//	auto     the server, moved as it delivers: nothing twice but what came in the last moments before a kill, nothing skipped
//	         but what was on its way when the connection was cut
//
// Order and repetition are judged as events come, the rest in verify, when it is certain what the events are about.
type ledger interface {
	// joined begins a connection. start is the first event that the server says can come.
	joined(start uint64)
	// take notes an event that came, at a time on the clock of now.
	take(event uint64, at int64)
	// ended ends a connection.
	ended(e ending)
	// verify compares up to an event, as far as that can be judged before more comes; final: nothing more will come.
	verify(l truth, through uint64, final bool)
	// missing is how many events up to the head have yet to come.
	missing(l truth, head uint64) int
}

// truth is what the log holds, as the oracle has it.
type truth interface {
	// mail is what an event is about.
	mail(event uint64) *mail
}

// ending is how a connection ended.
type ending struct {
	at int64 // on the clock of now
	// most is an upper bound of the log's head.
	most uint64
	// clean: the server ended it, and had the time to commit and to send everything first.
	clean bool
}

// violate takes a broken promise; see oracle.violate.
type violate func(promise, format string, args ...any)

// exact is the ledger of a feed that resumes by cursor.
type exact struct {
	name    string
	violate violate
	wanted  wanted

	begun     bool
	last      uint64   // the last event that came
	got       []uint32 // what came and is not compared yet
	checked   uint64   // all up to here is compared
	unsettled bool     // what is wanted behind hold is to be seen
	hold      uint64
}

func (l *exact) joined(start uint64) {
	if !l.begun {
		l.begun, l.last, l.checked = true, start-1, start-1
	}
}

func (l *exact) take(event uint64, _ int64) {
	if event <= l.last {
		l.violate(promiseOrder, "%s: event %d after %d", l.name, event, l.last)
		return
	}
	l.last = event
	l.got = append(l.got, uint32(event))
}

func (l *exact) ended(ending) {}

func (l *exact) verify(t truth, through uint64, final bool) {
	if !l.begun {
		return
	}
	if !final {
		through = min(through, l.last)
	}
	if l.unsettled {
		through = min(through, l.hold)
	}
	n := compare(l.violate, l.name, t, l.wanted.at, l.got, l.checked, through)
	l.got = append(l.got[:0], l.got[n:]...)
	l.checked = max(l.checked, through)
	if final && len(l.got) > 0 {
		l.violate(promiseInvented, "%s: got event %d, the log ends with %d", l.name, l.got[0], through)
	}
}

func (l *exact) missing(t truth, head uint64) (n int) {
	if !l.begun {
		return 1
	}
	w := wanted{l.wanted.spans} // a copy, which moves on
	for e := max(l.checked, l.last) + 1; e <= head; e++ {
		if must, _ := w.at(e, t.mail(e)); must {
			n++
		}
	}
	return n
}

// compare compares what came with what was wanted, from the event behind after up to through. got must ascend. It returns how
// many of got it came by.
func compare(
	violate violate, name string, t truth, wanted func(uint64, *mail) (must, may bool), got []uint32, after, through uint64,
) (n int) {
	for e := after + 1; e <= through; e++ {
		came := n < len(got) && uint64(got[n]) == e
		if came {
			n++
		}
		must, may := wanted(e, t.mail(e))
		switch {
		case must && !came:
			violate(promiseLost, "%s: event %d did not come", name, e)
		case came && !may:
			violate(promiseForeign, "%s: event %d came and is on none of its topics", name, e)
		}
	}
	return n
}

// manual is the ledger of a durable client that commits by its own word.
type manual struct {
	name    string
	violate violate
	set     *topicSet

	begun    bool
	acked    uint64 // the greatest commit that was answered, or that the server showed to have taken
	asked    uint64 // the greatest commit that was sent
	now      stretch
	before   []stretch // of earlier connections, not compared yet
	high     uint64    // the greatest event that came
	repeated int       // events up to high that came later, not being committed: what this mode is for
}

// stretch is what one connection brought: everything on the topics behind after.
type stretch struct {
	after   uint64
	decided bool // after is certain
	last    uint64
	got     []uint32
}

func (l *manual) joined(start uint64) {
	if !l.begun {
		l.begun, l.acked, l.asked, l.high = true, start-1, start-1, start-1
	}
	l.now = stretch{after: l.acked, last: l.acked}
}

func (l *manual) take(event uint64, _ int64) {
	s := &l.now
	if event <= l.acked && !s.decided {
		l.violate(promiseCommitted, "%s: has committed %d and gets %d again", l.name, l.acked, event)
		return
	}
	if event <= s.last {
		l.violate(promiseOrder, "%s: event %d after %d", l.name, event, s.last)
		return
	}
	if !s.decided {
		// A commit whose answer was lost was taken, or it was not. Had it not been, its own event would come again.
		if event > l.asked {
			s.after, l.acked = l.asked, l.asked
		}
		l.asked = l.acked
		s.decided = true
	}
	if event <= l.high {
		l.repeated++
	}
	l.high = max(l.high, event)
	s.last = event
	s.got = append(s.got, uint32(event))
}

// commits notes that a commit is being sent, committed that it was answered.
func (l *manual) commits(event uint64)   { l.asked = max(l.asked, event) }
func (l *manual) committed(event uint64) { l.acked = max(l.acked, event) }

func (l *manual) ended(ending) {
	if len(l.now.got) > 0 {
		l.before = append(l.before, l.now)
	}
	l.now = stretch{}
}

func (l *manual) wanted(_ uint64, m *mail) (must, may bool) {
	has := l.set.has(m)
	return has, has
}

func (l *manual) verify(t truth, through uint64, final bool) {
	for len(l.before) > 0 && l.before[0].last <= through {
		s := &l.before[0]
		compare(l.violate, l.name, t, l.wanted, s.got, s.after, s.last)
		l.before = l.before[1:]
	}
	s := &l.now
	if !final {
		through = min(through, s.last)
	} else if !s.decided {
		s.after = l.asked // its event did not come again, so it was taken
	}
	if through <= s.after || !s.decided && !final {
		return
	}
	n := compare(l.violate, l.name, t, l.wanted, s.got, s.after, through)
	s.got, s.after = append(s.got[:0], s.got[n:]...), through
	if final && len(s.got) > 0 {
		l.violate(promiseInvented, "%s: got event %d, the log ends with %d", l.name, s.got[0], through)
	}
}

func (l *manual) missing(t truth, head uint64) (n int) {
	if !l.begun {
		return 1
	}
	for e := max(l.asked, l.now.after, l.now.last) + 1; e <= head; e++ {
		if l.set.has(t.mail(e)) {
			n++
		}
	}
	return n
}

// auto is the ledger of a durable client whose place the server moves as it delivers.
type auto struct {
	name    string
	violate violate
	set     *topicSet

	begun    bool
	seen     idSet
	high     uint64     // the greatest event that came
	last     uint64     // the last of this connection
	recent   []delivery // of this connection: those of the last moments
	oldest   uint64     // the oldest event that may come again
	cuts     []cut
	checked  uint64
	repeated int
	skipped  int // on their way when a connection was cut
}

type delivery struct {
	event uint64
	at    int64
}

// cut is where events may be missing: behind the last one that came, up to the head at the time.
type cut struct{ after, through uint64 }

// lateCommits is how old automatic commits may be when the server dies. They are written once a second, with the next group
// commit, and this is a busy machine.
const lateCommits = 5e9 // nanoseconds

func (l *auto) joined(start uint64) {
	if !l.begun {
		l.begun, l.high, l.checked, l.oldest = true, start-1, start-1, start
	}
	l.last, l.recent = 0, l.recent[:0]
}

func (l *auto) take(event uint64, at int64) {
	if event <= l.last {
		l.violate(promiseOrder, "%s: event %d after %d", l.name, event, l.last)
		return
	}
	l.last = event
	switch again := l.seen.has(event); {
	case event < l.oldest && again:
		l.violate(promiseCommitted, "%s: event %d came again, those before %d must not", l.name, event, l.oldest)
	case event < l.oldest: // what was skipped was committed, and on disk: it does not come later
		l.violate(promiseOrder, "%s: event %d came when all before %d had", l.name, event, l.oldest)
	case again:
		l.repeated++
	}
	l.seen.add(event)
	l.high = max(l.high, event)
	l.recent = append(l.recent, delivery{event, at})
	if l.recent[0].at < at-2*lateCommits {
		l.recent = slices.DeleteFunc(l.recent, func(d delivery) bool { return d.at < at-lateCommits })
	}
}

func (l *auto) ended(e ending) {
	if !l.begun {
		return
	}
	if e.clean {
		l.oldest = l.high + 1
		return
	}
	l.cuts = append(l.cuts, cut{l.high, e.most})
	if l.last == 0 { // nothing came: what could come again before still can
		return
	}
	oldest := l.high + 1
	if i := sort.Search(len(l.recent), func(i int) bool { return l.recent[i].at >= e.at-lateCommits }); i < len(l.recent) {
		oldest = l.recent[i].event
	}
	if l.last < l.high { // it was still repeating
		oldest = min(oldest, l.oldest)
	}
	l.oldest = oldest
}

// cut tells whether an event was on its way when a connection was cut.
func (l *auto) cut(event uint64) bool {
	return slices.ContainsFunc(l.cuts, func(c cut) bool { return c.after < event && event <= c.through })
}

func (l *auto) verify(t truth, through uint64, final bool) {
	if !final {
		through = min(through, l.last) // what does not come before a later one does not come
	}
	for e := l.checked + 1; e <= through; e++ {
		switch has, came := l.set.has(t.mail(e)), l.seen.has(e); {
		case came && !has:
			l.violate(promiseForeign, "%s: event %d came and is on none of its topics", l.name, e)
		case has && !came && l.cut(e):
			l.skipped++
		case has && !came:
			l.violate(promiseSkipped, "%s: event %d did not come", l.name, e)
		}
	}
	l.checked = max(l.checked, through)
	if final && l.high > through {
		l.violate(promiseInvented, "%s: got event %d, the log ends with %d", l.name, l.high, through)
	}
}

func (l *auto) missing(t truth, head uint64) (n int) {
	if !l.begun {
		return 1
	}
	for e := max(l.checked, l.last) + 1; e <= head; e++ {
		if l.set.has(t.mail(e)) && !l.seen.has(e) && !l.cut(e) {
			n++
		}
	}
	return n
}

// idSet is a set of event ids.
type idSet struct{ words []uint64 }

func (s *idSet) has(id uint64) bool {
	return id/64 < uint64(len(s.words)) && s.words[id/64]>>(id%64)&1 == 1
}

func (s *idSet) add(id uint64) {
	if n := int(id/64) + 1; n > len(s.words) {
		s.words = append(s.words, make([]uint64, n-len(s.words))...)
	}
	s.words[id/64] |= 1 << (id % 64)
}
