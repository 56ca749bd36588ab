package pebblestore

import (
	"archive/tar"
	"compress/gzip"
	"crypto/sha256"
	"encoding/hex"
	"flag"
	"fmt"
	"os"
	"slices"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/google/go-cmp/cmp"

	"killfeed"
)

// The directory in testdata/format2.tar.gz is what a program of format 2 left when it was killed. Every later program has to open it. It is
// made once, by the first one that has the format; a new format gets a new directory, and this one stays.
var golden = flag.String("golden", "", "write the directory of the present format to this file, and test nothing")

const format2First, format2Head = 41, 260

// format2Sum is of everything that verifyFormat2 reads.
const format2Sum = "6b390a0d831712e26fd39e6780b2a5d5b9463af760cdc6c12e51540e79f8c5ea"

// makeFormat2 leaves a directory behind as the end of a process would: chunks of the older events, none of the newest; removed events;
// updates and backfill; clients with offsets of every kind of topic; a source's place.
func makeFormat2(t *testing.T) *vfs.MemFS {
	t.Helper()
	fs := vfs.NewMem()
	w := newTruth(22)
	s, err := Open("data", Options{FS: fs, MinFree: 1, generation: 64, Epoch: "0f0f2222"})
	if err != nil {
		t.Fatal(err)
	}
	for i := range 26 {
		b := w.batch(10)
		switch i {
		case 10:
			w.commitOffset(b, "all", killfeed.All(), 70)
			b.Checkpoints = []killfeed.Checkpoint{{Source: "r2z2", Place: "1234"}}
		case 12:
			w.commitOffset(b, "many", killfeed.System(3), 100)
			w.commitOffset(b, "many", killfeed.Label("l1"), 90)
			w.commitOffset(b, "many", killfeed.Topic{Kind: killfeed.KindShip | killfeed.RoleLoss, ID: 501}, 80)
		case 20:
			w.remove(t, s, format2First-1)
		}
		if err := s.Commit(b); err != nil {
			t.Fatal(err)
		}
		if i == 15 {
			flush(s)
		}
	}
	left := copyOf(t, fs)
	closeStore(t, s)
	return left
}

// verifyFormat2 reads everything.
func verifyFormat2(t *testing.T, s *Store) {
	t.Helper()
	st := s.State()
	if st.Epoch != "0f0f2222" || st.First != format2First || st.Head != format2Head {
		t.Fatalf("the log is %+v", st)
	}
	sum := sha256.New()
	var ids []killfeed.EventID
	for id := st.First; id <= st.Head; id++ {
		ids = append(ids, id)
	}
	topics := map[killfeed.Topic][]killfeed.EventID{}
	err := s.Read(ids, func(e killfeed.Event, err error) bool {
		if err != nil {
			t.Fatalf("event %d: %v", e.ID, err)
		}
		fmt.Fprintln(sum, e.ID, e.SystemID, e.KillmailID, e.Marks, e.MirrorSeq, e.ReceivedAt.UnixMilli(), e.KilledAt.Unix(), string(e.Killmail))
		k, err := killfeed.NewKillmail(e.SystemID, slices.Clone(e.Killmail))
		if err != nil {
			t.Fatal(err)
		}
		for _, topic := range k.Topics {
			topics[topic] = append(topics[topic], e.ID)
		}
		return true
	})
	if err != nil {
		t.Fatal(err)
	}
	for topic, want := range topics {
		if got := find(t, s, topic, 0); !slices.Equal(got, want) {
			t.Errorf("%s has the events %v, want %v", topic, got, want)
		}
	}
	for id := range int64(format2Head + 5) { // killmail ids are as the events, and those that were removed are known too
		k, ok, err := s.Known(id)
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprintln(sum, id, k, ok)
	}
	for system := range uint32(7) {
		fmt.Fprintln(sum, system, s.Removed(killfeed.System(system)))
	}
	got := map[string]map[string]killfeed.EventID{}
	err = s.Clients(func(r killfeed.ClientRecord) bool {
		got[r.Client] = map[string]killfeed.EventID{}
		for topic, at := range r.Offsets {
			got[r.Client][topic.String()] = at
		}
		return true
	})
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(map[string]map[string]killfeed.EventID{
		"all":  {"all": 70},
		"many": {"system:3": 100, "label:l1": 90, "loss:ship:501": 80},
	}, got); d != "" {
		t.Errorf("offsets differ (-want +got):\n%s", d)
	}
	if place, err := s.Checkpoint("r2z2"); place != "1234" || err != nil {
		t.Errorf("the place is %q, %v", place, err)
	}
	if got := hex.EncodeToString(sum.Sum(nil)); got != format2Sum {
		t.Errorf("what is read has the checksum %s, want %s", got, format2Sum)
	}
	check(t, s)
}

// TestFormat2 opens what a program of format 2 left, goes on with it, and opens that again.
func TestFormat2(t *testing.T) {
	if *golden != "" {
		pack(t, makeFormat2(t), *golden)
		return
	}
	fs := unpack(t, "testdata/format2.tar.gz")
	s, err := Open("data", Options{FS: copyOf(t, fs), ReadOnly: true})
	if err != nil {
		t.Fatal(err)
	}
	verifyFormat2(t, s)
	closeStore(t, s)
	for range 2 { // after the end of a process, and after a close
		s = openOn(t, fs)
		verifyFormat2(t, s)
		closeStore(t, s)
	}
	s = openOn(t, fs)
	if err := s.Commit(&killfeed.Batch{Offsets: []killfeed.Offset{{Client: "all", Topic: killfeed.All(), At: 80}}}); err != nil {
		t.Fatal(err)
	}
	check(t, s)
	closeStore(t, s)
}

// pack writes the files of "data" to an archive.
func pack(t *testing.T, fs vfs.FS, name string) {
	t.Helper()
	f, err := os.Create(name)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	z, _ := gzip.NewWriterLevel(f, gzip.BestCompression)
	a := tar.NewWriter(z)
	names, err := fs.List("data")
	if err != nil {
		t.Fatal(err)
	}
	slices.Sort(names)
	for _, name := range names {
		if name == "LOCK" {
			continue
		}
		content := readFile(t, fs, "data/"+name)
		if err := a.WriteHeader(&tar.Header{Name: name, Mode: 0o640, Size: int64(len(content)), ModTime: base}); err != nil {
			t.Fatal(err)
		}
		if _, err := a.Write(content); err != nil {
			t.Fatal(err)
		}
	}
	if err := a.Close(); err != nil {
		t.Fatal(err)
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
}
