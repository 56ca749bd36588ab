package pebblestore

import (
	"encoding/hex"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/google/go-cmp/cmp"

	"killfeed"
)

// TestFormat fixes every key and record byte by byte. When it fails, stores that exist cannot be read any more: such a change
// needs a new format version and a way from the old one.
func TestFormat(t *testing.T) {
	fs := vfs.NewMem()
	s := openOn(t, fs)
	key := []byte("sepoch") // an epoch that is not random
	epoch := []byte("0123abcd\x00\x00\x00\x00")
	seal(key, epoch)
	if err := s.db.Set(key, epoch, pebble.Sync); err != nil {
		t.Fatal(err)
	}
	at := time.Date(2026, 11, 23, 18, 0, 0, 123e6, time.UTC)
	event := func(id killfeed.EventID, system uint32, text string, marks killfeed.Marks, mirror uint64) killfeed.NewEvent {
		k, err := killfeed.NewKillmail(system, []byte(text))
		if err != nil {
			t.Fatal(err)
		}
		return killfeed.NewEvent{
			Event: killfeed.Event{
				ID: id, SystemID: system, Killmail: k.JSON, KillmailID: k.ID, KilledAt: k.Time, Marks: marks,
				ReceivedAt: at.Add(time.Duration(id) * time.Second), MirrorSeq: mirror,
			},
			Topics: k.Topics, Known: killfeed.Known{First: min(id, 2), Latest: id, Digest: k.Digest},
		}
	}
	err := s.Commit(&killfeed.Batch{
		Events: []killfeed.NewEvent{
			event(1, 1, `{}`, 0, 1),
			event(2, 30000142, `{"killmail_id":99,"killmail_time":"2026-11-23T17:59:00Z","victim":{"ship_type_id":587}}`, 0, 2),
			event(3, 30000142, `{"killmail_id":99,"zkb":{"labels":["solo"]}}`, killfeed.MarkUpdate|killfeed.MarkBackfill, 2),
			event(4, 30000142, `{"victim":{"ship_type_id":587},"attackers":[{"ship_type_id":587}]}`, killfeed.MarkBackfill, 2),
		},
		Offsets: []killfeed.Offset{
			{Client: "foo", Topic: killfeed.System(30000142), At: 2},
			{Client: "foo", Topic: killfeed.Label("solo"), At: 1},
			{Client: "foo", Topic: killfeed.All(), At: 3},
			{Client: "foo", Topic: killfeed.Topic{Kind: killfeed.KindShip | killfeed.RoleKill, ID: 587}, At: 4},
			{Client: "foo", Topic: killfeed.Topic{Kind: killfeed.KindSpace, ID: uint32(killfeed.SpaceHigh)}, At: 4},
		},
		Seen:        []killfeed.ClientSeen{{Client: "foo", Created: at, At: at.Add(time.Minute)}},
		Checkpoints: []killfeed.Checkpoint{{Source: "r2z2", Place: "17"}},
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Remove(1); err != nil {
		t.Fatal(err)
	}
	closeStore(t, s) // writes the index of participants
	s = openOn(t, fs)
	compare(t, s, `
		c "foo"                          : 000001a20990957b 000001a209917fdb f123ccfa
		e 0000000000000002               : 01 00 01c9c40e 000001a209909d4b 000000006b047ee4 0000000000000002 0000000000000063
		  "{'killmail_id':99,'killmail_time':'2026-11-23T17:59:00Z','victim':{'ship_type_id':587}}" e0740987
		e 0000000000000003               : 01 03 01c9c40e 000001a20990a133 0000000000000000 0000000000000002 0000000000000063
		  "{'killmail_id':99,'zkb':{'labels':['solo']}}" bd92b97d
		e 0000000000000004               : 01 02 01c9c40e 000001a20990a51b 0000000000000000 0000000000000002 0000000000000000
		  "{'victim':{'ship_type_id':587},'attackers':[{'ship_type_id':587}]}" 323c0ad6
		i 00000000 08 "solo" 00 0000000000000003 : 01 16e1a55c
		i 00000000 47 0000024b 0000000000000002  : 02 02 010e0761
		i 00000000 87 0000024b 0000000000000004  : 01 f0191899
		k 0000000000000063               : 0000000000000002 0000000000000003 60000000b9f531ea c4edf62b
		m 0000000000000002               : 01 00 01c9c40e 000001a209909d4b 000000006b047ee4 0000000000000002 00000081 d14265ed
		m 0000000000000003               : 01 03 01c9c40e 000001a20990a133 0000000000000000 0000000000000002 00000056 eeb8d500
		m 0000000000000004               : 01 02 01c9c40e 000001a20990a51b 0000000000000000 0000000000000002 0000006c b39a9557
		o "foo" 00 01                    : 0000000000000003 128cddf3
		o "foo" 00 02 01c9c40e           : 0000000000000002 82f796be
		o "foo" 00 08 "solo" 00          : 0000000000000001 b63490cd
		o "foo" 00 0b 00000001           : 0000000000000004 925aa894
		o "foo" 00 87 0000024b           : 0000000000000004 ddb78601
		p "r2z2"                         : "17" a1d90b40
		r 00000001                       : 0000000000000001 d2cfd2ac
		s "epoch"                        : "0123abcd" 299eed95
		s "first"                        : 0000000000000002 493cfc72
		s "format"                       : 0000000000000002 df247ec1
		s "indexed"                      : 0000000000000004 3c24d303
		`)
	if err := s.Remove(4); err != nil {
		t.Fatal(err)
	}
	compare(t, s, `
		c "foo"                          : 000001a20990957b 000001a209917fdb f123ccfa
		i 00000000 08 "solo" 00 0000000000000003 : 01 16e1a55c
		i 00000000 47 0000024b 0000000000000002  : 02 02 010e0761
		i 00000000 87 0000024b 0000000000000004  : 01 f0191899
		k 0000000000000063               : 0000000000000002 0000000000000003 60000000b9f531ea c4edf62b
		o "foo" 00 01                    : 0000000000000003 128cddf3
		o "foo" 00 02 01c9c40e           : 0000000000000002 82f796be
		o "foo" 00 08 "solo" 00          : 0000000000000001 b63490cd
		o "foo" 00 0b 00000001           : 0000000000000004 925aa894
		o "foo" 00 87 0000024b           : 0000000000000004 ddb78601
		p "r2z2"                         : "17" a1d90b40
		r 00000001                       : 0000000000000001 d2cfd2ac
		r 01c9c40e                       : 0000000000000004 629d92ce
		s "epoch"                        : "0123abcd" 299eed95
		s "first"                        : 0000000000000005 9df69899
		s "format"                       : 0000000000000002 df247ec1
		s "indexed"                      : 0000000000000004 3c24d303
		s "mirror"                       : 0000000000000002 f445d416
		s "received"                     : 000001a20990a51b 3d59c97e
		`)
	closeStore(t, s)
}

// TestFormatOfLegacy fixes what stands there while the past of another node is adopted, and afterwards.
func TestFormatOfLegacy(t *testing.T) {
	s, err := Open("data", Options{FS: vfs.NewMem(), MinFree: 1, Epoch: "0123abcd"})
	if err != nil {
		t.Fatal(err)
	}
	defer closeStore(t, s)
	at := time.Date(2026, 11, 23, 18, 0, 0, 123e6, time.UTC)
	adopt(t, s, killfeed.Legacy{
		Killmails:   []killfeed.PastKillmail{{ID: 99, Known: killfeed.Known{First: 2, Latest: 9, Digest: 1 << 63}}},
		Systems:     []killfeed.PastSystem{{System: 30000142, Last: 4}, {System: 1, Last: 3}},
		Checkpoints: []killfeed.Checkpoint{{Source: "cluster", Place: "4"}},
	})
	compare(t, s, `
		k 0000000000000063               : 0000000000000002 0000000000000009 8000000000000000 c8eb0e73
		p "cluster"                      : "4" f491e3ec
		s "epoch"                        : "0123abcd" 299eed95
		s "format"                       : 0000000000000002 df247ec1
		s "legacy"                       : 0000000000000009 00000001 0000000000000003 01c9c40e 0000000000000004 f57794c5
		`)
	adopt(t, s, killfeed.Legacy{At: &killfeed.PastEnd{ID: 4, MirrorSeq: 2, ReceivedAt: at.Add(4 * time.Second)}})
	compare(t, s, `
		k 0000000000000063               : 0000000000000002 0000000000000009 8000000000000000 c8eb0e73
		p "cluster"                      : "4" f491e3ec
		r 00000001                       : 0000000000000003 33f4a25b
		r 01c9c40e                       : 0000000000000004 629d92ce
		s "epoch"                        : "0123abcd" 299eed95
		s "first"                        : 0000000000000005 9df69899
		s "format"                       : 0000000000000002 df247ec1
		s "legacy"                       : 0000000000000009 b1e49129
		s "mirror"                       : 0000000000000002 f445d416
		s "received"                     : 000001a20990a51b 3d59c97e
		`)
	adopt(t, s, killfeed.Legacy{At: &killfeed.PastEnd{ID: 9, MirrorSeq: 2, ReceivedAt: at.Add(4 * time.Second)}})
	err = s.get(keyLegacy, func([]byte) error { return nil })
	if !errors.Is(err, pebble.ErrNotFound) {
		t.Errorf("nothing waits any more, and its record is still there: %v", err)
	}
}

// compare compares all records with want: a line each, or two, the key and the value with a colon between, the first byte as
// a letter, texts in quotes and with single quotes in them, all else in hex.
func compare(t *testing.T, s *Store, want string) {
	t.Helper()
	plain := func(text string) string {
		var b strings.Builder
		for i, part := range strings.Split(text, `"`) {
			if i%2 == 1 {
				b.WriteString(hex.EncodeToString([]byte(strings.ReplaceAll(part, "'", `"`))))
			} else {
				b.WriteString(strings.Join(strings.Fields(part), ""))
			}
		}
		return b.String()
	}
	var wants, got []string
	for line := range strings.Lines(strings.TrimSpace(want)) {
		line = strings.TrimSpace(line)
		if line[0] == '"' { // goes on from the line before
			wants[len(wants)-1] += plain(line)
			continue
		}
		wants = append(wants, line[:1]+" "+plain(line[1:]))
	}
	err := s.scan([]byte{0}, []byte{255}, func(key, value []byte) error {
		got = append(got, string(key[:1])+" "+hex.EncodeToString(key[1:])+":"+hex.EncodeToString(value))
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(wants, got); d != "" {
		t.Errorf("records differ (-want +got):\n%s", d)
	}
}

// TestFormatOfMarks fixes what stands in the file of marks.
func TestFormatOfMarks(t *testing.T) {
	var got [markSize]byte
	putMark(got[:], parseLog("000012.log"), 81920)
	want := "77" + "000000000000000c" + "0000000000014000"
	if got := hex.EncodeToString(got[:]); got[:len(want)] != want || len(got) != len(want)+8 {
		t.Errorf("a mark is %s, want %s and a checksum", got, want)
	}
	for _, name := range []string{"000012.log", "MANIFEST-000001", "1234567.log"} {
		if l := parseLog(name); l.String() != name {
			t.Errorf("%s is taken for %+v, %s", name, l, l)
		}
	}
	for _, name := range []string{"000012.sst", "MANIFEST-", "LOCK", "marker.manifest.000001.MANIFEST-000001", "x.log", "SYNCED"} {
		if l := parseLog(name); l != (logName{}) {
			t.Errorf("%s is taken for the log %s", name, l)
		}
	}
}
