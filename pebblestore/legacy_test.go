package pebblestore

import (
	"bytes"
	"log/slog"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"

	"killfeed"
)

// marks are the greatest removed events of the systems.
func (w *truth) marks() map[uint32]killfeed.EventID {
	last := map[uint32]killfeed.EventID{}
	for _, e := range w.events[:w.first-1] {
		last[e.SystemID] = e.ID
	}
	return last
}

// miss makes n events that other nodes have appended and removed, and returns what they remember of them, in pieces of at most
// size killmails.
func (w *truth) miss(n, size int) (pieces []killfeed.Legacy) {
	from := len(w.events)
	for c := range slices.Chunk(w.batch(n).Events, size) {
		var l killfeed.Legacy
		for _, e := range c {
			l.Killmails = append(l.Killmails, killfeed.PastKillmail{ID: e.KillmailID, Known: e.Known})
		}
		pieces = append(pieces, l)
	}
	w.first = killfeed.EventID(from+n) + 1
	for system, id := range w.marks() {
		pieces[0].Systems = append(pieces[0].Systems, killfeed.PastSystem{System: system, Last: id})
	}
	end := w.events[from+n-1]
	pieces[len(pieces)-1].At = &killfeed.PastEnd{ID: end.ID, MirrorSeq: end.MirrorSeq, ReceivedAt: end.ReceivedAt}
	return pieces
}

func adopt(t testing.TB, s *Store, pieces ...killfeed.Legacy) {
	t.Helper()
	for i, l := range pieces {
		if err := s.Adopt(l); err != nil {
			t.Fatalf("adopting piece %d of %d: %v", i+1, len(pieces), err)
		}
	}
}

// TestCrashInAdopt cuts the power at every file operation while a legacy is adopted in pieces. The log is then what it was
// before, or what it is after the last one, and a node that begins again ends up with all of it.
func TestCrashInAdopt(t *testing.T) {
	const have, removed, missed, size = 150, 30, 110, 40
	base := vfs.NewCrashableMem()
	start := func() *truth { w := newTruth(5); w.batch(have); w.first = removed + 1; return w }
	w := newTruth(5)
	s := openOn(t, base)
	w.commit(t, s, have)
	w.remove(t, s, removed)
	closeStore(t, s)
	crashes := map[killfeed.EventID]int{} // by the head that was left
	for at := int64(1); ; at++ {
		var (
			fs              = base.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: 100, RNG: rand.New(rand.NewPCG(1, 2))})
			survivor        *vfs.MemFS
			counting, acked atomic.Bool
			kept            bool
			ops             atomic.Int64
			cfg             = vfs.CrashCloneCfg{UnsyncedDataPercent: 50, RNG: rand.New(rand.NewPCG(uint64(at), 4))}
		)
		s := openOn(t, errorfs.Wrap(fs, errorfs.InjectorFunc(func(op errorfs.Op) error {
			if counting.Load() && op.Kind.ReadOrWrite() == errorfs.OpIsWrite && ops.Add(1) == at {
				kept = acked.Load()
				survivor = fs.CrashClone(cfg)
			}
			return nil
		})))
		after := start()
		pieces := after.miss(missed, size)
		counting.Store(true)
		adopt(t, s, pieces...)
		acked.Store(true)
		closeStore(t, s)
		if survivor == nil {
			break
		}
		s = openOn(t, survivor)
		w, head := after, s.State().Head
		if crashes[head]++; head != after.head() && !kept {
			w = start()
		}
		if w.verify(t, s); t.Failed() {
			t.Fatalf("after a crash at operation %d", at)
		}
		adopt(t, s, pieces...)
		after.commit(t, s, 70)
		after.verify(t, s)
		closeStore(t, s)
		s = openOn(t, survivor)
		if after.verify(t, s); t.Failed() {
			t.Fatalf("adopted again after a crash at operation %d", at)
		}
		closeStore(t, s)
	}
	if crashes[have] == 0 || crashes[have+missed] == 0 {
		t.Errorf("crashes left the heads %v, and are to leave %d and %d", crashes, have, have+missed)
	}
}

// TestAdoptFar goes on in another bucket of the index, behind chunks that are written and some that are not.
func TestAdoptFar(t *testing.T) {
	if raceEnabled {
		t.Skip("takes long, and nothing runs at the same time that does not in TestCrash")
	}
	fs := vfs.NewMem()
	s := openOn(t, fs)
	w := newTruth(6)
	w.commit(t, s, 300)
	w.remove(t, s, 20)
	adopt(t, s, w.miss(2<<bucketBits, 10_000)...)
	w.verify(t, s)
	w.commit(t, s, 100)
	w.commit(t, s, 100)
	w.verify(t, s)
	closeStore(t, s)
	s = openOn(t, fs)
	defer closeStore(t, s)
	w.verify(t, s)
	err := s.scan(bucketKey(0), bucketKey(2), func(key, _ []byte) error {
		t.Errorf("chunk %q of removed events is left", key)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	w.commit(t, s, 100)
	w.remove(t, s, w.head()-50)
	w.verify(t, s)
	adopt(t, s, w.miss(5, 5)...) // in the same bucket
	w.commit(t, s, 100)
	w.verify(t, s)
}

// TestAdoptDamaged: a damaged record is not given to other nodes, and is replaced by theirs.
func TestAdoptDamaged(t *testing.T) {
	var log bytes.Buffer
	s, err := Open("data", Options{FS: vfs.NewMem(), MinFree: 1, Logger: slog.New(slog.NewTextHandler(&log, nil))})
	if err != nil {
		t.Fatal(err)
	}
	defer closeStore(t, s)
	w := newTruth(7)
	w.commit(t, s, 10)
	bad, known := numberKey(spaceKnown, 4), w.events[3].Known
	if err := s.db.Set(bad, make([]byte, knownSize), pebble.Sync); err != nil {
		t.Fatal(err)
	}
	var got []int64
	yield := func(k killfeed.PastKillmail) bool { got = append(got, k.ID); return true }
	err = s.Past(0, math.MaxUint64, yield)
	if err == nil || !strings.Contains(err.Error(), "killmail 4") || !strings.Contains(err.Error(), "killfeed check") {
		t.Errorf("the error is %v, and is to name killmail 4 and killfeed check", err)
	}
	if !slices.Equal(got, []int64{1, 2, 3}) {
		t.Errorf("killmails %v were yielded", got)
	}
	adopt(t, s, killfeed.Legacy{Killmails: []killfeed.PastKillmail{{ID: 4, Known: known}}})
	if !strings.Contains(log.String(), "killmail_id=4") {
		t.Errorf("nothing is said of the damaged record: %q", log.String())
	}
	w.verify(t, s)
}

// TestCheckOfLegacy: Check knows what waits from what is wrong.
func TestCheckOfLegacy(t *testing.T) {
	fs := vfs.NewMem()
	s := openOn(t, fs)
	w := newTruth(8)
	w.commit(t, s, 10)
	check(t, s)
	adopt(t, s, killfeed.Legacy{Killmails: []killfeed.PastKillmail{{ID: 500, Known: killfeed.Known{First: 12, Latest: 14}}}})
	w.verify(t, s)
	closeStore(t, s)
	s = openOn(t, fs)
	defer closeStore(t, s)
	w.verify(t, s)
	key, v := numberKey(spaceKnown, 501), make([]byte, knownSize)
	putKnown(key, v, killfeed.Known{First: 12, Latest: 15})
	if err := s.db.Set(key, v, pebble.Sync); err != nil {
		t.Fatal(err)
	}
	if p := problems(t, s); len(p) != 1 || !strings.Contains(p[0], "killmail 501") {
		t.Errorf("Check finds %q, which is to be that killmail 501 points at event 15", p)
	}
}

func TestEpochGiven(t *testing.T) {
	fs := vfs.NewMem()
	with := func(e killfeed.Epoch) (killfeed.Epoch, error) {
		s, err := Open("data", Options{FS: fs, Epoch: e})
		if err != nil {
			return "", err
		}
		defer closeStore(t, s)
		return s.State().Epoch, nil
	}
	for _, bad := range []killfeed.Epoch{"1", "0123ABCD", "0123abcg", "0123abcde"} {
		if got, err := with(bad); err == nil {
			t.Errorf("a store is made with the epoch %q: %q", bad, got)
		}
	}
	for _, e := range []killfeed.Epoch{"0123abcd", "89ef0123", ""} { // the first one makes it
		if got, err := with(e); got != "0123abcd" || err != nil {
			t.Errorf("opened with the epoch %q it has %q, %v", e, got, err)
		}
	}
}
