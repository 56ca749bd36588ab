package pebblestore

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"reflect"
	"sync/atomic"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"

	"killfeed"
)

// TestCrash cuts the power in the middle of a file operation, again and again: of what was not synced, a random part of the
// blocks and directory entries survives. What comes back must be exactly what one of the writes left behind that were
// acknowledged or in flight: so nothing acknowledged is lost, no batch is there by half, no offset has gone back.
func TestCrash(t *testing.T) {
	for _, keep := range []int{0, 20, 50, 80, 100} { // percent of what was not synced
		t.Run(fmt.Sprintf("keep=%d%%", keep), func(t *testing.T) {
			t.Parallel()
			seed := uint64(1000 + keep)
			c := crasher{truth: newTruth(seed), rnd: rand.New(rand.NewPCG(seed, 3)), keep: keep, fs: vfs.NewCrashableMem()}
			s := openOn(t, c.fs)
			c.truth.commit(t, s, 50)
			epoch := s.State().Epoch
			closeStore(t, s)
			for round := range fewer(8) {
				c.round(t)
				s := openOn(t, c.fs)
				c.settle(t, s)
				if e := s.State().Epoch; e != epoch {
					t.Fatalf("round %d: the epoch is %s, was %s", round, e, epoch)
				}
				if c.truth.verify(t, s); t.Failed() {
					t.Fatalf("round %d", round)
				}
				closeStore(t, s)
			}
		})
	}
}

// crasher writes to a store and crashes it.
type crasher struct {
	truth *truth
	rnd   *rand.Rand
	keep  int
	fs    *vfs.MemFS

	// Of the round: what the log was after each write, the one before the first included, and how many writes were
	// acknowledged when the crash began and begun when it was over.
	points      []point
	acked, last int
}

// point is what the log was after a write.
type point struct {
	first, head killfeed.EventID
	offsets     map[string]map[killfeed.Topic]killfeed.EventID
}

func (c *crasher) point() {
	p := point{first: c.truth.first, head: c.truth.head(), offsets: map[string]map[killfeed.Topic]killfeed.EventID{}}
	for name, o := range c.truth.offsets {
		p.offsets[name] = maps.Clone(o)
	}
	c.points = append(c.points, p)
}

// round opens the store, sometimes crashing it meanwhile, writes until it crashes, and leaves what survives in c.fs.
func (c *crasher) round(t *testing.T) {
	t.Helper()
	c.points = nil
	c.point()
	var (
		survivor     *vfs.MemFS
		begun, acked atomic.Int64
		crashed      atomic.Bool
		ops          atomic.Int64
		at           = 1 + int64(c.rnd.IntN(400))
		fs           = c.fs
		cfg          = vfs.CrashCloneCfg{UnsyncedDataPercent: c.keep, RNG: rand.New(rand.NewPCG(c.rnd.Uint64(), 4))}
	)
	s := openOn(t, errorfs.Wrap(fs, errorfs.InjectorFunc(func(op errorfs.Op) error {
		if op.Kind.ReadOrWrite() == errorfs.OpIsWrite && ops.Add(1) == at {
			c.acked = int(acked.Load())
			survivor = fs.CrashClone(cfg)
			c.last = int(begun.Load())
			crashed.Store(true)
		}
		return nil
	})))
	for !crashed.Load() {
		begun.Add(1)
		c.write(t, s)
		acked.Add(1)
		c.point()
	}
	closeStore(t, s) // ends what runs; nothing of it reaches the survivor
	c.fs = survivor
}

// write makes one write of a random kind.
func (c *crasher) write(t *testing.T, s *Store) {
	t.Helper()
	w, r := c.truth, c.rnd
	switch n := r.IntN(20); {
	case n == 0 && w.first <= w.head():
		w.remove(t, s, w.first+killfeed.EventID(r.IntN(int(w.head()-w.first)+1)))
		return
	case n == 1:
		if _, err := s.db.AsyncFlush(); err != nil {
			t.Fatal(err)
		}
	case n == 2:
		w.commit(t, s, 80)
		return
	case n == 3 && r.IntN(2) == 0:
		adopt(t, s, w.miss(1+r.IntN(100), 100)...) // one piece, so one write
		return
	}
	b := w.batch(r.IntN(6))
	if r.IntN(10) == 0 {
		name := fmt.Sprintf("client %d", r.IntN(3))
		delete(w.offsets, name)
		b.Gone = append(b.Gone, name)
	}
	for range r.IntN(3) {
		w.commitOffset(b, fmt.Sprintf("client %d", r.IntN(3)), killfeed.System(1+r.Uint32N(5)), killfeed.EventID(r.IntN(len(w.events))))
	}
	if err := s.Commit(b); err != nil {
		t.Fatalf("committing: %v", err)
	}
}

// settle finds out which write was the last one that survived, and sets c.truth back to it.
func (c *crasher) settle(t *testing.T, s *Store) {
	t.Helper()
	st := s.State()
	offsets := map[string]map[killfeed.Topic]killfeed.EventID{}
	if err := s.Clients(func(r killfeed.ClientRecord) bool { offsets[r.Client] = r.Offsets; return true }); err != nil {
		t.Fatal(err)
	}
	for _, p := range c.points[c.acked:min(c.last+1, len(c.points))] {
		if p.first == st.First && p.head == st.Head && reflect.DeepEqual(p.offsets, offsets) {
			c.truth.events = c.truth.events[:p.head:p.head]
			c.truth.first, c.truth.offsets = p.first, p.offsets
			return
		}
	}
	t.Fatalf("the log is %d to %d with offsets %v, which is what no write from the last acknowledged one to the last one left: "+
		"%+v", st.First, st.Head, offsets, c.points[c.acked:min(c.last+1, len(c.points))])
}

// TestCrashAtOpen cuts the power at every file operation of the first open and a first commit in a directory that is made
// along with those above it.
func TestCrashAtOpen(t *testing.T) {
	for at := int64(1); ; at++ {
		fs := vfs.NewCrashableMem()
		var (
			ops      atomic.Int64
			acked    atomic.Bool
			survivor *vfs.MemFS
			kept     bool
		)
		s, err := Open("var/lib/data", Options{FS: errorfs.Wrap(fs, errorfs.InjectorFunc(func(op errorfs.Op) error {
			if op.Kind.ReadOrWrite() == errorfs.OpIsWrite && ops.Add(1) == at {
				kept = acked.Load()
				survivor = fs.CrashClone(vfs.CrashCloneCfg{})
			}
			return nil
		}))})
		if err != nil {
			t.Fatal(err)
		}
		epoch := s.State().Epoch
		w := newTruth(1)
		w.commit(t, s, 1)
		acked.Store(true)
		w.commit(t, s, 1)
		closeStore(t, s)
		if survivor == nil {
			if at < 20 {
				t.Fatalf("only %d operations", at)
			}
			return
		}
		s, err = Open("var/lib/data", Options{FS: survivor})
		if err != nil {
			t.Fatalf("after a crash at operation %d: %v", at, err)
		}
		if st := s.State(); kept && (st.Head == 0 || st.Epoch != epoch) {
			t.Fatalf("after a crash at operation %d the state is %+v, event 1 was acknowledged, epoch %s", at, st, epoch)
		}
		closeStore(t, s)
	}
}
