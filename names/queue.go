package names

import "container/list"

// sort is why something is asked for, the most urgent first.
type sort uint8

const (
	// asked: somebody wants the name, which a killmail has.
	asked sort = iota
	// ahead: somebody may soon.
	ahead
	// doubtful: a killmail has it, and it was asked for together with one that does not exist, or is that.
	doubtful
	// guessed: somebody wants the name, and may have made the id up.
	guessed
	// dubious: as doubtful, of what no killmail is known to have. A line of its own: whoever sends thousands of ids that do not
	// exist, and some that do, must not have the names of killmails wait behind them, at two seconds and more for each.
	dubious
	// details: a ticker, or where a system or constellation lies.
	details
	// stale: a name that is old.
	stale
	// again: there was no such id a day ago.
	again
	sorts = iota
)

// own tells whether a killmail has the id, as far as is known.
func (s sort) own() bool { return s <= doubtful }

// inDoubt is the line for what was refused together with others.
func (s sort) inDoubt() sort {
	if s.own() {
		return doubtful
	}
	return dubious
}

// line is ids that wait, each once, first come first served, and no more of them than there may be. The Book's mutex guards it.
type line struct {
	most  int
	order *list.List
	at    map[uint32]*list.Element
}

func newLine(most int) line { return line{most, list.New(), map[uint32]*list.Element{}} }

func (l *line) len() int           { return l.order.Len() }
func (l *line) full() bool         { return l.order.Len() >= l.most }
func (l *line) has(id uint32) bool { return l.at[id] != nil }
func (l *line) remove(id uint32) {
	if e := l.at[id]; e != nil {
		l.order.Remove(e)
		delete(l.at, id)
	}
}

// add puts an id at the end.
func (l *line) add(id uint32) {
	if !l.has(id) {
		l.at[id] = l.order.PushBack(id)
	}
}

// take takes up to n from the front.
func (l *line) take(dst []uint32, n int) []uint32 {
	for ; n > 0 && l.order.Len() > 0; n-- {
		id := l.order.Remove(l.order.Front()).(uint32)
		delete(l.at, id)
		dst = append(dst, id)
	}
	return dst
}

// queued tells whether the name of an id is asked for already. The caller holds b.mu.
func (b *Book) queued(id uint32) bool {
	if _, ok := b.flying[id]; ok {
		return true
	}
	for s := range b.lines {
		if sort(s) != details && b.lines[s].has(id) {
			return true
		}
	}
	return false
}

// want has an id asked for, or asked for sooner. The caller holds b.mu.
func (b *Book) want(id uint32, why sort) {
	l := &b.lines[why]
	if why == details && b.detail == id || l.has(id) {
		return
	}
	if why != details && b.doubted(id, why) {
		return
	}
	before := -1 // in which line it is
	if why != details {
		for s := range b.lines {
			if sort(s) == details || !b.lines[s].has(id) {
				continue
			}
			if sort(s) < why {
				return
			}
			before = s
		}
	}
	if l.full() {
		if before < 0 {
			b.status.Dropped++
		}
		return
	}
	if before >= 0 {
		b.lines[before].remove(id)
	}
	l.add(id)
	ring(b.wake)
}

// doubted tells whether an id is being asked for, or in doubt. What is in doubt stays so, however much it is wanted: it would take
// others down with it. But when a killmail turns out to have it, it goes with those. The caller holds b.mu.
func (b *Book) doubted(id uint32, why sort) bool {
	if is, flies := b.flying[id]; flies {
		switch {
		case !why.own() || is.own():
		case is == dubious:
			b.flying[id] = doubtful
		default:
			b.flying[id] = why
		}
		return true
	}
	if why.own() && b.lines[dubious].has(id) && !b.lines[doubtful].full() {
		b.lines[dubious].remove(id)
		b.lines[doubtful].add(id)
	}
	return b.lines[doubtful].has(id) || b.lines[dubious].has(id)
}

// takeNames takes up to n ids from lines of names, those of the first first. The caller holds b.mu.
func (b *Book) takeNames(n int, from ...sort) (ids []uint32) {
	for _, why := range from {
		before := len(ids)
		ids = b.lines[why].take(ids, n-before)
		for _, id := range ids[before:] {
			b.flying[id] = why
		}
	}
	return ids
}

// putBack returns ids that nothing was learned of to the end of their lines, also beyond what there may be: they were counted.
// The caller holds b.mu.
func (b *Book) putBack(ids []uint32) {
	for _, id := range ids {
		if why, ok := b.flying[id]; ok {
			delete(b.flying, id)
			b.lines[why].add(id)
		}
	}
}

// doubt puts ids that were refused together, and fly, into the lines of those, as long as there is room. The caller holds b.mu.
func (b *Book) doubt(ids []uint32) {
	for _, id := range ids {
		why, flies := b.flying[id]
		if !flies { // it was learned meanwhile
			continue
		}
		delete(b.flying, id)
		l := &b.lines[why.inDoubt()]
		if l.full() {
			b.status.Dropped++
			continue
		}
		l.add(id)
	}
}
