package storetest

import (
	"errors"
	"sync"

	"killfeed"
)

// ErrInjected is the error of a Fault that names none.
var ErrInjected = errors.New("injected failure")

// Fault is how a write fails. There are two kinds, and code that survives only the first is wrong: after a failed write, or a
// timeout, or a lost answer, the bytes may be on disk all the same.
type Fault struct {
	// Err is what the write returns; nil means ErrInjected.
	Err error
	// Stored: the write happens nevertheless.
	Stored bool
	// Sticky: Health returns Err from then on and every further write fails with it, unstored, until Heal.
	Sticky bool
}

// Faulty makes writes of a Store fail.
type Faulty struct {
	killfeed.Store

	mu      sync.Mutex // guards the rest; held for field accesses only
	commits []Fault
	removes []Fault
	sick    error
}

// NewFaulty returns a Faulty around s that does nothing yet.
func NewFaulty(s killfeed.Store) *Faulty { return &Faulty{Store: s} }

// FailCommits makes the next calls of Commit or Adopt fail, one for each fault.
func (f *Faulty) FailCommits(faults ...Fault) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.commits = append(f.commits, faults...)
}

// FailRemoves makes the next calls of Remove fail, one for each fault.
func (f *Faulty) FailRemoves(faults ...Fault) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.removes = append(f.removes, faults...)
}

// Sicken makes Health and every write return err, unstored, until Heal. killfeed.ErrDiskFull and killfeed.ErrFailed are what
// real stores have.
func (f *Faulty) Sicken(err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.sick = err
}

// Heal ends what Sicken or a sticky Fault began.
func (f *Faulty) Heal() { f.Sicken(nil) }

// Commit implements killfeed.Store.
func (f *Faulty) Commit(b *killfeed.Batch) error {
	return f.write(&f.commits, func() error { return f.Store.Commit(b) })
}

// Adopt implements killfeed.Store.
func (f *Faulty) Adopt(l killfeed.Legacy) error {
	return f.write(&f.commits, func() error { return f.Store.Adopt(l) })
}

// Remove implements killfeed.Store.
func (f *Faulty) Remove(through killfeed.EventID) error {
	return f.write(&f.removes, func() error { return f.Store.Remove(through) })
}

// Health implements killfeed.Store.
func (f *Faulty) Health() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.sick != nil {
		return f.sick
	}
	return f.Store.Health()
}

func (f *Faulty) write(faults *[]Fault, write func() error) error {
	f.mu.Lock()
	if f.sick != nil {
		defer f.mu.Unlock()
		return f.sick
	}
	if len(*faults) == 0 {
		f.mu.Unlock()
		return write()
	}
	fault := (*faults)[0]
	*faults = (*faults)[1:]
	if fault.Err == nil {
		fault.Err = ErrInjected
	}
	if fault.Sticky {
		f.sick = fault.Err
	}
	f.mu.Unlock()
	if fault.Stored {
		if err := write(); err != nil {
			return err
		}
	}
	return fault.Err
}
