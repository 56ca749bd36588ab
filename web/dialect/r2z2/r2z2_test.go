package r2z2

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"encoding/json"
	"fmt"
	"io"
	"net/http/httptest"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"killfeed"
	"killfeed/storetest"
)

// esiBody is what ESI gives of a made-up killmail.
func esiBody(m storetest.Mail) string {
	m.ZKB, m.Labels, m.NoHash = false, nil, true
	return string(m.AppendJSON(nil))
}

// fileOf is the file of a made-up killmail that has a hash in its zkb, and nothing else.
func fileOf(m storetest.Mail, n uint64, at int64, more string) string {
	return fmt.Sprintf(`{"killmail_id":%d,"hash":"%s","esi":%s,"zkb":{"hash":"%[2]s","href":"https://esi.evetech.net/killmails/%[1]d/%[2]s/"},`+
		`"uploaded_at":%[4]d,"sequence_id":%d%s}`, m.ID, m.Hash(), esiBody(m), at, n, more)
}

func TestFiles(t *testing.T) {
	const at = 1_800_000_000
	s := newServer(t, killfeed.Options{Wall: fixed(at)})
	defer func() { s.close() }()
	s.is("/ephemeral/sequence.json", 200, `{"sequence":0,"sequence_id":0}`, "public, max-age=1")
	for _, name := range []string{"0", "1"} {
		s.is("/ephemeral/"+name+".json", 404, `{"error":"not there yet: the newest number is 0"}`, "public, max-age=1")
	}
	one, two, old := s.mail(), s.mail(), s.mail()
	s.insert(0, one)
	s.insert(killfeed.MarkBackfill, old)
	s.insert(0, two)
	for range 2 {
		s.is("/ephemeral/sequence.json", 200, `{"sequence":2,"sequence_id":2}`, "public, max-age=1")
		s.is("/ephemeral/0.json", 200, fileOf(one, 0, at, ""), "public, max-age=60")
		s.is("/ephemeral/1.json", 200, fileOf(one, 1, at, ""), "public, max-age=60")
		s.is("/ephemeral/2.json/", 200, fileOf(two, 2, at, ""), "public, max-age=60")
		s.is("/ephemeral/3.json", 404, `{"error":"not there yet: the newest number is 2"}`, "public, max-age=1")
		s.restart()
	}
	for _, name := range []string{
		"00.json", "-1.json", "01.json", "+1.json", "1", "1.JSON", "x.json", ".json", "1.0.json", "1e3.json", "9007199254740993.json",
		"99999999999999999999999.json", "%20.json", "1.json%00",
	} {
		s.is("/ephemeral/"+name, 404, "", "public, max-age=300")
	}
	s.is("/ephemeral/9007199254740992.json", 404, "", "public, max-age=1")

	// An update rewrites the file, and the next one says so.
	first := s.get("/ephemeral/1.json").Header().Get("Etag")
	if w := s.get("/ephemeral/1.json", "If-None-Match", `"x", W/`+first); w.Code != 304 || w.Body.Len() > 0 || w.Header().Get("Etag") != first {
		t.Errorf("unchanged: status %d with %d bytes, want 304", w.Code, w.Body.Len())
	}
	s.insert(0, labelled(one, 3))
	s.is("/ephemeral/sequence.json", 200, `{"sequence":2,"sequence_id":2}`, "public, max-age=1")
	if w := s.get("/ephemeral/1.json", "If-None-Match", first); w.Code != 200 {
		t.Errorf("rewritten: status %d, want 200", w.Code)
	}
	if f := s.file(1); len(f.ZKB.Labels) != 3 || f.UploadedAt != at+1 || f.SequenceUpdated != 0 {
		t.Errorf("the file after an update is %+v", f)
	}
	s.insert(0, s.mail(), s.mail())
	if f := s.file(3); f.SequenceUpdated != 1 {
		t.Errorf("the first file after an update announces %d, want 1", f.SequenceUpdated)
	}
	if f := s.file(4); f.SequenceUpdated != 0 {
		t.Errorf("the file after it announces %d, want nothing", f.SequenceUpdated)
	}

	if w := s.do(httptest.NewRequest("HEAD", "/ephemeral/1.json", nil)); w.Code != 200 || w.Body.Len() > 0 || w.Header().Get("Etag") == "" {
		t.Errorf("HEAD: status %d with %d bytes", w.Code, w.Body.Len())
	}
	w := s.get("/ephemeral/2.json", "Accept-Encoding", "gzip")
	plain, err := gzip.NewReader(w.Body)
	if err != nil {
		t.Fatalf("it is not packed: %v", err)
	}
	if got, err := io.ReadAll(plain); err != nil || string(got) != fileOf(two, 2, at, "") {
		t.Errorf("unpacked it is %s (%v)", got, err)
	}
}

func TestRetention(t *testing.T) {
	s := newServer(t, killfeed.Options{})
	defer s.close()
	for range 3 {
		s.insert(0, s.mail())
	}
	updated := s.mail()
	s.insert(0, updated, s.mail())
	s.insert(0, labelled(updated, 1), s.mail())
	if f := s.file(6); f.SequenceUpdated != 4 {
		t.Errorf("number %d is announced, want 4", f.SequenceUpdated)
	}
	if err := s.model.Remove(4); err != nil {
		t.Fatal(err)
	}
	s.is("/ephemeral/0.json", 404, `{"error":"not kept any more: /history may have the killmail"}`, "public, max-age=300")
	s.is("/ephemeral/4.json", 404, `{"error":"not kept any more: /history may have the killmail"}`, "public, max-age=300")
	s.file(5)
	if f := s.file(6); f.SequenceUpdated != 0 {
		t.Errorf("number %d is announced, which is gone", f.SequenceUpdated)
	}
	s.is("/ephemeral/sequence.json", 200, `{"sequence":6,"sequence_id":6}`, "public, max-age=1")
}

// What no file can show leaves no hole.
func TestNothingToShow(t *testing.T) {
	s := newServer(t, killfeed.Options{})
	defer s.close()
	s.other(`{"no":"id"}`)
	s.is("/ephemeral/1.json", 404, "", "public, max-age=1")
	one, two, three := s.mail(), s.mail(), s.mail()
	s.insert(0, one)                                  // 2
	s.other(`{"no":"id"}`)                            // 3
	s.other(`{"killmail_id":7,"and":"no hash"}`)      // 4
	s.insert(0, two, three)                           // 5, 6
	s.other(`{"killmail_id":8,"zkb":{"points":1.5}}`) // 7
	s.model.Damage(6)
	for n, want := range map[uint64]int64{2: one.ID, 3: one.ID, 4: one.ID, 5: two.ID, 6: two.ID, 7: two.ID} {
		if f := s.file(n); f.KillmailID != want {
			t.Errorf("number %d shows killmail %d, want %d", n, f.KillmailID, want)
		}
	}
	// A hash that comes later makes a file of its own.
	k, err := killfeed.ParseItem([]byte(`{"killmail_id":7,"solar_system_id":5,"zkb":{"hash":"` + strings.Repeat("a", 40) + `"}}`))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.feed.InsertAll(t.Context(), []*killfeed.Killmail{k}, 0); err != nil {
		t.Fatal(err)
	}
	if f := s.file(4); f.KillmailID != 7 {
		t.Errorf("number 4 shows killmail %d, want 7", f.KillmailID)
	}
	s.insert(0, s.mail())
	if f := s.file(8); f.SequenceUpdated != 4 {
		t.Errorf("number 8 announces %d, want 4", f.SequenceUpdated)
	}
}

// Which file announces which update is the same for a naive reading of the rule, whenever it is asked for, and after a restart.
func TestAnnounced(t *testing.T) {
	rapid.Check(t, func(r *rapid.T) {
		s := newServer(t, killfeed.Options{})
		defer func() { s.close() }()
		size := killfeed.EventID(rapid.IntRange(2, 12).Draw(r, "size"))
		dialect := func() *updates { return &updates{feed: s.feed, size: size, blocks: map[killfeed.EventID]*updated{}} }
		asked := dialect() // all along
		type known struct {
			mail   storetest.Mail
			labels int
			number uint64 // 0: it came by backfill
		}
		type event struct{ number, of uint64 } // a file, or an update of one
		var (
			mails  []known
			log    []event
			number uint64
		)
		want := map[uint64]uint64{}
		for range rapid.IntRange(1, 60).Draw(r, "events") {
			switch kind := rapid.SampledFrom([]string{"file", "file", "update", "update", "backfill", "backfilled update"}).Draw(r, "kind"); {
			case kind == "file" || kind == "backfill" || len(mails) == 0:
				m := known{mail: s.mail()}
				if kind == "backfill" {
					s.insert(killfeed.MarkBackfill, m.mail)
					log = append(log, event{})
				} else {
					s.insert(0, m.mail)
					number++
					m.number = number
					log = append(log, event{number: number})
				}
				mails = append(mails, m)
			default:
				m := &mails[rapid.IntRange(0, len(mails)-1).Draw(r, "which")]
				m.labels++
				marks := killfeed.Marks(0)
				if kind == "backfilled update" {
					marks = killfeed.MarkBackfill
				}
				s.insert(marks, labelled(m.mail, m.labels))
				log = append(log, event{of: m.number + 1_000_000})
			}
			last := len(log) - 1
			if log[last].number == 0 {
				continue
			}
			// Back from the file, a file closes and an update opens.
			depth := 1
			from := max(0, (last/int(size)-1)*int(size))
			for i := last - 1; i >= from && depth > 0; i-- {
				switch e := log[i]; {
				case e.number > 0:
					depth++
				case e.of > 0:
					if depth--; depth == 0 && e.of > 1_000_000 {
						want[number] = e.of - 1_000_000
					}
				}
			}
			if rapid.Bool().Draw(r, "ask") {
				if got, err := asked.announced(t.Context(), number, killfeed.EventID(last+1)); err != nil || got != want[number] {
					r.Fatalf("file %d announces %d (%v), want %d", number, got, err, want[number])
				}
			}
		}
		s.restart()
		for _, u := range []*updates{dialect(), asked} {
			u.feed = s.feed
			for n := uint64(1); n <= number; n++ {
				id := s.feed.Mirrored(n)
				if got, err := u.announced(t.Context(), n, id); err != nil || got != want[n] {
					r.Fatalf("after a restart file %d announces %d (%v), want %d", n, got, err, want[n])
				}
			}
		}
	})
}

// Of a burst of updates each is announced once, by the files that follow.
func TestBurstOfUpdates(t *testing.T) {
	s := newServer(t, killfeed.Options{})
	defer s.close()
	var mails []storetest.Mail
	for range 40 {
		mails = append(mails, s.mail())
	}
	s.insert(0, mails...)
	for i := range 30 {
		s.insert(0, labelled(mails[i], 2))
	}
	var got []uint64
	for n := uint64(41); n <= 75; n++ {
		s.insert(0, s.mail())
		if f := s.file(n); f.SequenceUpdated > 0 {
			got = append(got, f.SequenceUpdated)
			if g := s.file(f.SequenceUpdated); len(g.ZKB.Labels) != 2 {
				t.Errorf("the file of number %d is the old one", f.SequenceUpdated)
			}
		}
	}
	slices.Sort(got)
	want := make([]uint64, 30)
	for i := range want {
		want[i] = uint64(i + 1)
	}
	if !slices.Equal(got, want) {
		t.Errorf("announced were %v, want 1 to 30", got)
	}
}

// How real clients read: each begins at the pointer, and takes what it reads out of each file.
func TestClients(t *testing.T) {
	for _, c := range []struct {
		name    string
		pointer func(body []byte) (uint64, error)
		read    func(body []byte, n uint64) (id int64, err error)
	}{
		{"zkillbot", sequence, func(body []byte, _ uint64) (int64, error) {
			if bytes.HasPrefix(body, []byte("<")) {
				return 0, fmt.Errorf("it is a page")
			}
			var f struct {
				KillmailID int64 `json:"killmail_id"`
				ESI, ZKB   map[string]any
			}
			err := json.Unmarshal(body, &f)
			if f.ESI["victim"] == nil || f.ZKB["hash"] == nil {
				err = fmt.Errorf("it lacks esi or zkb")
			}
			return f.KillmailID, err
		}},
		{"Shrike", sequence, func(body []byte, n uint64) (int64, error) {
			var f file
			err := json.Unmarshal(body, &f)
			if f.SequenceID != n || f.KillmailID <= 0 || f.Hash == "" && f.ZKB.Hash == "" {
				err = fmt.Errorf("it is refused: %+v", f)
			}
			return f.KillmailID, err
		}},
		{"aa-killtracker", sequence, func(body []byte, _ uint64) (int64, error) {
			var f struct {
				ESI struct {
					KillmailID   int64     `json:"killmail_id"`
					KillmailTime time.Time `json:"killmail_time"`
				}
				ZKB struct{ HREF string }
			}
			err := json.Unmarshal(body, &f)
			if f.ESI.KillmailTime.IsZero() {
				err = fmt.Errorf("it has no time")
			}
			return f.ESI.KillmailID, err
		}},
		{"the example that reads sequence_id", func(body []byte) (uint64, error) {
			var p struct {
				N uint64 `json:"sequence_id"`
			}
			err := json.Unmarshal(body, &p)
			return p.N, err
		}, func(body []byte, _ uint64) (int64, error) {
			var f file
			err := json.Unmarshal(body, &f)
			return f.KillmailID, err
		}},
		{"evewho", sequence, func(body []byte, _ uint64) (int64, error) {
			var f struct {
				ESI struct {
					KillmailID int64 `json:"killmail_id"`
					Victim     struct {
						CharacterID int64 `json:"character_id"`
					}
				}
			}
			err := json.Unmarshal(body, &f)
			return f.ESI.KillmailID, err
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := newServer(t, killfeed.Options{})
			defer func() { s.close() }()
			before := s.mail()
			s.insert(0, before)
			n, err := c.pointer(s.get("/ephemeral/sequence.json").Body.Bytes())
			if err != nil || n != 1 {
				t.Fatalf("it begins at %d (%v), want 1", n, err)
			}
			var want, got []int64
			want = append(want, before.ID)
			for i := range 20 {
				m := s.mail()
				want = append(want, m.ID)
				s.insert(0, m)
				if i == 10 {
					s.restart()
				}
				for {
					w := s.get("/ephemeral/"+strconv.FormatUint(n, 10)+".json", "User-Agent", c.name)
					if w.Code == 404 {
						break
					}
					id, err := c.read(w.Body.Bytes(), n)
					if err != nil {
						t.Fatalf("number %d: %v", n, err)
					}
					got = append(got, id)
					n++
				}
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func sequence(body []byte) (uint64, error) {
	var p struct{ Sequence uint64 }
	err := json.Unmarshal(body, &p)
	return p.Sequence, err
}

// Real files, inserted as they were received, come out the same but for what is this server's own.
func TestCaptures(t *testing.T) {
	f, err := os.Open("../../../../shared/data/wire/r2z2_ephemeral_50.jsonl")
	if err != nil {
		t.Skip("there are no captures here")
	}
	defer f.Close()
	s := newServer(t, killfeed.Options{})
	defer s.close()
	n := uint64(0)
	lines := bufio.NewScanner(f)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		k, err := killfeed.ParseItem(lines.Bytes())
		if err != nil {
			t.Fatal(err)
		}
		if _, err := s.feed.InsertAll(t.Context(), []*killfeed.Killmail{k}, 0); err != nil {
			t.Fatal(err)
		}
		n++
		var want, got map[string]json.RawMessage
		if err := json.Unmarshal(lines.Bytes(), &want); err != nil {
			t.Fatal(err)
		}
		s.into("/ephemeral/"+strconv.FormatUint(n, 10)+".json", &got)
		for _, name := range []string{"killmail_id", "hash", "esi", "zkb"} {
			var exact bytes.Buffer
			if err := json.Compact(&exact, want[name]); err != nil {
				t.Fatal(err)
			}
			if exact.String() != string(got[name]) {
				t.Errorf("%s of number %d:\ngot  %s\nwant %s", name, n, got[name], exact.String())
			}
		}
	}
	if n < 50 {
		t.Errorf("%d captures, want 50", n)
	}
}

func FuzzNames(f *testing.F) {
	for _, seed := range []string{"1.json", "9007199254740993.json", "20261123.json", "20260230.json", "-0000101.json"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, name string) {
		if n, ok := parseNumber(name); ok && (n == 0 || n > maxNumber || strconv.FormatUint(n, 10)+".json" != name) {
			t.Errorf("%q is number %d", name, n)
		}
		text, _ := strings.CutSuffix(name, ".json")
		if d, ok := parseDay(text); ok && d.String() != text {
			t.Errorf("%q is the day %v", text, d)
		}
	})
}
