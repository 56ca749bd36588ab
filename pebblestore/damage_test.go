package pebblestore

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"

	"killfeed"
)

// copyOf copies the store's files as they are, as kill -9 would leave them.
func copyOf(t testing.TB, fs vfs.FS) *vfs.MemFS {
	t.Helper()
	c := vfs.NewMem()
	if _, err := vfs.Clone(fs, c, "data", "data"); err != nil {
		t.Fatal(err)
	}
	return c
}

func readFile(t testing.TB, fs vfs.FS, name string) []byte {
	t.Helper()
	f, err := fs.Open(name)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	b, err := io.ReadAll(f)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func writeFile(t testing.TB, fs vfs.FS, name string, b []byte) {
	t.Helper()
	f, err := fs.Create(name, vfs.WriteCategoryUnspecified)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.Write(b); err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
}

// files are the store's files with that ending or beginning that hold anything, oldest first.
func files(t testing.TB, fs vfs.FS, part string) (names []string) {
	t.Helper()
	all, err := fs.List("data")
	if err != nil {
		t.Fatal(err)
	}
	slices.Sort(all)
	for _, name := range all {
		fi, err := fs.Stat("data/" + name)
		if err != nil {
			t.Fatal(err)
		}
		if (strings.HasSuffix(name, part) || strings.HasPrefix(name, part)) && fi.Size() > 0 {
			names = append(names, "data/"+name)
		}
	}
	return names
}

// TestTornTail cuts the write-ahead log at every byte of a commit that was not synced when the power went, and puts what a
// disk may have there: nothing, zeros, or an earlier log's bytes. The store opens with the last whole commit.
func TestTornTail(t *testing.T) {
	for _, tt := range []struct {
		name  string
		pad   int
		batch func(w *truth) *killfeed.Batch
	}{
		{"offset", 0, func(w *truth) *killfeed.Batch {
			var b killfeed.Batch
			w.commitOffset(&b, "someone", killfeed.System(1), 1)
			return &b
		}},
		{"events over a block's end", 9000, func(w *truth) *killfeed.Batch { return w.batch(5) }},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			fs := vfs.NewMem()
			w := newTruth(7)
			s := openOn(t, fs)
			w.commit(t, s, 3)
			before := copyOf(t, fs)
			log := files(t, before, ".log")[0]
			synced := len(readFile(t, fs, log))
			w.pad = tt.pad
			events := len(w.events)
			if err := s.Commit(tt.batch(w)); err != nil {
				t.Fatal(err)
			}
			full := readFile(t, fs, log)
			closeStore(t, s)
			without := &truth{first: 1, events: w.events[:events]}
			torn := func(cut int, what string, rest []byte) {
				fs := copyOf(t, before)
				writeFile(t, fs, log, append(slices.Clone(full[:cut]), rest...))
				s, err := Open("data", Options{FS: fs})
				if err != nil {
					t.Fatalf("cut at byte %d of %d to %d, then %s: %v", cut, synced, len(full), what, err)
				}
				if without.verify(t, s); t.Failed() {
					t.Fatalf("cut at byte %d of %d to %d, then %s", cut, synced, len(full), what)
				}
				closeStore(t, s)
			}
			// The engine spends up to a second on a large chunk that does not match its checksum, to see whether one bit
			// would mend it. So garbage comes behind a few cuts of the small batch only.
			rnd := rand.New(rand.NewPCG(1, 1))
			for cut := synced; cut < len(full); cut += 1 + (len(full)-synced)/fewer(200) {
				torn(cut, "nothing", nil)
				if tt.pad > 0 || cut%7 > 0 {
					continue
				}
				garbage := make([]byte, len(full)-cut+100)
				torn(cut, "zeros", garbage)
				for i := range garbage {
					garbage[i] = byte(rnd.Uint32())
				}
				torn(cut, "garbage", garbage)
				torn(cut, "the log's beginning", full[:synced])
			}
			// The same within what was synced is damage.
			for cut := 0; cut < synced; cut += 1 + synced/20 {
				fs := copyOf(t, before)
				writeFile(t, fs, log, full[:cut])
				refused(t, fs, log)
			}
		})
	}
}

// refused opens the store and wants an error that names the file.
func refused(t *testing.T, fs vfs.FS, name string) {
	t.Helper()
	s, err := Open("data", Options{FS: fs})
	if err == nil {
		t.Errorf("opened with a damaged %s; the log is %d to %d", name, s.State().First, s.State().Head)
		closeStore(t, s)
		return
	}
	if !strings.Contains(err.Error(), name) {
		t.Errorf("the error does not name %s: %v", name, err)
	}
}

// TestDamagedLog flips single bits in what was synced of the engine's logs, the newest included, after which no other log
// could tell that anything is missing. Neither may ever be taken for the torn end of a crash.
func TestDamagedLog(t *testing.T) {
	for _, group := range []int{1, 10, 100, 600} {
		t.Run(fmt.Sprintf("groups of %d", group), func(t *testing.T) {
			t.Parallel()
			fs := vfs.NewMem()
			w := newTruth(uint64(group))
			w.pad = 100
			s, err := Open("data", Options{FS: fs})
			if err != nil {
				t.Fatal(err)
			}
			for range 2 {
				w.commit(t, s, group)
				if err := s.db.Flush(); err != nil {
					t.Fatal(err)
				}
			}
			for range 10 {
				w.commit(t, s, group)
			}
			killed := copyOf(t, fs)
			closeStore(t, s)
			closed := copyOf(t, fs)
			rnd := rand.New(rand.NewPCG(uint64(group), 5))
			for _, fs := range []*vfs.MemFS{killed, closed} {
				for _, kind := range []string{".log", "MANIFEST-"} {
					names := files(t, fs, kind)
					marked, err := newDisk(fs, "data", 0, nil).readMarks()
					if err != nil {
						t.Fatal(err)
					}
					for range fewer(15) {
						name := names[rnd.IntN(len(names))]
						synced := marked[parseLog(fs.PathBase(name))]
						if synced == 0 {
							t.Fatalf("%s has no mark; there are %v", name, marked)
						}
						fs := copyOf(t, fs)
						b := readFile(t, fs, name)
						b[rnd.Int64N(synced)] ^= 1 << rnd.IntN(8)
						writeFile(t, fs, name, b)
						refused(t, fs, name)
					}
				}
			}
			s, err = Open("data", Options{FS: killed})
			if err != nil {
				t.Fatal(err)
			}
			w.verify(t, s)
			closeStore(t, s)
		})
	}
}

// TestDamagedName flips each bit of the name of the newest log. What comes out is no log's name, or the test passes it over: with the log
// gone, nothing else could tell that anything is missing.
func TestDamagedName(t *testing.T) {
	fs := vfs.NewMem()
	w := newTruth(1)
	s := openOn(t, fs)
	w.commit(t, s, 10)
	killed := copyOf(t, fs)
	closeStore(t, s)
	logs := files(t, killed, ".log")
	log := killed.PathBase(logs[len(logs)-1])
	tried := 0
	for i := range log {
		for bit := range 8 {
			name := []byte(log)
			name[i] ^= 1 << bit
			if name[i] == 0 || name[i] == '/' || parseLog(string(name)) != (logName{}) {
				continue
			}
			fs := copyOf(t, killed)
			if err := fs.Rename("data/"+log, "data/"+string(name)); err != nil {
				t.Fatal(err)
			}
			refused(t, fs, log)
			tried++
		}
	}
	if tried < 40 {
		t.Errorf("only %d names were tried", tried)
	}
}

// TestDamagedOptions flips bits of the file with the engine's options: it is refused by name, or makes no difference.
func TestDamagedOptions(t *testing.T) {
	fs := vfs.NewMem()
	w := newTruth(1)
	s := openOn(t, fs)
	w.commit(t, s, 10)
	closeStore(t, s)
	name := files(t, fs, "OPTIONS-")[0]
	content := readFile(t, fs, name)
	rnd := rand.New(rand.NewPCG(1, 7))
	refusals := 0
	for i := range fewer(100) {
		fs := copyOf(t, fs)
		b := slices.Clone(content)
		at := rnd.IntN(len(b))
		if i == 0 {
			at = bytes.Index(b, []byte("comparer=")) + len("comparer=") // which the engine looks at: most of the file it does not
		}
		b[at] ^= 1 << rnd.IntN(8)
		writeFile(t, fs, name, b)
		s, err := Open("data", Options{FS: fs})
		if err != nil {
			refusals++
			if !strings.Contains(err.Error(), name) {
				t.Errorf("the error does not name %s: %v", name, err)
			}
			continue
		}
		w.verify(t, s)
		closeStore(t, s)
	}
	if refusals == 0 {
		t.Error("nothing was refused: it tests too little")
	}
}

// TestDamagedMarks spoils the file of marks: the store works without.
func TestDamagedMarks(t *testing.T) {
	fs := vfs.NewMem()
	w := newTruth(1)
	s := openOn(t, fs)
	w.commit(t, s, 10)
	closeStore(t, s)
	good := readFile(t, fs, "data/"+marksName)
	for _, spoil := range []func() []byte{
		func() []byte { return nil },
		func() []byte { return good[:40] },
		func() []byte { return make([]byte, 10_000) },
		func() []byte { b := slices.Clone(good); b[12] ^= 1; b[44] ^= 1; return b },
	} {
		writeFile(t, fs, "data/"+marksName, spoil())
		s := openOn(t, fs)
		w.verify(t, s)
		w.commit(t, s, 10)
		closeStore(t, s)
	}
	if err := fs.Remove("data/" + marksName); err != nil {
		t.Fatal(err)
	}
	s = openOn(t, fs)
	w.verify(t, s)
	closeStore(t, s)
}

// TestDamagedTable flips single bits in the engine's tables. Either open refuses, or what is damaged is reported and all
// else is right.
func TestDamagedTable(t *testing.T) {
	fs := vfs.NewMem()
	w := newTruth(11)
	// The engine tries for each bit of a damaged block whether it is the one, at every read: small blocks are faster.
	small := Options{FS: fs, Cache: 1, generation: 64, block: 1 << 10}
	s, err := Open("data", small)
	if err != nil {
		t.Fatal(err)
	}
	for range 10 {
		b := w.batch(10)
		w.commitOffset(b, "someone", killfeed.System(1), w.head())
		if err := s.Commit(b); err != nil {
			t.Fatal(err)
		}
	}
	w.remove(t, s, 20)
	closeStore(t, s)
	if s, err = Open("data", small); err != nil { // moves the logs' contents to tables
		t.Fatal(err)
	}
	closeStore(t, s)
	names := files(t, fs, ".sst")
	if len(names) == 0 {
		t.Fatal("there are no tables")
	}
	topics := w.topics()
	rnd := rand.New(rand.NewPCG(1, 6))
	refusals, reports := 0, 0
	for range fewer(60) {
		name := names[rnd.IntN(len(names))]
		fs := copyOf(t, fs)
		b := readFile(t, fs, name)
		at := rnd.IntN(len(b))
		b[at] ^= 1 << rnd.IntN(8)
		writeFile(t, fs, name, b)
		small.FS = fs
		s, err := Open("data", small)
		if err != nil {
			refusals++
			if number := strings.TrimSuffix(fs.PathBase(name), ".sst"); !strings.Contains(err.Error(), number) {
				t.Errorf("the error does not name table %s: %v", number, err)
			}
			continue
		}
		wrong := deviations(t, w, s, topics)
		found := problems(t, s)
		if len(found) > 0 {
			reports++
		}
		if len(wrong) > 0 && len(found) == 0 {
			t.Errorf("byte %d of %s: Check is clean, but %q", at, name, wrong)
		}
		if err := s.Close(); err != nil && len(found) == 0 {
			t.Errorf("closing: %v", err)
		}
	}
	t.Logf("%d opens were refused, %d were reported by Check", refusals, reports)
}

// deviations are what the store cannot tell of w. What it tells must be right.
func deviations(t *testing.T, w *truth, s *Store, topics map[killfeed.Topic][]killfeed.EventID) (wrong []string) {
	t.Helper()
	miss := func(format string, args ...any) { wrong = append(wrong, fmt.Sprintf(format, args...)) }
	if st := s.State(); st.First != w.first || st.Head != w.head() {
		t.Errorf("the log is %d to %d, want %d to %d", st.First, st.Head, w.first, w.head())
		return nil
	}
	damaged := map[killfeed.EventID]bool{}
	for _, d := range s.Damaged() {
		damaged[d.ID] = true
		miss("event %d: %v", d.ID, d.Err)
	}
	kept := w.events[w.first-1:]
	ids := make([]killfeed.EventID, len(kept))
	for i, e := range kept {
		ids[i] = e.ID
	}
	i := 0
	err := s.Read(ids, func(e killfeed.Event, err error) bool {
		var damage *killfeed.DamageError
		switch {
		case errors.As(err, &damage) && damage.ID == ids[i] && e.ID == ids[i]:
			damaged[e.ID] = true
			miss("event %d: %v", e.ID, err)
		case err != nil:
			t.Errorf("event %d: %v, which is no DamageError of it", ids[i], err)
		case !equal(e, kept[i].Event):
			t.Errorf("event %d is served wrong: %+v", ids[i], e)
		}
		i++
		return true
	})
	if err != nil || i != len(ids) {
		t.Errorf("read %d of %d events: %v", i, len(ids), err)
	}
	for topic, want := range topics {
		got, err := s.Find(nil, killfeed.Query{
			Positions: []killfeed.Position{{Topic: topic}}, Through: w.head(), Max: len(w.events) + 1,
		})
		if err != nil {
			miss("finding events of %s: %v", topic, err)
			continue
		}
		found := make([]killfeed.EventID, len(got))
		for i, e := range got {
			found[i] = e.ID
		}
		// An event that is damaged may be missing on its topics.
		whole := func(ids []killfeed.EventID) []killfeed.EventID {
			return slices.DeleteFunc(slices.Clone(ids), func(id killfeed.EventID) bool { return damaged[id] })
		}
		if !slices.Equal(whole(found), whole(want)) {
			t.Errorf("%s has the events %v, want %v", topic, whole(found), whole(want))
		}
	}
	for _, e := range w.events {
		switch k, ok, err := s.Known(e.KillmailID); {
		case err != nil:
			miss("killmail %d: %v", e.KillmailID, err)
		case !ok || k != e.Known:
			t.Errorf("killmail %d is known as %+v (%v), want %+v", e.KillmailID, k, ok, e.Known)
		}
	}
	return wrong
}

// spoil flips a bit in a record, below everything that checks it.
func spoil(t *testing.T, s *Store, key []byte) {
	t.Helper()
	v, closer, err := s.db.Get(key)
	if err != nil {
		t.Fatalf("record %q: %v", key, err)
	}
	v = slices.Clone(v)
	if err := closer.Close(); err != nil {
		t.Fatal(err)
	}
	v[len(v)/2] ^= 4
	if err := s.db.Set(key, v, pebble.Sync); err != nil {
		t.Fatal(err)
	}
}

// spoiled makes a store of 200 events and a client with one record spoiled, and opens it again.
func spoiled(t *testing.T, key func(w *truth, s *Store) []byte) (*truth, *Store) {
	t.Helper()
	fs := vfs.NewMem()
	w := newTruth(3)
	s := openOn(t, fs)
	w.commit(t, s, 200)
	b := w.batch(1)
	w.commitOffset(b, "someone", killfeed.System(1), 100)
	w.commitOffset(b, "someone", killfeed.System(2), 100)
	if err := s.Commit(b); err != nil {
		t.Fatal(err)
	}
	closeStore(t, s)
	s = openOn(t, fs)
	spoil(t, s, key(w, s))
	closeStore(t, s)
	s = openOn(t, fs)
	t.Cleanup(func() { closeStore(t, s) })
	return w, s
}

func mentions(t *testing.T, problems []string, want ...string) {
	t.Helper()
	for _, p := range problems {
		ok := true
		for _, w := range want {
			ok = ok && strings.Contains(p, w)
		}
		if ok {
			return
		}
	}
	t.Errorf("no problem has %q: %q", want, problems)
}

func TestDamagedEvent(t *testing.T) {
	for _, n := range []int{1, 20} { // a point read and a read with an iterator
		t.Run(fmt.Sprint(n), func(t *testing.T) {
			_, s := spoiled(t, func(*truth, *Store) []byte { return numberKey(spaceEvent, 50) })
			var ids []killfeed.EventID
			for i := range n {
				ids = append(ids, 50+killfeed.EventID(i))
			}
			i := 0
			err := s.Read(ids, func(e killfeed.Event, err error) bool {
				var damage *killfeed.DamageError
				if i == 0 && (!errors.As(err, &damage) || damage.ID != 50 || !errors.Is(err, errChecksum) || e.ID != 50 || e.Killmail != nil) {
					t.Errorf("event 50 is %+v, %v", e, err)
				} else if i > 0 && err != nil {
					t.Errorf("event %d: %v", e.ID, err)
				}
				i++
				return true
			})
			if err != nil || i != n {
				t.Errorf("read %d of %d: %v", i, n, err)
			}
			mentions(t, problems(t, s), "event 50 is damaged")
		})
	}
}

// TestDamagedEventInFeed: a client is told the gap, gets all other events, and is not held up by it.
func TestDamagedEventInFeed(t *testing.T) {
	fs := vfs.NewMem()
	w := newTruth(3)
	s := openOn(t, fs)
	w.commit(t, s, 20)
	closeStore(t, s)
	s = openOn(t, fs)
	spoil(t, s, numberKey(spaceEvent, 7))
	f, err := killfeed.Open(s, killfeed.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	ans, err := f.Fetch(context.Background(), "someone", killfeed.Read{Topics: []killfeed.Topic{killfeed.All()}})
	if err != nil {
		t.Fatal(err)
	}
	if ans.Gap == nil || *ans.Gap != (killfeed.Gap{Reason: killfeed.GapDamaged, From: 7, To: 7}) {
		t.Errorf("the gap is %v, want 7-7, damaged", ans.Gap)
	}
	if len(ans.Events) != 19 || ans.More {
		t.Errorf("%d events (more: %v), want all but event 7", len(ans.Events), ans.More)
	}
	for _, e := range ans.Events {
		if !equal(e, w.events[e.ID-1].Event) {
			t.Errorf("event %d is served wrong: %+v", e.ID, e)
		}
	}
	ans, err = f.Fetch(context.Background(), "someone", killfeed.Read{Topics: []killfeed.Topic{killfeed.All()}})
	if err != nil || len(ans.Events) > 0 || ans.Gap != nil {
		t.Errorf("the next answer is %+v, %v, want nothing", ans, err)
	}
	if f.Stats().Damaged != 1 {
		t.Errorf("%d damaged events were counted, want 1", f.Stats().Damaged)
	}
}

// TestDamagedSummary: a summary is made again from the event's record.
func TestDamagedSummary(t *testing.T) {
	for _, id := range []uint64{1, 50, 201} {
		t.Run(fmt.Sprint(id), func(t *testing.T) {
			w, s := spoiled(t, func(*truth, *Store) []byte { return numberKey(spaceSummary, id) })
			if d := s.Damaged(); len(d) != 1 || d[0].ID != killfeed.EventID(id) {
				t.Errorf("damaged are %v, want event %d", d, id)
			}
			if st := s.State(); st.Head != w.head() {
				t.Errorf("the head is %d, want %d", st.Head, w.head())
			}
			for topic, want := range w.topics() {
				if got := find(t, s, topic, 0); !slices.Equal(got, want) {
					t.Errorf("%s has the events %v, want %v", topic, got, want)
				}
			}
			mentions(t, problems(t, s), fmt.Sprintf("event %d ", id), "summary")
			w.commit(t, s, 3)
			if got := s.State().Head; got != w.head() {
				t.Errorf("the head is %d after three more, want %d", got, w.head())
			}
		})
	}
}

// TestDamagedEventAndSummary: with both gone the event is still there to be reported, and the log goes on behind it.
func TestDamagedEventAndSummary(t *testing.T) {
	w, s := spoiled(t, func(_ *truth, s *Store) []byte {
		spoil(t, s, numberKey(spaceEvent, 201))
		return numberKey(spaceSummary, 201)
	})
	if st := s.State(); st.Head != 201 {
		t.Fatalf("the head is %d, want 201", st.Head)
	}
	if d := s.Damaged(); len(d) != 1 || d[0].ID != 201 {
		t.Errorf("damaged are %v, want event 201", d)
	}
	mentions(t, problems(t, s), "event 201 is damaged")
	w.commit(t, s, 1)
}

// TestDamagedKnown: nobody can tell whether the killmail is in the log, so it is neither a duplicate nor new.
func TestDamagedKnown(t *testing.T) {
	w, s := spoiled(t, func(w *truth, _ *Store) []byte { return numberKey(spaceKnown, uint64(w.events[49].KillmailID)) })
	id := w.events[49].KillmailID
	if k, ok, err := s.Known(id); !errors.Is(err, errChecksum) {
		t.Errorf("killmail %d is known as %+v (%v), %v", id, k, ok, err)
	}
	mentions(t, problems(t, s), fmt.Sprintf("killmail %d", id), "damaged")
}

// TestDamagedOffset: the client gets events again rather than misses some, and its other offsets stand.
func TestDamagedOffset(t *testing.T) {
	_, s := spoiled(t, func(*truth, *Store) []byte { return appendTopic(offsetPrefix("someone"), killfeed.System(1)) })
	n := 0
	err := s.Clients(func(r killfeed.ClientRecord) bool {
		n++
		if r.Offsets[killfeed.System(1)] != 0 || r.Offsets[killfeed.System(2)] != 100 || len(r.Offsets) != 2 {
			t.Errorf("the offsets are %v", r.Offsets)
		}
		return true
	})
	if err != nil || n != 1 {
		t.Errorf("%d clients: %v", n, err)
	}
	mentions(t, problems(t, s), `"someone"`, "system:1", "damaged")
}

// TestDamagedClient: its offsets stand.
func TestDamagedClient(t *testing.T) {
	w, s := spoiled(t, func(*truth, *Store) []byte { return clientKey("someone") })
	n := 0
	err := s.Clients(func(r killfeed.ClientRecord) bool {
		n++
		if r.Client != "someone" || len(r.Offsets) != len(w.offsets["someone"]) || r.At.IsZero() {
			t.Errorf("the client is %+v", r)
		}
		return true
	})
	if err != nil || n != 1 {
		t.Errorf("%d clients: %v", n, err)
	}
	mentions(t, problems(t, s), `"someone"`, "damaged")
}

// TestDamagedState: without the first id, the epoch or the format nothing can be told of the log, so open refuses.
func TestDamagedState(t *testing.T) {
	for _, key := range [][]byte{keyFirst, keyEpoch, keyFormat, keyIndexed, removedKey(1)} {
		t.Run(string(key), func(t *testing.T) {
			fs := vfs.NewMem()
			w := newTruth(3)
			s := openOn(t, fs)
			w.commit(t, s, 200)
			w.remove(t, s, 100)
			closeStore(t, s)
			s = openOn(t, fs)
			spoil(t, s, key)
			if err := s.db.Flush(); err != nil {
				t.Fatal(err)
			}
			closeStore(t, s)
			if s, err := Open("data", Options{FS: fs}); err == nil {
				closeStore(t, s)
				t.Error("opened")
			} else if !errors.Is(err, errChecksum) {
				t.Error(err)
			}
		})
	}
}
