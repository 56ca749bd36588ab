package main

import (
	"encoding/gob"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"killfeed/storetest"
)

// saved is what --resume goes on with: everything that the oracle and the clients know when no server runs. It is written whenever a
// part of the kills is over, and taken away while a part runs: what was noted in the middle of a part would be less than the server
// has acknowledged, and nothing could be told by it.
type saved struct {
	Seed       uint64
	Kills      int
	Acked      map[int64]uint64
	Maybe      map[int64]bool
	Events     map[uint64]int64
	Head       uint64
	Violations map[string]int
	Repeated   int
	Lost       int
	Writers    []savedWriter
	Readers    []savedReader
	Seeker     [2]uint64
	StreamID   string
	StreamLast uint64
	QueueGot   map[int64]bool
	QueueFresh map[int64]bool
	QueueCuts  int
}

type savedWriter struct {
	Made          int64
	Pending, Done []savedMail
}

type savedMail struct {
	ID   int64
	JSON []byte
}

type savedReader struct {
	Name                         string
	Got                          map[uint64]int
	Cuts                         map[uint64]bool
	Last, Committed, Asked, From uint64
	Life                         int
	Resuming                     bool
}

const stateName = "torture.state"

// save writes the state to the directory.
func (w *world) save(dir string, kills int) error {
	o := w.oracle
	s := saved{
		Seed: w.seed, Kills: kills, Acked: o.acked, Maybe: o.maybe, Events: o.events, Head: o.head, Violations: o.violations,
		Repeated: o.repeated, Lost: o.lost, Seeker: [2]uint64{w.seeker.at, w.seeker.asked},
		StreamID: w.stream.lastID, StreamLast: w.stream.last,
		QueueGot: w.queue.got, QueueFresh: w.queue.fresh, QueueCuts: w.queue.cuts,
	}
	for _, x := range w.writers {
		s.Writers = append(s.Writers, savedWriter{x.made, mailsOf(x.pending), mailsOf(x.done)})
	}
	for _, r := range w.readers {
		s.Readers = append(s.Readers, savedReader{r.name, r.got, r.cuts, r.last, r.committed, r.asked, r.from, r.life, r.resuming})
	}
	path := filepath.Join(dir, stateName)
	f, err := os.Create(path + ".new")
	if err != nil {
		return fmt.Errorf("saving what is known: %w", err)
	}
	if err := errors.Join(gob.NewEncoder(f).Encode(&s), f.Close(), os.Rename(path+".new", path)); err != nil {
		return fmt.Errorf("saving what is known: %w", err)
	}
	return nil
}

func mailsOf(p []pending) (mails []savedMail) {
	for _, p := range p {
		mails = append(mails, savedMail{p.id, p.json})
	}
	return mails
}

func pendingOf(mails []savedMail) (p []pending) {
	for _, m := range mails {
		p = append(p, pending{m.ID, m.JSON})
	}
	return p
}

// readState reads what save wrote, and takes it away: see saved.
func readState(dir string) (*saved, error) {
	path := filepath.Join(dir, stateName)
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("%s has no state to resume: nothing was begun there, or it was killed in the middle of a part, "+
			"and what the server acknowledged since is not known; begin anew in an empty directory", dir)
	}
	if err != nil {
		return nil, err
	}
	defer f.Close()
	var s saved
	if err := gob.NewDecoder(f).Decode(&s); err != nil {
		return nil, fmt.Errorf("reading %s: %w", path, err)
	}
	return &s, os.Remove(path)
}

// resume makes everybody who uses the server know what they knew.
func (w *world) resume(s *saved) error {
	if len(s.Writers) != len(w.writers) || len(s.Readers) != len(w.readers) {
		return fmt.Errorf("the state is of %d writers and %d readers, this is %d and %d: resume with the same --writers",
			len(s.Writers), len(s.Readers), len(w.writers), len(w.readers))
	}
	o := w.oracle
	o.acked, o.maybe, o.events, o.head = filled(s.Acked), filled(s.Maybe), filled(s.Events), s.Head
	o.violations, o.repeated, o.lost = filled(s.Violations), s.Repeated, s.Lost
	for i, x := range w.writers {
		x.pending, x.done = pendingOf(s.Writers[i].Pending), pendingOf(s.Writers[i].Done)
		x.made = s.Writers[i].Made
		x.maker = storetest.NewMaker(makerOptions(s.Seed+uint64(s.Kills), i, x.made))
	}
	for i, r := range w.readers {
		from := s.Readers[i]
		r.got, r.cuts, r.last, r.committed = filled(from.Got), filled(from.Cuts), from.Last, from.Committed
		r.asked, r.from, r.life, r.resuming = from.Asked, from.From, from.Life, from.Resuming
	}
	w.seeker.at, w.seeker.asked = s.Seeker[0], s.Seeker[1]
	w.stream.lastID, w.stream.last = s.StreamID, s.StreamLast
	w.queue.got, w.queue.fresh, w.queue.cuts = filled(s.QueueGot), filled(s.QueueFresh), s.QueueCuts
	return nil
}

// filled is m, or an empty map for nil, which is what gob makes of an empty one.
func filled[K comparable, V any](m map[K]V) map[K]V {
	if m == nil {
		return map[K]V{}
	}
	return m
}
