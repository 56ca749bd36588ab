package pebblestore

import (
	"archive/tar"
	"bytes"
	"cmp"
	"compress/gzip"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"
	gocmp "github.com/google/go-cmp/cmp"

	"killfeed"
)

// format1 puts what a program of format 1 left when it was killed into the directory "data": events 31 to 250, of which two are
// versions of one killmail; chunks of most of them, none of the newest; two clients.
func format1(t testing.TB) *vfs.MemFS {
	t.Helper()
	return unpack(t, "testdata/format1.tar.gz")
}

// unpack puts the files of an archive into the directory "data".
func unpack(t testing.TB, archive string) *vfs.MemFS {
	t.Helper()
	f, err := os.Open(archive)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	z, err := gzip.NewReader(f)
	if err != nil {
		t.Fatal(err)
	}
	fs := vfs.NewCrashableMem()
	for r := tar.NewReader(z); ; {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		content, err := io.ReadAll(r)
		if err != nil {
			t.Fatal(err)
		}
		if err := errors.Join(fs.MkdirAll("data", 0o750), write(fs, "data/"+h.Name, content)); err != nil {
			t.Fatal(err)
		}
	}
	for _, dir := range []string{"data", "/"} {
		if err := syncDir(fs, dir); err != nil {
			t.Fatal(err)
		}
	}
	return fs
}

func write(fs vfs.FS, name string, content []byte) error {
	f, err := fs.Create(name, vfs.WriteCategoryUnspecified)
	if err != nil {
		return err
	}
	_, err = f.Write(content)
	return errors.Join(err, f.Sync(), f.Close())
}

func syncDir(fs vfs.FS, name string) error {
	d, err := fs.OpenDir(name)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

const format1First, format1Head = 31, 250

// verifyFormat1 compares the index with what encoding/json finds in the killmails, and the rest with what is known of it.
func verifyFormat1(t *testing.T, s *Store) {
	t.Helper()
	st := s.State()
	if st.Epoch != "592b740b" || st.First != format1First || st.Head != format1Head {
		t.Fatalf("the log is %+v", st)
	}
	type party map[string]any
	type topics map[killfeed.Topic][]killfeed.EventID
	apart, together := topics{}, topics{} // by role, and as format 1 had it
	var ids []killfeed.EventID
	for id := st.First; id <= st.Head; id++ {
		ids = append(ids, id)
	}
	err := s.Read(ids, func(e killfeed.Event, err error) bool {
		var mail struct {
			Victim    party
			Attackers []party
			ZKB       struct{ Labels []string }
		}
		if err := cmp.Or(err, json.Unmarshal(e.Killmail, &mail)); err != nil {
			t.Fatalf("event %d: %v", e.ID, err)
		}
		note := func(all topics, topic killfeed.Topic) {
			if of := all[topic]; len(of) == 0 || of[len(of)-1] != e.ID {
				all[topic] = append(of, e.ID)
			}
		}
		took := func(p party, role killfeed.TopicKind) {
			for i, name := range []string{"character_id", "corporation_id", "alliance_id", "faction_id", "ship_type_id"} {
				if id, ok := p[name].(float64); ok && id > 0 {
					plain := killfeed.Topic{Kind: killfeed.KindCharacter + killfeed.TopicKind(i), ID: uint32(id)}
					note(together, plain)
					note(apart, killfeed.Topic{Kind: plain.Kind | role, ID: plain.ID})
				}
			}
		}
		took(mail.Victim, killfeed.RoleLoss)
		for _, attacker := range mail.Attackers {
			took(attacker, killfeed.RoleKill)
		}
		for _, label := range mail.ZKB.Labels {
			note(apart, killfeed.Label(label))
		}
		return true
	})
	if err != nil {
		t.Fatal(err)
	}
	for topic, want := range apart {
		if got := find(t, s, topic, 0); !slices.Equal(got, want) {
			t.Errorf("%s has the events %v, want %v", topic, got, want)
		}
	}
	both := 0
	for topic, want := range together {
		q := killfeed.Query{Through: st.Head, Max: int(st.Head)}
		for _, role := range []killfeed.TopicKind{killfeed.RoleLoss, killfeed.RoleKill} {
			q.Positions = append(q.Positions, killfeed.Position{Topic: killfeed.Topic{Kind: topic.Kind | role, ID: topic.ID}})
		}
		entries, err := s.Find(nil, q)
		if err != nil {
			t.Fatal(err)
		}
		var got []killfeed.EventID
		for _, e := range entries {
			got = append(got, e.ID)
		}
		got = slices.Compact(got)
		both += len(entries) - len(got)
		if !slices.Equal(got, want) {
			t.Errorf("%s, lost or killed, has the events %v, want %v", topic, got, want)
		}
		if got := find(t, s, topic, 0); len(got) > 0 {
			t.Errorf("the index still has the events %v under %s", got, topic)
		}
	}
	if both == 0 || len(together) < 50 {
		t.Errorf("%d topics, with %d events that are on both sides: the data tests nothing", len(together), both)
	}
	offsets := map[string]string{}
	if err := s.Clients(func(r killfeed.ClientRecord) bool {
		var all []string
		for topic, at := range r.Offsets {
			all = append(all, fmt.Sprint(topic, " ", uint64(at)))
		}
		slices.Sort(all)
		offsets[r.Client] = strings.Join(all, ", ")
		return true
	}); err != nil {
		t.Fatal(err)
	}
	if d := gocmp.Diff(map[string]string{
		"all":     "all 200",
		"by ship": "character:90000001 30, corporation:98000001 150, label:solo 55, ship:587 100",
	}, offsets); d != "" {
		t.Errorf("offsets differ (-want +got):\n%s", d)
	}
	check(t, s)
}

// TestFormat1 opens what a program of format 1 left: all is there, kills are told from losses, and it is of format 2 for good.
func TestFormat1(t *testing.T) {
	fs := format1(t)
	var log bytes.Buffer
	open := func() *Store {
		t.Helper()
		log.Reset()
		s, err := Open("data", Options{FS: fs, MinFree: 1, generation: 64, Logger: slog.New(slog.NewTextHandler(&log, nil))})
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	s := open()
	if !strings.Contains(log.String(), "made anew") || !strings.Contains(log.String(), "events=220") {
		t.Errorf("an operator is told %q", log.String())
	}
	verifyFormat1(t, s)
	closeStore(t, s)

	s = open()
	if log.Len() > 0 {
		t.Errorf("opened again, it tells %q", log.String())
	}
	if n, err := s.number(keyFormat, 0); n != formatVersion || err != nil {
		t.Errorf("the format is %d (%v), want %d", n, err, formatVersion)
	}
	if s.index.indexed != format1Head {
		t.Errorf("the index reaches to %d, want %d", s.index.indexed, format1Head)
	}
	verifyFormat1(t, s)

	k, err := killfeed.ParseItem([]byte(
		`{"killmail_id":7,"solar_system_id":1,"victim":{"ship_type_id":9},"attackers":[{"ship_type_id":9}]}`))
	if err != nil {
		t.Fatal(err)
	}
	st := s.State()
	e := killfeed.Event{
		ID: st.Head + 1, SystemID: 1, ReceivedAt: st.LastReceived, Killmail: k.JSON, KillmailID: 7, MirrorSeq: st.MirrorSeq + 1,
	}
	if err := s.Commit(&killfeed.Batch{Events: []killfeed.NewEvent{
		{Event: e, Topics: k.Topics, Known: killfeed.Known{First: e.ID, Latest: e.ID, Digest: k.Digest}},
	}}); err != nil {
		t.Fatal(err)
	}
	for _, role := range []killfeed.TopicKind{killfeed.RoleLoss, killfeed.RoleKill} {
		if got := find(t, s, killfeed.Topic{Kind: killfeed.KindShip | role, ID: 9}, 0); !slices.Equal(got, []killfeed.EventID{e.ID}) {
			t.Errorf("what comes after is found as %v", got)
		}
	}
	check(t, s)
	closeStore(t, s)
}

// TestFormat1ReadOnly: a check changes nothing, and is a check of format 1.
func TestFormat1ReadOnly(t *testing.T) {
	fs := format1(t)
	open := func(readOnly bool) *Store {
		t.Helper()
		s, err := Open("data", Options{FS: fs, MinFree: 1, generation: 64, ReadOnly: readOnly})
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	s := open(true)
	check(t, s)
	if s.index.indexed == 0 || s.index.indexed == format1Head {
		t.Errorf("chunks are there up to event %d of %d: the data tests too little", s.index.indexed, format1Head)
	}
	kills := killfeed.Position{Topic: killfeed.Topic{Kind: killfeed.KindShip | killfeed.RoleKill, ID: 587}}
	q := killfeed.Query{Through: format1Head, Max: 1, Positions: []killfeed.Position{kills}}
	if found, err := s.Find(nil, q); err == nil {
		t.Errorf("kills are found without an index of them: %v", found)
	}
	if ids := find(t, s, killfeed.Label("solo"), 0); len(ids) == 0 {
		t.Error("labels are not found")
	}
	closeStore(t, s)
	s = open(true)
	if n, err := s.number(keyFormat, 0); n != 1 || err != nil {
		t.Errorf("the format is %d (%v) after a check, want 1", n, err)
	}
	closeStore(t, s)

	// A check of format 1 finds what is wrong in an index of format 1: here, that of format 2.
	s = open(false)
	if err := s.db.Set(keyFormat, putNumber(keyFormat, 1), pebble.Sync); err != nil {
		t.Fatal(err)
	}
	closeStore(t, s)
	s = open(true)
	if found := problems(t, s); len(found) != 1 || !strings.Contains(found[0], "index of participants") {
		t.Errorf("a check finds %q", found)
	}
	closeStore(t, s)
	s = open(false)
	verifyFormat1(t, s)
	closeStore(t, s)
}

// TestFormat1Crash cuts the power at every file operation of the first open of a directory of format 1, and again at the next.
func TestFormat1Crash(t *testing.T) {
	rnd := rand.New(rand.NewPCG(1, 5))
	// crash opens, and returns what survives a crash at the operation at, nil when there are fewer.
	crash := func(fs *vfs.MemFS, at int64) (survivor *vfs.MemFS) {
		t.Helper()
		var ops atomic.Int64
		cfg := vfs.CrashCloneCfg{UnsyncedDataPercent: 25 * rnd.IntN(5), RNG: rand.New(rand.NewPCG(rnd.Uint64(), 6))}
		s := openOn(t, errorfs.Wrap(fs, errorfs.InjectorFunc(func(op errorfs.Op) error {
			if op.Kind.ReadOrWrite() == errorfs.OpIsWrite && ops.Add(1) == at {
				survivor = fs.CrashClone(cfg)
			}
			return nil
		})))
		closeStore(t, s)
		return survivor
	}
	for at := int64(1); ; at += every() {
		fs := crash(format1(t), at)
		if fs == nil {
			if at < 20 {
				t.Fatalf("only %d operations", at)
			}
			return
		}
		if again := crash(fs, 1+rnd.Int64N(40)); again != nil {
			fs = again
		}
		s := openOn(t, fs)
		if verifyFormat1(t, s); t.Failed() {
			t.Fatalf("after a crash at operation %d", at)
		}
		closeStore(t, s)
	}
}

// BenchmarkOpenFormat1 opens 100,000 events of format 1: it makes their index.
func BenchmarkOpenFormat1(b *testing.B) {
	dir := b.TempDir()
	s, err := Open(dir, Options{})
	if err != nil {
		b.Fatal(err)
	}
	mails := made(100_000)
	f, err := killfeed.Open(s, killfeed.Options{})
	if err != nil {
		b.Fatal(err)
	}
	for i := 0; i < len(mails); i += 500 {
		if _, err := f.InsertAll(b.Context(), mails[i:i+500], 0); err != nil {
			b.Fatal(err)
		}
	}
	if err := f.Close(); err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		b.StopTimer()
		s, err := Open(dir, Options{})
		if err != nil {
			b.Fatal(err)
		}
		if err := s.db.Set(keyFormat, putNumber(keyFormat, 1), pebble.Sync); err != nil {
			b.Fatal(err)
		}
		closeStore(b, s)
		b.StartTimer()
		if s, err = Open(dir, Options{}); err != nil {
			b.Fatal(err)
		}
		b.StopTimer()
		closeStore(b, s)
		b.StartTimer()
	}
}
