package killfeed

// MaxQueued is how many events may wait to be rung.
const MaxQueued = maxQueued

// Ropes is on how many topics anybody waits for events.
func (f *Feed) Ropes() int {
	f.bells.mu.Lock()
	defer f.bells.mu.Unlock()
	return len(f.bells.on)
}

// Rung tells whether all events were rung for.
func (f *Feed) Rung() bool { return EventID(f.bells.through.Load()) == f.store.State().Head }

// MaxLooks is how many may look back at once.
func (f *Feed) MaxLooks() int { return cap(f.looks) }

// Closing tells whether Close has begun to end things.
func (f *Feed) Closing() bool {
	select {
	case <-f.writer.closing:
		return true
	default:
		return false
	}
}

// Expand is what a topic stands for in the index, Widen what else an event on a topic of the index is on.
func (u *Universe) Expand(t Topic) []Topic { return u.expand(nil, t) }
func (u *Universe) Widen(t Topic) []Topic  { return u.widen(nil, t) }
